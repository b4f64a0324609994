//! What makes changes durable, and the tree as diff and commit read it: with every size and time in its record.

use std::io::{self, Read};
use std::sync::atomic::Ordering;

use nacre_store::{Content, Extent, FileName, Ino, Inode, Override};

use super::Vfs;
use crate::data::COPY_BYTES;
use crate::errno::{Result, of_store};
use crate::layer::Contents;

/// All overrides of an upper, fit for a [`crate::diff::Snapshot`].
pub struct Settled {
    /// The inodes; of those with a data file, size and times are filled in from it.
    pub inodes: Vec<(Ino, Inode)>,
    /// The entries.
    pub entries: Vec<(Ino, FileName, Override)>,
}

impl Vfs {
    /// Makes every change durable: bytes copied from the image first, then the records. The plain bytes of files that
    /// nobody synced are the host's to write back, as with any filesystem.
    pub fn sync(&self) -> Result<()> {
        self.data.files()?.sync_names()?;
        let copied = self.sync_copied();
        self.sync_records()?;
        copied
    }

    pub(super) fn sync_records(&self) -> Result<()> {
        let upper = self.upper()?;
        self.dirty.store(false, Ordering::Release);
        let done = upper.sync().map_err(|e| of_store(&e));
        if done.is_err() {
            self.dirty.store(true, Ordering::Release);
        }
        done
    }

    /// The same if anything was changed since: `syncfs` never reaches a FUSE server, so a timer calls this. Files with an undo
    /// record always count: what is written to them changes no record.
    pub fn sync_if_dirty(&self) -> Result<()> {
        if !self.is_writable() {
            return Ok(());
        }
        let copied = self.sync_copied();
        if self.dirty.load(Ordering::Acquire) {
            self.sync_records()?;
        }
        copied
    }

    /// `fsync` of a file: its bytes, then all that leads to it.
    pub fn fsync(&self, ino: Ino) -> Result<()> {
        if !self.is_writable() {
            return Ok(());
        }
        if self.inode(ino)?.content.has_data_file() {
            self.sync_file(ino, true)?;
        }
        self.sync_records()
    }

    /// The upper's overrides as they are now. What programs write meanwhile may be in it or not: who wants one moment
    /// stops them first.
    ///
    /// Bytes that a program stored in a shared mapping of a lower file are only in the kernel's page cache until then. `syncfs`
    /// would write them back, but needs a path to the mount, and a process that may hang on it; a kernel that is told to
    /// drop the pages writes the changed ones back first.
    pub fn settled(&self) -> Result<Settled> {
        let upper = self.upper()?;
        for ino in self.held.written_in_cache() {
            self.tell_content(ino);
        }
        let mut inodes = upper.inodes().map_err(|e| of_store(&e))?;
        let entries = upper.entries().map_err(|e| of_store(&e))?;
        for (ino, inode) in &mut inodes {
            if inode.content.has_data_file() {
                let attr = self.attr_of(*ino, inode)?;
                inode.size = attr.size;
                inode.atime = attr.atime;
                inode.mtime = attr.mtime;
                inode.ctime = attr.ctime;
            }
        }
        Ok(Settled { inodes, entries })
    }
}

impl Contents for Vfs {
    fn open(&self, ino: Ino, inode: &Inode) -> io::Result<Box<dyn Read + '_>> {
        let runs = match self.extents(ino, inode)? {
            Some(extents) => extents,
            None => vec![Extent {
                offset: 0,
                len: inode.size,
            }],
        };
        Ok(Box::new(Runs {
            vfs: self,
            ino,
            inode: inode.clone(),
            runs,
            next: 0,
            done: 0,
            buf: Vec::new(),
            at: 0,
        }))
    }

    fn extents(&self, ino: Ino, inode: &Inode) -> io::Result<Option<Vec<Extent>>> {
        if let Content::Sparse { extents, .. } = &inode.content {
            return Ok(Some(extents.to_vec()));
        }
        let runs = self.data.runs(ino, inode)?;
        let extent = |run: std::ops::Range<u64>| Extent {
            offset: run.start,
            len: run
                .end
                .saturating_sub(run.start)
                .min(inode.size.saturating_sub(run.start)),
        };
        Ok(runs.map(|runs| {
            let extents = runs.into_iter().map(extent);
            extents.filter(|extent| extent.len != 0).collect()
        }))
    }
}

/// The bytes of a file's runs, one after another.
struct Runs<'a> {
    vfs: &'a Vfs,
    ino: Ino,
    inode: Inode,
    runs: Vec<Extent>,
    /// The run that is being read, and how much of it was.
    next: usize,
    done: u64,
    buf: Vec<u8>,
    at: usize,
}

impl Runs<'_> {
    /// Reads ahead; `false` at the end. A file that shrank since its record was taken goes on with zeros: its
    /// length is promised already.
    fn fill(&mut self) -> io::Result<bool> {
        while let Some(run) = self.runs.get(self.next) {
            let left = run.len.saturating_sub(self.done);
            if left == 0 {
                self.next = self.next.saturating_add(1);
                self.done = 0;
                continue;
            }
            let len = COPY_BYTES.min(usize::try_from(left).unwrap_or(usize::MAX));
            let offset = run.offset.saturating_add(self.done);
            let buf = &mut self.buf;
            self.vfs
                .data
                .read(self.ino, &self.inode, offset, len, |bytes| {
                    buf.clear();
                    buf.extend_from_slice(bytes);
                })?;
            self.buf.resize(len, 0);
            self.at = 0;
            self.done = self.done.saturating_add(len as u64);
            return Ok(true);
        }
        Ok(false)
    }
}

impl Read for Runs<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.at >= self.buf.len() && !self.fill()? {
            return Ok(0);
        }
        let rest = self.buf.get(self.at..).unwrap_or_default();
        let len = rest.len().min(out.len());
        if let (Some(out), Some(rest)) = (out.get_mut(..len), rest.get(..len)) {
            out.copy_from_slice(rest);
        }
        self.at = self.at.saturating_add(len);
        Ok(len)
    }
}

//! Bytes of files: read from blobs and data files, copied up by the rules' steps. Decides nothing and writes no record.
//!
//! ```text
//! blobs   the store's blobs, held open
//! files   the upper's data files, held open
//! ready   some more, made before they are needed
//! steps   what a plan wants done to a data file before its batch is written
//! seek    where data and holes are
//! ```

mod blobs;
mod files;
mod ready;
mod seek;
mod steps;

use std::fs::File;
use std::io::IoSliceMut;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use nacre_store::{Blob, Content, Ino, Inode, Store, Upper};
use rustix::buffer::spare_capacity;
use rustix::io::ReadWriteFlags;

use self::blobs::Blobs;
pub(crate) use self::files::DataFiles;
pub use self::seek::Whence;
use crate::errno::{Errno, Result, of_host};
use crate::union::content::{Source, pieces};

/// Bytes moved at once by copy-up and by copies between files.
pub(crate) const COPY_BYTES: usize = 1 << 20;

/// Zeros to write where a hole cannot be made.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// The content of one tree's files.
pub(crate) struct Data {
    blobs: Blobs,
    files: Option<DataFiles>,
}

impl Data {
    /// The data of a tree over `store`, with data files if it is writable.
    pub(crate) fn new(store: Store, upper: Option<Upper>) -> Self {
        Self {
            blobs: Blobs::new(store),
            files: upper.map(DataFiles::new),
        }
    }

    /// The upper's data files; a read-only tree has none.
    pub(crate) fn files(&self) -> Result<&DataFiles> {
        self.files.as_ref().ok_or(Errno::ROFS)
    }

    /// The file below a blob that is one, for passthrough.
    pub(crate) fn blob_file(&self, content: &Content) -> Result<Option<Arc<File>>> {
        match content {
            Content::Blob(id) => match self.blobs.get(*id)? {
                Blob::File(file, _) => Ok(Some(file)),
                Blob::Small(_) => Ok(None),
            },
            _ => Ok(None),
        }
    }

    /// All bytes of a file that the database has; `None` of any other.
    pub(crate) fn small(&self, content: &Content) -> Result<Option<Arc<[u8]>>> {
        match content {
            Content::Blob(id) => match self.blobs.get(*id)? {
                Blob::Small(bytes) => Ok(Some(bytes)),
                Blob::File(..) => Ok(None),
            },
            Content::Inline(bytes) => Ok(Some(bytes.as_ref().into())),
            _ => Ok(None),
        }
    }

    /// A file's length now: the data file's own where there is one.
    pub(crate) fn size(&self, ino: Ino, inode: &Inode) -> Result<u64> {
        if inode.content.has_data_file() {
            let file = self.files()?.get(ino)?;
            Ok(file.metadata().map_err(|e| of_host(&e))?.len())
        } else {
            Ok(inode.size)
        }
    }

    /// Reads up to `len` bytes at `offset` and hands them to `take`; fewer only at the file's end.
    pub(crate) fn read<T>(
        &self,
        ino: Ino,
        inode: &Inode,
        offset: u64,
        len: usize,
        take: impl FnOnce(&[u8]) -> T,
    ) -> Result<T> {
        match &inode.content {
            Content::Data => {
                let file = self.files()?.get(ino)?;
                Ok(take(&read_to_end_or(&file, offset, len)?))
            }
            Content::Blob(id) => {
                let len = clamp(offset, len, inode.size);
                match self.blobs.get(*id)? {
                    Blob::Small(bytes) => Ok(take(within(&bytes, offset, len))),
                    Blob::File(file, _) => Ok(take(&read_once(&file, offset, len)?)),
                }
            }
            Content::Inline(bytes) => Ok(take(within(bytes, offset, len))),
            content => {
                let len = clamp(offset, len, self.size(ino, inode)?);
                let mut buf = vec![0; len];
                self.fill(ino, content, offset, &mut buf)?;
                Ok(take(&buf))
            }
        }
    }

    /// Fills `buf`, which is zeroed and within the file, from wherever each piece of it is.
    fn fill(&self, ino: Ino, content: &Content, offset: u64, buf: &mut [u8]) -> Result<()> {
        let end = offset.saturating_add(buf.len() as u64);
        for (range, source) in pieces(content, offset..end) {
            let part = part(
                buf,
                range.start.saturating_sub(offset),
                range.end.saturating_sub(offset),
            );
            match source {
                Source::Zeros => {}
                Source::Data => {
                    // Short where another thread truncates meanwhile: the rest is zeros.
                    read_full(&*self.files()?.get(ino)?, range.start, part)?;
                }
                Source::Base => self.fill_base(base_of(content), range.start, part)?,
            }
        }
        Ok(())
    }

    /// Fills `buf`, which is zeroed, from a blob's content; what lies between the runs of a sparse one stays zero.
    fn fill_base(&self, content: &Content, offset: u64, buf: &mut [u8]) -> Result<()> {
        match content {
            Content::Blob(id) => self.fill_blob(&self.blobs.get(*id)?, offset, buf),
            Content::Sparse { blob, extents } => {
                let blob = self.blobs.get(*blob)?;
                let end = offset.saturating_add(buf.len() as u64);
                let mut stored = 0_u64;
                for run in extents {
                    let run_end = run.offset.saturating_add(run.len);
                    let (from, to) = (run.offset.max(offset), run_end.min(end));
                    if from < to {
                        let part =
                            part(buf, from.saturating_sub(offset), to.saturating_sub(offset));
                        let within = from.saturating_sub(run.offset);
                        self.fill_blob(&blob, stored.saturating_add(within), part)?;
                    }
                    if run.offset >= end {
                        break;
                    }
                    stored = stored.saturating_add(run.len);
                }
                Ok(())
            }
            Content::Inline(bytes) => {
                let bytes = within(bytes, offset, buf.len());
                part(buf, 0, bytes.len() as u64).copy_from_slice(bytes);
                Ok(())
            }
            Content::None
            | Content::Symlink(_)
            | Content::Dir { .. }
            | Content::Data
            | Content::Chunked { .. } => Ok(()),
        }
    }

    /// A blob that is shorter than its record says is damage.
    fn fill_blob(&self, blob: &Blob, offset: u64, buf: &mut [u8]) -> Result<()> {
        let whole = match blob {
            Blob::Small(bytes) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX);
                match start
                    .checked_add(buf.len())
                    .and_then(|end| bytes.get(start..end))
                {
                    Some(bytes) => {
                        buf.copy_from_slice(bytes);
                        true
                    }
                    None => false,
                }
            }
            Blob::File(file, _) => read_full(file, offset, buf)? == buf.len(),
        };
        if whole {
            Ok(())
        } else {
            tracing::error!(offset, "store damaged: blob shorter than its file");
            Err(Errno::IO)
        }
    }
}

/// What a content's `Base` pieces come from.
fn base_of(content: &Content) -> &Content {
    match content {
        Content::Chunked { base, .. } => base,
        other => other,
    }
}

/// How much of `len` bytes at `offset` lies within `size`.
fn clamp(offset: u64, len: usize, size: u64) -> usize {
    let left = size.saturating_sub(offset);
    len.min(usize::try_from(left).unwrap_or(usize::MAX))
}

/// Up to `len` bytes at `offset`.
fn within(bytes: &[u8], offset: u64, len: usize) -> &[u8] {
    let start = usize::try_from(offset).unwrap_or(usize::MAX);
    let rest = bytes.get(start.min(bytes.len())..).unwrap_or_default();
    rest.get(..len).unwrap_or(rest)
}

/// The part of `buf` between two offsets; empty if they are not within it, which `pieces` excludes.
fn part(buf: &mut [u8], start: u64, end: u64) -> &mut [u8] {
    let start = usize::try_from(start).unwrap_or(usize::MAX);
    let end = usize::try_from(end).unwrap_or(usize::MAX);
    buf.get_mut(start..end).unwrap_or_default()
}

/// Reads until `len` bytes or the file's end, without zeroing memory first.
fn read_to_end_or(file: &File, offset: u64, len: usize) -> Result<Vec<u8>> {
    let mut buf = Vec::with_capacity(len);
    while buf.len() < len {
        let at = offset.saturating_add(buf.len() as u64);
        match rustix::io::pread(file, spare_capacity(&mut buf), at) {
            Ok(0) => break,
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    buf.truncate(len);
    Ok(buf)
}

/// The same of a blob: the kernel of the mount keeps what it is told, and the host need not keep it too. (Another mount that
/// can be written, of the same image, reads it from the disk again.)
fn read_once(file: &File, offset: u64, len: usize) -> Result<Vec<u8>> {
    let mut buf = vec![0; len];
    let mut done = 0;
    while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
        let at = offset.saturating_add(done as u64);
        match rustix::io::preadv2(file, &mut [IoSliceMut::new(rest)], at, DONT_CACHE) {
            Ok(0) => break,
            Ok(read) => done = done.saturating_add(read),
            Err(Errno::INTR) => {}
            // Before Linux 6.14, or a filesystem that has not learnt it.
            Err(Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS) => {
                return read_to_end_or(file, offset, len);
            }
            Err(errno) => return Err(errno),
        }
    }
    buf.truncate(done);
    Ok(buf)
}

/// `RWF_DONTCACHE`: what a read brings into the page cache goes with it.
const DONT_CACHE: ReadWriteFlags = ReadWriteFlags::from_bits_retain(0x80);

/// Reads into `buf` until it is full or the file ends; returns how much.
fn read_full(file: &File, offset: u64, buf: &mut [u8]) -> Result<usize> {
    let mut done = 0;
    while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match rustix::io::pread(file, rest, offset.saturating_add(done as u64)) {
            Ok(0) => break,
            Ok(read) => done = done.saturating_add(read),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(done)
}

/// Writes all of `bytes`, or as much as there is room for; an error only if nothing was written.
pub(crate) fn write_some(file: &File, offset: u64, bytes: &[u8]) -> Result<usize> {
    let mut done = 0;
    while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
        match rustix::io::pwrite(file, rest, offset.saturating_add(done as u64)) {
            Ok(0) => break,
            Ok(written) => done = done.saturating_add(written),
            Err(Errno::INTR) => {}
            Err(errno) if done == 0 => return Err(errno),
            Err(_) => break,
        }
    }
    Ok(done)
}

/// Overwrites a range with zeros.
fn write_zeros(file: &File, mut offset: u64, end: u64) -> Result<()> {
    while offset < end {
        let zeros = ZEROS
            .get(..clamp(offset, ZEROS.len(), end))
            .unwrap_or_default();
        file.write_all_at(zeros, offset).map_err(|e| of_host(&e))?;
        offset = offset.saturating_add(zeros.len() as u64);
    }
    Ok(())
}

/// `st_blocks` (512 bytes each) of what a chunked file still has in its base: about, since a blob's own blocks are not counted.
pub(crate) fn base_blocks(content: &Content) -> u64 {
    let Content::Chunked { base_len, .. } = content else {
        return 0;
    };
    let pieces = pieces(content, 0..*base_len).into_iter();
    let from_base = pieces.filter(|(_, source)| *source == Source::Base);
    let bytes: u64 = from_base
        .map(|(range, _)| range.end.saturating_sub(range.start))
        .sum();
    bytes.div_ceil(512)
}

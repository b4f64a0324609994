//! Files: opened, read, written, stretched, copied.

use std::fs::File;
use std::ops::Range;
use std::sync::Arc;

use nacre_store::{Content, Ino, Inode, Kind, Upper, UpperOp};

use super::held::Way;
use super::{Caller, Passthrough, Rule, Vfs, With};
use crate::data::{COPY_BYTES, Whence, write_some};
use crate::errno::{Errno, Result};
use crate::union::content::{self, DataStep};
use crate::union::setattr::Kill;
use crate::union::{Context, Layers, fallocate, write};

/// What a file is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reading.
    Read,
    /// Writing, or both.
    Write,
    /// Writing, and what is there goes.
    Truncate,
}

/// How an opened file is served.
#[derive(Debug, Clone)]
pub enum Mode {
    /// Through the mount's page cache; what it holds of the file from before is right.
    Cached,
    /// Through the mount's page cache, which must drop what it holds of the file.
    Refreshed,
    /// By the kernel alone, on this file.
    Backed(Arc<File>),
}

/// Files of up to this many bytes are given to the kernel when they are opened: those that the store keeps in its database.
const GIVEN_BYTES_MAX: u64 = 64 << 10;

/// A capability that a write takes away, and the bits that it takes.
const CAPABILITY: &[u8] = b"security.capability";
const SETID: u16 = 0o6000;

impl Vfs {
    /// Allows passthrough, once the kernel has agreed to it on this connection; or takes it back.
    pub fn set_passthrough(&self, passthrough: Passthrough) {
        self.held.set_passthrough(passthrough);
    }

    /// Does what opening asks for before the file is counted as open: truncates it.
    pub fn prepare_open(
        &self,
        caller: &Caller,
        ino: Ino,
        access: Access,
        kill: Kill,
    ) -> Result<()> {
        let inode = self.inode(ino)?;
        if inode.kind != Kind::File {
            return Err(Errno::INVAL);
        }
        match access {
            Access::Read => {
                // From the disk now: `give` has locks that others wait for, and what fails is told to who reads.
                if self.is_to_be_given(ino, &inode) {
                    self.data.small(&inode.content).ok();
                }
                return Ok(());
            }
            // The times of a file that is only opened must not move, so nothing is made here.
            Access::Write => return self.upper().map(drop),
            Access::Truncate => self.truncate(caller, ino, kill)?,
        }
        // An emptied file gets its data file now, so that passthrough can have it. On a full disk it does without.
        let inode = self.inode(ino)?;
        if inode.content == Content::None
            && inode.size == 0
            && self.held.has_passthrough()
            && !self.held.is_open(ino)
            && self.room.to_grow().is_ok()
        {
            let _writing = self.writing(ino);
            self.with_steps(
                caller,
                ino,
                &|layers, ctx| write::whole(layers, ctx, ino),
                || Ok(()),
            )?;
        }
        Ok(())
    }

    /// Counts an open file and says how it is served. All open files of an inode are served alike, so the first decides.
    pub fn open(&self, ino: Ino, access: Access) -> Result<Mode> {
        // One opening at a time: see `give`.
        let _writing = self.writing(ino);
        let inode = self.inode(ino)?;
        let backing = if self.may_back(ino, &inode, access) {
            self.backing(ino, &inode)?
        } else {
            None
        };
        let first = if backing.is_some() {
            Way::Backed
        } else {
            Way::Cached
        };
        let mode = match (self.held.opened(ino, first, access), backing) {
            (Way::Backed, Some(file)) => Ok(Mode::Backed(file)),
            (Way::Backed, None) => match self.backing(ino, &inode) {
                Ok(Some(file)) => Ok(Mode::Backed(file)),
                Ok(None) => Err(Errno::IO),
                Err(errno) => Err(errno),
            },
            // The page cache knows nothing of what passthrough wrote before.
            (Way::Cached, _) if self.held.has_passthrough() && inode.content == Content::Data => {
                Ok(Mode::Refreshed)
            }
            (Way::Cached, _) => {
                if access == Access::Read {
                    self.give(ino, &inode);
                }
                Ok(Mode::Cached)
            }
        };
        if mode.is_err() {
            self.held.released(ino);
        }
        mode
    }

    /// Gives the kernel a small file's bytes with the answer to its opening: who opens a file reads it, and a request is
    /// saved. (And another one at the next `stat`: in a tree that can be written the kernel holds the time of access for
    /// unknown after each read that it asked for.)
    ///
    /// Only if nobody else has the file open, and while nobody else can open it (the caller holds `writing`): no page of it
    /// can be changed, or waited for, meanwhile.
    fn give(&self, ino: Ino, inode: &Inode) {
        // What cannot be read now is told to who reads it.
        if self.is_to_be_given(ino, inode)
            && self.held.may_give(ino)
            && let Ok(Some(bytes)) = self.data.small(&inode.content)
            && bytes.len() as u64 == inode.size
            && let Some(kernel) = self.kernel.read().as_ref()
        {
            kernel.content_is(ino, &bytes);
        }
    }

    fn is_to_be_given(&self, ino: Ino, inode: &Inode) -> bool {
        matches!(inode.content, Content::Blob(_) | Content::Inline(_))
            && (1..=GIVEN_BYTES_MAX).contains(&inode.size)
            && !self.held.is_given(ino)
    }

    /// Passthrough is for files that live in the upper alone, and, where nothing can be written, for blobs that are files.
    /// Never for a lower file of a writable tree: a lower blob must not be open for writing anywhere, and a node cannot
    /// change its backing while it is open. Never for a file with privileges that a write must take away, nor for one that a
    /// loss of power takes back to what it was: what the kernel syncs by itself (O_SYNC, msync) nobody would know of.
    fn may_back(&self, ino: Ino, inode: &Inode, access: Access) -> bool {
        if !self.held.has_passthrough() {
            return false;
        }
        if self.upper.is_none() {
            return matches!(inode.content, Content::Blob(_)) && access == Access::Read;
        }
        inode.content == Content::Data
            && !self.undos.has(ino)
            && inode.mode & SETID == 0
            && !inode.xattrs.contains_key(CAPABILITY)
            && (access == Access::Read || self.room.has_plenty())
    }

    /// The host's file that is all of a file's content; small blobs are in none.
    fn backing(&self, ino: Ino, inode: &Inode) -> Result<Option<Arc<File>>> {
        if inode.content == Content::Data {
            return self.data.files()?.get(ino).map(Some);
        }
        self.data.blob_file(&inode.content)
    }

    /// The kernel would not back this open file: it is cached like the others from now on.
    pub fn open_unbacked(&self, ino: Ino) -> Mode {
        self.held.not_backed(ino);
        Mode::Refreshed
    }

    /// An open file is closed for good; returns whether it was the inode's last.
    pub fn release(&self, ino: Ino) -> bool {
        let (last, reclaim) = self.held.released(ino);
        if last && let Ok(files) = self.data.files() {
            files.closed(ino);
        }
        if reclaim {
            self.end_if_unheld(&[ino]);
        }
        last
    }

    /// Reads, and hands the bytes to `take`; fewer than asked for only at the file's end.
    pub fn read<T>(
        &self,
        ino: Ino,
        offset: u64,
        len: usize,
        take: impl FnOnce(&[u8]) -> T,
    ) -> Result<T> {
        let inode = self.inode(ino)?;
        match inode.kind {
            Kind::File => self.data.read(ino, &inode, offset, len, take),
            Kind::Dir => Err(Errno::ISDIR),
            _ => Err(Errno::INVAL),
        }
    }

    /// Writes; returns how much, less than asked for only if there was no room.
    pub fn write(
        &self,
        caller: &Caller,
        ino: Ino,
        offset: u64,
        bytes: &[u8],
        kill: Kill,
    ) -> Result<usize> {
        let range = range(offset, bytes.len() as u64)?;
        self.upper()?;
        self.room.to_grow()?;
        let rule =
            |layers: &dyn Layers, ctx: &Context| write::plan(layers, ctx, ino, range.clone(), kill);
        let put = || write_some(&*self.data.files()?.get(ino)?, offset, bytes);
        let plan = self.foresee(caller, rule)?;
        if plan.ops.is_empty() && plan.answer.is_empty() {
            return put();
        }
        let _writing = self.writing(ino);
        let before = self.inode(ino)?;
        let done = if self.write_to_record(caller, ino, &before, (offset, bytes), kill)? {
            bytes.len()
        } else {
            self.with_steps(caller, ino, &rule, || match put()? {
                // The batch says that all of it is there.
                short if short < bytes.len() => Err(Errno::NOSPC),
                whole => Ok(whole),
            })?
        };
        self.tell_if_killed(ino, &before)?;
        Ok(done)
    }

    /// Writes into a small file's record, once for each time that the file is open: who writes more often gets a data file,
    /// which takes every further write without a record. Returns whether it did. The caller holds `writing`.
    fn write_to_record(
        &self,
        caller: &Caller,
        ino: Ino,
        before: &Inode,
        (offset, bytes): (u64, &[u8]),
        kill: Kill,
    ) -> Result<bool> {
        let range = range(offset, bytes.len() as u64)?;
        if !content::fits_record(&before.content, before.size, &range)
            || !self.held.may_write_to_record(ino)
        {
            return Ok(false);
        }
        let Some(was) = self.data.small(&before.content)? else {
            return Ok(false);
        };
        let mut now = was.to_vec();
        let at = |offset: u64| usize::try_from(offset).map_err(|_| Errno::FBIG);
        let (start, end) = (at(range.start)?, at(range.end)?);
        now.resize(now.len().max(end), 0);
        if let Some(part) = now.get_mut(start..end) {
            part.copy_from_slice(bytes);
        }
        self.change(caller, |layers, ctx| {
            write::inline(layers, ctx, ino, &now, kill)
        })?;
        Ok(true)
    }

    /// A write took privileges: the kernel has them in its cache, and looks there when it executes the file.
    fn tell_if_killed(&self, ino: Ino, before: &Inode) -> Result<()> {
        let after = self.inode(ino)?;
        if after.mode != before.mode || after.xattrs.len() != before.xattrs.len() {
            self.tell_attributes(ino);
        }
        Ok(())
    }

    /// Steps, bytes, batch: the order that leaves the record right whatever fails on the way. The caller holds `writing`.
    fn with_steps<T>(
        &self,
        caller: &Caller,
        ino: Ino,
        rule: &Rule<'_, Vec<DataStep>>,
        bytes: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let plan = self.foresee(caller, rule)?;
        let before = self.inode(ino)?;
        self.data.run(ino, Some(&*before), &plan.answer)?;
        let finish = || {
            let done = bytes()?;
            if !plan.ops.is_empty() {
                let claims = self.claims(ino, &before, &plan.ops)?;
                let with = With {
                    claims,
                    ..With::NOTHING
                };
                self.change_with(with, caller, rule)?;
            }
            Ok(done)
        };
        finish().inspect_err(|_| self.remove_unnamed(ino, &plan.answer))
    }

    /// Removes a data file that was made for a batch that was not written.
    pub(super) fn remove_unnamed(&self, ino: Ino, steps: &[DataStep]) {
        let is_unnamed = |upper: &Upper| {
            let record = upper.inode(ino)?;
            Ok::<_, nacre_store::Error>(!record.is_some_and(|now| now.content.has_data_file()))
        };
        if steps.contains(&DataStep::Create)
            && let (Ok(upper), Ok(files)) = (self.upper(), self.data.files())
            && is_unnamed(upper).unwrap_or(false)
        {
            files.remove(ino);
        }
    }

    /// Returns the inode if its data file now stands for bytes that the store stood for `before`, and if an undo record can be kept
    /// of it; else they are on disk now. A loss of power may take what programs wrote and did not sync, never what was
    /// there before: bytes that are overwritten included.
    pub(super) fn claims(&self, ino: Ino, before: &Inode, ops: &[UpperOp]) -> Result<Option<Ino>> {
        let after = ops.iter().find_map(|op| match op {
            UpperOp::SetInode(set, inode) if *set == ino => Some(inode),
            _ => None,
        });
        match after {
            Some(after) if content::leaves_store(&before.content, &after.content) => {}
            Some(_) | None => return Ok(None),
        }
        if self.can_undo(ino)? {
            return Ok(Some(ino));
        }
        self.data.files()?.sync_with_name(ino)?;
        Ok(None)
    }

    /// Reserves room, makes holes.
    pub fn fallocate(
        &self,
        caller: &Caller,
        ino: Ino,
        how: fallocate::How,
        (offset, len): (u64, u64),
        kill: Kill,
    ) -> Result<()> {
        if len == 0 {
            return Err(Errno::INVAL);
        }
        let range = range(offset, len)?;
        self.upper()?;
        if how != fallocate::How::Punch {
            // What the file has there is not taken again.
            let has = self.data.stored(ino, &*self.inode(ino)?, &range)?;
            self.room.to_take(len.saturating_sub(has))?;
        }
        let _writing = self.writing(ino);
        let before = self.inode(ino)?;
        let size = self.data.size(ino, &before)?;
        let rule = |layers: &dyn Layers, ctx: &Context| {
            fallocate::plan(layers, ctx, ino, how, range.clone(), size, kill)
        };
        self.with_steps(caller, ino, &rule, || Ok(()))?;
        self.tell_if_killed(ino, &before)
    }

    /// Finds the next data or hole.
    pub fn seek(&self, ino: Ino, offset: u64, whence: Whence) -> Result<u64> {
        self.data.seek(ino, &*self.inode(ino)?, offset, whence)
    }

    /// Copies between files; returns how much, less than asked for at the source's end and after [`COPY_MAX`].
    pub fn copy(
        &self,
        caller: &Caller,
        (from, from_offset): (Ino, u64),
        (to, to_offset): (Ino, u64),
        len: u64,
        kill: Kill,
    ) -> Result<usize> {
        let len = usize::try_from(len).unwrap_or(usize::MAX).min(COPY_MAX);
        range(to_offset, len as u64)?;
        if let Some(copied) = self.copy_by_host((from, from_offset), (to, to_offset), len)? {
            return Ok(copied);
        }
        let mut done = 0_usize;
        while done < len {
            let piece = COPY_BYTES.min(len.saturating_sub(done));
            let at = from_offset.saturating_add(done as u64);
            let bytes = self.read(from, at, piece, <[u8]>::to_vec)?;
            if bytes.is_empty() {
                break;
            }
            let at = to_offset.saturating_add(done as u64);
            match self.write(caller, to, at, &bytes, kill) {
                Ok(written) => done = done.saturating_add(written),
                Err(errno) if done == 0 => return Err(errno),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    /// From a file of the host's (a blob, or what lives in the upper alone) to one that lives in the upper alone the host copies,
    /// by reflink where it can.
    fn copy_by_host(
        &self,
        (from, mut from_offset): (Ino, u64),
        (to, mut to_offset): (Ino, u64),
        len: usize,
    ) -> Result<Option<usize>> {
        let (source, target) = (self.inode(from)?, self.inode(to)?);
        let privileged = target.mode & SETID != 0 || target.xattrs.contains_key(CAPABILITY);
        if target.content != Content::Data || privileged {
            return Ok(None);
        }
        let files = self.data.files()?;
        let stored = match &source.content {
            Content::Data => Some(files.get(from)?),
            stored => self.data.blob_file(stored)?,
        };
        let Some(stored) = stored else {
            return Ok(None);
        };
        self.room.to_grow()?;
        let target = files.get(to)?;
        match rustix::fs::copy_file_range(
            &*stored,
            Some(&mut from_offset),
            &*target,
            Some(&mut to_offset),
            len,
        ) {
            // A blob that is shorter than its record: the copy by hand says so.
            Ok(0) if source.content != Content::Data => Ok(None),
            Ok(copied) => Ok(Some(copied)),
            // Overlapping ranges and the like are told the same way; the copy by hand decides.
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::XDEV) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// The file was opened to be executed.
    pub fn executes(&self, ino: Ino) {
        self.held.executes(ino);
    }

    /// Whether somebody executes it, or did until just now.
    pub fn is_executed(&self, ino: Ino) -> bool {
        self.held.is_executed(ino)
    }

    /// One of those who execute it has closed it.
    pub fn executed(&self, ino: Ino) {
        self.held.executed(ino);
    }

    /// Whether anybody has the file open.
    pub fn is_open(&self, ino: Ino) -> bool {
        self.held.is_open(ino)
    }

    /// Whether the file's bytes are in a data file, so that its size and times are too.
    pub fn has_data_file(&self, ino: Ino) -> Result<bool> {
        Ok(self.inode(ino)?.content.has_data_file())
    }
}

/// What one copy request may move: the server's thread is busy that long.
pub const COPY_MAX: usize = 64 << 20;

/// The largest file offset there is (`loff_t`).
const OFFSET_MAX: u64 = i64::MAX.unsigned_abs();

/// Checks a range that a program asked for.
fn range(offset: u64, len: u64) -> Result<Range<u64>> {
    match offset.checked_add(len) {
        Some(end) if end <= OFFSET_MAX => Ok(offset..end),
        Some(_) | None => Err(Errno::FBIG),
    }
}

//! Where a file has data and where holes: `lseek(SEEK_DATA, SEEK_HOLE)` over every kind of content.

use std::ops::Range;

use nacre_store::{Content, Ino, Inode};
use rustix::fs::SeekFrom;

use super::Data;
use crate::errno::{Errno, Result};
use crate::union::content::{Source, pieces};

/// What is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whence {
    /// The next stored byte.
    Data,
    /// The next hole; the end of the file counts as one.
    Hole,
}

impl Data {
    /// Finds the next data or hole at or behind `offset`; `NXIO` when there is none.
    pub(crate) fn seek(&self, ino: Ino, inode: &Inode, offset: u64, whence: Whence) -> Result<u64> {
        let size = self.size(ino, inode)?;
        if offset >= size {
            return Err(Errno::NXIO);
        }
        if inode.content == Content::Data {
            let file = self.files()?.get(ino)?;
            return rustix::fs::seek(&*file, host(whence, offset));
        }
        for (range, source) in pieces(&inode.content, offset..size) {
            if let Some(found) = self.seek_piece(ino, &range, source, whence)? {
                return Ok(found);
            }
        }
        match whence {
            Whence::Data => Err(Errno::NXIO),
            Whence::Hole => Ok(size),
        }
    }

    fn seek_piece(
        &self,
        ino: Ino,
        range: &Range<u64>,
        source: Source,
        whence: Whence,
    ) -> Result<Option<u64>> {
        match (source, whence) {
            (Source::Zeros, Whence::Data) => Ok(None),
            (Source::Zeros, Whence::Hole) => Ok(Some(range.start)),
            (Source::Base, Whence::Data) => Ok(Some(range.start)),
            (Source::Base, Whence::Hole) => Ok(None),
            (Source::Data, _) => {
                let file = self.files()?.get(ino)?;
                match rustix::fs::seek(&*file, host(whence, range.start)) {
                    Ok(found) => Ok(Some(found).filter(|found| *found < range.end)),
                    Err(Errno::NXIO) => Ok(None),
                    Err(errno) => Err(errno),
                }
            }
        }
    }

    /// Bytes of `range` that the data file has, about: those of more than [`RUNS_COUNTED_MAX`] runs are not counted, nor what was
    /// only reserved.
    pub(crate) fn stored(&self, ino: Ino, inode: &Inode, range: &Range<u64>) -> Result<u64> {
        if !inode.content.has_data_file() {
            return Ok(0);
        }
        let end = range.end.min(self.size(ino, inode)?);
        let file = self.files()?.get(ino)?;
        let (mut at, mut stored) = (range.start, 0_u64);
        for _ in 0..RUNS_COUNTED_MAX {
            let start = match rustix::fs::seek(&*file, SeekFrom::Data(at)) {
                Ok(start) if start < end => start,
                Ok(_) | Err(Errno::NXIO) => break,
                Err(errno) => return Err(errno),
            };
            at = rustix::fs::seek(&*file, SeekFrom::Hole(start))?.min(end);
            stored = stored.saturating_add(at.saturating_sub(start));
        }
        Ok(stored)
    }

    /// The runs of a file that is worth storing as sparse; `None` when it is not.
    pub(crate) fn runs(&self, ino: Ino, inode: &Inode) -> Result<Option<Vec<Range<u64>>>> {
        let size = self.size(ino, inode)?;
        let mut runs = Vec::new();
        let mut stored = 0_u64;
        let mut at = 0;
        while at < size && runs.len() < RUNS_MAX {
            let start = match self.seek(ino, inode, at, Whence::Data) {
                Ok(start) => start,
                Err(Errno::NXIO) => break,
                Err(errno) => return Err(errno),
            };
            let end = self.seek(ino, inode, start, Whence::Hole)?.min(size);
            if end <= start {
                break;
            }
            stored = stored.saturating_add(end.saturating_sub(start));
            runs.push(start..end);
            at = end;
        }
        let holes = size.saturating_sub(stored);
        Ok((holes >= HOLES_MIN && runs.len() < RUNS_MAX).then_some(runs))
    }
}

/// Holes that are worth a sparse entry, which not every reader of tar understands.
const HOLES_MIN: u64 = 1 << 20;

/// Runs that are looked at before a reservation: two system calls each.
const RUNS_COUNTED_MAX: usize = 1 << 10;

/// Runs of a sparse entry; a file of more is stored whole.
const RUNS_MAX: usize = 1 << 16;

fn host(whence: Whence, offset: u64) -> SeekFrom {
    match whence {
        Whence::Data => SeekFrom::Data(offset),
        Whence::Hole => SeekFrom::Hole(offset),
    }
}

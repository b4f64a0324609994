//! Contents coming in: each is hashed and becomes a blob, small ones in batches, large ones by way of a file, so that
//! memory is bounded whatever the sizes. Never decides who holds them.

use std::fs::File;
use std::io::Write;
use std::num::NonZeroU64;
use std::sync::Arc;

use rustix::fs::Advice;
use sha2::{Digest as _, Sha256};

use crate::blobs::{Blobs, PinSet, SMALL_BYTES_MAX};
use crate::db::Durability;
use crate::failpoint::{self, Point};
use crate::numbers::RecordNo;
use crate::{BlobId, Digest, Error, Result};

/// Small contents written in one batch.
const BATCH_BYTES: usize = 1 << 20;

/// From how many bytes on small contents bypass the WAL: they are then written once, and one flush at the end makes
/// them durable; below, the flush would cost more than writing twice.
const LOGGED_BYTES_MAX: usize = 4 << 20;

/// Of a large content so much is handed to the disk while the rest comes, so that the sync at the end finds little to do.
const WRITE_OUT_BYTES: u64 = 4 << 20;

/// Turns contents into blobs, pinned.
pub(crate) struct Intake {
    blobs: Arc<Blobs>,
    pack: RecordNo,
    /// Next index in the pack.
    index: u32,
    /// Small contents that are not written yet, one after another; always room for one more.
    arena: Vec<u8>,
    filled: usize,
    pending: Vec<(u32, BlobId, usize, usize)>,
    written: usize,
    pins: PinSet,
}

impl Intake {
    /// Small contents go to `pack`.
    pub(crate) fn new(blobs: &Arc<Blobs>, pack: RecordNo) -> Intake {
        Intake::with_arena(blobs, pack, BATCH_BYTES + SMALL_BYTES_MAX + 1)
    }

    fn with_arena(blobs: &Arc<Blobs>, pack: RecordNo, bytes: usize) -> Intake {
        Intake {
            blobs: Arc::clone(blobs),
            pack,
            index: 0,
            arena: vec![0; bytes],
            filled: 0,
            pending: Vec::new(),
            written: 0,
            pins: PinSet::new(blobs),
        }
    }

    /// For a single content of about `size` bytes.
    pub(crate) fn for_one(blobs: &Arc<Blobs>, pack: RecordNo, size: u64) -> Intake {
        let small = usize::try_from(size).unwrap_or(usize::MAX) <= SMALL_BYTES_MAX;
        Intake::with_arena(
            blobs,
            pack,
            if small {
                SMALL_BYTES_MAX + 1
            } else {
                BATCH_BYTES
            },
        )
    }

    /// The blob of no bytes.
    pub(crate) fn take_empty(&mut self) -> Result<(BlobId, u64)> {
        let id = BlobId(Digest::of(b""));
        self.pending
            .push((self.index, id, self.filled, self.filled));
        self.write()?;
        Ok((id, 0))
    }

    /// Reads a content to its end; returns its digest and length, or `None` of an empty one.
    pub(crate) fn take(
        &mut self,
        mut read: impl FnMut(&mut [u8]) -> Result<usize>,
    ) -> Result<Option<(BlobId, u64)>> {
        let start = self.filled;
        let mut end = start;
        let limit = start + SMALL_BYTES_MAX + 1;
        loop {
            let got = read(self.arena.get_mut(end..limit).unwrap_or_default())?;
            end += got;
            if got == 0 || end == limit {
                break;
            }
        }
        if end == start {
            return Ok(None);
        }
        if end == limit {
            return self.take_large(start, end, read).map(Some);
        }
        let id = BlobId(Digest::of(self.arena.get(start..end).unwrap_or_default()));
        if !self.pins.again(&id) {
            self.pending.push((self.index, id, start, end));
            self.index = self
                .index
                .checked_add(1)
                .ok_or_else(|| Error::corrupt("pack", "full"))?;
            self.filled = end;
            if self.filled >= BATCH_BYTES {
                self.write()?;
            }
        }
        Ok(Some((id, (end - start) as u64)))
    }

    fn take_large(
        &mut self,
        start: usize,
        end: usize,
        mut read: impl FnMut(&mut [u8]) -> Result<usize>,
    ) -> Result<(BlobId, u64)> {
        let mut file = self.blobs.spool()?;
        let path = file.path().to_owned();
        let mut hash = Sha256::new();
        let (mut size, mut handed_over) = (0u64, 0u64);
        let mut have = end - start;
        while have > 0 {
            self.blobs.to_grow()?;
            let part = self.arena.get(start..start + have).unwrap_or_default();
            hash.update(part);
            file.write_all(part)
                .map_err(Error::io("cannot write", &path))?;
            size += have as u64;
            if size >= WRITE_OUT_BYTES + handed_over {
                hand_over(file.as_file(), handed_over, size);
                handed_over = size;
            }
            have = read(self.arena.get_mut(start..).unwrap_or_default())?;
        }
        hand_over(file.as_file(), handed_over, size);
        let id = BlobId(Digest::finish(hash));
        self.blobs.adopt(id, file, size, &mut self.pins)?;
        Ok((id, size))
    }

    /// Writes what is pending.
    fn write(&mut self) -> Result<()> {
        self.blobs.to_grow()?;
        let contents: Vec<_> = self
            .pending
            .iter()
            .map(|(index, id, start, end)| {
                (
                    *index,
                    *id,
                    self.arena.get(*start..*end).unwrap_or_default(),
                )
            })
            .collect();
        let logged = self.written + self.filled <= LOGGED_BYTES_MAX;
        let durability = if logged {
            Durability::Logged
        } else {
            Durability::Unlogged
        };
        self.blobs
            .write_small(self.pack, &contents, &mut self.pins, durability)?;
        self.written += self.filled;
        self.filled = 0;
        self.pending.clear();
        Ok(())
    }

    /// Writes what is left, makes all contents durable and returns the pins.
    pub(crate) fn finish(mut self) -> Result<PinSet> {
        self.write()?;
        self.blobs.sync(&self.pins)?;
        Ok(self.pins)
    }
}

/// Has the host begin to write a part of a file, and does not wait for it. Of pages that are dirty the advice does no more than
/// that (posix_fadvise(2) of Linux; what it drops are those that are on disk). A host that does not take it writes later.
fn hand_over(file: &File, from: u64, to: u64) {
    let len = NonZeroU64::new(to.saturating_sub(from));
    // Where the sync is left out, to show what it is for, so is what would often do for it.
    if len.is_some() && failpoint::is_synced(Point::SyncBlobFiles) {
        rustix::fs::fadvise(file, from, len, Advice::DontNeed).unwrap_or_default();
    }
}

//! The check of blobs: their contents, their counts, their files.

use std::collections::HashSet;
use std::fs::File;

use super::Check;
use super::catalog::digest;
use crate::blobs::{Place, decode_place, small_key};
use crate::db::Family;
use crate::numbers::RecordNo;
use crate::{BlobId, Digest, Error, Result};

/// How often a count that differs is looked at again: an upper may be in use, and change blob and count together.
const TRIES: usize = 3;

impl Check<'_> {
    /// Every blob: its content has its digest, its count is the number of its holders.
    pub(super) fn blobs(&mut self) -> Result<()> {
        let small = self.small_contents()?;
        let uppers = self.uppers_hold(None)?;
        let mut there = HashSet::new();
        let mut places = Vec::new();
        let inner = self.inner;
        let mut scan = inner.db.scan(Family::Blobs, b"")?;
        while let Some((key, value)) = scan.next()? {
            let Some(id) = key
                .get(..32)
                .and_then(|k| k.try_into().ok())
                .map(|k| BlobId(Digest::from_bytes(k)))
            else {
                self.fault(format!("blob key {}", key.escape_ascii()), "does not parse");
                continue;
            };
            if key.len() != 32 {
                if !there.contains(&id) {
                    self.fault(format!("blob {id}"), "has a count but no content");
                }
                continue;
            }
            there.insert(id);
            match decode_place(value) {
                None => self.fault(format!("blob {id}"), "does not parse"),
                Some((place, size)) => places.push((id, place, size)),
            }
        }
        drop(scan);
        self.checked("blobs", places.len());
        for (id, place, size) in places {
            match place {
                Place::Small { pack, index } if small.get(&(pack, index)) == Some(&(id, size)) => {}
                Place::Small { .. } => self.fault(
                    format!("blob {id}"),
                    "its content is not there or has another digest",
                ),
                Place::File => self.file(&id, size),
            }
            self.count(&id, uppers.get(&id).copied().unwrap_or_default())?;
        }
        let missing: Vec<BlobId> = self
            .held
            .keys()
            .chain(uppers.keys())
            .filter(|id| !there.contains(id))
            .copied()
            .collect();
        for id in missing {
            if self.inner.blobs.place(&id)?.is_none() {
                self.fault(format!("blob {id}"), "is held but not there");
            }
        }
        Ok(())
    }

    /// Hashes all small contents, in the order in which they lie.
    fn small_contents(
        &mut self,
    ) -> Result<std::collections::HashMap<(RecordNo, u32), (BlobId, u64)>> {
        let mut small = std::collections::HashMap::new();
        let inner = self.inner;
        let mut scan = inner.db.scan(Family::Small, b"")?;
        while let Some((key, content)) = scan.next()? {
            let pack = key
                .get(..8)
                .and_then(|k| k.try_into().ok())
                .map(u64::from_be_bytes)
                .map(RecordNo);
            let index = key
                .get(8..)
                .and_then(|k| k.try_into().ok())
                .map(u32::from_be_bytes);
            let (Some(pack), Some(index)) = (pack, index) else {
                self.fault(
                    format!("small content {}", key.escape_ascii()),
                    "does not parse",
                );
                continue;
            };
            let id = BlobId(Digest::of(content));
            let here = match inner.blobs.place(&id)? {
                Some((Place::Small { pack, index }, _)) => small_key(pack, index).as_slice() == key,
                _ => false,
            };
            // Of an unpack under way the place may come a moment after the content.
            if !here && !self.doomed_records.contains(&pack) && inner.db.has(Family::Small, key)? {
                self.fault(format!("small content {} {index}", pack.0), "is no blob's");
            }
            small.insert((pack, index), (id, content.len() as u64));
        }
        Ok(small)
    }

    fn file(&mut self, id: &BlobId, size: u64) {
        let path = self.inner.blobs.path(id);
        let object = format!("blob {id}");
        let read = File::open(&path)
            .map_err(Error::io("cannot open", &path))
            .and_then(|mut f| digest(&mut f, "blob"));
        if let Some((actual, bytes)) = self.noted(&object, read)
            && (actual != id.0 || bytes != size)
        {
            self.fault(object, format!("{} has another content", path.display()));
        }
    }

    fn count(&mut self, id: &BlobId, mut uppers: i64) -> Result<()> {
        let records = self.held.get(id).copied().unwrap_or_default();
        for _ in 0..TRIES {
            let count = self.inner.blobs.count(id)?;
            if count == records + uppers && (count != 0 || self.inner.blobs.is_pinned(id)) {
                return Ok(());
            }
            if self.inner.blobs.place(id)?.is_none() {
                return Ok(());
            }
            uppers = self
                .uppers_hold(Some(id))?
                .get(id)
                .copied()
                .unwrap_or_default();
        }
        let count = self.inner.blobs.count(id)?;
        let holders = records + uppers;
        if count == holders {
            self.fault(format!("blob {id}"), "is held by nothing");
        } else {
            self.fault(
                format!("blob {id}"),
                format!("its count is {count}, its holders are {holders}"),
            );
        }
        Ok(())
    }

    /// Files that stand in no record.
    pub(super) fn files(&mut self) -> Result<()> {
        for path in self.inner.stray_files()? {
            // Unpacks under way have files there.
            if path.parent() != Some(self.inner.blobs.temp_dir().as_path()) {
                self.fault(path.display(), "belongs to nothing");
            }
        }
        Ok(())
    }
}

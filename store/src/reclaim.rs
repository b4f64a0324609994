//! Archives as received, given up for their space. The layers stay, and are given out rebuilt from then on: the same tar,
//! in another wrapping. Never touches what a tree shows.

use crate::failpoint::{self, Point};
use crate::remove::remove_file_if_there;
use crate::{Result, Store};

/// What was given up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Reclaimed {
    /// How many archives.
    pub archives: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Store {
    /// Deletes every archive as received. Who is being given one at this moment reads it to its end.
    pub fn reclaim_archives(&self) -> Result<Reclaimed> {
        let inner = &self.inner;
        inner.room.to_shrink();
        // Under the lock to the end: the same archive may be on its way in again.
        let _records = inner.records.lock();
        let mut batch = inner.db.batch();
        let mut given_up = Vec::new();
        for (diff, mut record) in inner.db.records()? {
            let before = given_up.len();
            for archive in record.archives.iter_mut().filter(|archive| archive.kept) {
                archive.kept = false;
                given_up.push(*archive);
            }
            if given_up.len() > before {
                batch.put_record(&diff, &record)?;
            }
        }
        batch.write(failpoint::synced(Point::SyncReclaim))?;
        // Should it end here: a file that no record claims goes when the store is opened.
        failpoint::pass(Point::ReclaimUnlisted)?;
        for archive in &given_up {
            remove_file_if_there(&inner.archive_path(&archive.id))?;
        }
        Ok(Reclaimed {
            archives: given_up.len() as u64,
            bytes: given_up.iter().map(|archive| archive.bytes).sum(),
        })
    }
}

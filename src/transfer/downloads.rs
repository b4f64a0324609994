//! Which layers are on their way: two pulls of one layer share one download, and where one of them leaves, the other goes
//! on from there. Knows no registry and no store.

use std::collections::HashMap;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Weak};

use nacre_store::{DiffId, Digest, Unpacked};
use parking_lot::Mutex;
use tokio::sync::{Mutex as Slot, OwnedMutexGuard};
use tokio::task::JoinHandle;

use super::bridge::Feed;

/// The layers that some pull is fetching, by the digest of the archive. Clones are one table.
#[derive(Clone, Default)]
pub struct Downloads(Arc<Mutex<HashMap<Digest, Weak<Layer>>>>);

/// One layer of the table; whoever has it locked has the turn.
type Layer = Slot<Option<Underway>>;

/// A layer that is half here: its unpacking waits for more.
pub(super) struct Underway {
    pub(super) feed: Feed,
    pub(super) unpacking: JoinHandle<nacre_store::Result<Unpacked>>,
    /// What the unpacking was told to expect.
    pub(super) diff: DiffId,
    /// Bytes that were fed.
    pub(super) offset: u64,
}

/// The right to fetch a layer, and what the one before has left of it. Dropping it passes both on, however its holder
/// ended; where nobody waits, what is left is broken off.
pub(super) struct Turn {
    downloads: Downloads,
    underway: OwnedMutexGuard<Option<Underway>>,
}

impl Deref for Turn {
    type Target = Option<Underway>;

    fn deref(&self) -> &Option<Underway> {
        &self.underway
    }
}

impl DerefMut for Turn {
    fn deref_mut(&mut self) -> &mut Option<Underway> {
        &mut self.underway
    }
}

impl Turn {
    /// Whether somebody waits for this turn.
    pub(super) fn is_awaited(&self) -> bool {
        // Under the table's lock nobody can begin to wait.
        let _table = self.downloads.0.lock();
        Arc::strong_count(OwnedMutexGuard::mutex(&self.underway)) > 1
    }
}

impl Downloads {
    /// How many fetch a layer or wait for it.
    #[cfg(test)]
    pub(super) fn wanted_by(&self, layer: &Digest) -> usize {
        self.0.lock().get(layer).map_or(0, Weak::strong_count)
    }

    /// Waits for the turn to fetch a layer. Whoever had it before has the layer in the store now, or has failed or left:
    /// then it is for the next one to fetch the rest, with his own credentials.
    pub(super) async fn turn(&self, layer: &Digest) -> Turn {
        let slot = {
            let mut table = self.0.lock();
            table.retain(|_, slot| slot.strong_count() > 0);
            match table.get(layer).and_then(Weak::upgrade) {
                Some(slot) => slot,
                None => {
                    let slot = Arc::new(Slot::default());
                    table.insert(*layer, Arc::downgrade(&slot));
                    slot
                }
            }
        };
        Turn {
            downloads: self.clone(),
            underway: slot.lock_owned().await,
        }
    }
}

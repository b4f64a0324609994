//! Which layers are on their way: two pulls of one layer share one download. Knows no registry and no store.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use nacre_store::Digest;
use parking_lot::Mutex;
use tokio::sync::{Mutex as Turn, OwnedMutexGuard};

/// The layers that some pull is fetching, by the digest of the archive. Clones are one table.
#[derive(Clone, Default)]
pub struct Downloads(Arc<Mutex<HashMap<Digest, Weak<Turn<()>>>>>);

impl Downloads {
    /// Waits for the turn to fetch a layer. Whoever had it before has the layer in the store now, or has failed: then it is
    /// for the next one to fetch, with his own credentials. Dropping the turn passes it on, however its holder ended.
    pub(super) async fn turn(&self, layer: &Digest) -> OwnedMutexGuard<()> {
        let turn = {
            let mut table = self.0.lock();
            table.retain(|_, turn| turn.strong_count() > 0);
            match table.get(layer).and_then(Weak::upgrade) {
                Some(turn) => turn,
                None => {
                    let turn = Arc::new(Turn::new(()));
                    table.insert(*layer, Arc::downgrade(&turn));
                    turn
                }
            }
        };
        turn.lock_owned().await
    }
}

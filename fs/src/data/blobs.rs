//! Blobs of the store held open, bounded. Reads only: a blob is never written, by nobody.

use nacre_store::{Blob, BlobId, Store};
use parking_lot::Mutex;

use crate::errno::{Result, of_store};
use crate::vfs::Recent;

/// What the open blobs of one tree may weigh: bytes of small ones, and [`FILE_WEIGHT`] for each file.
const WEIGHT_MAX: usize = 8 << 20;

/// An open file's share, so that a tree holds at most 256 descriptors of blobs.
const FILE_WEIGHT: usize = 32 << 10;

/// The map's own cost of an entry.
const ENTRY_WEIGHT: usize = 128;

/// The blobs that were read lately.
pub(crate) struct Blobs {
    store: Store,
    open: Mutex<Recent<BlobId, Blob>>,
}

impl Blobs {
    /// Starts with none open.
    pub(crate) fn new(store: Store) -> Self {
        Self {
            store,
            open: Mutex::new(Recent::new(WEIGHT_MAX)),
        }
    }

    /// Returns a blob, opened if need be. The lock is not held while the store opens it.
    pub(crate) fn get(&self, id: BlobId) -> Result<Blob> {
        if let Some(blob) = self.open.lock().get(&id) {
            return Ok(blob.clone());
        }
        let blob = self.store.blob(&id).map_err(|e| of_store(&e))?;
        let weight = match &blob {
            Blob::Small(bytes) => bytes.len().saturating_add(ENTRY_WEIGHT),
            Blob::File(..) => FILE_WEIGHT,
        };
        self.open.lock().insert(id, blob.clone(), weight);
        Ok(blob)
    }
}

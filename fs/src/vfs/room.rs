//! Room to grow in a tree: the store's own, as numbers that programs know. Keeps nothing.

use nacre_store::Store;
use rustix::fs::StatVfs;

use crate::errno::{Errno, Result, of_store};

/// The disk under a tree.
pub(crate) struct Room(Store);

impl Room {
    /// Looks at the disk that the store is on.
    pub(crate) fn new(store: Store) -> Self {
        Self(store)
    }

    /// What the host says of itself.
    pub(crate) fn host(&self) -> Result<StatVfs> {
        self.0.room().host().map_err(|e| of_store(&e))
    }

    /// `NOSPC` if there is no room to grow.
    pub(crate) fn to_grow(&self) -> Result<()> {
        match self.0.room().has_room().map_err(|e| of_store(&e))? {
            true => Ok(()),
            false => Err(Errno::NOSPC),
        }
    }

    /// `NOSPC` if not even what gives room back can be noted.
    pub(crate) fn to_free(&self) -> Result<()> {
        self.0.room().to_unlink().map_err(|e| of_store(&e))
    }

    /// The same for `bytes` that are taken at once.
    pub(crate) fn to_take(&self, bytes: u64) -> Result<()> {
        match self
            .0
            .room()
            .has_room_for(bytes)
            .map_err(|e| of_store(&e))?
        {
            true => Ok(()),
            false => Err(Errno::NOSPC),
        }
    }

    /// Whether there is enough room to let the kernel write without asking, and to make things ahead.
    pub(crate) fn has_plenty(&self) -> bool {
        self.0.room().has_plenty().unwrap_or(false)
    }
}

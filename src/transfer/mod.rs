//! Images between the store and registries, layouts and archives. Streams; never holds a layer in memory.
//!
//! ```text
//! progress      what a transfer tells while it runs, in docker's words
//! pull          a registry's image into the store
//! index         what an OCI layout's index names
//! fetch         the layers of a pull, all at once
//! downloads     the layers that several pulls want at once
//! layout        an OCI layout in a directory
//! load          docker's and OCI's archives, from a pipe
//! incoming      their entries, in any order: layers unpacked as they pass, documents kept
//! save          both in one archive, as docker writes it since 25
//! push          the store's image to a registry: what was received goes out unchanged
//! sources       where the bytes of a layer come from, when they go out
//! outgoing      which manifest and which blobs an image goes out with
//! image_config  what a transfer must know of an image's configuration
//! fuzzing       doors for tests/fuzz
//! bridge        between the blocking store and the awaiting client
//! ```

mod bridge;
mod downloads;
mod error;
mod fetch;
pub(crate) mod fuzzing;
mod image_config;
mod incoming;
mod index;
mod layout;
mod load;
mod outgoing;
mod progress;
mod pull;
mod push;
mod save;
mod sources;
#[cfg(test)]
mod tests;

use std::io::Read;

use nacre_store::{Expected, Store, Unpacked};

pub use downloads::Downloads;
pub use error::{Error, Result};
pub use layout::pull_oci_layout;
pub use load::{Loaded, load};
pub use progress::{Event, Moved, Progress, Status};
pub use pull::{Pulled, pull, status_line};
pub use push::{Pushed, push, tell_repository};
pub use save::{ToSave, save};

/// Bytes of an image's configuration, fetched, loaded or made here; real ones have some tens of thousands.
pub(crate) const CONFIG_BYTES_MAX: usize = 4 << 20;

/// Takes in a root filesystem's tar, compressed or not, as the one layer of an image to be. Blocks.
pub fn import_rootfs(store: &Store, archive: impl Read) -> Result<Unpacked> {
    Ok(store.unpack(archive, &Expected::default(), &|_| ())?)
}

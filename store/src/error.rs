//! What can go wrong in the store: every failure names its object. Never turns an error into text and back.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::{DiffId, Digest, archive};

/// What can go wrong in the store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The object is not there.
    #[error("no such {what}: {name}")]
    NotFound {
        /// layer, image, blob, upper …
        what: &'static str,
        /// Its identity.
        name: String,
    },
    /// Content is not what its digest says.
    #[error("{what} digest mismatch: expected {expected}, got {actual}")]
    DigestMismatch {
        /// blob, DiffID, config …
        what: &'static str,
        /// What was promised.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// Content is longer or shorter than promised.
    #[error("{what} size mismatch: expected {expected} bytes, got {actual}")]
    SizeMismatch {
        /// layer archive …
        what: &'static str,
        /// What was promised.
        expected: u64,
        /// What came; where it is more than promised, only as much as was read.
        actual: u64,
    },
    /// The archive is refused.
    #[error(transparent)]
    Archive(#[from] archive::ArchiveError),
    /// An entry of a layer makes no sense on the layers below.
    #[error("layer entry {path:?}{} refused: {why}", of_layer(.layer.as_ref()))]
    Refused {
        /// The layer; unknown only to the code that applies one.
        layer: Option<DiffId>,
        /// The entry.
        path: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A configuration, a manifest or a name is not acceptable.
    #[error("invalid {what}: {why}")]
    Invalid {
        /// image configuration, manifest, name …
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The object cannot go: another one needs it.
    #[error("{what} {name} is in use by {by}")]
    InUse {
        /// image …
        what: &'static str,
        /// Its identity.
        name: String,
        /// Who needs it.
        by: String,
    },
    /// The host said no.
    #[error("{what} {}: {source}", path.display())]
    Io {
        /// What was tried, as in `cannot write`.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the host said.
        source: std::io::Error,
    },
    /// The bytes that were to be stored could not be read.
    #[error("cannot read {what}: {source}")]
    Input {
        /// layer archive, blob …
        what: &'static str,
        /// What the reader said.
        source: std::io::Error,
    },
    /// RocksDB said no.
    #[error("database: {0}")]
    Db(String),
    /// RocksDB had no room on the disk.
    #[error("database: {0}")]
    DbFull(String),
    /// The store may not grow: the rest of the disk is kept for removals.
    #[error(
        "no space left in the store {} ({} MB free, {} MB are kept for removals): remove images or containers (hint: nacre image prune), or free space on its filesystem",
        root.display(), free / 1_000_000, floor / 1_000_000
    )]
    NoSpace {
        /// The store.
        root: PathBuf,
        /// Free bytes of its filesystem.
        free: u64,
        /// Bytes that are kept.
        floor: u64,
    },
    /// Another service has the store.
    #[error("store {} is in use by process {pid}", root.display())]
    Owned {
        /// The store.
        root: PathBuf,
        /// Its owner.
        pid: u32,
    },
    /// The store was written by another version.
    #[error("store {} has format {found}, this program reads format {supported}", root.display())]
    Format {
        /// The store.
        root: PathBuf,
        /// Its format.
        found: u32,
        /// Ours.
        supported: u32,
    },
    /// A record does not parse: damage.
    #[error("store damaged: {what} {name}")]
    Corrupt {
        /// Kind of record.
        what: &'static str,
        /// Its key.
        name: String,
    },
}

fn of_layer(layer: Option<&DiffId>) -> String {
    layer.map_or_else(String::new, |layer| format!(" of {layer}"))
}

/// The store's result.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Whether it was for want of room on the disk.
    pub fn is_no_space(&self) -> bool {
        match self {
            Error::NoSpace { .. } | Error::DbFull(_) => true,
            Error::Io { source, .. } => matches!(
                source.kind(),
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded
            ),
            _ => false,
        }
    }

    /// Says whose entry was refused.
    pub(crate) fn in_layer(self, diff: &DiffId) -> Error {
        match self {
            Error::Refused { path, why, .. } => Error::Refused {
                layer: Some(*diff),
                path,
                why,
            },
            error => error,
        }
    }

    /// Wraps what the host said of `path`, for `map_err`.
    pub(crate) fn io(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.to_owned();
        move |source| Error::Io { what, path, source }
    }

    /// The object is not there.
    pub(crate) fn not_found(what: &'static str, name: impl ToString) -> Error {
        Error::NotFound {
            what,
            name: name.to_string(),
        }
    }

    /// The object does not parse, or is missing where it must be.
    pub(crate) fn corrupt(what: &'static str, name: impl ToString) -> Error {
        Error::Corrupt {
            what,
            name: name.to_string(),
        }
    }
}

//! What an upper changed, as a layer archive: applied to the base it gives the tree that the upper showed.

use std::io::{Read, Write};

use nacre_store::{Ino, Inode};

use crate::diff::Snapshot;

/// Where the bytes of a snapshot's files are read.
pub trait Contents {
    /// Opens `ino`'s content from its start: all `size` bytes, or of a sparse file (`extents` of
    /// [`Contents::extents`]) the runs' bytes, one after another.
    fn open(&self, ino: Ino, inode: &Inode) -> std::io::Result<Box<dyn Read + '_>>;

    /// The runs of a file worth storing as sparse; `None` when every byte is stored.
    fn extents(&self, ino: Ino, inode: &Inode)
    -> std::io::Result<Option<Vec<nacre_store::Extent>>>;
}

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Written {
    /// Entries of the archive; 0: nothing changed.
    pub entries: u64,
    /// Sum of the regular files' sizes.
    pub content_bytes: u64,
}

/// Why no layer can be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LayerError {
    /// The name means a whiteout in an archive.
    #[error("{path}: a layer archive cannot hold names that begin with \".wh.\"")]
    ReservedName {
        /// The file.
        path: String,
    },
    /// The content could not be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] nacre_store::Error),
}

/// Writes the snapshot's changes to `out` as an uncompressed tar, deterministic.
pub fn write(
    snapshot: &Snapshot<'_>,
    contents: &dyn Contents,
    out: impl Write,
) -> Result<Written, LayerError> {
    let _ = (snapshot, contents, Box::new(out));
    todo!()
}

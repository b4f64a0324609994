//! nacre's layer store: what is on disk, and nothing above it. Never prints, never speaks to a network.
#![expect(clippy::todo, reason = "seam: the store part fills this in")]

pub mod archive;
mod ids;
mod inode;
mod name;

pub use ids::{
    ArchiveId, BlobId, ChainId, DiffId, Digest, ImageId, Ino, InvalidDigest, LayerNo, ManifestId,
    UpperId,
};
pub use inode::{CHUNK_BYTES, Content, Extent, Inode, Kind, Link, Time};
pub use name::{FileName, InvalidName};

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What can go wrong in the store. (Seam: the real enum names the object of each failure.)
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
    /// The archive is refused.
    #[error(transparent)]
    Archive(#[from] archive::ArchiveError),
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
    /// RocksDB said no.
    #[error("database: {0}")]
    Db(String),
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

/// The store's result.
pub type Result<T> = std::result::Result<T, Error>;

/// How a store is opened.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Limits on archives, `None` for the defaults.
    pub limits: Option<archive::Limits>,
}

/// An open store. Clones share it; one process owns a store at a time.
#[derive(Clone)]
pub struct Store(());

// ---------------------------------------------------------------- layers in

/// What the caller knows of an archive beforehand; all that is given is verified.
#[derive(Clone, Debug, Default)]
pub struct Expected {
    /// The descriptor's digest, of the bytes as received.
    pub archive: Option<ArchiveId>,
    /// The descriptor's size, of the bytes as received.
    pub size: Option<u64>,
    /// The configuration's DiffID, of the uncompressed tar.
    pub diff: Option<DiffId>,
}

/// A layer whose content is in the store, not yet part of any tree. Holding it pins its content.
pub struct Unpacked {
    /// Digest of the uncompressed tar.
    pub diff: DiffId,
    /// Digest of the bytes as received.
    pub archive: ArchiveId,
    /// Length as received.
    pub archive_bytes: u64,
    /// Sum of the regular files' sizes, docker's layer size.
    pub content_bytes: u64,
    _pin: (),
}

/// An image to be made visible.
pub struct NewImage {
    /// The configuration's bytes, as received: their digest is the image's ID.
    pub config: Vec<u8>,
    /// The manifest's bytes and media type as received; none for commit, import and docker-archives.
    pub manifest: Option<RawManifest>,
    /// Bottom layer first; as many as the configuration's `rootfs.diff_ids`, in the same order.
    pub layers: Vec<Unpacked>,
    /// Names to point at it.
    pub refs: Vec<RefUpdate>,
    /// The image it was committed from.
    pub parent: Option<ImageId>,
}

/// A manifest or an index, byte for byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawManifest {
    /// `application/vnd.oci.image.manifest.v1+json` and the like.
    pub media_type: String,
    /// The bytes that its digest is of.
    pub bytes: Vec<u8>,
}

/// A name to be set: `docker.io/library/debian:12`, or `docker.io/library/debian@sha256:…` (names are kept
/// canonical and complete; the store does not parse them beyond that).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefUpdate {
    /// The complete name.
    pub name: String,
}

/// An image as the store knows it.
#[derive(Clone, Debug)]
pub struct Image {
    /// Digest of the configuration.
    pub id: ImageId,
    /// The configuration's bytes.
    pub config: Vec<u8>,
    /// The tree; `None` for an image without layers.
    pub chain: Option<ChainId>,
    /// Bottom layer first.
    pub layers: Vec<LayerInfo>,
    /// The manifest that it came with.
    pub manifest: Option<ManifestId>,
    /// Every name that points at it, sorted.
    pub refs: Vec<String>,
    /// The image it was committed from.
    pub parent: Option<ImageId>,
    /// When a name was last pointed at it, or it was published; nanoseconds since the epoch.
    pub tagged_at: i64,
}

/// One layer of an image.
#[derive(Clone, Debug)]
pub struct LayerInfo {
    /// The stack up to here.
    pub chain: ChainId,
    /// This layer's uncompressed tar.
    pub diff: DiffId,
    /// The archive as received, and its length: what a push of this image names.
    pub archive: Option<(ArchiveId, u64)>,
    /// Sum of the regular files' sizes.
    pub content_bytes: u64,
}

/// What a removal freed.
#[derive(Clone, Debug, Default)]
pub struct Removed {
    /// Freed chains, top first.
    pub chains: Vec<ChainId>,
    /// Bytes of their regular files.
    pub content_bytes: u64,
}

/// What the store check found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// How many of each kind of object were looked at.
    pub checked: Vec<(&'static str, u64)>,
    /// One line a fault, each with its object. Empty: the store is whole.
    pub faults: Vec<String>,
}

impl Store {
    /// Opens the store at `root`, made if it is not there; sweeps what was never published.
    pub fn open(root: &Path, options: Options) -> Result<Store> {
        let _ = (root, options);
        todo!()
    }

    /// Flushes everything, so that the next open is quick. The store stays usable.
    pub fn flush(&self) -> Result<()> {
        todo!()
    }

    /// The store's directory.
    pub fn root(&self) -> &Path {
        todo!()
    }

    /// Unpacks one layer archive: content to blobs, the rest to the record under its DiffID. Parent-independent; any
    /// number may run at once. Verified before it is durable, durable before it returns; on error no trace stays.
    /// `progress` is told of bytes as received.
    pub fn unpack(
        &self,
        archive: impl Read,
        expected: &Expected,
        progress: &dyn Fn(u64),
    ) -> Result<Unpacked> {
        let _ = (Box::new(archive), expected, progress);
        todo!()
    }

    /// Returns the layer if its content is here already (by descriptor digest), so that nothing needs to be fetched.
    pub fn unpacked_by_archive(&self, archive: &ArchiveId) -> Result<Option<Unpacked>> {
        let _ = archive;
        todo!()
    }

    /// The same by DiffID.
    pub fn unpacked_by_diff(&self, diff: &DiffId) -> Result<Option<Unpacked>> {
        let _ = diff;
        todo!()
    }

    /// Applies what layers are not applied yet and makes the image visible, with its names, in one synced write.
    /// `applied` is called with a layer's index when its tree stands.
    pub fn publish(&self, image: NewImage, applied: &dyn Fn(usize)) -> Result<ImageId> {
        let _ = (image, applied);
        todo!()
    }

    /// Rebuilds the uncompressed tar of a layer, bit for bit.
    pub fn tar(&self, diff: &DiffId) -> Result<Box<dyn Read + Send>> {
        let _ = diff;
        todo!()
    }

    /// Opens a layer archive as received; `None` when it was reclaimed (or never kept, for a plain tar: see `tar`).
    pub fn archive(&self, archive: &ArchiveId) -> Result<Option<File>> {
        let _ = archive;
        todo!()
    }

    // ------------------------------------------------------------ images

    /// All images, newest first by the configuration's `created`, then by ID.
    pub fn images(&self) -> Result<Vec<Image>> {
        todo!()
    }

    /// One image.
    pub fn image(&self, id: &ImageId) -> Result<Option<Image>> {
        let _ = id;
        todo!()
    }

    /// The image a complete name points at.
    pub fn resolve(&self, name: &str) -> Result<Option<ImageId>> {
        let _ = name;
        todo!()
    }

    /// Points `name` at `image`; returns what it pointed at before.
    pub fn tag(&self, name: &str, image: &ImageId) -> Result<Option<ImageId>> {
        let _ = (name, image);
        todo!()
    }

    /// Removes a name; returns what it pointed at.
    pub fn untag(&self, name: &str) -> Result<Option<ImageId>> {
        let _ = name;
        todo!()
    }

    /// Removes an image without names or users, with everything that nothing else needs.
    pub fn remove_image(&self, id: &ImageId) -> Result<Removed> {
        let _ = id;
        todo!()
    }

    /// A manifest's bytes.
    pub fn manifest(&self, id: &ManifestId) -> Result<Option<RawManifest>> {
        let _ = id;
        todo!()
    }

    /// Checks every reference, digest and count.
    pub fn check(&self) -> Result<Report> {
        todo!()
    }

    // ------------------------------------------------------------ trees and content

    /// The tree of a chain; of `None` an empty root directory.
    pub fn tree(&self, chain: Option<&ChainId>) -> Result<Tree> {
        let _ = chain;
        todo!()
    }

    /// Opens a blob for reading.
    pub fn blob(&self, id: &BlobId) -> Result<Blob> {
        let _ = id;
        todo!()
    }

    /// Stores `content` as a blob; `size` is a hint. The pin holds it until a record that names it is written.
    pub fn put_blob(&self, content: impl Read, size: u64) -> Result<(BlobId, u64, BlobPin)> {
        let _ = (Box::new(content), size);
        todo!()
    }

    // ------------------------------------------------------------ uppers and containers

    /// Makes a writable layer on `chain`; it holds the chain until it is removed.
    pub fn create_upper(&self, chain: Option<&ChainId>) -> Result<Upper> {
        let _ = chain;
        todo!()
    }

    /// Opens a writable layer. One open handle at a time is the caller's business.
    pub fn open_upper(&self, id: UpperId) -> Result<Upper> {
        let _ = id;
        todo!()
    }

    /// Removes a writable layer with its data.
    pub fn remove_upper(&self, id: UpperId) -> Result<()> {
        let _ = id;
        todo!()
    }

    /// Keeps a document (a container's or a mount's description) under a kind and a key; synced.
    pub fn put_document(&self, kind: DocumentKind, key: &str, value: &[u8]) -> Result<()> {
        let _ = (kind, key, value);
        todo!()
    }

    /// All documents of a kind, by key.
    pub fn documents(&self, kind: DocumentKind) -> Result<Vec<(String, Vec<u8>)>> {
        let _ = kind;
        todo!()
    }

    /// Removes a document; synced.
    pub fn remove_document(&self, kind: DocumentKind, key: &str) -> Result<()> {
        let _ = (kind, key);
        todo!()
    }
}

/// Descriptions that the layers above keep here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DocumentKind {
    /// A container's configuration and state.
    Container,
    /// A named writable mount.
    Mount,
}

/// Keeps a blob from being collected until dropped.
pub struct BlobPin(());

/// One immutable tree: a chain of layers. Cheap to clone. Reads touch RocksDB once a directory and once an inode;
/// both are cached within a bound.
#[derive(Clone)]
pub struct Tree(());

impl Tree {
    /// The newest version of `ino` in the chain.
    pub fn inode(&self, ino: Ino) -> Result<Option<Arc<Inode>>> {
        let _ = ino;
        todo!()
    }

    /// A directory's entries, sorted by name; `None` if `ino` is no directory of the tree.
    pub fn dir(&self, ino: Ino) -> Result<Option<Arc<DirList>>> {
        let _ = ino;
        todo!()
    }
}

/// A directory's entries, sorted by name; an entry's index is its place in readdir for ever.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DirList {
    /// Sorted by name.
    pub entries: Vec<DirEntry>,
}

impl DirList {
    /// Finds a name and its index.
    pub fn find(&self, name: &FileName) -> Option<(usize, &DirEntry)> {
        let index = self.entries.binary_search_by(|e| e.name.cmp(name)).ok()?;
        self.entries.get(index).map(|e| (index, e))
    }
}

/// A name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// The name.
    pub name: FileName,
    /// The inode.
    pub ino: Ino,
    /// Its kind.
    pub kind: Kind,
}

/// A blob open for reading.
#[derive(Clone)]
pub enum Blob {
    /// Small: the content itself.
    Small(Arc<[u8]>),
    /// Large: a file of its own, opened read-only (fit for FUSE passthrough), and its length.
    File(Arc<File>, u64),
}

/// One writable layer's overrides and data files. Shared by clones.
#[derive(Clone)]
pub struct Upper(());

/// A directory entry's override.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Override {
    /// The name leads to `ino`.
    Entry {
        /// The inode.
        ino: Ino,
        /// Its kind.
        kind: Kind,
        /// Place in readdir of a name that the base has not; 0 for a name that the base has (it keeps its place).
        seq: u64,
    },
    /// The base's name is hidden.
    Whiteout,
}

/// One change of a batch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum UpperOp {
    /// Sets an inode's record.
    SetInode(Ino, Box<Inode>),
    /// Forgets an inode's record and, if it has one, its data file.
    DropInode(Ino),
    /// Sets an override.
    SetEntry(Ino, FileName, Override),
    /// Takes an override back.
    DropEntry(Ino, FileName),
    /// Remembers an unlinked but open inode.
    SetOrphan(Ino),
    /// It is gone, or linked again.
    DropOrphan(Ino),
}

impl Upper {
    /// Its number.
    pub fn id(&self) -> UpperId {
        todo!()
    }

    /// The tree below.
    pub fn base(&self) -> &Tree {
        todo!()
    }

    /// The store it is in.
    pub fn store(&self) -> &Store {
        todo!()
    }

    /// An overridden inode.
    pub fn inode(&self, ino: Ino) -> Result<Option<Inode>> {
        let _ = ino;
        todo!()
    }

    /// A directory's overrides, by name.
    pub fn dir(&self, dir: Ino) -> Result<Vec<(FileName, Override)>> {
        let _ = dir;
        todo!()
    }

    /// All overridden inodes, by number.
    pub fn inodes(&self) -> Result<Vec<(Ino, Inode)>> {
        todo!()
    }

    /// All overridden entries, by directory and name.
    pub fn entries(&self) -> Result<Vec<(Ino, FileName, Override)>> {
        todo!()
    }

    /// Unlinked inodes that were open when the upper was last used.
    pub fn orphans(&self) -> Result<Vec<Ino>> {
        todo!()
    }

    /// Writes a batch: all or nothing, in order, not synced; blobs that records begin or cease to name are counted.
    pub fn write(&self, batch: &[UpperOp]) -> Result<()> {
        let _ = batch;
        todo!()
    }

    /// Makes every batch written so far durable.
    pub fn sync(&self) -> Result<()> {
        todo!()
    }

    /// A fresh inode number.
    pub fn new_ino(&self) -> Result<Ino> {
        todo!()
    }

    /// The highest sequence number in use, for `Override::Entry::seq`.
    pub fn last_seq(&self) -> Result<u64> {
        todo!()
    }

    /// The directory of the data files.
    pub fn data_dir(&self) -> &Path {
        todo!()
    }

    /// Opens (`create`: makes, empty) the data file of an inode, read and write.
    pub fn data_file(&self, ino: Ino, create: bool) -> Result<File> {
        let _ = (ino, create);
        todo!()
    }
}

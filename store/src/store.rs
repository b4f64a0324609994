//! The open store: what its parts share, how it opens and how it ends.
//!
//! Locks, in the order in which they are taken: `catalog` (images, names, layers, uppers change), `records` (records come
//! and go), `chains` (trees come and go), the blobs' pins, and within those what is documented there.

use std::collections::HashSet;
use std::fs::{DirBuilder, File, Permissions};
use std::io::Read;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::archive::Limits;
use crate::blobs::{Blob, BlobPin, Blobs};
use crate::db::Db;
use crate::failpoint::{self, Point};
use crate::intake::Intake;
use crate::lock::{self, Owner};
use crate::numbers::Numbers;
use crate::pins::Pins;
use crate::pipe::read_some;
use crate::record::TarReader;
use crate::room::Room;
use crate::tree::Caches;
use crate::{ArchiveId, BlobId, ChainId, DiffId, DocumentKind, Error, Result, UpperId};

/// How a store is opened.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Limits on archives, `None` for the defaults.
    pub limits: Option<Limits>,
    /// Free bytes of the disk below which nothing grows, `None` for what fits its size.
    pub floor_bytes: Option<u64>,
    /// Whether compressed archives are kept as received, so that they can be given out unchanged; `None`: they are.
    pub keep_archives: Option<bool>,
    /// Memory for what was read from the database, `None` for [`CACHE_BYTES`].
    pub cache_bytes: Option<u64>,
}

/// Memory for what was read from the database, if nothing else is said: the kernel caches what programs ask for, so that little
/// is read twice, and a walk of 80,000 files leaves the service below 60 MB.
pub const CACHE_BYTES: u64 = 20 << 20;

/// An open store. Clones share it; one process owns a store at a time.
#[derive(Clone)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
}

/// What the clones share.
pub(crate) struct Inner {
    pub(crate) root: PathBuf,
    pub(crate) limits: Limits,
    pub(crate) keep_archives: bool,
    pub(crate) room: Arc<Room>,
    pub(crate) db: Arc<Db>,
    pub(crate) blobs: Arc<Blobs>,
    pub(crate) numbers: Numbers,
    pub(crate) caches: Caches,
    /// Serialises changes of the catalog. Rank: first.
    pub(crate) catalog: Mutex<()>,
    /// Records in use by unpacked layers and tars being rebuilt. Rank: second.
    pub(crate) records: Pins<DiffId>,
    /// Chains in use by trees. Rank: third.
    pub(crate) chains: Pins<ChainId>,
    /// Uppers that are open.
    pub(crate) open_uppers: Pins<UpperId>,
    /// Uppers whose data files were not looked at since an unclean end. Held while one's are. Rank: after the catalog.
    pub(crate) unswept: Mutex<HashSet<UpperId>>,
    /// Last field: the lock goes after the database.
    owner: Owner,
}

impl Store {
    /// Opens the store at `root`, made if it is not there; sweeps what was never published.
    pub fn open(root: &Path, options: Options) -> Result<Store> {
        make_dir(root)?;
        let owner = Owner::take(root)?;
        let room = Arc::new(Room::open(root, options.floor_bytes)?);
        let opened = Inner::open(root, &room, options, owner);
        Ok(Store {
            inner: Arc::new(opened.map_err(|error| room.explained(error))?),
        })
    }

    /// Flushes everything, so that the next open is quick. The store stays usable.
    pub fn flush(&self) -> Result<()> {
        self.inner.room.to_shrink();
        self.inner.db.flush_all()
    }

    /// The room that the store has on its disk.
    pub fn room(&self) -> &Room {
        &self.inner.room
    }

    /// The store's directory.
    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    /// Rebuilds the uncompressed tar of a layer, bit for bit.
    pub fn tar(&self, diff: &DiffId) -> Result<Box<dyn Read + Send>> {
        let inner = &self.inner;
        let (head, pin) = {
            let mut pins = inner.records.lock();
            let head = inner
                .db
                .record(diff)?
                .ok_or_else(|| Error::not_found("layer", diff))?;
            (head, pins.pin(*diff))
        };
        Ok(Box::new(TarReader::new(
            &inner.db,
            &inner.blobs,
            head,
            pin,
        )?))
    }

    /// Opens a layer archive as received; `None` when it was given up or never kept (as a plain tar: see `tar`).
    pub fn archive(&self, archive: &ArchiveId) -> Result<Option<File>> {
        let path = self.inner.archive_path(archive);
        match File::open(&path) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("cannot open", &path)(error)),
        }
    }

    /// Opens a blob for reading.
    pub fn blob(&self, id: &BlobId) -> Result<Blob> {
        self.inner.blobs.read(id)
    }

    /// Stores `content` as a blob; `size` is a hint. The pin holds it until a record that names it is written.
    /// An empty content is the blob of no bytes. Durable when it returns.
    pub fn put_blob(&self, content: impl Read, size: u64) -> Result<(BlobId, u64, BlobPin)> {
        let room = &self.inner.room;
        room.to_grow()?;
        let put = self.put_blob_in(content, size);
        put.map_err(|error| room.explained(error))
    }

    fn put_blob_in(&self, mut content: impl Read, size: u64) -> Result<(BlobId, u64, BlobPin)> {
        let inner = &self.inner;
        let mut intake = Intake::for_one(&inner.blobs, inner.numbers.record(&inner.db)?, size);
        let taken = intake.take(|buf| {
            read_some(&mut content, buf).map_err(|source| Error::Input {
                what: "blob",
                source,
            })
        })?;
        let (id, len) = match taken {
            Some(taken) => taken,
            None => intake.take_empty()?,
        };
        Ok((id, len, BlobPin::new(intake.finish()?)))
    }

    /// Keeps a document (a container's or a mount's description) under a kind and a key; synced. Also on a full disk:
    /// what has happened must be told. Who begins something asks [`Room::to_grow`] himself.
    pub fn put_document(&self, kind: DocumentKind, key: &str, value: &[u8]) -> Result<()> {
        self.inner.room.to_shrink();
        let mut batch = self.inner.db.batch();
        batch.put_document(kind, key, value)?;
        batch.write(failpoint::synced(Point::SyncDocument))?;
        failpoint::pass(Point::DocumentSynced)
    }

    /// All documents of a kind, by key.
    pub fn documents(&self, kind: DocumentKind) -> Result<Vec<(String, Vec<u8>)>> {
        self.inner.db.document_list(kind)
    }

    /// Removes a document; synced.
    pub fn remove_document(&self, kind: DocumentKind, key: &str) -> Result<()> {
        self.inner.room.to_shrink();
        let mut batch = self.inner.db.batch();
        batch.delete_document(kind, key)?;
        batch.write(failpoint::synced(Point::SyncDocument))?;
        failpoint::pass(Point::DocumentSynced)
    }
}

impl Inner {
    fn open(root: &Path, room: &Arc<Room>, options: Options, mut owner: Owner) -> Result<Inner> {
        owner.mark()?;
        lock::check_format(root)?;
        for name in ["db", "archives", "blobs", "uppers"] {
            let dir = root.join(name);
            make_dir(&dir)?;
            // Also one that an earlier version made.
            std::fs::set_permissions(&dir, Permissions::from_mode(0o700))
                .map_err(Error::io("cannot close to others", &dir))?;
        }
        // Half for the database's blocks, half for what was made of them.
        let cache_bytes = options.cache_bytes.unwrap_or(CACHE_BYTES) / 2;
        let cache_bytes = usize::try_from(cache_bytes).unwrap_or(usize::MAX);
        let db = Arc::new(Db::open(&root.join("db"), room, cache_bytes)?);
        let blobs = Arc::new(Blobs::open(root, &db, room)?);
        let inner = Inner {
            root: root.to_owned(),
            limits: options.limits.unwrap_or_default(),
            keep_archives: options.keep_archives.unwrap_or(true),
            room: Arc::clone(room),
            numbers: Numbers::open(&db)?,
            db,
            blobs,
            caches: Caches::new(cache_bytes),
            catalog: Mutex::new(()),
            records: Pins::default(),
            chains: Pins::default(),
            open_uppers: Pins::default(),
            unswept: Mutex::default(),
            owner,
        };
        failpoint::pass(Point::OpenReplayed)?;
        inner.finish_removals()?;
        failpoint::pass(Point::OpenRemovalsFinished)?;
        if inner.owner.unclean {
            inner.sweep_unclean()?;
        }
        Ok(inner)
    }

    /// The directory of archives as received.
    pub(crate) fn archives_dir(&self) -> PathBuf {
        self.root.join("archives")
    }

    /// The file of an archive as received.
    pub(crate) fn archive_path(&self, archive: &ArchiveId) -> PathBuf {
        self.archives_dir().join(archive.0.hex())
    }

    /// A file for an archive that is being received.
    pub(crate) fn spool_archive(&self) -> Result<tempfile::NamedTempFile> {
        self.blobs.spool()
    }

    /// Makes new names among the archives durable.
    pub(crate) fn sync_archives_dir(&self) -> Result<()> {
        let dir = self.archives_dir();
        if !failpoint::is_synced(Point::SyncArchivesDir) {
            return Ok(());
        }
        File::open(&dir)
            .and_then(|d| d.sync_all())
            .map_err(Error::io("cannot sync", &dir))
    }
}

/// Makes a directory of the store. Images hold secrets (/etc/shadow): what is below is the owner's alone.
fn make_dir(dir: &Path) -> Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(Error::io("cannot make", dir))
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.room.to_shrink();
        let end = self.db.flush_all().and_then(|()| {
            // What an unclean end left is still there: the mark stays until somebody has had the time to look.
            if !self.unswept.get_mut().is_empty() {
                return Ok(());
            }
            self.owner.release()
        });
        if let Err(error) = end {
            // Nothing is lost: the next open replays the log and sweeps, as after a crash.
            tracing::warn!(%error, store = %self.root.display(), "store did not end cleanly");
        }
    }
}

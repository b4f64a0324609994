//! Blobs: whole contents under their SHA-256, kept once however many hold them. Knows no paths, no layers, no inodes.
//!
//! Small ones lie in the database, large ones are files of their own (`blobs/ab/<hex>`, read-only, fit for FUSE
//! passthrough). A blob is held by records and uppers (a count, changed in the same batch as what names it) and by pins.
//! The pins' lock guards publishing and deleting: neither looks before the other has finished.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tempfile::NamedTempFile;

use crate::codec::{Decoder, Encoder};
use crate::db::{Batch, Db, Durability, Family};
use crate::failpoint::{self, Point};
use crate::numbers::RecordNo;
use crate::pins::{LockedPins, Pins};
use crate::room::Room;
use crate::{BlobId, Error, Result};

/// Largest content that lives in the database.
pub(crate) const SMALL_BYTES_MAX: usize = 64 << 10;

/// From how many new files on one syncfs(2) is cheaper than as many fsync(2).
const SYNC_FILES_MAX: usize = 16;

/// How many blobs are deleted before others get a turn at the lock.
const DELETE_CHUNK: usize = 512;

/// Where a blob's content is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    /// In the database. Packs keep what arrived together together: on disk, when read and when removed.
    Small {
        /// The record that it arrived with.
        pack: RecordNo,
        /// Its place in there.
        index: u32,
    },
    /// A file of its own.
    File,
}

/// A blob open for reading.
#[derive(Clone)]
pub enum Blob {
    /// Small: the content itself.
    Small(Arc<[u8]>),
    /// Large: a file of its own, opened read-only (fit for FUSE passthrough), and its length.
    File(Arc<File>, u64),
}

impl Blob {
    /// Its length.
    pub fn size(&self) -> u64 {
        match self {
            Blob::Small(content) => content.len() as u64,
            Blob::File(_, size) => *size,
        }
    }

    /// Reads at an offset; 0 at the end.
    pub fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize> {
        match self {
            Blob::Small(content) => {
                let rest = usize::try_from(offset)
                    .ok()
                    .and_then(|at| content.get(at..))
                    .unwrap_or_default();
                let len = rest.len().min(buf.len());
                if let (Some(to), Some(from)) = (buf.get_mut(..len), rest.get(..len)) {
                    to.copy_from_slice(from);
                }
                Ok(len)
            }
            Blob::File(file, _) => file.read_at(buf, offset).map_err(|source| Error::Input {
                what: "blob",
                source,
            }),
        }
    }
}

/// What a deletion touched.
#[derive(Default)]
pub(crate) struct Freed {
    /// Packs that have lost contents: their part of the database is worth compacting.
    pub(crate) packs: BTreeSet<RecordNo>,
}

/// The blobs of a store.
pub(crate) struct Blobs {
    dir: PathBuf,
    db: Arc<Db>,
    room: Arc<Room>,
    pins: Pins<BlobId>,
    /// Files that are not known to be on disk yet.
    unsynced: Mutex<HashSet<BlobId>>,
    /// How many unlogged batches of small contents were written, and how many of them are on disk.
    unlogged: AtomicU64,
    flushed: Mutex<u64>,
}

/// The key of a small content.
pub(crate) fn small_key(pack: RecordNo, index: u32) -> [u8; 12] {
    let mut key = [0; 12];
    key[..8].copy_from_slice(&pack.0.to_be_bytes());
    key[8..].copy_from_slice(&index.to_be_bytes());
    key
}

/// The key of a blob's count.
pub(crate) fn count_key(id: &BlobId) -> [u8; 33] {
    let mut key = [b'#'; 33];
    key[..32].copy_from_slice(id.0.as_bytes());
    key
}

/// Reads where a blob is, and its size.
pub(crate) fn decode_place(bytes: &[u8]) -> Option<(Place, u64)> {
    let mut input = Decoder::new(bytes)?;
    let place = match input.byte()? {
        0 => Place::File,
        1 => Place::Small {
            pack: RecordNo(input.uint()?),
            index: input.u32()?,
        },
        _ => return None,
    };
    let size = input.uint()?;
    input.end()?;
    Some((place, size))
}

/// Writes where a blob is, and its size.
pub(crate) fn encode_place(place: Place, size: u64) -> Vec<u8> {
    let mut out = Encoder::new();
    match place {
        Place::File => out.byte(0),
        Place::Small { pack, index } => out.byte(1).uint(pack.0).uint(index.into()),
    };
    out.uint(size).finish()
}

/// Adds to the number of holders of a blob.
pub(crate) fn add_count(batch: &mut Batch<'_>, id: &BlobId, delta: i64) -> Result<()> {
    batch.add(Family::Blobs, &count_key(id), delta)
}

impl Blobs {
    /// The blobs below `root`.
    pub(crate) fn open(root: &Path, db: &Arc<Db>, room: &Arc<Room>) -> Result<Blobs> {
        let dir = root.join("blobs");
        let temp = dir.join("tmp");
        std::fs::create_dir_all(&temp).map_err(Error::io("cannot make", &temp))?;
        Ok(Blobs {
            dir,
            db: Arc::clone(db),
            room: Arc::clone(room),
            pins: Pins::default(),
            unsynced: Mutex::default(),
            unlogged: AtomicU64::new(0),
            flushed: Mutex::new(0),
        })
    }

    /// Refuses to grow on a disk that is nearly full.
    pub(crate) fn to_grow(&self) -> Result<()> {
        self.room.to_grow()
    }

    /// The directory of the files.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where half-written files are.
    pub(crate) fn temp_dir(&self) -> PathBuf {
        self.dir.join("tmp")
    }

    /// The file of a large blob.
    pub(crate) fn path(&self, id: &BlobId) -> PathBuf {
        let hex = id.0.hex();
        self.dir.join(hex.get(..2).unwrap_or_default()).join(hex)
    }

    /// Where a blob is, and its size.
    pub(crate) fn place(&self, id: &BlobId) -> Result<Option<(Place, u64)>> {
        let place = self.db.with(Family::Blobs, id.0.as_bytes(), decode_place)?;
        place
            .map(|p| p.ok_or_else(|| Error::corrupt("blob record", id)))
            .transpose()
    }

    /// How many hold a blob.
    pub(crate) fn count(&self, id: &BlobId) -> Result<i64> {
        let count = self.db.with(Family::Blobs, &count_key(id), |v| {
            v.try_into().map(i64::from_le_bytes)
        })?;
        count
            .unwrap_or(Ok(0))
            .map_err(|_| Error::corrupt("blob count", id))
    }

    /// Says whether someone in memory is about to record a blob.
    pub(crate) fn is_pinned(&self, id: &BlobId) -> bool {
        self.pins.lock().is_pinned(id)
    }

    /// Opens a blob.
    pub(crate) fn read(&self, id: &BlobId) -> Result<Blob> {
        let (place, size) = self
            .place(id)?
            .ok_or_else(|| Error::not_found("blob", id))?;
        match place {
            Place::Small { pack, index } => {
                let content = self.db.with(Family::Small, &small_key(pack, index), |v| {
                    Arc::<[u8]>::from(v)
                })?;
                match content {
                    Some(content) if content.len() as u64 == size => Ok(Blob::Small(content)),
                    _ => Err(Error::corrupt("content of blob", id)),
                }
            }
            Place::File => {
                let path = self.path(id);
                let file = File::open(&path).map_err(Error::io("cannot open", &path))?;
                Ok(Blob::File(Arc::new(file), size))
            }
        }
    }

    /// Starts a file for a content too large for the database; gone when dropped before it is adopted.
    pub(crate) fn spool(&self) -> Result<NamedTempFile> {
        let dir = self.temp_dir();
        tempfile::Builder::new()
            .permissions(std::fs::Permissions::from_mode(0o400))
            .tempfile_in(&dir)
            .map_err(Error::io("cannot make a file in", &dir))
    }

    /// Writes small contents that are not there yet, and pins all of them.
    pub(crate) fn write_small(
        &self,
        pack: RecordNo,
        contents: &[(u32, BlobId, &[u8])],
        pins: &mut PinSet,
        durability: Durability,
    ) -> Result<()> {
        let mut locked = self.pins.lock();
        let mut fresh = HashSet::new();
        let (mut small, mut places) = (self.db.batch(), self.db.batch());
        for (index, id, content) in contents {
            pins.add(&mut locked, *id);
            if !fresh.contains(id) && !self.db.has(Family::Blobs, id.0.as_bytes())? {
                fresh.insert(*id);
                small.put(Family::Small, &small_key(pack, *index), content)?;
                let place = Place::Small {
                    pack,
                    index: *index,
                };
                places.put(
                    Family::Blobs,
                    id.0.as_bytes(),
                    &encode_place(place, content.len() as u64),
                )?;
            }
        }
        // Content first: whoever finds the place must find the content, and knows from the number what to flush.
        small.write(durability)?;
        if durability == Durability::Unlogged {
            self.unlogged.fetch_add(1, Ordering::SeqCst);
        }
        failpoint::pass(Point::BlobSmallWritten)?;
        places.write(Durability::Logged)
    }

    /// Makes a spooled file the content of a blob, if there is none yet, and pins it.
    pub(crate) fn adopt(
        &self,
        id: BlobId,
        file: NamedTempFile,
        size: u64,
        pins: &mut PinSet,
    ) -> Result<()> {
        let mut locked = self.pins.lock();
        pins.add(&mut locked, id);
        if self.db.has(Family::Blobs, id.0.as_bytes())? {
            return Ok(());
        }
        let path = self.path(&id);
        if let Some(dir) = path.parent().filter(|d| !d.exists()) {
            std::fs::create_dir_all(dir).map_err(Error::io("cannot make", dir))?;
        }
        self.unsynced.lock().insert(id);
        file.persist(&path)
            .map_err(|e| Error::io("cannot write", &path)(e.error))?;
        failpoint::pass(Point::BlobFileRenamed)?;
        let mut batch = self.db.batch();
        batch.put(
            Family::Blobs,
            id.0.as_bytes(),
            &encode_place(Place::File, size),
        )?;
        batch.write(Durability::Logged)
    }

    /// Makes the content of every pinned blob durable, whoever wrote it.
    pub(crate) fn sync(&self, pins: &PinSet) -> Result<()> {
        {
            let mut flushed = self.flushed.lock();
            let written = self.unlogged.load(Ordering::SeqCst);
            if *flushed < written {
                if failpoint::is_synced(Point::SyncSmall) {
                    self.db.flush(Family::Small)?;
                }
                *flushed = written;
            }
        }
        let files: Vec<BlobId> = {
            let unsynced = self.unsynced.lock();
            unsynced
                .iter()
                .filter(|id| pins.ids.contains_key(id))
                .copied()
                .collect()
        };
        self.sync_files(&files)?;
        let mut unsynced = self.unsynced.lock();
        for id in &files {
            unsynced.remove(id);
        }
        Ok(())
    }

    fn sync_files(&self, files: &[BlobId]) -> Result<()> {
        let open = |path: &Path| File::open(path).map_err(Error::io("cannot open", path));
        if !files.is_empty() && !failpoint::is_synced(Point::SyncBlobFiles) {
            return Ok(());
        }
        if files.len() > SYNC_FILES_MAX {
            let dir = open(&self.dir)?;
            return rustix::fs::syncfs(&dir)
                .map_err(|e| Error::io("cannot sync", &self.dir)(e.into()));
        }
        let mut dirs = BTreeSet::new();
        for id in files {
            let path = self.path(id);
            open(&path)?
                .sync_all()
                .map_err(Error::io("cannot sync", &path))?;
            dirs.extend(path.parent().map(Path::to_owned));
        }
        if !dirs.is_empty() {
            // The shard itself may be new.
            dirs.insert(self.dir.clone());
        }
        if !dirs.is_empty() && !failpoint::is_synced(Point::SyncBlobDirs) {
            return Ok(());
        }
        for dir in dirs {
            open(&dir)?
                .sync_all()
                .map_err(Error::io("cannot sync", &dir))?;
        }
        Ok(())
    }

    /// Deletes those blobs that nobody holds or pins.
    pub(crate) fn delete_unheld(&self, ids: impl IntoIterator<Item = BlobId>) -> Result<Freed> {
        self.room.to_shrink();
        let mut freed = Freed::default();
        let mut files = Vec::new();
        let ids: Vec<BlobId> = ids.into_iter().collect();
        for chunk in ids.chunks(DELETE_CHUNK) {
            let locked = self.pins.lock();
            let mut batch = self.db.batch();
            for id in chunk {
                if locked.is_pinned(id) || self.count(id)? != 0 {
                    continue;
                }
                match self.place(id)? {
                    Some((Place::Small { pack, index }, _)) => {
                        batch.delete(Family::Small, &small_key(pack, index))?;
                        freed.packs.insert(pack);
                    }
                    Some((Place::File, _)) => files.push(*id),
                    None => {}
                }
                batch.delete(Family::Blobs, id.0.as_bytes())?;
                batch.delete(Family::Blobs, &count_key(id))?;
            }
            batch.write(Durability::Logged)?;
        }
        if !files.is_empty() {
            // Before a file goes: after power loss no record may name a file that is gone. Once for all, because a
            // sync after unlinks waits for the host's journal.
            failpoint::pass(Point::BlobsUnlisted)?;
            if failpoint::is_synced(Point::SyncBlobsUnlisted) {
                self.db.sync()?;
            }
        }
        for chunk in files.chunks(DELETE_CHUNK) {
            let _locked = self.pins.lock();
            for id in chunk {
                // It may have come in again in the meantime.
                if self.db.has(Family::Blobs, id.0.as_bytes())? {
                    continue;
                }
                let path = self.path(id);
                self.unsynced.lock().remove(id);
                std::fs::remove_file(&path).map_err(Error::io("cannot remove", &path))?;
            }
        }
        Ok(freed)
    }
}

/// Blobs that someone is about to record, each with how often. Dropped unsettled, what nobody else holds is deleted.
pub(crate) struct PinSet {
    blobs: Arc<Blobs>,
    ids: HashMap<BlobId, i64>,
}

impl PinSet {
    /// An empty set.
    pub(crate) fn new(blobs: &Arc<Blobs>) -> PinSet {
        PinSet {
            blobs: Arc::clone(blobs),
            ids: HashMap::new(),
        }
    }

    fn add(&mut self, locked: &mut LockedPins<'_, BlobId>, id: BlobId) {
        let times = self.ids.entry(id).or_insert_with(|| {
            locked.add(id);
            0
        });
        *times += 1;
    }

    /// Counts one more use of a blob that is pinned already; `false` if it is not.
    pub(crate) fn again(&mut self, id: &BlobId) -> bool {
        self.ids.get_mut(id).map(|times| *times += 1).is_some()
    }

    /// How often each blob is to be recorded.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (&BlobId, i64)> {
        self.ids.iter().map(|(id, times)| (id, *times))
    }

    /// Takes the pins off: a durable record holds the blobs now.
    pub(crate) fn settle(mut self) {
        self.take_off();
    }

    fn take_off(&mut self) -> Vec<BlobId> {
        let ids: Vec<BlobId> = std::mem::take(&mut self.ids).into_keys().collect();
        let mut locked = self.blobs.pins.lock();
        for id in &ids {
            locked.take_off(id);
        }
        ids
    }
}

impl Drop for PinSet {
    fn drop(&mut self) {
        let ids = self.take_off();
        if let Err(error) = self.blobs.delete_unheld(ids) {
            // Nobody is left to tell; the sweep after the next unclean end, or a check, finds the leftovers.
            tracing::warn!(%error, "cannot delete unused blobs");
        }
    }
}

/// Keeps a blob from being collected until dropped.
pub struct BlobPin {
    _pins: PinSet,
}

impl BlobPin {
    pub(crate) fn new(pins: PinSet) -> BlobPin {
        BlobPin { _pins: pins }
    }
}

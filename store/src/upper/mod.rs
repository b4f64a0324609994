//! Writable layers: overrides in the database, data in files. Knows what a record names, not what a file system
//! does with it (that is the union's).
//!
//! ```text
//! keys    keys and values in the database
//! batch   changes, all or nothing
//! undo    what an inode was before bytes that nobody has synced
//! ```

mod batch;
mod keys;
mod undo;

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::blobs::add_count;
use crate::catalog::Doomed;
use crate::codec;
use crate::db::{Durability, Family};
use crate::failpoint::{self, Point};
use crate::pins::Pin;
use crate::store::Inner;
use crate::{BlobId, ChainId, Error, FileName, Ino, Inode, Kind, Result, Store, Tree, UpperId};

pub use self::batch::{Growth, UpperOp};
use self::keys::{ENTRY, INODE, ORPHAN, SEQUENCE, collect, decode_override, ino_key, key, key_ino};
pub(crate) use self::keys::{data_path, put_inode};
use self::undo::Instance;
pub use self::undo::Undo;

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

/// One writable layer's overrides and data files. Shared by clones.
#[derive(Clone)]
pub struct Upper(Arc<Shared>);

struct Shared {
    store: Store,
    id: UpperId,
    base: Tree,
    dir: PathBuf,
    /// The highest sequence number; the lock also serialises batches, which read what they replace.
    seq: Mutex<u64>,
    instance: Option<Instance>,
    _open: Pin<UpperId>,
}

impl Store {
    /// Makes a writable layer on `chain`; it holds the chain until it is removed.
    pub fn create_upper(&self, chain: Option<&ChainId>) -> Result<Upper> {
        let inner = &self.inner;
        inner.room.to_grow()?;
        let _serial = inner.catalog.lock();
        let base = self.tree(chain)?;
        let id = inner.numbers.upper(&inner.db)?;
        let dir = inner.upper_dir(id);
        std::fs::create_dir_all(&dir).map_err(Error::io("cannot make", &dir))?;
        failpoint::pass(Point::UpperDirMade)?;
        let mut batch = inner.db.batch();
        batch.put_upper(id, chain)?;
        batch.write(failpoint::synced(Point::SyncUpper))?;
        failpoint::pass(Point::UpperMade)?;
        Ok(Upper(Arc::new(Shared {
            store: self.clone(),
            id,
            base,
            dir,
            seq: Mutex::new(0),
            instance: Instance::of(&inner.root),
            _open: inner.open_uppers.pin(id),
        })))
    }

    /// Opens a writable layer. One open handle at a time is the caller's business.
    pub fn open_upper(&self, id: UpperId) -> Result<Upper> {
        let inner = &self.inner;
        let chain = inner
            .db
            .upper_base(id)?
            .ok_or_else(|| Error::not_found("upper", id.0))?;
        let base = self.tree(chain.as_ref())?;
        inner.sweep_data_files(id)?;
        let dir = inner.upper_dir(id);
        // After power loss the directory may be gone; its files were empty then.
        std::fs::create_dir_all(&dir).map_err(Error::io("cannot make", &dir))?;
        let seq = match inner.db.get(Family::Upper, &key(id, SEQUENCE, b""))? {
            None => 0,
            Some(bytes) => u64::from_be_bytes(
                bytes
                    .try_into()
                    .map_err(|_| Error::corrupt("sequence of upper", id.0))?,
            ),
        };
        Ok(Upper(Arc::new(Shared {
            store: self.clone(),
            id,
            base,
            dir,
            seq: Mutex::new(seq),
            instance: Instance::of(&inner.root),
            _open: inner.open_uppers.pin(id),
        })))
    }

    /// All writable layers with the chains that they are on.
    pub fn uppers(&self) -> Result<Vec<(UpperId, Option<ChainId>)>> {
        self.inner.db.uppers()
    }

    /// Removes a writable layer with its data.
    pub fn remove_upper(&self, id: UpperId) -> Result<()> {
        let inner = &self.inner;
        inner.room.to_shrink();
        let _serial = inner.catalog.lock();
        if inner.db.upper_base(id)?.is_none() {
            return Err(Error::not_found("upper", id.0));
        }
        inner.unswept.lock().remove(&id);
        let mut blobs: HashMap<BlobId, i64> = HashMap::new();
        for (_, inode) in inner.upper_inodes(id)? {
            if let Some(blob) = inode.content.blob() {
                *blobs.entry(blob).or_default() += 1;
            }
        }
        let mut batch = inner.db.batch();
        for (blob, times) in &blobs {
            add_count(&mut batch, blob, -times)?;
        }
        batch.delete_upper(id)?;
        batch.doom(Doomed::Upper(id))?;
        batch.write(failpoint::synced(Point::SyncUpperRemove))?;
        failpoint::pass(Point::UpperUnlisted)?;
        inner.blobs.delete_unheld(blobs.into_keys())?;
        inner.drop_upper_parts(id)
    }
}

impl Inner {
    /// The directory of an upper's data files.
    pub(crate) fn upper_dir(&self, id: UpperId) -> PathBuf {
        self.root.join("uppers").join(id.0.to_string())
    }

    /// Deletes the overrides and data files of an upper that is out of the catalog.
    pub(crate) fn drop_upper_parts(&self, id: UpperId) -> Result<()> {
        let dir = self.upper_dir(id);
        match std::fs::remove_dir_all(&dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io("cannot remove", &dir)(error));
            }
            _ => {}
        }
        failpoint::pass(Point::UpperDataGone)?;
        let mut batch = self.db.batch();
        batch.delete_prefix(Family::Upper, &id.0.to_be_bytes())?;
        batch.reprieve(Doomed::Upper(id))?;
        batch.write(Durability::Logged)
    }

    /// All overridden inodes of an upper, by number.
    pub(crate) fn upper_inodes(&self, id: UpperId) -> Result<Vec<(Ino, Inode)>> {
        let scan = self.db.scan(Family::Upper, &key(id, INODE, b""))?;
        collect(scan, "inode of upper", |key, value| {
            Some((key_ino(key)?, codec::decode_inode(value)?))
        })
    }
}

impl Upper {
    /// Its number.
    pub fn id(&self) -> UpperId {
        self.0.id
    }

    /// The tree below.
    pub fn base(&self) -> &Tree {
        &self.0.base
    }

    /// The store it is in.
    pub fn store(&self) -> &Store {
        &self.0.store
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.0.store.inner
    }

    /// An overridden inode.
    pub fn inode(&self, ino: Ino) -> Result<Option<Inode>> {
        let key = ino_key(self.0.id, INODE, ino);
        let inode = self
            .inner()
            .db
            .with(Family::Upper, &key, codec::decode_inode)?;
        inode
            .map(|i| i.ok_or_else(|| self.damaged(ino)))
            .transpose()
    }

    fn damaged(&self, ino: Ino) -> Error {
        Error::corrupt("inode of upper", format!("{} {}", self.0.id.0, ino.0))
    }

    /// Whether it has no more than so many records (of inodes, names and what else is kept of it), of so many bytes together.
    pub fn has_at_most(&self, records: usize, bytes: usize) -> Result<bool> {
        let all = self.0.id.0.to_be_bytes();
        let mut scan = self.inner().db.scan(Family::Upper, &all)?;
        let (mut records_left, mut bytes_left) = (records, bytes);
        while let Some((key, value)) = scan.next()? {
            let left = bytes_left.checked_sub(key.len() + value.len());
            match (records_left.checked_sub(1), left) {
                (Some(records), Some(bytes)) => (records_left, bytes_left) = (records, bytes),
                _ => return Ok(false),
            }
        }
        Ok(true)
    }

    /// A directory's overrides, by name.
    pub fn dir(&self, dir: Ino) -> Result<Vec<(FileName, Override)>> {
        let scan = self
            .inner()
            .db
            .scan(Family::Upper, &ino_key(self.0.id, ENTRY, dir))?;
        collect(scan, "entry of upper", |key, value| {
            Some((FileName::new(key.get(13..)?).ok()?, decode_override(value)?))
        })
    }

    /// All overridden inodes, by number.
    pub fn inodes(&self) -> Result<Vec<(Ino, Inode)>> {
        self.inner().upper_inodes(self.0.id)
    }

    /// All overridden entries, by directory and name.
    pub fn entries(&self) -> Result<Vec<(Ino, FileName, Override)>> {
        let scan = self
            .inner()
            .db
            .scan(Family::Upper, &key(self.0.id, ENTRY, b""))?;
        collect(scan, "entry of upper", |key, value| {
            Some((
                key_ino(key)?,
                FileName::new(key.get(13..)?).ok()?,
                decode_override(value)?,
            ))
        })
    }

    /// Unlinked inodes that were open when the upper was last used.
    pub fn orphans(&self) -> Result<Vec<Ino>> {
        let scan = self
            .inner()
            .db
            .scan(Family::Upper, &key(self.0.id, ORPHAN, b""))?;
        collect(scan, "orphan of upper", |key, _| key_ino(key))
    }

    /// Makes every batch written so far durable.
    pub fn sync(&self) -> Result<()> {
        if !failpoint::is_synced(Point::SyncUpperLog) {
            return Ok(());
        }
        self.inner().db.sync()
    }

    /// A fresh inode number.
    pub fn new_ino(&self) -> Result<Ino> {
        self.inner().numbers.ino(&self.inner().db)
    }

    /// The highest sequence number in use, for `Override::Entry::seq`.
    pub fn last_seq(&self) -> Result<u64> {
        Ok(*self.0.seq.lock())
    }

    /// The directory of the data files (which are in directories below it: see [`Upper::data_path`]).
    pub fn data_dir(&self) -> &Path {
        &self.0.dir
    }

    /// The data file of an inode: sharded by the number's last byte, so that no directory grows too large.
    pub fn data_path(&self, ino: Ino) -> PathBuf {
        data_path(&self.0.dir, ino)
    }

    /// Opens (`create`: makes, empty) the data file of an inode, read and write.
    pub fn data_file(&self, ino: Ino, create: bool) -> Result<File> {
        let path = self.data_path(ino);
        let mut options = OpenOptions::new();
        options
            .read(true)
            .write(true)
            .create(create)
            .truncate(create)
            .mode(0o600);
        match options.open(&path) {
            Err(error) if create && error.kind() == std::io::ErrorKind::NotFound => {
                let dir = path.parent().unwrap_or(&self.0.dir);
                std::fs::create_dir_all(dir).map_err(Error::io("cannot make", dir))?;
                options.open(&path).map_err(Error::io("cannot make", &path))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(Error::not_found("data file", path.display()))
            }
            opened => opened.map_err(Error::io("cannot open", &path)),
        }
    }
}

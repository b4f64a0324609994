//! Writable layers: overrides in the database, data in files. Knows what a record names, not what a file system
//! does with it (that is the union's).
//!
//! Keys: upper ‖ tag ‖ …: inodes by number, entries by directory and name, orphans by number, the highest sequence
//! number, and undo records by number (`undo.rs`).

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::blobs::add_count;
use crate::catalog::Doomed;
use crate::codec::{self, Decoder, Encoder};
use crate::db::{Batch, Durability, Family, Scan};
use crate::failpoint::{self, Point};
use crate::pins::Pin;
use crate::store::Inner;
use crate::undo::{self, Instance};
use crate::{
    BlobId, ChainId, Content, Error, FileName, Ino, Inode, Kind, Result, Store, Tree, UpperId,
    remove,
};

const INODE: u8 = 1;
const ENTRY: u8 = 2;
const ORPHAN: u8 = 3;
const SEQUENCE: u8 = 4;

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
    /// Keeps what an inode was before this batch, until its data file is synced: a loss of power takes it back to that.
    SetUndo(Ino, Box<Inode>),
    /// Its data file is synced, or gone.
    DropUndo(Ino),
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

/// A key of an upper's own.
pub(crate) fn key(id: UpperId, tag: u8, rest: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(5 + rest.len());
    key.extend_from_slice(&id.0.to_be_bytes());
    key.push(tag);
    key.extend_from_slice(rest);
    key
}

fn entry_key(id: UpperId, dir: Ino, name: &FileName) -> Vec<u8> {
    let mut key = key(id, ENTRY, &dir.0.to_be_bytes());
    key.extend_from_slice(name.as_bytes());
    key
}

/// The inode number in such a key.
pub(crate) fn key_ino(key: &[u8]) -> Option<Ino> {
    Some(Ino(u64::from_be_bytes(key.get(5..13)?.try_into().ok()?)))
}

/// Encodes an override.
pub(crate) fn encode_override(value: Override) -> Vec<u8> {
    let mut out = Encoder::new();
    match value {
        Override::Whiteout => out.byte(0),
        Override::Entry { ino, kind, seq } => out
            .byte(1)
            .uint(ino.0)
            .byte(codec::kind_byte(kind))
            .uint(seq),
    };
    out.finish()
}

/// Decodes an override.
pub(crate) fn decode_override(bytes: &[u8]) -> Option<Override> {
    let mut input = Decoder::new(bytes)?;
    let value = match input.byte()? {
        0 => Override::Whiteout,
        1 => Override::Entry {
            ino: Ino(input.uint()?),
            kind: codec::kind(input.byte()?)?,
            seq: input.uint()?,
        },
        _ => return None,
    };
    input.end()?;
    Some(value)
}

/// The data file of an inode below an upper's directory.
pub(crate) fn data_path(dir: &Path, ino: Ino) -> PathBuf {
    dir.join(format!("{:02x}", ino.0 & 0xff))
        .join(format!("{:x}", ino.0))
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

/// All of a scan, decoded.
pub(crate) fn collect<T>(
    mut scan: Scan<'_>,
    what: &'static str,
    decode: impl Fn(&[u8], &[u8]) -> Option<T>,
) -> Result<Vec<T>> {
    let mut all = Vec::new();
    while let Some((key, value)) = scan.next()? {
        all.push(decode(key, value).ok_or_else(|| Error::corrupt(what, key.escape_ascii()))?);
    }
    Ok(all)
}

/// Whether a change is part of a removal: of a name, or of an inode.
fn takes_away(op: &UpperOp) -> bool {
    match op {
        UpperOp::DropInode(_)
        | UpperOp::DropEntry(..)
        | UpperOp::SetEntry(_, _, Override::Whiteout)
        | UpperOp::SetOrphan(_)
        | UpperOp::DropOrphan(_)
        // An fsync ends with it, and must not fail on a full disk.
        | UpperOp::DropUndo(_) => true,
        UpperOp::SetInode(..) | UpperOp::SetEntry(..) | UpperOp::SetUndo(..) => false,
    }
}

/// How a batch is written.
#[derive(Default)]
pub struct By<'a> {
    /// What the writer knows of an inode's record (that there is none included), so that it need not be read again.
    /// `None`: it does not know. It must be right: blobs and data files are kept or removed by it.
    pub known: Option<Known<'a>>,
}

/// See [`By::known`].
type Known<'a> = &'a dyn Fn(Ino) -> Option<Option<Arc<Inode>>>;

/// What a batch does beside its own keys.
#[derive(Default)]
struct Effects {
    /// Contents of the inodes that the batch sets or drops, as of now.
    contents: HashMap<Ino, Option<Content>>,
    blobs: HashMap<BlobId, i64>,
    /// Data files that go, and whether their record must be durably gone first: it now has its content elsewhere.
    files: Vec<(Ino, bool)>,
    seq: u64,
}

impl Upper {
    /// Its number.
    pub fn id(&self) -> UpperId {
        self.0.id
    }

    pub(crate) fn instance(&self) -> Option<Instance> {
        self.0.instance
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
        let key = key(self.0.id, INODE, &ino.0.to_be_bytes());
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

    /// Whether it overrides nothing.
    pub fn is_empty(&self) -> Result<bool> {
        let all = self.0.id.0.to_be_bytes();
        Ok(self.inner().db.scan(Family::Upper, &all)?.next()?.is_none())
    }

    /// A directory's overrides, by name.
    pub fn dir(&self, dir: Ino) -> Result<Vec<(FileName, Override)>> {
        let scan = self
            .inner()
            .db
            .scan(Family::Upper, &key(self.0.id, ENTRY, &dir.0.to_be_bytes()))?;
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

    /// Writes a batch: all or nothing, in order, not synced; blobs that records begin or cease to name are counted, data
    /// files that none names any more are removed. On a full disk only what takes something away.
    pub fn write(&self, batch: &[UpperOp]) -> Result<()> {
        let nameless = self.write_by(batch, &By::default())?;
        self.remove_data_files(&nameless)
    }

    /// The same as `by` says; returns the inodes whose data files are to be removed, by [`Upper::remove_data_files`].
    pub fn write_by(&self, batch: &[UpperOp], by: &By<'_>) -> Result<Vec<Ino>> {
        if batch.iter().any(takes_away) {
            self.inner().room.to_unlink()?;
        } else if !batch.is_empty() {
            self.inner().room.to_grow()?;
        }
        let (db, id) = (&self.inner().db, self.0.id);
        let mut highest = self.0.seq.lock();
        let mut effects = Effects {
            seq: *highest,
            ..Effects::default()
        };
        let mut out = db.batch();
        for op in batch {
            match op {
                UpperOp::SetInode(ino, inode) => {
                    self.replace_content(*ino, Some(&inode.content), by, &mut effects)?;
                    let key = key(id, INODE, &ino.0.to_be_bytes());
                    out.put(Family::Upper, &key, &codec::encode_inode(inode))?;
                }
                UpperOp::DropInode(ino) => {
                    self.replace_content(*ino, None, by, &mut effects)?;
                    out.delete(Family::Upper, &key(id, INODE, &ino.0.to_be_bytes()))?;
                }
                UpperOp::SetEntry(dir, name, value) => {
                    if let Override::Entry { seq, .. } = value {
                        effects.seq = effects.seq.max(*seq);
                    }
                    out.put(
                        Family::Upper,
                        &entry_key(id, *dir, name),
                        &encode_override(*value),
                    )?;
                }
                UpperOp::DropEntry(dir, name) => {
                    out.delete(Family::Upper, &entry_key(id, *dir, name))?
                }
                UpperOp::SetOrphan(ino) => {
                    out.put(Family::Upper, &key(id, ORPHAN, &ino.0.to_be_bytes()), b"")?
                }
                UpperOp::DropOrphan(ino) => {
                    out.delete(Family::Upper, &key(id, ORPHAN, &ino.0.to_be_bytes()))?
                }
                UpperOp::SetUndo(ino, before) if failpoint::is_synced(Point::SyncUndo) => {
                    undo::put(&mut out, id, self.0.instance, (*ino, before))?
                }
                UpperOp::SetUndo(..) => {}
                UpperOp::DropUndo(ino) => undo::delete(&mut out, id, *ino)?,
            }
        }
        if effects.seq != *highest {
            out.put(
                Family::Upper,
                &key(id, SEQUENCE, b""),
                &effects.seq.to_be_bytes(),
            )?;
        }
        self.commit(out, &effects)?;
        *highest = effects.seq;
        Ok(effects.files.into_iter().map(|(ino, _)| ino).collect())
    }

    /// Removes data files that no record names any more.
    pub fn remove_data_files(&self, inos: &[Ino]) -> Result<()> {
        for ino in inos {
            remove::remove_file_if_there(&self.data_path(*ino))?;
        }
        Ok(())
    }

    /// Notes what blobs and files it means that an inode gets another content, or none.
    fn replace_content(
        &self,
        ino: Ino,
        to: Option<&Content>,
        by: &By<'_>,
        effects: &mut Effects,
    ) -> Result<()> {
        let before = match effects.contents.remove(&ino) {
            Some(content) => content,
            None => match by.known.and_then(|known| known(ino)) {
                Some(inode) => inode.map(|inode| inode.content.clone()),
                None => self.inode(ino)?.map(|inode| inode.content),
            },
        };
        if let Some(blob) = before.as_ref().and_then(Content::blob) {
            *effects.blobs.entry(blob).or_default() -= 1;
        }
        if let Some(blob) = to.and_then(Content::blob) {
            *effects.blobs.entry(blob).or_default() += 1;
        }
        if before.as_ref().is_some_and(Content::has_data_file)
            && !to.is_some_and(Content::has_data_file)
        {
            effects.files.push((ino, to.is_some()));
        }
        if to.is_some_and(Content::has_data_file) {
            effects.files.retain(|(file, _)| *file != ino);
        }
        effects.contents.insert(ino, to.cloned());
        Ok(())
    }

    fn commit(&self, mut out: Batch<'_>, effects: &Effects) -> Result<()> {
        for (blob, delta) in effects.blobs.iter().filter(|(_, delta)| **delta != 0) {
            add_count(&mut out, blob, *delta)?;
        }
        out.write(Durability::Logged)?;
        failpoint::pass(Point::UpperWritten)?;
        let dropped: Vec<BlobId> = effects
            .blobs
            .iter()
            .filter(|(_, d)| **d < 0)
            .map(|(blob, _)| *blob)
            .collect();
        if !dropped.is_empty() {
            self.inner().blobs.delete_unheld(dropped)?;
        }
        if effects.files.iter().any(|(_, durably)| *durably) {
            // After power loss the old record may be back: its file must not be gone then.
            self.sync()?;
        }
        Ok(())
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

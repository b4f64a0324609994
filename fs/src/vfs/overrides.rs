//! The upper's overrides in memory, bounded, written through. Never holds anything that the store has not.
//!
//! Most uppers have none at first, or few, which are read at once. So as long as nothing had to be dropped all of them are here,
//! and what is not here is not overridden: what programs only read never asks the store for an override.
//!
//! Locks: `inodes` and `dirs` are leaves; neither is held while the other is taken or the store is read.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nacre_store::{Content, FileName, Ino, Inode, Override, Upper, UpperOp};
use parking_lot::Mutex;

use super::recent::Recent;
use crate::errno::{Result, of_store};

/// Overridden inodes kept in memory (about 300 bytes each), knowing that one is not overridden included.
const INODES_MAX: usize = 1 << 17;

/// Bytes of a small file in its record that weigh as much as the rest of the record.
const INLINE_BYTES: usize = 256;

/// An upper of so many records and bytes (a few milliseconds) is read at once.
const READ_AT_ONCE: usize = 4096;
const READ_AT_ONCE_BYTES: usize = 2 << 20;

/// Overridden names kept in memory (about 100 bytes each), over all directories.
const NAMES_MAX: usize = 1 << 20;

fn weight(inode: Option<&Inode>) -> usize {
    match inode.map(|inode| &inode.content) {
        Some(Content::Inline(bytes)) => 1 + bytes.len() / INLINE_BYTES,
        Some(_) | None => 1,
    }
}

/// A directory's overrides, by name.
pub(crate) type Names = Arc<BTreeMap<FileName, Override>>;

/// What the upper overrides, as far as it was asked for lately.
pub(crate) struct Overrides {
    inodes: Mutex<Recent<Ino, Option<Arc<Inode>>>>,
    dirs: Mutex<Recent<Ino, Names>>,
    /// Batches applied so far: what was read from the store is kept only if none came in between.
    applied: AtomicU64,
    /// All that the upper had was read when this began.
    is_complete: bool,
}

impl Overrides {
    /// Those of an upper, if they are few; of any other everything is read when it is asked for, and so is that of one with a damaged
    /// record: only who asks for that is told.
    pub(crate) fn of(upper: &Upper) -> Self {
        match Self::read(upper) {
            Ok(all) => all,
            Err(error) => {
                tracing::warn!(upper = upper.id().0, %error, "not read at once");
                Self {
                    is_complete: false,
                    ..Self::none()
                }
            }
        }
    }

    fn read(upper: &Upper) -> nacre_store::Result<Self> {
        let mut all = Self::none();
        all.is_complete = upper.has_at_most(READ_AT_ONCE, READ_AT_ONCE_BYTES)?;
        if !all.is_complete {
            return Ok(all);
        }
        let inodes = all.inodes.get_mut();
        for (ino, inode) in upper.inodes()? {
            let weight = weight(Some(&inode));
            inodes.insert(ino, Some(Arc::new(inode)), weight);
        }
        let mut dirs = BTreeMap::<Ino, BTreeMap<FileName, Override>>::new();
        for (dir, name, entry) in upper.entries()? {
            dirs.entry(dir).or_default().insert(name, entry);
        }
        for (dir, names) in dirs {
            let weight = names.len().saturating_add(1);
            all.dirs.get_mut().insert(dir, Arc::new(names), weight);
        }
        Ok(all)
    }

    /// Those of a tree without an upper.
    pub(crate) fn none() -> Self {
        Self {
            inodes: Mutex::new(Recent::new(INODES_MAX)),
            dirs: Mutex::new(Recent::new(NAMES_MAX)),
            applied: AtomicU64::new(0),
            is_complete: true,
        }
    }

    /// Returns an inode's override.
    pub(crate) fn inode(&self, upper: &Upper, ino: Ino) -> Result<Option<Arc<Inode>>> {
        if let Some(known) = self.known(ino) {
            return Ok(known);
        }
        let before = self.applied.load(Ordering::Acquire);
        let read = upper.inode(ino).map_err(|e| of_store(&e))?.map(Arc::new);
        let mut inodes = self.inodes.lock();
        if self.applied.load(Ordering::Acquire) == before {
            inodes.insert(ino, read.clone(), weight(read.as_deref()));
        }
        Ok(read)
    }

    /// What is known of an inode's override without reading it.
    pub(crate) fn known(&self, ino: Ino) -> Option<Option<Arc<Inode>>> {
        let mut inodes = self.inodes.lock();
        if let Some(known) = inodes.get(&ino) {
            return Some(known.clone());
        }
        (self.is_complete && inodes.is_whole()).then_some(None)
    }

    /// Returns a directory's overrides.
    pub(crate) fn dir(&self, upper: &Upper, dir: Ino) -> Result<Names> {
        let mut dirs = self.dirs.lock();
        if let Some(known) = dirs.get(&dir) {
            return Ok(known.clone());
        }
        if self.is_complete && dirs.is_whole() {
            return Ok(Names::default());
        }
        drop(dirs);
        let before = self.applied.load(Ordering::Acquire);
        let read = upper.dir(dir).map_err(|e| of_store(&e))?;
        let read: Names = Arc::new(read.into_iter().collect());
        let mut dirs = self.dirs.lock();
        if self.applied.load(Ordering::Acquire) == before {
            dirs.insert(dir, read.clone(), read.len().saturating_add(1));
        }
        Ok(read)
    }

    /// Follows a batch that the store has taken. One batch at a time is the caller's business.
    pub(crate) fn apply(&self, batch: Vec<UpperOp>) {
        self.applied.fetch_add(1, Ordering::AcqRel);
        for op in batch {
            match op {
                UpperOp::SetInode(ino, inode) => {
                    let weight = weight(Some(&*inode));
                    let inode: Arc<Inode> = Arc::from(inode);
                    self.inodes.lock().insert(ino, Some(inode), weight);
                }
                UpperOp::DropInode(ino) => self.inodes.lock().insert(ino, None, 1),
                UpperOp::SetEntry(dir, name, entry) => self.set_entry(dir, name, entry),
                UpperOp::DropEntry(dir, name) => {
                    if let Some(names) = self.dirs.lock().get(&dir) {
                        Arc::make_mut(names).remove(&name);
                    }
                }
                UpperOp::SetOrphan(_)
                | UpperOp::DropOrphan(_)
                | UpperOp::SetUndo(..)
                | UpperOp::DropUndo(_) => {}
            }
        }
    }

    /// A directory that is not in memory is left so, unless all are: it is read as a whole when it is asked for.
    fn set_entry(&self, dir: Ino, name: FileName, entry: Override) {
        let mut dirs = self.dirs.lock();
        let Some(names) = dirs.get(&dir) else {
            if self.is_complete && dirs.is_whole() {
                dirs.insert(dir, Arc::new(BTreeMap::from([(name, entry)])), 2);
            }
            return;
        };
        let added = Arc::make_mut(names).insert(name, entry).is_none();
        if added {
            dirs.grow(&dir, 1);
        }
    }
}

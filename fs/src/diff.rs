//! What changed between two trees, by path; of an upper and its base in time that follows the changes.
//!
//! The rules are docker's (it compares trees by path), but for one: any extended attribute counts, not only
//! `security.capability`, and content that is another counts even if its size and time are the same.

use std::collections::BTreeMap;
use std::sync::Arc;

use nacre_store::{DirList, FileName, Ino, Inode, Override};

/// A tree to be compared: a store's, or a [`Snapshot`] over one.
pub trait Tree {
    /// The inode.
    fn inode(&self, ino: Ino) -> nacre_store::Result<Option<Arc<Inode>>>;
    /// A directory's entries, sorted by name.
    fn dir(&self, ino: Ino) -> nacre_store::Result<Option<Arc<DirList>>>;
}

impl Tree for nacre_store::Tree {
    fn inode(&self, ino: Ino) -> nacre_store::Result<Option<Arc<Inode>>> {
        nacre_store::Tree::inode(self, ino)
    }

    fn dir(&self, ino: Ino) -> nacre_store::Result<Option<Arc<DirList>>> {
        nacre_store::Tree::dir(self, ino)
    }
}

/// What happened to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ChangeKind {
    /// It is another, has other attributes, or is a directory in which something changed (docker's `C`).
    Modified,
    /// It is new (`A`).
    Added,
    /// It is gone, with all that was in it (`D`).
    Deleted,
}

/// One changed path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Absolute: `/etc/x`.
    pub path: Vec<u8>,
    /// What happened.
    pub kind: ChangeKind,
    /// The inode there now; of a deleted path the one that was there.
    pub ino: Ino,
}

/// An upper at one moment over its base: a tree. What the runtime put there (`init`) is not in it.
pub struct Snapshot<'a> {
    base: &'a dyn Tree,
    inodes: BTreeMap<Ino, Arc<Inode>>,
    entries: BTreeMap<Ino, BTreeMap<FileName, Override>>,
}

impl<'a> Snapshot<'a> {
    /// Takes all of an upper's overrides. Records of files with a data file must have its size and times filled in.
    pub fn new(
        base: &'a dyn Tree,
        inodes: Vec<(Ino, Inode)>,
        entries: Vec<(Ino, FileName, Override)>,
    ) -> Self {
        let _ = (base, inodes, entries);
        todo!()
    }

    /// Returns what the upper changed, sorted by path; O(changes and renamed subtrees).
    pub fn changes(&self) -> nacre_store::Result<Vec<Change>> {
        todo!()
    }
}

/// Returns what differs between two trees, sorted by path; O(trees).
pub fn between(old: &dyn Tree, new: &dyn Tree) -> nacre_store::Result<Vec<Change>> {
    let _ = (old, new);
    todo!()
}

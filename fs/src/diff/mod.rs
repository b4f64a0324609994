//! What changed between two trees, by path; of an upper and its base in time that follows the changes.
//!
//! The rules are docker's, which compares trees by path: a renamed directory is gone from its old place and new at its
//! new one. Two things count that docker overlooks: any extended attribute, not only `security.capability`, and
//! content that is another though its size and time are the same.
//!
//! ```text
//! snapshot    an upper at one moment over its base, as a tree
//! walk        two trees side by side: every path at which they may differ
//! compare     when two inodes count as different
//! ```

mod compare;
mod snapshot;
mod walk;

pub use snapshot::Snapshot;
pub(crate) use walk::{Step, Walk};

use std::sync::Arc;

use nacre_store::{DirEntry, DirList, Error, FileName, Ino, Inode, Result};

/// A tree to be compared: a store's, or a [`Snapshot`] over one.
pub trait Tree {
    /// The inode.
    fn inode(&self, ino: Ino) -> Result<Option<Arc<Inode>>>;

    /// A directory's entries, sorted by name.
    fn dir(&self, ino: Ino) -> Result<Option<Arc<DirList>>>;

    /// What a name in a directory leads to.
    fn child(&self, dir: Ino, name: &FileName) -> Result<Option<DirEntry>> {
        let list = self.dir(dir)?;
        Ok(list.and_then(|list| list.find(name).map(|(_, entry)| entry.clone())))
    }
}

impl Tree for nacre_store::Tree {
    fn inode(&self, ino: Ino) -> Result<Option<Arc<Inode>>> {
        nacre_store::Tree::inode(self, ino)
    }

    fn dir(&self, ino: Ino) -> Result<Option<Arc<DirList>>> {
        nacre_store::Tree::dir(self, ino)
    }
}

/// Returns an inode that an entry or a link names.
pub(crate) fn named_inode(tree: &dyn Tree, ino: Ino) -> Result<Arc<Inode>> {
    tree.inode(ino)?.ok_or_else(|| Error::Corrupt {
        what: "inode",
        name: ino.0.to_string(),
    })
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

/// Returns what differs between two trees, sorted by path; O(trees).
pub fn between(old: &dyn Tree, new: &dyn Tree) -> Result<Vec<Change>> {
    Ok(changes(&Walk::full(old, new)?))
}

/// Returns the changes that docker would list, sorted by path.
fn changes(walk: &Walk) -> Vec<Change> {
    let mut changes = Vec::new();
    for (at, step) in walk.steps().iter().enumerate() {
        let (Some(kind), Some(ino)) = (step.listed(), step.new.or(step.old)) else {
            continue;
        };
        let path = walk.path(at);
        if path.is_empty() {
            continue; // the root is never listed
        }
        let path = path
            .iter()
            .flat_map(|name| [b"/".as_slice(), name.as_bytes()]);
        changes.push(Change {
            path: path.flatten().copied().collect(),
            kind,
            ino,
        });
    }
    changes.sort_by(|one, other| one.path.cmp(&other.path));
    changes
}

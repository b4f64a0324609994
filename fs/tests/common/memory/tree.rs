//! Trees in and out: a store's tree as the base, the base and the upper as diff and commit take them.

use std::sync::Arc;

use nacre_fs::diff::{Snapshot, Tree};
use nacre_store::{BlobId, Content, DirList, Ino, Inode, Kind};

use super::Memory;
use crate::common::model::Model;

impl Memory {
    /// Makes a tree the base, with an empty upper.
    pub fn over_tree(tree: &dyn Tree, read: &dyn Fn(&BlobId) -> Vec<u8>, now: i64) -> Self {
        let mut memory = Self::over(&Model::new());
        memory.base_inodes.clear();
        memory.base_dirs.clear();
        memory.now = now;
        let mut pending = vec![Ino::ROOT];
        while let Some(ino) = pending.pop() {
            let inode = tree.inode(ino).unwrap().unwrap();
            if let Content::Blob(blob) | Content::Sparse { blob, .. } = &inode.content {
                memory.blobs.insert(*blob, read(blob));
            }
            if inode.kind == Kind::Dir {
                let list = tree.dir(ino).unwrap().unwrap();
                pending.extend(list.entries.iter().map(|entry| entry.ino));
                memory.base_dirs.insert(ino, list);
            }
            memory.base_inodes.insert(ino, inode);
        }
        memory.next_ino += memory.base_inodes.keys().map(|ino| ino.0).max().unwrap();
        memory
    }

    /// The base alone, as a tree.
    pub fn base(&self) -> Base<'_> {
        Base(self)
    }

    /// The base alone, as layers with an empty upper.
    pub fn without_upper(&self) -> Self {
        let mut base = self.clone();
        base.inodes.clear();
        base.dirs.clear();
        base.held = None;
        base
    }

    /// The upper over the base, as diff and commit take it.
    pub fn snapshot<'a>(&self, base: &'a dyn Tree) -> Snapshot<'a> {
        let inodes = self.inodes.keys().map(|ino| (*ino, self.settled(*ino)));
        let entries = self.dirs.iter().flat_map(|(dir, entries)| {
            entries
                .iter()
                .map(|(name, over)| (*dir, name.clone(), *over))
        });
        Snapshot::new(base, inodes.collect(), entries.collect())
    }
}

/// The base of a [`Memory`].
pub struct Base<'a>(&'a Memory);

impl Tree for Base<'_> {
    fn inode(&self, ino: Ino) -> nacre_store::Result<Option<Arc<Inode>>> {
        Ok(self.0.base_inodes.get(&ino).cloned())
    }

    fn dir(&self, ino: Ino) -> nacre_store::Result<Option<Arc<DirList>>> {
        Ok(self.0.base_dirs.get(&ino).cloned())
    }
}

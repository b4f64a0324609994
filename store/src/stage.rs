//! A tree that is being changed: what differs from the tree below, in memory, until it is written as a layer. Knows
//! links and counts; what a layer archive means by its entries is `apply.rs`.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use crate::codec;
use crate::db::{Batch, Durability, Family};
use crate::failpoint::{self, Point};
use crate::store::Inner;
use crate::tree::{bare_dir, put_dir, version_key};
use crate::{Content, DirEntry, Error, FileName, Ino, Inode, Kind, LayerNo, Link, Result, Tree};

/// Bytes of one batch of the new layer.
const BATCH_BYTES: usize = 1 << 20;

type Entries = BTreeMap<FileName, (Ino, Kind)>;

/// The tree being changed.
pub(crate) struct Stage<'a> {
    store: &'a Inner,
    tree: &'a Tree,
    layer: LayerNo,
    inodes: HashMap<Ino, Inode>,
    dirs: HashMap<Ino, Entries>,
    /// Inodes without a name left. The tree below has them still.
    gone: HashSet<Ino>,
}

impl<'a> Stage<'a> {
    /// Starts from `tree`; the changes become `layer`.
    pub(crate) fn new(store: &'a Inner, tree: &'a Tree, layer: LayerNo) -> Result<Stage<'a>> {
        let mut stage = Stage {
            store,
            tree,
            layer,
            inodes: HashMap::new(),
            dirs: HashMap::new(),
            gone: HashSet::new(),
        };
        if tree.layers().is_empty() {
            stage.inodes.insert(Ino::ROOT, bare_dir(layer));
            stage.dirs.insert(Ino::ROOT, Entries::new());
        }
        Ok(stage)
    }

    /// Looks a name up.
    pub(crate) fn find(&self, dir: Ino, name: &FileName) -> Result<Option<(Ino, Kind)>> {
        if let Some(entries) = self.dirs.get(&dir) {
            return Ok(entries.get(name).copied());
        }
        Ok(self
            .lower_dir(dir)?
            .find(name)
            .map(|(_, entry)| (entry.ino, entry.kind)))
    }

    fn lower_dir(&self, dir: Ino) -> Result<Arc<crate::DirList>> {
        self.tree
            .dir(dir)?
            .ok_or_else(|| Error::corrupt("directory", dir.0))
    }

    /// Reads an inode.
    pub(crate) fn with_inode<T>(&self, ino: Ino, read: impl FnOnce(&Inode) -> T) -> Result<T> {
        match self.inodes.get(&ino) {
            Some(inode) => Ok(read(inode)),
            None => Ok(read(&*self.lower_inode(ino)?)),
        }
    }

    fn lower_inode(&self, ino: Ino) -> Result<Arc<Inode>> {
        self.tree
            .inode(ino)?
            .ok_or_else(|| Error::corrupt("inode", ino.0))
    }

    /// An inode to be changed.
    pub(crate) fn inode_mut(&mut self, ino: Ino) -> Result<&mut Inode> {
        if !self.inodes.contains_key(&ino) {
            let inode = Inode::clone(&*self.lower_inode(ino)?);
            self.inodes.insert(ino, inode);
        }
        self.inodes
            .get_mut(&ino)
            .ok_or_else(|| Error::corrupt("inode", ino.0))
    }

    fn entries_mut(&mut self, dir: Ino) -> Result<&mut Entries> {
        if !self.dirs.contains_key(&dir) {
            let lower = self.lower_dir(dir)?;
            let entries = lower
                .entries
                .iter()
                .map(|e| (e.name.clone(), (e.ino, e.kind)))
                .collect();
            self.dirs.insert(dir, entries);
        }
        self.dirs
            .get_mut(&dir)
            .ok_or_else(|| Error::corrupt("directory", dir.0))
    }

    /// The names in a directory.
    pub(crate) fn names(&self, dir: Ino) -> Result<Vec<(FileName, Ino, Kind)>> {
        match self.dirs.get(&dir) {
            Some(entries) => Ok(entries
                .iter()
                .map(|(name, (ino, kind))| (name.clone(), *ino, *kind))
                .collect()),
            None => Ok(self
                .lower_dir(dir)?
                .entries
                .iter()
                .map(|e| (e.name.clone(), e.ino, e.kind))
                .collect()),
        }
    }

    /// Adds a new inode under a free name.
    pub(crate) fn create(&mut self, dir: Ino, name: &FileName, mut inode: Inode) -> Result<Ino> {
        let ino = self.store.numbers.ino(&self.store.db)?;
        if inode.kind == Kind::Dir {
            inode.content = Content::Dir {
                pages: self.layer,
                subdirs: 0,
            };
            self.dirs.insert(ino, Entries::new());
        }
        inode.links = vec![Link {
            parent: dir,
            name: name.clone(),
        }];
        self.entries_mut(dir)?
            .insert(name.clone(), (ino, inode.kind));
        self.inodes.insert(ino, inode);
        Ok(ino)
    }

    /// Adds a free name to an inode that has one already.
    pub(crate) fn link(&mut self, ino: Ino, dir: Ino, name: &FileName) -> Result<()> {
        let inode = self.inode_mut(ino)?;
        inode.links.push(Link {
            parent: dir,
            name: name.clone(),
        });
        let kind = inode.kind;
        self.entries_mut(dir)?.insert(name.clone(), (ino, kind));
        Ok(())
    }

    /// Removes a name with all that is below it; names elsewhere of files below lose a link.
    pub(crate) fn remove(&mut self, dir: Ino, name: &FileName) -> Result<()> {
        let Some((ino, kind)) = self.entries_mut(dir)?.remove(name) else {
            return Ok(());
        };
        let mut gone = vec![(dir, name.clone(), ino, kind)];
        while let Some((dir, name, ino, kind)) = gone.pop() {
            if kind == Kind::Dir {
                for (name, child, kind) in self.names(ino)? {
                    gone.push((ino, name, child, kind));
                }
                self.dirs.remove(&ino);
                self.inodes.remove(&ino);
                self.gone.insert(ino);
            } else if self.with_inode(ino, |inode| inode.links.len() > 1)? {
                self.inode_mut(ino)?
                    .links
                    .retain(|link| link.parent != dir || link.name != name);
            } else {
                self.inodes.remove(&ino);
                self.gone.insert(ino);
            }
        }
        Ok(())
    }

    /// Says whether an inode has lost its last name.
    pub(crate) fn is_gone(&self, ino: Ino) -> bool {
        self.gone.contains(&ino)
    }

    /// Removes all names of a directory.
    pub(crate) fn clear(&mut self, dir: Ino) -> Result<()> {
        for (name, _, _) in self.names(dir)? {
            self.remove(dir, &name)?;
        }
        Ok(())
    }

    /// Writes the changes under the layer's number, logged but not synced.
    pub(crate) fn write(mut self) -> Result<()> {
        let mut dirs: Vec<(Ino, Entries)> = self.dirs.drain().collect();
        dirs.sort_unstable_by_key(|(ino, _)| *ino);
        let db = &self.store.db;
        let mut batch = db.batch();
        for (ino, entries) in dirs {
            let subdirs = entries
                .values()
                .filter(|(_, kind)| *kind == Kind::Dir)
                .count();
            let subdirs = u32::try_from(subdirs).map_err(|_| Error::corrupt("directory", ino.0))?;
            self.inode_mut(ino)?.content = Content::Dir {
                pages: self.layer,
                subdirs,
            };
            let entries =
                entries
                    .into_iter()
                    .map(|(name, (ino, kind))| DirEntry { name, ino, kind });
            // In the batch of its pages: what is interrupted here must be found to be deleted.
            batch.put(Family::Changed, &changed_key(self.layer, ino), b"")?;
            put_dir(&mut batch, ino, self.layer, entries)?;
            batch = full_written(batch, self.store)?;
        }
        let mut inodes: Vec<(Ino, Inode)> = self.inodes.drain().collect();
        inodes.sort_unstable_by_key(|(ino, _)| *ino);
        for (ino, inode) in inodes {
            batch.put(
                Family::Inodes,
                &version_key(ino, self.layer),
                &codec::encode_inode(&inode),
            )?;
            batch.put(Family::Changed, &changed_key(self.layer, ino), b"")?;
            batch = full_written(batch, self.store)?;
        }
        batch.write(Durability::Logged)
    }
}

/// Writes a batch that is full.
fn full_written<'a>(batch: Batch<'a>, store: &'a Inner) -> Result<Batch<'a>> {
    if batch.bytes() < BATCH_BYTES {
        return Ok(batch);
    }
    store.room.to_grow()?;
    batch.write(Durability::Logged)?;
    failpoint::pass(Point::PublishHalfApplied)?;
    Ok(store.db.batch())
}

/// The key of what a layer versioned.
pub(crate) fn changed_key(layer: LayerNo, ino: Ino) -> [u8; 12] {
    let mut key = [0; 12];
    key[..4].copy_from_slice(&layer.0.to_be_bytes());
    key[4..].copy_from_slice(&ino.0.to_be_bytes());
    key
}

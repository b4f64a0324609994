//! An upper at one moment over its base, as a tree. What the runtime put there is not in it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use nacre_store::{DirEntry, DirList, FileName, Ino, Inode, Override, Result};

use super::walk::{Names, Walk};
use super::{Change, Tree, changes};

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
        let (init, own): (Vec<_>, Vec<_>) = inodes.into_iter().partition(|(_, inode)| inode.init);
        let init: BTreeSet<Ino> = init.into_iter().map(|(ino, _)| ino).collect();
        let mut snapshot = Self {
            base,
            inodes: own
                .into_iter()
                .map(|(ino, inode)| (ino, Arc::new(inode)))
                .collect(),
            entries: BTreeMap::new(),
        };
        for (dir, name, over) in entries {
            let of_runtime = matches!(over, Override::Entry { ino, .. } if init.contains(&ino));
            if !of_runtime && !init.contains(&dir) {
                snapshot.entries.entry(dir).or_default().insert(name, over);
            }
        }
        snapshot
    }

    /// Returns what the upper changed, sorted by path; O(changes and renamed subtrees).
    pub fn changes(&self) -> Result<Vec<Change>> {
        Ok(changes(&self.walk()?))
    }

    /// Walks the base and this side by side, where they may differ.
    pub(crate) fn walk(&self) -> Result<Walk> {
        Walk::within(self.base, self, &self.touched()?)
    }

    /// The tree below.
    pub(crate) fn base(&self) -> &dyn Tree {
        self.base
    }

    /// Returns the names at which something was overridden, and those on the way there, by directory.
    fn touched(&self) -> Result<Names> {
        let mut names = Names::new();
        let mut climbed = BTreeSet::new();
        for (dir, entries) in &self.entries {
            let own = names.entry(*dir).or_default();
            own.extend(entries.keys().cloned());
            self.climb(*dir, &mut names, &mut climbed)?;
        }
        for inode in self.inodes.values() {
            for link in &inode.links {
                names
                    .entry(link.parent)
                    .or_default()
                    .insert(link.name.clone());
                self.climb(link.parent, &mut names, &mut climbed)?;
            }
        }
        Ok(names)
    }

    /// Notes the names from the root to a directory. One that hangs nowhere (it is an orphan) is noted in vain.
    fn climb(&self, dir: Ino, names: &mut Names, climbed: &mut BTreeSet<Ino>) -> Result<()> {
        let mut at = dir;
        while at != Ino::ROOT && climbed.insert(at) {
            let inode = self.inode(at)?;
            let Some(link) = inode.as_ref().and_then(|inode| inode.links.first()) else {
                return Ok(());
            };
            names
                .entry(link.parent)
                .or_default()
                .insert(link.name.clone());
            at = link.parent;
        }
        Ok(())
    }
}

impl Tree for Snapshot<'_> {
    fn inode(&self, ino: Ino) -> Result<Option<Arc<Inode>>> {
        match self.inodes.get(&ino) {
            Some(inode) => Ok(Some(Arc::clone(inode))),
            None => self.base.inode(ino),
        }
    }

    fn dir(&self, ino: Ino) -> Result<Option<Arc<DirList>>> {
        let base = self.base.dir(ino)?;
        let Some(overrides) = self.entries.get(&ino) else {
            // A directory that the upper made and nothing was put into has no list anywhere.
            let is_own = base.is_none() && self.inodes.contains_key(&ino);
            return Ok(if is_own { Some(Arc::default()) } else { base });
        };
        let below = base.iter().flat_map(|list| list.entries.iter());
        let mut entries: Vec<DirEntry> = below
            .filter(|entry| !overrides.contains_key(&entry.name))
            .cloned()
            .collect();
        entries.extend(
            overrides
                .iter()
                .filter_map(|(name, over)| entry(name, over)),
        );
        entries.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(Some(Arc::new(DirList { entries })))
    }

    fn child(&self, dir: Ino, name: &FileName) -> Result<Option<DirEntry>> {
        match self
            .entries
            .get(&dir)
            .and_then(|overrides| overrides.get(name))
        {
            Some(over) => Ok(entry(name, over)),
            None => self.base.child(dir, name),
        }
    }
}

/// Returns the entry that an override is; a whiteout is none.
fn entry(name: &FileName, over: &Override) -> Option<DirEntry> {
    match over {
        Override::Entry { ino, kind, .. } => Some(DirEntry {
            name: name.clone(),
            ino: *ino,
            kind: *kind,
        }),
        Override::Whiteout => None,
    }
}

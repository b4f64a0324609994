//! Names: what a name in a directory leads to, and where a directory hangs.

use std::sync::Arc;

use nacre_store::{FileName, Ino, Inode, Kind, Override};

use super::{Errno, Layers, getattr};

/// Directories above a directory. Linux bounds paths, not depth; this only ends a climb through a damaged store.
const DEPTH_MAX: usize = 1 << 20;

/// What a name leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Child {
    /// The inode.
    pub ino: Ino,
    /// Its kind.
    pub kind: Kind,
}

/// Returns what `name` leads to in `dir`: the upper's override, else the base's entry. `Ok(None)`: no such name;
/// `NoEnt`: the directory itself is removed; `NotDir`: it is none.
pub fn child(layers: &dyn Layers, dir: Ino, name: &FileName) -> Result<Option<Child>, Errno> {
    live_dir(layers, dir)?;
    match layers.upper_dir(dir)?.get(name) {
        Some(Override::Entry { ino, kind, .. }) => Ok(Some(Child {
            ino: *ino,
            kind: *kind,
        })),
        Some(Override::Whiteout) => Ok(None),
        None => {
            let base = layers.base_dir(dir)?;
            let found = base.as_ref().and_then(|list| list.find(name));
            Ok(found.map(|(_, entry)| Child {
                ino: entry.ino,
                kind: entry.kind,
            }))
        }
    }
}

/// Returns the directory that holds directory `dir`: its `..` (the root's is itself).
pub fn parent(layers: &dyn Layers, dir: Ino) -> Result<Ino, Errno> {
    let inode = live_dir(layers, dir)?;
    Ok(inode.links.first().map_or(Ino::ROOT, |link| link.parent))
}

/// Returns the record of a directory that is in the tree.
pub(super) fn live_dir(layers: &dyn Layers, dir: Ino) -> Result<Arc<Inode>, Errno> {
    let inode = getattr::inode(layers, dir)?;
    if inode.kind != Kind::Dir {
        return Err(Errno::NotDir);
    }
    // The base still lists what a removed directory of the image held: nobody may see it there.
    if getattr::is_removed(dir, &inode) {
        return Err(Errno::NoEnt);
    }
    Ok(inode)
}

/// Returns whether `upper` is `dir` or above it.
pub(super) fn is_above(layers: &dyn Layers, upper: Ino, dir: Ino) -> Result<bool, Errno> {
    let mut at = dir;
    for _ in 0..DEPTH_MAX {
        if at == upper {
            return Ok(true);
        }
        if at == Ino::ROOT {
            return Ok(false);
        }
        at = parent(layers, at)?;
    }
    Err(Errno::Io)
}

/// Returns whether a directory has no visible entry.
pub(super) fn is_empty(layers: &dyn Layers, dir: Ino) -> Result<bool, Errno> {
    let upper = layers.upper_dir(dir)?;
    if upper
        .values()
        .any(|over| matches!(over, Override::Entry { .. }))
    {
        return Ok(false);
    }
    let base = layers.base_dir(dir)?;
    Ok(base.is_none_or(|list| {
        list.entries
            .iter()
            .all(|entry| upper.contains_key(&entry.name))
    }))
}

//! Names: what a name in a directory leads to, and where a directory hangs.

use nacre_store::{FileName, Ino, Kind};

use super::{Errno, Layers};

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
    let _ = (layers, dir, name);
    todo!()
}

/// Returns the directory that holds directory `dir`: its `..` (the root's is itself).
pub fn parent(layers: &dyn Layers, dir: Ino) -> Result<Ino, Errno> {
    let _ = (layers, dir);
    todo!()
}

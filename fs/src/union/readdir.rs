//! A directory's entries in an order that never changes, each with a cookie that holds for ever.

use std::ops::ControlFlow;

use nacre_store::{Ino, Kind};

use super::{Errno, Layers};

/// One entry as readdir answers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Item<'a> {
    /// The name; `.` and `..` are among them.
    pub name: &'a [u8],
    /// The inode.
    pub ino: Ino,
    /// Its kind.
    pub kind: Kind,
    /// Where the next call goes on after this entry.
    pub cookie: u64,
}

/// Shows the entries of `dir` behind `after` (0: from the start), until `visit` breaks.
pub fn visit(
    layers: &dyn Layers,
    dir: Ino,
    after: u64,
    visit: &mut dyn FnMut(Item<'_>) -> ControlFlow<()>,
) -> Result<(), Errno> {
    let _ = (layers, dir, after, visit);
    todo!()
}

//! Room and holes: `fallocate(2)`.

use std::ops::Range;

use nacre_store::Ino;

use super::content::DataStep;
use super::setattr::Kill;
use super::{Context, Errno, Layers, Plan};

/// The modes that Linux lets FUSE have; collapse, insert and unshare are `NotSup` before they come here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// Mode 0: reserves, and the file grows.
    Grow,
    /// `KEEP_SIZE`.
    KeepSize,
    /// `PUNCH_HOLE | KEEP_SIZE`.
    Punch,
    /// `ZERO_RANGE`: the file grows.
    ZeroGrow,
    /// `ZERO_RANGE | KEEP_SIZE`.
    ZeroKeepSize,
}

/// Plans `fallocate`; `size` is the file's size now (the data file's length where there is one).
pub fn plan(
    layers: &dyn Layers,
    ctx: &Context,
    ino: Ino,
    how: How,
    range: Range<u64>,
    size: u64,
    kill: Kill,
) -> Result<Plan<Vec<DataStep>>, Errno> {
    let _ = (layers, ctx, ino, how, range, size, kill);
    todo!()
}

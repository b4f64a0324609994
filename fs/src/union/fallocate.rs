//! Room and holes: `fallocate(2)`.

use std::ops::Range;

use nacre_store::Ino;

use super::content::{self, DataStep, FILE_BYTES_MAX};
use super::setattr::{self, Kill};
use super::{Context, Errno, Layers, Plan, getattr, write};

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

impl How {
    fn zeroes(self) -> bool {
        matches!(self, Self::Punch | Self::ZeroGrow | Self::ZeroKeepSize)
    }

    fn reserves(self) -> bool {
        !matches!(self, Self::Punch)
    }

    fn grows(self) -> bool {
        matches!(self, Self::Grow | Self::ZeroGrow)
    }
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
    write::regular(&*getattr::inode(layers, ino)?)?;
    if range.is_empty() {
        return Err(Errno::Inval);
    }
    if range.end > FILE_BYTES_MAX {
        return Err(Errno::FBig);
    }
    let zeroed = if how.zeroes() {
        range.start.min(size)..range.end.min(size)
    } else {
        0..0
    };
    if how == How::Punch && zeroed.is_empty() {
        return Ok(write::nothing()); // behind the end there is no hole to make
    }
    write::change(layers, ctx, ino, |inode| {
        let mut steps = content::prepare(&mut inode.content, size, &zeroed);
        if !zeroed.is_empty() {
            steps.push(DataStep::Punch(zeroed));
        }
        if how.reserves() {
            steps.push(DataStep::Reserve(range.clone()));
        }
        if how.grows() && range.end > size {
            steps.push(DataStep::SetLen(range.end));
            inode.size = range.end;
        }
        setattr::drop_privileges(inode, kill, ctx.gid);
        steps
    })
}

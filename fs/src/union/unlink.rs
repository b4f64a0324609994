//! Names taken away: unlink and rmdir, and the end of an inode.

use nacre_store::{Ino, UpperOp};

use super::{At, Context, Errno, Layers, Plan};

/// What a name that is gone led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone {
    /// The inode.
    pub ino: Ino,
    /// It has no name left: it is an orphan now, and [`reclaim`] ends it once nobody holds it.
    pub orphan: bool,
}

/// Plans `unlink`.
pub fn file(layers: &dyn Layers, ctx: &Context, at: At<'_>) -> Result<Plan<Gone>, Errno> {
    let _ = (layers, ctx, at);
    todo!()
}

/// Plans `rmdir`.
pub fn dir(layers: &dyn Layers, ctx: &Context, at: At<'_>) -> Result<Plan<Gone>, Errno> {
    let _ = (layers, ctx, at);
    todo!()
}

/// Ends an orphan that nobody holds any more (at FORGET, or when the upper is opened).
pub fn reclaim(ino: Ino) -> Vec<UpperOp> {
    vec![UpperOp::DropInode(ino), UpperOp::DropOrphan(ino)]
}

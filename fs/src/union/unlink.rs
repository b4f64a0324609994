//! Names taken away: unlink and rmdir, and the end of an inode.

use nacre_store::{Ino, Kind, UpperOp};

use super::draft::{Draft, existing};
use super::{At, Context, Errno, Layers, Plan, lookup};

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
    let child = existing(layers, at)?;
    if child.kind == Kind::Dir {
        return Err(Errno::IsDir);
    }
    remove(layers, ctx, at, child.ino, 0)
}

/// Plans `rmdir`.
pub fn dir(layers: &dyn Layers, ctx: &Context, at: At<'_>) -> Result<Plan<Gone>, Errno> {
    let child = existing(layers, at)?;
    if child.kind != Kind::Dir {
        return Err(Errno::NotDir);
    }
    if !lookup::is_empty(layers, child.ino)? {
        return Err(Errno::NotEmpty);
    }
    remove(layers, ctx, at, child.ino, -1)
}

/// Ends an orphan that nobody holds any more (at FORGET, or when the upper is opened).
pub fn reclaim(ino: Ino) -> Vec<UpperOp> {
    vec![UpperOp::DropInode(ino), UpperOp::DropOrphan(ino)]
}

fn remove(
    layers: &dyn Layers,
    ctx: &Context,
    at: At<'_>,
    ino: Ino,
    subdirs_delta: i32,
) -> Result<Plan<Gone>, Errno> {
    let mut draft = Draft::new(layers, ctx);
    draft.remove_entry(at)?;
    let orphan = draft.drop_link(ino, at)?;
    draft.dir_changed(at.dir, subdirs_delta)?;
    Ok(draft.finish(Gone { ino, orphan }))
}

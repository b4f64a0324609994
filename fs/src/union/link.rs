//! Hard links.

use nacre_store::{Ino, Inode, Kind};

use super::draft::{Draft, link_at, vacant};
use super::lookup::{self, Child};
use super::{At, Context, Errno, Layers, Plan, getattr};

/// Names of one file, ext4's bound: programs rely on `EMLINK` rather than on a number.
pub const LINK_MAX: usize = 65_000;

/// Plans `link` of `ino` to the name `to`; answers with its new record. What has lost its last name gets none again
/// (`NoEnt`, as on ext4).
pub fn plan(
    layers: &dyn Layers,
    ctx: &Context,
    ino: Ino,
    to: At<'_>,
) -> Result<Plan<Inode>, Errno> {
    vacant(layers, to)?;
    let old = getattr::inode(layers, ino)?;
    match () {
        () if old.kind == Kind::Dir => return Err(Errno::Perm),
        () if getattr::is_removed(ino, &old) => return Err(Errno::NoEnt),
        () if old.links.len() >= LINK_MAX => return Err(Errno::MLink),
        () => {}
    }
    add(Draft::new(layers, ctx), ino, old.kind, to)
}

/// Plans `link` of a file that was made without a name (`O_TMPFILE`): its first, and it is an orphan no more.
pub fn first(
    layers: &dyn Layers,
    ctx: &Context,
    ino: Ino,
    to: At<'_>,
) -> Result<Plan<Inode>, Errno> {
    vacant(layers, to)?;
    lookup::live_dir(layers, to.dir)?;
    let kind = getattr::inode(layers, ino)?.kind;
    let mut draft = Draft::new(layers, ctx);
    draft.adopt(ino);
    add(draft, ino, kind, to)
}

fn add(mut draft: Draft<'_>, ino: Ino, kind: Kind, to: At<'_>) -> Result<Plan<Inode>, Errno> {
    let now = draft.ctx.now;
    let inode = draft.inode(ino)?;
    inode.links.push(link_at(to));
    inode.ctime = now;
    let answer = inode.clone();
    draft.set_entry(to, Child { ino, kind })?;
    draft.dir_changed(to.dir, 0)?;
    Ok(draft.finish(answer))
}

//! Hard links.

use nacre_store::{Ino, Inode, Kind};

use super::draft::{Draft, link_at, vacant};
use super::lookup::Child;
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
    let mut draft = Draft::new(layers, ctx);
    let inode = draft.inode(ino)?;
    inode.links.push(link_at(to));
    inode.ctime = ctx.now;
    let answer = inode.clone();
    draft.set_entry(
        to,
        Child {
            ino,
            kind: old.kind,
        },
    )?;
    draft.dir_changed(to.dir, 0)?;
    Ok(draft.finish(answer))
}

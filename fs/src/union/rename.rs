//! Rename, in all its kinds. A directory of the image moves like any other: one entry, one record.

use nacre_store::{Ino, Kind};

use super::create;
use super::draft::{Draft, existing};
use super::lookup::{self, Child};
use super::unlink::Gone;
use super::{At, Context, Errno, Layers, Plan};

/// The flags of `renameat2(2)` that Linux allows together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// No flag: what has the new name is replaced.
    Replace,
    /// `RENAME_NOREPLACE`.
    NoReplace,
    /// `RENAME_EXCHANGE`.
    Exchange,
    /// `RENAME_WHITEOUT`: the old name gets a character device 0:0 of this fresh number.
    Whiteout(Ino),
    /// `RENAME_NOREPLACE | RENAME_WHITEOUT`.
    NoReplaceWhiteout(Ino),
}

/// What a rename did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Renamed {
    /// What lost the new name.
    pub replaced: Option<Gone>,
}

/// Plans a rename. The order of the checks is Linux's (`do_renameat2`, `vfs_rename`).
pub fn plan(
    layers: &dyn Layers,
    ctx: &Context,
    from: At<'_>,
    to: At<'_>,
    how: How,
) -> Result<Plan<Renamed>, Errno> {
    lookup::live_dir(layers, to.dir)?;
    let source = existing(layers, from)?;
    let target = lookup::child(layers, to.dir, to.name)?;
    match (how, target) {
        (How::NoReplace | How::NoReplaceWhiteout(_), Some(_)) => return Err(Errno::Exist),
        (How::Exchange, None) => return Err(Errno::NoEnt),
        _ => {}
    }
    refuse_loops(layers, (from, source), (to, target), how)?;
    if target.is_some_and(|target| target.ino == source.ino) {
        let answer = Renamed { replaced: None };
        return Ok(Plan {
            ops: Vec::new(),
            answer,
        });
    }
    match (how, target) {
        (How::Exchange, Some(target)) => exchange(layers, ctx, (from, source), (to, target)),
        (How::Whiteout(node) | How::NoReplaceWhiteout(node), _) => {
            shift(layers, ctx, (from, source), (to, target), Some(node))
        }
        _ => shift(layers, ctx, (from, source), (to, target), None),
    }
}

/// Refuses to hang a directory into itself, and to replace a directory by what it holds.
fn refuse_loops(
    layers: &dyn Layers,
    (from, source): (At<'_>, Child),
    (to, target): (At<'_>, Option<Child>),
    how: How,
) -> Result<(), Errno> {
    if from.dir == to.dir {
        return Ok(());
    }
    if source.kind == Kind::Dir && lookup::is_above(layers, source.ino, to.dir)? {
        return Err(Errno::Inval);
    }
    match target {
        Some(target)
            if target.kind == Kind::Dir && lookup::is_above(layers, target.ino, from.dir)? =>
        {
            Err(if how == How::Exchange {
                Errno::Inval
            } else {
                Errno::NotEmpty
            })
        }
        _ => Ok(()),
    }
}

/// Moves a name, onto another where one is.
fn shift(
    layers: &dyn Layers,
    ctx: &Context,
    (from, source): (At<'_>, Child),
    (to, target): (At<'_>, Option<Child>),
    whiteout: Option<Ino>,
) -> Result<Plan<Renamed>, Errno> {
    match (source.kind, target.map(|target| target.kind)) {
        (Kind::Dir, Some(kind)) if kind != Kind::Dir => return Err(Errno::NotDir),
        (kind, Some(Kind::Dir)) if kind != Kind::Dir => return Err(Errno::IsDir),
        _ => {}
    }
    if let Some(target) = target
        && target.kind == Kind::Dir
        && !lookup::is_empty(layers, target.ino)?
    {
        return Err(Errno::NotEmpty);
    }
    let mut draft = Draft::new(layers, ctx);
    let is_dir = i32::from(source.kind == Kind::Dir);
    let was_dir = i32::from(target.is_some_and(|target| target.kind == Kind::Dir));
    let replaced = match target {
        Some(target) => Some(Gone {
            ino: target.ino,
            orphan: draft.drop_link(target.ino, to)?,
        }),
        None => None,
    };
    draft.move_link(source.ino, from, to)?;
    match whiteout {
        // The old name stays, and its place with it.
        Some(node) => {
            draft.set_entry(to, source)?;
            create::whiteout_node(&mut draft, from, node)?;
        }
        None => {
            draft.move_entry(from, to, source)?;
            draft.remove_entry(from)?;
        }
    }
    draft.dir_changed(from.dir, -is_dir)?;
    draft.dir_changed(to.dir, is_dir - was_dir)?;
    Ok(draft.finish(Renamed { replaced }))
}

/// Lets two names change places.
fn exchange(
    layers: &dyn Layers,
    ctx: &Context,
    (from, source): (At<'_>, Child),
    (to, target): (At<'_>, Child),
) -> Result<Plan<Renamed>, Errno> {
    let mut draft = Draft::new(layers, ctx);
    draft.set_entry(to, source)?;
    draft.set_entry(from, target)?;
    draft.move_link(source.ino, from, to)?;
    draft.move_link(target.ino, to, from)?;
    let gain = i32::from(target.kind == Kind::Dir) - i32::from(source.kind == Kind::Dir);
    draft.dir_changed(from.dir, gain)?;
    draft.dir_changed(to.dir, -gain)?;
    Ok(draft.finish(Renamed { replaced: None }))
}

//! What a write does to the record. The bytes themselves are the caller's.

use std::ops::Range;

use nacre_store::{Content, Ino, Inode, Kind};

use super::content::{self, DataStep, FILE_BYTES_MAX};
use super::draft::Draft;
use super::setattr::{self, Kill};
use super::{Context, Errno, Layers, Origin, Plan, getattr};

/// Plans a write of the bytes `range`. An empty plan (no step, no operation) is the rule once a file has a data file:
/// size and times are the data file's own.
pub fn plan(
    layers: &dyn Layers,
    ctx: &Context,
    ino: Ino,
    range: Range<u64>,
    kill: Kill,
) -> Result<Plan<Vec<DataStep>>, Errno> {
    if range.end > FILE_BYTES_MAX {
        return Err(Errno::FBig);
    }
    let old = getattr::inode(layers, ino)?;
    regular(&old)?;
    // The way of nearly every write: looked at without copying the record.
    let plain = old.content == Content::Data && !old.init && !setattr::has_privileges(&old);
    if plain || range.is_empty() {
        return Ok(nothing());
    }
    change(layers, ctx, ino, |inode| {
        let steps = content::prepare(&mut inode.content, inode.size, &range);
        inode.size = inode.size.max(range.end);
        setattr::drop_privileges(inode, kill, ctx.gid);
        steps
    })
}

/// Plans that a small file's bytes are `bytes` from now on, kept in its record: nothing else has to be made, synced or taken
/// back. The caller has looked whether they fit.
pub fn inline(
    layers: &dyn Layers,
    ctx: &Context,
    ino: Ino,
    bytes: &[u8],
    kill: Kill,
) -> Result<Plan<()>, Errno> {
    regular(&*getattr::inode(layers, ino)?)?;
    let mut draft = Draft::new(layers, ctx);
    let inode = draft.inode(ino)?;
    inode.content = Content::Inline(bytes.into());
    inode.size = bytes.len() as u64;
    inode.mtime = ctx.now;
    inode.ctime = ctx.now;
    setattr::drop_privileges(inode, kill, ctx.gid);
    Ok(draft.finish(()))
}

/// Plans the data file of a file that is opened for writing by passthrough: afterwards it holds the whole content. Nothing
/// is modified: the caller gives the data file the times that the file had.
pub fn whole(layers: &dyn Layers, ctx: &Context, ino: Ino) -> Result<Plan<Vec<DataStep>>, Errno> {
    let old = getattr::inode(layers, ino)?;
    regular(&old)?;
    if old.content == Content::Data {
        return Ok(nothing());
    }
    let mut draft = Draft::new(layers, ctx);
    let inode = draft.inode(ino)?;
    let steps = content::complete(&mut inode.content, inode.size);
    Ok(draft.finish(steps))
}

/// Refuses what has no bytes to write.
pub(super) fn regular(inode: &Inode) -> Result<(), Errno> {
    match inode.kind {
        Kind::File => Ok(()),
        Kind::Dir => Err(Errno::IsDir),
        Kind::Symlink | Kind::Char | Kind::Block | Kind::Fifo | Kind::Socket => Err(Errno::Inval),
    }
}

pub(super) fn nothing() -> Plan<Vec<DataStep>> {
    Plan {
        ops: Vec::new(),
        answer: Vec::new(),
    }
}

/// Plans a change of bytes; the record is written only if more changes than the data file says itself.
pub(super) fn change(
    layers: &dyn Layers,
    ctx: &Context,
    ino: Ino,
    edit: impl FnOnce(&mut Inode) -> Vec<DataStep>,
) -> Result<Plan<Vec<DataStep>>, Errno> {
    let old = getattr::inode(layers, ino)?;
    regular(&old)?;
    let mut draft = Draft::new(layers, ctx);
    let inode = draft.inode(ino)?;
    let steps = edit(inode);
    let same = inode.content == old.content && inode.mode == old.mode && inode.xattrs == old.xattrs;
    if same && !(old.init && ctx.origin == Origin::User) {
        return Ok(Plan {
            ops: Vec::new(),
            answer: steps,
        });
    }
    inode.mtime = ctx.now;
    inode.ctime = ctx.now;
    Ok(draft.finish(steps))
}

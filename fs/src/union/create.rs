//! New inodes: files, directories, device nodes, symbolic links.

use nacre_store::{Ino, Inode, Kind};

use super::content::DataStep;
use super::{At, Context, Errno, Layers, Plan};

/// What was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// Its number.
    pub ino: Ino,
    /// Its record.
    pub inode: Inode,
    /// What to do with its data file first.
    pub steps: Vec<DataStep>,
}

/// Whether a new file is about to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// It may stay empty for ever: no data file.
    Empty,
    /// It is opened for writing: it gets its data file at once, and its first write costs no second record.
    Writing,
}

/// Plans `open(O_CREAT)` of a name that is not there.
pub fn file(
    layers: &dyn Layers,
    ctx: &Context,
    at: At<'_>,
    fresh: Ino,
    mode: u16,
    purpose: Purpose,
) -> Result<Plan<Made>, Errno> {
    let _ = (layers, ctx, at, fresh, mode, purpose);
    todo!()
}

/// Plans `mkdir`.
pub fn dir(
    layers: &dyn Layers,
    ctx: &Context,
    at: At<'_>,
    fresh: Ino,
    mode: u16,
) -> Result<Plan<Made>, Errno> {
    let _ = (layers, ctx, at, fresh, mode);
    todo!()
}

/// Plans `mknod`: any kind but a directory or a symbolic link.
pub fn node(
    layers: &dyn Layers,
    ctx: &Context,
    at: At<'_>,
    fresh: Ino,
    kind: Kind,
    mode: u16,
    rdev: u64,
) -> Result<Plan<Made>, Errno> {
    let _ = (layers, ctx, at, fresh, kind, mode, rdev);
    todo!()
}

/// Plans `symlink`.
pub fn symlink(
    layers: &dyn Layers,
    ctx: &Context,
    at: At<'_>,
    fresh: Ino,
    target: &[u8],
) -> Result<Plan<Made>, Errno> {
    let _ = (layers, ctx, at, fresh, target);
    todo!()
}

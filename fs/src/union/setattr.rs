//! Attributes: chmod, chown, truncate, utimens.
//!
//! The kernel strips setgid from a mode asked for by a caller outside the group (`setattr_prepare`). Here: chown takes
//! setuid, setgid (of a group-executable file) and `security.capability` from what is no directory, whoever
//! asks; a change of size takes `security.capability`, and the mode bits if `kill` says so.

use nacre_store::{Ino, Inode, Time};

use super::content::DataStep;
use super::{Context, Errno, Layers, Plan};

/// What is to change.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Change {
    /// `chmod`: permission bits with setuid, setgid and sticky (07777).
    pub mode: Option<u16>,
    /// `chown`.
    pub uid: Option<u32>,
    /// `chown`.
    pub gid: Option<u32>,
    /// `truncate`, `open(O_TRUNC)`.
    pub size: Option<u64>,
    /// `utimens`.
    pub atime: Option<SetTime>,
    /// `utimens`.
    pub mtime: Option<SetTime>,
}

/// A time to be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetTime {
    /// `UTIME_NOW`.
    Now,
    /// This one.
    At(Time),
}

/// What a change of content takes from the file's privileges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kill {
    /// `security.capability` alone: the caller has CAP_FSETID.
    Capability,
    /// setuid, setgid of a group-executable file, and `security.capability`.
    All,
}

/// What was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// The new record.
    pub inode: Inode,
    /// What to do with its data file first.
    pub steps: Vec<DataStep>,
}

/// Plans a change of attributes. With a data file, the caller sets times that were asked for there too.
pub fn plan(
    layers: &dyn Layers,
    ctx: &Context,
    ino: Ino,
    change: &Change,
    kill: Kill,
) -> Result<Plan<Changed>, Errno> {
    let _ = (layers, ctx, ino, change, kill);
    todo!()
}

//! Attributes: chmod, chown, truncate, utimens.
//!
//! The kernel strips setgid from a mode asked for by a caller outside the group (`setattr_prepare`). Here: chown takes
//! setuid, setgid (of a group-executable file) and `security.capability` from what is no directory, whoever
//! asks; a change of size takes `security.capability`, and the mode bits if `kill` says so.
//! Groups that a caller is in besides its fsgid are not known here: to them it is a stranger.

use nacre_store::{Ino, Inode, Kind, Time};

use super::acl::{self, Acl};
use super::content::{self, DataStep, FILE_BYTES_MAX};
use super::draft::Draft;
use super::{Context, Errno, Layers, Plan};

/// `S_ISUID`.
const SET_USER_ID: u16 = 0o4000;
/// `S_ISGID` and `S_IXGRP`: together they mean setgid; setgid alone once meant mandatory locking.
const SET_GROUP_ID_EXECUTABLE: u16 = 0o2010;
/// `S_ISGID`.
const SET_GROUP_ID: u16 = 0o2000;
/// The attribute that holds a program's capabilities.
const CAPABILITY: &[u8] = b"security.capability";

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

impl SetTime {
    fn or_now(self, now: Time) -> Time {
        match self {
            Self::Now => now,
            Self::At(time) => time,
        }
    }
}

/// What a change of content takes from the file's privileges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kill {
    /// `security.capability` alone: the caller has CAP_FSETID.
    Capability,
    /// setuid, `security.capability`, and setgid of a group-executable file or if the caller is not in the file's group.
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
    let mut draft = Draft::new(layers, ctx);
    let inode = draft.inode(ino)?;
    let mut steps = Vec::new();
    if let Some(size) = change.size {
        steps = truncate(inode, size, ctx, kill)?;
    }
    if change.uid.is_some() || change.gid.is_some() {
        inode.uid = change.uid.unwrap_or(inode.uid);
        inode.gid = change.gid.unwrap_or(inode.gid);
        if inode.kind != Kind::Dir {
            drop_privileges(inode, Kill::All, inode.gid);
        }
    }
    if let Some(mode) = change.mode {
        chmod(inode, mode)?;
    }
    if let Some(time) = change.atime {
        inode.atime = time.or_now(ctx.now);
    }
    if let Some(time) = change.mtime {
        inode.mtime = time.or_now(ctx.now);
    }
    inode.ctime = ctx.now;
    let changed = Changed {
        inode: inode.clone(),
        steps,
    };
    Ok(draft.finish(changed))
}

fn truncate(
    inode: &mut Inode,
    size: u64,
    ctx: &Context,
    kill: Kill,
) -> Result<Vec<DataStep>, Errno> {
    match inode.kind {
        Kind::File => {}
        Kind::Dir => return Err(Errno::IsDir),
        Kind::Symlink | Kind::Char | Kind::Block | Kind::Fifo | Kind::Socket => {
            return Err(Errno::Inval);
        }
    }
    if size > FILE_BYTES_MAX {
        return Err(Errno::FBig);
    }
    let steps = content::resize(&mut inode.content, inode.size, size);
    inode.size = size;
    inode.mtime = ctx.now;
    drop_privileges(inode, kill, ctx.gid);
    Ok(steps)
}

/// Sets the mode, and the access ACL after it.
fn chmod(inode: &mut Inode, mode: u16) -> Result<(), Errno> {
    if inode.kind == Kind::Symlink {
        return Err(Errno::NotSup);
    }
    inode.mode = mode & 0o7777;
    // An ACL that does not parse came with an image; it means nothing to the kernel and stays as it is.
    let access = inode.xattrs.get(acl::ACCESS);
    if let Some(mut access) = access.and_then(|bytes| Acl::parse(bytes).ok().flatten()) {
        access.follow(mode);
        set_access_acl(inode, &access);
    }
    Ok(())
}

/// Gives an inode an access ACL: its mode follows, and an ACL that says no more than the mode is not kept.
pub(super) fn set_access_acl(inode: &mut Inode, access: &Acl) {
    inode.mode = (inode.mode & !0o777) | access.mode();
    if access.is_mode() {
        inode.xattrs.remove(acl::ACCESS);
    } else {
        inode.xattrs.insert(acl::ACCESS.into(), access.to_bytes());
    }
}

/// Takes setgid from a file whose ACL is changed by somebody outside its group.
pub(super) fn drop_set_group_id(inode: &mut Inode) {
    inode.mode &= !SET_GROUP_ID;
}

/// Returns whether a file has anything that a change of its content may take.
pub(super) fn has_privileges(inode: &Inode) -> bool {
    inode.mode & (SET_USER_ID | SET_GROUP_ID) != 0 || inode.xattrs.contains_key(CAPABILITY)
}

/// Takes what a file must lose that is changed by a member of `group`; returns whether it had any of it.
pub(super) fn drop_privileges(inode: &mut Inode, kill: Kill, group: u32) -> bool {
    let before = inode.mode;
    if kill == Kill::All {
        inode.mode &= !SET_USER_ID;
        let is_program = inode.mode & SET_GROUP_ID_EXECUTABLE == SET_GROUP_ID_EXECUTABLE;
        if is_program || group != inode.gid {
            inode.mode &= !SET_GROUP_ID;
        }
    }
    let had_capability = inode.xattrs.remove(CAPABILITY).is_some();
    had_capability || inode.mode != before
}

//! The protocol's numbers and our types, each into the other. Nothing else.

use nacre_store::{Kind, Time};

use super::wire::{self, Header, SetAttr};
use crate::errno::{Errno, Result};
use crate::union::fallocate;
use crate::union::setattr::{Kill, SetTime};
use crate::union::xattr;
use crate::vfs::{Access, AttrChange, Caller, Fate, RenameHow};

/// The kind in a mode that `mknod` was given.
pub(super) fn kind_of_mode(mode: u32) -> Result<Kind> {
    match mode & libc::S_IFMT {
        0 | libc::S_IFREG => Ok(Kind::File),
        libc::S_IFCHR => Ok(Kind::Char),
        libc::S_IFBLK => Ok(Kind::Block),
        libc::S_IFIFO => Ok(Kind::Fifo),
        libc::S_IFSOCK => Ok(Kind::Socket),
        _ => Err(Errno::INVAL),
    }
}

/// The permission bits of a mode.
pub(super) fn permissions(mode: u32) -> u16 {
    u16::try_from(mode & 0o7777).unwrap_or(0)
}

fn set_time(asked: wire::SetTime) -> SetTime {
    match asked {
        wire::SetTime::Now => SetTime::Now,
        wire::SetTime::At(seconds, nanos) => SetTime::At(Time { seconds, nanos }),
    }
}

pub(super) fn change(set: &SetAttr) -> AttrChange {
    AttrChange {
        mode: set.mode.map(permissions),
        uid: set.uid,
        gid: set.gid,
        size: set.size,
        atime: set.atime.map(set_time),
        mtime: set.mtime.map(set_time),
    }
}

pub(super) fn caller(header: &Header, umask: u32) -> Caller {
    Caller::user(header.uid, header.gid, permissions(umask))
}

/// What a change of content takes away where the kernel says whether the caller has CAP_FSETID.
pub(super) fn kill(asked: bool) -> Kill {
    if asked { Kill::All } else { Kill::Capability }
}

/// The same where it does not say (fallocate, copies): root is taken to have CAP_FSETID, everybody else not.
pub(super) fn kill_of(header: &Header) -> Kill {
    kill(header.uid != 0)
}

pub(super) fn access(flags: u32) -> Access {
    let flags = flags.cast_signed();
    match flags & libc::O_ACCMODE {
        _ if flags & libc::O_TRUNC != 0 => Access::Truncate,
        libc::O_RDONLY => Access::Read,
        _ => Access::Write,
    }
}

/// Whether a write is to be on disk when it is answered. (O_SYNC has the bit of O_DSYNC.)
pub(super) fn is_synchronous(flags: u32) -> bool {
    flags.cast_signed() & libc::O_DSYNC != 0
}

/// Whether a file is emptied by somebody who opens it for reading.
pub(super) fn truncates_unasked(flags: u32) -> bool {
    let flags = flags.cast_signed();
    flags & libc::O_ACCMODE == libc::O_RDONLY && flags & libc::O_TRUNC != 0
}

/// Whether a file is opened to be executed: `FMODE_EXEC` (include/linux/fs.h), which is in no header for programs.
pub(super) fn is_execution(flags: u32) -> bool {
    flags & 0x20 != 0
}

/// What may become of a file without a name.
pub(super) fn fate(flags: u32) -> Fate {
    if flags.cast_signed() & libc::O_EXCL == 0 {
        Fate::MayGetAName
    } else {
        Fate::StaysUnnamed
    }
}

pub(super) fn rename_how(flags: u32) -> Result<RenameHow> {
    const EXCHANGE: u32 = libc::RENAME_EXCHANGE;
    const NOREPLACE: u32 = libc::RENAME_NOREPLACE;
    const WHITEOUT: u32 = libc::RENAME_WHITEOUT;
    const BOTH: u32 = NOREPLACE | WHITEOUT;
    match flags {
        0 => Ok(RenameHow::Replace),
        EXCHANGE => Ok(RenameHow::Exchange),
        NOREPLACE => Ok(RenameHow::NoReplace),
        WHITEOUT => Ok(RenameHow::Whiteout),
        BOTH => Ok(RenameHow::NoReplaceWhiteout),
        _ => Err(Errno::INVAL),
    }
}

pub(super) fn allocate_how(mode: u32) -> Result<fallocate::How> {
    const PUNCH: i32 = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    const ZERO_KEEP: i32 = libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE;
    match mode.cast_signed() {
        0 => Ok(fallocate::How::Grow),
        libc::FALLOC_FL_KEEP_SIZE => Ok(fallocate::How::KeepSize),
        PUNCH => Ok(fallocate::How::Punch),
        libc::FALLOC_FL_ZERO_RANGE => Ok(fallocate::How::ZeroGrow),
        ZERO_KEEP => Ok(fallocate::How::ZeroKeepSize),
        _ => Err(Errno::OPNOTSUPP),
    }
}

pub(super) fn xattr_how(flags: u32, stranger: bool) -> xattr::How {
    match flags.cast_signed() {
        _ if stranger => xattr::How::ByStranger,
        libc::XATTR_CREATE => xattr::How::Create,
        libc::XATTR_REPLACE => xattr::How::Replace,
        _ => xattr::How::Either,
    }
}

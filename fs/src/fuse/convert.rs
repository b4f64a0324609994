//! fuser's types and ours, each into the other. Nothing else.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{FileAttr, FileType, INodeNo, OpenAccMode, OpenFlags, RenameFlags, Request, TimeOrNow};
use nacre_store::{Ino, Kind, Time};

use crate::errno::{Errno, Result};
use crate::union::fallocate;
use crate::union::setattr::{Kill, SetTime};
use crate::vfs::{Access, Attr, Caller, RenameHow};

/// The unit of reads that we like.
const BLOCK_BYTES: u32 = 4096;

pub(super) fn ino(node: INodeNo) -> Ino {
    Ino(node.0)
}

pub(super) fn errno(errno: Errno) -> fuser::Errno {
    fuser::Errno::from_i32(errno.raw_os_error())
}

pub(super) fn attr(attr: &Attr) -> FileAttr {
    FileAttr {
        ino: INodeNo(attr.ino.0),
        size: attr.size,
        blocks: attr.blocks,
        atime: system_time(attr.atime),
        mtime: system_time(attr.mtime),
        ctime: system_time(attr.ctime),
        crtime: UNIX_EPOCH,
        kind: kind(attr.kind),
        perm: attr.mode,
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        // FUSE has 32 bits, as Linux has for every device that exists (12 + 20).
        rdev: u32::try_from(attr.rdev).unwrap_or(0),
        blksize: BLOCK_BYTES,
        flags: 0,
    }
}

/// An answer that says "not there, and you may remember it": node 0.
pub(super) fn negative() -> FileAttr {
    FileAttr {
        ino: INodeNo(0),
        size: 0,
        blocks: 0,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: FileType::RegularFile,
        perm: 0,
        nlink: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 0,
        flags: 0,
    }
}

pub(super) fn kind(kind: Kind) -> FileType {
    match kind {
        Kind::File => FileType::RegularFile,
        Kind::Dir => FileType::Directory,
        Kind::Symlink => FileType::Symlink,
        Kind::Char => FileType::CharDevice,
        Kind::Block => FileType::BlockDevice,
        Kind::Fifo => FileType::NamedPipe,
        Kind::Socket => FileType::Socket,
    }
}

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

/// Times beyond what the host's clock type holds do not exist on Linux filesystems; they become the epoch.
fn system_time(time: Time) -> SystemTime {
    let nanos = Duration::from_nanos(u64::from(time.nanos));
    let seconds = Duration::from_secs(time.seconds.unsigned_abs());
    let whole = if time.seconds >= 0 {
        UNIX_EPOCH.checked_add(seconds)
    } else {
        UNIX_EPOCH.checked_sub(seconds)
    };
    whole
        .and_then(|whole| whole.checked_add(nanos))
        .unwrap_or(UNIX_EPOCH)
}

/// A time that a program set. For times before the epoch fuser counts the nanoseconds backwards as well, although the
/// kernel counts them forwards: second -1 and a tenth arrives as 1.1 s before the epoch. Undone here.
fn time(time: SystemTime) -> Time {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => Time {
            seconds: i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
            nanos: after.subsec_nanos(),
        },
        Err(before) => Time {
            seconds: 0_i64.saturating_sub_unsigned(before.duration().as_secs()),
            nanos: before.duration().subsec_nanos(),
        },
    }
}

pub(super) fn set_time(asked: TimeOrNow) -> SetTime {
    match asked {
        TimeOrNow::Now => SetTime::Now,
        TimeOrNow::SpecificTime(at) => SetTime::At(time(at)),
    }
}

pub(super) fn caller(request: &Request, umask: u32) -> Caller {
    Caller::user(request.uid(), request.gid(), permissions(umask))
}

/// What a change of content takes away where the kernel's own flag does not reach us (fuser drops it for OPEN and
/// SETATTR): root is taken to have CAP_FSETID, everybody else not.
pub(super) fn kill(request: &Request) -> Kill {
    if request.uid() == 0 {
        Kill::Capability
    } else {
        Kill::All
    }
}

pub(super) fn access(flags: OpenFlags) -> Access {
    match flags.acc_mode() {
        _ if flags.0 & libc::O_TRUNC != 0 => Access::Truncate,
        OpenAccMode::O_RDONLY => Access::Read,
        OpenAccMode::O_WRONLY | OpenAccMode::O_RDWR => Access::Write,
    }
}

pub(super) fn rename_how(flags: RenameFlags) -> Result<RenameHow> {
    let noreplace = flags.contains(RenameFlags::RENAME_NOREPLACE);
    let whiteout = flags.contains(RenameFlags::RENAME_WHITEOUT);
    if !RenameFlags::all().contains(flags) {
        return Err(Errno::INVAL);
    }
    match (
        flags.contains(RenameFlags::RENAME_EXCHANGE),
        noreplace,
        whiteout,
    ) {
        (true, false, false) => Ok(RenameHow::Exchange),
        (true, ..) => Err(Errno::INVAL),
        (false, true, true) => Ok(RenameHow::NoReplaceWhiteout),
        (false, true, false) => Ok(RenameHow::NoReplace),
        (false, false, true) => Ok(RenameHow::Whiteout),
        (false, false, false) => Ok(RenameHow::Replace),
    }
}

pub(super) fn allocate_how(mode: i32) -> Result<fallocate::How> {
    const PUNCH: i32 = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    const ZERO_KEEP: i32 = libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE;
    match mode {
        0 => Ok(fallocate::How::Grow),
        libc::FALLOC_FL_KEEP_SIZE => Ok(fallocate::How::KeepSize),
        PUNCH => Ok(fallocate::How::Punch),
        libc::FALLOC_FL_ZERO_RANGE => Ok(fallocate::How::ZeroGrow),
        ZERO_KEEP => Ok(fallocate::How::ZeroKeepSize),
        _ => Err(Errno::OPNOTSUPP),
    }
}

pub(super) fn name(bytes: &[u8]) -> &OsStr {
    OsStr::from_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use nacre_store::Time;

    use super::{system_time, time};

    /// What fuser 0.18 makes of the kernel's two numbers.
    fn as_fuser_reads(seconds: i64, nanos: u32) -> SystemTime {
        let duration = Duration::new(seconds.unsigned_abs(), nanos);
        if seconds >= 0 {
            UNIX_EPOCH + duration
        } else {
            UNIX_EPOCH - duration
        }
    }

    #[test]
    fn times_that_programs_set_arrive_as_they_are_before_the_epoch_too() {
        let cases = [
            (0, 0),
            (0, 1),
            (-1, 0),
            (-1, 500_000_000),
            (-(1 << 31), 999_999_999),
            (1 << 34, 7),
            (i64::MAX, 0),
            (i64::MIN, 0),
        ];
        for (seconds, nanos) in cases {
            assert_eq!(
                time(as_fuser_reads(seconds, nanos)),
                Time { seconds, nanos }
            );
        }
    }

    #[test]
    fn times_before_the_epoch_are_shown_with_their_nanoseconds_counted_forwards() {
        let half_past = Time {
            seconds: -1,
            nanos: 500_000_000,
        };
        assert_eq!(
            system_time(half_past),
            UNIX_EPOCH - Duration::from_millis(500)
        );
    }
}

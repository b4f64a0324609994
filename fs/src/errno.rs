//! The one table from what goes wrong below to the error number that a program sees. Logs damage; decides nothing else.

pub use rustix::io::Errno;

use nacre_store::Error;

use crate::union;

/// A filesystem operation's result.
pub type Result<T> = std::result::Result<T, Errno>;

/// Returns the number that the rules mean.
pub fn of_rule(rule: union::Errno) -> Errno {
    match rule {
        union::Errno::Access => Errno::ACCESS,
        union::Errno::Exist => Errno::EXIST,
        union::Errno::Inval => Errno::INVAL,
        union::Errno::Io => Errno::IO,
        union::Errno::IsDir => Errno::ISDIR,
        union::Errno::MLink => Errno::MLINK,
        union::Errno::NameTooLong => Errno::NAMETOOLONG,
        union::Errno::NoData => Errno::NODATA,
        union::Errno::NoEnt => Errno::NOENT,
        union::Errno::NoSpc => Errno::NOSPC,
        union::Errno::NoSys => Errno::NOSYS,
        union::Errno::NotDir => Errno::NOTDIR,
        union::Errno::NotEmpty => Errno::NOTEMPTY,
        // Filesystems say EOPNOTSUPP; Linux has one number for both.
        union::Errno::NotSup => Errno::OPNOTSUPP,
        union::Errno::Perm => Errno::PERM,
        union::Errno::Range => Errno::RANGE,
        union::Errno::RoFs => Errno::ROFS,
        union::Errno::TooBig => Errno::TOOBIG,
        union::Errno::FBig => Errno::FBIG,
        union::Errno::BadF => Errno::BADF,
        union::Errno::XDev => Errno::XDEV,
        union::Errno::NoTty => Errno::NOTTY,
        union::Errno::Stale => Errno::STALE,
    }
}

/// Returns the number for a failure of the store, and logs it: whatever the store says of a tree that
/// is mounted is worth a line, because the program sees a bare number.
pub fn of_store(error: &Error) -> Errno {
    let errno = store_number(error);
    if errno == Errno::NOSPC || errno == Errno::DQUOT {
        tracing::warn!(%error, "the store has no room");
    } else {
        tracing::error!(%error, "the store failed under a mounted tree");
    }
    errno
}

/// The same without the log, for callers to whom a failure is an expected answer.
fn store_number(error: &Error) -> Errno {
    match error {
        // The host's own number: ENOSPC, EDQUOT, EMFILE say more than EIO.
        Error::Io { source, .. } => of_host(source),
        Error::NoSpace { .. } | Error::DbFull(_) => Errno::NOSPC,
        // Everything else is a tree that names what is not there or does not parse: damage, hence EIO
        // (EINVAL or ENOENT would blame the caller).
        _ => Errno::IO,
    }
}

/// Returns the number of a host error.
pub fn of_host(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

/// Returns the nearest number that the rules know: what reads for them can fail only so.
pub(crate) fn to_rule(errno: Errno) -> union::Errno {
    match errno {
        Errno::NOSPC | Errno::DQUOT => union::Errno::NoSpc,
        Errno::STALE => union::Errno::Stale,
        _ => union::Errno::Io,
    }
}

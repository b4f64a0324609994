//! When two inodes count as different. Reads nothing: records say it all.

use nacre_store::{Ino, Inode, Kind, Time};

/// An inode with its number.
pub(super) type Numbered<'a> = (Ino, &'a Inode);

/// Docker's question: would a user call it changed? A directory's times are no change; times that agree to the second
/// agree if one of them knows no nanoseconds (archives often do not).
pub(super) fn is_modified(old: Numbered<'_>, new: Numbered<'_>) -> bool {
    let ((_, one), (_, other)) = (old, new);
    let attributes = one.kind != other.kind
        || one.mode != other.mode
        || one.uid != other.uid
        || one.gid != other.gid
        || one.rdev != other.rdev
        || one.xattrs != other.xattrs;
    if attributes || one.kind == Kind::Dir {
        return attributes;
    }
    // What the upper wrote has content of its own kind, so that it never passes for what the base holds.
    one.size != other.size || !is_same_time(one.mtime, other.mtime) || one.content != other.content
}

/// The archive's question: would the tree be another without it? Then every time counts, and so does which names are
/// one file.
pub(super) fn differs(old: Numbered<'_>, new: Numbered<'_>) -> bool {
    old.0 != new.0 || old.1.mtime != new.1.mtime || is_modified(old, new)
}

fn is_same_time(one: Time, other: Time) -> bool {
    one.seconds == other.seconds && (one.nanos == other.nanos || one.nanos == 0 || other.nanos == 0)
}

//! The union's rules: pure functions from what the layers hold to a plan. No system call, no FUSE, no clock.
//!
//! Each operation is decided first (`rename::plan(&view, …) -> Plan`), then done by the caller: the plan's operations
//! are one atomic batch of the upper. Permissions are the kernel's business (`default_permissions`); what
//! ext4 does beside them (setuid clearing, times, nlink, sgid inheritance, ACL inheritance) is decided here.
//!
//! ```text
//! lookup      a name in a directory, a directory's parent
//! getattr     an inode's record, nlink, blocks
//! readdir     a directory's entries, each with a cookie that holds for ever
//! create      files, directories, nodes, symbolic links
//! link, unlink, rename
//! setattr     chmod, chown, truncate, utimens
//! xattr       extended attributes, ACLs among them
//! write       what a write does to the record; fallocate the same for allocation
//! acl         POSIX ACLs in their xattr form
//! content     where a file's bytes come from, and how that changes
//! draft       a plan in the making
//! ```
//!
//! **Who does what.** The kernel (FUSE with `default_permissions`, `DONT_MASK`, `POSIX_ACL`, `HANDLE_KILLPRIV_V2`):
//! permissions, sticky directories, mount points, trailing slashes, `.` and `..` as last components; it strips
//! setgid from a mode that a caller outside the group asks for (chmod, create). These rules: everything else,
//! and the kernel's checks of names and kinds once more, since they cost nothing here.

pub mod acl;
pub mod content;
pub mod create;
mod draft;
pub mod fallocate;
pub mod getattr;
pub mod link;
pub mod lookup;
pub mod readdir;
pub mod rename;
pub mod setattr;
pub mod unlink;
pub mod write;
pub mod xattr;

use std::collections::BTreeMap;
use std::sync::Arc;

use nacre_store::{DirList, FileName, Ino, Inode, Override, Time, UpperOp};

/// What the rules read: the newest version of everything, base and upper apart.
pub trait Layers {
    /// The base's inode.
    fn base_inode(&self, ino: Ino) -> Result<Option<Arc<Inode>>, Errno>;
    /// The base's directory.
    fn base_dir(&self, ino: Ino) -> Result<Option<Arc<DirList>>, Errno>;
    /// The upper's inode.
    fn upper_inode(&self, ino: Ino) -> Result<Option<Arc<Inode>>, Errno>;
    /// The upper's overrides in a directory (empty where it has none).
    fn upper_dir(&self, ino: Ino) -> Result<Arc<BTreeMap<FileName, Override>>, Errno>;
}

/// Who asks, when, and with what fresh numbers: all that a rule may not find out by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Context {
    /// The time of the operation.
    pub now: Time,
    /// The caller's fsuid.
    pub uid: u32,
    /// The caller's fsgid.
    pub gid: u32,
    /// The caller's umask; matters where the directory has no default ACL.
    pub umask: u16,
    /// A sequence number above every one in use (`Override::Entry::seq`). One operation needs one at most.
    pub seq: u64,
    /// On whose behalf.
    pub origin: Origin,
}

/// On whose behalf an operation is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A process in the mount: what it makes or changes is part of diff and commit.
    User,
    /// The runtime puts something in place: what it makes is marked `init`, and directories keep their times.
    Runtime,
}

/// A name in a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct At<'a> {
    /// The directory.
    pub dir: Ino,
    /// The name.
    pub name: &'a FileName,
}

/// What is to be done: one atomic batch, and what the caller answers with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan<T> {
    /// The batch.
    pub ops: Vec<UpperOp>,
    /// The operation's result.
    pub answer: T,
}

/// An error number, as a filesystem operation answers it. The numbers are Linux's (errno(3)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "errno(3) documents them")]
pub enum Errno {
    Access,
    Exist,
    Inval,
    Io,
    IsDir,
    MLink,
    NameTooLong,
    NoData,
    NoEnt,
    NoSpc,
    NoSys,
    NotDir,
    NotEmpty,
    NotSup,
    Perm,
    Range,
    RoFs,
    TooBig,
    FBig,
    BadF,
    XDev,
    NoTty,
    Stale,
}

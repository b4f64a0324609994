//! The union's rules: pure functions from what the layers hold to a plan. No system call, no fuser, no clock.
//!
//! Each operation is decided first (`rename::plan(&view, …) -> Plan`), then done by the caller: the plan's operations
//! are one atomic batch of the upper. Permissions are the kernel's business (`default_permissions`); what
//! ext4 does beside them (setuid clearing, times, nlink, sgid inheritance, ACL inheritance) is decided here.

use std::collections::BTreeMap;
use std::sync::Arc;

use nacre_store::{DirList, FileName, Ino, Inode, Override, UpperOp};

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

//! The FUSE shell: a request in, one call of [`Vfs`], a reply out. The only folder that knows the protocol, and none of its
//! types leaves it. Decides nothing about files; knows the two profiles and what the kernel is promised in each.
//!
//! ```text
//! wire      requests, from bytes
//! reply     answers, to bytes
//! convert   the protocol's numbers and our types
//! ops       each operation: one call and an answer
//! session   the connection: greeting, serving threads, what the kernel is told
//! team      how many threads read, and how they wait
//! ```
//!
//! * **Read-only**: nothing ever changes, so everything is cached without limit, and `open` and `opendir` are answered
//!   with ENOSYS once: the kernel never asks again. With passthrough as an option instead, which costs an `open` a file.
//! * **Writable**: the kernel is the only one to ask for changes, so it knows of them all: everything is cached without
//!   limit here too. Files that live in the upper alone are read and written by the kernel itself (passthrough).

mod convert;
mod ops;
mod reply;
mod session;
mod team;
mod wire;

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use self::reply::Agreed;
use self::wire::{Init, fopen, init};
use crate::ahead::Ahead;
use crate::sys;
use crate::vfs::{Passthrough, Vfs};

pub(crate) use self::session::Connection;

/// How a tree is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// An immutable view, fastest for small files.
    ReadOnly,
    /// An immutable view whose large files are read at the host's speed, with one page cache for all mounts.
    ReadOnlyPassthrough,
    /// An upper's tree.
    Writable,
}

/// The largest write; the kernel has 1 MiB as its own bound unless told otherwise by the administrator.
const WRITE_BYTES_MAX: u32 = 1 << 20;

/// Background requests (readahead) that the kernel may have pending: enough to keep a disk busy.
const BACKGROUND_MAX: u16 = 64;

/// A file that the kernel reads and writes by itself; given back when the last open file that uses it is gone.
struct Backing {
    device: Arc<OwnedFd>,
    id: i32,
}

impl Backing {
    fn open(device: &Arc<OwnedFd>, file: &std::fs::File) -> std::io::Result<Self> {
        Ok(Self {
            id: sys::backing_open(device.as_ref(), file)?,
            device: device.clone(),
        })
    }
}

impl Drop for Backing {
    fn drop(&mut self) {
        // Refused only when the connection is gone, and the kernel's table with it.
        sys::backing_close(self.device.as_ref(), self.id).ok();
    }
}

/// One connection's shell.
pub(crate) struct Shell {
    vfs: Arc<Vfs>,
    profile: Profile,
    device: Arc<OwnedFd>,
    ahead: Arc<Ahead>,
    /// The kernel refused a backing file once (not root, or a filesystem that cannot stack): it is not asked again.
    refused: AtomicBool,
    /// Backing files of inodes that are open by passthrough: one each, for all its open files. Taken before any lock
    /// of the tree; the kernel is asked to open a backing file under it, which waits for nobody.
    backings: Mutex<HashMap<u64, Arc<Backing>>>,
}

impl Shell {
    pub(crate) fn new(
        vfs: Arc<Vfs>,
        profile: Profile,
        device: Arc<OwnedFd>,
        ahead: Arc<Ahead>,
    ) -> Self {
        Self {
            vfs,
            profile,
            device,
            ahead,
            refused: AtomicBool::new(false),
            backings: Mutex::new(HashMap::new()),
        }
    }

    fn wants_passthrough(&self) -> bool {
        match self.profile {
            Profile::ReadOnly => false,
            Profile::ReadOnlyPassthrough | Profile::Writable => {
                !self.refused.load(Ordering::Acquire)
            }
        }
    }

    /// The flags of an open file that goes through the mount's page cache.
    fn cached_flags() -> u32 {
        fopen::KEEP_CACHE | fopen::NOFLUSH
    }

    /// Agrees with the kernel on what this connection can do.
    fn negotiate(&self, offer: &Init) -> Agreed {
        // Not ALLOW_IDMAP: with it the kernel tells who asks only where an inode is made, and truncation must know too.
        // Nor READDIRPLUS_AUTO: it guesses when attributes are wanted, and asks for each of them when it guessed wrong; a
        // walk of 80,000 files took 47,000 requests instead of 12,000. Here attributes cost a look-up in memory.
        let mut wanted = init::ASYNC_READ
            | init::BIG_WRITES
            | init::MAX_PAGES
            | init::DO_READDIRPLUS
            | init::PARALLEL_DIROPS
            | init::CACHE_SYMLINKS
            | init::EXPORT_SUPPORT
            | init::POSIX_ACL
            | init::DONT_MASK
            | init::HANDLE_KILLPRIV_V2
            | init::EXPLICIT_INVAL_DATA
            | init::SETXATTR_EXT
            | init::INIT_EXT
            | init::NO_OPENDIR_SUPPORT;
        wanted |= match self.profile {
            Profile::ReadOnly | Profile::ReadOnlyPassthrough => init::NO_OPEN_SUPPORT,
            Profile::Writable => init::ATOMIC_O_TRUNC,
        };
        if self.wants_passthrough() && offer.flags & init::PASSTHROUGH != 0 {
            wanted |= init::PASSTHROUGH;
            self.vfs.set_passthrough(Passthrough::Yes);
        } else {
            self.vfs.set_passthrough(Passthrough::No);
        }
        Agreed {
            minor: offer.minor.min(wire::MINOR),
            max_readahead: offer.max_readahead,
            // Every one of these is a matter of speed or of a corner; a kernel without it serves the tree all the same.
            flags: wanted & offer.flags,
            max_background: BACKGROUND_MAX,
            max_write: WRITE_BYTES_MAX,
            stack_depth: self.stack_depth(),
        }
    }

    /// A backing file on a stacked filesystem needs one level more, and then nothing can be stacked on the mount.
    fn stack_depth(&self) -> u32 {
        const OVERLAYFS: i64 = 0x794c_7630;
        let path = match self.vfs.upper() {
            Ok(upper) => upper.data_dir(),
            Err(_) => self.vfs.store().root(),
        };
        match rustix::fs::statfs(path) {
            Ok(host) if host.f_type == OVERLAYFS => 2,
            Ok(_) | Err(_) => 1,
        }
    }

    /// Passthrough was refused: this connection goes on without.
    fn refuse(&self, error: &std::io::Error) {
        if !self.refused.swap(true, Ordering::AcqRel) {
            tracing::info!(%error, "no passthrough here, all files are read and written through the service");
        }
        self.vfs.set_passthrough(Passthrough::No);
    }

    /// The last mount is gone. Returns whose threads may still wait for answers.
    fn end(&self) -> Arc<Ahead> {
        self.ahead.end();
        self.backings.lock().clear();
        self.vfs.disconnect();
        self.ahead.clone()
    }
}

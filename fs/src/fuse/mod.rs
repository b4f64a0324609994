//! The FUSE shell: a request in, one call of [`Vfs`], a reply out. The only folder that names fuser, and none of its types
//! leaves it. Decides nothing about files; knows the two profiles and what the kernel is promised in each.
//!
//! * **Read-only**: nothing ever changes, so everything is cached without limit, and `open` and `opendir` are answered
//!   with ENOSYS once: the kernel never asks again. With passthrough as an option instead, which costs an `open` a file.
//! * **Writable**: the kernel is the only one to ask for changes, so it knows of them all: everything is cached without
//!   limit here too. Files that live in the upper alone are read and written by the kernel itself (passthrough).

mod convert;
mod ops;
mod session;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fuser::{BackingId, FopenFlags, InitFlags, KernelConfig};
use parking_lot::Mutex;

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

/// For as long as the kernel likes: we say so when something changes.
const FOREVER: Duration = Duration::from_secs(1 << 30);

/// The largest write; the kernel has 1 MiB as its own bound unless told otherwise by the administrator.
const WRITE_BYTES_MAX: u32 = 1 << 20;

/// Background requests (readahead) that the kernel may have pending: enough to keep a disk busy.
const BACKGROUND_MAX: u16 = 64;

/// One connection's shell.
pub(crate) struct Shell {
    vfs: Arc<Vfs>,
    profile: Profile,
    /// The kernel refused a backing file once (not root, or a filesystem that cannot stack): it is not asked again.
    refused: AtomicBool,
    /// Backing files of inodes that are open by passthrough: one each, for all its open files. Taken before any lock
    /// of the tree; the kernel is asked to open a backing file under it, which waits for nobody.
    backings: Mutex<HashMap<u64, Arc<BackingId>>>,
}

impl Shell {
    pub(crate) fn new(vfs: Arc<Vfs>, profile: Profile) -> Self {
        Self {
            vfs,
            profile,
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
    fn cached_flags() -> FopenFlags {
        FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_NOFLUSH
    }

    /// Agrees with the kernel on what this connection can do.
    fn negotiate(&self, config: &mut KernelConfig) {
        // Not ALLOW_IDMAP: with it the kernel tells who asks only where an inode is made, and truncation must know too.
        // Nor READDIRPLUS_AUTO: it guesses when attributes are wanted, and asks for each of them when it guessed wrong; a
        // walk of 80,000 files took 47,000 requests instead of 12,000. Here attributes cost a look-up in memory.
        let mut wanted = InitFlags::FUSE_ASYNC_READ
            | InitFlags::FUSE_BIG_WRITES
            | InitFlags::FUSE_MAX_PAGES
            | InitFlags::FUSE_DO_READDIRPLUS
            | InitFlags::FUSE_PARALLEL_DIROPS
            | InitFlags::FUSE_CACHE_SYMLINKS
            | InitFlags::FUSE_EXPORT_SUPPORT
            | InitFlags::FUSE_POSIX_ACL
            | InitFlags::FUSE_DONT_MASK
            | InitFlags::FUSE_HANDLE_KILLPRIV_V2
            | InitFlags::FUSE_EXPLICIT_INVAL_DATA;
        match self.profile {
            Profile::ReadOnly | Profile::ReadOnlyPassthrough => {
                wanted |= InitFlags::FUSE_NO_OPEN_SUPPORT | InitFlags::FUSE_NO_OPENDIR_SUPPORT;
            }
            Profile::Writable => {
                wanted |= InitFlags::FUSE_ATOMIC_O_TRUNC | InitFlags::FUSE_NO_OPENDIR_SUPPORT;
            }
        }
        if self.wants_passthrough()
            && config.capabilities().contains(InitFlags::FUSE_PASSTHROUGH)
            && config.set_max_stack_depth(self.stack_depth()).is_ok()
        {
            wanted |= InitFlags::FUSE_PASSTHROUGH;
            self.vfs.set_passthrough(Passthrough::Yes);
        } else {
            self.vfs.set_passthrough(Passthrough::No);
        }
        // Every one of these is a matter of speed or of a corner; a kernel without it serves the tree all the same.
        let offered = wanted & config.capabilities();
        if let Err(missing) = config.add_capabilities(offered) {
            tracing::warn!(?missing, "the kernel took back what it offered");
        }
        // The bounds below are within fuser's own; were they not, its defaults would do.
        config.set_max_write(WRITE_BYTES_MAX).ok();
        config.set_max_background(BACKGROUND_MAX).ok();
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
}

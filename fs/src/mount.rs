//! Mounts: a FUSE connection is made detached from every place, served, and attached where it is wanted, any number of
//! times, in whichever mount namespace. Knows nothing of files.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::sched::CloneFlags;
use parking_lot::Mutex;
use rustix::fs::{AtFlags, CWD, StatxFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
};

use crate::ahead::Ahead;
use crate::errno::Errno;
use crate::flags::MountFlags;
use crate::fuse::Connection;
pub use crate::fuse::Profile;
use crate::sys;
use crate::vfs::Vfs;

/// The kernel's door for filesystem servers.
const DEVICE: &str = "/dev/fuse";

/// Shows in /proc/mounts as the type `fuse.nacre`.
const SUBTYPE: &str = "nacre";

/// How a tree is served.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    /// What /proc/mounts shows as the source: `debian-min`.
    pub source: String,
    /// How.
    pub profile: Profile,
}

/// Why a mount cannot be made or taken away.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MountError {
    /// This kernel (or this container) has no FUSE.
    #[error("{DEVICE} is missing")]
    NoDevice,
    /// It is there, and we may not.
    #[error("cannot open {DEVICE}: {source}")]
    Device {
        /// What the host said.
        source: io::Error,
    },
    /// The kernel refused to make the filesystem.
    #[error("cannot make a FUSE filesystem ({step}{detail}): {source}")]
    Make {
        /// The call that failed.
        step: &'static str,
        /// What the kernel said about it, if anything.
        detail: String,
        /// The error.
        source: io::Error,
    },
    /// The connection could not be served.
    #[error("cannot serve a FUSE filesystem: {source}")]
    Serve {
        /// Why.
        source: io::Error,
    },
    /// The mount cannot be attached.
    #[error("cannot mount on {}: {source}", target.display())]
    Attach {
        /// Where.
        target: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Somebody uses it.
    #[error("{} is busy", target.display())]
    Busy {
        /// The mount point.
        target: PathBuf,
    },
    /// Another filesystem is mounted there, or none.
    #[error("{} is not a mount of this tree", target.display())]
    NotOurs {
        /// The path.
        target: PathBuf,
    },
    /// The mount cannot be taken away.
    #[error("cannot unmount {}: {source}", target.display())]
    Detach {
        /// The mount point.
        target: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It has attributes that this mount cannot have.
    #[error("{} is a view that cannot be changed: it cannot be mounted for writing", target.display())]
    ReadOnly {
        /// The mount point.
        target: PathBuf,
    },
    /// Mounts of the tree are still in use.
    #[error("mounts of {source_name} are still in use")]
    InUse {
        /// What /proc/mounts shows as their source.
        source_name: String,
    },
    /// It was shut down before.
    #[error("{source_name} is not served any more")]
    Ended {
        /// What /proc/mounts showed as its source.
        source_name: String,
    },
}

/// A tree that is being served. Dropping it takes no mount away: they are served until the last one is gone.
pub struct Served {
    source: String,
    read_only: bool,
    connection: Connection,
    /// The mount that all others are clones of, attached nowhere; taken at shutdown.
    detached: Arc<Mutex<Option<Detached>>>,
    /// The superblock's device number: how one of our mounts is told from another's.
    device: (u32, u32),
}

impl Served {
    /// Makes a FUSE filesystem and serves `vfs` on it, attached nowhere yet.
    pub fn start(vfs: Arc<Vfs>, options: ServeOptions) -> Result<Self, MountError> {
        let device = open_device()?;
        let profile = options.profile;
        let mount = make(&device, &options)?;
        let serve = |source| MountError::Serve { source };
        let ahead = Arc::new(Ahead::default());
        let connection =
            Connection::start(vfs.clone(), profile, device.into(), ahead.clone()).map_err(serve)?;
        let stat = rustix::fs::statx(
            &mount,
            "",
            AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC,
            StatxFlags::BASIC_STATS,
        )
        .map_err(made("statx"))?;
        let detached = Arc::new(Mutex::new(Some(Detached::new(mount)?)));
        // Not kept by who lists: it is what the tree is served for.
        let listed = Arc::downgrade(&detached);
        let mount = move || listed.upgrade()?.lock().as_ref()?.held();
        ahead.start(vfs, mount).map_err(serve)?;
        Ok(Self {
            source: options.source,
            read_only: profile != Profile::Writable,
            connection,
            detached,
            device: (stat.stx_dev_major, stat.stx_dev_minor),
        })
    }

    /// What /proc/mounts shows as the source.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// `st_dev` of everything in the tree, major and minor.
    pub fn device(&self) -> (u32, u32) {
        self.device
    }

    /// Whether anybody still serves it: not after the last mount is gone, nor after an abort by the administrator.
    pub fn alive(&self) -> bool {
        self.connection.is_alive()
    }

    /// Returns a new mount of the tree, attached nowhere: for a container's root. It is gone with its last descriptor
    /// unless it is attached.
    pub fn mount_fd(&self) -> Result<OwnedFd, MountError> {
        let detached = self.detached.lock();
        let Some(mount) = detached.as_ref().filter(|_| self.alive()) else {
            return Err(MountError::Ended {
                source_name: self.source.clone(),
            });
        };
        mount.clone_mount()
    }

    /// Mounts the tree on `target` (absolute), in the mount namespace given or else in ours. Whoever sees the mount sees its
    /// flags with it.
    pub fn attach(
        &self,
        target: &Path,
        namespace: Option<BorrowedFd<'_>>,
        flags: MountFlags,
    ) -> Result<(), MountError> {
        let mount = self.mount_fd()?;
        let failed = |source| MountError::Attach {
            target: target.to_owned(),
            source,
        };
        self.set_flags(mount.as_fd(), flags).map_err(failed)?;
        in_namespace(namespace, || {
            rustix::mount::move_mount(
                &mount,
                "",
                CWD,
                target,
                MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_SYMLINKS,
            )
        })
        .map_err(failed)?
        .map_err(|errno| failed(errno.into()))
    }

    /// Changes the flags of the mount on `target`: `mount -o remount`.
    pub fn reconfigure(
        &self,
        target: &Path,
        namespace: Option<BorrowedFd<'_>>,
        flags: MountFlags,
    ) -> Result<(), MountError> {
        let owned = || target.to_owned();
        if self.read_only && !flags.is_read_only() {
            return Err(MountError::ReadOnly { target: owned() });
        }
        let failed = |source| MountError::Attach {
            target: owned(),
            source,
        };
        let done = in_namespace(namespace, || {
            if !self.is_on(target)? {
                return Ok(false);
            }
            let mount = rustix::mount::open_tree(CWD, target, OpenTreeFlags::OPEN_TREE_CLOEXEC)?;
            self.set_flags(mount.as_fd(), flags).map(|()| true)
        })
        .map_err(failed)?;
        match done {
            Ok(true) => Ok(()),
            Ok(false) => Err(MountError::NotOurs { target: owned() }),
            Err(error) => match Errno::from_io_error(&error) {
                // A directory of the tree, not the place where it is mounted.
                Some(Errno::INVAL) => Err(MountError::NotOurs { target: owned() }),
                // A file is open for writing, and `ro` is wanted.
                Some(Errno::BUSY) => Err(MountError::Busy { target: owned() }),
                _ => Err(failed(error)),
            },
        }
    }

    /// A tree that cannot be written has no mount for writing, whatever is asked for.
    fn set_flags(&self, mount: BorrowedFd<'_>, flags: MountFlags) -> io::Result<()> {
        let (mut set, mut clear) = flags.attributes();
        if self.read_only {
            let read_only = u64::from(MountAttrFlags::MOUNT_ATTR_RDONLY.bits());
            set |= read_only;
            clear &= !read_only;
        }
        sys::set_mount_attributes(mount, set, clear)
    }

    /// Whether what is seen at `target` is of this tree. Never asks the server: a dead one could not answer.
    fn is_on(&self, target: &Path) -> rustix::io::Result<bool> {
        let flags = AtFlags::STATX_DONT_SYNC | AtFlags::NO_AUTOMOUNT;
        let stat = rustix::fs::statx(CWD, target, flags, StatxFlags::BASIC_STATS)?;
        Ok((stat.stx_dev_major, stat.stx_dev_minor) == self.device)
    }

    /// Takes the mount on `target` away. `lazy`: it disappears from there at once, and ends when nobody uses it any more.
    pub fn detach(
        &self,
        target: &Path,
        namespace: Option<BorrowedFd<'_>>,
        lazy: bool,
    ) -> Result<(), MountError> {
        let failed = |source| MountError::Detach {
            target: target.to_owned(),
            source,
        };
        let done = in_namespace(namespace, || {
            if !self.is_on(target)? {
                return Ok(false);
            }
            let flags = if lazy {
                UnmountFlags::DETACH
            } else {
                UnmountFlags::empty()
            };
            rustix::mount::unmount(target, flags).map(|()| true)
        })
        .map_err(failed)?;
        match done {
            Ok(true) => Ok(()),
            // EINVAL: a directory of the tree, not the place where it is mounted.
            Ok(false) | Err(Errno::INVAL) => Err(MountError::NotOurs {
                target: target.to_owned(),
            }),
            Err(Errno::BUSY) => Err(MountError::Busy {
                target: target.to_owned(),
            }),
            Err(errno) => Err(failed(errno.into())),
        }
    }

    /// Ends the connection once its mounts are taken away, and waits until everything is durable. Mounts that are still
    /// attached or in use after `grace` go on being served; it can be called again.
    pub fn shutdown(&self, grace: Duration) -> Result<(), MountError> {
        // Not closed under the lock: the kernel may have things to ask of us before it lets go.
        let last = self.detached.lock().take();
        drop(last);
        if self.connection.wait(grace) {
            Ok(())
        } else {
            Err(MountError::InUse {
                source_name: self.source.clone(),
            })
        }
    }
}

fn open_device() -> Result<File, MountError> {
    match OpenOptions::new().read(true).write(true).open(DEVICE) {
        Ok(device) => Ok(device),
        Err(error) => match Errno::from_io_error(&error) {
            Some(Errno::NOENT | Errno::NODEV | Errno::NXIO) => Err(MountError::NoDevice),
            _ => Err(MountError::Device { source: error }),
        },
    }
}

/// Makes the filesystem and a mount of it that is attached nowhere. The kernel's greeting waits on `device` then.
fn make(device: &File, options: &ServeOptions) -> Result<OwnedFd, MountError> {
    let fs = rustix::mount::fsopen("fuse", FsOpenFlags::FSOPEN_CLOEXEC).map_err(made("fsopen"))?;
    let read_only = options.profile != Profile::Writable;
    let configured = configure(&fs, device, &options.source, read_only);
    if let Err(errno) = configured {
        return Err(MountError::Make {
            step: "fsconfig",
            detail: complaints(&fs),
            source: errno.into(),
        });
    }
    let attributes = if read_only {
        MountAttrFlags::MOUNT_ATTR_RDONLY
    } else {
        MountAttrFlags::empty()
    };
    rustix::mount::fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes).map_err(made("fsmount"))
}

fn configure(fs: &OwnedFd, device: &File, source: &str, read_only: bool) -> rustix::io::Result<()> {
    use rustix::mount::{fsconfig_create, fsconfig_set_flag, fsconfig_set_string};

    fsconfig_set_string(fs, "source", source)?;
    fsconfig_set_string(fs, "subtype", SUBTYPE)?;
    fsconfig_set_string(fs, "fd", device.as_raw_fd().to_string())?;
    // A directory; its permissions come with its first attributes.
    fsconfig_set_string(fs, "rootmode", "40000")?;
    fsconfig_set_string(
        fs,
        "user_id",
        rustix::process::geteuid().as_raw().to_string(),
    )?;
    fsconfig_set_string(
        fs,
        "group_id",
        rustix::process::getegid().as_raw().to_string(),
    )?;
    fsconfig_set_flag(fs, "default_permissions")?;
    fsconfig_set_flag(fs, "allow_other")?;
    if read_only {
        fsconfig_set_flag(fs, "ro")?;
    }
    fsconfig_create(fs)
}

/// What the kernel said about a filesystem that it did not make.
fn complaints(fs: &OwnedFd) -> String {
    let mut text = String::new();
    if let Ok(mut log) = fs.try_clone().map(File::from) {
        let mut line = [0; 1024];
        while let Ok(len @ 1..) = log.read(&mut line) {
            text.push_str(": ");
            text.push_str(String::from_utf8_lossy(line.get(..len).unwrap_or_default()).trim());
        }
    }
    text
}

fn made(step: &'static str) -> impl FnOnce(Errno) -> MountError {
    move |errno| MountError::Make {
        step,
        detail: String::new(),
        source: errno.into(),
    }
}

/// The first mount of a filesystem, which is kept to make others of it.
enum Detached {
    /// Attached nowhere; can be cloned since Linux 6.15.
    Nowhere(OwnedFd),
    /// On older kernels: on a directory of our own, which nobody else knows.
    Hidden(tempdir::Hidden),
}

impl Detached {
    fn new(mount: OwnedFd) -> Result<Self, MountError> {
        match clone_of(&mount) {
            Ok(_) => Ok(Self::Nowhere(mount)),
            Err(_) => tempdir::Hidden::attach(&mount)
                .map(Self::Hidden)
                .map_err(|source| MountError::Make {
                    step: "move_mount",
                    detail: String::new(),
                    source,
                }),
        }
    }

    /// The mount itself, once more: it is there as long as this is.
    fn held(&self) -> Option<OwnedFd> {
        match self {
            Self::Nowhere(mount) => mount.try_clone(),
            Self::Hidden(hidden) => hidden.as_fd().try_clone_to_owned(),
        }
        .ok()
    }

    fn clone_mount(&self) -> Result<OwnedFd, MountError> {
        match self {
            Self::Nowhere(mount) => clone_of(mount),
            Self::Hidden(hidden) => clone_of(hidden),
        }
        .map_err(made("open_tree"))
    }
}

fn clone_of(mount: impl AsFd) -> rustix::io::Result<OwnedFd> {
    let empty_path = OpenTreeFlags::AT_EMPTY_PATH;
    let flags = empty_path | OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    rustix::mount::open_tree(mount, "", flags)
}

/// A place for a mount that must be somewhere.
mod tempdir {
    use std::io;
    use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
    use std::path::PathBuf;

    use rustix::fs::{CWD, Mode, OFlags};
    use rustix::mount::{MountPropagationFlags, MoveMountFlags, UnmountFlags};

    /// A mount on a private directory; both go with it.
    pub(super) struct Hidden {
        root: OwnedFd,
        place: PathBuf,
    }

    impl Hidden {
        pub(super) fn attach(mount: &OwnedFd) -> io::Result<Self> {
            let place = PathBuf::from(format!("/run/nacre-mount-{}", unique()?));
            rustix::fs::mkdir(&place, Mode::RWXU)?;
            let attached = rustix::mount::move_mount(
                mount,
                "",
                CWD,
                &place,
                MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
            )
            .and_then(|()| rustix::mount::mount_change(&place, MountPropagationFlags::PRIVATE))
            .and_then(|()| {
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                rustix::fs::open(&place, flags, Mode::empty())
            });
            match attached {
                Ok(root) => Ok(Self { root, place }),
                Err(errno) => {
                    remove(&place);
                    Err(errno.into())
                }
            }
        }
    }

    impl Drop for Hidden {
        fn drop(&mut self) {
            remove(&self.place);
        }
    }

    impl AsFd for Hidden {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.root.as_fd()
        }
    }

    /// Takes the mount (if it is there) and the directory away.
    fn remove(place: &PathBuf) {
        // It may never have come to a mount.
        rustix::mount::unmount(place, UnmountFlags::DETACH).ok();
        // What is left is an empty directory in /run, gone at the next boot.
        rustix::fs::rmdir(place).ok();
    }

    fn unique() -> io::Result<String> {
        let mut bytes = [0; 8];
        let random = std::fs::File::open("/dev/urandom")?;
        rustix::io::read(&random, &mut bytes[..])?;
        Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

/// Does `what` in a mount namespace: in a thread of its own, since a thread cannot come back.
fn in_namespace<T: Send>(
    namespace: Option<BorrowedFd<'_>>,
    what: impl FnOnce() -> T + Send,
) -> io::Result<T> {
    let Some(namespace) = namespace else {
        return Ok(what());
    };
    std::thread::scope(|scope| {
        let entered = scope.spawn(move || {
            // A thread that shares its root and working directory with others may not change its namespace.
            nix::sched::unshare(CloneFlags::CLONE_FS)?;
            nix::sched::setns(namespace, CloneFlags::CLONE_NEWNS)?;
            Ok(what())
        });
        entered
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the thread in the namespace panicked")))
    })
}

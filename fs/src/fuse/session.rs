//! A running connection: the threads that serve it, and what can be told to its kernel.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use fuser::{Config, INodeNo, Notifier, Session, SessionACL};
use nacre_store::{FileName, Ino};
use parking_lot::{Condvar, Mutex};

use super::{Profile, Shell};
use crate::vfs::{Kernel, Vfs};

/// One client is served best by one thread, two by two; more than that only compete (measured on two cores).
const THREADS: usize = 2;

/// What is changed is on disk after so many seconds, as with ext4's journal: `syncfs` never reaches a FUSE server.
const COMMIT_EVERY: Duration = Duration::from_secs(5);

/// A connection that is being served until its last mount is gone.
pub(crate) struct Connection {
    ended: Arc<Ended>,
}

/// Set once the serving threads are gone.
#[derive(Default)]
struct Ended {
    flag: Mutex<bool>,
    changed: Condvar,
}

impl Ended {
    /// Waits until it is set or the time is over; returns whether it is set.
    fn wait(&self, time: Duration) -> bool {
        let until = Instant::now().checked_add(time);
        let mut flag = self.flag.lock();
        while !*flag {
            let Some(until) = until else {
                self.changed.wait(&mut flag);
                continue;
            };
            if self.changed.wait_until(&mut flag, until).timed_out() {
                break;
            }
        }
        *flag
    }

    fn set(&self) {
        *self.flag.lock() = true;
        self.changed.notify_all();
    }
}

impl Connection {
    /// Answers the kernel's greeting, which must be waiting on `device`, and serves from then on.
    pub(crate) fn start(vfs: Arc<Vfs>, profile: Profile, device: OwnedFd) -> io::Result<Self> {
        let mut config = Config::default();
        config.acl = SessionACL::All;
        config.n_threads = Some(THREADS);
        let shell = Shell::new(vfs.clone(), profile);
        let session = Session::from_fd(shell, device, SessionACL::All, config)?;
        vfs.set_kernel(Some(Box::new(Told(session.notifier()))));
        let ended = Arc::new(Ended::default());
        let connection = Self {
            ended: ended.clone(),
        };
        let served = vfs.clone();
        thread::Builder::new()
            .name("nacre-fuse".into())
            .spawn(move || {
                // Returns after the last mount is gone and the shell has been told so.
                if let Err(error) = session.run() {
                    tracing::warn!(%error, "a FUSE connection ended with an error");
                }
                served.set_kernel(None);
                ended.set();
            })?;
        if vfs.is_writable() {
            let ended = connection.ended.clone();
            thread::Builder::new()
                .name("nacre-commit".into())
                .spawn(move || {
                    while !ended.wait(COMMIT_EVERY) {
                        if let Err(errno) = vfs.sync_if_dirty() {
                            tracing::error!(%errno, "cannot make an upper durable, trying again");
                        }
                    }
                })?;
        }
        Ok(connection)
    }

    /// Whether the kernel still has it.
    pub(crate) fn is_alive(&self) -> bool {
        !*self.ended.flag.lock()
    }

    /// Waits for its end; returns whether it came.
    pub(crate) fn wait(&self, time: Duration) -> bool {
        self.ended.wait(time)
    }
}

/// The kernel of this connection. It answers with ENOENT what it has not cached; any other error means that the
/// connection is gone, and its caches with it.
struct Told(Notifier);

impl Kernel for Told {
    fn attributes_changed(&self, ino: Ino) {
        // A negative offset: the attributes and ACLs only, no page; it waits for no lock of a request.
        if let Err(error) = self.0.inval_inode(INodeNo(ino.0), -1, 0) {
            tracing::debug!(%error, inode = ino.0, "the kernel was not told of changed attributes");
        }
    }

    fn content_changed(&self, ino: Ino) {
        if let Err(error) = self.0.inval_inode(INodeNo(ino.0), 0, 0) {
            tracing::debug!(%error, inode = ino.0, "the kernel was not told of changed content");
        }
    }

    fn entry_changed(&self, dir: Ino, name: &FileName) {
        if let Err(error) = self.0.inval_entry(INodeNo(dir.0), name.as_os_str()) {
            tracing::debug!(%error, directory = dir.0, %name, "the kernel was not told of a changed name");
        }
        // The cached listing is the directory's content.
        self.content_changed(dir);
    }
}

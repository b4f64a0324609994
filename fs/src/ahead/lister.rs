//! The thread that lists.
//!
//! It waits for answers of the very process that it is part of. If that is killed meanwhile, the kernel waits for an answer that is
//! on its way as long as anybody has the connection's device open: so the thread has a table of descriptors of its own
//! (close_range(2), `CLOSE_RANGE_UNSHARE`), with neither that device nor anything else in it, and the end of the others closes
//! the connection.
//! For the same reason it touches nothing that has a descriptor: no store, no log.

use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use rustix::fs::{Mode, OFlags, RawDir, ResolveFlags};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

use crate::errno::{Errno, Result};
use crate::sys;

/// Room for the names of one request.
const LISTING_BYTES: usize = 64 << 10;

/// The first descriptor that is not one of the three of every process.
const FIRST_OWN: RawFd = 3;

/// A directory to be listed: where it is, below the root of a mount (a descriptor of the process, open until it is done).
struct Order {
    path: Vec<u8>,
    mount: RawFd,
}

/// What gives the orders. The thread ends with it.
pub(super) struct Lister {
    orders: Option<SyncSender<Order>>,
    done: Receiver<Result<()>>,
    thread: Option<JoinHandle<()>>,
    /// The number that its requests bear.
    pub(super) number: u32,
}

impl Lister {
    pub(super) fn start() -> std::io::Result<Self> {
        let (orders, to_do) = sync_channel::<Order>(1);
        let (tell, done) = sync_channel(1);
        let (introduce, introduction) = sync_channel(1);
        let builder = thread::Builder::new().name("nacre-ahead".into());
        let thread = builder.spawn(move || {
            let process = match alone() {
                Ok(process) => process,
                Err(error) => return drop(introduce.send(Err(error))),
            };
            let own = rustix::thread::gettid().as_raw_nonzero().get();
            if introduce.send(Ok(own.unsigned_abs())).is_err() {
                return;
            }
            let mut buf = vec![MaybeUninit::uninit(); LISTING_BYTES];
            for order in to_do {
                if tell.send(list(&process, &order, &mut buf)).is_err() {
                    return;
                }
            }
        })?;
        let gone = |_| std::io::Error::other("the thread that lists ahead ended");
        let number = introduction.recv().map_err(gone)??;
        Ok(Self {
            orders: Some(orders),
            done,
            thread: Some(thread),
            number,
        })
    }

    /// Lists a directory, and waits until that is done.
    pub(super) fn list(&self, mount: &OwnedFd, path: Vec<u8>) -> Result<()> {
        let order = Order {
            path,
            mount: mount.as_raw_fd(),
        };
        let sent = self.orders.as_ref().map(|orders| orders.send(order));
        match sent {
            Some(Ok(())) => self.done.recv().unwrap_or(Err(Errno::IO)),
            Some(Err(_)) | None => Err(Errno::IO),
        }
    }
}

impl Drop for Lister {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            // What panicked in it said so; nothing depends on it.
            thread.join().ok();
        }
    }
}

/// Gives the calling thread descriptors of its own: the standard ones, and one by which it gets others of the process.
fn alone() -> std::io::Result<OwnedFd> {
    sys::keep_descriptors_below(FIRST_OWN)?;
    Ok(pidfd_open(getpid(), PidfdFlags::empty())?)
}

/// What the directory holds is of no interest: the kernel has it then.
fn list(process: &OwnedFd, order: &Order, buf: &mut [MaybeUninit<u8>]) -> Result<()> {
    let mount = pidfd_getfd(process, order.mount, PidfdGetfdFlags::empty())?;
    let dir = rustix::fs::openat2(
        &mount,
        order.path.as_slice(),
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
        // It may be another directory by now, but nothing outside of the tree.
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV,
    )?;
    let mut entries = RawDir::new(&dir, buf);
    while let Some(entry) = entries.next() {
        entry?;
    }
    // A listing makes the kernel forget the time of access, and who walks asks for the attributes next.
    rustix::fs::fstat(&dir)?;
    Ok(())
}

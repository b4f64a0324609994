//! Listings read ahead of the programs that walk a tree.
//!
//! A program that looks at one directory after another (`find`, `tar`, `du`) waits for two requests at each of them. They bring all
//! names with their attributes, and their work could be done while the program is busy with the directory before; but
//! FUSE has no way to give a kernel a name that it did not ask for. So we make it ask: a thread lists the directories that come next
//! through a mount of the tree, and the kernel keeps what it is told.
//!
//! ```text
//! plan     which directory comes next, from what programs asked for
//! lister   the thread that lists it
//! this     the thread that plans and gives the orders
//! ```

mod lister;
mod plan;

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use nacre_store::{Ino, Kind};
use parking_lot::{Condvar, Mutex};

use self::lister::Lister;
use self::plan::{Plan, Tree};
use crate::vfs::Vfs;

/// Listings that were seen and not looked at yet, at most: there are more where they came from.
const SEEN_MAX: usize = 256;

/// What programs list, and the thread that lists what they will.
#[derive(Default)]
pub(crate) struct Ahead {
    seen: Mutex<Seen>,
    changed: Condvar,
    /// The thread that lists, 0 before there is one: what it asks for is nobody's wish.
    lister: AtomicU32,
    /// The thread that plans; it ends the one that lists.
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Seen {
    /// Directories that programs began to list.
    listed: VecDeque<Ino>,
    ended: bool,
}

impl Ahead {
    /// A thread began to list a directory.
    pub(crate) fn listed(&self, thread: u32, dir: Ino) {
        if thread == self.lister.load(Ordering::Relaxed) {
            return;
        }
        let mut seen = self.seen.lock();
        if seen.listed.len() < SEEN_MAX {
            seen.listed.push_back(dir);
            self.changed.notify_one();
        }
    }

    /// The connection is coming to its end: nothing more is listed.
    pub(crate) fn end(&self) {
        self.seen.lock().ended = true;
        self.changed.notify_one();
    }

    /// Waits for the end of the threads. The connection's device must be closed by now: it answers what they still wait for.
    pub(crate) fn join(&self) {
        let thread = self.thread.lock().take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that lists ahead panicked");
        }
    }

    /// Lists directories in a thread of its own, through what `mount` returns (nothing once the tree is not served any more),
    /// until the connection is gone.
    pub(crate) fn start(
        self: &Arc<Self>,
        vfs: Arc<Vfs>,
        mount: impl Fn() -> Option<OwnedFd> + Send + 'static,
    ) -> std::io::Result<()> {
        let ahead = self.clone();
        let builder = thread::Builder::new().name("nacre-ahead".into());
        let thread = builder.spawn(move || ahead.work(&vfs, &mount))?;
        *self.thread.lock() = Some(thread);
        Ok(())
    }

    fn work(&self, vfs: &Vfs, mount: &dyn Fn() -> Option<OwnedFd>) {
        let mut plan = Plan::default();
        // Started when a walk is seen first: most mounts see none.
        let mut started = None;
        while let Some(dir) = self.next(&mut plan, vfs) {
            let lister = match started.take().map_or_else(Lister::start, Ok) {
                Ok(lister) => started.insert(lister),
                Err(error) => {
                    return tracing::warn!(%error, "directories are not listed ahead of who walks them");
                }
            };
            self.lister.store(lister.number, Ordering::Relaxed);
            // The mount is not kept: the tree would be served as long as we do.
            let Some(mount) = mount() else { return };
            let path = vfs.path_of_dir(dir);
            if let Err(errno) = path.and_then(|path| lister.list(&mount, path)) {
                tracing::debug!(directory = dir.0, %errno, "not listed ahead");
            }
        }
    }

    /// Waits for a directory that is to be listed; `None` when there will be none any more.
    fn next(&self, plan: &mut Plan, vfs: &Vfs) -> Option<Ino> {
        loop {
            let mut seen = self.seen.lock();
            while seen.listed.is_empty() && !seen.ended && !plan.has_next() {
                self.changed.wait(&mut seen);
            }
            if seen.ended {
                return None;
            }
            let listed = std::mem::take(&mut seen.listed);
            drop(seen);
            for dir in listed {
                plan.listed(vfs, dir, Instant::now());
            }
            if let Some(dir) = plan.next(vfs) {
                return Some(dir);
            }
        }
    }
}

impl Tree for Vfs {
    fn parent(&self, dir: Ino) -> Option<Ino> {
        (dir != Ino::ROOT).then(|| self.parent_of(dir).ok())?
    }

    fn subdirs(&self, dir: Ino) -> Vec<Ino> {
        let mut found = Vec::new();
        let read = self.readdir(dir, 0, &mut |item| {
            if item.kind == Kind::Dir && !matches!(item.name, b"." | b"..") {
                found.push(item.ino);
            }
            ControlFlow::Continue(())
        });
        // What cannot be read is told to who asks for it.
        read.map(|()| found).unwrap_or_default()
    }

    fn entries(&self, dir: Ino) -> usize {
        self.entries_of(dir).unwrap_or(0)
    }
}

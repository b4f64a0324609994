//! The trees that are being served: one superblock for each, whoever mounts it. Never attaches one.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use nacre_fs::mount::{MountError, Profile, ServeOptions, Served};
use nacre_fs::vfs::Vfs;
use nacre_store::{Image, ImageId, Store, UpperId};
use parking_lot::Mutex;

use super::error::{Error, Result};
use super::marks::{Mark, Marks};
use super::mounts::View;

/// How long the kernel may take to let go of a tree whose last mount is gone: it is done in microseconds, unless a
/// process is just leaving it.
pub(crate) const LET_GO: Duration = Duration::from_secs(10);

/// How long one who wants a tree that was let go of waits until its last user has left: what is on its way out is gone in
/// milliseconds, and a process that stays would stay for longer than anybody waits.
const LAST_USER: Duration = Duration::from_secs(1);

/// How long the threads of an ended connection, or somebody who looks, may take to drop a tree.
const CLOSE: Duration = Duration::from_secs(2);
const CLOSE_PAUSE: Duration = Duration::from_millis(2);

/// A tree that is being served. Whoever attaches it or runs in it holds it as his lease.
pub(crate) struct Root {
    vfs: Arc<Vfs>,
    served: Served,
    /// None if it could not be written; the mount is worth more than the clearing up after us.
    _mark: Option<Mark>,
}

/// Which tree.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Key {
    /// A writable layer's.
    Upper(UpperId),
    /// An image's, read-only: served in one way or in the other, which a connection cannot change.
    Image(ImageId, View),
}

/// All of them.
pub(crate) struct Roots {
    /// Held while one is brought up, so that nobody brings it up twice; never while the end of one is waited for.
    state: Mutex<State>,
    marks: Marks,
}

#[derive(Default)]
struct State {
    served: HashMap<Key, Arc<Root>>,
    /// Writable layers that are open, served or only looked at: there is never a second tree over one layer.
    open: HashMap<UpperId, Weak<Vfs>>,
}

impl State {
    fn upper(&mut self, store: &Store, upper: UpperId, name: &str) -> Result<Arc<Vfs>> {
        self.open.retain(|_, vfs| vfs.strong_count() > 0);
        if let Some(vfs) = self.open.get(&upper).and_then(Weak::upgrade) {
            return Ok(vfs);
        }
        let failed = |errno: nacre_fs::errno::Errno| Error::Io {
            what: "cannot open the writable layer of",
            path: name.into(),
            source: errno.into(),
        };
        let vfs = Arc::new(Vfs::writable(store.open_upper(upper)?).map_err(failed)?);
        self.open.insert(upper, Arc::downgrade(&vfs));
        Ok(vfs)
    }
}

impl Root {
    /// The tree.
    pub(crate) fn vfs(&self) -> &Arc<Vfs> {
        &self.vfs
    }

    /// What serves it.
    pub(crate) fn served(&self) -> &Served {
        &self.served
    }

    /// A mount of it that is attached nowhere.
    pub(crate) fn descriptor(&self) -> Result<OwnedFd> {
        Ok(self.served.mount_fd()?)
    }

    /// Makes what was written durable.
    pub(crate) fn settle(&self) -> Result<()> {
        settle(&self.vfs, self.served.source(), Vfs::sync)
    }
}

fn settle(
    vfs: &Vfs,
    source: &str,
    how: impl FnOnce(&Vfs) -> nacre_fs::errno::Result<()>,
) -> Result<()> {
    if !vfs.is_writable() {
        return Ok(());
    }
    how(vfs).map_err(|errno| Error::Io {
        what: "cannot make durable",
        path: source.into(),
        source: errno.into(),
    })
}

/// Waits for the end of a tree that has been let go of.
fn end(root: &Root, patience: Duration) -> Result<()> {
    match root.served.shutdown(patience) {
        Err(MountError::InUse { source_name }) => Err(Error::conflict(format!(
            "{source_name} was unmounted, but a process still uses it (its working directory or an open file is there): \
             it is free again when that process has left"
        ))),
        ended => Ok(ended?),
    }
}

impl Roots {
    /// None yet.
    pub(crate) fn new(marks: Marks) -> Roots {
        Roots {
            state: Mutex::default(),
            marks,
        }
    }

    /// The tree of a writable layer. `name` is what the kernel shows as its source, if it is not served yet.
    pub(crate) fn writable(&self, store: &Store, upper: UpperId, name: &str) -> Result<Arc<Root>> {
        self.get(Key::Upper(upper), name, Profile::Writable, |state| {
            state.upper(store, upper, name)
        })
    }

    /// The tree of an image. `name` is what the kernel shows as its source, if it is not served yet.
    pub(crate) fn read_only(
        &self,
        store: &Store,
        image: &Image,
        view: View,
        name: &str,
    ) -> Result<Arc<Root>> {
        let profile = match view {
            View::ReadOnlyPassthrough => Profile::ReadOnlyPassthrough,
            View::ReadOnly | View::Writable => Profile::ReadOnly,
        };
        self.get(Key::Image(image.id, view), name, profile, |_| {
            let tree = store.tree(image.chain.as_ref())?;
            Ok(Arc::new(Vfs::read_only(store.clone(), tree)))
        })
    }

    fn get(
        &self,
        key: Key,
        name: &str,
        profile: Profile,
        open: impl FnOnce(&mut State) -> Result<Arc<Vfs>>,
    ) -> Result<Arc<Root>> {
        self.wait_for_end(key)?;
        let mut state = self.state.lock();
        if let Some(root) = state.served.get(&key) {
            if root.served.mount_fd().is_ok() {
                return Ok(Arc::clone(root));
            }
            // Two connections over one tree would not see each other's changes.
            end(root, Duration::ZERO)?;
            state.served.remove(&key);
        }
        let vfs = open(&mut state)?;
        let options = ServeOptions {
            source: name.to_owned(),
            profile,
        };
        let served = Served::start(Arc::clone(&vfs), options)?;
        let mark = self.marks.put(served.device());
        if let Err(error) = &mark {
            tracing::warn!(source = name, %error, "cannot note what is mounted");
        }
        let root = Arc::new(Root {
            vfs,
            served,
            _mark: mark.ok(),
        });
        state.served.insert(key, Arc::clone(&root));
        Ok(root)
    }

    /// Waits until a tree that was let go of, or died, is served no more, so that it can be served anew. An error: somebody
    /// still uses it.
    pub(crate) fn wait_for_end(&self, key: Key) -> Result<()> {
        let let_go = {
            let state = self.state.lock();
            let root = state.served.get(&key);
            // Only of such a one: a second holder of any other would keep `let_go` from ending it.
            root.filter(|root| root.served.mount_fd().is_err())
                .map(Arc::clone)
        };
        match let_go {
            Some(root) => end(&root, LAST_USER),
            None => Ok(()),
        }
    }

    /// Ends a tree that nobody has a lease of any more, and waits until it is durable. One that a process still uses after
    /// `grace` is served on. The caller has dropped its own lease.
    pub(crate) fn let_go(&self, key: Key, grace: Duration) -> Result<()> {
        let root = {
            let state = self.state.lock();
            match state.served.get(&key) {
                // A container and a mount of its root, or two mounts: the last of them ends it.
                Some(root) if Arc::strong_count(root) == 1 => Arc::clone(root),
                _ => return Ok(()),
            }
        };
        // Not under the lock: others need not wait for the last user of this one.
        root.settle()?;
        root.served.shutdown(grace)?;
        let served = &mut self.state.lock().served;
        if served.get(&key).is_some_and(|now| Arc::ptr_eq(now, &root)) {
            served.remove(&key);
        }
        Ok(())
    }

    /// Trees that were let go of, and that somebody still uses: a working directory, an open file.
    pub(crate) fn lingering(&self) -> Vec<String> {
        let served = &mut self.state.lock().served;
        served.retain(|_, root| root.served.alive());
        let let_go = served
            .values()
            .filter(|root| root.served.mount_fd().is_err());
        let_go
            .map(|root| format!("unmounted tree {}", root.served.source()))
            .collect()
    }

    /// A writable layer's tree to look at, served or not.
    pub(crate) fn tree(&self, store: &Store, upper: UpperId, name: &str) -> Result<Arc<Vfs>> {
        self.state.lock().upper(store, upper, name)
    }

    /// Waits until nobody serves a writable layer or looks at it, so that it may go; says whether that came.
    pub(crate) fn is_closed(&self, upper: UpperId) -> bool {
        let start = Instant::now();
        loop {
            let open = self
                .state
                .lock()
                .open
                .get(&upper)
                .is_some_and(|vfs| vfs.strong_count() > 0);
            if !open || start.elapsed() >= CLOSE {
                return !open;
            }
            std::thread::sleep(CLOSE_PAUSE);
        }
    }

    /// Ends all that are left, as when the service stops; one that somebody still holds is only made durable. No failure keeps
    /// it from the others.
    pub(crate) fn end_all(&self) -> Result<()> {
        let keys: Vec<Key> = self.state.lock().served.keys().copied().collect();
        let ended = keys.into_iter().map(|key| self.let_go(key, LET_GO));
        let ended = ended.fold(Ok(()), Result::and);
        ended.and(self.settle_all())
    }

    /// Makes durable what was written to the trees that are served, while they are in use. No failure keeps it from the others.
    pub(crate) fn settle_all(&self) -> Result<()> {
        // The trees alone: who held what serves one would keep `let_go` from ending it.
        let served: Vec<(Arc<Vfs>, String)> = {
            let state = self.state.lock();
            let roots = state.served.values();
            roots
                .map(|root| (Arc::clone(&root.vfs), root.served.source().to_owned()))
                .collect()
        };
        let all = served.iter().map(|(vfs, source)| {
            // What programs wrote into memory that they have mapped comes to us first.
            settle(vfs, source, |vfs| vfs.settled().and_then(|_| vfs.sync()))
        });
        all.fold(Ok(()), Result::and)
    }
}

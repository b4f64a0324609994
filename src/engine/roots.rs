//! The trees that are being served: one superblock for each, whoever mounts it. Never attaches one.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use nacre_fs::mount::{Profile, ServeOptions, Served};
use nacre_fs::vfs::Vfs;
use nacre_store::{Image, ImageId, Store, UpperId};
use parking_lot::Mutex;

use super::error::{Error, Result};

/// How long the kernel may take to let go of a tree whose last mount is gone: it is done in microseconds, unless a
/// process is just leaving it.
pub(crate) const LET_GO: Duration = Duration::from_secs(10);

/// A tree that is being served.
pub(crate) struct Root {
    vfs: Arc<Vfs>,
    served: Served,
}

/// Which tree.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Key {
    /// A writable layer's.
    Upper(UpperId),
    /// An image's, read-only.
    Image(ImageId),
}

/// All of them. The lock is held while one is brought up, so that nobody brings it up twice.
#[derive(Default)]
pub(crate) struct Roots(Mutex<HashMap<Key, Arc<Root>>>);

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
        if self.vfs.is_writable() {
            self.vfs.sync().map_err(|errno| Error::Io {
                what: "cannot make durable",
                path: self.served.source().into(),
                source: errno.into(),
            })?;
        }
        Ok(())
    }
}

impl Roots {
    /// The tree of a writable layer.
    pub(crate) fn writable(&self, store: &Store, upper: UpperId, name: &str) -> Result<Arc<Root>> {
        self.get(Key::Upper(upper), name, Profile::Writable, || {
            let failed = |errno: nacre_fs::errno::Errno| Error::Io {
                what: "cannot open the writable layer of",
                path: name.into(),
                source: errno.into(),
            };
            Vfs::writable(store.open_upper(upper)?).map_err(failed)
        })
    }

    /// The tree of an image.
    pub(crate) fn read_only(&self, store: &Store, image: &Image, name: &str) -> Result<Arc<Root>> {
        self.get(Key::Image(image.id), name, Profile::ReadOnly, || {
            Ok(Vfs::read_only(
                store.clone(),
                store.tree(image.chain.as_ref())?,
            ))
        })
    }

    fn get(
        &self,
        key: Key,
        name: &str,
        profile: Profile,
        open: impl FnOnce() -> Result<Vfs>,
    ) -> Result<Arc<Root>> {
        let mut all = self.0.lock();
        if let Some(root) = all.get(&key) {
            if root.served.mount_fd().is_ok() {
                return Ok(Arc::clone(root));
            }
            // It was let go of, or died: two connections over one tree would not see each other's changes.
            root.served.shutdown(LET_GO)?;
            all.remove(&key);
        }
        let vfs = Arc::new(open()?);
        let served = Served::start(
            Arc::clone(&vfs),
            ServeOptions {
                source: format!("nacre:{name}"),
                profile,
            },
        )?;
        let root = Arc::new(Root { vfs, served });
        all.insert(key, Arc::clone(&root));
        Ok(root)
    }

    /// Ends a tree that nobody mounts any more, and waits until it is durable. One that somebody still uses after `grace` is
    /// served on.
    pub(crate) fn let_go(&self, key: Key, grace: Duration) -> Result<()> {
        // Not under the lock: others need not wait for the last user of this one.
        let Some(root) = self.0.lock().get(&key).map(Arc::clone) else {
            return Ok(());
        };
        root.settle()?;
        root.served.shutdown(grace)?;
        let mut all = self.0.lock();
        if all.get(&key).is_some_and(|now| Arc::ptr_eq(now, &root)) {
            all.remove(&key);
        }
        Ok(())
    }

    /// Trees that were let go of, and that somebody still uses: a working directory, an open file.
    pub(crate) fn lingering(&self) -> Vec<String> {
        let mut all = self.0.lock();
        all.retain(|_, root| root.served.alive());
        let let_go = all.values().filter(|root| root.served.mount_fd().is_err());
        let_go
            .map(|root| format!("unmounted tree {}", root.served.source()))
            .collect()
    }

    /// A writable layer's tree to look at: the one that is served, else one that nobody sees.
    pub(crate) fn tree(&self, store: &Store, upper: UpperId) -> Result<Arc<Vfs>> {
        let all = self.0.lock();
        if let Some(root) = all.get(&Key::Upper(upper))
            && root.served.alive()
        {
            return Ok(Arc::clone(&root.vfs));
        }
        let failed = |errno: nacre_fs::errno::Errno| Error::Io {
            what: "cannot open writable layer",
            path: upper.0.to_string().into(),
            source: errno.into(),
        };
        Vfs::writable(store.open_upper(upper)?)
            .map(Arc::new)
            .map_err(failed)
    }

    /// Ends all that are left, as when the service stops.
    pub(crate) fn end_all(&self) -> Result<()> {
        let keys: Vec<Key> = self.0.lock().keys().copied().collect();
        keys.into_iter()
            .try_for_each(|key| self.let_go(key, LET_GO))
    }
}

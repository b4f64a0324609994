//! Images as directories: named writable mounts, whose changes are kept under the name until it is removed, and
//! read-only ones. Several mounts of one name, or of one image, are clones of one superblock.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use nacre_fs::flags::MountFlags;
use nacre_store::{DocumentKind, ImageId, Store, UpperId};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::Engine;
use super::container::{image_text, upper_number};
use super::error::{Error, Result};
use super::events::attributes;
use super::mount_table::{self, Namespace};
use super::namespace::Owner;
use super::remove::User;
use super::roots::{Key, LET_GO, Root};
use super::when::{self, Nanos};

/// Version of the document's shape.
const DOCUMENT_VERSION: u32 = 1;

/// A name with its changes. Stored as JSON under the name.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Kept {
    pub(super) version: u32,
    pub(super) name: String,
    #[serde(with = "image_text")]
    pub(crate) image: ImageId,
    pub(super) image_name: String,
    #[serde(with = "upper_number")]
    pub(crate) upper: UpperId,
    pub(super) created: Nanos,
}

/// A place where a tree is mounted.
pub(super) struct Attached {
    pub(super) key: Key,
    pub(super) target: PathBuf,
    /// Where it is if not where the service is.
    pub(super) namespace: Option<Namespace>,
    /// The name of a writable mount.
    pub(super) name: Option<String>,
    pub(super) image: ImageId,
    pub(super) image_name: String,
    pub(super) root: Arc<Root>,
    /// The directory was made for this mount and goes with it.
    pub(super) own_directory: bool,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) kept: Vec<Kept>,
    pub(super) attached: Vec<Attached>,
}

/// All of them. The lock is held while a tree is attached or taken away: mounts are made one at a time.
#[derive(Default)]
pub(crate) struct Mounts(pub(super) Mutex<State>);

/// What is to be mounted.
#[derive(Clone, Debug, Default)]
pub struct MountRequest {
    /// The image; may be empty for a name that is kept already, and is for a container.
    pub image: String,
    /// The container whose root is wanted.
    pub container: Option<String>,
    /// Where; made up if there is none.
    pub target: Option<PathBuf>,
    /// The name that changes are kept under; made up if there is none.
    pub name: Option<String>,
    /// Whether it can be written.
    pub view: View,
    /// What holds for this mount alone.
    pub flags: MountFlags,
    /// The process in whose mount namespace the target is.
    pub peer: Option<i32>,
}

/// What of an image is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum View {
    /// The image with a writable layer over it.
    #[default]
    Writable,
    /// The image's own tree, which nobody can write: fastest for small files.
    ReadOnly,
    /// The same, whose large files the kernel reads by itself (passthrough): each costs an `open`, and is read at the host's speed.
    ReadOnlyPassthrough,
}

/// One mount, or a name that is not mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mounted {
    /// Empty for a read-only mount.
    pub name: String,
    /// None for a name that is not mounted.
    pub target: Option<PathBuf>,
    /// The image as it was asked for.
    pub image: String,
    /// Which image that was.
    pub image_id: ImageId,
    /// Whether it can be written.
    pub read_only: bool,
}

impl Mounts {
    /// Reads the names from the store.
    pub(crate) fn load(store: &Store) -> Result<Mounts> {
        let mut state = State::default();
        for (name, bytes) in store.documents(DocumentKind::Mount)? {
            let fail = |source| Error::Document {
                what: "mount",
                name: name.clone(),
                source,
            };
            let kept: Kept = serde_json::from_slice(&bytes).map_err(fail)?;
            if kept.version != DOCUMENT_VERSION {
                return Err(Error::broken(format!(
                    "mount {name} was written by another version of nacre"
                )));
            }
            state.kept.push(kept);
        }
        Ok(Mounts(Mutex::new(state)))
    }

    /// The names.
    pub(crate) fn names(&self) -> Vec<String> {
        self.0
            .lock()
            .kept
            .iter()
            .map(|kept| kept.name.clone())
            .collect()
    }

    /// The writable layers of the names.
    pub(crate) fn uppers(&self) -> Vec<UpperId> {
        self.0.lock().kept.iter().map(|kept| kept.upper).collect()
    }

    /// What is kept under a name.
    pub(crate) fn kept(&self, name: &str) -> Option<Kept> {
        self.0
            .lock()
            .kept
            .iter()
            .find(|kept| kept.name == name)
            .cloned()
    }

    /// Who uses an image.
    pub(crate) fn users(&self, image: &ImageId) -> Vec<User> {
        let state = self.0.lock();
        let attached = state
            .attached
            .iter()
            .filter(|mount| mount.image == *image)
            .map(|mount| User {
                what: "mount",
                name: mount
                    .name
                    .clone()
                    .unwrap_or_else(|| mount.target.display().to_string()),
                active: true,
            });
        let idle = state.kept.iter().filter(|kept| kept.image == *image);
        let idle = idle.map(|kept| User {
            what: "mount",
            name: kept.name.clone(),
            active: false,
        });
        attached.chain(idle).collect()
    }

    /// Where a writable layer is mounted, if it is.
    pub(crate) fn place_of(&self, upper: UpperId) -> Option<PathBuf> {
        let state = self.0.lock();
        let mut mounts = state.attached.iter();
        mounts
            .find(|mount| mount.key == Key::Upper(upper))
            .map(|mount| mount.target.clone())
    }

    /// What is mounted, as a user knows it.
    pub(crate) fn in_use(&self) -> Vec<String> {
        let attached =
            |mount: &Attached| format!("mount {} ({})", mount.target.display(), mount.image_name);
        self.0.lock().attached.iter().map(attached).collect()
    }
}

impl Engine {
    /// Mounts an image or a kept name.
    pub fn mount(&self, request: &MountRequest) -> Result<Mounted> {
        if request.view != View::Writable && request.name.is_some() {
            return Err(Error::invalid(
                "a read-only mount keeps no changes: it has no name",
            ));
        }
        self.notice_unmounts();
        let namespace = match request.peer {
            Some(pid) => Namespace::of(pid).map_err(Error::io(
                "cannot look into the mount namespace of",
                &PathBuf::from(format!("process {pid}")),
            ))?,
            None => None,
        };
        if let Some(target) = &request.target {
            check_target(namespace.as_ref(), target)?;
        }
        if let Some(key) = self.key_of(request)? {
            // Before the lock is taken: who mounts something else does not wait.
            self.roots.wait_for_end(key)?;
        }
        let mut state = self.mounts.0.lock();
        let (tree, made) = match &request.container {
            Some(container) => (self.container_tree(container)?, None),
            None if request.view != View::Writable => (self.read_only_tree(request)?, None),
            None => self.writable_tree(&mut state, request)?,
        };
        let attached = self.attach_tree(&tree, request, namespace);
        match attached {
            Ok(attached) => {
                let mounted = attached.shown();
                state.attached.push(attached);
                let target = mounted
                    .target
                    .as_ref()
                    .map(|target| target.display().to_string())
                    .unwrap_or_default();
                self.events.tell(
                    "mount",
                    "mount",
                    &target,
                    attributes([("name", &mounted.name), ("image", &mounted.image)]),
                );
                Ok(mounted)
            }
            Err(error) => {
                let key = tree.key;
                drop(tree);
                self.roots.let_go(key, LET_GO)?;
                if let Some(name) = made {
                    self.forget_kept(&mut state, &name)?;
                }
                Err(error)
            }
        }
    }

    /// The tree that a request is for, if there is one already.
    fn key_of(&self, request: &MountRequest) -> Result<Option<Key>> {
        if let Some(container) = &request.container {
            let upper = self.containers.find(container)?.document().upper;
            return Ok(Some(Key::Upper(upper)));
        }
        if request.view != View::Writable {
            let found = self.find_image(&request.image)?;
            return Ok(Some(Key::Image(found.image.id, request.view)));
        }
        let kept = request
            .name
            .as_deref()
            .and_then(|name| self.mounts.kept(name));
        Ok(kept.map(|kept| Key::Upper(kept.upper)))
    }

    /// A container's root, running or not: the filesystem that its processes see, not a second one over the same layer.
    fn container_tree(&self, text: &str) -> Result<Tree> {
        let document = self.containers.find(text)?.document();
        let root = self
            .roots
            .writable(&self.store, document.upper, &document.name)?;
        Ok(Tree {
            key: Key::Upper(document.upper),
            name: Some(document.name),
            image: document.image,
            image_name: document.config.image,
            root,
        })
    }

    fn read_only_tree(&self, request: &MountRequest) -> Result<Tree> {
        let found = self.find_image(&request.image)?;
        let image_name = found
            .by
            .map_or_else(|| request.image.clone(), |name| name.familiar());
        let root = self
            .roots
            .read_only(&self.store, &found.image, request.view, &request.image)?;
        Ok(Tree {
            key: Key::Image(found.image.id, request.view),
            name: None,
            image: found.image.id,
            image_name,
            root,
        })
    }

    /// The tree of a name; also the name, if it was made just now.
    fn writable_tree(
        &self,
        state: &mut State,
        request: &MountRequest,
    ) -> Result<(Tree, Option<String>)> {
        let known = request
            .name
            .as_deref()
            .and_then(|name| state.kept.iter().find(|kept| kept.name == name));
        let (kept, made) = match known {
            Some(kept) => {
                if !request.image.is_empty()
                    && self.find_image(&request.image)?.image.id != kept.image
                {
                    return Err(Error::conflict(format!(
                        "mount \"{}\" keeps changes to {}, not to {}",
                        kept.name, kept.image_name, request.image
                    )));
                }
                (kept.clone(), None)
            }
            None => {
                let kept = self.keep(state, request)?;
                let name = kept.name.clone();
                (kept, Some(name))
            }
        };
        let source = match request.image.as_str() {
            "" => &kept.image_name,
            image => image,
        };
        let root = self.roots.writable(&self.store, kept.upper, source);
        let root = match (root, &made) {
            (Err(error), Some(name)) => {
                self.forget_kept(state, name)?;
                return Err(error);
            }
            (root, _) => root?,
        };
        let key = Key::Upper(kept.upper);
        Ok((
            Tree {
                key,
                name: Some(kept.name),
                image: kept.image,
                image_name: kept.image_name,
                root,
            },
            made,
        ))
    }

    /// Makes a writable layer and keeps it under a name.
    fn keep(&self, state: &mut State, request: &MountRequest) -> Result<Kept> {
        let found = self.find_image(&request.image)?;
        let claim = self
            .namespace
            .claim(request.name.as_deref(), Owner::Mount)?;
        let upper = self.store.create_upper(found.image.chain.as_ref())?.id();
        let kept = Kept {
            version: DOCUMENT_VERSION,
            name: claim.text().to_owned(),
            image: found.image.id,
            image_name: found
                .by
                .map_or_else(|| request.image.clone(), |name| name.familiar()),
            upper,
            created: when::now(),
        };
        let fail = |source| Error::Document {
            what: "mount",
            name: kept.name.clone(),
            source,
        };
        let bytes = serde_json::to_vec(&kept).map_err(fail)?;
        if let Err(error) = self
            .store
            .put_document(DocumentKind::Mount, &kept.name, &bytes)
        {
            self.store.remove_upper(upper)?;
            return Err(error.into());
        }
        claim.keep();
        state.kept.push(kept.clone());
        Ok(kept)
    }

    fn attach_tree(
        &self,
        tree: &Tree,
        request: &MountRequest,
        namespace: Option<Namespace>,
    ) -> Result<Attached> {
        let (target, own_directory) = match &request.target {
            Some(target) => (target.clone(), false),
            None => (self.make_target(tree, namespace.as_ref())?, true),
        };
        let inside = namespace.as_ref().map(Namespace::descriptor);
        tree.root.served().attach(&target, inside, request.flags)?;
        Ok(Attached {
            key: tree.key,
            target,
            namespace,
            name: tree.name.clone(),
            image: tree.image,
            image_name: tree.image_name.clone(),
            root: Arc::clone(&tree.root),
            own_directory,
        })
    }

    /// A directory of its own for a mount that was asked for without one.
    fn make_target(&self, tree: &Tree, namespace: Option<&Namespace>) -> Result<PathBuf> {
        let named = match &tree.name {
            Some(name) => name.clone(),
            None => super::names::invent(|name| self.dirs.mounts.join(name).exists())?,
        };
        let taken = |name: &str| self.dirs.mounts.join(name).exists();
        // The second mount of a name needs another place.
        let name = if taken(&named) {
            (2..)
                .map(|n: u32| format!("{named}-{n}"))
                .find(|n| !taken(n))
                .unwrap_or(named)
        } else {
            named
        };
        let target = self.dirs.mounts.join(name);
        mount_table::within(namespace, || std::fs::create_dir_all(&target))
            .map_err(Error::io("cannot make", &target))?;
        Ok(target)
    }

    /// Changes what holds for one mount: `mount -o remount`.
    pub fn remount(&self, target: &Path, flags: MountFlags) -> Result<()> {
        self.notice_unmounts();
        let state = self.mounts.0.lock();
        let found = state
            .attached
            .iter()
            .rev()
            .find(|mount| mount.target == target);
        let Some(mount) = found else {
            return Err(Error::not_found(format!(
                "nothing of nacre is mounted on {}",
                target.display()
            )));
        };
        let inside = mount.namespace.as_ref().map(Namespace::descriptor);
        let served = mount.root.served();
        Ok(served.reconfigure(target, inside, flags)?)
    }

    /// Everything that is mounted, and the names that are not.
    pub fn mounts(&self) -> Vec<Mounted> {
        self.notice_unmounts();
        let state = self.mounts.0.lock();
        let mut all: Vec<Mounted> = state.attached.iter().map(Attached::shown).collect();
        let idle = |kept: &&Kept| {
            !state
                .attached
                .iter()
                .any(|mount| mount.name.as_ref() == Some(&kept.name))
        };
        all.extend(state.kept.iter().filter(idle).map(|kept| Mounted {
            name: kept.name.clone(),
            target: None,
            image: kept.image_name.clone(),
            image_id: kept.image,
            read_only: false,
        }));
        all.sort_by(|a, b| (&a.name, &a.target).cmp(&(&b.name, &b.target)));
        all
    }
}

/// A tree that is about to be attached.
struct Tree {
    key: Key,
    name: Option<String>,
    image: ImageId,
    image_name: String,
    root: Arc<Root>,
}

impl Attached {
    fn shown(&self) -> Mounted {
        Mounted {
            name: self.name.clone().unwrap_or_default(),
            target: Some(self.target.clone()),
            image: self.image_name.clone(),
            image_id: self.image,
            read_only: self.name.is_none(),
        }
    }
}

fn check_target(namespace: Option<&Namespace>, target: &Path) -> Result<()> {
    if !target.is_absolute() {
        return Err(Error::invalid(format!(
            "mount point {} is not an absolute path",
            target.display()
        )));
    }
    match mount_table::objection(namespace, target) {
        Some(why) => Err(Error::invalid(why)),
        None => Ok(()),
    }
}

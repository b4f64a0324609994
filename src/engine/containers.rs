//! The set of containers: making, finding, listing, renaming. What they do is `start`, `stop` and their neighbours.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use nacre_store::{DocumentKind, ImageId, Kind, Store};
use parking_lot::{Condvar, Mutex, RwLock};
use serde_json::Value;
use tokio::sync::watch;

use super::config::{Config, ImageConfig};
use super::container::{Container, DOCUMENT_VERSION, Files, Host, Phase, State};
use super::error::{Error, Result};
use super::events::attributes;
use super::names;
use super::namespace::Owner;
use super::remove::User;
use super::roots::Root;
use super::start::{Run, Waiting};
use super::{Engine, merge, when};
use crate::registry::Platform;
use crate::runtime::spec::ContainerId;

/// A container at work. Locks in the order of their fields; `document` is never held while a shim is asked.
pub(crate) struct Live {
    /// Held by whoever starts, stops, removes or renames it.
    pub(crate) work: Mutex<()>,
    /// Its process's shim, while it has one.
    pub(crate) run: Mutex<Option<Run>>,
    /// The lease of its root, while it runs in it.
    pub(crate) root: Mutex<Option<Arc<Root>>>,
    /// Clients that attached before the start.
    pub(crate) waiting: Mutex<Vec<Waiting>>,
    /// What the store has of it.
    document: Mutex<Container>,
    /// How often it ended, and whether it is gone: what waiters look at.
    pub(crate) turns: watch::Sender<Turn>,
    /// Rung after `turns` changed, for those who wait in a thread.
    bell: (Mutex<()>, Condvar),
}

/// What those who wait for a container look at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// How often its process ended since the service knows it.
    pub exits: u64,
    /// It has a process.
    pub active: bool,
    /// How the last process ended.
    pub exit_code: i32,
    /// It was removed.
    pub gone: bool,
}

impl Live {
    pub(crate) fn new(document: Container) -> Live {
        let turn = Turn {
            active: document.state.phase.is_active(),
            exit_code: document.state.exit_code,
            ..Turn::default()
        };
        Live {
            work: Mutex::new(()),
            run: Mutex::new(None),
            root: Mutex::new(None),
            waiting: Mutex::new(Vec::new()),
            document: Mutex::new(document),
            turns: watch::Sender::new(turn),
            bell: (Mutex::new(()), Condvar::new()),
        }
    }

    /// What is known of it now.
    pub(crate) fn document(&self) -> Container {
        self.document.lock().clone()
    }

    pub(crate) fn phase(&self) -> Phase {
        self.document.lock().state.phase
    }

    /// Changes the document, in the store first: what cannot be written does not happen.
    pub(crate) fn update(
        &self,
        store: &Store,
        change: impl FnOnce(&mut Container),
    ) -> Result<Container> {
        let mut document = self.document.lock();
        let mut new = document.clone();
        change(&mut new);
        put(store, &new)?;
        *document = new.clone();
        Ok(new)
    }

    /// Changes the document for this service alone: for what the next one finds out by itself.
    pub(crate) fn note(&self, change: impl FnOnce(&mut Container)) {
        change(&mut self.document.lock());
    }

    /// Tells those who wait.
    pub(crate) fn tell(&self, change: impl FnOnce(&mut Turn)) {
        self.turns.send_modify(change);
        // Under the lock, so that nobody goes to sleep between looking and the bell.
        let _bell = self.bell.0.lock();
        self.bell.1.notify_all();
    }

    /// Waits until its turn is as wanted, or until the deadline; says whether it is.
    pub(crate) fn wait_until(
        &self,
        wanted: impl Fn(&Turn) -> bool,
        deadline: Option<Instant>,
    ) -> bool {
        let mut bell = self.bell.0.lock();
        loop {
            if wanted(&self.turns.borrow()) {
                return true;
            }
            match deadline {
                Some(deadline) if self.bell.1.wait_until(&mut bell, deadline).timed_out() => {
                    return wanted(&self.turns.borrow());
                }
                Some(_) => {}
                None => self.bell.1.wait(&mut bell),
            }
        }
    }
}

/// Writes a container's document.
pub(crate) fn put(store: &Store, document: &Container) -> Result<()> {
    let name = document.id.as_str();
    let fail = |source| Error::Document {
        what: "container",
        name: name.to_owned(),
        source,
    };
    let bytes = serde_json::to_vec(document).map_err(fail)?;
    Ok(store.put_document(DocumentKind::Container, name, &bytes)?)
}

/// Every container of the store.
#[derive(Default)]
pub(crate) struct Containers {
    all: RwLock<HashMap<ContainerId, Arc<Live>>>,
}

impl Containers {
    /// Reads them from the store.
    pub(crate) fn load(store: &Store) -> Result<Containers> {
        let mut all = HashMap::new();
        for (name, bytes) in store.documents(DocumentKind::Container)? {
            let fail = |source| Error::Document {
                what: "container",
                name: name.clone(),
                source,
            };
            let document: Container = serde_json::from_slice(&bytes).map_err(fail)?;
            if document.version != DOCUMENT_VERSION {
                return Err(Error::broken(format!(
                    "container {name} was written by another version of nacre ({} instead of {DOCUMENT_VERSION})",
                    document.version
                )));
            }
            all.insert(document.id.clone(), Arc::new(Live::new(document)));
        }
        Ok(Containers {
            all: RwLock::new(all),
        })
    }

    pub(crate) fn insert(&self, document: Container) {
        self.all
            .write()
            .insert(document.id.clone(), Arc::new(Live::new(document)));
    }

    pub(crate) fn forget(&self, id: &ContainerId) {
        self.all.write().remove(id);
    }

    /// All of them, newest first.
    pub(crate) fn all(&self) -> Vec<Arc<Live>> {
        let mut all: Vec<(i64, Arc<Live>)> = self
            .all
            .read()
            .values()
            .map(|live| (live.document.lock().created, Arc::clone(live)))
            .collect();
        all.sort_by_key(|(created, _)| std::cmp::Reverse(*created));
        all.into_iter().map(|(_, live)| live).collect()
    }

    /// Finds one: by its whole ID, by its name, by the only ID that begins so.
    pub(crate) fn find(&self, text: &str) -> Result<Arc<Live>> {
        let all = self.all.read();
        let name = text.strip_prefix('/').unwrap_or(text);
        let by_id = all.iter().find(|(id, _)| id.as_str() == text);
        let found = by_id.or_else(|| {
            all.iter()
                .find(|(_, live)| live.document.lock().name == name)
        });
        if let Some((_, live)) = found {
            return Ok(Arc::clone(live));
        }
        let mut fitting = all
            .iter()
            .filter(|(id, _)| !text.is_empty() && id.as_str().starts_with(text));
        match (fitting.next(), fitting.next()) {
            (Some((_, live)), None) => Ok(Arc::clone(live)),
            (None, _) => Err(Error::NoSuchContainer(text.to_owned())),
            _ => Err(Error::invalid(format!(
                "multiple IDs found with provided prefix: {text}"
            ))),
        }
    }

    /// The image of each container.
    pub(crate) fn images(&self) -> Vec<ImageId> {
        self.all
            .read()
            .values()
            .map(|live| live.document.lock().image)
            .collect()
    }

    /// Who uses an image.
    pub(crate) fn users(&self, image: &ImageId) -> Vec<User> {
        let user = |live: &Arc<Live>| {
            let document = live.document.lock();
            let user = || User {
                what: "container",
                name: document.short_id().to_owned(),
                active: document.state.phase.is_active(),
            };
            (document.image == *image).then(user)
        };
        self.all.read().values().filter_map(user).collect()
    }
}

/// What a new container shall be.
pub struct Create {
    /// Its name; made up if there is none.
    pub name: Option<String>,
    /// How it runs; `config.image` names the image.
    pub config: Config,
    /// What surrounds it.
    pub host: Host,
    /// docker's HostConfig as it was asked for.
    pub host_config: Value,
    /// The platform that the image must be for.
    pub platform: Option<Platform>,
}

impl Engine {
    /// Makes a container; it is not started. Also returns what the user should know.
    pub fn create_container(&self, create: Create) -> Result<(ContainerId, Option<String>)> {
        let Create {
            name,
            mut config,
            host,
            host_config,
            platform,
        } = create;
        let image = self.find_image(&config.image)?.image;
        let image_config = ImageConfig::parse(&image.id, &image.config)?;
        let foreign = check_platform(&config.image, &image_config, platform.as_ref())?;
        merge::inherit(&mut config, &image_config.config());
        merge::command(&config)?;
        if !config.stop_signal.is_empty() {
            super::signal::parse(&config.stop_signal)?;
        }
        let id = names::new_container_id()?;
        let name = self
            .namespace
            .claim(name.as_deref(), Owner::Container(id.clone()))?;
        let upper = self.store.create_upper(image.chain.as_ref())?.id();
        let document = Container {
            version: DOCUMENT_VERSION,
            id: id.clone(),
            name: name.text().to_owned(),
            created: when::now(),
            image: image.id,
            upper,
            config,
            host,
            host_config,
            state: State::created(),
        };
        if let Err(error) = put(&self.store, &document) {
            // What is not described belongs to nobody.
            self.store.remove_upper(upper)?;
            return Err(error);
        }
        name.keep();
        self.tell_container("create", &document, []);
        self.containers.insert(document);
        Ok((id, foreign))
    }

    /// What is known of a container.
    pub fn container(&self, name: &str) -> Result<Container> {
        Ok(self.containers.find(name)?.document())
    }

    /// Every container, newest first.
    pub fn containers(&self) -> Vec<Container> {
        self.containers
            .all()
            .iter()
            .map(|live| live.document())
            .collect()
    }

    /// Where a container's files are.
    pub fn container_files(&self, id: &ContainerId) -> Files {
        Files::new(&self.dirs.containers, id)
    }

    /// Gives a container another name.
    pub fn rename_container(&self, text: &str, new: &str) -> Result<()> {
        let live = self.containers.find(text)?;
        let _working = live.work.lock();
        let old = live.document();
        let new = new.strip_prefix('/').unwrap_or(new);
        if new.is_empty() {
            return Err(Error::invalid("Neither old nor new names may be empty"));
        }
        if old.name == new {
            return Err(Error::invalid(
                "Renaming a container with the same name as its current name",
            ));
        }
        let claim = self
            .namespace
            .claim(Some(new), Owner::Container(old.id.clone()))?;
        let document = live.update(&self.store, |document| new.clone_into(&mut document.name))?;
        claim.keep();
        self.namespace.release(&old.name);
        self.tell_container("rename", &document, [("oldName", format!("/{}", old.name))]);
        Ok(())
    }

    /// Bytes of the files in a container's writable layer.
    pub fn upper_bytes(&self, document: &Container) -> Result<u64> {
        let vfs = self
            .roots
            .tree(&self.store, document.upper, &document.name)?;
        let fail = |errno: nacre_fs::errno::Errno| Error::Io {
            what: "cannot read the changes of container",
            path: document.short_id().into(),
            source: errno.into(),
        };
        let inodes = vfs.settled().map_err(fail)?.inodes;
        // What the image has too has an override when it is only touched; docker counts it then as well.
        let files = inodes
            .iter()
            .filter(|(_, inode)| inode.kind == Kind::File && !inode.init);
        Ok(files
            .map(|(_, inode)| inode.size)
            .fold(0, u64::saturating_add))
    }

    pub(crate) fn tell_container<const N: usize>(
        &self,
        action: &str,
        document: &Container,
        more: [(&str, String); N],
    ) {
        let mut all = document.config.labels.clone().unwrap_or_default();
        all.extend(attributes([
            ("image", document.config.image.as_str()),
            ("name", document.name.as_str()),
        ]));
        all.extend(more.map(|(key, value)| (key.to_owned(), value)));
        self.events
            .tell("container", action, document.id.as_str(), all);
    }
}

/// Refuses an image for another platform than the one asked for; without one, an image for another machine gets a warning.
fn check_platform(
    name: &str,
    config: &ImageConfig,
    wanted: Option<&Platform>,
) -> Result<Option<String>> {
    let variant = Some(config.text("variant")).filter(|variant| !variant.is_empty());
    let found = Platform::normal(config.text("os"), config.text("architecture"), variant);
    let host = Platform::host();
    if config.text("architecture").is_empty() || wanted.unwrap_or(&host).distance(&found).is_some()
    {
        return Ok(None);
    }
    match wanted {
        Some(wanted) => Err(Error::not_found(format!(
            "image with reference {name} was found but its platform ({found}) does not match the specified platform ({wanted})"
        ))),
        None => Ok(Some(format!(
            "The requested image's platform ({found}) does not match the detected host platform ({host}) and no specific platform was requested"
        ))),
    }
}

/// A conflict that names a container as docker does.
pub(crate) fn not_running(document: &Container) -> Error {
    Error::conflict(format!("container {} is not running", document.id))
}

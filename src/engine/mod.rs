//! The verbs of the product. Owns what is mounted and what runs; never speaks HTTP.
//!
//! ```text
//! image, history, remove          images by name; their steps; what goes when one is removed
//! fetch, commit                   images from and to the world; images made here
//! containers, container, names    the set, one document, and what they are called
//! start, stop, exec, logs         a container's life
//! merge, change, config           how it runs: what it inherits, what -c changes, the file itself
//! variables, words                environments, and the words of a Dockerfile's line
//! place, host_files               what its root needs before it starts
//! mounts, unmount, roots, mount_table      images as directories; one superblock a tree; what the kernel has mounted
//! marks                           which of them are this store's, for the next service
//! diff                            what was changed
//! events, filters, when …         small things that they share
//! fuzzing                         doors for tests/fuzz
//! ```
//!
//! **Locks**, in the order in which they are taken: `removing`; a container's `work`; `Mounts`; `Roots`; a container's `run`,
//! `waiting`, `document`; the namespace; the events. A shim is asked under `work` and `run` only.

mod change;
mod commit;
mod config;
mod container;
mod containers;
mod diff;
mod error;
mod events;
mod exec;
mod fetch;
mod filters;
pub(crate) mod fuzzing;
mod glob;
mod history;
mod host_files;
pub mod image;
mod logs;
mod marks;
mod merge;
mod mount_table;
mod mounts;
mod names;
mod namespace;
mod place;
mod reconcile;
mod remove;
mod roots;
mod shared;
mod signal;
mod start;
mod stop;
mod unmount;
mod variables;
pub mod when;
mod words;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use nacre_store::{Reclaimed, Report, Store};
use parking_lot::Mutex;
use tokio::sync::{broadcast, watch};

pub use commit::{CommitRequest, ImportRequest};
pub use config::{Config, ImageConfig, host_architecture};
pub use container::{Container, Files, Host, Phase, ShownMount, State};
pub use containers::{Create, Turn};
pub use error::{Error, Fault, Result};
pub use events::Event;
pub use exec::{Exec, ExecPhase, ExecRequest, ReadyExec};
pub use fetch::LocalSource;
pub use filters::Filters;
pub use history::Step as ImageStep;
pub use image::{Found, Listed, Pruned};
pub use logs::{Line, More, Stream, Wanted};
pub use mounts::{MountRequest, Mounted, View};
pub use nacre_fs::diff::{Change, ChangeKind};
pub use remove::{Options as RemoveOptions, Step as RemovalStep};
pub use shared::Shared;
pub use start::Attachment;
pub use stop::PrunedContainers;
pub use unmount::Unmount;
pub use words::clean_path;

use containers::Containers;
use events::Events;
use exec::Execs;
use marks::Marks;
use mounts::Mounts;
use namespace::{Namespace, Owner};
use roots::Roots;

use crate::transfer::Downloads;

/// Where the engine keeps what the store does not.
#[derive(Clone, Debug)]
pub(crate) struct Dirs {
    /// A directory for each container.
    pub(crate) containers: PathBuf,
    /// Mount points that nacre makes up.
    pub(crate) mounts: PathBuf,
}

/// The product at work over one store.
pub struct Engine {
    pub(crate) store: Store,
    pub(crate) dirs: Dirs,
    pub(crate) namespace: Namespace,
    pub(crate) containers: Containers,
    pub(crate) mounts: Mounts,
    pub(crate) execs: Execs,
    pub(crate) roots: Roots,
    pub(crate) events: Events,
    /// The layers that pulls are fetching.
    pub(crate) downloads: Downloads,
    /// Held while images are removed, so that two removals do not decide on the same names.
    pub(crate) removing: Mutex<()>,
}

impl Engine {
    /// Takes over a store: reads what is in it, ends what a service that died left running.
    /// `run` is a directory for what need not outlive a boot.
    pub fn open(store: Store, run: &Path) -> Result<Arc<Engine>> {
        let marks = Marks::new(run);
        mount_table::clear_dead(&marks.take());
        let dirs = Dirs {
            containers: store.root().join("containers"),
            mounts: run.join("mnt"),
        };
        let containers = Containers::load(&store)?;
        let mounts = Mounts::load(&store)?;
        let namespace = Namespace::default();
        for name in mounts.names() {
            namespace.put(&name, Owner::Mount);
        }
        let engine = Arc::new(Engine {
            store,
            dirs,
            namespace,
            containers,
            mounts,
            execs: Execs::default(),
            roots: Roots::new(marks),
            events: Events::new(),
            downloads: Downloads::default(),
            removing: Mutex::new(()),
        });
        engine.reconcile()?;
        let store = engine.store.clone();
        let sweep = move || {
            if let Err(error) = store.sweep_uppers() {
                tracing::warn!(%error, "cannot look after what an unclean end left in writable layers");
            }
        };
        let swept = std::thread::Builder::new()
            .name("sweep".into())
            .spawn(sweep);
        // A layer that is opened is swept first, thread or not.
        if let Err(error) = swept {
            tracing::warn!(%error, "cannot start a thread");
        }
        Ok(engine)
    }

    /// What is in use, as a user knows it; empty if the service may go.
    pub fn in_use(&self) -> Vec<String> {
        self.notice_unmounts();
        let active = self
            .containers()
            .into_iter()
            .filter(|container| container.state.phase.is_active());
        let containers = active.map(|container| format!("container {}", container.name));
        let lingering = self.roots.lingering();
        self.mounts
            .in_use()
            .into_iter()
            .chain(containers)
            .chain(lingering)
            .collect()
    }

    /// Ends what is being served and makes the store ready for a quick start.
    pub fn close(&self) -> Result<()> {
        let ended = self.roots.end_all();
        self.store.flush()?;
        ended
    }

    /// Makes durable all that was written to what is in use, also what programs did not sync.
    pub fn settle(&self) -> Result<()> {
        let settled = self.roots.settle_all();
        // The plain bytes: they are the host's to write back, as long as it is given the time.
        let root = self.store.root();
        let failed = Error::io("cannot make durable", root);
        std::fs::File::open(root)
            .and_then(|root| Ok(rustix::fs::syncfs(root)?))
            .map_err(failed)?;
        settled
    }

    /// Checks the whole store.
    pub fn check(&self) -> Result<Report> {
        Ok(self.store.check()?)
    }

    /// Gives up the archives as they were received.
    pub fn reclaim_archives(&self) -> Result<Reclaimed> {
        Ok(self.store.reclaim_archives()?)
    }

    /// What happened lately, and where to hear of what happens next.
    pub fn listen(&self) -> (Vec<Event>, broadcast::Receiver<Event>) {
        self.events.listen()
    }

    /// How a container stands, and where to hear of its next turn.
    pub fn turns(&self, name: &str) -> Result<watch::Receiver<Turn>> {
        Ok(self.containers.find(name)?.turns.subscribe())
    }
}

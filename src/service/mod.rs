//! docker's Engine API and nacre's own routes, on a Unix socket. Translates only; the engine does the work.
//!
//! ```text
//! lifecycle        the process: start, signals, idling, stopping
//! listen, raw      the socket: HTTP by hyper, and connections taken over before it
//! route            which request goes where
//! call, params     a request: body, path, query, filters
//! answer, progress a response: JSON, streams, errors, progress lines
//! not_done         what of a request for a container nacre does not do
//! settings         what the command line, the environment and the settings file say, as store and registries take it
//! auth, images, containers, create, exec, streams, follow, transfers, system, nacre    the routes
//! fuzzing          doors for tests/fuzz
//! ```

mod ages;
mod answer;
mod auth;
mod call;
mod container_filter;
mod containers;
mod create;
mod distribution;
mod exec;
mod follow;
pub(crate) mod fuzzing;
mod images;
pub mod lifecycle;
mod listen;
mod log;
mod nacre;
mod not_done;
mod params;
mod progress;
mod raw;
mod route;
mod settings;
mod streams;
mod system;
mod transfers;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::engine::Engine;

/// What the service tells about itself.
pub(crate) struct About {
    /// The store's directory.
    pub root: PathBuf,
    /// After how many idle seconds it leaves.
    pub idle_seconds_max: Option<u64>,
    /// The settings file that was read.
    pub settings_file: Option<PathBuf>,
    /// What archives may ask for, as far as it was set.
    pub limits: Vec<(&'static str, u64)>,
    /// Whether archives are kept as they were received.
    pub keep_archives: bool,
    /// Memory for what was read from the store's database.
    pub cache_bytes: u64,
    /// How registries are reached.
    pub registries: crate::registry::Settings,
    /// Rung by the route that ends the service.
    pub stop: Notify,
}

/// The service: what every connection needs.
pub(crate) struct Service {
    pub engine: Arc<Engine>,
    pub about: Arc<About>,
    pub activity: Activity,
}

/// How busy the service is.
#[derive(Clone)]
pub(crate) struct Activity(Arc<(AtomicUsize, Mutex<Instant>)>);

/// One thing that keeps the service busy.
pub(crate) struct Busy(Activity);

impl Activity {
    fn new() -> Activity {
        Activity(Arc::new((AtomicUsize::new(0), Mutex::new(Instant::now()))))
    }

    pub(crate) fn enter(&self) -> Busy {
        self.0.0.fetch_add(1, Ordering::SeqCst);
        Busy(self.clone())
    }

    /// How many connections there are.
    fn count(&self) -> usize {
        self.0.0.load(Ordering::SeqCst)
    }

    /// Something else was seen to be in use.
    fn touch(&self) {
        *self.0.1.lock() = Instant::now();
    }

    /// How long nothing has been going on.
    fn idle(&self) -> Duration {
        if self.count() > 0 {
            Duration::ZERO
        } else {
            self.0.1.lock().elapsed()
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.touch();
        self.0.0.0.fetch_sub(1, Ordering::SeqCst);
    }
}

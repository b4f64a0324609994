//! What a transfer tells while it runs, in docker's words. Never prints.

use std::fmt;
use std::time::{Duration, Instant};

use nacre_store::Digest;
use parking_lot::Mutex;

/// Listens to a transfer. Called from many threads.
pub trait Progress: Send + Sync {
    /// Something happened.
    fn event(&self, event: Event);
}

impl<F: Fn(Event) + Send + Sync> Progress for F {
    fn event(&self, event: Event) {
        self(event);
    }
}

/// What happened to what.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event {
    /// A layer's short digest (pull: of the blob, push: of the uncompressed tar), a tag, or nothing.
    pub id: Option<String>,
    /// What happened.
    pub status: Status,
}

/// How much of how much.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Moved {
    /// Bytes so far.
    pub current: u64,
    /// Bytes in all.
    pub total: u64,
}

/// What happened; printed as docker prints it.
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "docker's own words, see Display")]
pub enum Status {
    PullingFrom(String),
    PullingFsLayer,
    Waiting,
    Downloading(Moved),
    VerifyingChecksum,
    DownloadComplete,
    Extracting(Moved),
    PullComplete,
    AlreadyExists,
    Retrying { seconds: u64 },
    RefersTo(String),
    Preparing,
    Pushing(Moved),
    LayerAlreadyExists,
    MountedFrom(String),
    SkippedForeign,
    Pushed,
    LoadingLayer(Moved),
}

impl Status {
    /// The bar, where there is one.
    pub fn moved(&self) -> Option<Moved> {
        match self {
            Status::Downloading(moved)
            | Status::Extracting(moved)
            | Status::Pushing(moved)
            | Status::LoadingLayer(moved) => Some(*moved),
            _ => None,
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = match self {
            Status::PullingFrom(name) => return write!(f, "Pulling from {name}"),
            Status::RefersTo(name) => return write!(f, "The push refers to repository [{name}]"),
            Status::MountedFrom(name) => return write!(f, "Mounted from {name}"),
            Status::Retrying { seconds: 1 } => "Retrying in 1 second",
            Status::Retrying { seconds } => return write!(f, "Retrying in {seconds} seconds"),
            Status::PullingFsLayer => "Pulling fs layer",
            Status::Waiting => "Waiting",
            Status::Downloading(_) => "Downloading",
            Status::VerifyingChecksum => "Verifying Checksum",
            Status::DownloadComplete => "Download complete",
            Status::Extracting(_) => "Extracting",
            Status::PullComplete => "Pull complete",
            Status::AlreadyExists => "Already exists",
            Status::Preparing => "Preparing",
            Status::Pushing(_) => "Pushing",
            Status::LayerAlreadyExists => "Layer already exists",
            Status::SkippedForeign => "Skipped foreign layer",
            Status::Pushed => "Pushed",
            Status::LoadingLayer(_) => "Loading layer",
        };
        f.write_str(words)
    }
}

/// The first 12 hex digits, by which docker names a layer.
pub(super) fn short(digest: &Digest) -> String {
    digest.hex().chars().take(12).collect()
}

pub(super) fn tell(progress: &dyn Progress, id: &str, status: Status) {
    progress.event(Event {
        id: Some(id.to_owned()),
        status,
    });
}

/// As after a broken download.
pub(super) fn retrying(pause: Duration) -> Status {
    // A pause of less than a second is still one to be told of.
    Status::Retrying {
        seconds: pause.as_secs().max(1),
    }
}

/// Between two events of one bar: ten a second look smooth, and cost nothing.
const BAR_PERIOD: Duration = Duration::from_millis(100);

/// One bar: tells how far it is, not more often than an eye can follow.
pub(super) struct Bar<'a> {
    progress: &'a dyn Progress,
    id: String,
    total: u64,
    status: fn(Moved) -> Status,
    /// Bytes so far, and when they were last told. Rank: a leaf.
    state: Mutex<(u64, Option<Instant>)>,
}

impl<'a> Bar<'a> {
    pub(super) fn new(
        progress: &'a dyn Progress,
        id: &str,
        total: u64,
        status: fn(Moved) -> Status,
    ) -> Bar<'a> {
        Bar {
            progress,
            id: id.to_owned(),
            total,
            status,
            state: Mutex::new((0, None)),
        }
    }

    pub(super) fn add(&self, bytes: u64) {
        let current = {
            let mut state = self.state.lock();
            state.0 = state.0.saturating_add(bytes);
            let due = state.1.is_none_or(|told| told.elapsed() >= BAR_PERIOD);
            if !due && state.0 < self.total {
                return;
            }
            state.1 = Some(Instant::now());
            state.0
        };
        // What came compressed may be told in uncompressed bytes, which are only estimated.
        let total = self.total.max(current);
        tell(
            self.progress,
            &self.id,
            (self.status)(Moved { current, total }),
        );
    }
}

//! The service as a process: what it needs, how it starts, when it leaves. Two services never share a store; one that is
//! in use never leaves.

use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nacre_cli::{BACKGROUND_NAME, ServiceOptions, Settings};
use nacre_store::Store;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::net::UnixListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;

use super::{About, Activity, Service, listen, log};
use crate::engine::Engine;

/// Seconds after which a service that was started by itself leaves again when nobody needs it.
const IDLE_SECONDS: u64 = 60;

/// How often idleness, and mounts that were taken away by umount(8), are looked for.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long a service that leaves waits for answers that are under way.
const DRAIN: Duration = Duration::from_secs(5);

/// How long a service that came second waits for the first one's socket, or for its end.
const OWNER_PATIENCE: Duration = Duration::from_secs(20);

/// How often it looks.
const OWNER_STEP: Duration = Duration::from_millis(10);

/// What of nacre need not outlive a boot.
const RUN_DIR: &str = "/run/nacre";

/// Runs the service until it ends: in the foreground, or in the background if the program was called by that name.
#[must_use]
pub fn main() -> ExitCode {
    let argv: Vec<OsString> = std::env::args_os().collect();
    let in_background = argv.first().is_some_and(|name| name == BACKGROUND_NAME);
    let run = || {
        if in_background {
            detach();
        }
        let (settings, options) = nacre_cli::service_of(&argv)?;
        match in_background {
            true => run_at(&settings, &options, Some(IDLE_SECONDS), Second::Steps),
            false => run_at(&settings, &options, None, Second::Fails),
        }
    };
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) if in_background => failed(&message),
        Err(message) => failed(&format!("nacre: {message}")),
    }
}

fn failed(message: &str) -> ExitCode {
    say(message);
    ExitCode::FAILURE
}

fn detach() {
    // Whoever waits for the end of a pipe, or for a lock on a file, of the command that started us would wait for us.
    if let Err(error) = crate::runtime::sys::close_from(3) {
        say(&format!("cannot close inherited descriptors: {error}"));
    }
    // The terminal's signals and its end are none of ours any more. It fails only for a leader of a group, who has that.
    rustix::process::setsid().ok();
}

/// Tells the terminal, or the log; if neither can be written, nobody is left to tell.
fn say(message: &str) {
    std::io::stderr()
        .write_all(format!("{message}\n").as_bytes())
        .ok();
}

/// What a service does that finds another one on its store.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Second {
    /// It says who is there.
    Fails,
    /// It was started at the same moment as another one: that one serves both.
    Steps,
}

fn need_root() -> Result<(), String> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    Err(
        "nacre needs root: it mounts filesystems and starts containers\nhint: run it with sudo"
            .to_owned(),
    )
}

fn run_at(
    place: &Settings,
    options: &ServiceOptions,
    idle_default: Option<u64>,
    second: Second,
) -> Result<(), String> {
    need_root()?;
    log::start(place.debug);
    let registries = super::settings::registries(options).map_err(|error| error.to_string())?;
    let idle = options.idle_seconds.or(idle_default);
    nacre_store::failpoint::arm_from_environment()?;
    raise_descriptors();
    let Some(store) = open_store(place, options, second)? else {
        return Ok(());
    };
    let run_dir = run_dir(&place.root);
    let engine = Engine::open(store, &run_dir).map_err(|error| super::answer::chain(&error))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| format!("cannot start the service's threads: {e}"))?;
    let service = Arc::new(Service {
        engine: Arc::clone(&engine),
        about: Arc::new(About {
            root: place.root.clone(),
            idle_seconds_max: idle.filter(|seconds| *seconds > 0),
            settings_file: options.file.clone(),
            limits: super::settings::limits(options),
            keep_archives: options.keep_archives.unwrap_or(true),
            cache_bytes: options.cache_bytes.unwrap_or(nacre_store::CACHE_BYTES),
            registries,
            stop: Notify::new(),
        }),
        activity: Activity::new(),
    });
    let served = runtime.block_on(serve(&service, &place.socket));
    // Blocking work of clients that left may still hold the engine; what it does is safe to break off.
    runtime.shutdown_timeout(DRAIN);
    engine
        .close()
        .map_err(|error| super::answer::chain(&error))?;
    tracing::info!("the service ends");
    served
}

/// The default root's is well known; another root keeps its own.
fn run_dir(root: &Path) -> PathBuf {
    if root == Path::new(nacre_cli::ROOT_DEFAULT) {
        PathBuf::from(RUN_DIR)
    } else {
        root.join("run")
    }
}

/// Every open file of a mount is a descriptor here.
fn raise_descriptors() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}

/// Opens the store. None: the service that has it serves us too.
fn open_store(
    place: &Settings,
    options: &ServiceOptions,
    second: Second,
) -> Result<Option<Store>, String> {
    let start = Instant::now();
    loop {
        let owned = match Store::open(&place.root, super::settings::store(options)) {
            Ok(store) => return Ok(Some(store)),
            Err(error @ nacre_store::Error::Owned { .. }) if second == Second::Steps => error,
            Err(error) => return Err(super::answer::chain(&error)),
        };
        // The owner has been started a moment ago and will answer, or is about to leave and will let go.
        if UnixStream::connect(&place.socket).is_ok() {
            return Ok(None);
        }
        if start.elapsed() >= OWNER_PATIENCE {
            return Err(format!(
                "{owned}, which does not answer on {}",
                place.socket.display()
            ));
        }
        std::thread::sleep(OWNER_STEP);
    }
}

async fn serve(service: &Arc<Service>, socket: &Path) -> Result<(), String> {
    let failed = |e: std::io::Error| format!("cannot listen on {}: {e}", socket.display());
    let signals = |kind| signal(kind).map_err(|e| format!("cannot take signals: {e}"));
    let (mut term, mut int) = (
        signals(SignalKind::terminate())?,
        signals(SignalKind::interrupt())?,
    );
    loop {
        let listener = listen::bind(socket).map_err(failed)?;
        tracing::info!(socket = %socket.display(), root = %service.about.root.display(), "ready");
        serve_until_told(service, listener, &mut term, &mut int).await;
        // From here on a client finds no socket, and starts or waits for another service.
        if let Err(error) = fs::remove_file(socket) {
            tracing::debug!(%error, "the socket is gone already");
        }
        drain(service).await;
        if in_use(service).await.is_empty() {
            return Ok(());
        }
        // A client that came at the last moment has put it to use.
    }
}

/// Serves until it is right to leave.
async fn serve_until_told(
    service: &Arc<Service>,
    listener: UnixListener,
    term: &mut Signal,
    int: &mut Signal,
) {
    let mut accepting = tokio::spawn(listen::accept(listener, Arc::clone(service)));
    let mut look = tokio::time::interval(LOOK_EVERY);
    loop {
        let told = tokio::select! {
            _ = term.recv() => true,
            _ = int.recv() => true,
            () = service.about.stop.notified() => break,
            _ = look.tick() => false,
            _ = &mut accepting => break,
        };
        if !told && !may_be_idle(service) {
            service.engine_look();
            continue;
        }
        let used = in_use(service).await;
        if used.is_empty() {
            break;
        }
        service.activity.touch();
        if told {
            tracing::warn!("asked to stop, but in use: {}", used.join(", "));
            service.settle();
        }
    }
    accepting.abort();
}

impl Service {
    /// Notices what was unmounted behind the service's back, so that its layer is durable and free soon.
    fn engine_look(&self) {
        let engine = Arc::clone(&self.engine);
        drop(tokio::task::spawn_blocking(move || {
            engine.notice_unmounts()
        }));
    }

    /// Makes durable what is in use. Who asks a service to stop, and is refused, kills it or takes the power away next. Nobody
    /// waits for it: it may take as long as the disk does.
    fn settle(&self) {
        let engine = Arc::clone(&self.engine);
        drop(tokio::task::spawn_blocking(move || match engine.settle() {
            Ok(()) => tracing::info!("what is in use is durable"),
            Err(error) => tracing::error!("{}", super::answer::chain(&error)),
        }));
    }
}

fn may_be_idle(service: &Service) -> bool {
    let max = service.about.idle_seconds_max.map(Duration::from_secs);
    max.is_some_and(|max| service.activity.idle() >= max)
}

async fn in_use(service: &Arc<Service>) -> Vec<String> {
    let engine = Arc::clone(&service.engine);
    // A failure to look is a reason to stay.
    let failed = |error| vec![format!("unknown: {error}")];
    tokio::task::spawn_blocking(move || engine.in_use())
        .await
        .unwrap_or_else(failed)
}

/// Lets answers that are under way go out.
async fn drain(service: &Service) {
    let start = Instant::now();
    while service.activity.count() > 0 && start.elapsed() < DRAIN {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

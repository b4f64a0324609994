//! Starting a container, and what happens when its process ends.

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;

use tokio::sync::oneshot;

use super::container::{Container, Files, Phase};
use super::containers::Live;
use super::error::{Error, Result};
use super::roots::{Key, LET_GO};
use super::{Engine, host_files, merge, place, when};
use crate::runtime::spec::{
    Access, ConsoleSize, ContainerSpec, MountSource, MountSpec, Network, ProcessSpec, Stdin,
};
use crate::runtime::{AttachRequest, Exit, Launch, Shim, ShimError, StartErrorKind, Warm};

/// What a container has while it has a process. Its root is among `Roots`.
#[derive(Clone)]
pub(crate) struct Run {
    /// Who holds its process.
    pub(crate) shim: Arc<Shim>,
}

/// A client that attached before the start.
pub(crate) struct Waiting {
    request: AttachRequest,
    to: oneshot::Sender<UnixStream>,
}

/// A client's connection to a container's streams.
pub enum Attachment {
    /// It stands.
    Now(UnixStream),
    /// It comes with the start; the sender is dropped if the start fails.
    AtStart(oneshot::Receiver<UnixStream>),
}

/// Exit codes of processes that could not be started, as docker and shells have them.
const NOT_FOUND: i32 = 127;
const NOT_PERMITTED: i32 = 126;
const NOT_STARTED: i32 = 128;

/// The exit code that a failed start leaves.
pub(crate) fn code_of(error: &Error) -> i32 {
    match error {
        Error::Shim(ShimError::Refused(refused)) => match refused.kind {
            StartErrorKind::NotFound => NOT_FOUND,
            StartErrorKind::PermissionDenied => NOT_PERMITTED,
            StartErrorKind::BadRequest | StartErrorKind::Other => NOT_STARTED,
        },
        _ => NOT_STARTED,
    }
}

/// The exit code that a failed exec leaves: where a start leaves 128, docker leaves 126.
pub(crate) fn exec_code_of(error: &Error) -> i32 {
    match code_of(error) {
        NOT_STARTED => NOT_PERMITTED,
        code => code,
    }
}

impl Engine {
    /// Starts a container's process.
    pub fn start_container(self: &Arc<Self>, text: &str) -> Result<()> {
        let live = self.containers.find(text)?;
        let _working = live.work.lock();
        self.start_locked(&live)
    }

    /// The caller holds `work`.
    pub(crate) fn start_locked(self: &Arc<Self>, live: &Arc<Live>) -> Result<()> {
        let document = live.document();
        match document.state.phase {
            Phase::Running => return Err(Error::unchanged()),
            Phase::Paused => {
                return Err(Error::conflict(
                    "cannot start a paused container, try unpause instead",
                ));
            }
            Phase::Dead => {
                return Err(Error::conflict(
                    "container is marked for removal and cannot be started",
                ));
            }
            Phase::Created | Phase::Exited => {}
        }
        if live.turns.borrow().gone {
            return Err(Error::NoSuchContainer(document.id.to_string()));
        }
        match self.launch(live, &document) {
            Ok(shim) => {
                self.tell_container("start", &document, []);
                self.watch_end(live, shim)
            }
            Err(error) => {
                self.failed_to_start(live, &document, &error)?;
                Err(error)
            }
        }
    }

    /// Brings the root, the shim and the process up, in this order, and takes them down again if one fails.
    fn launch(&self, live: &Live, document: &Container) -> Result<Arc<Shim>> {
        let files = self.container_files(&document.id);
        self.store.room().to_grow()?;
        let _warm = Warm::up();
        let launched = self.bring_up(live, document, &files);
        if launched.is_err() {
            live.run.lock().take();
            live.root.lock().take();
            // The start's error is the one to tell; what is left here the next start takes away.
            if let Ok(shim) = Shim::open(files.shim()) {
                drop(shim.delete());
            }
            if let Err(error) = self.roots.let_go(Key::Upper(document.upper), LET_GO) {
                tracing::warn!(container = %document.id, %error, "cannot end the root of a container that did not start");
            }
        }
        launched
    }

    fn bring_up(&self, live: &Live, document: &Container, files: &Files) -> Result<Arc<Shim>> {
        let root = self
            .roots
            .writable(&self.store, document.upper, &document.name)?;
        *live.root.lock() = Some(Arc::clone(&root));
        host_files::write(files, document)?;
        place::prepare(root.vfs(), document)?;
        let shim = Arc::new(Shim::prepare(Launch {
            state_dir: files.shim(),
            spec: specification(document, files)?,
            rootfs: root.descriptor()?,
            log: Some(files.log()),
            log_floor: self.store.room().floor(),
            auto_remove: document.host.auto_remove,
            program: None,
        })?);
        *live.run.lock() = Some(Run {
            shim: Arc::clone(&shim),
        });
        self.start_process(live, &shim)?;
        Ok(shim)
    }

    fn start_process(&self, live: &Live, shim: &Shim) -> Result<()> {
        for Waiting { request, to } in live.waiting.lock().drain(..) {
            // A client that left meanwhile wants nothing.
            if !to.is_closed() {
                drop(to.send(shim.attach(&request)?));
            }
        }
        let pid = shim.start()?;
        live.update(&self.store, |document| {
            let state = &mut document.state;
            state.phase = Phase::Running;
            state.pid = Some(pid);
            state.started = Some(when::now());
            state.finished = None;
            state.exit_code = 0;
            state.oom_killed = false;
            state.error.clear();
        })?;
        live.tell(|turn| turn.active = true);
        Ok(())
    }

    fn failed_to_start(&self, live: &Arc<Live>, document: &Container, error: &Error) -> Result<()> {
        live.waiting.lock().clear();
        let code = code_of(error);
        let text = error.to_string();
        live.update(&self.store, |document| {
            document.state.exit_code = code;
            document.state.error = text;
            document.state.finished = Some(when::now());
        })?;
        live.tell(|turn| {
            turn.exits = turn.exits.saturating_add(1);
            turn.active = false;
            turn.exit_code = code;
        });
        if document.host.auto_remove {
            self.remove_locked(live)?;
        }
        Ok(())
    }

    /// Waits for the process's end in a thread of its own: it costs a stack that is not touched.
    pub(crate) fn watch_end(self: &Arc<Self>, live: &Arc<Live>, shim: Arc<Shim>) -> Result<()> {
        let (engine, live) = (Arc::clone(self), Arc::clone(live));
        let watch = move || {
            let exit = shim.wait();
            drop(shim);
            engine.ended(&live, exit);
        };
        let started = thread::Builder::new()
            .name("container end".into())
            .spawn(watch);
        started
            .map(drop)
            .map_err(|e| Error::broken(format!("cannot start a thread: {e}")))
    }

    /// Records an end, and removes what shall go with it.
    fn ended(&self, live: &Arc<Live>, exit: std::result::Result<Exit, ShimError>) {
        let exit = exit.unwrap_or_else(|error| Exit {
            code: NOT_STARTED + libc::SIGKILL,
            oom_killed: false,
            finished_at_ns: when::now(),
            trouble: Some(error.to_string()),
        });
        let before = live.document();
        let run = live.run.lock().take();
        live.root.lock().take();
        let paths = self.container_files(&before.id);
        let mut trouble = exit.trouble.clone().unwrap_or_default();
        drop(run);
        if let Err(error) = self.roots.let_go(Key::Upper(before.upper), LET_GO) {
            trouble = format!("{trouble} {error}").trim().to_owned();
        }
        if let Err(error) = Shim::open(paths.shim()).and_then(Shim::delete) {
            tracing::warn!(container = %before.id, %error, "cannot clean up after a container");
        }
        let ended = |document: &mut Container| {
            let state = &mut document.state;
            state.phase = Phase::Exited;
            state.pid = None;
            state.exit_code = exit.code;
            state.oom_killed = exit.oom_killed;
            state.finished = Some(exit.finished_at_ns);
            state.error = trouble;
        };
        if before.host.auto_remove {
            // It goes in a moment, or at the next start: not worth a synced write.
            live.note(ended);
        } else if let Err(error) = live.update(&self.store, ended) {
            tracing::warn!(container = %before.id, %error, "cannot record the end of a container");
        }
        self.execs.forget_container(&before.id);
        let lasted = exit
            .finished_at_ns
            .saturating_sub(before.state.started.unwrap_or(exit.finished_at_ns));
        let seconds = lasted.div_euclid(when::SECOND).to_string();
        self.tell_container(
            "die",
            &before,
            [
                ("exitCode", exit.code.to_string()),
                ("execDuration", seconds),
            ],
        );
        live.tell(|turn| {
            turn.exits = turn.exits.saturating_add(1);
            turn.active = false;
            turn.exit_code = exit.code;
        });
        if before.host.auto_remove {
            let _working = live.work.lock();
            if !live.turns.borrow().gone
                && let Err(error) = self.remove_locked(live)
            {
                tracing::warn!(container = %before.id, %error, "cannot remove a container that has ended");
            }
        }
    }

    /// Attaches to a container's streams; before its start, to those that it will have.
    pub fn attach(&self, text: &str, request: AttachRequest) -> Result<(Container, Attachment)> {
        let live = self.containers.find(text)?;
        let document = live.document();
        if document.state.phase == Phase::Paused {
            return Err(Error::conflict(format!(
                "container {} is paused, unpause the container before attach",
                document.id
            )));
        }
        let run = live.run.lock();
        let attachment = match &*run {
            Some(run) => Attachment::Now(run.shim.attach(&request)?),
            None => {
                // Under the lock of `run`: a start that comes now finds it.
                let (to, stream) = oneshot::channel();
                live.waiting.lock().push(Waiting { request, to });
                Attachment::AtStart(stream)
            }
        };
        drop(run);
        self.tell_container("attach", &document, []);
        Ok((document, attachment))
    }
}

/// What the shim shall run.
fn specification(document: &Container, files: &Files) -> Result<ContainerSpec> {
    let (config, host) = (&document.config, &document.host);
    let (program, arguments) = merge::command(config)?;
    let hostname = hostname_seen(document, &document.hostname());
    let stdin = match (config.open_stdin, config.stdin_once) {
        (false, _) => Stdin::Null,
        (true, false) => Stdin::Open,
        (true, true) => Stdin::Once,
    };
    let bind = |target: &str, source| MountSpec {
        target: target.to_owned(),
        source: MountSource::Bind(source),
        access: Access::ReadWrite,
    };
    let mut mounts = vec![
        bind("/etc/resolv.conf", files.resolv_conf()),
        bind("/etc/hostname", files.hostname()),
        bind("/etc/hosts", files.hosts()),
    ];
    // What the user mounts there himself wins.
    mounts.retain(|own| !host.mounts.iter().any(|asked| asked.target == own.target));
    mounts.extend(host.mounts.iter().cloned());
    Ok(ContainerSpec {
        id: document.id.clone(),
        process: ProcessSpec {
            args: std::iter::once(program).chain(arguments).collect(),
            env: merge::environment(config, &hostname),
            cwd: config.working_dir.clone(),
            user: config.user.clone(),
            groups: host.groups.clone(),
            tty: config.tty,
            console_size: host
                .console_size
                .map(|(rows, columns)| ConsoleSize { rows, columns }),
            stdin,
        },
        hostname,
        read_only_root: host.read_only_root,
        mounts,
        network: host.network,
        security: host.security.clone(),
        rlimits: host.rlimits.clone(),
        shm_bytes: host.shm_bytes,
    })
}

/// With the host's network the host's name is seen, unless one was asked for.
pub(crate) fn hostname_seen(document: &Container, own: &str) -> String {
    match document.host.network {
        Network::Host if document.config.hostname.is_empty() => rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned(),
        Network::Host | Network::None => own.to_owned(),
    }
}

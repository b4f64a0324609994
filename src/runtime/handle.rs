//! The service's side of a shim: starting one, finding one again, and asking it.
//! Blocks for as long as a shim takes to answer, so it is called from a blocking thread; never touches the container itself
//! but to clean up after a shim that was killed.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};

use super::program;
use super::shim::{Order, Running, SHIM_NAME, cgroup};
use super::spec::{ConsoleSize, ContainerId, ContainerSpec, ExecSpec};
use super::state_dir::{self, StateDir};
use super::wire::{
    Answer, AttachRequest, Exit, Phase, REQUEST_BYTES_MAX, Request, StartError, State, Whom,
};

/// How long a shim may take for an answer. Creating a container takes 15 ms; a root that is read over a slow disk takes seconds.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);

/// Longest answer line: a state, or an error with the text of a failed program.
const ANSWER_BYTES_MAX: u64 = 64 << 10;

/// A container that shall run.
#[derive(Debug)]
pub struct Launch {
    /// A directory of its own, on a file system that the service finds again after a restart; made if missing.
    pub state_dir: PathBuf,
    /// What shall run.
    pub spec: ContainerSpec,
    /// The root: a detached mount (`open_tree` with `OPEN_TREE_CLONE`).
    pub rootfs: OwnedFd,
    /// Where the output is logged, as docker's json-file; none logs nothing.
    pub log: Option<PathBuf>,
    /// Free bytes of the log's disk below which nothing is logged: the last of a disk is for the store's removals, and a container
    /// that talks a lot must not eat it up.
    pub log_floor: u64,
    /// Whether the container goes when its process ends: then its end need not be on disk before it is told.
    pub auto_remove: bool,
    /// The program that calls `run_shim_if_asked`; none is the one that runs now.
    pub program: Option<PathBuf>,
}

/// One process in a container and the shim that holds it. Dropping it changes nothing, but that a process not yet started never will be.
#[derive(Debug)]
pub struct Shim {
    dir: StateDir,
    /// Open as long as the shim has something to do; none if it had ended when it was opened.
    alive: Option<UnixStream>,
}

/// Says why a shim could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ShimError {
    /// The process has ended.
    #[error("the process of {} has ended", .0.display())]
    Ended(PathBuf),
    /// The process has not ended yet.
    #[error("the process of {} still runs", .0.display())]
    Running(PathBuf),
    /// The shim said no.
    #[error(transparent)]
    Refused(#[from] StartError),
    /// Talking to it failed.
    #[error("{what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ShimError {
    move |source| ShimError::Io {
        what,
        path: path.to_owned(),
        source,
    }
}

impl Shim {
    /// Starts a container's shim, which takes the root and waits; the process itself starts with [`Shim::start`].
    pub fn prepare(launch: Launch) -> Result<Self, ShimError> {
        let dir = StateDir::new(launch.state_dir);
        if dir.order().exists() {
            // What an earlier run left: an old end must not be taken for the new one's.
            Self::open(dir.path())?.delete()?;
        }
        dir.create().map_err(failed("making", dir.path()))?;
        fs::create_dir_all(dir.rootfs()).map_err(failed("making", &dir.rootfs()))?;
        state_dir::write(&dir.spec(), &launch.spec).map_err(failed("writing", &dir.spec()))?;
        let order = Order {
            log: launch.log,
            log_floor: launch.log_floor,
            auto_remove: launch.auto_remove,
            container: None,
            program: launch.program,
        };
        Self::spawn(dir, &order, Stdio::from(launch.rootfs))
    }

    /// Starts the shim of another process in this container; that process starts with [`Shim::start`] on what is returned.
    pub fn exec(&self, spec: &ExecSpec) -> Result<Self, ShimError> {
        let dir = self.dir.exec(&spec.id);
        dir.create().map_err(failed("making", dir.path()))?;
        state_dir::write(&dir.spec(), spec).map_err(failed("writing", &dir.spec()))?;
        let own: Order =
            state_dir::read(&self.dir.order()).map_err(failed("reading", &self.dir.order()))?;
        let order = Order {
            log: None,
            log_floor: 0,
            auto_remove: false,
            container: Some(self.dir.path().to_owned()),
            program: own.program,
        };
        Self::spawn(dir, &order, Stdio::null())
    }

    /// Finds a shim again, after a restart of the service. One that was killed has its container ended and cleaned up.
    pub fn open(state_dir: impl Into<PathBuf>) -> Result<Self, ShimError> {
        let dir = StateDir::new(state_dir);
        match Self::connect(&dir) {
            Ok(alive) => Ok(Self {
                dir,
                alive: Some(alive),
            }),
            Err(_) if dir.exit().exists() => Ok(Self { dir, alive: None }),
            Err(error) if dir.order().exists() => {
                if !matches!(&error, ShimError::Io { source, .. } if is_nobody(source)) {
                    return Err(error);
                }
                let shim = Self { dir, alive: None };
                shim.end_orphan()?;
                Ok(shim)
            }
            Err(error) => Err(error),
        }
    }

    /// Starts the process and returns its number. Streams that are attached before miss nothing of its output.
    pub fn start(&self) -> Result<i32, ShimError> {
        let state = self.ask(&Request::Start)?.0;
        state.pid.ok_or_else(|| {
            StartError::other("the shim started a process and does not know it").into()
        })
    }

    /// Returns how the process stands.
    pub fn state(&self) -> Result<State, ShimError> {
        match self.ask(&Request::State) {
            Ok((state, _)) => Ok(state),
            Err(ShimError::Ended(_)) => Ok(State {
                phase: Phase::Exited,
                pid: None,
            }),
            Err(error) => Err(error),
        }
    }

    /// Returns the process's number while it runs.
    pub fn pid(&self) -> Result<Option<i32>, ShimError> {
        self.state().map(|state| state.pid)
    }

    /// Attaches to the process's streams; the stream returned carries bytes in both directions (see `wire`).
    /// Of a process that has ended one gets the end of file at once.
    pub fn attach(&self, wanted: &AttachRequest) -> Result<UnixStream, ShimError> {
        match self.ask(&Request::Attach(wanted.clone())) {
            Ok((_, stream)) => {
                stream
                    .set_read_timeout(None)
                    .map_err(failed("attaching to", self.dir.path()))?;
                stream
                    .set_write_timeout(None)
                    .map_err(failed("attaching to", self.dir.path()))?;
                Ok(stream)
            }
            Err(ShimError::Ended(_)) => UnixStream::pair()
                .map(|(ours, _)| ours)
                .map_err(failed("attaching to", self.dir.path())),
            Err(error) => Err(error),
        }
    }

    /// Sets the terminal's size; before the start it is kept for then.
    pub fn resize(&self, size: ConsoleSize) -> Result<(), ShimError> {
        let ConsoleSize { rows, columns } = size;
        self.ask(&Request::Resize { rows, columns }).map(drop)
    }

    /// Sends a signal.
    pub fn signal(&self, signal: i32, whom: Whom) -> Result<(), ShimError> {
        self.ask(&Request::Signal { signal, whom }).map(drop)
    }

    /// Freezes every process of the container.
    pub fn pause(&self) -> Result<(), ShimError> {
        self.ask(&Request::Pause).map(drop)
    }

    /// Lets them go on.
    pub fn resume(&self) -> Result<(), ShimError> {
        self.ask(&Request::Resume).map(drop)
    }

    /// Returns a descriptor that becomes readable (end of file) when the process has ended; none if it has already.
    pub fn wait_fd(&self) -> Option<BorrowedFd<'_>> {
        self.alive.as_ref().map(AsFd::as_fd)
    }

    /// Waits for the end and returns it; any number of threads may wait.
    pub fn wait(&self) -> Result<Exit, ShimError> {
        if let Some(alive) = &self.alive {
            loop {
                match poll(&mut [PollFd::new(alive, PollFlags::IN)], None) {
                    Err(rustix::io::Errno::INTR) => {}
                    Ok(_) => break,
                    Err(error) => return Err(failed("waiting for", self.dir.path())(error.into())),
                }
            }
        }
        if let Some(exit) = self.exit()? {
            return Ok(exit);
        }
        // The shim is gone and left no word: it was killed.
        self.end_orphan()
    }

    /// Returns the end, if it has come.
    pub fn exit(&self) -> Result<Option<Exit>, ShimError> {
        match state_dir::read(&self.dir.exit()) {
            Ok(exit) => Ok(Some(exit)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("reading", &self.dir.exit())(error)),
        }
    }

    /// Removes what the ended process left: its cgroups and its state directory.
    pub fn delete(self) -> Result<(), ShimError> {
        if !matches!(self.state()?.phase, Phase::Exited | Phase::Prepared) {
            return Err(ShimError::Running(self.dir.path().to_owned()));
        }
        // A shim that has started nothing leaves when nobody is connected.
        drop(self.alive);
        let order: Order =
            state_dir::read(&self.dir.order()).map_err(failed("reading", &self.dir.order()))?;
        if order.container.is_none() {
            let id = container_id(&self.dir)?;
            cgroup::remove(&id).map_err(failed("removing the cgroups of", self.dir.path()))?;
            // By rmdir, before all else: were anything mounted there, a recursive removal would empty it.
            match fs::remove_dir(self.dir.rootfs()) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(failed("removing", &self.dir.rootfs())(error));
                }
                _ => {}
            }
        }
        fs::remove_dir_all(self.dir.path()).map_err(failed("removing", self.dir.path()))
    }

    /// Runs our program as a shim and waits until it listens.
    fn spawn(dir: StateDir, order: &Order, stdin: Stdio) -> Result<Self, ShimError> {
        state_dir::write(&dir.order(), order).map_err(failed("writing", &dir.order()))?;
        let log = File::create(dir.shim_log()).map_err(failed("making", &dir.shim_log()))?;
        let program = order.program.as_deref().unwrap_or_else(|| program::path());
        // Its first process leaves at once, so that the shim is nobody's child here and this one is reaped now.
        let mut first = Command::new(program)
            .arg0(SHIM_NAME)
            .arg(dir.path())
            .env_clear()
            .current_dir("/")
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(failed("running the shim for", dir.path()))?;
        let answer = match first.stdout.take() {
            Some(pipe) => read_answer(pipe),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        };
        first
            .wait()
            .map_err(failed("running the shim for", dir.path()))?;
        match answer {
            Ok(Answer::Done(_)) => {}
            Ok(Answer::Refused(error)) => return Err(error.into()),
            Err(source) => {
                let said = fs::read_to_string(dir.shim_log()).unwrap_or_default();
                return Err(failed("running the shim for", dir.path())(io::Error::new(
                    source.kind(),
                    format!("{source}; it said {:?}", said.trim_end()),
                )));
            }
        }
        let alive = Self::connect(&dir)?;
        Ok(Self {
            dir,
            alive: Some(alive),
        })
    }

    /// Opens the connection whose end is the process's.
    fn connect(dir: &StateDir) -> Result<UnixStream, ShimError> {
        let (_, stream) = ask(dir, &Request::Wait)?;
        Ok(stream)
    }

    fn ask(&self, request: &Request) -> Result<(State, UnixStream), ShimError> {
        match ask(&self.dir, request) {
            Err(ShimError::Io { source, .. }) if is_nobody(&source) => {
                Err(ShimError::Ended(self.dir.path().to_owned()))
            }
            other => other,
        }
    }

    /// Ends what a killed shim left running and writes the exit that it could not.
    fn end_orphan(&self) -> Result<Exit, ShimError> {
        if let Ok(running) = state_dir::read::<Running>(&self.dir.running()) {
            running.kill();
        }
        let order: Order =
            state_dir::read(&self.dir.order()).map_err(failed("reading", &self.dir.order()))?;
        if order.container.is_none() {
            let id = container_id(&self.dir)?;
            cgroup::remove(&id).map_err(failed("removing the cgroups of", self.dir.path()))?;
        }
        let exit = Exit {
            code: 128 + 9,
            oom_killed: false,
            finished_at_ns: super::shim::now_ns(),
            trouble: Some("its shim was killed".to_owned()),
        };
        state_dir::write_durably(&self.dir.exit(), &exit)
            .map_err(failed("writing", &self.dir.exit()))?;
        Ok(exit)
    }
}

fn container_id(dir: &StateDir) -> Result<ContainerId, ShimError> {
    state_dir::read::<ContainerSpec>(&dir.spec())
        .map(|spec| spec.id)
        .map_err(failed("reading", &dir.spec()))
}

/// Tells that there is no shim: its socket is gone, or nobody is behind it, or it left while we spoke.
fn is_nobody(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::NotFound
            | Kind::ConnectionRefused
            | Kind::ConnectionReset
            | Kind::BrokenPipe
            | Kind::UnexpectedEof
    )
}

/// Asks on a connection of its own and returns it with the answer.
fn ask(dir: &StateDir, request: &Request) -> Result<(State, UnixStream), ShimError> {
    let talk = || -> io::Result<(Answer, UnixStream)> {
        let mut stream = dir.connect()?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        if line.len() > REQUEST_BYTES_MAX {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        stream.write_all(&line)?;
        Ok((read_answer_exactly(&mut stream)?, stream))
    };
    match talk().map_err(failed("asking the shim of", dir.path()))? {
        (Answer::Done(state), stream) => Ok((state, stream)),
        (Answer::Refused(error), _) => Err(error.into()),
    }
}

fn read_answer(from: impl Read) -> io::Result<Answer> {
    let mut line = String::new();
    BufReader::new(from.take(ANSWER_BYTES_MAX)).read_line(&mut line)?;
    parse_answer(line.as_bytes())
}

/// Reads the answer line and not a byte more: what follows is the process's output.
fn read_answer_exactly(from: &mut impl Read) -> io::Result<Answer> {
    let mut line = Vec::new();
    let mut byte = [0];
    let mut from = from.take(ANSWER_BYTES_MAX);
    while from.read(&mut byte)? == 1 && byte != *b"\n" {
        line.extend(byte);
    }
    parse_answer(&line)
}

fn parse_answer(line: &[u8]) -> io::Result<Answer> {
    if line.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    serde_json::from_slice(line).map_err(io::Error::from)
}

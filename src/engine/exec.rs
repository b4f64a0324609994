//! Further processes in a running container.

use std::collections::HashMap;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use super::container::{Container, Phase};
use super::containers::not_running;
use super::error::{Error, Result};
use super::start::exec_code_of;
use super::stop::run_of;
use super::{Engine, merge, names};
use crate::runtime::spec::{ConsoleSize, ContainerId, ExecId, ExecSpec, ProcessSpec};
use crate::runtime::{AttachRequest, Shim, Warm};

/// Ended processes that are remembered; clients ask for the exit code at once.
const ENDED_KEPT_MAX: usize = 256;

/// What a process shall be.
#[derive(Clone, Debug)]
pub struct ExecRequest {
    /// What runs; a user and a directory that are empty are the container's, variables are added to its own.
    pub process: ProcessSpec,
    /// All capabilities.
    pub privileged: bool,
    /// Which streams its client wants.
    pub attach: AttachRequest,
    /// The detach keys as they were asked for.
    pub detach_keys: String,
}

/// Where a process is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExecPhase {
    /// Not started.
    Prepared,
    /// It is being started, or runs.
    Running(Option<i32>),
    /// It ended with this code.
    Ended(i32),
}

/// One process.
#[derive(Clone, Debug)]
pub struct Exec {
    /// Its ID.
    pub id: String,
    /// Its container.
    pub container: ContainerId,
    /// What it is.
    pub request: ExecRequest,
    /// Where it is in its life.
    pub phase: ExecPhase,
}

/// All of them. One lock, a leaf.
#[derive(Default)]
pub(crate) struct Execs {
    all: Mutex<HashMap<String, Known>>,
    /// Rung whenever one has ended.
    ended: Condvar,
}

/// A process, and its shim while it has one.
type Known = (Exec, Option<Arc<Shim>>);

impl Execs {
    fn get(&self, id: &str) -> Result<Known> {
        self.all
            .lock()
            .get(id)
            .cloned()
            .ok_or_else(|| Error::NoSuchExec(id.to_owned()))
    }

    fn set(&self, id: &str, phase: ExecPhase, shim: Option<Arc<Shim>>) {
        if let Some(entry) = self.all.lock().get_mut(id) {
            entry.0.phase = phase;
            entry.1 = shim;
        }
        if matches!(phase, ExecPhase::Ended(_)) {
            self.ended.notify_all();
        }
    }

    /// Blocks while a process runs.
    fn wait(&self, id: &str) {
        let mut all = self.all.lock();
        while all
            .get(id)
            .is_some_and(|(exec, _)| matches!(exec.phase, ExecPhase::Running(_)))
        {
            self.ended.wait(&mut all);
        }
    }

    fn add(&self, exec: Exec) {
        let mut all = self.all.lock();
        let ended = all
            .iter()
            .filter(|(_, (exec, _))| matches!(exec.phase, ExecPhase::Ended(_)));
        let ended: Vec<String> = ended.map(|(id, _)| id.clone()).collect();
        if ended.len() > ENDED_KEPT_MAX {
            for id in ended {
                all.remove(&id);
            }
        }
        all.insert(exec.id.clone(), (exec, None));
    }

    /// Takes a process that is not started yet; a second start is refused.
    fn claim(&self, id: &str) -> Result<Exec> {
        let mut all = self.all.lock();
        let (exec, _) = all
            .get_mut(id)
            .ok_or_else(|| Error::NoSuchExec(id.to_owned()))?;
        match exec.phase {
            ExecPhase::Prepared => {
                exec.phase = ExecPhase::Running(None);
                Ok(exec.clone())
            }
            ExecPhase::Running(_) => Err(Error::conflict(format!(
                "Error: Exec command {id} is already running"
            ))),
            ExecPhase::Ended(_) => Err(Error::conflict(format!(
                "Error: Exec command {id} has already run"
            ))),
        }
    }

    /// Its container ended: what was not started never will be.
    pub(crate) fn forget_container(&self, container: &ContainerId) {
        self.all.lock().retain(|_, (exec, _)| {
            exec.container != *container || exec.phase != ExecPhase::Prepared
        });
    }

    /// The IDs of a container's processes that have not ended.
    pub(crate) fn of(&self, container: &ContainerId) -> Vec<String> {
        let all = self.all.lock();
        let of = all
            .values()
            .filter(|(exec, _)| exec.container == *container);
        let mut ids: Vec<String> = of
            .filter(|(exec, _)| !matches!(exec.phase, ExecPhase::Ended(_)))
            .map(|(exec, _)| exec.id.clone())
            .collect();
        ids.sort();
        ids
    }
}

/// A process whose shim stands; nothing of its output is lost between here and the start.
pub struct ReadyExec {
    exec: Exec,
    shim: Arc<Shim>,
    warm: Warm,
}

impl ReadyExec {
    /// The process's ID.
    pub fn id(&self) -> &str {
        &self.exec.id
    }
}

impl Engine {
    /// Prepares a process in a running container; returns its ID.
    pub fn create_exec(&self, text: &str, mut request: ExecRequest) -> Result<String> {
        let live = self.containers.find(text)?;
        let document = live.document();
        if request.process.args.is_empty() {
            return Err(Error::invalid("No exec command specified"));
        }
        check_running(&document)?;
        complete(&mut request.process, &document);
        let command = request.process.args.join(" ");
        let id = names::random_hex()?;
        self.execs.add(Exec {
            id: id.clone(),
            container: document.id.clone(),
            request,
            phase: ExecPhase::Prepared,
        });
        self.tell_container(
            &format!("exec_create: {command}"),
            &document,
            [("execID", id.clone())],
        );
        Ok(id)
    }

    /// What is known of a process.
    pub fn exec(&self, id: &str) -> Result<Exec> {
        Ok(self.execs.get(id)?.0)
    }

    /// The IDs of a container's processes that have not ended.
    pub fn execs_of(&self, container: &ContainerId) -> Vec<String> {
        self.execs.of(container)
    }

    /// Brings a process's shim up and attaches to it. `size` replaces the terminal's size.
    pub fn ready_exec(
        &self,
        id: &str,
        attach: bool,
        size: Option<ConsoleSize>,
    ) -> Result<(ReadyExec, Option<UnixStream>)> {
        let mut exec = self.execs.claim(id)?;
        let warm = Warm::up();
        exec.request.process.console_size = size.or(exec.request.process.console_size);
        match self.bring_exec_up(&exec, attach) {
            Ok((shim, stream)) => {
                self.execs
                    .set(id, ExecPhase::Running(None), Some(Arc::clone(&shim)));
                Ok((ReadyExec { exec, shim, warm }, stream))
            }
            Err(error) => {
                self.execs
                    .set(id, ExecPhase::Ended(exec_code_of(&error)), None);
                Err(error)
            }
        }
    }

    fn bring_exec_up(&self, exec: &Exec, attach: bool) -> Result<(Arc<Shim>, Option<UnixStream>)> {
        let live = self.containers.find(exec.container.as_str())?;
        let document = live.document();
        check_running(&document)?;
        let run = run_of(&live).ok_or_else(|| not_running(&document))?;
        let bad = |error: crate::runtime::spec::BadId| Error::broken(error.to_string());
        let spec = ExecSpec {
            id: ExecId::new(exec.id.as_str()).map_err(bad)?,
            process: exec.request.process.clone(),
            privileged: exec.request.privileged,
        };
        let shim = Arc::new(run.shim.exec(&spec)?);
        let stream = if attach {
            Some(shim.attach(&exec.request.attach)?)
        } else {
            None
        };
        Ok((shim, stream))
    }

    /// Starts a process, and sees to its end.
    pub fn start_exec(self: &Arc<Self>, ready: ReadyExec) -> Result<()> {
        let ReadyExec { exec, shim, warm } = ready;
        let command = exec.request.process.args.join(" ");
        let document = self.container(exec.container.as_str())?;
        let started = shim.start();
        drop(warm);
        match started {
            Ok(pid) => {
                self.execs.set(
                    &exec.id,
                    ExecPhase::Running(Some(pid)),
                    Some(Arc::clone(&shim)),
                );
                self.tell_container(
                    &format!("exec_start: {command}"),
                    &document,
                    [("execID", exec.id.clone())],
                );
                let engine = Arc::clone(self);
                let watch = move || engine.exec_ended(&exec, shim, &document);
                let started = std::thread::Builder::new()
                    .name("exec end".into())
                    .spawn(watch);
                started
                    .map(drop)
                    .map_err(|e| Error::broken(format!("cannot start a thread: {e}")))
            }
            Err(error) => {
                let error = Error::from(error);
                self.execs
                    .set(&exec.id, ExecPhase::Ended(exec_code_of(&error)), None);
                delete(shim);
                Err(error)
            }
        }
    }

    fn exec_ended(&self, exec: &Exec, shim: Arc<Shim>, document: &Container) {
        let code = shim.wait().map_or(128 + libc::SIGKILL, |exit| exit.code);
        self.execs.set(&exec.id, ExecPhase::Ended(code), None);
        self.tell_container(
            "exec_die",
            document,
            [("execID", exec.id.clone()), ("exitCode", code.to_string())],
        );
        delete(shim);
    }

    /// Waits until a process has ended and its exit code is known.
    pub fn wait_exec(&self, id: &str) {
        self.execs.wait(id);
    }

    /// Sets the size of a process's terminal.
    pub fn resize_exec(&self, id: &str, size: ConsoleSize) -> Result<()> {
        match self.execs.get(id)? {
            (_, Some(shim)) => Ok(shim.resize(size)?),
            (exec, None) => Err(Error::conflict(format!("exec {} is not running", exec.id))),
        }
    }

    /// Sets the size of a container's terminal.
    pub fn resize_container(&self, text: &str, size: ConsoleSize) -> Result<()> {
        let live = self.containers.find(text)?;
        let run = run_of(&live).ok_or_else(|| not_running(&live.document()))?;
        Ok(run.shim.resize(size)?)
    }
}

/// The shim's directory goes with its container at the latest, so a failure here loses nothing.
fn delete(shim: Arc<Shim>) {
    if let Some(shim) = Arc::into_inner(shim)
        && let Err(error) = shim.delete()
    {
        tracing::debug!(%error, "cannot remove what an exec left");
    }
}

fn check_running(document: &Container) -> Result<()> {
    match document.state.phase {
        Phase::Running => Ok(()),
        Phase::Paused => Err(Error::conflict(format!(
            "Container {} is paused, unpause the container before exec",
            document.id
        ))),
        Phase::Created | Phase::Exited | Phase::Dead => Err(not_running(document)),
    }
}

/// Fills in what the container says.
fn complete(process: &mut ProcessSpec, document: &Container) {
    let config = &document.config;
    let mut env = merge::environment(
        config,
        &super::start::hostname_seen(document, &document.hostname()),
    );
    if process.tty && !config.tty {
        env.push("TERM=xterm".to_owned());
    }
    merge::override_env(&mut env, &process.env);
    process.env = env;
    if process.user.is_empty() {
        process.user.clone_from(&config.user);
    }
    if process.cwd.is_empty() {
        process.cwd.clone_from(&config.working_dir);
    }
    if process.groups.is_empty() {
        process.groups.clone_from(&document.host.groups);
    }
}

//! From a specification to a running process, through libcontainer.
//! Never waits for the process; the poll loop does.

use std::cell::OnceCell;
use std::fs::{self, File};
use std::io::{self, PipeWriter, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use libcontainer::container::Container;
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::syscall::syscall::SyscallType;
use nix::sched::{CloneFlags, setns, unshare};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::mount::{MountPropagationFlags, MoveMountFlags, mount_change, move_mount};

use super::machine::{hard_limit, host, our_capabilities};
use super::payload::Payload;
use super::stdio::{self, Streams};
use super::{Running, cgroup, complaints};
use crate::oci::{self, Host};
use crate::rootfs::InRoot;
use crate::spec::{ContainerId, ContainerSpec, ExecSpec, MountSource, ProcessSpec};
use crate::state_dir::{self, StateDir};
use crate::user::{self, Identity};
use crate::wire::{StartError, StartErrorKind};

/// What this shim is for.
#[derive(Debug)]
pub(super) enum Job {
    /// A container.
    Container {
        /// What it shall be.
        spec: ContainerSpec,
        /// Its root: a detached mount, put in place at the start and then let go, so that only the container holds it.
        rootfs: Option<OwnedFd>,
        /// Whether it goes when its process ends.
        auto_remove: bool,
    },
    /// Another process in a container.
    Exec {
        /// What it shall be.
        spec: ExecSpec,
        /// The container's specification.
        within: ContainerSpec,
        /// The container's state directory.
        container: StateDir,
    },
}

/// A process that runs.
#[derive(Debug)]
pub(super) struct Started {
    pub(super) pid: i32,
    pub(super) streams: Streams,
}

impl Job {
    /// What its process shall be, with what an exec leaves to its container filled in.
    pub(super) fn process(&self) -> ProcessSpec {
        match self {
            Self::Container { spec, .. } => spec.process.clone(),
            Self::Exec { spec, within, .. } => {
                let or = |own: &str, container: &str| {
                    if own.is_empty() { container } else { own }.to_owned()
                };
                let mut process = spec.process.clone();
                process.env = [within.process.env.as_slice(), &spec.process.env].concat();
                process.cwd = or(&process.cwd, &within.process.cwd);
                if process.user.is_empty() {
                    process.user.clone_from(&within.process.user);
                    process.groups.clone_from(&within.process.groups);
                }
                process
            }
        }
    }

    /// The container whose cgroups these are.
    pub(super) fn container(&self) -> &ContainerId {
        match self {
            Self::Container { spec, .. } => &spec.id,
            Self::Exec { within, .. } => &within.id,
        }
    }

    /// Whether it is a container's own shim.
    pub(super) fn is_container(&self) -> bool {
        matches!(self, Self::Container { .. })
    }

    /// Whether its end is asked for after a power cut as well: not that of an exec, whose shim and client are gone with the machine,
    /// nor that of a container which then goes.
    pub(super) fn is_remembered(&self) -> bool {
        matches!(
            self,
            Self::Container {
                auto_remove: false,
                ..
            }
        )
    }

    /// docker's text around an error at the start.
    fn explain(&self, error: StartError) -> StartError {
        let StartError { kind, message } = error;
        if kind == StartErrorKind::BadRequest {
            return StartError { kind, message };
        }
        let message = match self {
            Self::Container { .. } => format!(
                "failed to create task for container: failed to create shim task: OCI runtime create failed: \
                 unable to start container process: error during container init: {message}"
            ),
            Self::Exec { .. } => {
                format!(
                    "OCI runtime exec failed: exec failed: unable to start container process: {message}: unknown"
                )
            }
        };
        StartError { kind, message }
    }

    /// Creates and starts the process.
    pub(super) fn start(&mut self, dir: &StateDir) -> Result<Started, StartError> {
        let process = self.process();
        let started = match self {
            Self::Container { spec, rootfs, .. } => match rootfs.take() {
                Some(rootfs) => start_container(dir, spec, &rootfs, &process),
                None => Err(StartError::other("the root was used before")),
            },
            Self::Exec {
                spec,
                within,
                container,
            } => start_exec(dir, spec, within, container, &process),
        };
        let started = started.map_err(|error| self.explain(error))?;
        // The process is there and must not be lost for want of a note; without it a killed shim's process is not found.
        Running::of(started.pid)
            .and_then(|running| state_dir::write(&dir.running(), &running))
            .map_err(|error| note(&format!("{}: {error}", dir.running().display())))
            .unwrap_or_default();
        Ok(started)
    }
}

fn note(line: &str) {
    drop(io::Write::write_all(
        &mut io::stderr(),
        format!("{line}\n").as_bytes(),
    ));
}

fn start_container(
    dir: &StateDir,
    spec: &ContainerSpec,
    rootfs: &OwnedFd,
    process: &ProcessSpec,
) -> Result<Started, StartError> {
    let root = InRoot::new(rootfs.as_fd());
    let who = identity(&root, process)?;
    check_sources(spec)?;
    if !is_under_a_mount(spec, &oci::working_directory(process)) {
        // As docker does. Where it cannot be made, going there says why.
        root.make_directory(&oci::working_directory(process))
            .unwrap_or_default();
    }
    // Everything of the machine that is mounted is in our namespace too while the container is made, and would be busy for as
    // long as we live if we stayed. So we come back.
    let home = File::open("/proc/self/ns/mnt").map_err(because("opening our mount namespace"))?;
    enter_mount_namespace()?;
    let started = start_in_namespace(dir, spec, rootfs, process, &who);
    setns(&home, CloneFlags::CLONE_NEWNS)
        .map_err(|error| because("going back to our mount namespace")(error.into()))?;
    if started.is_err() {
        cgroup::remove(&spec.id).map_err(because("removing the cgroups"))?;
    }
    started
}

fn start_in_namespace(
    dir: &StateDir,
    spec: &ContainerSpec,
    rootfs: &OwnedFd,
    process: &ProcessSpec,
    who: &Identity,
) -> Result<Started, StartError> {
    move_mount(
        rootfs,
        "",
        rustix::fs::CWD,
        dir.rootfs(),
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
    )
    .map_err(|error| because("mounting the root")(error.into()))?;
    let host = host(spec)?;
    let bundle = oci::container(spec, who, &host)?;
    state_dir::write(&dir.bundle_config(), &bundle).map_err(because("writing config.json"))?;
    fs::create_dir_all(dir.library()).map_err(because("making the library's directory"))?;
    let mut confinement = oci::confinement(&spec.security, &host)?;
    let replaced = spec
        .mounts
        .iter()
        .any(|mount| Path::new(&mount.target).starts_with("/sys"));
    confinement.seals_cgroups = host.has_cgroups && !spec.security.privileged && !replaced;
    let (report, payload) = payload(confinement, process, &bundle)?;
    let (builder, ends) = builder(dir, &spec.id, process, payload)?;
    let mut container = builder
        .as_init(dir.path())
        .with_systemd(false)
        .with_detach(process.tty)
        .build()
        .map_err(|error| reported(report, error))?;
    let pid = container
        .pid()
        .map(|pid| pid.as_raw())
        .ok_or_else(|| StartError::other("the container has no process"))?;
    let streams = ends.streams()?;
    resize(&streams, process)?;
    run_container(&mut container)?;
    Ok(Started { pid, streams })
}

fn run_container(container: &mut Container) -> Result<(), StartError> {
    container
        .start()
        .map_err(|error| StartError::other(error.to_string()))
}

fn start_exec(
    dir: &StateDir,
    spec: &ExecSpec,
    within: &ContainerSpec,
    container: &StateDir,
    process: &ProcessSpec,
) -> Result<Started, StartError> {
    if cgroup::is_frozen(&within.id) {
        let message = format!(
            "Container {} is paused, unpause the container before exec",
            within.id
        );
        return Err(StartError {
            kind: StartErrorKind::BadRequest,
            message,
        });
    }
    let running: Running =
        state_dir::read(&container.running()).map_err(because("finding the container"))?;
    let root = File::open(format!("/proc/{}/root", running.pid))
        .map_err(because("opening the container's root"))?;
    let who = identity(&InRoot::new(root), process)?;
    let mut security = within.security.clone();
    security.privileged |= spec.privileged;
    let host = Host {
        capabilities: our_capabilities()?,
        hard_limit,
        has_cgroups: cgroup::exist(&within.id),
        lone_network: None,
    };
    let bundle = oci::container(
        &ContainerSpec {
            process: process.clone(),
            ..within.clone()
        },
        &who,
        &host,
    )?;
    let part = bundle
        .process()
        .as_ref()
        .ok_or_else(|| StartError::other("no process"))?;
    state_dir::write(&dir.process(), part).map_err(because("writing process.json"))?;
    share_library_state(dir, container, &within.id)
        .map_err(because("finding the container's state"))?;
    let (report, payload) = payload(oci::confinement(&security, &host)?, process, &bundle)?;
    let (builder, ends) = builder(dir, &within.id, process, payload)?;
    let home = File::open("/proc/self/ns/mnt").map_err(because("opening our mount namespace"))?;
    if !host.has_cgroups {
        enter_mount_namespace()?;
        cgroup::hide().map_err(because("doing without cgroups"))?;
    }
    let pid = builder
        .as_tenant()
        .with_process(Some(dir.process()))
        .with_detach(process.tty)
        .build()
        .map_err(|error| reported(report, error))?;
    setns(&home, CloneFlags::CLONE_NEWNS)
        .map_err(|error| because("going back to our mount namespace")(error.into()))?;
    let streams = ends.streams()?;
    resize(&streams, process)?;
    Ok(Started {
        pid: pid.as_raw(),
        streams,
    })
}

/// libcontainer leaves sockets in a container's directory for every exec; a copy of its state takes them, and goes with ours.
fn share_library_state(dir: &StateDir, container: &StateDir, id: &ContainerId) -> io::Result<()> {
    let ours = dir.library().join(id.as_str());
    fs::create_dir_all(&ours)?;
    for entry in fs::read_dir(container.library().join(id.as_str()))? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            fs::copy(entry.path(), ours.join(entry.file_name()))?;
        }
    }
    Ok(())
}

fn identity(
    root: &impl crate::rootfs::RootFs,
    process: &ProcessSpec,
) -> Result<Identity, StartError> {
    user::resolve(root, &process.user, &process.groups).map_err(|error| StartError {
        kind: StartErrorKind::BadRequest,
        message: error.to_string(),
    })
}

/// libcontainer says only that the root could not be prepared.
fn check_sources(spec: &ContainerSpec) -> Result<(), StartError> {
    for mount in &spec.mounts {
        if let MountSource::Bind(source) = &mount.source
            && let Err(error) = fs::metadata(source)
        {
            let why = match error.kind() {
                io::ErrorKind::NotFound => "does not exist".to_owned(),
                _ => format!("cannot be used ({error})"),
            };
            return Err(StartError {
                kind: StartErrorKind::BadRequest,
                message: format!(
                    "invalid mount config for type \"bind\": bind source path {why}: {}",
                    source.display()
                ),
            });
        }
    }
    Ok(())
}

fn is_under_a_mount(spec: &ContainerSpec, path: &Path) -> bool {
    spec.mounts
        .iter()
        .any(|mount| path.starts_with(&mount.target))
}

fn enter_mount_namespace() -> Result<(), StartError> {
    unshare(CloneFlags::CLONE_NEWNS)
        .map_err(|error| because("making a mount namespace")(error.into()))?;
    mount_change(
        "/",
        MountPropagationFlags::REC | MountPropagationFlags::PRIVATE,
    )
    .map_err(|error| because("making the mounts private")(error.into()))
}

/// Our ends, or where they will come from.
enum Ends {
    Pipes(Streams),
    Terminal(UnixListener, PathBuf),
}

impl Ends {
    fn streams(self) -> Result<Streams, StartError> {
        match self {
            Self::Pipes(streams) => Ok(streams),
            Self::Terminal(socket, path) => {
                let streams =
                    stdio::receive_terminal(&socket).map_err(because("taking the terminal"))?;
                fs::remove_file(path).map_err(because("removing the terminal's socket"))?;
                Ok(streams)
            }
        }
    }
}

fn builder(
    dir: &StateDir,
    id: &ContainerId,
    process: &ProcessSpec,
    payload: Payload,
) -> Result<(ContainerBuilder, Ends), StartError> {
    let library =
        |error: libcontainer::error::LibcontainerError| StartError::other(error.to_string());
    let builder = ContainerBuilder::new(id.to_string(), SyscallType::default())
        .with_executor(payload)
        .with_root_path(dir.library())
        .and_then(ContainerBuilder::validate_id)
        .map_err(library)?;
    if process.tty {
        let socket = dir
            .listen_for_console()
            .map_err(because("listening for the terminal"))?;
        let path = dir.console_socket();
        return Ok((
            builder.with_console_socket(Some(path.clone())),
            Ends::Terminal(socket, path),
        ));
    }
    let (streams, ends) = stdio::pipes(process).map_err(because("making pipes"))?;
    let builder = builder
        .with_stdin(ends.stdin)
        .with_stdout(ends.stdout)
        .with_stderr(ends.stderr);
    Ok((builder, Ends::Pipes(streams)))
}

fn payload(
    confinement: oci::Confinement,
    process: &ProcessSpec,
    bundle: &libcontainer::oci_spec::runtime::Spec,
) -> Result<(io::PipeReader, Payload), StartError> {
    let (report, writer): (_, PipeWriter) = io::pipe().map_err(because("making a pipe"))?;
    let writer = Arc::new(writer);
    complaints::send_to(Arc::clone(&writer));
    let env = bundle
        .process()
        .as_ref()
        .and_then(|process| process.env().clone());
    let payload = Payload {
        confinement,
        cwd: oci::working_directory(process),
        args: process.args.clone(),
        env: env.unwrap_or_default(),
        report: writer,
        program: Rc::new(OnceCell::new()),
    };
    Ok((report, payload))
}

/// Longest report: a line that names a program or a directory, and a complaint of each process.
const REPORT_BYTES_MAX: usize = 64 << 10;

/// How long a report may take after the error it explains; it was sent before.
const REPORT_TIMEOUT: Duration = Duration::from_secs(1);

/// Returns what the payload reported, or else libcontainer's first complaint, or else its error.
fn reported(mut report: io::PipeReader, error: impl std::error::Error) -> StartError {
    let limit = rustix::event::Timespec::try_from(REPORT_TIMEOUT).ok();
    let mut text = vec![0; REPORT_BYTES_MAX];
    let length = match poll(&mut [PollFd::new(&report, PollFlags::IN)], limit.as_ref()) {
        Ok(ready) if ready > 0 => report.read(&mut text).unwrap_or(0),
        _ => 0,
    };
    let text = String::from_utf8_lossy(text.get(..length).unwrap_or_default());
    let of_payload = |line| serde_json::from_str::<StartError>(line).ok();
    let complaint = || text.lines().next().map(StartError::other);
    text.lines()
        .find_map(of_payload)
        .or_else(complaint)
        .unwrap_or_else(|| StartError::other(in_full(&error)))
}

/// An error with its reasons, each once.
fn in_full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let words = inner.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        source = inner.source();
    }
    text
}

fn resize(streams: &Streams, process: &ProcessSpec) -> Result<(), StartError> {
    match process.console_size {
        Some(size) => streams.resize(size).map_err(because("sizing the terminal")),
        None => Ok(()),
    }
}

pub(super) fn because(what: &'static str) -> impl Fn(io::Error) -> StartError {
    move |error| StartError::other(format!("{what}: {error}"))
}

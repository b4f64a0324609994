//! The shim: one small single-threaded process per container or exec. It creates the process through libcontainer, holds
//! its streams, serves those who attach, and writes down how it ended. It outlives the service.
//! Never opens the store and never starts a thread: libcontainer forks and goes on running Rust in the child.
//!
//! ```text
//! serve     the poll loop: clients, streams, the end
//! client    one connection: its request, then its bytes
//! detach    the keys that end an attach
//! start     from a specification to a running process
//! machine   what of the machine the configuration depends on
//! complaints  libcontainer's own words for what failed
//! payload   the last steps inside the container: directory, filter, capabilities, program
//! process   what can be done to it, and how it ended
//! stdio     pipes or terminal
//! json_log  docker's log file
//! cgroup    finding, freezing and removing a container's cgroups; doing without
//! network   a namespace with a loopback interface
//! ```

pub(crate) mod cgroup;
mod client;
mod complaints;
mod detach;
mod json_log;
mod machine;
mod network;
mod payload;
mod process;
mod serve;
mod start;
mod stdio;

use std::ffi::{CStr, OsStr};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

use super::boot::this_boot;
use super::state_dir::{self, StateDir};
use super::wire::{Answer, Phase, StartError, State};

/// The name by which the program knows that it shall be a shim.
pub(crate) const SHIM_NAME: &str = "nacre-shim";

/// What `ps` calls it.
const SHIM_THREAD_NAME: &CStr = c"nacre-shim";

/// How long a killed process may take to be gone; only one that hangs in the kernel takes more than milliseconds.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);

/// What a shim must know beside the specification; `order.json`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    /// Where the output is logged.
    pub(crate) log: Option<PathBuf>,
    /// Free bytes of the log's disk below which nothing is logged.
    #[serde(default)]
    pub(crate) log_floor: u64,
    /// Whether the container goes with its process, and nobody asks for its end after a power cut.
    #[serde(default)]
    pub(crate) auto_remove: bool,
    /// The state directory of the container to join; none for a container's own shim.
    pub(crate) container: Option<PathBuf>,
    /// The program that execs are started with.
    pub(crate) program: Option<PathBuf>,
}

/// Who runs; `running.json`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Running {
    /// The process in the container.
    pub(crate) pid: i32,
    /// When it started, in ticks since the boot.
    pub(crate) start_ticks: u64,
    /// Which boot that was: all three name one process for ever.
    pub(crate) boot: String,
}

impl Running {
    /// Notes a process that runs.
    fn of(pid: i32) -> io::Result<Self> {
        Ok(Self {
            pid,
            start_ticks: start_ticks(pid)?,
            boot: this_boot()?,
        })
    }

    /// Kills the process if it still is the same one, and waits until it is gone.
    pub(crate) fn kill(&self) {
        let Some(pid) = Pid::from_raw(self.pid) else {
            return;
        };
        // The descriptor first, the comparison second: after it the number cannot become somebody else's.
        let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else {
            return;
        };
        let is_same = start_ticks(self.pid).is_ok_and(|ticks| ticks == self.start_ticks)
            && this_boot().is_ok_and(|boot| boot == self.boot);
        if !is_same {
            return;
        }
        if pidfd_send_signal(&process, Signal::KILL).is_ok() {
            let limit = rustix::event::Timespec::try_from(KILL_TIMEOUT).ok();
            // Whether it is gone or the time is up, the caller can do no more.
            poll(&mut [PollFd::new(&process, PollFlags::IN)], limit.as_ref()).unwrap_or_default();
        }
    }
}

/// Field 22 of `/proc/PID/stat`; counted from the end of the name, which may hold anything.
fn start_ticks(pid: i32) -> io::Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    stat.rsplit_once(") ")
        .and_then(|(_, rest)| rest.split(' ').nth(19))
        .and_then(|ticks| ticks.parse().ok())
        .ok_or_else(|| io::Error::other(format!("/proc/{pid}/stat has no start time")))
}

/// The time now, as it stands in logs and exits.
pub(crate) fn now_ns() -> i64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .ok()
        .and_then(|since| i64::try_from(since.as_nanos()).ok())
        .unwrap_or(0)
}

/// Becomes a shim, if this process was started as one; to be called before any thread exists.
pub fn run_if_asked() -> Option<ExitCode> {
    let mut args = std::env::args_os();
    if args.next().as_deref() != Some(OsStr::new(SHIM_NAME)) {
        return None;
    }
    // It was executed by way of a descriptor, and would be called by its number. Nothing depends on it.
    rustix::thread::set_name(SHIM_THREAD_NAME).unwrap_or_default();
    let dir = StateDir::new(args.next().unwrap_or_default());
    Some(match run(&dir) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Standard error is the shim's own log by now.
            drop(writeln!(io::stderr(), "{error}"));
            ExitCode::FAILURE
        }
    })
}

fn run(dir: &StateDir) -> io::Result<()> {
    let (given, report) = take_descriptors()?;
    let prepared = crate::sys::fork_and_leave().and_then(|()| prepare(dir, given));
    let (answer, serve) = match prepared {
        Ok(serve) => {
            let state = State {
                phase: Phase::Prepared,
                pid: None,
            };
            (Answer::Done(state), Ok(serve))
        }
        Err(error) => (
            Answer::Refused(StartError::other(format!("shim: {error}"))),
            Err(error),
        ),
    };
    let mut line = serde_json::to_vec(&answer)?;
    line.push(b'\n');
    File::from(report).write_all(&line)?;
    serve?.run()
}

/// Takes what the service passed in places 0 and 1 (the root, the pipe for the first word) and leaves nothing open else.
fn take_descriptors() -> io::Result<(OwnedFd, OwnedFd)> {
    crate::sys::close_from(3)?;
    let given = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    let report = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3)?;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    Ok((given, report))
}

fn prepare(dir: &StateDir, given: OwnedFd) -> io::Result<serve::Serve> {
    rustix::process::setsid()?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    // libcontainer sets groups only where there are some; the service's must not leak into a container.
    nix::unistd::setgroups(&[])?;
    let order: Order = state_dir::read(&dir.order())?;
    let job = match order.container {
        None => start::Job::Container {
            spec: state_dir::read(&dir.spec())?,
            rootfs: Some(given),
            auto_remove: order.auto_remove,
        },
        Some(container) => {
            let container = StateDir::new(container);
            start::Job::Exec {
                spec: state_dir::read(&dir.spec())?,
                within: state_dir::read(&container.spec())?,
                container,
            }
        }
    };
    let log = match order.log {
        Some(path) => Some(json_log::JsonLog::open(&path, order.log_floor)?),
        None => None,
    };
    serve::Serve::listen(dir.clone(), job, log)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn only_the_very_process_is_killed() {
        let mut child = std::process::Command::new("sleep")
            .arg("1000")
            .spawn()
            .unwrap();
        let noted = Running::of(child.id().try_into().unwrap()).unwrap();
        for other in [
            Running {
                start_ticks: noted.start_ticks + 1,
                boot: noted.boot.clone(),
                ..noted
            },
            Running {
                boot: "another".to_owned(),
                ..noted
            },
        ] {
            other.kill();
            assert!(child.try_wait().unwrap().is_none());
        }
        noted.kill();
        assert!(!child.wait().unwrap().success());
    }
}

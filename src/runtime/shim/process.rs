//! The process that a shim holds: its streams, what can be done to it, and how it ended.
//! Never waits for it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::process::{Pid, PidfdFlags, WaitOptions, pidfd_open, waitpid};

use super::cgroup::{self, Freezer};
use super::start::{Job, Started};
use super::stdio::Streams;
use crate::sys;
use crate::wire::{Phase, StartError, State, Whom};

/// A process that runs, or has ended and was not asked how.
pub(super) struct Process {
    pid: Pid,
    handle: OwnedFd,
    paused: bool,
    /// Our ends of its streams.
    pub(super) streams: Streams,
}

impl Process {
    /// Holds one that was started.
    pub(super) fn hold(started: Started) -> Result<Self, StartError> {
        let held = Pid::from_raw(started.pid)
            .ok_or(rustix::io::Errno::SRCH)
            .and_then(|pid| Ok((pid, pidfd_open(pid, PidfdFlags::empty())?)));
        let (pid, handle) = held.map_err(|error| {
            StartError::other(format!("holding process {}: {error}", started.pid))
        })?;
        Ok(Self {
            pid,
            handle,
            paused: false,
            streams: started.streams,
        })
    }

    /// Returns what becomes readable when it has ended.
    pub(super) fn end_fd(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }

    /// Returns how it stands.
    pub(super) fn state(&self) -> State {
        State {
            phase: if self.paused {
                Phase::Paused
            } else {
                Phase::Running
            },
            pid: Some(self.pid.as_raw_nonzero().get()),
        }
    }

    /// Sends a signal.
    pub(super) fn signal(&mut self, number: i32, whom: Whom, job: &Job) -> Result<(), StartError> {
        // The cgroup is the container's; an exec is one process of it.
        let all = whom == Whom::All && job.is_container();
        if !(all && cgroup::signal_all(job.container(), number)) {
            sys::signal_process(self.handle.as_fd(), number)
                .map_err(|error| StartError::other(format!("sending signal {number}: {error}")))?;
        }
        // A frozen process cannot die.
        if self.paused && number == libc::SIGKILL {
            self.freeze(Freezer::Thawed, job)?;
        }
        Ok(())
    }

    /// Freezes its container, or lets it go on.
    pub(super) fn freeze(&mut self, wanted: Freezer, job: &Job) -> Result<(), StartError> {
        if !job.is_container() {
            return Err(StartError::other("only a whole container can be paused"));
        }
        cgroup::freeze(job.container(), wanted)
            .map_err(|error| StartError::other(error.to_string()))?;
        self.paused = wanted == Freezer::Frozen;
        Ok(())
    }

    /// Returns its exit code, 128 and more for a signal, if it has ended.
    pub(super) fn reap(&self) -> io::Result<Option<i32>> {
        let Some((_, status)) = waitpid(Some(self.pid), WaitOptions::NOHANG)? else {
            return Ok(None);
        };
        let by_signal = status
            .terminating_signal()
            .map(|signal| signal.saturating_add(128));
        Ok(status.exit_status().or(by_signal))
    }
}

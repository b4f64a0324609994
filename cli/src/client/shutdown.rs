//! Asking the service to stop, and seeing it end: never starts one for that.

use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use hyper::StatusCode;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::net::UnixStream;

use super::{Call, Client, Route, read_whole};
use crate::api::ShutdownRefusal;
use crate::error::{Error, Result};

/// How long a service that agreed to stop may take: it lets answers that are
/// under way go out, for 5 seconds each of two kinds, and closes its store.
const END_MAX: Duration = Duration::from_secs(30);

impl Client {
    /// Asks the service to stop and waits for its end; returns what is in use
    /// if it refuses. A service that does not run has stopped.
    pub(crate) async fn shutdown(&self) -> Result<Option<ShutdownRefusal>> {
        let Some(stream) = self.connector.connect_if_running().await? else {
            return Ok(None);
        };
        let what = "shutdown".to_owned();
        // Taken while the connection shows that it lives, so that its number is nobody else's.
        let process = process_of(&stream).map_err(|source| Error::io(&what, source))?;
        let call = Call::post(Route::nacre(&["shutdown"]));
        let response = Self::exchange(stream, call).await?;
        let status = response.status();
        let bytes = read_whole(response, &what).await?;
        if status == StatusCode::CONFLICT {
            return serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|source| Error::Answer { what, source });
        }
        if !status.is_success() {
            return Err(super::refused(status, &bytes, &what));
        }
        if let Some(process) = process {
            ended(process)
                .await
                .map_err(|source| Error::io("the service agreed to stop", source))?;
        }
        Ok(None)
    }
}

/// The process that serves a connection; none if it cannot be seen from here,
/// as from within a container, or has ended.
fn process_of(stream: &UnixStream) -> io::Result<Option<OwnedFd>> {
    let pid = stream.peer_cred()?.pid().and_then(Pid::from_raw);
    let Some(pid) = pid else {
        return Ok(None);
    };
    match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(process) => Ok(Some(process)),
        Err(Errno::SRCH | Errno::NOSYS) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Waits for the end of a process.
async fn ended(process: OwnedFd) -> io::Result<()> {
    let wait = move || {
        let deadline = Instant::now() + END_MAX;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
            match poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&timeout)) {
                Ok(0) => {
                    return Err(io::Error::new(
                        ErrorKind::TimedOut,
                        format!("it has not ended after {} seconds", END_MAX.as_secs()),
                    ));
                }
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    };
    tokio::task::spawn_blocking(wait)
        .await
        .map_err(io::Error::other)?
}

//! Reaching the service: connects to its socket, and has it started where
//! that is allowed.

use std::cell::Cell;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::{Duration, Instant};

use tokio::net::UnixStream;

use crate::error::{Error, Result};
use crate::settings::{Hooks, Settings, Starting};

/// How long a service may take to come up: opening a large store after an
/// unclean end is a matter of seconds.
const START_MAX: Duration = Duration::from_secs(60);

/// How often the socket is tried meanwhile; opening an empty store takes 10 ms.
const START_STEP: Duration = Duration::from_millis(5);

/// How long the socket may stay silent after the process that we started
/// ended: another command may have started a service in the same moment.
const RIVAL_MAX: Duration = Duration::from_secs(3);

/// How much of the end of the service's log is shown when it does not start.
const LOG_LINES_SHOWN: usize = 5;

/// Makes connections to one service.
pub(crate) struct Connector {
    settings: Settings,
    hooks: Hooks,
    /// Whether this command has started a service already.
    started: Cell<bool>,
}

impl Connector {
    pub(crate) fn new(settings: Settings, hooks: Hooks) -> Self {
        Self {
            settings,
            hooks,
            started: Cell::new(false),
        }
    }

    /// Connects; starts the service first if nobody answers and it is ours to
    /// start.
    pub(crate) async fn connect(&self) -> Result<UnixStream> {
        let error = match UnixStream::connect(&self.settings.socket).await {
            Ok(stream) => return Ok(stream),
            Err(error) => error,
        };
        if !is_silent(&error) || self.started.get() || !self.settings.may_start() {
            return Err(self.unreachable(error));
        }
        if uid() != 0 {
            return Err(Error::NeedsRoot { uid: uid() });
        }
        self.start().await
    }

    /// Connects only if a service runs.
    pub(crate) async fn connect_if_running(&self) -> Result<Option<UnixStream>> {
        match UnixStream::connect(&self.settings.socket).await {
            Ok(stream) => Ok(Some(stream)),
            Err(error) if is_silent(&error) => Ok(None),
            Err(error) => Err(self.unreachable(error)),
        }
    }

    fn unreachable(&self, source: io::Error) -> Error {
        let socket = self.settings.socket.clone();
        if source.kind() == ErrorKind::PermissionDenied {
            return Error::NoAccess {
                socket,
                uid: uid(),
                source,
            };
        }
        Error::Unreachable { socket, source }
    }

    async fn start(&self) -> Result<UnixStream> {
        self.started.set(true);
        let mut starting =
            (self.hooks.start_service)(&self.settings).map_err(Error::ServiceStart)?;
        let begin = Instant::now();
        let mut deadline = START_MAX;
        let mut outcome = None;
        loop {
            let error = match UnixStream::connect(&self.settings.socket).await {
                Ok(stream) => return Ok(stream),
                Err(error) => error,
            };
            if outcome.is_none()
                && let Ok(Some(status)) = starting.child.try_wait()
            {
                outcome = Some(status);
                // A service that forked has only now begun.
                if !status.success() {
                    deadline = begin.elapsed().saturating_add(RIVAL_MAX);
                }
            }
            if begin.elapsed() >= deadline {
                return Err(match outcome {
                    Some(status) if !status.success() => {
                        Error::ServiceStart(last_words(&starting, &status.to_string()))
                    }
                    _ => Error::ServiceStart(last_words(
                        &starting,
                        &format!("{} is silent: {error}", self.settings.socket.display()),
                    )),
                });
            }
            tokio::time::sleep(START_STEP).await;
        }
    }
}

/// Nobody listens.
fn is_silent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::NotFound | ErrorKind::ConnectionRefused
    )
}

fn uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// The reason and the end of the service's log.
fn last_words(starting: &Starting, reason: &str) -> String {
    let Some(log) = &starting.log else {
        return reason.to_owned();
    };
    match tail(log) {
        Some(lines) => format!("{reason}; {} ends with:\n{lines}", log.display()),
        None => format!("{reason}; its log is {}", log.display()),
    }
}

fn tail(log: &Path) -> Option<String> {
    let text = fs::read(log).ok()?;
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let shown = lines.get(lines.len().saturating_sub(LOG_LINES_SHOWN)..)?;
    (!shown.is_empty()).then(|| shown.join("\n"))
}

//! What the service and a shim say to each other on `shim.sock`: one JSON line as request, one as answer, a connection each.
//! After the answer to an attach the connection carries bytes: raw stdin in; out the terminal's bytes, or docker's
//! frames (stream, three zeros, length big-endian, payload). Never does input or output.

use serde::{Deserialize, Serialize};

/// What a client asks of a shim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub(crate) enum Request {
    /// Creates and starts the process.
    Start,
    /// Turns this connection into the process's streams.
    Attach(AttachRequest),
    /// Keeps this connection open until the process has ended and `exit.json` is written.
    Wait,
    /// Sets the terminal's size.
    Resize {
        /// Lines.
        rows: u16,
        /// Characters a line.
        columns: u16,
    },
    /// Sends a signal.
    Signal {
        /// Its number.
        signal: i32,
        /// Who gets it.
        whom: Whom,
    },
    /// Freezes the container.
    Pause,
    /// Lets it go on.
    Resume,
    /// Asks how it stands.
    State,
}

/// Longest request line: an attach with its detach keys is under 200 bytes.
pub(crate) const REQUEST_BYTES_MAX: usize = 4096;

/// Which streams an attach wants.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachRequest {
    /// Feed standard input from this connection.
    pub stdin: bool,
    /// Send what goes to standard output (or to the terminal).
    pub stdout: bool,
    /// Send what goes to standard error.
    pub stderr: bool,
    /// Bytes that, typed one after the other, end this attach and nothing else; empty for none.
    /// They count only with a terminal and standard input, as in docker.
    pub detach_keys: Vec<u8>,
}

/// Who gets a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Whom {
    /// The process that was started.
    Process,
    /// Every process in the container's cgroup.
    All,
}

/// What a shim answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    /// It is done, and this is how things stand.
    Done(State),
    /// It could not be done.
    Refused(StartError),
}

/// How a process stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// In which part of its life it is.
    pub phase: Phase,
    /// The process's number in our own pid namespace, once started.
    pub pid: Option<i32>,
}

/// The parts of a process's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// The shim is there, the process is not.
    Prepared,
    /// It runs.
    Running,
    /// It is frozen.
    Paused,
    /// It has ended.
    Exited,
}

/// How a process ended; the content of `exit.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Its exit code; 128 + n if signal n ended it.
    pub code: i32,
    /// Whether the kernel killed something in the container for lack of memory.
    pub oom_killed: bool,
    /// When, in nanoseconds since 1970.
    pub finished_at_ns: i64,
    /// What went wrong around it: a log that could not be written, a shim that was killed.
    pub trouble: Option<String>,
}

/// Says why a process could not be started; the message is docker's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct StartError {
    /// Which kind, for the exit code.
    pub kind: StartErrorKind,
    /// The whole text for the user.
    pub message: String,
}

/// The kinds of a failed start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StartErrorKind {
    /// No such program or directory: exit code 127.
    NotFound,
    /// The program may not be run, or is a directory: exit code 126.
    PermissionDenied,
    /// The request itself is wrong, such as an unknown user: 125.
    BadRequest,
    /// All else: 125.
    Other,
}

impl StartError {
    pub(crate) fn other(message: impl Into<String>) -> Self {
        Self {
            kind: StartErrorKind::Other,
            message: message.into(),
        }
    }
}

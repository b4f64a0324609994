//! What a command can fail with, what is printed for it, and the exit code.
//! Never prints.

use std::io;
use std::path::PathBuf;

use crate::api::UnknownKind;
use crate::format::TemplateError;

/// The exit code of a flag that does not exist or has a bad value, and of
/// `run` when the container could not be made.
pub(crate) const EXIT_FLAG: i32 = 125;

/// The exit code of a template that cannot be parsed in `inspect`.
pub(crate) const EXIT_TEMPLATE: i32 = 64;

/// The exit code of a process that died by SIGPIPE: what a shell expects when
/// the reader of our output went away.
const EXIT_BROKEN_PIPE: i32 = 141;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The service refused.
    #[error("Error response from daemon: {message}")]
    Api { status: u16, message: String },

    /// Nobody listens on the socket and nothing may be started.
    #[error("cannot connect to the nacre service at {}: {source}", socket.display())]
    Unreachable { socket: PathBuf, source: io::Error },

    /// The socket is not ours to use.
    #[error(
        "cannot use the nacre service at {} as user {uid}: {source}", socket.display()
    )]
    NoAccess {
        socket: PathBuf,
        uid: u32,
        source: io::Error,
    },

    /// Without root the service cannot be started.
    #[error(
        "nacre's service is not running, and user {uid} cannot start it: mounting, /dev/fuse passthrough and containers need root"
    )]
    NeedsRoot { uid: u32 },

    /// The service was started and did not come up.
    #[error("the nacre service did not start: {0}")]
    ServiceStart(String),

    /// The socket answers, but for another store.
    #[error("the service at {} serves the store {}, not {}", socket.display(), serves.display(), wanted.display())]
    OtherRoot {
        socket: PathBuf,
        serves: PathBuf,
        wanted: PathBuf,
    },

    /// The connection broke.
    #[error("connection to the nacre service failed during {what}: {source}")]
    Connection { what: String, source: hyper::Error },

    /// The service's answer is not what the API promises.
    #[error("cannot read the service's answer to {what}: {source}")]
    Answer {
        what: String,
        source: serde_json::Error,
    },

    /// An answer or a line of one is larger than anything honest.
    #[error("the service's answer to {what} is larger than {limit} bytes")]
    AnswerTooLarge { what: String, limit: usize },

    /// A request could not be put together.
    #[error("cannot make the request {what}: {source}")]
    Request {
        what: String,
        source: hyper::http::Error,
    },

    /// A stream that should be framed and is not.
    #[error("cannot read the output: {0}")]
    Framing(#[from] UnknownKind),

    /// A local file, pipe or terminal.
    #[error("{what}: {source}")]
    Io { what: String, source: io::Error },

    /// A `--format` template.
    #[error("template parsing error: {0}")]
    Template(TemplateError),

    /// Anything the command itself finds wrong: printed as it is.
    #[error("{0}")]
    Said(String),

    /// A message that belongs to an exit code of its own.
    #[error("{message}")]
    Exit { code: i32, message: String },

    /// Only an exit code: everything is said already.
    #[error("exit status {0}")]
    Silent(i32),

    /// Several, one for each argument that failed.
    #[error("{}", join(.0))]
    Several(Vec<Error>),
}

/// The result of a command.
pub(crate) type Result<T> = std::result::Result<T, Error>;

fn join(errors: &[Error]) -> String {
    let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

impl Error {
    /// An error that is printed as it is.
    pub(crate) fn said(message: impl Into<String>) -> Self {
        Self::Said(message.into())
    }

    /// An I/O error on a named thing.
    pub(crate) fn io(what: impl Into<String>, source: io::Error) -> Self {
        Self::Io {
            what: what.into(),
            source,
        }
    }

    /// The exit code of the program.
    pub(crate) fn exit_code(&self) -> i32 {
        match self {
            Self::Exit { code, .. } | Self::Silent(code) => *code,
            Self::Io { source, .. } if source.kind() == io::ErrorKind::BrokenPipe => {
                EXIT_BROKEN_PIPE
            }
            _ => 1,
        }
    }

    /// Says whether nothing is to be printed.
    pub(crate) fn is_silent(&self) -> bool {
        match self {
            Self::Silent(_) => true,
            Self::Io { source, .. } => source.kind() == io::ErrorKind::BrokenPipe,
            _ => false,
        }
    }

    /// Says whether the service knows no such thing.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Api { status: 404, .. })
    }

    /// What the user can do about it, where we know.
    pub(crate) fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoAccess { .. } => Some(
                "run this command as root (sudo nacre …), or let root give your group the socket",
            ),
            Self::NeedsRoot { .. } => Some("run this command as root: sudo nacre …"),
            Self::Unreachable { .. } => Some(
                "start it with \"nacre service\", or leave out -H and NACRE_HOST to have it started",
            ),
            Self::OtherRoot { .. } => Some("leave out -H to reach the service of that root"),
            _ => None,
        }
    }
}

/// Runs `step` for every name, goes on after errors, and returns all of them.
pub(crate) async fn each<F>(names: &[String], mut step: F) -> Result<()>
where
    F: AsyncFnMut(&str) -> Result<()>,
{
    let mut failed = Vec::new();
    for name in names {
        match step(name).await {
            Ok(()) => {}
            Err(error) if error.is_silent() => return Err(error),
            Err(error) => failed.push(error),
        }
    }
    match failed.len() {
        0 => Ok(()),
        1 => Err(failed.remove(0)),
        _ => Err(Error::Several(failed)),
    }
}

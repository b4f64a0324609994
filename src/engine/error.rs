//! What can go wrong in the engine. Says what failed and on which object; never knows HTTP.

use std::path::{Path, PathBuf};

use nacre_fs::layer::LayerError;
use nacre_fs::mount::MountError;

use crate::runtime::{ShimError, StartErrorKind};
use crate::transfer;

/// What sort of failure it is: the service makes a status of it, and a caller may act on it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The request makes no sense, whatever the state.
    Invalid,
    /// An object that the request names is not there.
    NotFound,
    /// The request makes sense, but not in the state that things are in.
    Conflict,
    /// A registry wants to know who asks.
    Unauthorized,
    /// It is already as was asked.
    Unchanged,
    /// nacre does not do this.
    Unsupported,
    /// The host, the store or a registry failed.
    Broken,
}

/// The engine's error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No image goes by this name.
    #[error("No such image: {0}")]
    NoSuchImage(String),
    /// No container goes by this name.
    #[error("No such container: {0}")]
    NoSuchContainer(String),
    /// No process was prepared under this ID.
    #[error("No such exec instance: {0}")]
    NoSuchExec(String),
    /// No mount goes by this name.
    #[error("no such mount: {0}")]
    NoSuchMount(String),
    /// A short name fits more than one object.
    #[error("{name:?} is ambiguous: it could be {}", candidates.join(", "))]
    Ambiguous {
        /// As given.
        name: String,
        /// What it could be.
        candidates: Vec<String>,
    },
    /// The name is taken.
    #[error(
        "Conflict. The container name \"/{name}\" is already in use by {owner}. You have to remove (or rename) that {what} to be able to reuse that name."
    )]
    NameTaken {
        /// The name.
        name: String,
        /// container or mount.
        what: &'static str,
        /// `container "<id>"` or `mount "<name>"`.
        owner: String,
    },
    /// Something that docker has a sentence for, or that one place alone can say.
    #[error("{message}")]
    Refused {
        /// What sort of failure.
        fault: Fault,
        /// The sentence.
        message: String,
    },
    /// The host said no.
    #[error("{what} {}: {source}", path.display())]
    Io {
        /// What was tried, as in `cannot write`.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the host said.
        source: std::io::Error,
    },
    /// A document that was read back does not parse: damage, or another version's.
    #[error("{what} {name} cannot be read: {source}")]
    Document {
        /// container, mount, image configuration.
        what: &'static str,
        /// Its key.
        name: String,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// The store said no.
    #[error(transparent)]
    Store(#[from] nacre_store::Error),
    /// A process could not be started, or its shim not be asked.
    #[error(transparent)]
    Shim(#[from] ShimError),
    /// An image could not be moved.
    #[error(transparent)]
    Transfer(Box<transfer::Error>),
    /// A tree could not be mounted or unmounted.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// A layer could not be made of changes.
    #[error(transparent)]
    Layer(#[from] LayerError),
}

/// Boxed, because it is by far the largest and would make every result as large.
impl From<transfer::Error> for Error {
    fn from(error: transfer::Error) -> Error {
        Error::Transfer(Box::new(error))
    }
}

/// The engine's result.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A request that makes no sense.
    pub fn invalid(message: impl Into<String>) -> Error {
        Error::Refused {
            fault: Fault::Invalid,
            message: message.into(),
        }
    }

    /// A request that the present state forbids.
    pub fn conflict(message: impl Into<String>) -> Error {
        Error::Refused {
            fault: Fault::Conflict,
            message: message.into(),
        }
    }

    /// An object that is not there and has no variant of its own.
    pub fn not_found(message: impl Into<String>) -> Error {
        Error::Refused {
            fault: Fault::NotFound,
            message: message.into(),
        }
    }

    /// Something that nacre does not do.
    pub fn unsupported(message: impl Into<String>) -> Error {
        Error::Refused {
            fault: Fault::Unsupported,
            message: message.into(),
        }
    }

    /// A failure of the host or of another party, told in one sentence.
    pub fn broken(message: impl Into<String>) -> Error {
        Error::Refused {
            fault: Fault::Broken,
            message: message.into(),
        }
    }

    /// It is already so.
    pub fn unchanged() -> Error {
        Error::Refused {
            fault: Fault::Unchanged,
            message: String::new(),
        }
    }

    /// Returns what sort of failure it is.
    pub fn fault(&self) -> Fault {
        match self {
            Error::NoSuchImage(_)
            | Error::NoSuchContainer(_)
            | Error::NoSuchExec(_)
            | Error::NoSuchMount(_) => Fault::NotFound,
            Error::Ambiguous { .. } => Fault::Invalid,
            Error::NameTaken { .. } => Fault::Conflict,
            Error::Refused { fault, .. } => *fault,
            Error::Io { .. } | Error::Document { .. } => Fault::Broken,
            Error::Store(error) => store_fault(error),
            Error::Shim(error) => shim_fault(error),
            Error::Transfer(error) => transfer_fault(error),
            Error::Mount(error) => mount_fault(error),
            Error::Layer(LayerError::ReservedName { .. }) => Fault::Invalid,
            Error::Layer(_) => Fault::Broken,
        }
    }

    /// Makes an error of the host's answer to what was tried on `path`.
    pub(crate) fn io(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
        move |source| Error::Io {
            what,
            path: path.to_owned(),
            source,
        }
    }
}

/// Damage and a full disk are ours; what an archive does wrong is its sender's.
fn store_fault(error: &nacre_store::Error) -> Fault {
    match error {
        nacre_store::Error::NotFound { .. } => Fault::NotFound,
        nacre_store::Error::Archive(_) | nacre_store::Error::DigestMismatch { .. } => {
            Fault::Invalid
        }
        _ => Fault::Broken,
    }
}

/// A program that is not there or may not be run is the request's fault.
fn shim_fault(error: &ShimError) -> Fault {
    match error {
        ShimError::Refused(refused) => match refused.kind {
            StartErrorKind::NotFound
            | StartErrorKind::PermissionDenied
            | StartErrorKind::BadRequest => Fault::Invalid,
            StartErrorKind::Other => Fault::Broken,
        },
        ShimError::Ended(_) | ShimError::Running(_) => Fault::Conflict,
        ShimError::Io { .. } => Fault::Broken,
    }
}

fn transfer_fault(error: &transfer::Error) -> Fault {
    match error.status() {
        400 => Fault::Invalid,
        401 | 403 => Fault::Unauthorized,
        404 => Fault::NotFound,
        409 => Fault::Conflict,
        501 => Fault::Unsupported,
        _ => Fault::Broken,
    }
}

fn mount_fault(error: &MountError) -> Fault {
    match error {
        MountError::Busy { .. } | MountError::InUse { .. } => Fault::Conflict,
        MountError::NotOurs { .. } => Fault::NotFound,
        MountError::Attach { .. } => Fault::Invalid,
        _ => Fault::Broken,
    }
}

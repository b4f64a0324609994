//! What can go wrong between the store and the world. Each names the image or the file.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use nacre_store::Digest;
use nacre_store::archive::ArchiveError;

use crate::registry::{self, InvalidManifest, Platform};

/// A failed transfer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The registry's side.
    #[error(transparent)]
    Registry(#[from] registry::Error),
    /// The store's side.
    #[error(transparent)]
    Store(#[from] nacre_store::Error),
    /// A layer's archive is refused for what is in it.
    #[error("layer {layer}: {source}")]
    Layer {
        /// The digest of its archive.
        layer: Digest,
        /// Why.
        #[source]
        source: ArchiveError,
    },
    /// A manifest of a layout or an archive cannot be used.
    #[error("{name}: {source}")]
    Manifest {
        /// Whose.
        name: String,
        /// Why.
        #[source]
        source: InvalidManifest,
    },
    /// An image's configuration cannot be used.
    #[error("invalid configuration of image {name}: {what}")]
    Config {
        /// Of which image.
        name: String,
        /// What is wrong.
        what: String,
    },
    /// The image is for another machine than the one that was asked for.
    #[error(
        "image with reference {name} was found but its platform ({found}) does not match the specified platform ({wanted})"
    )]
    OtherPlatform {
        /// Which image.
        name: String,
        /// What it is for.
        found: Box<Platform>,
        /// What was asked for.
        wanted: Box<Platform>,
    },
    /// The outer archive does not read.
    #[error("cannot read image archive: {0}")]
    Archive(#[source] ArchiveError),
    /// The outer archive cannot be written.
    #[error("cannot write image archive: {0}")]
    Output(#[source] ArchiveError),
    /// The outer archive's last bytes cannot be written.
    #[error("cannot write image archive: {0}")]
    Write(#[source] io::Error),
    /// The archive or layout holds no image, or not all of it.
    #[error("invalid image archive: {0}")]
    NotAnImage(String),
    /// A file within the archive is damaged, or is not what its name or the image says.
    #[error("invalid image archive: {file}: {source}")]
    Within {
        /// Its path in the archive.
        file: String,
        /// What is wrong with it.
        #[source]
        source: Arc<nacre_store::Error>,
    },
    /// A file of a layout cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is nothing of this name to send.
    #[error("An image does not exist locally with the tag: {0}")]
    NoSuchImage(String),
    /// The service is stopping.
    #[error("interrupted: the service is stopping")]
    Stopping,
}

/// A result of this module.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// The store's error about a layer; one that does not name the layer itself gets its name here.
    pub(super) fn of_layer(layer: &Digest, error: nacre_store::Error) -> Error {
        match error {
            nacre_store::Error::Archive(source) => Error::Layer {
                layer: *layer,
                source,
            },
            error => Error::Store(error),
        }
    }

    /// An error that a file of an image archive is to blame for.
    pub(super) fn within(file: &str, error: impl Into<Arc<nacre_store::Error>>) -> Error {
        Error::Within {
            file: file.to_owned(),
            source: error.into(),
        }
    }

    /// The status with which docker's API reports this.
    pub fn status(&self) -> u16 {
        match self {
            Error::Registry(error) => error.status(),
            Error::Manifest {
                source: InvalidManifest::NoMatch(_),
                ..
            } => 404,
            Error::OtherPlatform { .. } | Error::NoSuchImage(_) => 404,
            Error::File { source, .. } if source.kind() == io::ErrorKind::NotFound => 404,
            Error::Manifest { .. }
            | Error::Config { .. }
            | Error::NotAnImage(_)
            | Error::Within { .. }
            | Error::Layer { .. }
            | Error::Archive(_) => 400,
            Error::Store(nacre_store::Error::NotFound { .. }) => 404,
            Error::Store(nacre_store::Error::Archive(_)) => 400,
            Error::Store(_) | Error::Output(_) | Error::Write(_) | Error::File { .. } => 500,
            Error::Stopping => 503,
        }
    }
}

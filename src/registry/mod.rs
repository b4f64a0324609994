//! The distribution protocol: manifests and blobs to and from a registry. Never touches the store.
//!
//! ```text
//! settings      how patient a client is, and how it reaches registries
//! client        one registry: where it is, and what is kept of it
//! call          one request, in a form that can be sent again
//! send          one exchange: sent, answered or waited for in vain, tried again
//! auth          challenges, tokens, and what credentials there are
//! authorise     requests that say who we are
//! reach         what needs no verified TLS, which proxy, which mirrors
//! certificates  docker's certs.d
//! mirrors       images by another way than their registry
//! login         whether credentials are good
//! documents     manifests and lists of tags in
//! credentials   as docker writes them, and where the user keeps them
//! manifest      manifests and indexes: parsed, bounded, and refused when they can be read in two ways
//! platform      which entry of an index fits this machine
//! blobs         downloads that go on where they broke
//! foreign       layers at the addresses that their descriptors name
//! upload        blobs and manifests out: uploads that go on where they broke, mounts from another repository
//! pieces        the bytes of an upload, in one stream or in chunks
//! error         what can go wrong, in docker's words
//! fuzzing       a door for tests/fuzz
//! ```

mod auth;
mod authorise;
mod blobs;
mod call;
mod certificates;
mod client;
pub mod credentials;
mod documents;
mod error;
mod foreign;
pub(crate) mod fuzzing;
mod login;
mod manifest;
mod mirrors;
mod pieces;
mod platform;
mod reach;
mod send;
mod settings;
#[cfg(test)]
pub(crate) mod tests;
mod upload;

pub use auth::Credentials;
pub use blobs::BlobStream;
pub use certificates::UnusableCertificate;
pub use client::Client;
pub use error::{Direction, Error, Refusal};
pub use manifest::{
    Descriptor, Fetched, ImageManifest, InvalidManifest, LAYERS_MAX, MANIFEST_BYTES_MAX, Manifest,
    media,
};
pub use platform::{InvalidPlatform, Platform};
pub use reach::{Insecure, InvalidSetting, MirrorAt, Proxies};
pub use settings::Settings;
pub use upload::{Mounted, Upload, UploadBody, UploadSource};

/// A result of this module.
pub type Result<T> = std::result::Result<T, Error>;

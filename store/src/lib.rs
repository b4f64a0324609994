//! nacre's layer store: what is on disk, and nothing above it. Never prints, never speaks to a network.
//!
//! A layer archive comes in by [`Store::unpack`], layers become trees and an image by [`Store::publish`], and a [`Tree`]
//! is read by inode number. An [`Upper`] is a writable layer on a tree. The format on disk is in `store/README.md`.

pub mod archive;

mod apply;
mod blobs;
mod boot;
mod cache;
mod catalog;
mod check;
mod codec;
mod db;
mod error;
pub mod failpoint;
mod ids;
mod images;
mod inode;
mod intake;
mod lock;
mod name;
mod numbers;
mod pins;
mod pipe;
mod publish;
mod reclaim;
mod record;
mod remove;
mod room;
mod stage;
mod store;
#[cfg(test)]
mod tests;
mod tree;
mod unclean;
mod unpack;
mod upper;

pub use blobs::{Blob, BlobPin};
pub use check::Report;
pub use error::{Error, Result};
pub use ids::{
    ArchiveId, BlobId, ChainId, DiffId, Digest, ImageId, Ino, InvalidDigest, LayerNo, ManifestId,
    UpperId,
};
pub use images::{Image, LayerInfo, RawManifest, RefUpdate};
pub use inode::{CHUNK_BYTES, Content, Extent, INLINE_BYTES_MAX, Inode, Kind, Link, Time};
pub use name::{FileName, InvalidName};
pub use publish::NewImage;
pub use reclaim::Reclaimed;
pub use remove::Removed;
pub use room::Room;
pub use store::{CACHE_BYTES, Options, Store};
pub use tree::{DirEntry, DirList, Tree};
pub use unpack::{Arrived, Expected, Unpacked};
pub use upper::{Growth, Override, Undo, Upper, UpperOp};

/// Descriptions that the layers above keep here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DocumentKind {
    /// A container's configuration and state.
    Container,
    /// A named writable mount.
    Mount,
}

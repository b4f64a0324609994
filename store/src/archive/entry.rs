//! One member of a layer, as the store sees it. Never knows how a tar spells it.

use std::collections::BTreeMap;

use crate::{Extent, FileName, Time};

/// What an entry asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum EntryKind {
    /// A regular file; its content follows from [`Reader::read_content`](super::Reader::read_content).
    File {
        /// Its length, holes included.
        size: u64,
        /// The stored runs of a sparse file, ordered, not empty, not touching, within the size; `None` when every byte
        /// is stored.
        extents: Option<Vec<Extent>>,
    },
    /// A directory.
    Dir,
    /// A symbolic link and its target, verbatim.
    Symlink(Box<[u8]>),
    /// A hard link to another path of the layer or of the layers below.
    HardLink(Vec<FileName>),
    /// A character device, as `makedev(3)` encodes it.
    Char(u64),
    /// A block device, as `makedev(3)` encodes it.
    Block(u64),
    /// A named pipe.
    Fifo,
    /// `.wh.NAME`: the last component of the path is NAME, and is to be hidden.
    Whiteout,
    /// `.wh..wh..opq`: the path is the directory whose lower content is to be hidden.
    Opaque,
}

impl EntryKind {
    /// Returns how many bytes of content the archive stores for it: a sparse file's holes are not stored.
    pub fn stored_bytes(&self) -> u64 {
        match self {
            Self::File {
                size,
                extents: None,
            } => *size,
            Self::File {
                extents: Some(runs),
                ..
            } => runs.iter().fold(0, |sum, run| sum.saturating_add(run.len)),
            Self::Dir
            | Self::Symlink(_)
            | Self::HardLink(_)
            | Self::Char(_)
            | Self::Block(_)
            | Self::Fifo
            | Self::Whiteout
            | Self::Opaque => 0,
        }
    }
}

/// One entry of a layer, its path cleaned and its headers merged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Components from the root; empty for the root itself.
    pub path: Vec<FileName>,
    /// What it is.
    pub kind: EntryKind,
    /// Permission bits (07777).
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last change.
    pub mtime: Time,
    /// Extended attributes (PAX `SCHILY.xattr.`, `LIBARCHIVE.xattr.`).
    pub xattrs: BTreeMap<Box<[u8]>, Box<[u8]>>,
}

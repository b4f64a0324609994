//! Layer archives: a tar's bytes in, entries out, and back. Never opens a path, never touches the store.
#![expect(clippy::todo, reason = "seam: the archive part fills this in")]

use std::collections::BTreeMap;
use std::io::{Read, Write};

use crate::{Extent, FileName, Time};

/// What an archive may ask for before it is refused; every limit has a default and can be overridden.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Uncompressed bytes of one layer.
    pub layer_bytes_max: u64,
    /// Uncompressed over compressed bytes, looked at after the first 64 MiB.
    pub inflate_ratio_max: u64,
    /// Entries of one layer.
    pub entries_max: u64,
    /// Bytes of one PAX or GNU extension header.
    pub extension_bytes_max: u64,
    /// Components of a path.
    pub depth_max: usize,
    /// Bytes of one extended attribute's value.
    pub xattr_bytes_max: usize,
    /// Bytes of all extended attributes of one entry.
    pub xattrs_bytes_max: usize,
    /// Runs of one sparse file.
    pub extents_max: usize,
}

/// What an entry asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum EntryKind {
    /// A regular file; its content follows from [`Reader::read_content`].
    File {
        /// Its length, holes included.
        size: u64,
        /// The stored runs of a sparse file; `None` when every byte is stored.
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

/// Reads the entries of an uncompressed tar.
///
/// Every byte that is no file's content (headers, extensions, padding, end blocks, what follows them) goes
/// to `headers` as it is, so that the archive can be rebuilt: for each `File` entry the content's place in that
/// stream is where it was when the entry was returned.
pub struct Reader<R, H> {
    _todo: (R, H),
}

impl<R: Read, H: Write> Reader<R, H> {
    /// Starts at the first byte of `archive`.
    pub fn new(archive: R, headers: H, limits: Limits) -> Self {
        let _ = limits;
        Self {
            _todo: (archive, headers),
        }
    }

    /// Returns the next entry, or `None` at the end, when the input has been read to its last byte.
    /// What is left of the previous entry's content is skipped (and is lost: callers read it all).
    pub fn next_entry(&mut self) -> Result<Option<Entry>, ArchiveError> {
        todo!()
    }

    /// Reads stored content of the entry returned last (of a sparse file: the runs' bytes, one after another);
    /// 0 at its end.
    pub fn read_content(&mut self, buf: &mut [u8]) -> Result<usize, ArchiveError> {
        let _ = buf;
        todo!()
    }

    /// Bytes that went to `headers` so far.
    pub fn header_bytes(&self) -> u64 {
        todo!()
    }
}

/// Why an archive is refused.
#[derive(Debug, thiserror::Error)]
#[error("seam")]
pub struct ArchiveError;

/// Inflates gzip (any number of members), zstd (any number of frames, skippable ones too) or nothing, whichever
/// the first bytes say, whatever the media type says; holds to the limits on bytes and ratio.
pub fn inflate<'a>(
    archive: impl Read + 'a,
    limits: &Limits,
) -> Result<Box<dyn Read + 'a>, ArchiveError> {
    let _ = (Box::new(archive), limits);
    todo!()
}

/// Writes a tar: PAX where a field does not fit ustar, deterministic.
pub struct Writer<W> {
    _todo: W,
}

impl<W: Write> Writer<W> {
    /// Starts an archive.
    pub fn new(out: W) -> Self {
        Self { _todo: out }
    }

    /// Writes an entry's headers, and `content` where it is a file (of a sparse file: the runs' bytes,
    /// one after another, stored as PAX sparse 1.0 — the spec's SHOULD NOT against it loses to a file of a terabyte of zeros).
    pub fn append(&mut self, entry: &Entry, content: impl Read) -> Result<(), ArchiveError> {
        let _ = (entry, content);
        todo!()
    }

    /// Writes the end blocks and returns the output.
    pub fn finish(self) -> Result<W, ArchiveError> {
        todo!()
    }
}

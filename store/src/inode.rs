//! The inode: everything that is known of one place in a tree, but for its directory entries.

use std::collections::BTreeMap;

use crate::{BlobId, FileName, Ino, LayerNo};

/// Seconds and nanoseconds since the epoch; negative seconds are before it, nanoseconds always count forward.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct Time {
    /// Whole seconds since 1970-01-01 UTC.
    pub seconds: i64,
    /// 0 to 999,999,999.
    pub nanos: u32,
}

/// What an inode is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[expect(missing_docs, reason = "the kinds of inode(7)")]
pub enum Kind {
    File,
    Dir,
    Symlink,
    Char,
    Block,
    Fifo,
    Socket,
}

/// One name of an inode.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Link {
    /// The directory that holds the name.
    pub parent: Ino,
    /// The name.
    pub name: FileName,
}

/// A run of stored bytes of a sparse file; what lies between runs reads as zeros.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Extent {
    /// Where the run starts in the file.
    pub offset: u64,
    /// Its length in bytes, never 0.
    pub len: u64,
}

/// Where a file's bytes are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Content {
    /// Directories, devices, and files of size 0 or of zeros only.
    None,
    /// A symbolic link's target.
    Symlink(Box<[u8]>),
    /// The whole content under its digest.
    Blob(BlobId),
    /// The runs' bytes, one after another, under their digest; ordered, not touching, within the size.
    Sparse {
        /// The runs' bytes, concatenated.
        blob: BlobId,
        /// Where the runs belong.
        extents: Box<[Extent]>,
    },
    /// A directory's pages.
    Dir {
        /// The layer that wrote the pages (the record may be newer: an attribute changed).
        pages: LayerNo,
        /// How many of the entries are directories, so that nlink is this plus two.
        subdirs: u32,
    },
    /// Upper only: the whole content, of up to [`INLINE_BYTES_MAX`] bytes: a small file that was changed.
    Inline(Box<[u8]>),
    /// Upper only: a data file `uppers/<id>/<ino>` that holds the whole content.
    Data,
    /// Upper only: a data file that holds the chunks marked in `present`; the others come from `base`.
    Chunked {
        /// What the file was before its first write: `Blob`, `Sparse` or `None`.
        base: Box<Content>,
        /// Bytes of the base that still show; beyond, absent chunks read as zeros (a truncation lowers it).
        base_len: u64,
        /// One bit a chunk of [`CHUNK_BYTES`], least significant bit first; absent bits are 0.
        present: Vec<u8>,
    },
}

impl Content {
    /// The blob that it names.
    pub fn blob(&self) -> Option<BlobId> {
        match self {
            Self::Blob(blob) | Self::Sparse { blob, .. } => Some(*blob),
            Self::Chunked { base, .. } => base.blob(),
            Self::None | Self::Symlink(_) | Self::Dir { .. } | Self::Inline(_) | Self::Data => None,
        }
    }

    /// Follows a cut of the data file to `len` bytes: what it cut off of the base must not show again when the file grows.
    pub fn cut_base(&mut self, len: u64) {
        let Self::Chunked {
            base_len, present, ..
        } = self
        else {
            return;
        };
        *base_len = len.min(*base_len);
        let chunks = base_len.div_ceil(CHUNK_BYTES);
        let Ok(byte) = usize::try_from(chunks / 8) else {
            return;
        };
        present.truncate(byte.saturating_add(1));
        if let Some(bits) = present.get_mut(byte) {
            *bits &= (1_u8 << (chunks % 8)).wrapping_sub(1);
        }
    }

    /// Whether bytes, length and times are a data file's own.
    pub fn has_data_file(&self) -> bool {
        matches!(self, Self::Data | Self::Chunked { .. })
    }
}

/// The largest content that a record holds itself. It is written anew with every change of the record, and a data file costs
/// the host ten times as much as writing so many bytes to a log.
pub const INLINE_BYTES_MAX: u64 = 16 << 10;

/// The unit of partial copy-up: one byte written into a large lower file moves this much at most.
pub const CHUNK_BYTES: u64 = 64 << 10;

/// One version of an inode.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Inode {
    /// What it is.
    pub kind: Kind,
    /// Permission bits with setuid, setgid and sticky (07777).
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device number of a device node, as `makedev(3)` encodes it (`st_rdev`); else 0.
    pub rdev: u64,
    /// Length in bytes; of a directory 0.
    pub size: u64,
    /// Last access.
    pub atime: Time,
    /// Last change of content.
    pub mtime: Time,
    /// Last change of the inode.
    pub ctime: Time,
    /// Creation.
    pub btime: Time,
    /// Where the bytes are.
    pub content: Content,
    /// Extended attributes, verbatim, POSIX ACLs among them.
    pub xattrs: BTreeMap<Box<[u8]>, Box<[u8]>>,
    /// Every name; a file's nlink is their count, a directory has one, the root none.
    pub links: Vec<Link>,
    /// Upper only: put there by the runtime (mount points, /etc/hosts …): neither in diff nor in commit.
    pub init: bool,
}

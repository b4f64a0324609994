//! An inode's record and what follows from it.

use std::sync::Arc;

use nacre_store::{Content, Ino, Inode, Kind};

use super::{Errno, Layers};

/// What a file takes is counted in pages, as ext4 does with its blocks.
const PAGE_BYTES: u64 = 4096;
/// The unit of `st_blocks`.
const BLOCK_BYTES: u64 = 512;

/// Returns the newest record of `ino`; `Stale` when there is none.
pub fn inode(layers: &dyn Layers, ino: Ino) -> Result<Arc<Inode>, Errno> {
    if let Some(inode) = layers.upper_inode(ino)? {
        return Ok(inode);
    }
    layers.base_inode(ino)?.ok_or(Errno::Stale)
}

/// Returns `st_nlink`: a file's names, a directory's subdirectories and two, nothing of what is removed.
pub fn nlink(ino: Ino, inode: &Inode) -> u32 {
    match (&inode.content, inode.kind) {
        _ if is_removed(ino, inode) => 0,
        (Content::Dir { subdirs, .. }, _) => subdirs.saturating_add(2),
        (_, Kind::Dir) => 2,
        _ => u32::try_from(inode.links.len()).unwrap_or(u32::MAX),
    }
}

/// Returns whether an inode has lost its last name; the root never had one.
pub fn is_removed(ino: Ino, inode: &Inode) -> bool {
    inode.links.is_empty() && ino != Ino::ROOT
}

/// Returns `st_blocks` (512 bytes each) of what has no data file; with one, it is the data file's own.
pub fn blocks(inode: &Inode) -> u64 {
    let pages = match &inode.content {
        Content::Blob(_) | Content::Inline(_) => inode.size.div_ceil(PAGE_BYTES),
        Content::Sparse { extents, .. } => extents.iter().fold(0_u64, |sum, run| {
            sum.saturating_add(run.len.div_ceil(PAGE_BYTES))
        }),
        Content::None
        | Content::Symlink(_)
        | Content::Dir { .. }
        | Content::Data
        | Content::Chunked { .. } => 0,
    };
    pages.saturating_mul(PAGE_BYTES / BLOCK_BYTES)
}

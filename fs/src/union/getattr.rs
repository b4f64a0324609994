//! An inode's record and what follows from it.

use std::sync::Arc;

use nacre_store::{Ino, Inode};

use super::{Errno, Layers};

/// Returns the newest record of `ino`; `Stale` when there is none.
pub fn inode(layers: &dyn Layers, ino: Ino) -> Result<Arc<Inode>, Errno> {
    let _ = (layers, ino);
    todo!()
}

/// Returns `st_nlink`: a file's names, a directory's subdirectories and two, nothing of what is removed.
pub fn nlink(ino: Ino, inode: &Inode) -> u32 {
    let _ = (ino, inode);
    todo!()
}

/// Returns `st_blocks` (512 bytes each) of what has no data file; with one, it is the data file's own.
pub fn blocks(inode: &Inode) -> u64 {
    let _ = inode;
    todo!()
}

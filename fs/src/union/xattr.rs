//! Extended attributes, as ext4 keeps them; POSIX ACLs travel as two of them.

use nacre_store::Ino;

use super::{Context, Errno, Layers, Plan};

/// The flags of `setxattr(2)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// Whether it is there or not.
    Either,
    /// `XATTR_CREATE`.
    Create,
    /// `XATTR_REPLACE`.
    Replace,
}

/// Returns a value; `NoData` where there is none.
pub fn get(layers: &dyn Layers, ino: Ino, name: &[u8]) -> Result<Box<[u8]>, Errno> {
    let _ = (layers, ino, name);
    todo!()
}

/// Returns the names as `listxattr(2)` does, each with a NUL; `trusted.` only for root.
pub fn list(layers: &dyn Layers, ctx: &Context, ino: Ino) -> Result<Vec<u8>, Errno> {
    let _ = (layers, ctx, ino);
    todo!()
}

/// Plans `setxattr`. An access ACL changes the mode too (and is not kept if the mode says it all).
pub fn set(
    layers: &dyn Layers,
    ctx: &Context,
    ino: Ino,
    name: &[u8],
    value: &[u8],
    how: How,
) -> Result<Plan<()>, Errno> {
    let _ = (layers, ctx, ino, name, value, how);
    todo!()
}

/// Plans `removexattr`.
pub fn remove(
    layers: &dyn Layers,
    ctx: &Context,
    ino: Ino,
    name: &[u8],
) -> Result<Plan<()>, Errno> {
    let _ = (layers, ctx, ino, name);
    todo!()
}

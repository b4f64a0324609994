//! Rename, in all its kinds. A directory of the image moves like any other: one entry, one record.

use nacre_store::Ino;

use super::unlink::Gone;
use super::{At, Context, Errno, Layers, Plan};

/// The flags of `renameat2(2)` that Linux allows together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// No flag: what has the new name is replaced.
    Replace,
    /// `RENAME_NOREPLACE`.
    NoReplace,
    /// `RENAME_EXCHANGE`.
    Exchange,
    /// `RENAME_WHITEOUT`: the old name gets a character device 0:0 of this fresh number.
    Whiteout(Ino),
    /// `RENAME_NOREPLACE | RENAME_WHITEOUT`.
    NoReplaceWhiteout(Ino),
}

/// What a rename did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Renamed {
    /// What lost the new name.
    pub replaced: Option<Gone>,
}

/// Plans a rename.
pub fn plan(
    layers: &dyn Layers,
    ctx: &Context,
    from: At<'_>,
    to: At<'_>,
    how: How,
) -> Result<Plan<Renamed>, Errno> {
    let _ = (layers, ctx, from, to, how);
    todo!()
}

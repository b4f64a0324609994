//! Hard links.

use nacre_store::{Ino, Inode};

use super::{At, Context, Errno, Layers, Plan};

/// Names of one file, ext4's bound: programs rely on `EMLINK` rather than on a number.
pub const LINK_MAX: usize = 65_000;

/// Plans `link` of `ino` to the name `to`; answers with its new record.
pub fn plan(
    layers: &dyn Layers,
    ctx: &Context,
    ino: Ino,
    to: At<'_>,
) -> Result<Plan<Inode>, Errno> {
    let _ = (layers, ctx, ino, to);
    todo!()
}

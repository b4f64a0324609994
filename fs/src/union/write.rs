//! What a write does to the record. The bytes themselves are the caller's.

use std::ops::Range;

use nacre_store::Ino;

use super::content::DataStep;
use super::setattr::Kill;
use super::{Context, Errno, Layers, Plan};

/// Plans a write of the bytes `range`. An empty plan (no step, no operation) is the rule once a file has a data file:
/// size and times are the data file's own.
pub fn plan(
    layers: &dyn Layers,
    ctx: &Context,
    ino: Ino,
    range: Range<u64>,
    kill: Kill,
) -> Result<Plan<Vec<DataStep>>, Errno> {
    let _ = (layers, ctx, ino, range, kill);
    todo!()
}

/// Plans the data file of a file that is opened for writing by passthrough: afterwards it holds the whole content.
pub fn whole(layers: &dyn Layers, ctx: &Context, ino: Ino) -> Result<Plan<Vec<DataStep>>, Errno> {
    let _ = (layers, ctx, ino);
    todo!()
}

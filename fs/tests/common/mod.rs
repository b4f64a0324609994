//! One list of operations, several judges: the model, the rules over layers in memory, a real directory, a mount.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "shared by test binaries, each of which uses its part"
)]
#![expect(clippy::unwrap_used, reason = "tests")]

pub mod directory;
pub mod generate;
pub mod memory;
pub mod model;
pub mod ops;

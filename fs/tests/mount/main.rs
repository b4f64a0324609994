//! Trees on real mounts: as root, with /dev/fuse. Says so on stderr where that cannot be had.
#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "../common/mod.rs"]
mod common;
#[path = "../../../tests/common/patience.rs"]
mod patience;

mod ahead;
mod engine;
mod given;
mod killed;
mod lists;
mod lower;
mod mapped;
mod read_only;
mod rows;
mod support;
mod transport;
mod unnamed;
mod unsynced;
mod writable;

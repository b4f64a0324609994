//! nacre's union filesystem: its rules (pure), its upper layer at work, and its FUSE shell.
//!
//! ```text
//! fuse/    the only code that knows the FUSE protocol: a request in, one call of Vfs, a reply out
//! flags    what holds for one mount of a tree: nosuid, nodev, ro
//! mount    detached FUSE mounts by the kernel's mount API, attached where the user stands
//! ahead    listings that programs will ask for
//! vfs      one tree at work: caches over the store, locks, open files, data
//! sys      the system calls that need `unsafe`
//! errno    the one table from failures to error numbers
//! data/    bytes of files: lower blobs, data files, chunked copy-up
//! union/   the rules: pure functions from two layers to a plan
//! diff     what an upper changed, by path
//! layer    the same as a layer archive
//! ```

mod ahead;
mod data;
pub mod diff;
pub mod errno;
pub mod flags;
mod fuse;
pub mod layer;
pub mod mount;
mod sys;
pub mod union;
pub mod vfs;

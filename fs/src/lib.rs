//! nacre's union filesystem: its rules (pure), its upper layer at work, and its FUSE shell.
//!
//! ```text
//! fuse/    the only code that knows the FUSE protocol: a request in, one call of Vfs, a reply out
//! mount    detached FUSE mounts by the kernel's mount API, attached where the user stands
//! vfs      one tree at work: caches over the store, locks, open files, data
//! errno    the one table from failures to error numbers
//! data/    bytes of files: lower blobs, data files, chunked copy-up
//! union/   the rules: pure functions from two layers to a plan
//! diff     what an upper changed, by path
//! layer    the same as a layer archive
//! sys      the ioctls of /dev/fuse
//! ```

mod data;
pub mod diff;
pub mod errno;
mod fuse;
pub mod layer;
pub mod mount;
mod sys;
pub mod union;
pub mod vfs;

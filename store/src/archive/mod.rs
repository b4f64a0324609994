//! Layer archives: a tar's bytes in, entries out, and back. Never opens a path, never touches the store.
//!
//! [`inflate`] takes the compression off (`zstd_frames` knows zstd's), [`Reader`] parses (v7, ustar, star, GNU and PAX tars,
//! sparse files of every version), [`Writer`] writes. All hold to [`Limits`]; what they refuse is an [`ArchiveError`] that
//! names its object.

mod context;
mod encoding;
mod entry;
mod error;
mod header;
mod inflate;
mod input;
mod limits;
mod number;
mod path;
mod pax;
mod reader;
mod sparse;
mod writer;
mod zstd_frames;

#[cfg(test)]
pub(crate) mod tests;

pub use entry::{Entry, EntryKind};
pub use error::{ArchiveError, Place};
pub use inflate::{Inflated, inflate};
pub use limits::Limits;
pub use reader::Reader;
pub use writer::Writer;

//! Where a file's bytes come from, and how that changes when they are written. Moves no byte itself.
//!
//! A file with [`Content::Data`] or [`Content::Chunked`] has a data file, and its size, blocks and times are the
//! data file's own (its length is always the file's size); the record's are those of the last planned change.
//! Of a chunked file, a chunk comes from the data file if its bit is set **or it starts at or beyond `base_len`**;
//! else its bytes below `base_len` come from the base and the rest are zeros. [`pieces`] says it in code.

use std::ops::Range;

use nacre_store::Content;

/// What the caller does with an inode's data file, in order, before the bytes and the plan's batch are written.
///
/// Steps, bytes, batch: a crash or a failure on the way leaves the record as it was, and what it names untouched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DataStep {
    /// Makes the data file, empty (whatever a crash left under its name is cut off).
    Create,
    /// Sets the data file's length.
    SetLen(u64),
    /// Copies these bytes from what the file was, to the same offset.
    Copy {
        /// What it was: `Blob` or `Sparse`.
        from: Content,
        /// Which bytes; within what `from` holds.
        range: Range<u64>,
    },
    /// Makes a hole: the range reads as zeros, the length stays.
    Punch(Range<u64>),
    /// Reserves room, as `fallocate(2)` with `FALLOC_FL_KEEP_SIZE`.
    Reserve(Range<u64>),
}

/// Where a piece of a file is read from, at the same offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The blob that the content names (of a chunked file: that its base names).
    Base,
    /// The data file.
    Data,
    /// Nowhere: zeros.
    Zeros,
}

/// Returns the pieces that make up `range`, in order and without gaps; `range` must lie within the file's size.
pub fn pieces(content: &Content, range: Range<u64>) -> Vec<(Range<u64>, Source)> {
    let _ = (content, range);
    todo!()
}

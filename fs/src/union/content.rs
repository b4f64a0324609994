//! Where a file's bytes come from, and how that changes when they are written. Moves no byte itself.
//!
//! A file with [`Content::Data`] or [`Content::Chunked`] has a data file, and its size, blocks and times are the
//! data file's own (its length is always the file's size); the record's are those of the last planned change.
//! Of a chunked file, a chunk comes from the data file if its bit is set **or it starts at or beyond `base_len`**;
//! else its bytes below `base_len` come from the base and the rest are zeros. [`pieces`] says it in code.

use std::ops::Range;

use nacre_store::{CHUNK_BYTES, Content, Extent, INLINE_BYTES_MAX, Inode};

/// The largest file size that Linux can name.
pub const FILE_BYTES_MAX: u64 = u64::MAX >> 1;

/// A file of up to this many stored bytes is copied whole when it is first written: one copy costs less than the bookkeeping.
const WHOLE_COPY_BYTES_MAX: u64 = 1 << 20;

/// Beyond this a bitmap of chunks would be larger than 2 MiB, and every new chunk writes it: such a file is copied whole.
const CHUNKED_BYTES_MAX: u64 = 1 << 40;

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
        /// What it was: `Blob`, `Inline` or `Sparse`.
        from: Content,
        /// Which bytes: of a `Blob` or `Inline` within its length, of a `Sparse` within one of its runs.
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
    /// The bytes or the blob that the content names (of a chunked file: that its base names). Of a sparse one only the runs.
    Base,
    /// The data file.
    Data,
    /// Nowhere: zeros.
    Zeros,
}

/// Returns the pieces that make up `range`, in order and without gaps; `range` must lie within the file's size.
pub fn pieces(content: &Content, range: Range<u64>) -> Vec<(Range<u64>, Source)> {
    let mut pieces = Pieces(Vec::new());
    match content {
        Content::Blob(_) | Content::Inline(_) => pieces.push(range, Source::Base),
        Content::Sparse { extents, .. } => pieces.push_runs(extents, range),
        Content::Data => pieces.push(range, Source::Data),
        Content::Chunked {
            base,
            base_len,
            present,
        } => pieces.push_chunks(base, *base_len, present, range),
        Content::None | Content::Symlink(_) | Content::Dir { .. } => {
            pieces.push(range, Source::Zeros)
        }
    }
    pieces.0
}

/// Pieces in order; neighbours from one source are one piece.
struct Pieces(Vec<(Range<u64>, Source)>);

impl Pieces {
    fn push(&mut self, range: Range<u64>, source: Source) {
        match self.0.last_mut() {
            _ if range.is_empty() => {}
            Some((last, from)) if *from == source && last.end == range.start => {
                last.end = range.end
            }
            _ => self.0.push((range, source)),
        }
    }

    fn push_runs(&mut self, extents: &[Extent], range: Range<u64>) {
        let mut at = range.start;
        let first = extents.partition_point(|run| run.offset.saturating_add(run.len) <= at);
        for run in extents.iter().skip(first) {
            if run.offset >= range.end {
                break;
            }
            let start = run.offset.max(at);
            let end = run.offset.saturating_add(run.len).min(range.end);
            self.push(at..start, Source::Zeros);
            self.push(start..end, Source::Base);
            at = end.max(at);
        }
        self.push(at..range.end, Source::Zeros);
    }

    fn push_chunks(&mut self, base: &Content, base_len: u64, present: &[u8], range: Range<u64>) {
        let mut at = range.start;
        while at < range.end {
            let chunk = at / CHUNK_BYTES;
            let end = range
                .end
                .min(chunk.saturating_add(1).saturating_mul(CHUNK_BYTES));
            if chunk.saturating_mul(CHUNK_BYTES) >= base_len {
                self.push(at..range.end, Source::Data);
                return;
            }
            if is_present(present, chunk) {
                self.push(at..end, Source::Data);
            } else {
                let below = end.min(base_len).max(at);
                for (piece, source) in pieces(base, at..below) {
                    self.push(piece, source);
                }
                self.push(below..end, Source::Zeros);
            }
            at = end;
        }
    }
}

/// Gets the bytes of `range` ready to be overwritten: afterwards they belong to the data file. A chunk that is
/// overwritten whole is not copied before.
pub(super) fn prepare(content: &mut Content, size: u64, range: &Range<u64>) -> Vec<DataStep> {
    let mut steps = Vec::new();
    if !matches!(content, Content::Data | Content::Chunked { .. }) {
        steps = begin(content, size, size);
    }
    if let Content::Chunked {
        base,
        base_len,
        present,
    } = content
    {
        steps.extend(mark(base, *base_len, present, range));
    }
    settle(content);
    steps
}

/// Gives a file of `size` bytes the length `new`.
pub(super) fn resize(content: &mut Content, size: u64, new: u64) -> Vec<DataStep> {
    let steps = match content {
        Content::Data => vec![DataStep::SetLen(new)],
        Content::Chunked { .. } => {
            content.cut_base(new);
            vec![DataStep::SetLen(new)]
        }
        Content::Blob(_) | Content::Inline(_) | Content::Sparse { .. } if new == 0 => {
            *content = Content::None;
            Vec::new()
        }
        Content::Inline(bytes) if new <= INLINE_BYTES_MAX => {
            *bytes = resized(bytes, new);
            Vec::new()
        }
        Content::Blob(_) | Content::Inline(_) | Content::Sparse { .. } if new != size => {
            begin(content, size, new)
        }
        _ => Vec::new(),
    };
    settle(content);
    steps
}

/// Returns what a file is after a loss of power, if its data file can be trusted no further than `before` says, and has `len`
/// bytes; `None` if that is what it is `now`. Owner, mode, names are those of now: they are in records alone.
pub fn taken_back(now: &Inode, before: &Inode, len: u64) -> Option<Inode> {
    if !now.content.has_data_file() {
        return None;
    }
    let mut inode = now.clone();
    inode.content = before.content.clone();
    if before.content.has_data_file() {
        inode.size = len;
        // Shorter than it was: it was truncated since.
        resize(&mut inode.content, before.size, len);
    } else {
        inode.size = before.size;
        (inode.atime, inode.mtime) = (before.atime, before.mtime);
    }
    Some(inode)
}

/// Copies all that the data file still lacks: afterwards it is the whole content.
pub(super) fn complete(content: &mut Content, size: u64) -> Vec<DataStep> {
    let mut steps = prepare(content, size, &(0..0));
    if let Content::Chunked { base, base_len, .. } = &*content {
        let missing = runs(content, *base_len).into_iter();
        steps.extend(missing.map(|range| copy(base, range)));
        *content = Content::Data;
    }
    steps
}

/// Gives a file of `size` bytes a data file of `new` bytes, with the bytes that a small one had; of a large one the
/// bytes stay where they are.
fn begin(content: &mut Content, size: u64, new: u64) -> Vec<DataStep> {
    let kept = size.min(new);
    let runs = runs(content, kept);
    let stored = runs
        .iter()
        .fold(0_u64, |sum, run| sum.saturating_add(run.end - run.start));
    let base_len = runs.last().map_or(0, |run| run.end);
    let base = std::mem::replace(content, Content::Data);
    let mut steps = vec![DataStep::Create, DataStep::SetLen(new)];
    if stored <= WHOLE_COPY_BYTES_MAX || base_len > CHUNKED_BYTES_MAX {
        steps.extend(runs.into_iter().map(|range| copy(&base, range)));
    } else {
        *content = Content::Chunked {
            base: Box::new(base),
            base_len,
            present: Vec::new(),
        };
    }
    steps
}

/// Returns the runs of stored bytes below `kept`.
fn runs(content: &Content, kept: u64) -> Vec<Range<u64>> {
    stored(content, 0..kept)
}

/// Returns the runs of `range` that come from the base.
fn stored(content: &Content, range: Range<u64>) -> Vec<Range<u64>> {
    let all = pieces(content, range).into_iter();
    all.filter(|(_, source)| *source == Source::Base)
        .map(|(run, _)| run)
        .collect()
}

/// Whether a change of content takes away what the base still shows: from then on the data file's length counts for what the
/// record says, so that both must be on disk together.
pub(crate) fn cuts_base(before: &Content, size: u64) -> bool {
    matches!(before, Content::Chunked { base_len, .. } if size < *base_len)
}

/// Whether a change of content makes the data file stand for bytes that a blob or a record stood for.
pub(crate) fn leaves_store(before: &Content, after: &Content) -> bool {
    let is_stored = before.blob().is_some() || matches!(before, Content::Inline(_));
    is_stored && after.has_data_file() && before != after
}

/// Whether a file of `size` bytes can have `range` written in its record.
pub(crate) fn fits_record(content: &Content, size: u64, range: &Range<u64>) -> bool {
    let is_small = matches!(content, Content::Blob(_) | Content::Inline(_));
    is_small && size.max(range.end) <= INLINE_BYTES_MAX
}

/// The same bytes, cut or with zeros behind them; of no more than [`INLINE_BYTES_MAX`].
fn resized(bytes: &[u8], len: u64) -> Box<[u8]> {
    let mut bytes = bytes.to_vec();
    bytes.resize(usize::try_from(len).unwrap_or(bytes.len()), 0);
    bytes.into()
}

/// Marks the chunks that `range` touches; returns the copying that the partly touched ones need before. What is not copied
/// and not about to be overwritten is made a hole: a write that broke off may have left bytes there that no record named.
fn mark(base: &Content, base_len: u64, present: &mut Vec<u8>, range: &Range<u64>) -> Vec<DataStep> {
    let mut steps = Vec::new();
    let end = range
        .end
        .div_ceil(CHUNK_BYTES)
        .min(base_len.div_ceil(CHUNK_BYTES));
    for chunk in range.start / CHUNK_BYTES..end {
        if range.is_empty() || is_present(present, chunk) {
            continue;
        }
        let start = chunk * CHUNK_BYTES;
        let whole = start..base_len.min(start.saturating_add(CHUNK_BYTES));
        let chunk_end = start.saturating_add(CHUNK_BYTES);
        let is_overwritten = range.start <= whole.start && range.end >= whole.end;
        let runs = stored(base, whole.clone());
        let is_all_stored = runs.first() == Some(&(start..chunk_end));
        if !(is_all_stored || is_overwritten && range.end >= chunk_end) {
            steps.push(DataStep::Punch(start..chunk_end));
        }
        if !is_overwritten {
            steps.extend(runs.into_iter().map(|run| copy(base, run)));
        }
        set_present(present, chunk);
    }
    steps
}

fn copy(base: &Content, range: Range<u64>) -> DataStep {
    DataStep::Copy {
        from: base.clone(),
        range,
    }
}

/// A chunked file to which nothing of its base shows any more is an ordinary one.
fn settle(content: &mut Content) {
    if let Content::Chunked {
        base_len, present, ..
    } = content
    {
        let needed = base_len.div_ceil(CHUNK_BYTES);
        let there = present
            .iter()
            .fold(0_u64, |sum, byte| sum + u64::from(byte.count_ones()));
        if there >= needed {
            *content = Content::Data;
        }
    }
}

/// Returns the byte and the bit of a chunk; `None` where no bitmap reaches.
fn bit(chunk: u64) -> Option<(usize, u8)> {
    Some((usize::try_from(chunk / 8).ok()?, 1 << (chunk % 8)))
}

fn is_present(present: &[u8], chunk: u64) -> bool {
    bit(chunk).is_some_and(|(byte, mask)| present.get(byte).is_some_and(|bits| bits & mask != 0))
}

fn set_present(present: &mut Vec<u8>, chunk: u64) {
    let Some((byte, mask)) = bit(chunk) else {
        return;
    };
    if present.len() <= byte {
        present.resize(byte + 1, 0);
    }
    if let Some(bits) = present.get_mut(byte) {
        *bits |= mask;
    }
}

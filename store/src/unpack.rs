//! Unpacking: one layer archive in, its contents to blobs, all else to the record under its DiffID. Knows no tree.
//!
//! Four threads a layer, so that reading, inflating and hashing overlap: the caller's reads, hashes and keeps the bytes
//! as received; the second inflates; the third hashes the tar; the fourth parses it and hashes the contents.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;

use crate::archive::{self, EntryKind};
use crate::catalog::{Doomed, ReceivedArchive, RecordHead};
use crate::db::Family;
use crate::failpoint::{self, Point};
use crate::intake::Intake;
use crate::numbers::RecordNo;
use crate::pins::Pin;
use crate::pipe::{BLOCK_BYTES, PipeReader, PipeWriter, pipe, read_some};
use crate::record::{ChunkWriter, EntryWriter, Part, RecordEntry};
use crate::store::Inner;
use crate::{ArchiveId, DiffId, Digest, Error, Result, Store, blobs};

/// What the caller knows of an archive beforehand; all that is given is verified.
#[derive(Clone, Debug, Default)]
pub struct Expected {
    /// The descriptor's digest, of the bytes as received.
    pub archive: Option<ArchiveId>,
    /// The descriptor's size, of the bytes as received.
    pub size: Option<u64>,
    /// The configuration's DiffID, of the uncompressed tar.
    pub diff: Option<DiffId>,
}

/// A layer whose content is in the store, not yet part of any tree. Holding it pins its content.
pub struct Unpacked {
    /// Digest of the uncompressed tar.
    pub diff: DiffId,
    /// Digest of the bytes as received.
    pub archive: ArchiveId,
    /// Length as received.
    pub archive_bytes: u64,
    /// Sum of the regular files' sizes, docker's layer size.
    pub content_bytes: u64,
    pub(crate) _pin: Pin<DiffId>,
}

/// A layer whose archive was read and verified, not durable yet and known to nobody. Dropped, it leaves no trace.
pub struct Arrived {
    // Dropped in this order: blobs go with their pins, and traces after them.
    verified: Verified,
    traces: Traces,
}

/// What a layer on its way in leaves in the store; taken away when dropped, unless the layer stays.
struct Traces {
    store: Store,
    no: RecordNo,
    stay: bool,
}

/// What the four threads found, and what it is.
struct Verified {
    diff: DiffId,
    received: Received,
    parsed: Parsed,
    tar_bytes: u64,
}

/// What the first thread found: the archive as received.
struct Received {
    id: ArchiveId,
    bytes: u64,
    file: Option<NamedTempFile>,
    /// Whether it was read to its end.
    whole: bool,
}

/// What the third thread found: the tar.
struct Hashed {
    /// None if nothing compressed it: it is the archive as received, whose digest the first thread finds.
    diff: Option<DiffId>,
    bytes: u64,
}

/// What the fourth thread found: the entries, and contents that are not synced yet.
struct Parsed {
    intake: Intake,
    content_bytes: u64,
    entries: u64,
    marks: u64,
    entry_chunks: u32,
    header_chunks: u32,
}

impl Store {
    /// Unpacks one layer archive: content to blobs, the rest to the record under its DiffID. Parent-independent; any
    /// number may run at once. Verified before it is durable, durable before it returns; on error no trace stays.
    /// `progress` is told how many bytes each read brought.
    pub fn unpack(
        &self,
        archive: impl Read,
        expected: &Expected,
        progress: &dyn Fn(u64),
    ) -> Result<Unpacked> {
        self.arrive(archive, expected, progress)?.settle()
    }

    /// The same up to the sync, which then need not keep who reads the next layer from the same stream.
    pub fn arrive(
        &self,
        archive: impl Read,
        expected: &Expected,
        progress: &dyn Fn(u64),
    ) -> Result<Arrived> {
        let inner = &self.inner;
        inner.room.to_grow()?;
        let no = inner.numbers.record(&inner.db)?;
        inner.db.doom(Doomed::Record(no))?;
        failpoint::pass(Point::UnpackMarked)?;
        let traces = Traces {
            store: self.clone(),
            no,
            stay: false,
        };
        match inner.verified(no, archive, expected, progress) {
            Ok(verified) => Ok(Arrived { verified, traces }),
            Err(error) => Err(traces.taken_away(error)),
        }
    }

    /// Returns the layer if its content is here already (by descriptor digest), so that nothing needs to be fetched.
    pub fn unpacked_by_archive(&self, archive: &ArchiveId) -> Result<Option<Unpacked>> {
        let mut pins = self.inner.records.lock();
        let Some(diff) = self.inner.db.diff_of_archive(archive)? else {
            return Ok(None);
        };
        let Some(record) = self.inner.db.record(&diff)? else {
            return Ok(None);
        };
        let found = record.archives.iter().find(|a| a.id == *archive);
        let received = *found.ok_or_else(|| Error::corrupt("archive index", archive))?;
        Ok(Some(unpacked(diff, &record, received, pins.pin(diff))))
    }

    /// The same by DiffID.
    pub fn unpacked_by_diff(&self, diff: &DiffId) -> Result<Option<Unpacked>> {
        let mut pins = self.inner.records.lock();
        let Some(record) = self.inner.db.record(diff)? else {
            return Ok(None);
        };
        // A kept archive can be pushed as it is.
        let best = record
            .archives
            .iter()
            .find(|a| a.kept)
            .or(record.archives.first());
        let received = *best.ok_or_else(|| Error::corrupt("layer record", diff))?;
        Ok(Some(unpacked(*diff, &record, received, pins.pin(*diff))))
    }
}

impl Arrived {
    /// Makes it durable, then known.
    pub fn settle(self) -> Result<Unpacked> {
        let Arrived {
            verified,
            mut traces,
        } = self;
        match traces.store.inner.record(traces.no, verified) {
            Ok(unpacked) => {
                traces.stay = true;
                Ok(unpacked)
            }
            Err(error) => Err(traces.taken_away(error)),
        }
    }
}

impl Traces {
    /// They go before the error is told: the room that they took counts for its words.
    fn taken_away(self, error: Error) -> Error {
        let store = self.store.clone();
        drop(self);
        store.inner.room.explained(error)
    }
}

impl Drop for Traces {
    fn drop(&mut self) {
        if self.stay {
            return;
        }
        let inner = &self.store.inner;
        inner.room.to_shrink();
        // Should this fail too, the mark makes the next open do it.
        if let Err(error) = inner.drop_record_parts(self.no) {
            tracing::warn!(%error, record = self.no.0, "cannot delete what a failed unpack left");
        }
        // All of the pack is deleted by now, so this moves nothing; without it a gigabyte stayed until some compaction.
        if let Err(error) = inner.give_back(&BTreeSet::from([self.no])) {
            tracing::warn!(%error, record = self.no.0, "cannot give back the room that a failed unpack took");
        }
    }
}

fn unpacked(
    diff: DiffId,
    record: &RecordHead,
    received: ReceivedArchive,
    pin: Pin<DiffId>,
) -> Unpacked {
    Unpacked {
        diff,
        archive: received.id,
        archive_bytes: received.bytes,
        content_bytes: record.content_bytes,
        _pin: pin,
    }
}

impl Inner {
    /// Reads an archive with its threads, and holds what it is against what was expected.
    fn verified(
        &self,
        no: RecordNo,
        archive: impl Read,
        expected: &Expected,
        progress: &dyn Fn(u64),
    ) -> Result<Verified> {
        let failed = AtomicBool::new(false);
        let plain = AtomicBool::new(false);
        let (received, inflated, hashed, parsed) = std::thread::scope(|scope| {
            let (packed_in, packed_out) = pipe();
            let (tar_in, tar_out) = pipe();
            let (hashed_in, hashed_out) = pipe();
            let (failed, plain) = (&failed, &plain);
            let inflating =
                scope.spawn(move || note(failed, self.inflate(packed_out, tar_in, plain)));
            let hashing = scope.spawn(move || hash(tar_out, &hashed_in, plain));
            let parsing = scope.spawn(move || note(failed, self.parse(no, hashed_out)));
            let received = self.receive(archive, expected, progress, packed_in, failed);
            let (inflated, hashed) = (joined(inflating.join()), joined(hashing.join()));
            (received, inflated, hashed, joined(parsing.join()))
        });
        let received = received?;
        if let Some(expected) = expected
            .archive
            .filter(|e| received.whole && *e != received.id)
        {
            let actual = received.id.0;
            return Err(Error::DigestMismatch {
                what: "layer archive",
                expected: expected.0,
                actual,
            });
        }
        if let Some(expected) = expected
            .size
            .filter(|e| received.whole && *e != received.bytes)
        {
            return Err(Error::SizeMismatch {
                what: "layer archive",
                expected,
                actual: received.bytes,
            });
        }
        // A tar that ends early is the consequence of an archive that does not inflate: that one is the cause.
        inflated?;
        let parsed = parsed?;
        let diff = hashed.diff.unwrap_or(DiffId(received.id.0));
        if let Some(expected) = expected.diff.filter(|e| *e != diff) {
            let actual = diff.0;
            return Err(Error::DigestMismatch {
                what: "uncompressed layer (DiffID)",
                expected: expected.0,
                actual,
            });
        }
        Ok(Verified {
            diff,
            received,
            parsed,
            tar_bytes: hashed.bytes,
        })
    }

    /// First thread: reads the archive.
    fn receive(
        &self,
        mut archive: impl Read,
        expected: &Expected,
        progress: &dyn Fn(u64),
        out: PipeWriter,
        failed: &AtomicBool,
    ) -> Result<Received> {
        let mut out = Some(out);
        let mut hash = Sha256::new();
        let mut bytes = 0u64;
        let mut file = None;
        // What does not inflate or parse is often a damaged download: its digest is the better answer.
        let read_on = expected.archive.is_some() && expected.size.is_some();
        let mut spare = Vec::new();
        let mut whole = true;
        loop {
            let mut block = out
                .as_ref()
                .map_or_else(|| std::mem::take(&mut spare), PipeWriter::block);
            block.resize(BLOCK_BYTES, 0);
            let got = read_some(&mut archive, &mut block).map_err(|source| Error::Input {
                what: "layer archive",
                source,
            })?;
            if got == 0 {
                break;
            }
            let part = block.get(..got).unwrap_or_default();
            hash.update(part);
            if bytes == 0 && self.keep_archives && is_compressed(part) {
                file = Some(self.spool_archive()?);
            }
            bytes += got as u64;
            if let Some(expected) = expected.size.filter(|e| bytes > *e) {
                return Err(Error::SizeMismatch {
                    what: "layer archive",
                    expected,
                    actual: bytes,
                });
            }
            progress(got as u64);
            if let Some(file) = &mut file {
                self.room.to_grow()?;
                file.write_all(part)
                    .map_err(Error::io("cannot write", &self.archives_dir()))?;
            }
            match &out {
                None => spare = block,
                Some(pipe) => {
                    if pipe.send(block, got).is_err() {
                        out = None;
                    }
                }
            }
            if failed.load(Ordering::Relaxed) && !read_on {
                whole = false;
                break;
            }
        }
        Ok(Received {
            id: ArchiveId(Digest::finish(hash)),
            bytes,
            file,
            whole,
        })
    }

    /// Second thread: inflates the archive, and says whether nothing compressed it before the first bytes come.
    fn inflate(&self, archive: PipeReader, out: PipeWriter, plain: &AtomicBool) -> Result<()> {
        let mut tar = archive::inflate(archive, &self.limits)?;
        plain.store(tar.is_plain(), Ordering::Release);
        loop {
            let mut block = out.block();
            let mut filled = 0;
            while filled < block.len() {
                let rest = block.get_mut(filled..).unwrap_or_default();
                match read_some(&mut tar, rest).map_err(inflate_error)? {
                    0 => break,
                    got => filled += got,
                }
            }
            // A parser that has refused the tar has the answer: no more is wanted.
            if filled == 0 || out.send(block, filled).is_err() {
                return Ok(());
            }
        }
    }

    /// Fourth thread: parses the tar.
    fn parse(&self, no: RecordNo, tar: PipeReader) -> Result<Parsed> {
        let mut headers = ChunkWriter::new(&self.db, no, Part::Headers);
        let mut records = EntryWriter::new(&self.db, no);
        let mut intake = Intake::new(&self.blobs, no);
        let (mut content_bytes, mut entries, mut marks) = (0u64, 0u64, 0u64);
        let mut reader = archive::Reader::new(tar, &mut headers, self.limits.clone());
        while let Some(entry) = reader.next_entry()? {
            // Here for the streams of entries and headers, whose errors would come back as the archive's.
            self.room.to_grow()?;
            entries += 1;
            let position = reader.header_bytes();
            let mut content = None;
            match &entry.kind {
                EntryKind::File { size, .. } => {
                    content_bytes = content_bytes.saturating_add(*size);
                    content = intake.take(|buf| Ok(reader.read_content(buf)?))?;
                }
                EntryKind::Whiteout | EntryKind::Opaque => marks += 1,
                _ => {}
            }
            records.push(&RecordEntry {
                entry,
                content,
                position,
            })?;
        }
        drop(reader);
        let (entry_chunks, header_chunks) = (records.finish()?, headers.finish()?);
        Ok(Parsed {
            intake,
            content_bytes,
            entries,
            marks,
            entry_chunks,
            header_chunks,
        })
    }

    /// Makes everything durable, then known.
    fn record(&self, no: RecordNo, verified: Verified) -> Result<Unpacked> {
        let Verified {
            diff,
            received,
            parsed,
            tar_bytes,
        } = verified;
        failpoint::pass(Point::UnpackVerified)?;
        let pins = parsed.intake.finish()?;
        failpoint::pass(Point::UnpackContentsSynced)?;
        if let Some(file) = &received.file
            && failpoint::is_synced(Point::SyncArchive)
        {
            file.as_file()
                .sync_all()
                .map_err(Error::io("cannot sync", file.path()))?;
        }
        // From here on under the lock: a removal that looks at the record must see its archives' files as they are.
        let mut locked = self.records.lock();
        let kept = self.keep_archive(&received)?;
        let archive = ReceivedArchive {
            id: received.id,
            bytes: received.bytes,
            kept,
        };
        failpoint::pass(Point::UnpackReady)?;
        let mut batch = self.db.batch();
        batch.reprieve(Doomed::Record(no))?;
        if let Some(mut known) = self.db.record(&diff)? {
            // The same layer came twice at once, or in another wrapping.
            batch.delete_prefix(Family::Records, &no.0.to_be_bytes())?;
            match known.archives.iter_mut().find(|a| a.id == archive.id) {
                Some(before) => before.kept |= kept,
                None => known.archives.push(archive),
            }
            batch.put_record(&diff, &known)?;
            batch.write(failpoint::synced(Point::SyncRecord))?;
            return Ok(unpacked(diff, &known, archive, locked.pin(diff)));
        }
        let head = RecordHead {
            no,
            content_bytes: parsed.content_bytes,
            tar_bytes,
            entries: parsed.entries,
            marks: parsed.marks,
            entry_chunks: parsed.entry_chunks,
            header_chunks: parsed.header_chunks,
            archives: vec![archive],
        };
        batch.put_record(&diff, &head)?;
        for (blob, times) in pins.counts() {
            blobs::add_count(&mut batch, blob, times)?;
        }
        batch.write(failpoint::synced(Point::SyncRecord))?;
        failpoint::pass(Point::UnpackRecorded)?;
        pins.settle();
        Ok(unpacked(diff, &head, archive, locked.pin(diff)))
    }

    /// Moves the archive as received, synced, to its place; `false` if there is none to keep (of a plain tar).
    fn keep_archive(&self, received: &Received) -> Result<bool> {
        let Some(file) = &received.file else {
            return Ok(false);
        };
        let path = self.archive_path(&received.id);
        std::fs::rename(file.path(), &path).map_err(Error::io("cannot write", &path))?;
        failpoint::pass(Point::UnpackArchiveRenamed)?;
        self.sync_archives_dir()?;
        Ok(true)
    }
}

/// Third thread: hashes the tar and passes it on. When the parser has refused it, its digest is not wanted any more.
fn hash(mut tar: PipeReader, out: &PipeWriter, plain: &AtomicBool) -> Hashed {
    let mut bytes = 0u64;
    let mut hash = None;
    while let Some(block) = tar.next_block(out.spare()) {
        if bytes == 0 && !plain.load(Ordering::Acquire) {
            hash = Some(Sha256::new());
        }
        if let Some(hash) = &mut hash {
            hash.update(&block);
        }
        let len = block.len();
        bytes += len as u64;
        if out.send(block, len).is_err() {
            break;
        }
    }
    let hash = hash.or_else(|| (bytes == 0).then(Sha256::new));
    Hashed {
        diff: hash.map(|hash| DiffId(Digest::finish(hash))),
        bytes,
    }
}

/// What a read of an inflated archive fails with: the archive's own error, or the reader's below it.
fn inflate_error(source: std::io::Error) -> Error {
    match source.downcast::<archive::ArchiveError>() {
        Ok(error) => Error::Archive(error),
        Err(source) => Error::Input {
            what: "compressed layer archive",
            source,
        },
    }
}

/// Remembers that a thread failed, so that the first stops reading.
fn note<T>(failed: &AtomicBool, result: Result<T>) -> Result<T> {
    if result.is_err() {
        failed.store(true, Ordering::Relaxed);
    }
    result
}

/// Passes a panic on: it is a bug, and nothing but the process's end is right for it.
fn joined<T>(result: std::thread::Result<T>) -> T {
    result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Says whether the first bytes are gzip's or zstd's (also a skippable frame of it): only then the archive is worth
/// keeping beside what it unpacks to.
fn is_compressed(start: &[u8]) -> bool {
    matches!(
        start,
        [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..]
    )
}

//! The record of a layer archive: its entries with the digests of their contents, and the stream of all bytes that are no
//! content, so that the tar can be rebuilt bit for bit. Knows no tree.
//!
//! Both streams are cut into chunks, each compressed by itself: (record, part, chunk) → length ‖ zstd.

use std::io::{self, Read, Write};
use std::sync::Arc;

use crate::archive::{Entry, EntryKind};
use crate::blobs::{Blob, Blobs};
use crate::catalog::RecordHead;
use crate::codec::{self, Decoder, Encoder};
use crate::db::{Db, Durability, Family};
use crate::numbers::RecordNo;
use crate::pins::Pin;
use crate::{BlobId, DiffId, Error, FileName, Result};

/// Uncompressed bytes after which a chunk is closed.
const CHUNK_BYTES: usize = 256 << 10;

/// Largest chunk worth believing: a full one and one entry at every limit of `archive::Limits`, with room to raise them.
const CHUNK_BYTES_MAX: u64 = 1 << 28;

/// zstd's level for chunks: headers shrink twentyfold at its fastest.
const LEVEL: i32 = 1;

/// The two streams of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Part {
    Entries,
    Headers,
}

/// An entry as recorded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct RecordEntry {
    pub(crate) entry: Entry,
    /// The stored content of a file, and how long it is.
    pub(crate) content: Option<(BlobId, u64)>,
    /// Where in the stream of headers the content belongs.
    pub(crate) position: u64,
}

/// The key of a chunk.
pub(crate) fn chunk_key(no: RecordNo, part: Part, chunk: u32) -> [u8; 13] {
    let mut key = [0; 13];
    key[..8].copy_from_slice(&no.0.to_be_bytes());
    key[8] = match part {
        Part::Entries => 1,
        Part::Headers => 2,
    };
    key[9..].copy_from_slice(&chunk.to_be_bytes());
    key
}

/// Writes one stream of a record, logged but not synced.
pub(crate) struct ChunkWriter<'a> {
    db: &'a Db,
    no: RecordNo,
    part: Part,
    buffer: Vec<u8>,
    chunks: u32,
}

impl<'a> ChunkWriter<'a> {
    pub(crate) fn new(db: &'a Db, no: RecordNo, part: Part) -> Self {
        Self {
            db,
            no,
            part,
            buffer: Vec::new(),
            chunks: 0,
        }
    }

    fn close_chunk(&mut self) -> Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let packed = zstd::bulk::compress(&self.buffer, LEVEL).map_err(|source| Error::Input {
            what: "layer record",
            source,
        })?;
        let value = Encoder::new()
            .uint(self.buffer.len() as u64)
            .rest(&packed)
            .finish();
        let mut batch = self.db.batch();
        batch.put(
            Family::Records,
            &chunk_key(self.no, self.part, self.chunks),
            &value,
        )?;
        batch.write(Durability::Logged)?;
        self.chunks = self
            .chunks
            .checked_add(1)
            .ok_or_else(|| Error::corrupt("layer record", "full"))?;
        self.buffer.clear();
        Ok(())
    }

    /// Writes what is left; returns the number of chunks.
    pub(crate) fn finish(mut self) -> Result<u32> {
        self.close_chunk()?;
        Ok(self.chunks)
    }
}

impl Write for ChunkWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= CHUNK_BYTES {
            self.close_chunk().map_err(io::Error::other)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes the entries of a record.
pub(crate) struct EntryWriter<'a> {
    chunks: ChunkWriter<'a>,
    /// The path of the entry before, for what the next shares with it; and its position.
    path: Vec<FileName>,
    position: u64,
}

impl<'a> EntryWriter<'a> {
    pub(crate) fn new(db: &'a Db, no: RecordNo) -> Self {
        Self {
            chunks: ChunkWriter::new(db, no, Part::Entries),
            path: Vec::new(),
            position: 0,
        }
    }

    /// Adds an entry.
    pub(crate) fn push(&mut self, record: &RecordEntry) -> Result<()> {
        if self.chunks.buffer.is_empty() {
            self.path.clear();
            self.position = 0;
        }
        let mut out = Encoder::part();
        encode_entry(&mut out, &self.path, self.position, record);
        self.chunks.buffer.append(&mut out.finish());
        self.path.clone_from(&record.entry.path);
        // Only a file's is written.
        if matches!(record.entry.kind, EntryKind::File { .. }) {
            self.position = record.position;
        }
        if self.chunks.buffer.len() >= CHUNK_BYTES {
            self.chunks.close_chunk()?;
        }
        Ok(())
    }

    /// Writes what is left; returns the number of chunks.
    pub(crate) fn finish(self) -> Result<u32> {
        self.chunks.finish()
    }
}

fn encode_path(out: &mut Encoder, before: &[FileName], path: &[FileName]) {
    let shared = before.iter().zip(path).take_while(|(a, b)| a == b).count();
    out.uint(shared as u64).uint((path.len() - shared) as u64);
    for name in path.iter().skip(shared) {
        out.bytes(name.as_bytes());
    }
}

fn decode_path(input: &mut Decoder<'_>, before: &[FileName]) -> Option<Vec<FileName>> {
    let shared = usize::try_from(input.uint()?).ok()?;
    let mut path = before.get(..shared)?.to_vec();
    for _ in 0..input.count()? {
        path.push(input.name()?);
    }
    Some(path)
}

/// Encodes an entry after one with the path `before` and the position `position`.
pub(crate) fn encode_entry(
    out: &mut Encoder,
    before: &[FileName],
    position: u64,
    record: &RecordEntry,
) {
    let entry = &record.entry;
    encode_path(out, before, &entry.path);
    match &entry.kind {
        EntryKind::File { size, extents } => {
            out.byte(if extents.is_some() { 1 } else { 0 }).uint(*size);
            if let Some(extents) = extents {
                codec::encode_extents(out, extents);
            }
            match &record.content {
                None => out.byte(0),
                Some((blob, len)) => out.byte(1).digest(&blob.0).uint(*len),
            };
            out.uint(record.position.saturating_sub(position));
        }
        EntryKind::Dir => {
            out.byte(2);
        }
        EntryKind::Symlink(target) => {
            out.byte(3).bytes(target);
        }
        EntryKind::HardLink(target) => {
            out.byte(4);
            encode_path(out, &entry.path, target);
        }
        EntryKind::Char(rdev) => {
            out.byte(5).uint(*rdev);
        }
        EntryKind::Block(rdev) => {
            out.byte(6).uint(*rdev);
        }
        EntryKind::Fifo => {
            out.byte(7);
        }
        EntryKind::Whiteout => {
            out.byte(8);
        }
        EntryKind::Opaque => {
            out.byte(9);
        }
    }
    out.uint(entry.mode.into())
        .uint(entry.uid.into())
        .uint(entry.gid.into())
        .time(entry.mtime);
    codec::encode_xattrs(out, &entry.xattrs);
}

/// Decodes the next entry after one with the path `before` and the position `position`.
pub(crate) fn decode_entry(
    input: &mut Decoder<'_>,
    before: &[FileName],
    position: u64,
) -> Option<RecordEntry> {
    let path = decode_path(input, before)?;
    let (mut content, mut at) = (None, position);
    let kind = match input.byte()? {
        tag @ (0 | 1) => {
            let size = input.uint()?;
            let extents = if tag == 1 {
                Some(codec::decode_extents(input)?)
            } else {
                None
            };
            if input.byte()? == 1 {
                content = Some((BlobId(input.digest()?), input.uint()?));
            }
            at = position.checked_add(input.uint()?)?;
            EntryKind::File { size, extents }
        }
        2 => EntryKind::Dir,
        3 => EntryKind::Symlink(input.bytes()?.into()),
        4 => EntryKind::HardLink(decode_path(input, &path)?),
        5 => EntryKind::Char(input.uint()?),
        6 => EntryKind::Block(input.uint()?),
        7 => EntryKind::Fifo,
        8 => EntryKind::Whiteout,
        9 => EntryKind::Opaque,
        _ => return None,
    };
    let mode = u16::try_from(input.uint()?).ok()?;
    let (uid, gid, mtime) = (input.u32()?, input.u32()?, input.time()?);
    let xattrs = codec::decode_xattrs(input)?;
    Some(RecordEntry {
        entry: Entry {
            path,
            kind,
            mode,
            uid,
            gid,
            mtime,
            xattrs,
        },
        content,
        position: at,
    })
}

fn read_chunk(db: &Db, no: RecordNo, part: Part, chunk: u32) -> Result<Vec<u8>> {
    let damaged = || Error::corrupt("layer record", format!("{} {part:?} {chunk}", no.0));
    let value = db
        .get(Family::Records, &chunk_key(no, part, chunk))?
        .ok_or_else(damaged)?;
    let unpack = |value: &[u8]| {
        let mut input = Decoder::new(value)?;
        let len = usize::try_from(input.uint().filter(|n| *n <= CHUNK_BYTES_MAX)?).ok()?;
        zstd::bulk::decompress(input.rest(), len)
            .ok()
            .filter(|bytes| bytes.len() == len)
    };
    unpack(&value).ok_or_else(damaged)
}

/// Reads the entries of a record in order.
pub(crate) struct EntryReader<'a> {
    db: &'a Db,
    no: RecordNo,
    chunks: std::ops::Range<u32>,
    ready: std::vec::IntoIter<RecordEntry>,
}

impl<'a> EntryReader<'a> {
    pub(crate) fn new(db: &'a Db, head: &RecordHead) -> Self {
        Self {
            db,
            no: head.no,
            chunks: 0..head.entry_chunks,
            ready: Vec::new().into_iter(),
        }
    }

    pub(crate) fn next(&mut self) -> Result<Option<RecordEntry>> {
        loop {
            if let Some(entry) = self.ready.next() {
                return Ok(Some(entry));
            }
            let Some(chunk) = self.chunks.next() else {
                return Ok(None);
            };
            self.ready = read_entries(self.db, self.no, chunk)?.into_iter();
        }
    }
}

fn read_entries(db: &Db, no: RecordNo, chunk: u32) -> Result<Vec<RecordEntry>> {
    let bytes = read_chunk(db, no, Part::Entries, chunk)?;
    let mut input = Decoder::part(&bytes);
    let mut entries: Vec<RecordEntry> = Vec::new();
    while !input.is_empty() {
        let (path, position) = entries
            .last()
            .map_or((&[][..], 0), |e| (&e.entry.path, e.position));
        let entry = decode_entry(&mut input, path, position);
        entries.push(
            entry.ok_or_else(|| {
                Error::corrupt("layer record", format!("{} entries {chunk}", no.0))
            })?,
        );
    }
    Ok(entries)
}

/// What a rebuilt tar goes on with.
enum Next {
    /// So many bytes of the headers, then a content.
    Headers(u64, BlobId),
    Content(Blob, u64),
    /// The headers to their end.
    Rest,
    End,
}

/// Rebuilds the tar of a record. Pins the record while it lives.
pub(crate) struct TarReader {
    db: Arc<Db>,
    blobs: Arc<Blobs>,
    head: RecordHead,
    _pin: Pin<DiffId>,
    entry_chunk: u32,
    entries: std::vec::IntoIter<RecordEntry>,
    header_chunk: u32,
    headers: Vec<u8>,
    /// How much of `headers` is read, and how much of the whole stream.
    header_at: usize,
    position: u64,
    next: Next,
}

impl TarReader {
    pub(crate) fn new(
        db: &Arc<Db>,
        blobs: &Arc<Blobs>,
        head: RecordHead,
        pin: Pin<DiffId>,
    ) -> Result<TarReader> {
        let mut reader = TarReader {
            db: Arc::clone(db),
            blobs: Arc::clone(blobs),
            head,
            _pin: pin,
            entry_chunk: 0,
            entries: Vec::new().into_iter(),
            header_chunk: 0,
            headers: Vec::new(),
            header_at: 0,
            position: 0,
            next: Next::End,
        };
        reader.next = reader.after_content()?;
        Ok(reader)
    }

    /// Finds the next file with content.
    fn after_content(&mut self) -> Result<Next> {
        loop {
            if let Some(entry) = self.entries.next() {
                if let Some((blob, _)) = entry.content {
                    let before = entry.position.checked_sub(self.position);
                    let before =
                        before.ok_or_else(|| Error::corrupt("layer record", self.head.no.0))?;
                    return Ok(Next::Headers(before, blob));
                }
            } else if self.entry_chunk < self.head.entry_chunks {
                self.entries = read_entries(&self.db, self.head.no, self.entry_chunk)?.into_iter();
                self.entry_chunk += 1;
            } else {
                return Ok(Next::Rest);
            }
        }
    }

    /// Copies header bytes, `limit` at most; 0 at their end.
    fn read_headers(&mut self, buf: &mut [u8], limit: u64) -> Result<usize> {
        if self.header_at == self.headers.len() {
            if self.header_chunk == self.head.header_chunks {
                return Ok(0);
            }
            self.headers = read_chunk(&self.db, self.head.no, Part::Headers, self.header_chunk)?;
            self.header_chunk += 1;
            self.header_at = 0;
        }
        let ready = self.headers.get(self.header_at..).unwrap_or_default();
        let len = ready
            .len()
            .min(buf.len())
            .min(usize::try_from(limit).unwrap_or(usize::MAX));
        if let (Some(to), Some(from)) = (buf.get_mut(..len), ready.get(..len)) {
            to.copy_from_slice(from);
        }
        self.header_at += len;
        self.position += len as u64;
        Ok(len)
    }

    fn step(&mut self, buf: &mut [u8]) -> Result<usize> {
        loop {
            match std::mem::replace(&mut self.next, Next::End) {
                Next::Headers(0, blob) => self.next = Next::Content(self.blobs.read(&blob)?, 0),
                Next::Headers(left, blob) => {
                    let got = self.read_headers(buf, left)?;
                    if got == 0 {
                        return Err(Error::corrupt("layer record", self.head.no.0));
                    }
                    self.next = Next::Headers(left - got as u64, blob);
                    return Ok(got);
                }
                Next::Content(blob, at) => {
                    let got = blob.read_at(buf, at)?;
                    if got == 0 {
                        self.next = self.after_content()?;
                        continue;
                    }
                    self.next = Next::Content(blob, at + got as u64);
                    return Ok(got);
                }
                Next::Rest => {
                    let got = self.read_headers(buf, u64::MAX)?;
                    if got > 0 {
                        self.next = Next::Rest;
                    }
                    return Ok(got);
                }
                Next::End => return Ok(0),
            }
        }
    }
}

impl Read for TarReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        self.step(buf).map_err(io::Error::other)
    }
}

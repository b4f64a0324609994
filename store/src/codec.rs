//! The bytes of every record: compact, versioned, and read back with suspicion. Never touches the database.
//!
//! Numbers are LEB128 (signed ones zigzag first), byte strings carry their length, and every record opens with
//! a version byte. A reader answers `None` on anything that it did not write itself: the caller says which record is damaged.

use std::collections::BTreeMap;

use crate::{
    BlobId, Content, Digest, DirEntry, Extent, FileName, INLINE_BYTES_MAX, Ino, Inode, Kind,
    LayerNo, Link, Time,
};

/// Extended attributes, verbatim.
type Xattrs = BTreeMap<Box<[u8]>, Box<[u8]>>;

/// Version of every record in here; a change of bytes changes it (and the store's format, in `lock.rs`).
const VERSION: u8 = 1;

/// Runs or links of one record: what no honest writer reaches, so that a damaged count cannot ask for all memory.
const ITEMS_MAX: u64 = 1 << 28;

/// Writes a record.
pub(crate) struct Encoder(Vec<u8>);

impl Encoder {
    /// Starts a record.
    pub(crate) fn new() -> Self {
        let mut out = Vec::with_capacity(128);
        out.push(VERSION);
        Self(out)
    }

    /// Starts a part of a record, without a version.
    pub(crate) fn part() -> Self {
        Self(Vec::new())
    }

    pub(crate) fn byte(&mut self, value: u8) -> &mut Self {
        self.0.push(value);
        self
    }

    pub(crate) fn uint(&mut self, mut value: u64) -> &mut Self {
        while value >= 0x80 {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push((value & 0x7f) as u8);
        self
    }

    pub(crate) fn int(&mut self, value: i64) -> &mut Self {
        self.uint((value << 1).cast_unsigned() ^ (value >> 63).cast_unsigned())
    }

    pub(crate) fn bytes(&mut self, value: &[u8]) -> &mut Self {
        self.uint(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    pub(crate) fn digest(&mut self, value: &Digest) -> &mut Self {
        self.0.extend_from_slice(value.as_bytes());
        self
    }

    /// Bytes without their length: the last thing in a record.
    pub(crate) fn rest(&mut self, value: &[u8]) -> &mut Self {
        self.0.extend_from_slice(value);
        self
    }

    pub(crate) fn time(&mut self, value: Time) -> &mut Self {
        self.int(value.seconds).uint(value.nanos.into())
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn finish(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.0)
    }
}

/// Reads a record.
pub(crate) struct Decoder<'a>(&'a [u8]);

impl<'a> Decoder<'a> {
    /// Starts a record; refuses another version.
    pub(crate) fn new(bytes: &'a [u8]) -> Option<Self> {
        let (version, rest) = bytes.split_first()?;
        (*version == VERSION).then_some(Self(rest))
    }

    /// Starts a part of a record, without a version.
    pub(crate) fn part(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    pub(crate) fn uint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..70).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            // The tenth byte holds one bit, and no number ends in a needless zero byte: one value, one encoding.
            if shift == 63 && bits > 1 || shift > 0 && byte == 0 {
                return None;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.uint()?.try_into().ok()
    }

    pub(crate) fn int(&mut self) -> Option<i64> {
        let value = self.uint()?;
        Some((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }

    /// A count of things that follow.
    pub(crate) fn count(&mut self) -> Option<u64> {
        self.uint().filter(|n| *n <= ITEMS_MAX)
    }

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(head)
    }

    pub(crate) fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.uint()?).ok()?;
        self.take(len)
    }

    pub(crate) fn digest(&mut self) -> Option<Digest> {
        let bytes = self.take(32)?;
        Some(Digest::from_bytes(bytes.try_into().ok()?))
    }

    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    pub(crate) fn time(&mut self) -> Option<Time> {
        let seconds = self.int()?;
        let nanos = self.u32().filter(|n| *n < 1_000_000_000)?;
        Some(Time { seconds, nanos })
    }

    pub(crate) fn name(&mut self) -> Option<FileName> {
        FileName::new(self.bytes()?).ok()
    }

    pub(crate) fn string(&mut self) -> Option<String> {
        String::from_utf8(self.bytes()?.to_vec()).ok()
    }

    /// `Some` if everything was read.
    pub(crate) fn end(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The byte of a kind.
pub(crate) fn kind_byte(kind: Kind) -> u8 {
    match kind {
        Kind::File => 0,
        Kind::Dir => 1,
        Kind::Symlink => 2,
        Kind::Char => 3,
        Kind::Block => 4,
        Kind::Fifo => 5,
        Kind::Socket => 6,
    }
}

/// The kind of a byte.
pub(crate) fn kind(byte: u8) -> Option<Kind> {
    Some(match byte {
        0 => Kind::File,
        1 => Kind::Dir,
        2 => Kind::Symlink,
        3 => Kind::Char,
        4 => Kind::Block,
        5 => Kind::Fifo,
        6 => Kind::Socket,
        _ => return None,
    })
}

/// Which of an inode's times are its mtime again, and whether the runtime made it.
const SAME_ATIME: u8 = 1;
const SAME_CTIME: u8 = 2;
const SAME_BTIME: u8 = 4;
const INIT: u8 = 8;

/// Encodes an inode.
pub(crate) fn encode_inode(inode: &Inode) -> Vec<u8> {
    let mut out = Encoder::new();
    let mut flags = 0;
    for (flag, set) in [
        (SAME_ATIME, inode.atime == inode.mtime),
        (SAME_CTIME, inode.ctime == inode.mtime),
        (SAME_BTIME, inode.btime == inode.mtime),
        (INIT, inode.init),
    ] {
        if set {
            flags |= flag;
        }
    }
    out.byte(kind_byte(inode.kind)).byte(flags);
    out.uint(inode.mode.into())
        .uint(inode.uid.into())
        .uint(inode.gid.into());
    out.uint(inode.rdev).uint(inode.size).time(inode.mtime);
    for (flag, time) in [
        (SAME_ATIME, inode.atime),
        (SAME_CTIME, inode.ctime),
        (SAME_BTIME, inode.btime),
    ] {
        if flags & flag == 0 {
            out.time(time);
        }
    }
    encode_content(&mut out, &inode.content);
    encode_xattrs(&mut out, &inode.xattrs);
    out.uint(inode.links.len() as u64);
    for link in &inode.links {
        out.uint(link.parent.0).bytes(link.name.as_bytes());
    }
    out.finish()
}

/// Decodes an inode.
pub(crate) fn decode_inode(bytes: &[u8]) -> Option<Inode> {
    let mut input = Decoder::new(bytes)?;
    let kind = kind(input.byte()?)?;
    let flags = input.byte().filter(|f| *f <= 15)?;
    let mode = u16::try_from(input.uint()?).ok().filter(|m| *m <= 0o7777)?;
    let (uid, gid, rdev, size) = (input.u32()?, input.u32()?, input.uint()?, input.uint()?);
    let mtime = input.time()?;
    let mut other = |flag| {
        if flags & flag == 0 {
            input.time()
        } else {
            Some(mtime)
        }
    };
    let (atime, ctime, btime) = (other(SAME_ATIME)?, other(SAME_CTIME)?, other(SAME_BTIME)?);
    let content = decode_content(&mut input, true)?;
    let xattrs = decode_xattrs(&mut input)?;
    let count = input.count()?;
    // One nearly always: what a vector would make room for is more than the rest of the record.
    let mut links = match count {
        1 => Vec::with_capacity(1),
        _ => Vec::new(),
    };
    for _ in 0..count {
        links.push(Link {
            parent: Ino(input.uint()?),
            name: input.name()?,
        });
    }
    input.end()?;
    let init = flags & INIT != 0;
    Some(Inode {
        kind,
        mode,
        uid,
        gid,
        rdev,
        size,
        atime,
        mtime,
        ctime,
        btime,
        content,
        xattrs,
        links,
        init,
    })
}

/// Encodes extended attributes.
pub(crate) fn encode_xattrs(out: &mut Encoder, xattrs: &Xattrs) {
    out.uint(xattrs.len() as u64);
    for (name, value) in xattrs {
        out.bytes(name).bytes(value);
    }
}

/// Decodes extended attributes.
pub(crate) fn decode_xattrs(input: &mut Decoder<'_>) -> Option<Xattrs> {
    let mut xattrs = BTreeMap::new();
    for _ in 0..input.count()? {
        let name = input.bytes()?.into();
        xattrs.insert(name, input.bytes()?.into());
    }
    Some(xattrs)
}

/// Encodes a sparse file's runs: the gap before each and its length.
pub(crate) fn encode_extents(out: &mut Encoder, extents: &[Extent]) {
    out.uint(extents.len() as u64);
    let mut end = 0u64;
    for extent in extents {
        out.uint(extent.offset.wrapping_sub(end)).uint(extent.len);
        end = extent.offset.wrapping_add(extent.len);
    }
}

/// Decodes a sparse file's runs.
pub(crate) fn decode_extents(input: &mut Decoder<'_>) -> Option<Vec<Extent>> {
    let mut extents = Vec::new();
    let mut end = 0u64;
    for _ in 0..input.count()? {
        let offset = end.checked_add(input.uint()?)?;
        let len = input.uint()?;
        end = offset.checked_add(len)?;
        extents.push(Extent { offset, len });
    }
    Some(extents)
}

fn encode_content(out: &mut Encoder, content: &Content) {
    match content {
        Content::None => {
            out.byte(0);
        }
        Content::Symlink(target) => {
            out.byte(1).bytes(target);
        }
        Content::Blob(blob) => {
            out.byte(2).digest(&blob.0);
        }
        Content::Sparse { blob, extents } => {
            out.byte(3).digest(&blob.0);
            encode_extents(out, extents);
        }
        Content::Dir { pages, subdirs } => {
            out.byte(4).uint(pages.0.into()).uint((*subdirs).into());
        }
        Content::Data => {
            out.byte(5);
        }
        Content::Chunked {
            base,
            base_len,
            present,
        } => {
            out.byte(6);
            encode_content(out, base);
            out.uint(*base_len).bytes(present);
        }
        Content::Inline(bytes) => {
            out.byte(7).bytes(bytes);
        }
    }
}

/// `nest`: whether a chunked file may stand here (its base may be none itself).
fn decode_content(input: &mut Decoder<'_>, nest: bool) -> Option<Content> {
    Some(match input.byte()? {
        0 => Content::None,
        1 => Content::Symlink(input.bytes()?.into()),
        2 => Content::Blob(BlobId(input.digest()?)),
        3 => Content::Sparse {
            blob: BlobId(input.digest()?),
            extents: decode_extents(input)?.into(),
        },
        4 => Content::Dir {
            pages: LayerNo(input.u32()?),
            subdirs: input.u32()?,
        },
        5 => Content::Data,
        6 if nest => {
            let base = Box::new(decode_content(input, false)?);
            Content::Chunked {
                base,
                base_len: input.uint()?,
                present: input.bytes()?.to_vec(),
            }
        }
        7 => {
            let bytes = input.bytes()?;
            if bytes.len() as u64 > INLINE_BYTES_MAX {
                return None;
            }
            Content::Inline(bytes.into())
        }
        _ => return None,
    })
}

/// Adds an entry to a directory page: what its name shares with the one before, the rest, its inode, its kind.
pub(crate) fn encode_dir_entry(out: &mut Encoder, before: &[u8], entry: &DirEntry) {
    let name = entry.name.as_bytes();
    let shared = before.iter().zip(name).take_while(|(a, b)| a == b).count();
    out.uint(shared as u64)
        .bytes(name.get(shared..).unwrap_or_default());
    out.uint(entry.ino.0).byte(kind_byte(entry.kind));
}

/// Decodes a directory page onto `entries`; names must go on ascending.
pub(crate) fn decode_dir_page(bytes: &[u8], entries: &mut Vec<DirEntry>) -> Option<()> {
    let mut input = Decoder::new(bytes)?;
    let mut name = Vec::new();
    while !input.is_empty() {
        let shared = usize::try_from(input.uint()?)
            .ok()
            .filter(|n| *n <= name.len())?;
        name.truncate(shared);
        name.extend_from_slice(input.bytes()?);
        let entry = DirEntry {
            name: FileName::new(&name).ok()?,
            ino: Ino(input.uint()?),
            kind: kind(input.byte()?)?,
        };
        if entries.last().is_some_and(|last| last.name >= entry.name) {
            return None;
        }
        entries.push(entry);
    }
    Some(())
}

#[cfg(test)]
mod tests;

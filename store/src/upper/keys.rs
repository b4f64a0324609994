//! Keys and values of a writable layer in the database. Knows bytes, and nothing of what they are for.
//!
//! Keys: upper ‖ tag ‖ …: inodes by number, entries by directory and name, orphans by number, the highest sequence
//! number, and undo records by number (`undo.rs`).

use std::path::{Path, PathBuf};

use super::Override;
use crate::codec::{self, Decoder, Encoder};
use crate::db::{Batch, Family, Scan};
use crate::{Error, FileName, Ino, Inode, Result, UpperId};

pub(super) const INODE: u8 = 1;
pub(super) const ENTRY: u8 = 2;
pub(super) const ORPHAN: u8 = 3;
pub(super) const SEQUENCE: u8 = 4;
pub(super) const UNDO: u8 = 5;

/// A key of an upper's own.
pub(super) fn key(id: UpperId, tag: u8, rest: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(5 + rest.len());
    key.extend_from_slice(&id.0.to_be_bytes());
    key.push(tag);
    key.extend_from_slice(rest);
    key
}

/// A key that ends with an inode number.
pub(super) fn ino_key(id: UpperId, tag: u8, ino: Ino) -> Vec<u8> {
    key(id, tag, &ino.0.to_be_bytes())
}

pub(super) fn entry_key(id: UpperId, dir: Ino, name: &FileName) -> Vec<u8> {
    let mut key = ino_key(id, ENTRY, dir);
    key.extend_from_slice(name.as_bytes());
    key
}

/// The inode number in such a key.
pub(super) fn key_ino(key: &[u8]) -> Option<Ino> {
    Some(Ino(u64::from_be_bytes(key.get(5..13)?.try_into().ok()?)))
}

/// Adds an inode's record to a batch; the blobs that it names are counted by the caller.
pub(crate) fn put_inode(out: &mut Batch<'_>, id: UpperId, ino: Ino, inode: &Inode) -> Result<()> {
    let key = ino_key(id, INODE, ino);
    out.put(Family::Upper, &key, &codec::encode_inode(inode))
}

/// Encodes an override.
pub(crate) fn encode_override(value: Override) -> Vec<u8> {
    let mut out = Encoder::new();
    match value {
        Override::Whiteout => out.byte(0),
        Override::Entry { ino, kind, seq } => out
            .byte(1)
            .uint(ino.0)
            .byte(codec::kind_byte(kind))
            .uint(seq),
    };
    out.finish()
}

/// Decodes an override.
pub(crate) fn decode_override(bytes: &[u8]) -> Option<Override> {
    let mut input = Decoder::new(bytes)?;
    let value = match input.byte()? {
        0 => Override::Whiteout,
        1 => Override::Entry {
            ino: Ino(input.uint()?),
            kind: codec::kind(input.byte()?)?,
            seq: input.uint()?,
        },
        _ => return None,
    };
    input.end()?;
    Some(value)
}

/// The data file of an inode below an upper's directory.
pub(crate) fn data_path(dir: &Path, ino: Ino) -> PathBuf {
    dir.join(format!("{:02x}", ino.0 & 0xff))
        .join(format!("{:x}", ino.0))
}

/// All of a scan, decoded.
pub(super) fn collect<T>(
    mut scan: Scan<'_>,
    what: &'static str,
    decode: impl Fn(&[u8], &[u8]) -> Option<T>,
) -> Result<Vec<T>> {
    let mut all = Vec::new();
    while let Some((key, value)) = scan.next()? {
        all.push(decode(key, value).ok_or_else(|| Error::corrupt(what, key.escape_ascii()))?);
    }
    Ok(all)
}

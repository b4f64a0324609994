//! Entries in, a tar's bytes out. Never asks the clock or the host: the same entries give the same bytes.

use std::io::{Read, Write};

use super::entry::{Entry, EntryKind};
use super::error::{ArchiveError, Place, shown};
use super::header::{self, BLOCK_BYTES, Fields, MTIME_MAX, kind, padding};
use super::input::{self, count};
use super::{path, pax, sparse};
use crate::{Extent, Time};

/// Content is moved in pieces of this size.
const COPY_BYTES: usize = 128 << 10;
/// The directory that names of PAX headers pretend to be in, for readers that know no PAX and make files of them.
const PAX_DIR: &[u8] = b"PaxHeaders/";
/// The same for sparse files, under GNU tar's name for it.
const SPARSE_DIR: &[u8] = b"GNUSparseFile.0/";
/// Bytes of a name field.
const NAME_BYTES: usize = 100;
const ZEROS: [u8; BLOCK_BYTES] = [0; BLOCK_BYTES];

/// Writes a tar: PAX where a field does not fit ustar, deterministic.
///
/// GNU tar, libarchive, Go's `archive/tar` and with it docker, podman, umoci and skopeo read it.
pub struct Writer<W> {
    out: W,
    /// Bytes written.
    offset: u64,
    name: Vec<u8>,
    at: u64,
    copy: Box<[u8]>,
}

impl<W: Write> Writer<W> {
    /// Starts an archive.
    pub fn new(out: W) -> Self {
        let copy = vec![0; COPY_BYTES].into_boxed_slice();
        Self {
            out,
            offset: 0,
            name: Vec::new(),
            at: 0,
            copy,
        }
    }

    /// Writes an entry's headers, and `content` where it is a file (of a sparse file: the runs' bytes,
    /// one after another, stored as PAX sparse 1.0 — the spec's SHOULD NOT against it loses to a file of a terabyte of zeros).
    ///
    /// Of `content`, exactly [`EntryKind::stored_bytes`] are read. After an error the archive is of no further use.
    pub fn append(&mut self, entry: &Entry, mut content: impl Read) -> Result<(), ArchiveError> {
        self.at = self.offset;
        self.name = path::spell(&entry.path, b"");
        let name = self.spell(entry)?;
        self.name.clone_from(&name);
        let fields = Fields {
            name: &name,
            mode: entry.mode & 0o7777,
            uid: entry.uid,
            gid: entry.gid,
            mtime: header_time(entry.mtime),
            kind: type_flag(&entry.kind),
            ..Fields::default()
        };
        match &entry.kind {
            EntryKind::File {
                size,
                extents: Some(runs),
            } => self.append_sparse(entry, fields, *size, runs, &mut content),
            EntryKind::File {
                size,
                extents: None,
            } => {
                self.write_headers(
                    entry,
                    Fields {
                        size: *size,
                        ..fields
                    },
                    Vec::new(),
                )?;
                self.copy(&mut content, *size, (*size, 0))?;
                self.pad(*size)
            }
            EntryKind::Symlink(target) => {
                if target.is_empty() || target.contains(&0) {
                    return Err(self.bad_name(target, "no target for a symbolic link"));
                }
                self.write_headers(
                    entry,
                    Fields {
                        link: target,
                        ..fields
                    },
                    Vec::new(),
                )
            }
            EntryKind::HardLink(target) => {
                if target.is_empty() {
                    return Err(self.bad_name(b"/", "a hard link to the root"));
                }
                self.write_headers(
                    entry,
                    Fields {
                        link: &path::spell(target, b""),
                        ..fields
                    },
                    Vec::new(),
                )
            }
            EntryKind::Char(device) | EntryKind::Block(device) => self.write_headers(
                entry,
                Fields {
                    device: Some(*device),
                    ..fields
                },
                Vec::new(),
            ),
            EntryKind::Dir | EntryKind::Fifo | EntryKind::Whiteout | EntryKind::Opaque => {
                self.write_headers(entry, fields, Vec::new())
            }
        }
    }

    /// PAX 1.0: the header's name is made up, the map stands before the data.
    fn append_sparse(
        &mut self,
        entry: &Entry,
        fields: Fields<'_>,
        size: u64,
        runs: &[Extent],
        content: &mut impl Read,
    ) -> Result<(), ArchiveError> {
        self.check_runs(runs, size)?;
        let wide = sparse::widen(runs, size);
        let map = sparse::write_map(&wide, size);
        let stored = wide
            .iter()
            .fold(count(map.len()), |sum, run| sum.saturating_add(run.len));
        let mut records = Vec::new();
        pax::write_record(&mut records, b"GNU.sparse.major", b"1");
        pax::write_record(&mut records, b"GNU.sparse.minor", b"0");
        pax::write_record(&mut records, b"GNU.sparse.name", fields.name);
        pax::write_record(
            &mut records,
            b"GNU.sparse.realsize",
            size.to_string().as_bytes(),
        );
        let name = stand_in_name(SPARSE_DIR, fields.name);
        self.write_headers(
            entry,
            Fields {
                name: &name,
                size: stored,
                ..fields
            },
            records,
        )?;
        self.write(&map)?;
        self.copy_runs(content, runs, &wide)?;
        self.pad(stored)
    }

    /// Writes the end blocks and returns the output.
    pub fn finish(mut self) -> Result<W, ArchiveError> {
        self.name.clear();
        self.at = self.offset;
        self.write(&ZEROS)?;
        self.write(&ZEROS)?;
        self.out.flush().map_err(|source| ArchiveError::Output {
            at: Place::new(b"", self.offset),
            source,
        })?;
        Ok(self.out)
    }

    /// Spells the entry's name, and refuses what a reader would take for something else.
    fn spell(&self, entry: &Entry) -> Result<Vec<u8>, ArchiveError> {
        let reserved = entry.path.last().is_some_and(path::is_reserved);
        match &entry.kind {
            EntryKind::Whiteout => path::spell_whiteout(&entry.path).ok_or_else(|| {
                self.bad_name(
                    &self.name,
                    "no whiteout can hide the root, or a name that begins with .wh.",
                )
            }),
            EntryKind::Opaque => Ok(path::spell_opaque(&entry.path)),
            _ if reserved => Err(self.bad_name(
                &self.name,
                "begins with .wh., which in a layer marks a whiteout and can name no file",
            )),
            EntryKind::Dir if entry.path.is_empty() => Ok(b"./".to_vec()),
            EntryKind::Dir => Ok(path::spell(&entry.path, b"/")),
            _ if entry.path.is_empty() => {
                Err(self.bad_name(b"/", "only a directory can be the root"))
            }
            _ => Ok(path::spell(&entry.path, b"")),
        }
    }

    /// Writes the PAX header, if there is anything to say in one, and the header itself.
    fn write_headers(
        &mut self,
        entry: &Entry,
        fields: Fields<'_>,
        mut records: Vec<u8>,
    ) -> Result<(), ArchiveError> {
        let number = |records: &mut Vec<u8>, keyword: &[u8], value: u64| {
            pax::write_record(records, keyword, value.to_string().as_bytes());
        };
        let Fields {
            name, link, size, ..
        } = fields;
        let fits = header::name_fits(name);
        if !fits {
            pax::write_record(&mut records, b"path", name);
        }
        if !header::link_fits(link) {
            pax::write_record(&mut records, b"linkpath", link);
        }
        if !header::size_fits(size) {
            number(&mut records, b"size", size);
        }
        if !header::owner_fits(entry.uid) {
            number(&mut records, b"uid", u64::from(entry.uid));
        }
        if !header::owner_fits(entry.gid) {
            number(&mut records, b"gid", u64::from(entry.gid));
        }
        if (Time {
            seconds: i64::try_from(fields.mtime).unwrap_or_default(),
            nanos: 0,
        }) != entry.mtime
        {
            pax::write_time(&mut records, b"mtime", entry.mtime);
        }
        for (name, value) in &entry.xattrs {
            pax::write_xattr(&mut records, name, value);
        }
        if !records.is_empty() {
            let name = stand_in_name(PAX_DIR, name);
            let size = count(records.len());
            self.write_header(&Fields {
                name: &name,
                mode: 0o644,
                size,
                kind: kind::PAX,
                ..Fields::default()
            })?;
            self.write(&records)?;
            self.pad(size)?;
        }
        let name = if fits {
            name
        } else {
            name.get(..NAME_BYTES).unwrap_or(name)
        };
        let link = link.get(..NAME_BYTES).unwrap_or(link);
        self.write_header(&Fields {
            name,
            link,
            ..fields
        })
    }

    fn write_header(&mut self, fields: &Fields<'_>) -> Result<(), ArchiveError> {
        let block = fields
            .encode()
            .ok_or_else(|| self.bad_name(fields.name, "does not fit a header"))?;
        self.write(&block)
    }

    /// A reader holds a map to this; so do we, before there is anything written that it would refuse.
    fn check_runs(&self, runs: &[Extent], size: u64) -> Result<(), ArchiveError> {
        let refused = |reason| ArchiveError::BadSparse {
            at: self.place(),
            reason,
        };
        if runs.iter().any(|run| run.len == 0) {
            return Err(refused("an empty run"));
        }
        let mut checked = sparse::Runs::default();
        let mut stored = 0_u64;
        for run in runs {
            let pushed = checked.push(run.offset, run.len, runs.len());
            pushed.map_err(|fault| refused(fault.reason()))?;
            stored = stored.saturating_add(run.len);
        }
        checked
            .finish(size, stored)
            .map_err(|fault| refused(fault.reason()))?;
        Ok(())
    }

    /// Writes the content of `runs` into the places of the `wide` ones that hold them, zeros between.
    fn copy_runs(
        &mut self,
        content: &mut impl Read,
        runs: &[Extent],
        wide: &[Extent],
    ) -> Result<(), ArchiveError> {
        let total = runs
            .iter()
            .fold(0, |sum: u64, run| sum.saturating_add(run.len));
        let mut done = 0;
        let mut runs = runs.iter().peekable();
        for wide in wide {
            let mut at = wide.offset;
            let end = wide.offset.saturating_add(wide.len);
            while let Some(run) = runs.next_if(|run| run.offset < end) {
                self.write_zeros(run.offset.saturating_sub(at))?;
                self.copy(content, run.len, (total, done))?;
                done += run.len;
                at = run.offset.saturating_add(run.len);
            }
            self.write_zeros(end.saturating_sub(at))?;
        }
        Ok(())
    }

    /// Copies `len` bytes of content; `(total, done)` are the entry's, for the error.
    fn copy(
        &mut self,
        content: &mut impl Read,
        len: u64,
        (total, done): (u64, u64),
    ) -> Result<(), ArchiveError> {
        let mut left = len;
        while left > 0 {
            let part = usize::try_from(left).map_or(COPY_BYTES, |left| left.min(COPY_BYTES));
            let buf = self.copy.get_mut(..part).unwrap_or_default();
            let got = match input::read(content, buf) {
                Ok(0) => {
                    let got = done + (len - left);
                    return Err(ArchiveError::ContentShort {
                        at: self.place(),
                        expected: total,
                        got,
                    });
                }
                Ok(got) => got,
                Err(source) => {
                    return Err(ArchiveError::Content {
                        at: self.place(),
                        source,
                    });
                }
            };
            let piece = self.copy.get(..got).unwrap_or_default();
            let written = self.out.write_all(piece);
            written.map_err(|source| ArchiveError::Output {
                at: self.place(),
                source,
            })?;
            self.offset = self.offset.saturating_add(count(got));
            left -= count(got);
        }
        Ok(())
    }

    fn write_zeros(&mut self, mut len: u64) -> Result<(), ArchiveError> {
        while len > 0 {
            let part = usize::try_from(len).map_or(ZEROS.len(), |len| len.min(ZEROS.len()));
            self.write(ZEROS.get(..part).unwrap_or_default())?;
            len -= count(part);
        }
        Ok(())
    }

    fn pad(&mut self, len: u64) -> Result<(), ArchiveError> {
        self.write_zeros(padding(len))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), ArchiveError> {
        self.out
            .write_all(bytes)
            .map_err(|source| ArchiveError::Output {
                at: self.place(),
                source,
            })?;
        self.offset = self.offset.saturating_add(count(bytes.len()));
        Ok(())
    }

    fn place(&self) -> Place {
        Place::new(&self.name, self.at)
    }

    fn bad_name(&self, name: &[u8], reason: &str) -> ArchiveError {
        ArchiveError::BadName {
            at: self.place(),
            name: shown(name),
            reason: reason.to_owned(),
        }
    }
}

fn type_flag(entry: &EntryKind) -> u8 {
    match entry {
        // Markers are empty files.
        EntryKind::File { .. } | EntryKind::Whiteout | EntryKind::Opaque => kind::FILE,
        EntryKind::Dir => kind::DIR,
        EntryKind::Symlink(_) => kind::SYMLINK,
        EntryKind::HardLink(_) => kind::HARD_LINK,
        EntryKind::Char(_) => kind::CHAR,
        EntryKind::Block(_) => kind::BLOCK,
        EntryKind::Fifo => kind::FIFO,
    }
}

/// The part of a time that octal can say.
fn header_time(time: Time) -> u64 {
    u64::try_from(time.seconds)
        .unwrap_or_default()
        .min(MTIME_MAX)
}

/// Makes a name of at most 100 bytes for a header that stands in for `name`.
fn stand_in_name(dir: &[u8], name: &[u8]) -> Vec<u8> {
    let last = name
        .rsplit(|b| *b == b'/')
        .find(|part| !part.is_empty())
        .unwrap_or_default();
    let room = NAME_BYTES.saturating_sub(dir.len());
    [dir, last.get(..room).unwrap_or(last)].concat()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::collections::BTreeMap;
    use std::io;

    use super::*;
    use crate::FileName;

    fn entry(path: &[&str], kind: EntryKind) -> Entry {
        Entry {
            path: path
                .iter()
                .map(|name| FileName::new(name.as_bytes()).unwrap())
                .collect(),
            kind,
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: Time::default(),
            xattrs: BTreeMap::new(),
        }
    }

    fn refusal(entry: &Entry, content: &[u8]) -> String {
        Writer::new(io::sink())
            .append(entry, content)
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn a_name_that_reads_as_a_whiteout_is_refused() {
        let text = refusal(&entry(&["a", ".wh.x"], EntryKind::Dir), b"");
        assert!(
            text.contains("\"a/.wh.x\"") && text.contains("begins with .wh."),
            "{text}"
        );
        refusal(&entry(&[".wh.x"], EntryKind::Whiteout), b"");
        refusal(&entry(&[], EntryKind::Whiteout), b"");
        refusal(&entry(&[], EntryKind::Fifo), b"");
        refusal(&entry(&["s"], EntryKind::Symlink(Box::default())), b"");
        refusal(&entry(&["h"], EntryKind::HardLink(Vec::new())), b"");
    }

    #[test]
    fn content_that_ends_early_is_refused_with_its_length() {
        let file = entry(
            &["f"],
            EntryKind::File {
                size: 10,
                extents: None,
            },
        );
        assert_eq!(
            refusal(&file, b"1234"),
            "content of entry \"f\" at byte 0 ends after 4 of 10 bytes"
        );
        let runs = vec![Extent { offset: 0, len: 3 }, Extent { offset: 7, len: 3 }];
        let file = entry(
            &["f"],
            EntryKind::File {
                size: 10,
                extents: Some(runs),
            },
        );
        assert_eq!(
            refusal(&file, b"1234"),
            "content of entry \"f\" at byte 0 ends after 4 of 6 bytes"
        );
    }

    #[test]
    fn a_map_that_contradicts_itself_is_refused() {
        let runs = vec![Extent { offset: 5, len: 3 }, Extent { offset: 2, len: 3 }];
        let file = entry(
            &["f"],
            EntryKind::File {
                size: 10,
                extents: Some(runs),
            },
        );
        assert!(refusal(&file, b"123456").contains("out of order"));
        let kind = EntryKind::File {
            size: 10,
            extents: Some(vec![Extent { offset: 5, len: 0 }]),
        };
        assert!(refusal(&entry(&["f"], kind), b"").contains("an empty run"));
    }

    #[test]
    fn what_fits_ustar_has_no_pax_header() {
        let mut writer = Writer::new(Vec::new());
        writer
            .append(
                &entry(
                    &["f"],
                    EntryKind::File {
                        size: 3,
                        extents: None,
                    },
                ),
                &b"abcd"[..],
            )
            .unwrap();
        let out = writer.finish().unwrap();
        assert_eq!(out.len(), 4 * BLOCK_BYTES);
        assert_eq!(&out[BLOCK_BYTES..BLOCK_BYTES + 4], b"abc\0");
        assert_eq!(&out[257..265], b"ustar\x0000");
    }

    #[test]
    fn the_same_entries_give_the_same_bytes() {
        let mut file = entry(
            &["f"],
            EntryKind::File {
                size: 1,
                extents: None,
            },
        );
        file.mtime = Time {
            seconds: -1,
            nanos: 5,
        };
        file.xattrs.insert((*b"user.b").into(), (*b"2").into());
        file.xattrs.insert((*b"user.a").into(), (*b"1").into());
        let write = || {
            let mut writer = Writer::new(Vec::new());
            writer.append(&file, &b"x"[..]).unwrap();
            writer.finish().unwrap()
        };
        assert_eq!(write(), write());
    }
}

//! Bytes: blobs of the base and data files of the upper.

use std::collections::BTreeMap;
use std::io::{Cursor, Read};
use std::ops::Range;

use nacre_fs::layer::Contents;
use nacre_fs::union::content::{self, DataStep, Source};
use nacre_store::{BlobId, Content, Digest, Extent, Ino, Inode};

use super::{DataFile, Memory, time};

impl Memory {
    /// Stores content as a blob, or as runs between zeros.
    pub fn stored(&mut self, bytes: &[u8], sparse: bool) -> Content {
        if bytes.iter().all(|byte| *byte == 0) {
            return Content::None;
        }
        let put = |blobs: &mut BTreeMap<BlobId, Vec<u8>>, bytes: Vec<u8>| {
            let blob = BlobId(Digest::of(&bytes));
            blobs.insert(blob, bytes);
            blob
        };
        if !sparse {
            return Content::Blob(put(&mut self.blobs, bytes.to_vec()));
        }
        let extents = runs(bytes);
        let packed = bytes.iter().copied().filter(|byte| *byte != 0).collect();
        Content::Sparse {
            blob: put(&mut self.blobs, packed),
            extents: extents.into(),
        }
    }

    /// Reads bytes of what a blob holds, at the file's offsets.
    pub(super) fn read_base(&self, content: &Content, range: &Range<u64>) -> Vec<u8> {
        let slice = |blob: &BlobId, start: u64, len: u64| {
            let start = usize::try_from(start).unwrap();
            self.blobs[blob][start..start + usize::try_from(len).unwrap()].to_vec()
        };
        match content {
            Content::Blob(blob) => slice(blob, range.start, range.end - range.start),
            Content::Sparse { blob, extents } => {
                let mut before = 0;
                for run in extents {
                    if run.offset <= range.start && range.end <= run.offset + run.len {
                        return slice(
                            blob,
                            before + range.start - run.offset,
                            range.end - range.start,
                        );
                    }
                    before += run.len;
                }
                panic!("{range:?} is in no run of {extents:?}");
            }
            Content::Chunked { base, .. } => self.read_base(base, range),
            Content::Inline(bytes) => {
                let end = usize::try_from(range.end).unwrap();
                bytes[usize::try_from(range.start).unwrap()..end].to_vec()
            }
            other => panic!("{other:?} has no blob"),
        }
    }

    pub(super) fn has_data(inode: &Inode) -> bool {
        matches!(inode.content, Content::Data | Content::Chunked { .. })
    }

    pub fn size(&self, ino: Ino) -> u64 {
        let inode = self.inode(ino);
        if Self::has_data(&inode) {
            u64::try_from(self.data[&ino].bytes.len()).unwrap()
        } else {
            inode.size
        }
    }

    /// The record as stat shows it: with a data file, size and times are the file's.
    pub fn settled(&self, ino: Ino) -> Inode {
        let mut inode = (*self.inode(ino)).clone();
        if Self::has_data(&inode) {
            inode.size = self.size(ino);
            inode.mtime = self.data[&ino].mtime;
            inode.ctime = inode.ctime.max(self.data[&ino].ctime);
        }
        inode
    }

    /// Reads a whole file.
    pub fn bytes(&self, ino: Ino) -> Vec<u8> {
        let inode = self.inode(ino);
        let mut bytes = Vec::new();
        for (range, source) in content::pieces(&inode.content, 0..self.size(ino)) {
            let (start, end) = (
                usize::try_from(range.start).unwrap(),
                usize::try_from(range.end).unwrap(),
            );
            assert_eq!(start, bytes.len(), "pieces leave a gap");
            match source {
                Source::Zeros => bytes.resize(end, 0),
                Source::Data => bytes.extend_from_slice(&self.data[&ino].bytes[start..end]),
                Source::Base => bytes.extend(self.read_base(&inode.content, &range)),
            }
        }
        bytes
    }

    /// Does the data file's part of a plan.
    pub(super) fn step(&mut self, ino: Ino, steps: &[DataStep]) {
        let now = time((self.now, 0));
        for step in steps {
            let copied = match step {
                DataStep::Copy { from, range } => self.read_base(from, range),
                _ => Vec::new(),
            };
            let file = self.data.entry(ino).or_insert(DataFile {
                bytes: Vec::new(),
                mtime: now,
                ctime: now,
            });
            (file.mtime, file.ctime) = (now, now);
            match step {
                DataStep::Create => file.bytes.clear(),
                DataStep::SetLen(len) => file.bytes.resize(usize::try_from(*len).unwrap(), 0),
                DataStep::Copy { range, .. } => {
                    let start = usize::try_from(range.start).unwrap();
                    file.bytes[start..start + copied.len()].copy_from_slice(&copied);
                }
                // Behind the end there is nothing to punch.
                DataStep::Punch(range) => {
                    let len = file.bytes.len();
                    let at = |offset: u64| usize::try_from(offset).unwrap().min(len);
                    file.bytes[at(range.start)..at(range.end)].fill(0);
                }
                DataStep::Reserve(_) => {}
            }
        }
    }
}

/// Returns the runs of bytes that are not zero.
fn runs(bytes: &[u8]) -> Vec<Extent> {
    let mut extents: Vec<Extent> = Vec::new();
    for (offset, _) in (0_u64..).zip(bytes).filter(|(_, byte)| **byte != 0) {
        match extents.last_mut() {
            Some(run) if run.offset + run.len == offset => run.len += 1,
            _ => extents.push(Extent { offset, len: 1 }),
        }
    }
    extents
}

/// Every second file is read as runs.
impl Contents for Memory {
    fn open(&self, ino: Ino, inode: &Inode) -> std::io::Result<Box<dyn Read + '_>> {
        let bytes = self.bytes(ino);
        let Some(runs) = self.extents(ino, inode)? else {
            return Ok(Box::new(Cursor::new(bytes)));
        };
        let packed = runs.into_iter().flat_map(|run| {
            let start = usize::try_from(run.offset).unwrap();
            bytes[start..start + usize::try_from(run.len).unwrap()].to_vec()
        });
        Ok(Box::new(Cursor::new(packed.collect::<Vec<u8>>())))
    }

    fn extents(&self, ino: Ino, _: &Inode) -> std::io::Result<Option<Vec<Extent>>> {
        Ok(ino.0.is_multiple_of(2).then(|| runs(&self.bytes(ino))))
    }
}

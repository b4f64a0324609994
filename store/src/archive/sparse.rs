//! Maps of sparse files: GNU's in the header, PAX 0.0 and 0.1 in records, PAX 1.0 before the data. Never reads data.

use super::header::{BLOCK_BYTES, Block};
use super::number;
use super::pax::decimal;
use crate::Extent;

/// Lengths are signed in every system call.
pub(super) const SIZE_MAX: u64 = i64::MAX.cast_unsigned();

const OLD_ENTRY_BYTES: usize = 24;
/// Four runs in the header, then whether blocks of 21 more follow, then the file's whole length.
const OLD_RUNS: std::ops::Range<usize> = 386..482;
const OLD_EXTENDED: usize = 482;
const OLD_SIZE: std::ops::Range<usize> = 483..495;
const MORE_RUNS: std::ops::Range<usize> = 0..504;
const MORE_EXTENDED: usize = 504;

/// Why a map is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fault {
    /// It contradicts itself or the entry.
    Map(&'static str),
    /// It has more runs than allowed.
    TooMany,
}

impl Fault {
    /// Says it.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::Map(reason) => reason,
            Self::TooMany => "too many runs",
        }
    }
}

/// The runs of one file, as they are read.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Runs {
    runs: Vec<Extent>,
    stored: u64,
    end: u64,
}

impl Runs {
    /// Adds a run: behind the ones before, joined where it touches, dropped where it is empty.
    pub(super) fn push(&mut self, offset: u64, len: u64, runs_max: usize) -> Result<(), Fault> {
        let end = offset
            .checked_add(len)
            .filter(|end| *end <= SIZE_MAX)
            .ok_or(Fault::Map("run beyond any file"))?;
        if offset < self.end {
            return Err(Fault::Map("runs overlap or are out of order"));
        }
        if len == 0 {
            return Ok(());
        }
        let full = self.runs.len() == runs_max;
        match self.runs.last_mut() {
            Some(last) if self.end == offset => last.len += len,
            _ if full => return Err(Fault::TooMany),
            _ => self.runs.push(Extent { offset, len }),
        }
        self.stored += len;
        self.end = end;
        Ok(())
    }

    /// Checks the map against the file's length and the bytes the archive stores for it. `None`: it has no hole.
    pub(super) fn finish(self, size: u64, stored: u64) -> Result<Option<Vec<Extent>>, Fault> {
        if size > SIZE_MAX {
            return Err(Fault::Map("longer than any file"));
        }
        if self.end > size {
            return Err(Fault::Map("run beyond the file's end"));
        }
        if self.stored != stored {
            return Err(Fault::Map("runs do not add up to the stored bytes"));
        }
        Ok((stored != size).then_some(self.runs))
    }
}

/// Reads the runs of a GNU sparse header; returns the file's length and whether a block of more runs follows.
pub(super) fn old_header(
    block: &Block,
    runs: &mut Runs,
    runs_max: usize,
) -> Result<(u64, bool), Fault> {
    old_runs(&block[OLD_RUNS], runs, runs_max)?;
    Ok((old_number(&block[OLD_SIZE])?, block[OLD_EXTENDED] != 0))
}

/// Reads a block of more runs; returns whether another one follows.
pub(super) fn old_more(block: &Block, runs: &mut Runs, runs_max: usize) -> Result<bool, Fault> {
    old_runs(&block[MORE_RUNS], runs, runs_max)?;
    Ok(block[MORE_EXTENDED] != 0)
}

fn old_runs(entries: &[u8], runs: &mut Runs, runs_max: usize) -> Result<(), Fault> {
    for entry in entries.chunks_exact(OLD_ENTRY_BYTES) {
        let (offset, len) = entry.split_at(OLD_ENTRY_BYTES / 2);
        // Unused entries are NULs.
        if len.first() == Some(&0) {
            break;
        }
        runs.push(old_number(offset)?, old_number(len)?, runs_max)?;
    }
    Ok(())
}

fn old_number(field: &[u8]) -> Result<u64, Fault> {
    let number = number::parse(field).and_then(|number| u64::try_from(number).ok());
    number.ok_or(Fault::Map("no number in the map"))
}

/// What PAX records say of a sparse file.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct PaxSparse {
    name: Option<Box<[u8]>>,
    major: Option<u64>,
    minor: Option<u64>,
    size: Option<u64>,
    /// 0.0: numbers in pairs. 0.1: the same in one record.
    numbers: Vec<u64>,
    mapped: bool,
}

/// How a PAX sparse file's map is stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum PaxMap {
    /// 0.0 and 0.1: here it is.
    Known(Runs),
    /// 1.0: in the first blocks of the data.
    InData,
}

impl PaxSparse {
    /// Takes one `GNU.sparse.` record. How many there are, the extension header's own limit bounds.
    pub(super) fn set(&mut self, keyword: &[u8], value: &[u8]) -> Result<(), &'static str> {
        let number = || decimal(value).ok_or("no decimal number");
        match keyword {
            b"GNU.sparse.name" => self.name = (!value.is_empty()).then(|| value.into()),
            b"GNU.sparse.major" => self.major = Some(number()?),
            b"GNU.sparse.minor" => self.minor = Some(number()?),
            b"GNU.sparse.size" | b"GNU.sparse.realsize" => self.size = Some(number()?),
            b"GNU.sparse.numblocks" => self.mapped = true,
            b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => {
                let second = keyword == b"GNU.sparse.numbytes";
                if (self.numbers.len() % 2 == 1) != second {
                    return Err("offset and length do not alternate");
                }
                self.numbers.push(number()?);
                self.mapped = true;
            }
            b"GNU.sparse.map" => {
                self.numbers.clear();
                self.mapped = true;
                for part in value.split(|b| *b == b',').filter(|_| !value.is_empty()) {
                    self.numbers.push(decimal(part).ok_or("no decimal number")?);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The sparse file's own name: the header's is made up, for readers that know no sparse files.
    pub(super) fn name(&self) -> Option<&[u8]> {
        self.name.as_deref().filter(|_| self.is_sparse())
    }

    fn is_sparse(&self) -> bool {
        self.mapped || self.major.is_some() || self.minor.is_some()
    }

    /// Returns the file's length and its map; `None` if the records speak of no sparse file.
    pub(super) fn map(&self, runs_max: usize) -> Result<Option<(u64, PaxMap)>, Fault> {
        let map = match (self.major, self.minor) {
            (Some(1), Some(0)) => PaxMap::InData,
            _ if !self.is_sparse() => return Ok(None),
            (None, None) | (Some(0), Some(0 | 1)) => {
                let mut runs = Runs::default();
                let mut pairs = self.numbers.chunks_exact(2);
                for pair in &mut pairs {
                    if let [offset, len] = pair {
                        runs.push(*offset, *len, runs_max)?;
                    }
                }
                if !pairs.remainder().is_empty() {
                    return Err(Fault::Map("offset without a length"));
                }
                PaxMap::Known(runs)
            }
            _ => return Err(Fault::Map("unknown version")),
        };
        let size = self.size.ok_or(Fault::Map("no length of the file"))?;
        Ok(Some((size, map)))
    }

    /// Bytes that a copy costs.
    pub(super) fn bytes(&self) -> usize {
        self.name.as_ref().map_or(0, |name| name.len()) + self.numbers.len() * size_of::<u64>()
    }
}

/// The map of PAX 1.0 as it is read, block by block: a count of runs, then offset and length of each, a line a number.
#[derive(Debug, Default)]
pub(super) struct MapText {
    count: Option<u64>,
    offset: Option<u64>,
    number: Option<u64>,
    read: u64,
    runs: Runs,
}

impl MapText {
    /// Takes the next block; returns whether it was the last.
    pub(super) fn feed(&mut self, block: &Block, runs_max: usize) -> Result<bool, Fault> {
        for &byte in block {
            match byte {
                b'0'..=b'9' => {
                    let number = self.number.unwrap_or_default().checked_mul(10);
                    let number =
                        number.and_then(|number| number.checked_add(u64::from(byte - b'0')));
                    self.number = Some(number.ok_or(Fault::Map("number too large"))?);
                }
                b'\n' => {
                    let number = self.number.take().ok_or(Fault::Map("empty line"))?;
                    self.line(number, runs_max)?;
                }
                _ => return Err(Fault::Map("no number in the map")),
            }
            if self.count == Some(self.read) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn line(&mut self, number: u64, runs_max: usize) -> Result<(), Fault> {
        match (self.count, self.offset.take()) {
            (None, _) if number > u64::try_from(runs_max).unwrap_or(u64::MAX) => {
                return Err(Fault::TooMany);
            }
            (None, _) => self.count = Some(number),
            (Some(_), None) => self.offset = Some(number),
            (Some(_), Some(offset)) => {
                self.runs.push(offset, number, runs_max)?;
                self.read += 1;
            }
        }
        Ok(())
    }

    /// Returns the runs, once the last block was taken.
    pub(super) fn into_runs(self) -> Runs {
        self.runs
    }
}

/// Widens runs to whole blocks, within the file: GNU tar reads each run from a block of its own.
pub(super) fn widen(runs: &[Extent], size: u64) -> Vec<Extent> {
    let block = u64::try_from(BLOCK_BYTES).unwrap_or(1);
    let mut wide: Vec<Extent> = Vec::with_capacity(runs.len());
    for run in runs {
        let offset = run.offset - run.offset % block;
        let end = run
            .offset
            .saturating_add(run.len)
            .checked_next_multiple_of(block)
            .unwrap_or(size)
            .min(size);
        match wide.last_mut() {
            Some(last) if last.offset.saturating_add(last.len) >= offset => {
                last.len = end.saturating_sub(last.offset)
            }
            _ => wide.push(Extent {
                offset,
                len: end.saturating_sub(offset),
            }),
        }
    }
    wide
}

/// Writes the map of PAX 1.0, filled up to whole blocks. The last pair marks the end, as GNU tar has it.
pub(super) fn write_map(runs: &[Extent], size: u64) -> Vec<u8> {
    let closes = runs
        .last()
        .is_none_or(|last| last.offset.saturating_add(last.len) != size);
    let mut text = format!("{}\n", runs.len() + usize::from(closes));
    for run in runs {
        text.push_str(&format!("{}\n{}\n", run.offset, run.len));
    }
    if closes {
        text.push_str(&format!("{size}\n0\n"));
    }
    let mut bytes = text.into_bytes();
    bytes.resize(bytes.len().next_multiple_of(BLOCK_BYTES), 0);
    bytes
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use proptest::prelude::*;

    const MAX: usize = 100;

    fn extents(pairs: &[(u64, u64)]) -> Vec<Extent> {
        pairs
            .iter()
            .map(|&(offset, len)| Extent { offset, len })
            .collect()
    }

    fn runs(pairs: &[(u64, u64)]) -> Result<Runs, Fault> {
        let mut runs = Runs::default();
        pairs
            .iter()
            .try_for_each(|&(offset, len)| runs.push(offset, len, 3))?;
        Ok(runs)
    }

    #[test]
    fn runs_are_joined_and_checked() {
        let finish =
            |pairs: &[_], size, stored| runs(pairs).and_then(|runs| runs.finish(size, stored));
        assert_eq!(
            finish(&[(0, 5), (5, 5), (20, 0), (30, 1)], 40, 11),
            Ok(Some(extents(&[(0, 10), (30, 1)])))
        );
        assert_eq!(finish(&[(0, 5), (5, 5)], 10, 10), Ok(None));
        assert_eq!(finish(&[], 10, 0), Ok(Some(vec![])));
        assert_eq!(finish(&[], 0, 0), Ok(None));
        type Case<'a> = (&'a [(u64, u64)], u64, u64);
        let faults: [Case<'_>; 6] = [
            (&[(5, 5), (0, 5)], 20, 10),
            (&[(0, 5), (4, 5)], 20, 10),
            (&[(0, 5)], 4, 5),
            (&[(0, 5)], 20, 6),
            (&[(u64::MAX, 5)], u64::MAX, 5),
            (&[], u64::MAX, 0),
        ];
        for (pairs, size, stored) in faults {
            assert!(
                matches!(finish(pairs, size, stored), Err(Fault::Map(_))),
                "{pairs:?}"
            );
        }
        assert_eq!(runs(&[(0, 1), (2, 1), (4, 1), (6, 1)]), Err(Fault::TooMany));
    }

    #[test]
    fn old_maps_continue_in_blocks() {
        let mut header: Block = [0; BLOCK_BYTES];
        for (index, (offset, len)) in [(0, 512), (1024, 512), (2048, 512), (4096, 512)]
            .iter()
            .enumerate()
        {
            let at = 386 + 24 * index;
            header[at..at + 24].copy_from_slice(format!("{offset:011o}\0{len:011o}\0").as_bytes());
        }
        header[482] = 1;
        header[483..495].copy_from_slice(b"00000020000\0");
        let mut runs = Runs::default();
        assert_eq!(old_header(&header, &mut runs, MAX), Ok((8192, true)));
        let mut more: Block = [0; BLOCK_BYTES];
        more[..24].copy_from_slice(format!("{:011o}\0{:011o}\0", 8192, 0).as_bytes());
        assert_eq!(old_more(&more, &mut runs, MAX), Ok(false));
        let expected = extents(&[(0, 512), (1024, 512), (2048, 512), (4096, 512)]);
        assert_eq!(runs.finish(8192, 2048), Ok(Some(expected)));
        more[0] = b'x';
        assert!(old_more(&more, &mut Runs::default(), MAX).is_err());
    }

    fn pax(records: &[(&str, &str)]) -> Result<Option<(u64, PaxMap)>, Fault> {
        let mut sparse = PaxSparse::default();
        for (keyword, value) in records {
            let keyword = format!("GNU.sparse.{keyword}");
            sparse
                .set(keyword.as_bytes(), value.as_bytes())
                .map_err(Fault::Map)?;
        }
        sparse.map(MAX)
    }

    #[test]
    fn pax_records_of_every_version() {
        let known = PaxMap::Known(runs(&[(0, 5), (20, 5)]).unwrap());
        let v00 = [
            ("size", "30"),
            ("offset", "0"),
            ("numbytes", "5"),
            ("offset", "20"),
            ("numbytes", "5"),
        ];
        assert_eq!(pax(&v00), Ok(Some((30, known.clone()))));
        assert_eq!(
            pax(&[("size", "30"), ("numblocks", "2"), ("map", "0,5,20,5")]),
            Ok(Some((30, known)))
        );
        assert_eq!(
            pax(&[("major", "1"), ("minor", "0"), ("realsize", "9")]),
            Ok(Some((9, PaxMap::InData)))
        );
        assert_eq!(pax(&[]), Ok(None));
        let faults: [&[(&str, &str)]; 8] = [
            &[("size", "30"), ("offset", "0"), ("offset", "0")],
            &[("size", "30"), ("numbytes", "0")],
            &[("size", "30"), ("offset", "0")],
            &[("size", "30"), ("map", "0,5,20")],
            &[("size", "30"), ("map", "0,5,")],
            &[("map", "0,5")],
            &[("major", "2"), ("minor", "0"), ("realsize", "9")],
            &[("size", "many")],
        ];
        for records in faults {
            assert!(matches!(pax(records), Err(Fault::Map(_))), "{records:?}");
        }
    }

    #[test]
    fn a_written_map_is_read() {
        for (list, size) in [
            (vec![(0, 512), (1024, 100)], 1124),
            (vec![(512, 512)], 5000),
            (vec![], 1 << 40),
        ] {
            let list = extents(&list);
            let text = write_map(&list, size);
            let mut map = MapText::default();
            let blocks = text.as_chunks::<BLOCK_BYTES>().0;
            let last: Vec<_> = blocks
                .iter()
                .map(|block| map.feed(block, MAX).unwrap())
                .collect();
            assert_eq!(last.iter().filter(|l| **l).count(), 1);
            let stored = list.iter().map(|run| run.len).sum();
            assert_eq!(map.into_runs().finish(size, stored), Ok(Some(list)));
        }
    }

    #[test]
    fn a_map_in_data_is_bounded() {
        let feed = |text: &str| {
            let mut block: Block = [0; BLOCK_BYTES];
            block[..text.len()].copy_from_slice(text.as_bytes());
            MapText::default().feed(&block, MAX)
        };
        assert_eq!(feed("101\n"), Err(Fault::TooMany));
        assert_eq!(feed("0\n"), Ok(true));
        for bad in [
            "",
            "x\n",
            "1\n0\n",
            "\n",
            "1\n99999999999999999999999\n",
            "2\n5\n5\n0\n5\n",
        ] {
            assert!(matches!(feed(bad), Err(Fault::Map(_))), "{bad:?}");
        }
    }

    #[test]
    fn widened_runs_start_and_end_at_blocks() {
        let wide = widen(&extents(&[(10, 5), (600, 1), (5000, 50)]), 5050);
        assert_eq!(wide, extents(&[(0, 1024), (4608, 442)]));
    }

    proptest! {
        #[test]
        fn any_map_parses_or_not(block in proptest::collection::vec(any::<u8>(), BLOCK_BYTES)) {
            let block: Block = block.try_into().unwrap();
            let mut runs = Runs::default();
            if old_header(&block, &mut runs, MAX).is_ok() {
                prop_assert!(runs.runs.len() <= MAX);
            }
            prop_assert!(MapText::default().feed(&block, MAX).is_err() || block.contains(&b'\n'));
        }
    }
}

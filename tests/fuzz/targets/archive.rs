//! Layer archives: each is refused or can be rebuilt bit for bit, and what our writer makes of its entries reads the same.

use nacre_store::Extent;
use nacre_store::archive::{ArchiveError, Entry, EntryKind, Limits, Reader, Writer};

/// Small, so that a run is short; each must hold all the same.
fn limits() -> Limits {
    Limits {
        layer_bytes_max: 1 << 20,
        entries_max: 200,
        extension_bytes_max: 1 << 14,
        global_bytes_max: 1 << 10,
        unplaced_bytes_max: 1 << 16,
        depth_max: 64,
        xattr_bytes_max: 1 << 12,
        xattrs_bytes_max: 1 << 13,
        extents_max: 500,
        ..Limits::default()
    }
}

/// A file that is longer than this is compared by its runs alone.
const EXPANDED_BYTES_MAX: u64 = 1 << 20;

/// Takes one input.
pub fn run(data: &[u8]) {
    let mut archive = data.to_vec();
    fix_checksums(&mut archive);
    let Ok(parts) = take_apart(&archive, 1000) else {
        return;
    };
    assert!(parts.rebuild() == archive, "the rebuilt archive differs");
    let again = take_apart(&archive, 7).expect("the same in smaller pieces");
    assert!(parts.members == again.members, "pieces change what is read");
    write_again(&parts);
}

/// What the fuzzer changes in a header shall be seen, not end at its checksum.
fn fix_checksums(archive: &mut [u8]) {
    for block in archive.as_chunks_mut::<512>().0 {
        if &block[257..262] == b"ustar" {
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
}

/// An archive taken apart, as the store keeps it: headers, and contents with their places among them.
struct Parts {
    headers: Vec<u8>,
    members: Vec<(u64, Entry, Vec<u8>)>,
}

fn take_apart(archive: &[u8], piece: usize) -> Result<Parts, ArchiveError> {
    let mut headers = Vec::new();
    let mut members = Vec::new();
    let limits = limits();
    let mut reader = Reader::new(archive, &mut headers, limits.clone());
    let mut buf = vec![0; piece];
    while let Some(entry) = reader.next_entry()? {
        check(&entry, &limits);
        let place = reader.header_bytes();
        let mut content = Vec::new();
        loop {
            match reader.read_content(&mut buf)? {
                0 => break,
                got => content.extend_from_slice(&buf[..got]),
            }
        }
        assert_eq!(content.len() as u64, entry.kind.stored_bytes());
        members.push((place, entry, content));
    }
    assert!(members.len() as u64 <= limits.entries_max);
    drop(reader);
    Ok(Parts { headers, members })
}

/// What an entry promises whoever applies it.
fn check(entry: &Entry, limits: &Limits) {
    assert!(entry.path.len() <= limits.depth_max);
    for name in &entry.path {
        let bytes = name.as_bytes();
        let odd = bytes.is_empty() || bytes == b"." || bytes == b".." || bytes.len() > 255;
        assert!(
            !odd && !bytes.contains(&b'/') && !bytes.contains(&0),
            "{name:?}"
        );
    }
    assert!(entry.mode <= 0o7777);
    assert!(entry.mtime.nanos < 1_000_000_000);
    let xattrs = entry
        .xattrs
        .iter()
        .map(|(name, value)| name.len() + value.len());
    assert!(xattrs.sum::<usize>() <= limits.xattrs_bytes_max);
    match &entry.kind {
        EntryKind::File {
            size,
            extents: Some(runs),
        } => {
            assert!(runs.len() <= limits.extents_max);
            let mut end = 0;
            for run in runs {
                assert!(
                    run.len > 0 && run.offset >= end,
                    "runs in order, none empty"
                );
                end = run.offset.checked_add(run.len).expect("a run has an end");
            }
            assert!(end <= *size && i64::try_from(*size).is_ok());
        }
        EntryKind::File { size, .. } => assert!(i64::try_from(*size).is_ok()),
        EntryKind::HardLink(target) => assert!(!target.is_empty()),
        EntryKind::Symlink(target) => assert!(!target.is_empty() && !target.contains(&0)),
        EntryKind::Whiteout => assert!(!entry.path.is_empty()),
        _ => {}
    }
}

impl Parts {
    fn rebuild(&self) -> Vec<u8> {
        let mut archive = Vec::new();
        let mut done = 0;
        for (place, _, content) in &self.members {
            let place = usize::try_from(*place).expect("a small archive");
            archive.extend_from_slice(&self.headers[done..place]);
            archive.extend_from_slice(content);
            done = place;
        }
        archive.extend_from_slice(&self.headers[done..]);
        archive
    }
}

/// Writes the entries as a commit would, and reads them back.
fn write_again(parts: &Parts) {
    let mut writer = Writer::new(Vec::new());
    let mut written = Vec::new();
    for (_, entry, content) in &parts.members {
        // A name that reads as a whiteout is refused before a byte of it is written.
        match writer.append(entry, content.as_slice()) {
            Ok(()) => written.push((entry, content)),
            Err(ArchiveError::BadName { .. }) => {}
            Err(error) => panic!("{entry:?}: {error}"),
        }
    }
    let archive = writer.finish().expect("memory takes all");
    let limits = Limits {
        layer_bytes_max: 1 << 30,
        ..Limits::default()
    };
    let mut reader = Reader::new(archive.as_slice(), std::io::sink(), limits);
    for (entry, content) in written {
        let back = reader
            .next_entry()
            .expect("our archive reads")
            .expect("an entry is missing");
        let mut stored = vec![0; usize::try_from(back.kind.stored_bytes()).expect("small")];
        let mut filled = 0;
        while filled < stored.len() {
            filled += reader
                .read_content(&mut stored[filled..])
                .expect("our content reads");
        }
        compare((entry, content), (&back, &stored));
    }
    assert!(reader.next_entry().expect("our archive ends").is_none());
}

/// The same entry; the writer may widen the runs of a sparse file, whose content is the same then.
fn compare((entry, content): (&Entry, &[u8]), (back, stored): (&Entry, &[u8])) {
    let sparse = match (&entry.kind, &back.kind) {
        (
            EntryKind::File {
                size,
                extents: Some(runs),
            },
            EntryKind::File {
                size: again,
                extents,
            },
        ) => {
            assert_eq!(size, again);
            if *size <= EXPANDED_BYTES_MAX {
                let whole = [Extent {
                    offset: 0,
                    len: *size,
                }];
                let wide = extents.as_deref().unwrap_or(&whole);
                assert!(expand(*size, runs, content) == expand(*size, wide, stored));
            }
            true
        }
        _ => false,
    };
    if sparse {
        let same = Entry {
            kind: back.kind.clone(),
            ..entry.clone()
        };
        assert_eq!(&same, back);
    } else {
        assert_eq!(entry, back);
        assert!(content == stored, "the content differs");
    }
}

fn expand(size: u64, runs: &[Extent], mut stored: &[u8]) -> Vec<u8> {
    let at = |n: u64| usize::try_from(n).expect("small");
    let mut content = vec![0; at(size)];
    for run in runs {
        let (piece, rest) = stored.split_at(at(run.len));
        content[at(run.offset)..at(run.offset) + piece.len()].copy_from_slice(piece);
        stored = rest;
    }
    content
}

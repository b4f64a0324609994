//! Damaged archives by the thousand: each is refused or can be rebuilt, none makes the reader panic.

use proptest::prelude::*;

use super::*;
use crate::Extent;

/// Archives with something of everything, for mutation.
fn seeds() -> Vec<Vec<u8>> {
    let sparse = EntryKind::File {
        size: 9000,
        extents: Some(vec![Extent {
            offset: 600,
            len: 700,
        }]),
    };
    let mut with_attributes = entry(&"d/".repeat(120), EntryKind::Dir);
    with_attributes
        .xattrs
        .insert((*b"user.k").into(), (*b"v\0\n").into());
    with_attributes.mtime = Time {
        seconds: -5,
        nanos: 7,
    };
    let ours = write(&[
        file("a", &[1; 700]),
        (entry("s", sparse), vec![2; 700]),
        (with_attributes, Vec::new()),
        (
            entry("l", EntryKind::Symlink([b't'; 200].into())),
            Vec::new(),
        ),
        (entry("h", EntryKind::HardLink(path("a"))), Vec::new()),
        (entry("w", EntryKind::Whiteout), Vec::new()),
    ]);
    let theirs = Raw::new()
        .pax(b'g', &[("comment", b"c"), ("uid", b"1")])
        .member(b'L', b"././@LongLink", &[b'n'; 200])
        .member(b'0', b"x", &[3; 600])
        .pax(
            b'x',
            &[
                ("GNU.sparse.size", b"99"),
                ("GNU.sparse.map", b"0,5,20,5"),
                ("GNU.sparse.name", b"z"),
            ],
        )
        .member(b'0', b"y", &[4; 10])
        .edited(b'S', b"old", b"", 512, |block| {
            block[257..265].copy_from_slice(b"ustar  \0");
            block[386..410].copy_from_slice(b"00000001000\x0000000001000\0");
            block[483..495].copy_from_slice(b"00000010000\0");
        })
        .data(&[5; 512])
        .end();
    vec![ours, theirs]
}

/// Takes an archive apart that may be anything: it must be refused, or rebuild.
fn survive(archive: &[u8]) -> Result<(), TestCaseError> {
    let limits = Limits {
        unplaced_bytes_max: 1 << 20,
        ..Limits::default()
    };
    if let Ok(parts) = take_apart(archive, &limits, 1000) {
        prop_assert!(parts.rebuild() == archive);
    }
    Ok(())
}

/// Sets the checksums of all blocks right that look like headers, so that damage gets past them.
fn fix_checksums(archive: &mut [u8]) {
    for block in archive.as_chunks_mut::<512>().0 {
        if &block[257..262] == b"ustar" {
            block[148..156].copy_from_slice(b"        ");
            let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn random_bytes_are_refused_or_rebuilt(archive in proptest::collection::vec(any::<u8>(), 0..3000)) {
        survive(&archive)?;
    }

    #[test]
    fn mutated_archives_are_refused_or_rebuilt(
        seed in 0_usize..2,
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12),
        digits in proptest::collection::vec((any::<prop::sample::Index>(), b'0'..=b'9'), 0..6),
        cut in any::<prop::sample::Index>(),
        whole in any::<bool>(),
    ) {
        let mut archive = seeds().swap_remove(seed);
        for (place, byte) in edits.into_iter().chain(digits) {
            let place = place.index(archive.len());
            archive[place] = byte;
        }
        fix_checksums(&mut archive);
        if !whole {
            archive.truncate(cut.index(archive.len()));
        }
        survive(&archive)?;
    }
}

#[test]
fn every_cut_of_an_archive_is_refused_or_rebuilt() {
    for archive in seeds() {
        let mut members = 0;
        for len in 0..archive.len() {
            if let Ok(parts) = take_apart(&archive[..len], &Limits::default(), 1000) {
                // Or within the zeros at the end, once a block of them is there.
                assert!(len % 512 == 0 || len > archive.len() - 512, "cut at {len}");
                assert!(parts.rebuild() == archive[..len]);
                members = members.max(parts.members.len());
            }
        }
        assert_eq!(members, read(&archive).len());
    }
}

//! Archives that are wrong, strange or made to hurt: a clear answer for each, and never a panic.

use proptest::prelude::*;

use super::*;
use crate::Extent;

fn kinds(archive: &[u8]) -> Vec<(String, EntryKind)> {
    read(archive)
        .into_iter()
        .map(|(entry, _)| (spell(&entry), entry.kind))
        .collect()
}

fn plain(size: u64) -> EntryKind {
    EntryKind::File {
        size,
        extents: None,
    }
}

#[test]
fn a_truncated_archive_names_the_entry_and_the_byte() {
    let archive = Raw::new()
        .member(b'0', b"first", b"1")
        .member(b'0', b"etc/passwd", &[b'x'; 1000])
        .end();
    let cases = [
        (100, "archive is truncated within the header of byte 0"),
        (
            512,
            "archive is truncated within the content of entry \"first\" at byte 0",
        ),
        (
            513,
            "archive is truncated within the padding of entry \"first\" at byte 0",
        ),
        (1025, "archive is truncated within the header of byte 1024"),
        (
            1536,
            "archive is truncated within the content of entry \"etc/passwd\" at byte 1024",
        ),
        (
            2000,
            "archive is truncated within the content of entry \"etc/passwd\" at byte 1024",
        ),
    ];
    for (len, text) in cases {
        assert_eq!(refuse(&archive[..len]).to_string(), text, "{len}");
    }
    // At a block's border the end blocks are only missing.
    for (len, count) in [(0, 0), (1024, 1), (2560, 2), (3072, 2)] {
        assert_eq!(read(&archive[..len]).len(), count, "{len}");
    }
}

#[test]
fn what_follows_the_end_is_kept() {
    let mut archive = Raw::new().member(b'0', b"a", b"1").end();
    archive.extend_from_slice(b"anything, of any length");
    assert_eq!(read(&archive).len(), 1);
    archive.resize(1 << 20, 0);
    assert_eq!(read(&archive).len(), 1);
    let limits = Limits {
        unplaced_bytes_max: 1000,
        ..Limits::default()
    };
    let error = refuse_within(&archive, &limits);
    assert!(
        matches!(
            error,
            ArchiveError::LimitExceeded {
                limit: "unplaced_bytes_max",
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn entries_behind_a_lone_block_of_zeros_are_refused() {
    let archive = Raw::new()
        .member(b'0', b"a", b"1")
        .data(&[0; 512])
        .member(b'0', b"hidden", b"1")
        .end();
    assert!(matches!(refuse(&archive), ArchiveError::BadHeader { .. }));
    assert_eq!(
        read(&Raw::new().member(b'0', b"a", b"1").data(&[0; 512]).0).len(),
        1
    );
}

#[test]
fn garbage_is_no_header() {
    let error = refuse(&[b'x'; 2048]);
    assert_eq!(
        error.to_string(),
        "no valid tar header at byte 0: checksum does not match"
    );
    let archive = Raw::new().member(b'0', b"a", b"1").data(&[b'x'; 512]).end();
    assert!(matches!(refuse(&archive), ArchiveError::BadChecksum { at } if at.offset == 1024));
}

#[test]
fn a_pax_size_decides_where_the_next_header_is() {
    // CVE-2025-62518, CVE-2026-33055: a header that says 0 hides the archive in the file from those who believe it.
    let inner = Raw::new().member(b'0', b"smuggled", b"!").end();
    let size = inner.len().to_string();
    let archive = Raw::new()
        .pax(b'x', &[("size", size.as_bytes())])
        .header(b'0', b"nested.tar", b"", 0)
        .data(&inner);
    let archive = archive.member(b'0', b"after", b"1").end();
    let size = u64::try_from(inner.len()).unwrap();
    assert_eq!(
        kinds(&archive),
        [
            ("nested.tar".into(), plain(size)),
            ("after".into(), plain(1))
        ]
    );
}

#[test]
fn a_pax_size_is_not_the_extension_headers_own() {
    let archive = Raw::new()
        .pax(b'x', &[("size", b"3"), ("path", b"long")])
        .member(b'L', b"././@LongLink", &[&[b'n'; 200][..], b"\0"].concat())
        .header(b'0', b"short", b"", 0)
        .data(b"abc")
        .end();
    assert_eq!(kinds(&archive), [("n".repeat(200), plain(3))]);
}

#[test]
fn a_link_with_a_size_never_shifts_what_follows() {
    for kind in [b'1', b'2', b'5', b'3', b'6'] {
        // Most writers repeat the target's size, and no data follows.
        let archive = Raw::new()
            .header(kind, b"l", b"t", 700)
            .member(b'0', b"after", b"1")
            .end();
        assert_eq!(
            kinds(&archive).last(),
            Some(&("after".into(), plain(1))),
            "{}",
            char::from(kind)
        );
        assert_eq!(
            kinds(&Raw::new().header(kind, b"l", b"t", 700).end()).len(),
            1
        );
        assert_eq!(kinds(&Raw::new().header(kind, b"l", b"t", 700).0).len(), 1);
        // POSIX lets data follow.
        let archive = Raw::new()
            .header(kind, b"l", b"t", 700)
            .data(&[b'd'; 700])
            .member(b'0', b"after", b"1")
            .end();
        assert_eq!(
            kinds(&archive).last(),
            Some(&("after".into(), plain(1))),
            "{}",
            char::from(kind)
        );
        assert_eq!(kinds(&archive).len(), 2);
    }
}

#[test]
fn global_records_hold_until_they_are_replaced() {
    let archive = Raw::new()
        .pax(
            b'g',
            &[
                ("comment", b"0123456789abcdef"),
                ("uid", b"7"),
                ("gid", b"8"),
                ("mtime", b"5.5"),
            ],
        )
        .member(b'0', b"a", b"")
        .pax(b'x', &[("uid", b"9"), ("gid", b"")])
        .member(b'0', b"b", b"")
        .pax(b'g', &[("uid", b""), ("gid", b"3000000000")])
        .member(b'0', b"c", b"")
        .end();
    let owners: Vec<_> = read(&archive)
        .into_iter()
        .map(|(entry, _)| (entry.uid, entry.gid, entry.mtime.nanos))
        .collect();
    assert_eq!(
        owners,
        [
            (7, 8, 500_000_000),
            (9, 0, 500_000_000),
            (0, 3_000_000_000, 500_000_000)
        ]
    );
}

#[test]
fn global_records_cannot_multiply_without_bound() {
    let value = vec![b'v'; 5000];
    let archive = Raw::new()
        .pax(b'g', &[("SCHILY.xattr.user.big", &value)])
        .member(b'0', b"a", b"")
        .end();
    let error = refuse(&archive);
    assert!(
        matches!(
            error,
            ArchiveError::LimitExceeded {
                limit: "global_bytes_max",
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn extension_headers_before_nothing_mean_nothing() {
    assert!(read(&Raw::new().pax(b'x', &[("path", b"ghost")]).end()).is_empty());
    assert!(read(&Raw::new().pax(b'x', &[("path", b"ghost")]).0).is_empty());
    assert!(read(&Raw::new().member(b'L', b"././@LongLink", b"ghost\0").end()).is_empty());
}

#[test]
fn types_that_are_no_entries_are_passed_over() {
    let archive = Raw::new()
        .member(b'V', b"label", b"")
        .member(b'D', b"dump/", b"Yname\0\0")
        .member(b'7', b"c7", b"7");
    let archive = archive
        .member(0, b"c0", b"0")
        .member(0, b"old/", b"")
        .member(b'0', b"slash/", b"");
    let expected = [
        ("dump", EntryKind::Dir),
        ("c7", plain(1)),
        ("c0", plain(1)),
        ("old", EntryKind::Dir),
        ("slash", EntryKind::Dir),
    ];
    assert_eq!(
        kinds(&archive.end()),
        expected.map(|(name, kind)| (name.to_owned(), kind))
    );
    for kind in [b'8', b'M', b'Z', 0xff] {
        let error = refuse(&Raw::new().member(kind, b"odd", b"1").end());
        assert!(
            matches!(&error, ArchiveError::UnsupportedType { at, .. } if at.entry.as_deref() == Some("odd")),
            "{error}"
        );
    }
}

#[test]
fn leftovers_of_aufs_are_passed_over_and_kept() {
    let archive = Raw::new()
        .member(b'5', b".wh..wh.plnk/", b"")
        .member(b'0', b".wh..wh.plnk/1.2", b"x")
        .member(b'0', b".wh..wh.aufs", b"some data")
        .member(b'5', b".wh..wh.orph/", b"")
        .member(b'0', b"real", b"1")
        .end();
    assert_eq!(
        kinds(&archive),
        [
            (".wh..wh.plnk/1.2".into(), plain(1)),
            ("real".into(), plain(1))
        ]
    );
}

#[test]
fn markers_may_have_content_and_any_type() {
    let archive = Raw::new()
        .member(b'0', b"a/.wh.x", b"junk")
        .member(b'5', b".wh.d/", b"");
    let archive = archive
        .link(b'2', b".wh.l", b"t")
        .member(b'0', b"a/.wh..wh..opq", b"y")
        .end();
    let expected = [
        ("a/x", EntryKind::Whiteout),
        ("d", EntryKind::Whiteout),
        ("l", EntryKind::Whiteout),
        ("a", EntryKind::Opaque),
    ];
    assert_eq!(
        kinds(&archive),
        expected.map(|(name, kind)| (name.to_owned(), kind))
    );
}

#[test]
fn names_that_are_none_are_refused_and_named() {
    let long = [b'n'; 256];
    let cases = [
        (Raw::new().member(b'0', b"", b""), "empty name"),
        (
            Raw::new().member(b'0', b"./", b"").member(b'0', b".", b""),
            "only a directory can be the root",
        ),
        (
            Raw::new()
                .pax(b'x', &[("path", b"a\0b")])
                .member(b'0', b"a", b""),
            "NUL byte",
        ),
        (
            Raw::new()
                .pax(b'x', &[("path", &long)])
                .member(b'0', b"a", b""),
            "longer than 255",
        ),
        (
            Raw::new().member(b'0', b"a/.wh.", b""),
            "nothing behind .wh.",
        ),
        (Raw::new().member(b'0', b".wh...", b""), "names no entry"),
        (Raw::new().link(b'2', b"l", b""), "no target"),
        (
            Raw::new()
                .pax(b'x', &[("linkpath", &[b't'; 4096])])
                .link(b'2', b"l", b""),
            "no target",
        ),
        (Raw::new().link(b'1', b"l", b""), "empty name"),
        (Raw::new().link(b'1', b"l", b"/"), "hard link to the root"),
    ];
    for (archive, reason) in cases {
        let text = refuse(&archive.end()).to_string();
        assert!(text.contains(reason), "{reason}: {text}");
    }
}

#[test]
fn every_limit_is_held_and_named() {
    let none = Limits::default();
    let sparse_map: Vec<u8> = (0..20)
        .flat_map(|n| format!("{},1,", n * 2).into_bytes())
        .collect();
    let sparse_map = &sparse_map[..sparse_map.len() - 1];
    let cases = [
        (
            "layer_bytes_max",
            Limits {
                layer_bytes_max: 2000,
                ..none.clone()
            },
            Raw::new().member(b'0', b"a", &[1; 5000]),
        ),
        (
            "entries_max",
            Limits {
                entries_max: 1,
                ..none.clone()
            },
            Raw::new().member(b'0', b"a", b"").member(b'0', b"b", b""),
        ),
        (
            "extension_bytes_max",
            Limits {
                extension_bytes_max: 100,
                ..none.clone()
            },
            Raw::new()
                .pax(b'x', &[("path", &[b'a'; 200])])
                .member(b'0', b"a", b""),
        ),
        (
            "extension_bytes_max",
            Limits {
                extension_bytes_max: 100,
                ..none.clone()
            },
            Raw::new()
                .member(b'L', b"././@LongLink", &[b'a'; 200])
                .member(b'0', b"a", b""),
        ),
        (
            "depth_max",
            Limits {
                depth_max: 2,
                ..none.clone()
            },
            Raw::new().member(b'0', b"a/b/c", b""),
        ),
        (
            "xattr_bytes_max",
            Limits {
                xattr_bytes_max: 2,
                ..none.clone()
            },
            Raw::new()
                .pax(b'x', &[("SCHILY.xattr.user.a", b"123")])
                .member(b'0', b"a", b""),
        ),
        (
            "xattrs_bytes_max",
            Limits {
                xattrs_bytes_max: 20,
                ..none.clone()
            },
            Raw::new()
                .pax(
                    b'x',
                    &[
                        ("SCHILY.xattr.user.a", b"123"),
                        ("SCHILY.xattr.user.b", b"123"),
                    ],
                )
                .member(b'0', b"a", b""),
        ),
        (
            "extents_max",
            Limits {
                extents_max: 10,
                ..none.clone()
            },
            Raw::new()
                .pax(
                    b'x',
                    &[
                        ("GNU.sparse.major", b"1"),
                        ("GNU.sparse.minor", b"0"),
                        ("GNU.sparse.realsize", b"99"),
                    ],
                )
                .member(b'0', b"a", &[b"11\n".as_slice(), &[0; 600]].concat()),
        ),
        (
            "unplaced_bytes_max",
            Limits {
                unplaced_bytes_max: 3,
                ..none.clone()
            },
            Raw::new().member(b'V', b"a", b"1234"),
        ),
    ];
    for (name, limits, archive) in cases {
        let error = refuse_within(&archive.end(), &limits);
        assert!(
            matches!(&error, ArchiveError::LimitExceeded { limit, .. } if *limit == name),
            "{name}: {error}"
        );
    }
    let archive = Raw::new()
        .pax(
            b'x',
            &[("GNU.sparse.size", b"99"), ("GNU.sparse.map", sparse_map)],
        )
        .member(b'0', b"a", &[1; 20]);
    assert_eq!(read(&archive.end()).len(), 1);
}

#[test]
fn an_extension_header_claims_no_memory() {
    // It says a gigabyte and ends: with the limit raised, only what is there is read.
    let limits = Limits {
        extension_bytes_max: u64::MAX,
        ..Limits::default()
    };
    let error = refuse_within(&Raw::new().header(b'x', b"pax", b"", 1 << 32).0, &limits);
    assert!(
        matches!(
            error,
            ArchiveError::Truncated {
                what: "extension header",
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn sparse_maps_that_lie_are_refused() {
    let one = |records: &[(&str, &[u8])], data: &[u8]| {
        Raw::new().pax(b'x', records).member(b'0', b"s", data).end()
    };
    let v1: [(&str, &[u8]); 3] = [
        ("GNU.sparse.major", b"1"),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.realsize", b"99"),
    ];
    let cases = [
        one(
            &[("GNU.sparse.size", b"10"), ("GNU.sparse.map", b"0,5")],
            b"1234",
        ),
        one(
            &[("GNU.sparse.size", b"3"), ("GNU.sparse.map", b"0,5")],
            b"12345",
        ),
        one(
            &[
                ("GNU.sparse.size", b"99999999999999999999"),
                ("GNU.sparse.map", b"0,5"),
            ],
            b"12345",
        ),
        one(
            &[
                ("GNU.sparse.size", b"18446744073709551615"),
                ("GNU.sparse.map", b"0,5"),
            ],
            b"12345",
        ),
        one(&[("GNU.sparse.map", b"0,5")], b"12345"),
        one(&v1, b""),
        one(&v1, &[b'1'; 1024]),
        one(&v1, &[b"1\n0\n5\n".as_slice(), &[0; 506], b"1234"].concat()),
    ];
    for archive in cases {
        let error = refuse(&archive);
        assert!(
            matches!(
                error,
                ArchiveError::BadSparse { .. } | ArchiveError::BadPax { .. }
            ),
            "{error}"
        );
    }
    let good = one(
        &v1,
        &[b"1\n0\n5\n".as_slice(), &[0; 506], b"12345"].concat(),
    );
    let runs = vec![Extent { offset: 0, len: 5 }];
    assert_eq!(
        kinds(&good),
        [(
            "s".into(),
            EntryKind::File {
                size: 99,
                extents: Some(runs)
            }
        )]
    );
}

#[test]
fn a_sparse_file_under_a_markers_name_does_not_shift_what_follows() {
    let v1: [(&str, &[u8]); 4] = [
        ("GNU.sparse.major", b"1"),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.realsize", b"99"),
        ("GNU.sparse.name", b".wh..wh.aufs"),
    ];
    let archive = Raw::new().pax(b'x', &v1).member(
        b'0',
        b"s",
        &[b"1\n0\n5\n".as_slice(), &[0; 506], b"12345"].concat(),
    );
    assert_eq!(
        kinds(&archive.member(b'0', b"after", b"").end()),
        [("after".into(), plain(0))]
    );
}

#[test]
fn owners_and_times_beyond_octal() {
    let base256 = |value: i64| {
        let mut field = [if value < 0 { 0xff } else { 0x80 }; 12];
        field[1..4].fill(if value < 0 { 0xff } else { 0 });
        field[4..].copy_from_slice(&value.to_be_bytes());
        field
    };
    let archive = Raw::new().edited(b'0', b"f", b"", 0, |block| {
        block[108..116].copy_from_slice(&base256(3_000_000_000)[4..]);
        block[108] = 0x80;
        block[116..124].copy_from_slice(&base256(-2)[4..]);
        block[136..148].copy_from_slice(&base256(-100));
    });
    let (entry, _) = read(&archive.end()).remove(0);
    assert_eq!((entry.uid, entry.gid), (3_000_000_000, 4_294_967_294));
    assert_eq!(
        entry.mtime,
        Time {
            seconds: -100,
            nanos: 0
        }
    );
    for (range, field) in [
        (108..116, "uid"),
        (116..124, "gid"),
        (124..136, "size"),
        (136..148, "mtime"),
        (100..108, "mode"),
    ] {
        let archive = Raw::new().edited(b'0', b"f", b"", 0, |block| block[range].fill(b'9'));
        let error = refuse(&archive.end());
        assert_eq!(
            error.to_string(),
            format!("invalid {field} of entry \"f\" at byte 0")
        );
    }
    let overflow = Raw::new()
        .pax(b'x', &[("uid", b"4294967296")])
        .member(b'0', b"f", b"")
        .end();
    assert!(matches!(refuse(&overflow), ArchiveError::BadPax { .. }));
}

#[test]
fn errors_of_both_ends_come_through() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("wire cut"))
        }
    }
    let error = take_apart(Broken, &Limits::default(), 10).err().unwrap();
    assert_eq!(error.to_string(), "cannot read archive, byte 0: wire cut");
    struct Full;
    impl io::Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let archive = Raw::new().member(b'0', b"a", b"").end();
    let error = Reader::new(archive.as_slice(), Full, Limits::default())
        .next_entry()
        .unwrap_err();
    assert!(
        matches!(error, ArchiveError::Headers { source, .. } if source.kind() == io::ErrorKind::StorageFull)
    );
}

#[test]
fn unread_content_is_passed_over() {
    let archive = Raw::new()
        .member(b'0', b"a", &[1; 1000])
        .member(b'0', b"b", b"2")
        .end();
    let mut reader = Reader::new(archive.as_slice(), io::sink(), Limits::default());
    assert!(reader.next_entry().unwrap().is_some());
    let mut buf = [0; 10];
    assert_eq!(reader.read_content(&mut buf).unwrap(), 10);
    assert_eq!(spell(&reader.next_entry().unwrap().unwrap()), "b");
    assert_eq!(reader.read_content(&mut buf).unwrap(), 1);
    assert_eq!(buf[0], b'2');
}

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
                assert_eq!(len % 512, 0, "cut at {len}");
                assert!(parts.rebuild() == archive[..len]);
                members = members.max(parts.members.len());
            }
        }
        assert_eq!(members, read(&archive).len());
    }
}

//! Archives that are wrong or strange: a clear answer for each.

use super::*;

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

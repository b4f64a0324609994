//! Archives made to hurt: every limit is held to, and no map of a sparse file is believed.

use super::*;
use crate::Extent;

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
                xattrs_bytes_max: 15,
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
        Raw::new().member(b'S', b"star", b"").end(),
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

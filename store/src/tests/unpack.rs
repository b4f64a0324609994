//! Archives in: verified, bounded, rebuilt bit for bit, and without a trace when refused.

use std::io::{Cursor, Read, Write};

use super::support::{TempStore, image, layer};
use crate::{ArchiveId, DiffId, Digest, Error, Expected, Options};

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

/// A tar with a file too large for the database, small ones, an empty one, and odd padding at its end.
fn rich_tar() -> Vec<u8> {
    let large = "large ".repeat(50_000);
    let mut tar = layer(&[
        "d etc",
        "f etc/a hello",
        "f etc/same hello",
        "f empty",
        "l link etc/a",
        &format!("f etc/large {large}"),
        "h hard etc/large",
        "w gone",
        "f last x",
    ]);
    tar.extend_from_slice(&[0; 5000]);
    tar.extend_from_slice(b"trailing bytes that count for the digest");
    tar
}

#[test]
fn tar_is_rebuilt_bit_for_bit() {
    let tar = rich_tar();
    for archive in [gzip(&tar), tar.clone()] {
        let store = TempStore::new();
        let unpacked = store
            .unpack(archive.as_slice(), &Expected::default(), &|_| {})
            .unwrap();
        assert_eq!(unpacked.archive, ArchiveId(Digest::of(&archive)));
        assert_eq!(unpacked.diff, DiffId(Digest::of(&tar)));
        assert_eq!(unpacked.content_bytes, 300_000 + 5 + 5 + 1);
        let mut rebuilt = Vec::new();
        store
            .tar(&unpacked.diff)
            .unwrap()
            .read_to_end(&mut rebuilt)
            .unwrap();
        assert!(rebuilt == tar, "rebuilt tar differs");
    }
}

#[test]
fn what_arrived_and_was_not_settled_leaves_no_trace() {
    let store = TempStore::new();
    let before = store.inventory();
    let packed = gzip(&rich_tar());
    let arrive = || store.arrive(packed.as_slice(), &Expected::default(), &|_| {});
    let arrived = arrive().unwrap();
    let archive = ArchiveId(Digest::of(&packed));
    assert!(store.unpacked_by_archive(&archive).unwrap().is_none());
    drop(arrived);
    assert_eq!(store.inventory(), before);
    // Two of one layer, of which the other is settled meanwhile.
    let (one, other) = (arrive().unwrap(), arrive().unwrap());
    drop(other.settle().unwrap());
    drop(one);
    assert!(store.unpacked_by_archive(&archive).unwrap().is_some());
    assert_eq!(store.check().unwrap().faults, Vec::<String>::new());
}

#[test]
fn archives_are_given_up_for_good_or_never_kept_and_the_layers_stay() {
    let mut store = TempStore::new();
    let tar = rich_tar();
    let packed = gzip(&tar);
    image(&store, std::slice::from_ref(&packed), "x:1").unwrap();
    let archive = ArchiveId(Digest::of(&packed));
    let whole = |store: &TempStore| {
        let mut rebuilt = Vec::new();
        let diff = store.unpacked_by_archive(&archive).unwrap().unwrap().diff;
        store.tar(&diff).unwrap().read_to_end(&mut rebuilt).unwrap();
        assert!(rebuilt == tar, "rebuilt tar differs");
        assert!(store.archive(&archive).unwrap().is_none());
        assert_eq!(store.check().unwrap().faults, Vec::<String>::new());
    };
    let open = store.archive(&archive).unwrap().unwrap();
    let given_up = store.reclaim_archives().unwrap();
    let bytes = packed.len() as u64;
    assert_eq!((given_up.archives, given_up.bytes), (1, bytes));
    assert_eq!(
        std::io::copy(&mut &open, &mut std::io::sink()).unwrap(),
        bytes
    );
    drop(open);
    whole(&store);
    assert_eq!(store.reclaim_archives().unwrap().archives, 0);

    // What comes again is kept again, unless the store was told not to.
    store
        .unpack(packed.as_slice(), &Expected::default(), &|_| {})
        .unwrap();
    assert!(store.archive(&archive).unwrap().is_some());
    store.reclaim_archives().unwrap();
    store.reopen_with(Options {
        keep_archives: Some(false),
        ..Options::default()
    });
    store
        .unpack(packed.as_slice(), &Expected::default(), &|_| {})
        .unwrap();
    whole(&store);
}

#[test]
fn archive_as_received_is_kept_unless_it_is_a_plain_tar() {
    let store = TempStore::new();
    let tar = rich_tar();
    let packed = gzip(&tar);
    let unpacked = store
        .unpack(packed.as_slice(), &Expected::default(), &|_| {})
        .unwrap();
    assert_eq!(unpacked.archive, ArchiveId(Digest::of(&packed)));
    assert_eq!(unpacked.archive_bytes, packed.len() as u64);
    let mut kept = Vec::new();
    store
        .archive(&unpacked.archive)
        .unwrap()
        .unwrap()
        .read_to_end(&mut kept)
        .unwrap();
    assert!(kept == packed, "kept archive differs");
    let plain = store
        .unpack(tar.as_slice(), &Expected::default(), &|_| {})
        .unwrap();
    assert_eq!(plain.archive.0, plain.diff.0);
    assert!(store.archive(&plain.archive).unwrap().is_none());
    // Both wrappings lead to the same layer.
    for archive in [unpacked.archive, plain.archive] {
        assert_eq!(
            store.unpacked_by_archive(&archive).unwrap().unwrap().diff,
            plain.diff
        );
    }
    assert_eq!(
        store
            .unpacked_by_diff(&plain.diff)
            .unwrap()
            .unwrap()
            .archive,
        unpacked.archive
    );
    assert_eq!(store.check().unwrap().faults, Vec::<String>::new());
}

#[test]
fn refused_archives_leave_no_trace() {
    let store = TempStore::new();
    let before = store.inventory();
    let tar = rich_tar();
    let packed = gzip(&tar);
    let wrong = Digest::of(b"something else");
    let archive = Some(ArchiveId(Digest::of(&packed)));
    let size = Some(packed.len() as u64);
    let cases: Vec<(&str, Vec<u8>, Expected)> = vec![
        (
            "archive digest",
            packed.clone(),
            Expected {
                archive: Some(ArchiveId(wrong)),
                size,
                diff: None,
            },
        ),
        (
            "DiffID",
            packed.clone(),
            Expected {
                archive,
                size,
                diff: Some(DiffId(wrong)),
            },
        ),
        (
            "DiffID of a plain tar",
            tar.clone(),
            Expected {
                diff: Some(DiffId(wrong)),
                ..Expected::default()
            },
        ),
        (
            "too long",
            packed.clone(),
            Expected {
                size: Some(10),
                ..Expected::default()
            },
        ),
        (
            "too short",
            packed.clone(),
            Expected {
                size: Some(1 << 30),
                ..Expected::default()
            },
        ),
        (
            "truncated",
            packed[..packed.len() / 2].to_vec(),
            Expected::default(),
        ),
        (
            "truncated tar",
            tar[..tar.len() / 2].to_vec(),
            Expected::default(),
        ),
        (
            "garbage",
            b"no archive at all".repeat(1000),
            Expected::default(),
        ),
        (
            "garbage in gzip",
            gzip(&b"no tar at all".repeat(1000)),
            Expected::default(),
        ),
    ];
    for (what, bytes, expected) in cases {
        let error = store.unpack(bytes.as_slice(), &expected, &|_| {}).err();
        assert!(error.is_some(), "{what} was taken");
        assert_eq!(store.inventory(), before, "{what} left a trace");
    }
}

#[test]
fn damaged_download_is_reported_by_its_digest() {
    let store = TempStore::new();
    let mut packed = gzip(&rich_tar());
    let promised = Digest::of(&packed);
    let middle = packed.len() / 2;
    packed[middle] ^= 0x55;
    let expected = Expected {
        archive: Some(ArchiveId(promised)),
        size: Some(packed.len() as u64),
        diff: None,
    };
    match store.unpack(packed.as_slice(), &expected, &|_| {}) {
        Err(Error::DigestMismatch {
            expected, actual, ..
        }) => {
            assert_eq!((expected, actual), (promised, Digest::of(&packed)));
        }
        other => panic!("{:?}", other.err()),
    }
}

#[test]
fn reader_that_fails_is_the_error() {
    struct Failing;
    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("connection reset"))
        }
    }
    let store = TempStore::new();
    let before = store.inventory();
    let tar = rich_tar();
    let error = store
        .unpack(
            Cursor::new(&tar[..4096]).chain(Failing),
            &Expected::default(),
            &|_| {},
        )
        .err()
        .unwrap();
    assert!(
        matches!(&error, Error::Input { source, .. } if source.to_string() == "connection reset"),
        "{error}"
    );
    assert_eq!(store.inventory(), before);
}

#[test]
fn progress_is_the_bytes_as_received() {
    let store = TempStore::new();
    let packed = gzip(&rich_tar());
    let seen = std::cell::Cell::new(0);
    store
        .unpack(packed.as_slice(), &Expected::default(), &|bytes| {
            seen.set(seen.get() + bytes)
        })
        .unwrap();
    assert_eq!(seen.get(), packed.len() as u64);
}

#[test]
fn same_layer_unpacked_at_once_is_kept_once() {
    let store = TempStore::new();
    let packed = gzip(&rich_tar());
    let all: Vec<_> = std::thread::scope(|scope| {
        let unpack = || {
            store
                .unpack(packed.as_slice(), &Expected::default(), &|_| {})
                .unwrap()
        };
        let threads: Vec<_> = (0..6).map(|_| scope.spawn(unpack)).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert!(all.iter().all(|u| u.diff == all[0].diff));
    assert_eq!(store.inner.db.records().unwrap().len(), 1);
    assert_eq!(store.check().unwrap().faults, Vec::<String>::new());
}

#[test]
fn blob_survives_while_pinned_and_goes_with_its_last_pin() {
    let store = TempStore::new();
    let before = store.inventory();
    for size in [0usize, 10, 64 << 10, (64 << 10) + 1, 5 << 20] {
        let content: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
        let (id, len, pin) = store.put_blob(content.as_slice(), size as u64).unwrap();
        let (again, _, second) = store.put_blob(content.as_slice(), 0).unwrap();
        assert_eq!((id.0, len), (Digest::of(&content), size as u64));
        assert_eq!(again, id);
        drop(pin);
        let mut read = vec![0; size];
        let blob = store.blob(&id).unwrap();
        let mut at = 0;
        while at < size {
            at += blob.read_at(&mut read[at..], at as u64).unwrap();
        }
        assert!(read == content, "content of {size} bytes");
        drop(second);
        assert!(
            matches!(store.blob(&id), Err(Error::NotFound { .. })),
            "{size} bytes"
        );
    }
    assert_eq!(store.inventory(), before);
}

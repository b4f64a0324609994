//! The bytes of records, fixed: a change here is a change of the format on disk.
#![expect(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;

use super::*;

fn name(text: &str) -> FileName {
    FileName::new(text.as_bytes()).unwrap()
}

fn file() -> Inode {
    let time = Time {
        seconds: -2,
        nanos: 5,
    };
    Inode {
        kind: Kind::File,
        mode: 0o4755,
        uid: 1000,
        gid: 3_000_000,
        rdev: 0,
        size: 300,
        atime: time,
        mtime: time,
        ctime: Time {
            seconds: 1_600_000_000,
            nanos: 999_999_999,
        },
        btime: time,
        content: Content::Blob(BlobId(Digest::from_bytes([7; 32]))),
        xattrs: [(b"user.a".as_slice().into(), b"\0\n".as_slice().into())].into(),
        links: vec![
            Link {
                parent: Ino(1),
                name: name("sh"),
            },
            Link {
                parent: Ino(300),
                name: name("\u{e9}"),
            },
        ],
        init: false,
    }
}

#[test]
fn bytes_of_an_inode_are_fixed() {
    let golden = concat!(
        "01",   // version
        "00",   // a file
        "05",   // atime and btime are mtime
        "ed13", // mode
        "e807",
        "c08db701", // owner, group
        "00",
        "ac02", // no device, size 300
        "03",
        "05", // mtime
        "80c0f0f50b",
        "ff93ebdc03", // ctime
        "02",
        "0707070707070707070707070707070707070707070707070707070707070707",
        "01",
        "06",
        "757365722e61",
        "02",
        "000a", // an extended attribute
        "02",
        "01",
        "02",
        "7368",
        "ac02",
        "02",
        "c3a9", // two links
    );
    assert_eq!(hex::encode(encode_inode(&file())), golden);
    assert_eq!(decode_inode(&hex::decode(golden).unwrap()), Some(file()));
}

#[test]
fn bytes_of_every_content_are_fixed() {
    let blob = BlobId(Digest::from_bytes([7; 32]));
    let seven = "07".repeat(32);
    let sparse = Content::Sparse {
        blob,
        extents: [
            Extent {
                offset: 4096,
                len: 10,
            },
            Extent {
                offset: 8192,
                len: 1,
            },
        ]
        .into(),
    };
    let cases = [
        (Content::None, "00".to_owned()),
        (
            Content::Symlink(b"/x".as_slice().into()),
            "01022f78".to_owned(),
        ),
        (Content::Blob(blob), format!("02{seven}")),
        (sparse.clone(), format!("03{seven}0280200af61f01")),
        (
            Content::Dir {
                pages: LayerNo(9),
                subdirs: 2,
            },
            "040902".to_owned(),
        ),
        (Content::Data, "05".to_owned()),
        (
            Content::Inline(b"abc".as_slice().into()),
            "0703616263".to_owned(),
        ),
        (
            Content::Chunked {
                base: Box::new(sparse),
                base_len: 128,
                present: vec![1, 0x80],
            },
            format!("0603{seven}0280200af61f018001020180"),
        ),
    ];
    for (content, golden) in cases {
        let mut out = Encoder::part();
        encode_content(&mut out, &content);
        let bytes = out.finish();
        assert_eq!(hex::encode(&bytes), golden);
        assert_eq!(
            decode_content(&mut Decoder::part(&bytes), true),
            Some(content)
        );
    }
}

#[test]
fn bytes_of_a_directory_page_are_fixed() {
    let entries = [
        DirEntry {
            name: name("lib"),
            ino: Ino(5),
            kind: Kind::Dir,
        },
        DirEntry {
            name: name("lib64"),
            ino: Ino(6),
            kind: Kind::Symlink,
        },
        DirEntry {
            name: name("media"),
            ino: Ino(700),
            kind: Kind::File,
        },
    ];
    let mut out = Encoder::new();
    let mut before: &[u8] = b"";
    for entry in &entries {
        encode_dir_entry(&mut out, before, entry);
        before = entry.name.as_bytes();
    }
    let bytes = out.finish();
    assert_eq!(
        hex::encode(&bytes),
        "0100036c6962050103023634060200056d65646961bc0500"
    );
    let mut decoded = Vec::new();
    assert_eq!(decode_dir_page(&bytes, &mut decoded), Some(()));
    assert_eq!(decoded, entries);
    // A page that goes back in the order is damage: binary search would miss names.
    assert_eq!(decode_dir_page(&bytes, &mut decoded), None);
}

#[test]
fn a_record_that_holds_more_than_records_hold_is_damage() {
    let mut out = Encoder::part();
    let bytes = vec![0; usize::try_from(INLINE_BYTES_MAX).unwrap() + 1];
    encode_content(&mut out, &Content::Inline(bytes.into()));
    let bytes = out.finish();
    assert_eq!(decode_content(&mut Decoder::part(&bytes), true), None);
}

#[test]
fn a_chunked_file_on_a_chunked_file_is_damage() {
    let inner = Content::Chunked {
        base: Box::new(Content::None),
        base_len: 0,
        present: vec![],
    };
    let outer = Content::Chunked {
        base: Box::new(inner),
        base_len: 0,
        present: vec![],
    };
    let mut out = Encoder::part();
    encode_content(&mut out, &outer);
    assert_eq!(
        decode_content(&mut Decoder::part(&out.finish()), true),
        None
    );
}

#[test]
fn another_version_is_refused() {
    let mut bytes = encode_inode(&file());
    bytes[0] = 2;
    assert_eq!(decode_inode(&bytes), None);
}

proptest! {
    #[test]
    fn numbers_come_back(unsigned: u64, signed: i64) {
        let mut out = Encoder::part();
        out.uint(unsigned).int(signed);
        let bytes = out.finish();
        let mut input = Decoder::part(&bytes);
        prop_assert_eq!(input.uint(), Some(unsigned));
        prop_assert_eq!(input.int(), Some(signed));
        prop_assert!(input.is_empty());
    }

    #[test]
    fn damaged_inodes_never_panic_and_never_pass_for_longer_ones(cut in 0usize..200, at in 0usize..200, to: u8) {
        let mut bytes = encode_inode(&file());
        let len = bytes.len();
        if cut < len {
            prop_assert_eq!(decode_inode(&bytes[..cut]), None);
        }
        bytes[at % len] = to;
        if let Some(inode) = decode_inode(&bytes) {
            prop_assert_eq!(encode_inode(&inode).len(), len);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut entries = Vec::new();
        // Nothing to compare: that this returns is the point, and what it returns must write back to itself.
        if let Some(inode) = decode_inode(&bytes) {
            prop_assert_eq!(decode_inode(&encode_inode(&inode)), Some(inode));
        }
        if decode_dir_page(&bytes, &mut entries).is_some() {
            prop_assert!(entries.is_sorted_by(|a, b| a.name < b.name));
        }
    }
}

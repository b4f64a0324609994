//! Archives made of generated entries, by our writer and by the `tar` crate: read back the same, rebuilt bit for bit.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::*;
use crate::Extent;

fn name() -> impl Strategy<Value = FileName> {
    prop_oneof![
        8 => "[a-z.]{1,8}".prop_map(String::into_bytes),
        1 => vec(1_u8.., 1..255),
        1 => "[n]{90,255}".prop_map(String::into_bytes),
    ]
    .prop_filter_map("no file name", |bytes| {
        FileName::new(&bytes)
            .ok()
            .filter(|name| !name.as_bytes().starts_with(b".wh."))
    })
}

fn names() -> impl Strategy<Value = Vec<FileName>> {
    vec(name(), 1..6)
}

/// Runs that neither touch nor fill the file, each from a gap and a length.
fn sparse() -> impl Strategy<Value = EntryKind> {
    (
        vec((1_u64..3000, 1_u64..3000), 0..8),
        prop_oneof![Just(0_u64), 1_u64..5000, Just(1 << 40)],
    )
        .prop_map(|(gaps, tail)| {
            let mut end = 0;
            let mut runs = Vec::new();
            for (gap, len) in gaps {
                runs.push(Extent {
                    offset: end + gap,
                    len,
                });
                end += gap + len;
            }
            let size = (end + tail).max(1);
            EntryKind::File {
                size,
                extents: Some(runs),
            }
        })
}

fn kind() -> impl Strategy<Value = EntryKind> {
    prop_oneof![
        4 => (0_u64..3000).prop_map(|size| EntryKind::File { size, extents: None }),
        2 => sparse(),
        1 => Just(EntryKind::Dir),
        1 => vec(1_u8.., 1..300).prop_map(|target| EntryKind::Symlink(target.into())),
        1 => names().prop_map(EntryKind::HardLink),
        1 => (0_u32..4096, 0_u32..1 << 20).prop_map(|(major, minor)| EntryKind::Char(rustix::fs::makedev(major, minor))),
        1 => (0_u32..4096, 0_u32..1 << 20).prop_map(|(major, minor)| EntryKind::Block(rustix::fs::makedev(major, minor))),
        1 => Just(EntryKind::Fifo),
        1 => Just(EntryKind::Whiteout),
        1 => Just(EntryKind::Opaque),
    ]
}

fn time() -> impl Strategy<Value = Time> {
    let seconds = prop_oneof![
        0_i64..1 << 33,
        any::<i64>().prop_filter("no magnitude", |s| *s > i64::MIN)
    ];
    (seconds, prop_oneof![Just(0_u32), 0_u32..1_000_000_000])
        .prop_map(|(seconds, nanos)| Time { seconds, nanos })
}

fn owner() -> impl Strategy<Value = u32> {
    prop_oneof![0_u32..2000, 0..u32::MAX]
}

fn xattrs() -> impl Strategy<Value = BTreeMap<Box<[u8]>, Box<[u8]>>> {
    let name =
        "(user|security|trusted)\\.[a-z=%\n]{1,20}".prop_map(|name| name.into_bytes().into());
    prop_oneof![3 => Just(BTreeMap::new()), 1 => btree_map(name, vec(any::<u8>(), 0..300).prop_map(Into::into), 0..4)]
}

fn member() -> impl Strategy<Value = Member> {
    (
        names(),
        kind(),
        0_u16..0o10000,
        owner(),
        owner(),
        time(),
        xattrs(),
        any::<u64>(),
    )
        .prop_map(|(path, kind, mode, uid, gid, mtime, xattrs, seed)| {
            let content = (0..kind.stored_bytes())
                .map(|n| (n ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()[0]);
            let content = content.collect();
            (
                Entry {
                    path,
                    kind,
                    mode,
                    uid,
                    gid,
                    mtime,
                    xattrs,
                },
                content,
            )
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn what_is_written_is_read_and_rebuilt(members in vec(member(), 0..8), piece in 1_usize..5000) {
        let archive = write(&members);
        prop_assert_eq!(archive.len() % 512, 0);
        let parts = take_apart(archive.as_slice(), &Limits::default(), piece).unwrap();
        prop_assert_eq!(parts.members.len(), members.len());
        for ((_, (got, got_content)), (put, put_content)) in parts.members.iter().zip(&members) {
            // The writer widens runs to whole blocks: the file is the same, its map may not be.
            let (mut got, mut put) = (got.clone(), put.clone());
            if let (EntryKind::File { size, extents }, EntryKind::File { size: put_size, extents: Some(_) }) = (&mut got.kind, &mut put.kind) {
                prop_assert_eq!(*size, *put_size);
                if *size < 1 << 30 {
                    prop_assert_eq!(expand(&Entry { kind: EntryKind::File { size: *size, extents: extents.clone() }, ..entry("x", EntryKind::Fifo) }, got_content), expand(&put, put_content));
                }
                put.kind = EntryKind::Fifo;
                got.kind = EntryKind::Fifo;
            } else {
                prop_assert_eq!(got_content, put_content);
            }
            prop_assert_eq!(got, put);
        }
        prop_assert_eq!(parts.rebuild(), archive);
    }

    #[test]
    fn archives_of_the_tar_crate_are_read_and_rebuilt(
        files in vec(("[a-z]{1,60}(/[a-z]{1,60}){0,5}", vec(any::<u8>(), 0..2000), 0_u32..0o7777, any::<bool>()), 0..8),
        end in 0_usize..3,
    ) {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, content, mode, gnu) in &files {
            let mut header = if *gnu { tar::Header::new_gnu() } else { tar::Header::new_ustar() };
            header.set_mode(*mode);
            header.set_uid(7);
            header.set_gid(8);
            header.set_mtime(1_600_000_000);
            header.set_size(u64::try_from(content.len()).unwrap());
            if *gnu || header.set_path(name).is_ok() {
                builder.append_data(&mut header, name, content.as_slice()).unwrap();
            } else {
                let record = [("path", name.as_bytes())];
                builder.append_pax_extensions(record).unwrap();
                header.set_path("short").unwrap();
                header.set_cksum();
                builder.append(&header, content.as_slice()).unwrap();
            }
        }
        let mut archive = builder.into_inner().unwrap();
        // Without end blocks, with them, and filled up to a record.
        match end {
            0 => archive.truncate(archive.len() - 1024),
            1 => {}
            _ => archive.resize(archive.len().next_multiple_of(10240), 0),
        }
        let members = read(&archive);
        prop_assert_eq!(members.len(), files.len());
        for ((got, got_content), (name, content, mode, _)) in members.iter().zip(&files) {
            prop_assert_eq!(&spell(got), name);
            prop_assert_eq!(got_content, content);
            prop_assert_eq!((u32::from(got.mode), got.uid, got.gid), (*mode, 7, 8));
        }
    }
}

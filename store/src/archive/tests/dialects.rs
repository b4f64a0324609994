//! Other people's tars: what GNU tar and libarchive write is read, what we write is what GNU tar, libarchive and
//! umoci unpack. Real files in between, so that no two parsers can agree on a mistake.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use super::*;
use crate::Extent;

/// What a dialect can say.
#[derive(Clone, Copy)]
struct Says {
    nanos: bool,
    xattrs: bool,
}

const ALL: Says = Says {
    nanos: true,
    xattrs: true,
};

/// One of everything that a layer can hold and a plain file system too.
fn sample() -> Vec<Member> {
    let with = |mut entry: Entry, mode, uid, gid, seconds, nanos| {
        (entry.mode, entry.uid, entry.gid, entry.mtime) = (mode, uid, gid, Time { seconds, nanos });
        entry
    };
    let deep = format!(
        "{}/{}/{}",
        "p".repeat(200),
        "q".repeat(200),
        "n".repeat(255)
    );
    let runs = vec![
        Extent {
            offset: 1000,
            len: 5000,
        },
        Extent {
            offset: 300_000,
            len: 7,
        },
        Extent {
            offset: 999_000,
            len: 1000,
        },
    ];
    let sparse = EntryKind::File {
        size: 1_000_000,
        extents: Some(runs),
    };
    let tail = EntryKind::File {
        size: 2_000_000,
        extents: Some(vec![Extent {
            offset: 4096,
            len: 4096,
        }]),
    };
    let hole = EntryKind::File {
        size: 3_000_000,
        extents: Some(Vec::new()),
    };
    let mut attributes = file("attributes", b"x").0;
    attributes
        .xattrs
        .insert((*b"user.binary").into(), (*b"a=\0\n\xff").into());
    attributes
        .xattrs
        .insert((*b"user.text").into(), (*b"v").into());
    let (setuid, setuid_content) = file("d/setuid", &[7; 1000]);
    let (owned, owned_content) = file("owned", b"o");
    vec![
        (
            with(entry("d", EntryKind::Dir), 0o1777, 1, 2, 1_500_000_000, 0),
            Vec::new(),
        ),
        (
            with(setuid, 0o4755, 1000, 1001, 1_600_000_000, 123_456_789),
            setuid_content,
        ),
        file("empty", b""),
        (
            with(owned, 0o600, 2_500_000, 4_294_967_293, -100, 500_000_000),
            owned_content,
        ),
        file("raw\u{e9}", b"1"),
        file(&deep, b"deep"),
        (entry("links", EntryKind::Dir), Vec::new()),
        (
            entry("links/short", EntryKind::Symlink((*b"../d/setuid").into())),
            Vec::new(),
        ),
        (
            entry("links/long", EntryKind::Symlink([b't'; 300].into())),
            Vec::new(),
        ),
        (
            with(
                entry("links/hard", EntryKind::HardLink(path("d/setuid"))),
                0o4755,
                1000,
                1001,
                1_600_000_000,
                123_456_789,
            ),
            Vec::new(),
        ),
        (
            with(
                entry("links/deep", EntryKind::HardLink(path(&deep))),
                0o644,
                0,
                0,
                1_600_000_000,
                0,
            ),
            Vec::new(),
        ),
        (entry("fifo", EntryKind::Fifo), Vec::new()),
        (
            entry("char", EntryKind::Char(rustix::fs::makedev(259, 65_537))),
            Vec::new(),
        ),
        (
            entry("block", EntryKind::Block(rustix::fs::makedev(8, 1))),
            Vec::new(),
        ),
        (
            entry("sparse", sparse),
            (0..6007_u16).map(|n| n.to_be_bytes()[1] | 1).collect(),
        ),
        (entry("tail", tail), vec![9; 4096]),
        (entry("hole", hole), Vec::new()),
        (attributes, b"x".to_vec()),
    ]
}

/// Compares an entry with the file of that name below `root`.
fn compare(root: &Path, (entry, content): &Member, says: Says) {
    let name = spell(entry);
    let at = entry
        .path
        .iter()
        .fold(root.to_owned(), |at, name| at.join(name.as_os_str()));
    let stat = fs::symlink_metadata(&at).unwrap();
    assert_eq!((stat.uid(), stat.gid()), (entry.uid, entry.gid), "{name}");
    let mtime = Time {
        seconds: stat.mtime(),
        nanos: u32::try_from(stat.mtime_nsec()).unwrap(),
    };
    assert_eq!(mtime.seconds, entry.mtime.seconds, "{name}");
    if says.nanos {
        assert_eq!(mtime.nanos, entry.mtime.nanos, "{name}");
    }
    if !stat.is_symlink() {
        assert_eq!(stat.mode() & 0o7777, u32::from(entry.mode), "{name}");
    }
    match &entry.kind {
        EntryKind::File { size, .. } => {
            assert!(
                stat.is_file() && stat.len() == *size,
                "{name}: {} bytes, not {size}",
                stat.len()
            );
            assert!(
                fs::read(&at).unwrap() == expand(entry, content),
                "{name}: content differs"
            );
        }
        EntryKind::Dir => assert!(stat.is_dir(), "{name}"),
        EntryKind::Symlink(target) => assert_eq!(
            fs::read_link(&at).unwrap().as_os_str().as_bytes(),
            &**target,
            "{name}"
        ),
        EntryKind::HardLink(target) => {
            let target = target
                .iter()
                .fold(root.to_owned(), |at, name| at.join(name.as_os_str()));
            assert_eq!(
                stat.ino(),
                fs::symlink_metadata(target).unwrap().ino(),
                "{name}"
            );
        }
        EntryKind::Char(device) => assert!(
            stat.file_type().is_char_device() && stat.rdev() == *device,
            "{name}"
        ),
        EntryKind::Block(device) => assert!(
            stat.file_type().is_block_device() && stat.rdev() == *device,
            "{name}"
        ),
        EntryKind::Fifo => assert!(stat.file_type().is_fifo(), "{name}"),
        EntryKind::Whiteout | EntryKind::Opaque => panic!("{name}: a marker is no file"),
    }
    if says.xattrs {
        for (key, value) in &entry.xattrs {
            let mut buf = vec![0; 1000];
            let len = rustix::fs::lgetxattr(&at, &**key, &mut buf[..]).unwrap();
            assert_eq!(&buf[..len], &**value, "{name}");
        }
    }
}

/// Unpacks the sample with GNU tar.
fn unpacked() -> Option<tempfile::TempDir> {
    if !installed("tar") || !rustix::process::geteuid().is_root() {
        eprintln!("skipped: needs GNU tar and root");
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().to_str().unwrap();
    run(
        "tar",
        &[
            "-x",
            "-p",
            "--numeric-owner",
            "--xattrs",
            "--xattrs-include=*",
            "-C",
            root,
        ],
        &write(&sample()),
    );
    Some(dir)
}

#[test]
fn gnu_tar_unpacks_what_we_write() {
    let Some(dir) = unpacked() else { return };
    for member in sample() {
        compare(dir.path(), &member, ALL);
    }
    let sparse = fs::metadata(dir.path().join("hole")).unwrap();
    assert!(sparse.blocks() < 100, "holes are holes");
}

/// Packs `names` below `dir` with GNU tar and compares what we read with the files.
fn pack_and_compare(dir: &Path, args: &[&str], names: &[&str], says: Says) -> Vec<Member> {
    let base = [
        "-c",
        "--numeric-owner",
        "--no-recursion",
        "-C",
        dir.to_str().unwrap(),
    ];
    let archive = run("tar", &[&base, args, names].concat(), b"");
    let members = read(&archive);
    assert_eq!(members.len(), names.len(), "{args:?}");
    for member in &members {
        compare(dir, member, says);
    }
    members
}

#[test]
fn every_format_of_gnu_tar_is_read() {
    let Some(dir) = unpacked() else { return };
    let few = ["./", "d/", "d/setuid", "empty", "links/short", "links/hard"];
    let ustar = [&few[..], &["fifo", "char", "block"]].concat();
    let names: Vec<_> = sample().iter().map(|(entry, _)| spell(entry)).collect();
    let all: Vec<_> = names.iter().map(String::as_str).collect();
    let plain = Says {
        nanos: false,
        xattrs: false,
    };
    pack_and_compare(dir.path(), &["--format=v7"], &few, plain);
    pack_and_compare(dir.path(), &["--format=ustar"], &ustar, plain);
    for format in ["--format=oldgnu", "--format=gnu"] {
        pack_and_compare(dir.path(), &[format], &all, plain);
        pack_and_compare(dir.path(), &[format, "--sparse"], &all, plain);
    }
    pack_and_compare(
        dir.path(),
        &["--format=pax"],
        &all,
        Says {
            nanos: true,
            xattrs: false,
        },
    );
    for version in ["0.0", "0.1", "1.0"] {
        let version = format!("--sparse-version={version}");
        let args = [
            "--format=pax",
            "--sparse",
            &version,
            "--xattrs",
            "--xattrs-include=*",
        ];
        let members = pack_and_compare(dir.path(), &args, &all, ALL);
        let is_sparse = |entry: &Entry| {
            matches!(
                &entry.kind,
                EntryKind::File {
                    extents: Some(_),
                    ..
                }
            )
        };
        let sparse = members.iter().filter(|(entry, _)| is_sparse(entry)).count();
        assert_eq!(sparse, 3, "{version}");
        let attributed = members
            .iter()
            .filter(|(entry, _)| entry.xattrs.contains_key(b"user.binary".as_slice()))
            .count();
        assert_eq!(attributed, 1);
    }
}

#[test]
fn gnu_maps_that_need_more_blocks_are_read() {
    let Some(dir) = unpacked() else { return };
    // Four runs fit the header and 21 a block of more.
    let many = fs::File::create(dir.path().join("many")).unwrap();
    for n in 0..60_u64 {
        std::os::unix::fs::FileExt::write_all_at(&many, b"run", n * 100_000).unwrap();
    }
    for args in [
        &["--format=gnu", "--sparse"][..],
        &["--format=pax", "--sparse"],
    ] {
        let members = pack_and_compare(
            dir.path(),
            args,
            &["many"],
            Says {
                nanos: false,
                xattrs: false,
            },
        );
        let (
            Entry {
                kind:
                    EntryKind::File {
                        extents: Some(runs),
                        ..
                    },
                ..
            },
            _,
        ) = &members[0]
        else {
            panic!("not sparse")
        };
        assert_eq!(runs.len(), 60);
    }
}

#[test]
fn libarchive_reads_what_we_write_and_is_read() {
    if !installed("bsdtar") {
        return;
    }
    let Some(dir) = unpacked() else { return };
    // Before the epoch it gives the seconds alone a sign, not the fraction, and writes 0 where there is no PAX.
    let sayable = |(entry, _): &Member| spell(entry) != "owned";
    let again = tempfile::tempdir().unwrap();
    run(
        "bsdtar",
        &[
            "-x",
            "-p",
            "--numeric-owner",
            "-C",
            again.path().to_str().unwrap(),
            "-f",
            "-",
        ],
        &write(&sample()),
    );
    for member in sample().into_iter().filter(sayable) {
        compare(again.path(), &member, ALL);
    }
    for format in ["pax", "gnutar"] {
        let says = if format == "pax" {
            ALL
        } else {
            Says {
                nanos: false,
                xattrs: false,
            }
        };
        let args = [
            "-c",
            "--format",
            format,
            "--numeric-owner",
            "-C",
            dir.path().to_str().unwrap(),
            "-f",
            "-",
            ".",
        ];
        for member in read(&run("bsdtar", &args, b"")).into_iter().filter(sayable) {
            compare(dir.path(), &member, says);
        }
    }
}

#[test]
fn umoci_unpacks_what_we_write() {
    if !installed("umoci") || !rustix::process::geteuid().is_root() {
        eprintln!("skipped: needs umoci and root");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let blobs = dir.path().join("image/blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let put = |bytes: &[u8], media_type: &str| {
        let digest = crate::Digest::of(bytes);
        fs::write(blobs.join(digest.hex()), bytes).unwrap();
        (
            digest,
            format!(
                r#"{{"mediaType":"{media_type}","digest":"{digest}","size":{}}}"#,
                bytes.len()
            ),
        )
    };
    // The layers above hide one file and empty a directory.
    let lower = write(&sample());
    let upper = write(&[
        (entry("empty", EntryKind::Whiteout), Vec::new()),
        (entry("links", EntryKind::Opaque), Vec::new()),
        file("links/new", b"new"),
    ]);
    let layers = [lower, upper].map(|layer| put(&layer, "application/vnd.oci.image.layer.v1.tar"));
    let diffs: Vec<_> = layers
        .iter()
        .map(|(digest, _)| format!("\"{digest}\""))
        .collect();
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":[{}]}},"config":{{}}}}"#,
        diffs.join(",")
    );
    let (_, config) = put(
        config.as_bytes(),
        "application/vnd.oci.image.config.v1+json",
    );
    let descriptors: Vec<_> = layers
        .iter()
        .map(|(_, descriptor)| descriptor.as_str())
        .collect();
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{config},"layers":[{}]}}"#,
        descriptors.join(",")
    );
    let (_, manifest) = put(
        manifest.as_bytes(),
        "application/vnd.oci.image.manifest.v1+json",
    );
    let named = manifest.replacen(
        '}',
        r#","annotations":{"org.opencontainers.image.ref.name":"latest"}}"#,
        1,
    );
    fs::write(
        dir.path().join("image/index.json"),
        format!(r#"{{"schemaVersion":2,"manifests":[{named}]}}"#),
    )
    .unwrap();
    fs::write(
        dir.path().join("image/oci-layout"),
        r#"{"imageLayoutVersion":"1.0.0"}"#,
    )
    .unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    run(
        "umoci",
        &[
            "unpack",
            "--image",
            &format!("{}:latest", at("image")),
            &at("bundle"),
        ],
        b"",
    );
    if installed("skopeo") {
        let (from, to) = (
            format!("oci:{}:latest", at("image")),
            format!("docker-archive:{}", at("saved.tar")),
        );
        run(
            "skopeo",
            &["copy", "--quiet", "--insecure-policy", &from, &to],
            b"",
        );
    }
    let root = dir.path().join("bundle/rootfs");
    for member in sample() {
        let name = spell(&member.0);
        if name == "empty" || name.starts_with("links/") {
            assert!(fs::symlink_metadata(root.join(name)).is_err());
        } else if name != "links" {
            compare(&root, &member, ALL);
        }
    }
    assert_eq!(fs::read(root.join("links/new")).unwrap(), b"new");
}

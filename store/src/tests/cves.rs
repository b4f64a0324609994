//! The advisories about layer archives that others needed: each test names its own and asserts what must (not) happen here.
//!
//! Those of running and of registries: `tests/e2e/cves.rs`. Read here and not tested here, with the reason:
//!
//! | advisory | why |
//! |---|---|
//! | CVE-2018-15664, CVE-2026-41568, CVE-2026-42306 (moby: races of `cp`) | no `cp`; a tree is changed by inode number, no host path is opened |
//! | CVE-2019-14271 (moby: `cp` loads a library of the container), CVE-2026-41567 (`PUT archive`) | no `cp`, nothing of an image is run or loaded by the service |
//! | CVE-2021-41091 (moby: data root that others can walk) | the store's directories have mode 0700 (`store.rs`, `tests/e2e/cves.rs`), and blobs have no names of files |
//! | CVE-2021-20291 (containers/storage: deadlock in xz) | xz is refused (`archive/inflate.rs`) |
//! | CVE-2024-3727 (containers/image: digests that are paths) | digests are parsed, `sha256:` and 64 hex digits (`ids.rs`) |
//! | CVE-2020-10696, CVE-2024-1753, CVE-2024-9675, CVE-2026-44517 (buildah), CVE-2024-23651 to -23653, CVE-2026-33747 (buildkit), CVE-2025-9566 (podman kube play) | nothing is built or played |
//! | CVE-2026-53489 (containerd: log of a checkpoint) | no checkpoints |
//! | CVE-2021-3493, CVE-2023-0386, CVE-2023-2640, CVE-2023-32629 (kernel overlay: copy-up raises privilege) | no overlayfs; what copy-up keeps: `fs/tests/mount/` |
//! | CVE-2014-6408, CVE-2014-9358, CVE-2015-3630, CVE-2015-3631 (moby: proc, labels, IDs that are paths) | no such thing in an archive; IDs are digests |

use std::io::{Read, Write as _};
use std::time::{Duration, Instant};

use super::listing::summary;
use super::support::{TempStore, chain, image};
use crate::archive::tests::Raw;
use crate::archive::{ArchiveError, Limits};
use crate::{Error, Expected, Options, Result, Store};

/// Applies archives as layers and lists the tree.
fn tree(tars: &[Vec<u8>]) -> Result<Vec<String>> {
    let store = TempStore::new();
    image(&store, tars, "test:1")?;
    let tree = store.tree(chain(tars).as_ref())?;
    let list = summary(&store, &tree);
    drop(tree);
    assert_eq!(store.check()?.faults, Vec::<String>::new());
    Ok(list)
}

/// A directory of the host, whose path archives name; nothing in it may change.
struct Victim(tempfile::TempDir);

impl Victim {
    fn new() -> Victim {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), "precious").unwrap();
        Victim(dir)
    }

    fn path(&self, below: &str) -> Vec<u8> {
        self.0.path().join(below).to_str().unwrap().into()
    }

    fn assert_untouched(&self) {
        use std::os::unix::fs::PermissionsExt as _;
        let names: Vec<_> = std::fs::read_dir(self.0.path()).unwrap().collect();
        assert_eq!(names.len(), 1, "{names:?}");
        let file = self.0.path().join("file");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
        assert_eq!(
            std::fs::metadata(&file).unwrap().permissions().mode() & 0o777,
            0o644
        );
    }
}

fn limit_of(result: Result<Vec<String>>) -> &'static str {
    match result {
        Err(Error::Archive(ArchiveError::LimitExceeded { limit, .. })) => limit,
        other => panic!("no limit: {other:?}"),
    }
}

/// A store with limits of its own.
fn small_store(limits: Limits) -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(
        &dir.path().join("root"),
        Options {
            limits: Some(limits),
            ..Options::default()
        },
    )
    .unwrap();
    (dir, store)
}

#[test]
fn cve_2018_20990_a_hard_link_overwrites_nothing() {
    // And CVE-2014-6407 (moby): link to a file of the host, then write through the link.
    let victim = Victim::new();
    let target = victim.path("file");
    let archive = Raw::new()
        .link(b'1', b"link", &target)
        .member(b'0', b"link", b"overwritten")
        .end();
    assert!(matches!(tree(&[archive]), Err(Error::Refused { .. })));
    let archive = Raw::new()
        .link(b'2', b"link", &target)
        .member(b'0', b"link", b"overwritten")
        .end();
    assert_eq!(tree(&[archive]).unwrap(), ["d .", "f link overwritten"]);
    victim.assert_untouched();
}

#[test]
fn cve_2021_38511_and_2025_47290_directories_are_made_in_the_tree_alone() {
    // Also CVE-2014-9356 and CVE-2015-3629 (moby): the link is absolute, and leads to what exists on the host.
    let victim = Victim::new();
    let archive = Raw::new()
        .link(b'2', b"link", &victim.path(""))
        .member(b'5', b"link/made/", b"")
        .member(b'0', b"link/made/file", b"1")
        .end();
    // The link's target is looked for within the tree, where it is not.
    match tree(&[archive]) {
        Ok(list) => assert!(
            list.iter().any(|line| line.ends_with("made/file 1")),
            "{list:?}"
        ),
        Err(error) => assert!(matches!(error, Error::Refused { .. }), "{error}"),
    }
    victim.assert_untouched();
}

#[test]
fn cve_2021_32760_and_2026_33056_no_mode_is_changed_through_a_link() {
    let victim = Victim::new();
    let evil = |block: &mut [u8; 512]| block[100..108].copy_from_slice(b"0004777\0");
    let archive = Raw::new()
        .link(b'2', b"link", &victim.path("file"))
        .edited(b'5', b"link/", b"", 0, evil)
        .end();
    // A directory in place of a link replaces it.
    assert_eq!(tree(&[archive]).unwrap(), ["d .", "d link"]);
    let archive = Raw::new()
        .edited(b'2', b"link", &victim.path("file"), 0, evil)
        .end();
    assert_eq!(tree(&[archive]).unwrap().len(), 2);
    victim.assert_untouched();
}

#[test]
fn cve_2021_29136_an_entry_for_the_root_is_a_directory_or_refused() {
    let victim = Victim::new();
    for name in [&b"/."[..], b".", b"./", b"/", b"./."] {
        let archive = Raw::new()
            .link(b'2', name, &victim.path(""))
            .member(b'0', b"file", b"overwritten")
            .end();
        let refused = tree(&[archive]);
        assert!(
            matches!(refused, Err(Error::Archive(ArchiveError::BadName { .. }))),
            "{}: {refused:?}",
            name.escape_ascii()
        );
    }
    victim.assert_untouched();
}

#[test]
fn names_with_dots_climb_nowhere() {
    // The class of CVE-2014-9357 and of zip-slip: `..` stops at the root, as in a chroot.
    let victim = Victim::new();
    let deep = [b"../".repeat(20), victim.path("file")].concat();
    let archive = Raw::new()
        .pax(b'x', &[("path", &deep)])
        .member(b'0', b"short", b"overwritten")
        .end();
    let list = tree(&[archive]).unwrap();
    let below = String::from_utf8(victim.path("file")).unwrap();
    assert_eq!(
        list.last(),
        Some(&format!("f {} overwritten", below.trim_start_matches('/')))
    );
    victim.assert_untouched();
}

#[test]
fn cve_2025_62518_and_2026_33055_no_second_archive_is_seen_in_a_file() {
    // "TARmageddon", and RUSTSEC-2025-0110, -2026-0066, -0112, -0113, -0145: whose size decides, PAX's or the header's?
    let inner = Raw::new().member(b'0', b"etc/evil", b"!").end();
    let size = inner.len().to_string();
    let records: [&[(&str, &[u8])]; 3] = [
        &[("size", size.as_bytes())],
        &[("size", b"0"), ("size", size.as_bytes())],
        &[("size", size.as_bytes()), ("path", b"nested.tar")],
    ];
    for records in records {
        let archive = Raw::new()
            .pax(b'x', records)
            .header(b'0', b"nested.tar", b"", 0)
            .data(&inner)
            .member(b'0', b"after", b"1")
            .end();
        let list = tree(&[archive]).unwrap();
        assert_eq!(list.len(), 3, "{list:?}");
        assert!(list[2].starts_with("f nested.tar"), "{list:?}");
    }
    // A size in a global header holds for all that follow; one before a long name is not the long name's.
    let archive = Raw::new()
        .pax(b'x', &[("size", size.as_bytes())])
        .member(b'L', b"././@LongLink", b"nested.tar\0")
        .header(b'0', b"x", b"", 0)
        .data(&inner)
        .end();
    assert_eq!(tree(&[archive]).unwrap().len(), 2);
}

#[test]
fn cve_2022_2879_an_extension_header_is_bounded() {
    let archive = Raw::new()
        .header(b'x', b"pax", b"", 1 << 30)
        .data(&[b'a'; 2 << 20])
        .end();
    assert_eq!(limit_of(tree(&[archive])), "extension_bytes_max");
    let archive = Raw::new()
        .header(b'L', b"././@LongLink", b"", 1 << 30)
        .end();
    assert_eq!(limit_of(tree(&[archive])), "extension_bytes_max");
}

#[test]
fn cve_2025_58183_a_sparse_map_is_bounded() {
    // And GO-2026-4869: the map of PAX 1.0 stands in the data, so that no header bounds it.
    let records: [(&str, &[u8]); 3] = [
        ("GNU.sparse.major", b"1"),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.realsize", b"8000000000"),
    ];
    let map = [b"9000000\n".to_vec(), b"0\n0\n".repeat(2 << 20)].concat();
    let archive = Raw::new()
        .pax(b'x', &records)
        .member(b'0', b"s", &map)
        .end();
    assert_eq!(limit_of(tree(&[archive])), "extents_max");
    // The old form goes on in as many blocks as it likes.
    let more = |n: u32| {
        let mut block = [0; 512];
        for run in 0..21 {
            let offset = u64::from(n * 21 + run) * 2;
            let text = format!("{offset:011o}\0{:011o}\0", 1);
            block[run as usize * 24..][..24].copy_from_slice(text.as_bytes());
        }
        block[504] = 1;
        block
    };
    let (_dir, store) = small_store(Limits {
        extents_max: 10_000,
        ..Limits::default()
    });
    let mut archive = Raw::new().edited(b'S', b"old", b"", 0, |block| {
        block[257..265].copy_from_slice(b"ustar  \0");
        block[482] = 1;
        block[483..495].copy_from_slice(b"77777777777\0");
    });
    for n in 0..1000 {
        archive = archive.data(&more(n));
    }
    let refused = store.unpack(archive.0.as_slice(), &Expected::default(), &|_| {});
    let refused = refused.map(|_| Vec::new());
    assert_eq!(limit_of(refused), "extents_max");
}

#[test]
fn cve_2017_14992_what_belongs_to_no_file_is_bounded() {
    // tar-split kept padding in memory: here it goes to the record, and only so much of it.
    let (_dir, store) = small_store(Limits {
        unplaced_bytes_max: 1 << 20,
        ..Limits::default()
    });
    let archive = Raw::new().member(b'0', b"a", b"1").end();
    let endless = archive.as_slice().chain(std::io::repeat(0));
    let refused = store.unpack(endless, &Expected::default(), &|_| {});
    assert_eq!(limit_of(refused.map(|_| Vec::new())), "unplaced_bytes_max");
}

#[test]
fn cve_2023_25153_an_archive_that_inflates_without_end_is_bounded() {
    let limits = Limits {
        inflate_grace_bytes: 16 << 20,
        ..Limits::default()
    };
    let (_dir, store) = small_store(limits);
    let zeros = vec![0; 64 << 20];
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    let head = Raw::new().header(b'0', b"zeros", b"", (8 << 30) - 1).0;
    gzip.write_all(&head).unwrap();
    gzip.write_all(&zeros).unwrap();
    let gzip = gzip.finish().unwrap();
    let mut zstd = zstd::Encoder::new(Vec::new(), 19).unwrap();
    zstd.write_all(&head).unwrap();
    zstd.write_all(&zeros).unwrap();
    let zstd = zstd.finish().unwrap();
    for bomb in [gzip, zstd] {
        let start = Instant::now();
        let refused = store.unpack(bomb.as_slice(), &Expected::default(), &|_| {});
        assert_eq!(limit_of(refused.map(|_| Vec::new())), "inflate_ratio_max");
        assert!(start.elapsed() < Duration::from_secs(20));
    }
}

#[test]
fn cve_2024_40635_no_owner_wraps_around_to_root() {
    // Also CVE-2026-46680: 2^32 is no owner, and 2^32 - 1 means "leave it" to chown.
    for owner in [
        "4294967296",
        "18446744073709551616",
        "-4294967296",
        "99999999999",
    ] {
        let archive = Raw::new()
            .pax(b'x', &[("uid", owner.as_bytes())])
            .member(b'0', b"f", b"")
            .end();
        let refused = tree(&[archive]);
        assert!(
            matches!(refused, Err(Error::Archive(_))),
            "{owner}: {refused:?}"
        );
    }
    let archive = Raw::new().edited(b'0', b"f", b"", 0, |block| {
        block[108..116].copy_from_slice(&[0x80, 0, 0, 1, 0, 0, 0, 0]);
    });
    assert!(matches!(tree(&[archive.end()]), Err(Error::Archive(_))));
}

#[test]
fn cve_2024_9676_a_link_in_place_of_a_database_is_not_followed_to_the_host() {
    // containers/storage read `/etc/passwd` of a layer through a link: here a link leads within the tree alone.
    let archive = Raw::new()
        .member(b'5', b"etc/", b"")
        .link(b'2', b"etc/passwd", b"/dev/zero")
        .end();
    assert_eq!(
        tree(&[archive]).unwrap(),
        ["d .", "d etc", "l etc/passwd /dev/zero"]
    );
}

#[test]
fn cve_2015_3627_a_device_is_a_record() {
    // A device node or a pipe of an archive is never made, so that none is opened.
    let archive = Raw::new()
        .member(b'3', b"mem", b"")
        .member(b'4', b"disk", b"")
        .member(b'6', b"pipe", b"")
        .end();
    let store = TempStore::new();
    image(&store, &[archive], "test:1").unwrap();
    let mut folders = vec![store.root()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let kind = entry.file_type().unwrap();
            assert!(
                kind.is_file() || kind.is_dir(),
                "{}",
                entry.path().display()
            );
            if kind.is_dir() {
                folders.push(entry.path());
            }
        }
    }
}

#[test]
fn whiteouts_of_nothing_delete_nothing() {
    // moby and containers/storage: `.wh.` with nothing behind it removed the directory that it stood in.
    let below = || {
        Raw::new()
            .member(b'5', b"d/", b"")
            .member(b'0', b"d/f", b"1")
            .end()
    };
    for name in [&b"d/.wh."[..], b"d/.wh..", b"d/.wh...", b".wh.", b".wh..."] {
        let refused = tree(&[below(), Raw::new().member(b'0', name, b"").end()]);
        assert!(
            matches!(refused, Err(Error::Archive(_))),
            "{}: {refused:?}",
            name.escape_ascii()
        );
    }
}

#[test]
fn attributes_of_overlayfs_mean_nothing_here() {
    // A forged `trusted.overlay.opaque`, `redirect` or `metacopy` is data; no union of ours looks at it.
    let archive = Raw::new()
        .member(b'5', b"d/", b"")
        .member(b'0', b"d/f", b"1")
        .end();
    let records: [(&str, &[u8]); 3] = [
        ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
        ("SCHILY.xattr.user.overlay.redirect", b"/etc"),
        ("SCHILY.xattr.trusted.overlay.metacopy", b""),
    ];
    let upper = Raw::new()
        .pax(b'x', &records)
        .member(b'5', b"d/", b"")
        .end();
    assert_eq!(tree(&[archive, upper]).unwrap(), ["d .", "d d", "f d/f 1"]);
}

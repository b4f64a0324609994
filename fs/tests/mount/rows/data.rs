//! Rows on the bytes of files.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::FallocateFlags;

use super::{code, errno, here, row};
use crate::mapped::Mapped;
use crate::support::{Layer, Mounted, TempStore, can_mount, noise};

fn read_write(path: &Path) -> File {
    let mut options = OpenOptions::new();
    options.read(true).write(true).open(path).unwrap()
}

#[test]
fn row_28_a_file_is_renamed_while_it_is_written_and_mapped() {
    let base = "create f 644\nwrite f 0 70000 102\nmkdir d 755";
    let seen = row(base, |root| {
        let file = read_write(&root.join("f"));
        let map = Mapped::new(&file, 70_000, true);
        map.write(10, b"mapped");
        fs::rename(root.join("f"), root.join("d/g")).unwrap();
        map.write(66_000, b"mapped after");
        file.write_all_at(b"written after", 30_000).unwrap();
        let bytes = fs::read(root.join("d/g")).unwrap();
        let text =
            |at: usize, len: usize| String::from_utf8_lossy(&bytes[at..at + len]).into_owned();
        vec![
            text(9, 8),
            text(65_999, 14),
            text(30_000, 13),
            bytes.len().to_string(),
        ]
    });
    if let Some(seen) = seen {
        assert_eq!(
            seen,
            ["fmappedf", "fmapped afterf", "written after", "70000"]
        );
    }
}

#[test]
fn row_40_holes_and_room_are_made_as_on_the_host_and_ranges_are_not_moved() {
    let base = "create f 644\nwrite f 0 200000 102";
    row(base, |root| {
        let file = read_write(&root.join("f"));
        let (punch, keep) = (FallocateFlags::PUNCH_HOLE, FallocateFlags::KEEP_SIZE);
        let zero = FallocateFlags::ZERO_RANGE;
        let mut seen = Vec::new();
        for (flags, offset, len) in [
            (punch | keep, 5_000, 70_000),
            (zero | keep, 190_000, 20_000),
            (keep, 0, 1 << 20),
            (zero, 100_000, 200_000),
            (FallocateFlags::empty(), 0, 400_000),
            (punch, 0, 10),
            (FallocateFlags::empty(), 0, 0),
        ] {
            let done = errno(rustix::fs::fallocate(&file, flags, offset, len));
            let bytes = fs::read(root.join("f")).unwrap();
            let sum: u64 = bytes.iter().map(|byte| u64::from(*byte)).sum();
            seen.push(format!("{flags:?} {done} {} {sum}", bytes.len()));
        }
        seen
    });
    here(&[Layer::new().file("f", &noise(100_000, 1))], |root| {
        for flags in [FallocateFlags::COLLAPSE_RANGE, FallocateFlags::INSERT_RANGE] {
            let done = rustix::fs::fallocate(read_write(&root.join("f")), flags, 0, 65_536);
            assert_eq!(done, Err(rustix::io::Errno::OPNOTSUPP));
        }
    });
}

#[test]
fn row_41_ranges_are_copied_between_all_kinds_of_files() {
    let base =
        "create f 644\nwrite f 0 150000 102\nwrite f 70000 10 7\ncreate g 644\nwrite g 0 100 103";
    row(base, |root| {
        fs::write(root.join("new"), noise(90_000, 3)).unwrap();
        let mut seen = Vec::new();
        for (from, to, mut at, mut into, len) in [
            ("f", "new", 69_000, 85_000, 50_000),
            ("f", "new", 149_990, 0, 100),
            ("f", "new", 150_000, 0, 1),
            ("f", "g", 69_990, 50, 1_000),
            ("g", "new", 0, 80_000, 20_000),
            ("new", "f", 1, 149_000, 5_000),
            ("new", "g", 10, 0, 90_000),
            ("f", "f", 0, 100, 50),
            ("f", "f", 0, 10, 50),
            ("f", "g", 1 << 30, 0, 5),
        ] {
            let (source, target) = (
                File::open(root.join(from)).unwrap(),
                read_write(&root.join(to)),
            );
            let copied =
                rustix::fs::copy_file_range(&source, Some(&mut at), &target, Some(&mut into), len);
            let bytes = fs::read(root.join(to)).unwrap();
            let sum = bytes.iter().enumerate().fold(0_u64, |sum, (at, byte)| {
                sum.wrapping_mul(31)
                    .wrapping_add(u64::from(*byte) ^ at as u64)
            });
            seen.push(format!("{from} {to}: {copied:?} {} {sum}", bytes.len()));
        }
        let (source, target) = (
            File::open(root.join("f")).unwrap(),
            read_write(&root.join("g")),
        );
        let mut at = 100;
        let sent = rustix::fs::sendfile(&target, &source, Some(&mut at), 500);
        seen.push(format!(
            "{sent:?} {:?}",
            &fs::read(root.join("g")).unwrap()[..600]
        ));
        seen
    });
}

#[test]
fn row_42_a_lower_file_takes_direct_writes_of_any_alignment() {
    let was = noise(200_000, 4);
    here(&[Layer::new().file("f", &was)], |root| {
        let mut expected = was.clone();
        let mut options = OpenOptions::new();
        options.read(true).write(true).custom_flags(0o40_000);
        let file = options.open(root.join("f")).unwrap();
        for (at, len) in [(1, 3), (4096, 4096), (65_535, 2), (199_999, 5)] {
            let bytes = noise(len, at as u64);
            file.write_all_at(&bytes, at as u64).unwrap();
            expected.resize(expected.len().max(at + len), 0);
            expected[at..at + len].copy_from_slice(&bytes);
        }
        let mut got = vec![0; expected.len()];
        file.read_exact_at(&mut got, 0).unwrap();
        assert!(got == expected, "read directly");
        assert!(
            fs::read(root.join("f")).unwrap() == expected,
            "read through the cache"
        );
    });
}

#[test]
fn row_43_offsets_beyond_31_32_and_44_bits_are_what_they_are() {
    let base = "create f 644\nwrite f 0 100 102";
    let seen = row(base, |root| {
        let mut seen = Vec::new();
        fs::write(root.join("new"), "").unwrap();
        for name in ["f", "new"] {
            let file = read_write(&root.join(name));
            for at in [
                (1 << 31) - 1,
                1 << 31,
                (1 << 32) - 1,
                (1 << 32) + 1,
                (1 << 40) + 3,
            ] {
                file.write_all_at(format!("{at:x}").as_bytes(), at).unwrap();
                let mut got = [0; 11];
                let len = file.read_at(&mut got, at - 1).unwrap();
                seen.push(format!(
                    "{name} {} {:?}",
                    file.metadata().unwrap().size(),
                    &got[..len]
                ));
            }
            for at in [1 << 45, i64::MAX as u64 - 1, i64::MAX as u64] {
                seen.push(format!("{name} {at}: {}", code(file.write_at(b"xx", at))));
            }
            file.set_len(10).unwrap();
        }
        seen
    });
    if let Some(seen) = seen {
        assert!(seen[3].contains("4294967306"), "{}", seen[3]);
    }
}

#[test]
fn row_65_open_files_go_on_when_the_mount_is_taken_away_lazily() {
    if !can_mount() {
        return;
    }
    let store = TempStore::new();
    let chain = store.image(&[Layer::new().file("f", b"lower bytes")]);
    let mount = Mounted::writable(store.upper(chain));
    let file = read_write(&mount.path("f"));
    mount.served.detach(&mount.root, None, true).unwrap();
    assert!(!mount.path("f").exists());
    file.write_all_at(b"upper", 0).unwrap();
    file.sync_all().unwrap();
    drop(file);
    let upper = mount.vfs.upper().unwrap().id();
    mount
        .served
        .shutdown(std::time::Duration::from_secs(10))
        .unwrap();
    drop(mount);
    let again = Mounted::writable(store.get().open_upper(upper).unwrap());
    assert_eq!(fs::read(again.path("f")).unwrap(), b"upper bytes");
}

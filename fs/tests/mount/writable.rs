//! Writable mounts, promise by promise.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, FallocateFlags, Mode, OFlags};
use rustix::io::Errno;

use crate::mapped::Mapped;
use crate::patience;
use crate::support::{Layer, Mounted, TempStore, can_mount, mounted, noise};

const CHUNK: usize = 64 << 10;

/// Mounts the same upper once more, by a server that remembers nothing.
fn remounted(store: &TempStore, mount: Mounted) -> Mounted {
    let id = mount.vfs.upper().unwrap().id();
    mount.unmount();
    Mounted::writable(store.get().open_upper(id).unwrap())
}

#[test]
fn one_byte_into_a_lower_file_of_5_gib_moves_one_chunk() {
    const SIZE: u64 = 5 << 30;
    let runs: &[(u64, &[u8])] = &[(0, b"head"), (3 << 30, b"middle"), (SIZE - 4, b"tail")];
    let Some((store, mount)) = mounted(Layer::new().sparse("f", SIZE, runs)) else {
        return;
    };
    let started = Instant::now();
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(mount.path("f"))
        .unwrap();
    file.write_all_at(b"x", (3 << 30) + 2).unwrap();
    assert!(
        started.elapsed() < Duration::from_millis(500),
        "{:?}",
        started.elapsed()
    );
    let stat = file.metadata().unwrap();
    assert_eq!(stat.size(), SIZE);
    assert!(stat.blocks() < 1024, "{} blocks", stat.blocks());
    let mount = {
        drop(file);
        remounted(&store, mount)
    };
    let file = File::open(mount.path("f")).unwrap();
    for (offset, expected) in [(0, b"head\0"), ((3 << 30) + 1, b"ixdle")] {
        let mut got = [0; 5];
        file.read_exact_at(&mut got, offset).unwrap();
        assert_eq!(&got, expected, "at {offset}");
    }
    let mut tail = [0; 4];
    file.read_exact_at(&mut tail, SIZE - 4).unwrap();
    assert_eq!(&tail, b"tail");
}

#[test]
fn a_chunked_file_reads_right_through_every_mix_of_writes_and_truncations() {
    let was = noise(40 * CHUNK + 777, 5);
    let Some((store, mount)) = mounted(Layer::new().file("f", &was)) else {
        return;
    };
    let mut expected = was.clone();
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(mount.path("f"))
        .unwrap();
    let writes = [
        (0, 1),
        (CHUNK - 1, 2),
        (5 * CHUNK, CHUNK),
        (7 * CHUNK + 5, 3 * CHUNK),
        (40 * CHUNK + 700, 500),
    ];
    for (offset, len) in writes {
        let bytes = noise(len, offset as u64);
        file.write_all_at(&bytes, offset as u64).unwrap();
        expected.resize(expected.len().max(offset + len), 0);
        expected[offset..offset + len].copy_from_slice(&bytes);
    }
    assert!(
        std::fs::read(mount.path("f")).unwrap() == expected,
        "after the writes"
    );
    for size in [30 * CHUNK + 9, 35 * CHUNK, 12 * CHUNK - 1, 50 * CHUNK] {
        file.set_len(size as u64).unwrap();
        expected.resize(size, 0);
        assert!(
            std::fs::read(mount.path("f")).unwrap() == expected,
            "after a truncation to {size}"
        );
    }
    file.write_all_at(b"end", 60 * CHUNK as u64).unwrap();
    expected.resize(60 * CHUNK, 0);
    expected.extend_from_slice(b"end");
    drop(file);
    let mount = remounted(&store, mount);
    assert!(
        std::fs::read(mount.path("f")).unwrap() == expected,
        "after a remount"
    );
    // Every chunk written once: nothing of the base is left, and the file is an ordinary one.
    std::fs::write(mount.path("f"), b"new").unwrap();
    assert_eq!(std::fs::read(mount.path("f")).unwrap(), b"new");
}

#[test]
fn sparse_files_stay_sparse_and_show_their_holes() {
    let Some((_store, mount)) =
        mounted(Layer::new().sparse("f", 8 << 20, &[(1 << 20, &[9; 4096])]))
    else {
        return;
    };
    let seek = |whence: SeekFrom| match whence {
        SeekFrom::Start(at) => {
            let file = File::open(mount.path("f")).unwrap();
            let data = rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(at));
            let hole = rustix::fs::seek(&file, rustix::fs::SeekFrom::Hole(at));
            (data, hole)
        }
        _ => unreachable!(),
    };
    assert_eq!(seek(SeekFrom::Start(0)), (Ok(1 << 20), Ok(0)));
    assert_eq!(
        seek(SeekFrom::Start((1 << 20) + 4096)),
        (Err(Errno::NXIO), Ok((1 << 20) + 4096))
    );
    let file = OpenOptions::new()
        .write(true)
        .open(mount.path("f"))
        .unwrap();
    file.write_all_at(&[1; 4096], 4 << 20).unwrap();
    assert_eq!(seek(SeekFrom::Start(0)), (Ok(1 << 20), Ok(0)));
    assert_eq!(seek(SeekFrom::Start(2 << 20)), (Ok(4 << 20), Ok(2 << 20)));
    assert!(
        file.metadata().unwrap().blocks() <= 32,
        "{} blocks",
        file.metadata().unwrap().blocks()
    );
}

#[test]
fn an_unlinked_open_file_goes_on_and_is_gone_after_the_last_close() {
    let Some((store, mount)) = mounted(Layer::new().file("lower", b"lower")) else {
        return;
    };
    std::fs::write(mount.path("new"), b"new").unwrap();
    for name in ["lower", "new"] {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(mount.path(name))
            .unwrap();
        std::fs::remove_file(mount.path(name)).unwrap();
        assert_eq!(
            std::fs::metadata(mount.path(name)).unwrap_err().kind(),
            ErrorKind::NotFound
        );
        file.write_all(b"written").unwrap();
        file.rewind().unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "written");
        file.set_len(3).unwrap();
        file.set_permissions(PermissionsExt::from_mode(0o600))
            .unwrap();
        let stat = file.metadata().unwrap();
        assert_eq!(
            (stat.size(), stat.nlink(), stat.mode() & 0o777),
            (3, 0, 0o600)
        );
        file.sync_all().unwrap();
    }
    let upper = mount.vfs.upper().unwrap().clone();
    let mount = remounted(&store, mount);
    assert_eq!(upper.orphans().unwrap(), []);
    let inodes: Vec<_> = upper
        .inodes()
        .unwrap()
        .into_iter()
        .map(|(ino, _)| ino)
        .collect();
    assert_eq!(
        inodes,
        [nacre_store::Ino::ROOT],
        "nothing is left but the root's new times"
    );
    assert!(std::fs::read_dir(&mount.root).unwrap().next().is_none());
}

#[test]
fn hard_links_stay_together_through_copy_up_and_remount() {
    let layer = Layer::new()
        .file("a", b"both")
        .dir("d")
        .hard_link("d/b", "a");
    let Some((store, mount)) = mounted(layer) else {
        return;
    };
    let ino = |mount: &Mounted, path: &str| {
        let stat = std::fs::metadata(mount.path(path)).unwrap();
        (stat.ino(), stat.nlink())
    };
    let (before, links) = ino(&mount, "a");
    assert_eq!(links, 2);
    std::fs::write(mount.path("d/b"), b"changed").unwrap();
    assert_eq!(std::fs::read(mount.path("a")).unwrap(), b"changed");
    std::fs::hard_link(mount.path("a"), mount.path("d/c")).unwrap();
    std::fs::remove_file(mount.path("a")).unwrap();
    let mount = remounted(&store, mount);
    for path in ["d/b", "d/c"] {
        assert_eq!(ino(&mount, path), (before, 2), "{path}");
        assert_eq!(std::fs::read(mount.path(path)).unwrap(), b"changed");
    }
}

#[test]
fn writable_shared_maps_of_upper_and_lower_files_are_coherent() {
    let was = noise(3 << 20, 4);
    let Some((_store, mount)) = mounted(Layer::new().file("lower", &was)) else {
        return;
    };
    std::fs::write(mount.path("upper"), &was).unwrap();
    for name in ["lower", "upper"] {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(mount.path(name))
            .unwrap();
        let (one, two) = (
            Mapped::new(&file, 1 << 20, true),
            Mapped::new(&file, 1 << 20, false),
        );
        one.write(70_000, b"by map");
        assert_eq!(two.read(70_000, 6), b"by map", "{name}");
        let mut read = [0; 6];
        file.read_exact_at(&mut read, 70_000).unwrap();
        assert_eq!(&read, b"by map", "{name}");
        file.write_all_at(b"by write", 80_000).unwrap();
        assert_eq!(two.read(80_000, 8), b"by write", "{name}");
        one.sync();
    }
}

/// xfstests' generic/080 and 215: what is stored through a map shows in the times, though the kernel knew them before.
#[test]
fn what_is_stored_through_a_map_moves_the_times() {
    let Some((_store, mount)) = mounted(Layer::new().file("lower", &[7; 4096])) else {
        return;
    };
    std::fs::write(mount.path("upper"), [7; 4096]).unwrap();
    let times = |name| {
        let meta = std::fs::metadata(mount.path(name)).unwrap();
        (meta.modified().unwrap(), meta.ctime_nsec())
    };
    for name in ["upper", "lower"] {
        for _ in 0..2 {
            times(name);
            let mut way = OpenOptions::new();
            let file = way.read(true).write(true).open(mount.path(name)).unwrap();
            let before = times(name);
            assert_eq!(times(name), before, "{name}: an open moves nothing");
            std::thread::sleep(Duration::from_millis(20));
            let map = Mapped::new(&file, 4096, true);
            drop(file);
            map.write(0, b"by map");
            map.sync();
            drop(map);
            let after = times(name);
            assert!(
                after.0 > before.0 && after.1 != before.1,
                "{name}: {before:?} {after:?}"
            );
        }
    }
    // Created, looked at while open, and written by a map alone.
    let mut new = OpenOptions::new();
    let file = new
        .read(true)
        .write(true)
        .create_new(true)
        .open(mount.path("new"))
        .unwrap();
    file.set_len(4096).unwrap();
    let before = times("new");
    std::thread::sleep(Duration::from_millis(20));
    let map = Mapped::new(&file, 4096, true);
    map.write(0, b"by map");
    assert!(times("new").0 > before.0);
}

/// xfstests' generic/736: who renames each entry that is read, and back, comes to an end.
#[test]
fn a_listing_ends_though_each_entry_is_renamed_while_it_is_read() {
    const FILES: usize = 2_000;
    let Some((_store, mount)) = mounted(Layer::new().dir("d").file("d/lower", b"")) else {
        return;
    };
    for number in 0..FILES {
        File::create(mount.path(&format!("d/{number}"))).unwrap();
    }
    let mut seen = 0;
    for entry in std::fs::read_dir(mount.path("d")).unwrap() {
        let (path, other) = (entry.unwrap().path(), mount.path("d/TEMPFILE"));
        seen += 1;
        assert!(seen <= 2 * FILES, "it does not end");
        std::fs::rename(&path, &other).unwrap();
        std::fs::rename(&other, &path).unwrap();
    }
    assert!(seen >= FILES, "an entry is missing: {seen}");
}

/// One request may not take what a thousand writes may not (xfstests' generic/103 filled the host with one).
#[test]
fn a_reservation_leaves_what_must_stay_free() {
    if !can_mount() {
        return;
    }
    let host = rustix::fs::statvfs(std::env::temp_dir()).unwrap();
    let free = host.f_bavail * host.f_frsize;
    let spare = (free / 4).min(4 << 30);
    let store = TempStore::with_floor(Some(free - spare));
    let chain = store.image(&[Layer::new()]);
    let mount = Mounted::writable(store.upper(chain));
    let file = File::create(mount.path("f")).unwrap();
    let reserve = |len| rustix::fs::fallocate(&file, FallocateFlags::KEEP_SIZE, 0, len);
    assert_eq!(reserve(2 * spare), Err(Errno::NOSPC));
    assert_eq!(file.metadata().unwrap().blocks(), 0);
    reserve(1 << 20).unwrap();
    assert!(file.metadata().unwrap().blocks() * 512 >= 1 << 20);
}

#[test]
fn a_running_program_cannot_be_written() {
    let Some((_store, mount)) = mounted(Layer::new()) else {
        return;
    };
    std::fs::copy("/bin/sleep", mount.path("sleep")).unwrap();
    let mut child = Command::new(mount.path("sleep")).arg("30").spawn().unwrap();
    let program = mount.path("sleep");
    let written = OpenOptions::new().write(true).open(&program);
    // It is emptied by opening, before the kernel looks whether it may be.
    let read_and_truncate = OFlags::RDONLY | OFlags::TRUNC;
    let emptied = rustix::fs::open(&program, read_and_truncate, Mode::empty());
    let len = std::fs::metadata(&program).unwrap().len();
    child.kill().unwrap();
    patience::exit(&mut child, "sleep");
    assert_eq!(written.unwrap_err().kind(), ErrorKind::ExecutableFileBusy);
    assert_eq!(emptied.unwrap_err(), Errno::TXTBSY);
    assert_eq!(len, std::fs::metadata("/bin/sleep").unwrap().len());
    // The kernel tells of its end when it likes.
    let began = Instant::now();
    while let Err(errno) = rustix::fs::open(&program, read_and_truncate, Mode::empty()) {
        assert!(began.elapsed() < Duration::from_secs(20), "{errno}");
    }
    assert_eq!(std::fs::metadata(&program).unwrap().len(), 0);
}

#[test]
fn four_writers_append_without_loss() {
    let Some((_store, mount)) = mounted(Layer::new().file("lower", &noise(2 << 20, 1))) else {
        return;
    };
    std::fs::write(mount.path("upper"), b"").unwrap();
    for (name, was) in [("upper", 0), ("lower", 2 << 20)] {
        std::thread::scope(|scope| {
            for writer in 0..4_u8 {
                let path = mount.path(name);
                scope.spawn(move || {
                    let mut file = OpenOptions::new().append(true).open(path).unwrap();
                    for _ in 0..500 {
                        file.write_all(&[b'a' + writer; 100]).unwrap();
                    }
                });
            }
        });
        let all = std::fs::read(mount.path(name)).unwrap();
        assert_eq!(all.len(), was + 4 * 500 * 100, "{name}");
        for record in all[was..].chunks(100) {
            assert!(
                record.iter().all(|byte| *byte == record[0]),
                "{name}: a torn record"
            );
        }
    }
}

#[test]
fn privileges_go_when_somebody_else_writes() {
    let layer = Layer::new()
        .file("f", b"x")
        .but(|entry| entry.mode = 0o6777);
    let Some((_store, mount)) = mounted(layer) else {
        return;
    };
    // Opened by us, written by somebody without CAP_FSETID.
    let mode = || std::fs::metadata(mount.path("f")).unwrap().mode() & 0o7777;
    assert_eq!(mode(), 0o6777);
    let status = patience::status(
        Command::new("setpriv")
            .args([
                "--reuid=1000",
                "--regid=1000",
                "--clear-groups",
                "--inh-caps=-all",
                "--bounding-set=-all",
            ])
            .args(["sh", "-c", "echo y >> f"])
            .current_dir(&mount.root),
    );
    assert!(status.success());
    assert_eq!(mode(), 0o777);
}

#[test]
fn a_default_acl_is_inherited_and_chmod_follows() {
    let Some((_store, mount)) = mounted(Layer::new().dir("d")) else {
        return;
    };
    // u::rwx,u:1000:rwx,g::r-x,m::rwx,o::--- in the kernel's form.
    let mut acl = vec![2, 0, 0, 0];
    for (tag, perm, id) in [
        (1_u16, 7_u16, u32::MAX),
        (2, 7, 1000),
        (4, 5, u32::MAX),
        (16, 7, u32::MAX),
        (32, 0, u32::MAX),
    ] {
        acl.extend_from_slice(&tag.to_le_bytes());
        acl.extend_from_slice(&perm.to_le_bytes());
        acl.extend_from_slice(&id.to_le_bytes());
    }
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(mount.path("d"), "system.posix_acl_default", &acl, flags).unwrap();
    let mut options = OpenOptions::new();
    options
        .write(true)
        .create_new(true)
        .mode(0o664)
        .open(mount.path("d/f"))
        .unwrap();
    assert_eq!(
        std::fs::metadata(mount.path("d/f")).unwrap().mode() & 0o777,
        0o660
    );
    let mut value = [0; 256];
    let len =
        rustix::fs::getxattr(mount.path("d/f"), "system.posix_acl_access", &mut value).unwrap();
    assert_eq!(len, acl.len());
}

#[test]
fn a_directory_of_100_000_names_is_listed_whole_and_emptied() {
    const NAMES: usize = 100_000;
    let Some((_store, mount)) = mounted(Layer::new().dir("d")) else {
        return;
    };
    for name in 0..NAMES {
        rustix::fs::mknodat(
            CWD,
            mount.path(&format!("d/{name}")),
            rustix::fs::FileType::RegularFile,
            rustix::fs::Mode::RUSR,
            0,
        )
        .unwrap();
    }
    let mut names: Vec<usize> = std::fs::read_dir(mount.path("d"))
        .unwrap()
        .map(|entry| {
            entry
                .unwrap()
                .file_name()
                .into_string()
                .unwrap()
                .parse()
                .unwrap()
        })
        .collect();
    assert!(
        names.iter().copied().eq(0..NAMES),
        "in the order of their making"
    );
    names.retain(|name| name % 1000 != 0);
    for name in &names {
        rustix::fs::unlinkat(CWD, mount.path(&format!("d/{name}")), AtFlags::empty()).unwrap();
    }
    let left = std::fs::read_dir(mount.path("d")).unwrap().count();
    assert_eq!(left, NAMES / 1000);
}

#[test]
fn a_lower_directory_is_renamed_in_place_with_all_that_is_in_it() {
    let mut layer = Layer::new().dir("d");
    for name in 0..2000 {
        layer = layer.file(&format!("d/{name}"), b"x");
    }
    let Some((store, mount)) = mounted(layer) else {
        return;
    };
    let before = std::fs::metadata(mount.path("d/7")).unwrap().ino();
    std::fs::rename(mount.path("d"), mount.path("e")).unwrap();
    let records = mount.vfs.upper().unwrap().inodes().unwrap().len();
    assert_eq!(records, 2, "the root and the directory itself");
    let mount = remounted(&store, mount);
    assert_eq!(std::fs::metadata(mount.path("e/7")).unwrap().ino(), before);
    assert_eq!(std::fs::read_dir(mount.path("e")).unwrap().count(), 2000);
    assert!(!mount.path("d").exists());
}

#[test]
fn what_was_synced_is_there_when_the_server_is_gone() {
    let Some((store, mount)) = mounted(Layer::new().file("lower", &noise(2 << 20, 9))) else {
        return;
    };
    let file = OpenOptions::new()
        .write(true)
        .open(mount.path("lower"))
        .unwrap();
    file.write_all_at(b"x", 100_000).unwrap();
    file.sync_all().unwrap();
    let new = File::create(mount.path("new")).unwrap();
    new.write_all_at(b"new", 0).unwrap();
    new.sync_all().unwrap();
    File::open(&mount.root).unwrap().sync_all().unwrap();
    // Read beside the mount, as a next server would.
    let id = mount.vfs.upper().unwrap().id();
    let beside = nacre_fs::vfs::Vfs::writable(store.get().open_upper(id).unwrap()).unwrap();
    let read = |path: &[u8], offset| {
        let (ino, _) = beside.resolve(path, true).unwrap();
        beside.read(ino, offset, 3, <[u8]>::to_vec).unwrap()
    };
    assert_eq!(read(b"/lower", 100_000)[0], b'x');
    assert_eq!(read(b"/new", 0), b"new");
}

#[test]
fn statfs_tells_the_truth_of_the_host() {
    let Some((store, mount)) = mounted(Layer::new()) else {
        return;
    };
    let (ours, host) = (
        rustix::fs::statvfs(&mount.root).unwrap(),
        rustix::fs::statvfs(store.path()).unwrap(),
    );
    assert_eq!(
        (ours.f_blocks, ours.f_frsize),
        (host.f_blocks, host.f_frsize)
    );
    assert_eq!(ours.f_namemax, 255);
}

//! Files with bytes that are not on disk yet: how they are served meanwhile, and what a cut, a full disk or a kill leaves.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::{Duration, Instant};

use nacre_fs::vfs::{Access, Mode, Vfs};
use nacre_store::{Content, Ino};

use crate::support::{self, Layer, Mounted, TempStore, as_killed, can_mount, noise, wait_for};

const CHUNK: usize = 64 << 10;
const LARGE: usize = 40 * CHUNK;

fn mounted() -> Option<(TempStore, Mounted)> {
    let layer = Layer::new()
        .file("small", &noise(5_000, 1))
        .file("large", &noise(LARGE, 2));
    support::mounted(layer)
}

fn ino(vfs: &Vfs, path: &str) -> Ino {
    vfs.resolve(path.as_bytes(), true).unwrap().0
}

fn append(path: &Path, bytes: &[u8]) {
    let mut file = OpenOptions::new().append(true).open(path).unwrap();
    file.write_all(bytes).unwrap();
}

/// The second write makes a data file of it.
fn append_twice(path: &Path) {
    let mut file = OpenOptions::new().append(true).open(path).unwrap();
    file.write_all(b"more").unwrap();
    file.write_all(b"and more").unwrap();
}

/// The large file, open, with its first byte written: copied in part, and not synced.
fn partly_copied(mount: &Mounted) -> File {
    let mut options = OpenOptions::new();
    let file = options.write(true).open(mount.path("large")).unwrap();
    file.write_all_at(b"x", 0).unwrap();
    file
}

/// Whether the kernel would be given the file to write by itself, once nobody has it open any more: it tells of that when it likes.
fn is_given(vfs: &Vfs, ino: Ino) -> bool {
    let began = Instant::now();
    while vfs.is_open(ino) && began.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(1));
    }

    let mode = vfs.open(ino, Access::Write).unwrap();
    vfs.release(ino);
    matches!(mode, Mode::Backed(_))
}

/// What the kernel syncs by itself (O_SYNC, msync) would be taken back with the rest.
#[test]
fn a_file_that_can_be_taken_back_is_not_given_to_the_kernel() {
    let Some((_store, mount)) = mounted() else {
        return;
    };
    append_twice(&mount.path("small"));
    let small = ino(&mount.vfs, "/small");
    assert!(!is_given(&mount.vfs, small), "not synced");
    File::open(mount.path("small")).unwrap().sync_all().unwrap();
    assert!(is_given(&mount.vfs, small), "synced");
    let new = mount.path("new");
    File::create(&new).unwrap();
    assert!(is_given(&mount.vfs, ino(&mount.vfs, "/new")), "all its own");
}

/// Opening for synchronous writes makes what leads to the file durable, so the kernel may have it at once.
#[test]
fn a_file_that_is_opened_for_synchronous_writes_has_no_undo_record() {
    let Some((_store, mount)) = mounted() else {
        return;
    };
    append_twice(&mount.path("small"));
    let upper = mount.vfs.upper().unwrap();
    assert_eq!(upper.undos().unwrap().len(), 1);
    let file = OpenOptions::new()
        .append(true)
        .custom_flags(libc::O_DSYNC)
        .open(mount.path("small"));
    assert_eq!(upper.undos().unwrap(), []);
    file.unwrap().write_all(b"and more").unwrap();
}

/// A chunk that is overwritten whole is copied by nobody, and what it was is lost all the same if the power is.
#[test]
fn a_chunk_that_is_overwritten_whole_is_kept_until_it_is_synced() {
    let Some((_store, mount)) = mounted() else {
        return;
    };
    let file = partly_copied(&mount);
    let upper = mount.vfs.upper().unwrap();
    file.sync_all().unwrap();
    assert_eq!(upper.undos().unwrap(), []);
    file.write_all_at(&noise(CHUNK, 9), 3 * CHUNK as u64)
        .unwrap();
    let undos = upper.undos().unwrap();
    let Content::Chunked { present, .. } = &undos[0].before.content else {
        panic!("{undos:?}");
    };
    assert_eq!((undos.len(), present.as_slice()), (1, &[0b0001][..]));
}

#[test]
fn a_cut_of_a_partly_copied_file_is_on_disk_before_it_is_answered() {
    let Some((_store, mount)) = mounted() else {
        return;
    };
    let file = partly_copied(&mount);
    let upper = mount.vfs.upper().unwrap();
    assert_eq!(upper.undos().unwrap().len(), 1);
    file.set_len(5 * CHUNK as u64).unwrap();
    assert_eq!(upper.undos().unwrap(), []);
}

/// The data file is cut before its record says so.
#[test]
fn a_truncation_that_a_kill_broke_off_does_not_bring_the_image_s_bytes_back() {
    let Some((store, mount)) = mounted() else {
        return;
    };
    let _open = partly_copied(&mount);
    let upper = mount.vfs.upper().unwrap();
    let large = ino(&mount.vfs, "/large");
    let cut = 7 * CHUNK + 100;
    let data = OpenOptions::new()
        .write(true)
        .open(upper.data_path(large))
        .unwrap();
    data.set_len(cut as u64).unwrap();
    let (_copy, killed) = as_killed(&store);
    let after = Mounted::writable(killed.open_upper(upper.id()).unwrap());
    let mut expected = noise(LARGE, 2);
    expected[0] = b'x';
    expected.truncate(cut);
    assert!(std::fs::read(after.path("large")).unwrap() == expected);
    let grown = OpenOptions::new()
        .write(true)
        .open(after.path("large"))
        .unwrap();
    grown.set_len(LARGE as u64).unwrap();
    grown.write_all_at(b"y", 9 * CHUNK as u64).unwrap();
    expected.resize(LARGE, 0);
    expected[9 * CHUNK] = b'y';
    assert!(std::fs::read(after.path("large")).unwrap() == expected);
    drop(grown);
    after.unmount();
    let report = killed.check().unwrap();
    assert!(report.faults.is_empty(), "{report:?}");
}

/// On a disk where nothing may grow a program can still give room back, and loses nothing by trying.
#[test]
fn a_file_is_shortened_and_emptied_on_a_full_disk() {
    let Some((store, mount)) = mounted() else {
        return;
    };
    drop(partly_copied(&mount));
    std::fs::write(mount.path("own"), noise(9_000, 3)).unwrap();
    let id = mount.vfs.upper().unwrap().id();
    mount.unmount();
    let full = store.reopened_with_floor(u64::MAX);
    let mount = Mounted::writable(full.get().open_upper(id).unwrap());
    let mut expected = noise(LARGE, 2);
    expected[0] = b'x';
    let cut = |path: &Path, len: usize| {
        let file = OpenOptions::new().write(true).open(path).unwrap();
        file.set_len(len as u64)
    };
    let large = mount.path("large");
    cut(&large, LARGE + 1).unwrap_err();
    assert!(std::fs::read(&large).unwrap() == expected, "nothing grew");
    cut(&large, 9 * CHUNK + 5).unwrap();
    expected.truncate(9 * CHUNK + 5);
    assert!(std::fs::read(&large).unwrap() == expected, "shortened");
    cut(&mount.path("own"), 10).unwrap();
    assert_eq!(
        std::fs::read(mount.path("own")).unwrap(),
        noise(9_000, 3)[..10]
    );
    for name in ["large", "own", "small"] {
        let path = mount.path(name);
        drop(File::create(&path).unwrap());
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 0, "{name}");
    }
}

/// Only what a reservation's own range has already is not taken again.
#[test]
fn a_large_file_has_no_credit_for_room_elsewhere() {
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
    let has = spare / 4;
    let piece = noise(1 << 20, 4);
    for at in 0..has >> 20 {
        file.write_all_at(&piece, at << 20).unwrap();
    }
    let reserve = |at, len| {
        let keep = rustix::fs::FallocateFlags::KEEP_SIZE;
        rustix::fs::fallocate(&file, keep, at, len)
    };
    // More than there is, and less than that with what the file has.
    assert_eq!(
        reserve(has, spare - has / 2),
        Err(rustix::io::Errno::NOSPC),
        "elsewhere"
    );
    assert_eq!(
        reserve(0, has + (1 << 20)),
        Ok(()),
        "nearly all of it is there"
    );
}

/// What is written once into a small file needs no data file; what is written more often gets one.
#[test]
fn a_small_file_s_first_write_is_in_its_record_and_the_next_in_a_data_file() {
    let Some((store, mount)) = mounted() else {
        return;
    };
    let path = mount.path("small");
    let mut expected = noise(5_000, 1);
    let content = |mount: &Mounted| {
        let record = mount.vfs.inode(ino(&mount.vfs, "/small")).unwrap();
        record.content.clone()
    };
    // Each in an opening of its own.
    for round in 0..3 {
        append(&path, b"more");
        // The kernel tells of a close when it likes.
        wait_for(|| !mount.vfs.is_open(ino(&mount.vfs, "/small")));
        expected.extend(b"more");
        assert!(std::fs::read(&path).unwrap() == expected, "round {round}");
    }
    assert!(matches!(content(&mount), Content::Inline(bytes) if *bytes == *expected));
    assert_eq!(mount.vfs.upper().unwrap().undos().unwrap(), []);
    // As a kill leaves it.
    let (_copy, killed) = as_killed(&store);
    let id = mount.vfs.upper().unwrap().id();
    let after = Vfs::writable(killed.open_upper(id).unwrap()).unwrap();
    let read = |vfs: &Vfs| {
        vfs.read(ino(vfs, "/small"), 0, 1 << 20, <[u8]>::to_vec)
            .unwrap()
    };
    assert!(read(&after) == expected);
    // Cut, grown and punched in the record or out of it.
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(100).unwrap();
    file.set_len(300).unwrap();
    expected.truncate(100);
    expected.resize(300, 0);
    assert!(std::fs::read(&path).unwrap() == expected);
    assert!(matches!(content(&mount), Content::Inline(_)));
    file.write_all_at(b"one", 10).unwrap();
    assert!(matches!(content(&mount), Content::Inline(_)));
    file.write_all_at(b"two", 20).unwrap();
    assert_eq!(content(&mount), Content::Data);
    assert_eq!(mount.vfs.upper().unwrap().undos().unwrap().len(), 1);
    expected[10..13].copy_from_slice(b"one");
    expected[20..23].copy_from_slice(b"two");
    assert!(std::fs::read(&path).unwrap() == expected);
    drop(file);
    mount.unmount();
    let again = Mounted::writable(store.get().open_upper(id).unwrap());
    assert!(std::fs::read(again.path("small")).unwrap() == expected);
}

/// A record holds no more than it may: a write beyond that goes to a data file.
#[test]
fn a_small_file_that_grows_large_gets_a_data_file() {
    let Some((_store, mount)) = mounted() else {
        return;
    };
    let path = mount.path("small");
    append(&path, b"x");
    append(&path, &noise(12 << 10, 7));
    let record = mount.vfs.inode(ino(&mount.vfs, "/small")).unwrap();
    assert_eq!(record.content, Content::Data);
    let mut expected = noise(5_000, 1);
    expected.push(b'x');
    expected.extend(noise(12 << 10, 7));
    assert!(std::fs::read(&path).unwrap() == expected);
}

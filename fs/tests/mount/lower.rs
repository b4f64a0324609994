//! What an image holds is never changed through a mount, in whichever way it is written.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nacre_store::Digest;
use rustix::fs::FallocateFlags;

use crate::mapped::Mapped;
use crate::support::{Layer, Mounted, TempStore, can_mount, noise};

/// Large enough to be a blob of its own and to be copied up in chunks.
const LARGE: usize = 3 << 20;

/// Small enough to be kept in the database.
const SMALL: usize = 5000;

/// Every file of a store that holds content, and its hash.
fn hashes(store: &TempStore) -> BTreeMap<PathBuf, Digest> {
    let mut hashes = BTreeMap::new();
    let mut dirs = vec![store.path().join("store/blobs")];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                dirs.push(entry.path());
            } else {
                hashes.insert(
                    entry.path(),
                    Digest::of(&std::fs::read(entry.path()).unwrap()),
                );
            }
        }
    }
    hashes
}

/// Writes to a file in every way there is; returns what it must hold then.
fn write_in_every_way(path: &Path, was: &[u8]) -> Vec<u8> {
    let mut expected = was.to_vec();
    let mut put = |offset: usize, bytes: &[u8]| {
        let end = expected.len().max(offset + bytes.len());
        expected.resize(end, 0);
        expected[offset..offset + bytes.len()].copy_from_slice(bytes);
    };
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    file.write_all_at(b"written", 1000).unwrap();
    put(1000, b"written");
    let append = OpenOptions::new().append(true).open(path).unwrap();
    std::io::Write::write_all(&mut &append, b"appended").unwrap();
    put(was.len(), b"appended");
    let direct = OpenOptions::new()
        .write(true)
        .custom_flags(libc::O_DIRECT)
        .open(path)
        .unwrap();
    direct.write_all_at(&[7; 512], 512).unwrap();
    put(512, &[7; 512]);
    let map = Mapped::new(&file, 8192.min(was.len()), true);
    map.write(3000, b"mapped");
    map.sync();
    put(3000, b"mapped");
    rustix::fs::fallocate(
        &file,
        FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
        100,
        50,
    )
    .unwrap();
    put(100, &[0; 50]);
    rustix::fs::fallocate(&file, FallocateFlags::ZERO_RANGE, 200, 50).unwrap();
    put(200, &[0; 50]);
    let source = tempfile::tempfile().unwrap();
    source.write_all_at(b"spliced", 0).unwrap();
    let mut source = source;
    std::io::Seek::rewind(&mut source).unwrap();
    let mut target = OpenOptions::new().write(true).open(path).unwrap();
    std::io::copy(&mut source, &mut target).unwrap();
    put(0, b"spliced");
    let (mut from, mut to) = (0, 4000);
    let copied =
        rustix::fs::copy_file_range(&file, Some(&mut from), &file, Some(&mut to), 7).unwrap();
    assert_eq!(copied, 7);
    put(4000, b"spliced");
    file.sync_all().unwrap();
    expected
}

#[test]
fn lower_files_cannot_be_changed_by_any_kind_of_write() {
    if !can_mount() {
        return;
    }
    let (large, small) = (noise(LARGE, 1), noise(SMALL, 2));
    let store = TempStore::new();
    let layer = Layer::new().file("large", &large).file("small", &small);
    let chain = store.image(&[layer]);
    let before = hashes(&store);
    assert!(
        !before.is_empty(),
        "the large file must be a blob of its own"
    );
    let mount = Mounted::writable(store.upper(chain));
    let view = Mounted::read_only(&store, chain);
    for (name, was) in [("large", &large), ("small", &small)] {
        let held = File::open(mount.path(name)).unwrap();
        let map = Mapped::new(&held, 4096, false);
        assert!(map.read(0, 4096) == was[..4096]);
        let expected = write_in_every_way(&mount.path(name), was);
        assert!(
            std::fs::read(mount.path(name)).unwrap() == expected,
            "{name} holds what was written"
        );
        assert!(
            map.read(0, 4096) == expected[..4096],
            "a map that was made before sees it"
        );
        let mut through = vec![0; expected.len()];
        held.read_exact_at(&mut through, 0).unwrap();
        assert!(through == expected, "an open file from before sees it");
        assert_eq!(held.metadata().unwrap().size(), expected.len() as u64);
        assert!(
            std::fs::read(view.path(name)).unwrap() == *was,
            "the image still has what it had"
        );
        File::create(mount.path(name)).unwrap();
        assert_eq!(std::fs::metadata(mount.path(name)).unwrap().size(), 0);
        assert_eq!(held.metadata().unwrap().size(), 0);
    }
    assert_eq!(hashes(&store), before);
}

#[test]
fn the_hashes_catch_a_deliberate_write_to_a_blob() {
    let store = TempStore::new();
    store.image(&[Layer::new().file("large", &noise(LARGE, 1))]);
    let before = hashes(&store);
    let (path, _) = before.first_key_value().unwrap();
    let mode = std::fs::metadata(path).unwrap().permissions();
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    OpenOptions::new()
        .write(true)
        .open(path)
        .unwrap()
        .write_all_at(b"x", 100)
        .unwrap();
    std::fs::set_permissions(path, mode).unwrap();
    assert_ne!(hashes(&store), before);
}

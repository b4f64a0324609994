//! Read-only mounts show the image, and nothing can change it.

use std::os::unix::fs::{FileExt as _, MetadataExt as _};

use nacre_fs::flags::MountFlags;
use nacre_fs::mount::Profile;
use nacre_fs::vfs::Vfs;
use nacre_store::archive::EntryKind;
use rustix::io::Errno;

use crate::common::directory::Directory;
use crate::common::ops::{Target as _, differences, parse};
use crate::support::{Layer, Mounted, TempStore, can_mount, noise};

/// A tree with all that an image can have.
const TREE: &str = "\
mkdir d 755
mkdir d/sticky 1777
create d/suid 4755
write d/suid 0 5 65
create f 640
write f 0 70000 7
chown f 12 34
mtime f -5
link f d/hard
symlink nowhere l
mknod c char 600 259
mknod p fifo 644 0
mkdir e 2755
setxattr f user.one x either
";

#[test]
fn a_read_only_mount_equals_the_directory_that_the_image_was_made_of() {
    if !can_mount() {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let mut directory = Directory::new(scratch.path());
    std::fs::set_permissions(
        scratch.path(),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    for op in parse(TREE) {
        directory.apply(&op).unwrap();
    }
    let expected = directory.picture();
    let store = TempStore::new();
    let chain = store.image(&[Layer::of_picture(&expected)]);
    let mount = Mounted::read_only(&store, chain);
    let got = Directory::new(&mount.root).picture();
    assert_eq!(differences(&expected, &got), Vec::<String>::new());
    for (path, seen) in &expected {
        assert_eq!(seen.mtime, got[path].mtime, "mtime of {path}");
    }
    mount.unmount();
}

#[test]
fn a_read_only_mount_refuses_every_change() {
    if !can_mount() {
        return;
    }
    let store = TempStore::new();
    let chain = store.image(&[Layer::new().dir("d").file("f", b"x")]);
    let mount = Mounted::read_only(&store, chain);
    let mut directory = Directory::new(&mount.root);
    let changes = "\
create new 644
mkdir d/new 755
symlink x new
link f new
unlink f
rmdir d
rename f g replace
chmod f 600
chown f 1 1
truncate f 0
write f 0 1 1
mtime f 5
setxattr f user.one x either
";
    for op in parse(changes) {
        assert_eq!(directory.apply(&op), Err(Errno::ROFS), "{op}");
    }
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
    let line = mounts
        .lines()
        .find(|line| line.contains(mount.root.to_str().unwrap()))
        .unwrap();
    assert!(
        line.starts_with("nacre:test ") && line.contains(" fuse.nacre ro,"),
        "{line}"
    );
}

#[test]
fn large_small_and_sparse_files_read_the_same_at_every_offset() {
    if !can_mount() {
        return;
    }
    let large = noise(3 << 20, 1);
    let head = noise(5000, 2);
    let tail = noise(10_000, 3);
    let mut sparse = vec![0; 5 << 20];
    sparse[4096..9096].copy_from_slice(&head);
    sparse[3 << 20..(3 << 20) + 10_000].copy_from_slice(&tail);
    let layer = Layer::new()
        .file("large", &large)
        .file("empty", b"")
        .file("small", &large[..100])
        .sparse("sparse", 5 << 20, &[(4096, &head), (3 << 20, &tail)]);
    let store = TempStore::new();
    let chain = store.image(&[layer]);
    for profile in [Profile::ReadOnly, Profile::ReadOnlyPassthrough] {
        let tree = store.get().tree(Some(&chain)).unwrap();
        let mount = Mounted::new(Vfs::read_only(store.get().clone(), tree), profile);
        for (name, bytes) in [
            ("large", &large[..]),
            ("empty", b""),
            ("small", &large[..100]),
            ("sparse", &sparse),
        ] {
            assert!(
                std::fs::read(mount.path(name)).unwrap() == bytes,
                "{name} {profile:?}"
            );
            let file = std::fs::File::open(mount.path(name)).unwrap();
            for offset in [1_usize, 4095, 4097, 65_535, 1 << 20, (3 << 20) - 1] {
                let mut buf = vec![0; 9000];
                let read = file.read_at(&mut buf, offset as u64).unwrap();
                let expected = bytes.get(offset..).unwrap_or_default();
                let expected = &expected[..expected.len().min(9000)];
                assert!(buf[..read] == *expected, "{name} at {offset} {profile:?}");
            }
        }
        let blocks = std::fs::metadata(mount.path("sparse")).unwrap().blocks();
        assert!(blocks < 100, "sparse takes {blocks} blocks");
        mount.unmount();
    }
}

#[test]
fn a_second_mount_is_the_same_filesystem_and_both_can_go() {
    if !can_mount() {
        return;
    }
    let store = TempStore::new();
    let chain = store.image(&[Layer::new().file("f", b"x")]);
    let mount = Mounted::read_only(&store, chain);
    let other = tempfile::tempdir().unwrap();
    mount
        .served
        .attach(other.path(), None, MountFlags::default())
        .unwrap();
    let (one, two) = (mount.path("f"), other.path().join("f"));
    let (one, two) = (
        std::fs::metadata(one).unwrap(),
        std::fs::metadata(two).unwrap(),
    );
    assert_eq!((one.dev(), one.ino()), (two.dev(), two.ino()));
    let held = std::fs::File::open(other.path().join("f")).unwrap();
    let busy = mount.served.detach(other.path(), None, false).unwrap_err();
    assert!(busy.to_string().ends_with("is busy"), "{busy}");
    drop(held);
    mount.served.detach(other.path(), None, false).unwrap();
    let not_ours = mount.served.detach(other.path(), None, false).unwrap_err();
    assert!(
        not_ours
            .to_string()
            .ends_with("is not a mount of this tree"),
        "{not_ours}"
    );
    assert!(mount.served.alive());
    mount.unmount();
}

#[test]
fn whiteouts_of_upper_layers_are_seen_nowhere() {
    if !can_mount() {
        return;
    }
    let store = TempStore::new();
    let below = Layer::new()
        .dir("d")
        .file("d/gone", b"x")
        .file("d/kept", b"y");
    let above = Layer::new().entry("d/gone", 0o644, EntryKind::Whiteout, b"");
    let mount = Mounted::read_only(&store, store.image(&[below, above]));
    let names: Vec<_> = std::fs::read_dir(mount.path("d"))
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(names, ["kept"]);
}

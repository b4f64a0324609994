//! What the engine does with a tree beside its mounts: paths, init files, namespaces, the end.

use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use nacre_fs::diff::Snapshot;
use nacre_fs::flags::MountFlags;
use nacre_store::Kind;
use rustix::io::Errno;

use crate::patience;
use crate::support::{Layer, Mounted, TempStore, can_mount, wait_for};

#[test]
fn no_path_leaves_the_tree() {
    let store = TempStore::new();
    let layer = Layer::new()
        .dir("d")
        .file("d/f", b"x")
        .symlink("abs", "/d/f")
        .symlink("d/up", "../../../../d/f")
        .symlink("d/rel", "f")
        .symlink("loop", "loop")
        .symlink("dangling", "/nowhere");
    let chain = store.image(&[layer]);
    let vfs = nacre_fs::vfs::Vfs::writable(store.upper(chain)).unwrap();
    let (file, _) = vfs.resolve(b"/d/f", true).unwrap();
    for path in ["d//./f", "/abs", "/d/up", "d/rel", "/../d/../d/f"] {
        assert_eq!(
            vfs.resolve(path.as_bytes(), true).unwrap().0,
            file,
            "{path}"
        );
    }
    assert_eq!(vfs.resolve(b"/abs", false).unwrap().1.kind, Kind::Symlink);
    assert_eq!(vfs.resolve(b"/loop", true).unwrap_err(), Errno::LOOP);
    assert_eq!(vfs.resolve(b"/dangling", true).unwrap_err(), Errno::NOENT);
    assert_eq!(vfs.resolve(b"/d/f/x", true).unwrap_err(), Errno::NOTDIR);
    assert_eq!(vfs.read_all(file, 1).unwrap(), b"x");
    assert_eq!(vfs.read_all(file, 0).unwrap_err(), Errno::FBIG);
}

#[test]
fn what_the_runtime_puts_in_place_is_seen_at_once_and_is_no_change() {
    if !can_mount() {
        return;
    }
    let store = TempStore::new();
    let chain = store.image(&[Layer::new().dir("etc").file("etc/hosts", b"image's")]);
    let mount = Mounted::writable(store.upper(chain));
    // The kernel remembers that they are not there, and the listing.
    for path in ["etc/hostname", "mnt"] {
        assert_eq!(
            std::fs::metadata(mount.path(path)).unwrap_err().kind(),
            ErrorKind::NotFound
        );
    }
    assert_eq!(std::fs::read_dir(mount.path("etc")).unwrap().count(), 1);
    let vfs = &mount.vfs;
    vfs.make_init_file(b"/etc/hostname", 0o644, Some(b"host\n"))
        .unwrap();
    vfs.make_init_dir(b"/mnt/volume", 0o755).unwrap();
    vfs.make_init_symlink(b"/etc/mtab", b"/proc/mounts")
        .unwrap();
    assert_eq!(
        std::fs::read(mount.path("etc/hostname")).unwrap(),
        b"host\n"
    );
    assert!(
        std::fs::metadata(mount.path("mnt/volume"))
            .unwrap()
            .is_dir()
    );
    assert_eq!(std::fs::read_dir(mount.path("etc")).unwrap().count(), 3);
    let settled = vfs.settled().unwrap();
    let base = vfs.base().clone();
    let changes = Snapshot::new(&base, settled.inodes, settled.entries)
        .changes()
        .unwrap();
    assert_eq!(changes, [], "init is no change");
    vfs.make_init_file(b"/etc/hostname", 0o644, Some(b"other\n"))
        .unwrap();
    assert_eq!(
        std::fs::read(mount.path("etc/hostname")).unwrap(),
        b"other\n"
    );
}

/// A process in a mount namespace of its own.
struct Elsewhere(Child);

impl Elsewhere {
    fn new() -> Self {
        let child = Command::new("unshare")
            .args(["-m", "--propagation", "private", "sleep", "60"])
            .spawn()
            .unwrap();
        let ours = std::fs::read_link("/proc/self/ns/mnt").unwrap();
        let theirs = format!("/proc/{}/ns/mnt", child.id());
        wait_for(|| std::fs::read_link(&theirs).unwrap() != ours);
        Self(child)
    }

    fn namespace(&self) -> File {
        File::open(format!("/proc/{}/ns/mnt", self.0.id())).unwrap()
    }

    fn path(&self, path: &Path) -> std::path::PathBuf {
        Path::new(&format!("/proc/{}/root", self.0.id())).join(path.strip_prefix("/").unwrap())
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        patience::exit(&mut self.0, "unshare");
    }
}

#[test]
fn a_mount_appears_in_another_namespace_and_only_there() {
    if !can_mount() {
        return;
    }
    let store = TempStore::new();
    let chain = store.image(&[Layer::new().file("f", b"x")]);
    let mount = Mounted::read_only(&store, chain);
    let place = tempfile::tempdir().unwrap();
    let elsewhere = Elsewhere::new();
    let namespace = elsewhere.namespace();
    mount
        .served
        .attach(place.path(), Some(namespace.as_fd()), MountFlags::default())
        .unwrap();
    assert!(!place.path().join("f").exists(), "not in ours");
    assert_eq!(
        std::fs::read(elsewhere.path(&place.path().join("f"))).unwrap(),
        b"x"
    );
    mount
        .served
        .detach(place.path(), Some(namespace.as_fd()), false)
        .unwrap();
    assert!(!elsewhere.path(&place.path().join("f")).exists());
    // The namespace has a copy of our mount too.
    drop((elsewhere, namespace));
    mount.unmount();
}

#[test]
fn a_detached_mount_can_become_a_root() {
    if !can_mount() {
        return;
    }
    let store = TempStore::new();
    let chain = store.image(&[Layer::new().file("f", b"x")]);
    let mount = Mounted::writable(store.upper(chain));
    let root = mount.served.mount_fd().unwrap();
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
    let file = rustix::fs::openat(&root, "f", flags, rustix::fs::Mode::empty()).unwrap();
    assert_eq!(
        rustix::fs::fstat(&file).unwrap().st_dev,
        std::fs::metadata(&mount.root).unwrap().dev()
    );
}

#[test]
fn the_server_ends_with_its_last_mount() {
    if !can_mount() {
        return;
    }
    let store = TempStore::new();
    let chain = store.image(&[Layer::new()]);
    let mount = Mounted::writable(store.upper(chain));
    let held = File::open(&mount.root).unwrap();
    mount.served.detach(&mount.root, None, true).unwrap();
    let in_use = mount
        .served
        .shutdown(Duration::from_millis(50))
        .unwrap_err();
    assert!(in_use.to_string().ends_with("are still in use"), "{in_use}");
    assert!(mount.served.alive());
    drop(held);
    mount.served.shutdown(Duration::from_secs(5)).unwrap();
    assert!(!mount.served.alive());
}

#[test]
fn an_unlinked_file_is_reclaimed_while_the_mount_goes_on() {
    if !can_mount() {
        return;
    }
    let store = TempStore::new();
    let chain = store.image(&[Layer::new()]);
    let mount = Mounted::writable(store.upper(chain));
    let file = File::create(mount.path("f")).unwrap();
    let ino = nacre_store::Ino(file.metadata().unwrap().ino());
    std::fs::remove_file(mount.path("f")).unwrap();
    let upper = mount.vfs.upper().unwrap();
    assert_eq!(upper.orphans().unwrap(), [ino]);
    assert!(upper.data_path(ino).exists());
    drop(file);
    wait_for(|| upper.orphans().unwrap().is_empty());
    // The record goes first.
    wait_for(|| !upper.data_path(ino).exists());
    assert_eq!(upper.inode(ino).unwrap(), None);
}

#[test]
fn a_removed_working_directory_can_still_be_asked() {
    if !can_mount() {
        return;
    }
    let store = TempStore::new();
    let chain = store.image(&[Layer::new().dir("d")]);
    let mount = Mounted::writable(store.upper(chain));
    let dir = File::open(mount.path("d")).unwrap();
    std::fs::remove_dir(mount.path("d")).unwrap();
    assert_eq!(dir.metadata().unwrap().nlink(), 0);
    let flags = rustix::fs::OFlags::CREATE | rustix::fs::OFlags::WRONLY;
    let made = rustix::fs::openat(&dir, "f", flags, rustix::fs::Mode::RUSR);
    assert_eq!(made.unwrap_err(), Errno::NOENT);
}

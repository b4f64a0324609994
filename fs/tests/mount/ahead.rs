//! Who walks a tree finds the next directories in the kernel already; and what is listed ahead is never what others have changed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

use crate::support::{Layer, Mounted, TempStore, can_mount, wait_for};

/// Whether the kernel knows a path without asking the server.
fn is_known(path: &Path) -> bool {
    match openat2(CWD, path, OFlags::PATH, Mode::empty(), ResolveFlags::CACHED) {
        Ok(_) => true,
        Err(Errno::AGAIN) => false,
        Err(errno) => panic!("{}: {errno}", path.display()),
    }
}

fn list(dir: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

/// `top` with directories `d0` …, each with a directory `sub` and a file in it.
fn wide(dirs: usize) -> Layer {
    (0..dirs).fold(Layer::new().dir("top"), |layer, n| {
        let layer = layer
            .dir(&format!("top/d{n}"))
            .dir(&format!("top/d{n}/sub"));
        layer.file(&format!("top/d{n}/sub/file"), b"x")
    })
}

#[test]
fn the_next_directories_of_a_walk_are_in_the_kernel_before_they_are_asked_for() {
    if !can_mount() {
        return;
    }
    let store = TempStore::new();
    let chain = store.image(&[wide(50)]);
    for mount in [
        Mounted::read_only(&store, chain),
        Mounted::writable(store.upper(chain)),
    ] {
        let next = mount.path("top/d1/sub/file");
        list(&mount.path("top"));
        assert!(!is_known(&next), "one listing is no walk");
        list(&mount.path("top/d0"));
        wait_for(|| is_known(&next));
        mount.unmount();
    }
}

fn walk(dir: &Path, found: &mut BTreeSet<PathBuf>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        // What is gone by now is another one's.
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&entry.path(), found);
        }
        found.insert(entry.path());
    }
}

#[test]
fn a_tree_that_changes_while_it_is_walked_is_as_the_changes_left_it() {
    const DIRS: usize = 120;
    if !can_mount() {
        return;
    }
    let store = TempStore::new();
    let chain = store.image(&[wide(DIRS)]);
    let mount = Mounted::writable(store.upper(chain));
    let top = mount.path("top");
    std::thread::scope(|scope| {
        let walker = scope.spawn(|| {
            for _ in 0..10 {
                walk(&top, &mut BTreeSet::new());
            }
        });
        for n in 0..DIRS {
            let dir = top.join(format!("d{n}"));
            match n % 4 {
                0 => std::fs::rename(&dir, top.join(format!("r{n}"))).unwrap(),
                1 => std::fs::write(dir.join("sub/new"), b"new").unwrap(),
                2 => std::fs::remove_file(dir.join("sub/file")).unwrap(),
                _ => std::fs::remove_dir_all(&dir).unwrap(),
            }
        }
        walker.join().unwrap();
    });
    let mut expected = BTreeSet::new();
    for n in 0..DIRS {
        let (name, files): (_, &[&str]) = match n % 4 {
            0 => (format!("r{n}"), &["file"]),
            1 => (format!("d{n}"), &["file", "new"]),
            2 => (format!("d{n}"), &[]),
            _ => continue,
        };
        let sub = top.join(&name).join("sub");
        expected.extend(files.iter().map(|file| sub.join(file)));
        expected.extend([top.join(name), sub]);
    }
    let mut found = BTreeSet::new();
    walk(&top, &mut found);
    assert_eq!(found, expected);
    mount.unmount();
}

//! Files without a name (`O_TMPFILE`): made, written, named at last or gone; on the mount as on the host.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::{AtFlags, CWD};
use rustix::io::Errno;

use crate::support::{Layer, Mounted, TempStore, can_mount};

const TMPFILE: i32 = 0o20_200_000;
const EXCL: i32 = 0o200;

fn unnamed(dir: &Path, more: i32) -> File {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o640);
    options.custom_flags(TMPFILE | more).open(dir).unwrap()
}

/// Names a file by the descriptor that holds it.
fn name(file: &File, to: &Path) -> Result<(), Errno> {
    let held = format!("/proc/self/fd/{}", file.as_raw_fd());
    rustix::fs::linkat(CWD, held, CWD, to, AtFlags::SYMLINK_FOLLOW)
}

/// All that can be seen of the life of files without names in a directory `d`.
fn lives(root: &Path) -> Vec<String> {
    let dir = root.join("d");
    let mut seen = Vec::new();
    let list = || {
        let names = fs::read_dir(&dir).unwrap();
        let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        format!("{names:?}")
    };
    let stat = |file: &File| {
        let stat = file.metadata().unwrap();
        format!("{:o} {} {}", stat.mode(), stat.nlink(), stat.size())
    };
    let before = fs::metadata(&dir).unwrap();
    let mut file = unnamed(&dir, 0);
    let after = fs::metadata(&dir).unwrap();
    let times = |stat: &fs::Metadata| (stat.mtime(), stat.mtime_nsec(), stat.ctime_nsec());
    seen.push(format!("moved: {}", times(&before) != times(&after)));
    file.write_all(b"some bytes").unwrap();
    file.set_len(4).unwrap();
    seen.push(format!("{} in {}", stat(&file), list()));
    seen.push(format!("{:?}", name(&file, &dir.join("named"))));
    seen.push(format!("{} in {}", stat(&file), list()));
    file.write_all_at(b"S", 0).unwrap();
    seen.push(format!("{:?}", fs::read_to_string(dir.join("named"))));
    seen.push(format!("again: {:?}", name(&file, &dir.join("twice"))));
    seen.push(format!("taken: {:?}", name(&file, &dir.join("named"))));
    fs::remove_file(dir.join("named")).unwrap();
    fs::remove_file(dir.join("twice")).unwrap();
    seen.push(format!("gone: {:?}", name(&file, &dir.join("thrice"))));
    let by_itself = unnamed(&dir, 0);
    let empty = rustix::fs::linkat(&by_itself, "", CWD, dir.join("empty"), AtFlags::EMPTY_PATH);
    seen.push(format!("by itself: {empty:?}, {}", stat(&by_itself)));
    let alone = unnamed(&dir, EXCL);
    seen.push(format!("alone: {:?}", name(&alone, &dir.join("alone"))));
    seen.push(format!("{} in {}", stat(&alone), list()));
    seen
}

#[test]
fn files_without_a_name_live_as_on_the_host() {
    if !can_mount() {
        return;
    }
    let host = tempfile::tempdir().unwrap();
    fs::create_dir(host.path().join("d")).unwrap();
    let store = TempStore::new();
    let chain = store.image(&[Layer::new().dir("d")]);
    let mount = Mounted::writable(store.upper(chain));
    let (expected, got) = (lives(host.path()), lives(&mount.root));
    assert_eq!(got, expected);
    let upper = mount.vfs.upper().unwrap().clone();
    mount.unmount();
    assert_eq!(upper.orphans().unwrap(), [], "nothing is left unnamed");
    let again = Mounted::writable(store.get().open_upper(upper.id()).unwrap());
    assert_eq!(fs::read_dir(again.path("d")).unwrap().count(), 1);
    again.unmount();
    assert_eq!(data_files(&upper, 0), 1, "of the one that has a name");
}

/// Data files of at least so many bytes: while a mount is served, there are empty ones that were made ahead.
fn data_files(upper: &nacre_store::Upper, bytes_min: u64) -> usize {
    let mut folders = vec![upper.data_dir().to_path_buf()];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let stat = entry.metadata().unwrap();
            if stat.is_dir() {
                folders.push(entry.path());
            } else if stat.len() >= bytes_min {
                files += 1;
            }
        }
    }
    files
}

#[test]
fn a_file_without_a_name_is_gone_with_the_server_that_was_killed() {
    if !can_mount() {
        return;
    }
    let store = TempStore::new();
    let chain = store.image(&[Layer::new().dir("d")]);
    let mount = Mounted::writable(store.upper(chain));
    let (lost, kept) = (unnamed(&mount.path("d"), 0), unnamed(&mount.path("d"), 0));
    lost.write_all_at(b"lost", 0).unwrap();
    kept.write_all_at(b"kept", 0).unwrap();
    name(&kept, &mount.path("d/kept")).unwrap();
    lost.sync_all().unwrap();
    kept.sync_all().unwrap();
    // What a next server finds while the first one still has it: all that a kill leaves.
    let upper = mount.vfs.upper().unwrap().clone();
    assert_eq!(upper.orphans().unwrap().len(), 1);
    assert_eq!(data_files(&upper, 1), 2);
    let next = nacre_fs::vfs::Vfs::writable(store.get().open_upper(upper.id()).unwrap()).unwrap();
    assert_eq!(upper.orphans().unwrap(), []);
    assert_eq!(data_files(&upper, 1), 1);
    let (ino, inode) = next.resolve(b"/d/kept", true).unwrap();
    assert_eq!(inode.links.len(), 1);
    assert_eq!(next.read(ino, 0, 10, <[u8]>::to_vec).unwrap(), b"kept");
}

//! A small file's bytes come with the answer to its opening: they are in the page cache before anybody reads them, and
//! never in place of newer ones.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::Command;
use std::sync::Barrier;
use std::thread;

use nacre_fs::mount::Profile;
use nacre_fs::vfs::Vfs;

use crate::patience;
use crate::support::{Layer, Mounted, TempStore, can_mount, noise};

/// Pages of a file in the page cache, once it was opened and nothing read: as util-linux's fincore(1) finds them.
fn pages_after_opening(path: &Path) -> u64 {
    let out = patience::output(
        Command::new("fincore")
            .args(["--noheadings", "--output", "PAGES"])
            .arg(path),
    );
    assert!(out.status.success(), "{out:?}");
    String::from_utf8(out.stdout)
        .unwrap()
        .trim()
        .parse()
        .unwrap()
}

#[test]
fn an_opened_small_file_is_in_the_page_cache_before_it_is_read() {
    if !can_mount() {
        return;
    }
    let store = TempStore::new();
    let content = noise(3 * 4096 + 17, 1);
    let chain = store.image(&[Layer::new()
        .file("small", &content)
        .file("large", &noise(200_000, 2))
        .file("empty", b"")]);
    let tree = store.get().tree(Some(&chain)).unwrap();
    let view = Vfs::read_only(store.get().clone(), tree);
    // A large one is the host's file where nothing can be written, with the pages that the host has of it.
    for (mount, asked_for) in [
        (Mounted::writable(store.upper(chain)), "large"),
        (Mounted::new(view, Profile::ReadOnlyPassthrough), "empty"),
    ] {
        assert_eq!(pages_after_opening(&mount.path("small")), 4);
        assert_eq!(std::fs::read(mount.path("small")).unwrap(), content);
        assert_eq!(pages_after_opening(&mount.path(asked_for)), 0);
        mount.unmount();
    }
}

#[test]
fn what_is_written_while_others_open_the_file_is_never_covered_by_what_it_was() {
    const FILES: usize = 400;
    if !can_mount() {
        return;
    }
    let store = TempStore::new();
    let before = noise(9_000, 3);
    let mut layer = Layer::new();
    for index in 0..FILES {
        layer = layer.file(&format!("f{index}"), &before);
    }
    let chain = store.image(&[layer]);
    let mount = Mounted::writable(store.upper(chain));
    let together = Barrier::new(3);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for index in 0..FILES {
                    together.wait();
                    let mut read = Vec::new();
                    let mut file = File::open(mount.path(&format!("f{index}"))).unwrap();
                    file.read_to_end(&mut read).unwrap();
                    assert_eq!(read.len(), before.len());
                    assert_eq!(read[100..], before[100..]);
                }
            });
        }
        scope.spawn(|| {
            for index in 0..FILES {
                together.wait();
                let path = mount.path(&format!("f{index}"));
                let mut file = OpenOptions::new().write(true).open(path).unwrap();
                file.write_all(&[0xEE; 100]).unwrap();
            }
        });
    });
    for index in 0..FILES {
        let read = std::fs::read(mount.path(&format!("f{index}"))).unwrap();
        assert_eq!(read[..100], [0xEE; 100], "file {index}");
        assert_eq!(read[100..], before[100..], "file {index}");
    }
    mount.unmount();
}

/// What a filesystem of the host does not know is done without: there is nothing to see then.
fn can_read_without_caching(path: &Path) -> bool {
    const DONT_CACHE: rustix::io::ReadWriteFlags =
        rustix::io::ReadWriteFlags::from_bits_retain(0x80);
    let file = File::open(path).unwrap();
    let mut byte = [0];
    let mut buf = [std::io::IoSliceMut::new(&mut byte)];
    rustix::io::preadv2(&file, &mut buf, 0, DONT_CACHE).is_ok()
}

#[test]
fn a_large_file_that_is_read_through_a_mount_is_in_the_page_cache_once() {
    const BYTES: usize = 8 << 20;
    if !can_mount() {
        return;
    }
    let store = TempStore::new();
    let content = noise(BYTES, 3);
    let chain = store.image(&[Layer::new().file("large", &content)]);
    let id = nacre_store::BlobId(nacre_store::Digest::of(&content));
    let blob = match store.get().blob(&id).unwrap() {
        nacre_store::Blob::File(file, _) => file,
        nacre_store::Blob::Small(_) => panic!("small"),
    };
    let blob = std::fs::read_link(format!(
        "/proc/self/fd/{}",
        std::os::fd::AsRawFd::as_raw_fd(&*blob)
    ))
    .unwrap();
    if !can_read_without_caching(&blob) {
        return;
    }
    for mount in [
        Mounted::read_only(&store, chain),
        Mounted::writable(store.upper(chain)),
    ] {
        rustix::fs::fadvise(
            File::open(&blob).unwrap(),
            0,
            None,
            rustix::fs::Advice::DontNeed,
        )
        .unwrap();
        assert_eq!(std::fs::read(mount.path("large")).unwrap(), content);
        let pages = BYTES as u64 / 4096;
        assert_eq!(pages_after_opening(&mount.path("large")), pages);
        let twice = pages_after_opening(&blob);
        assert!(twice < pages / 8, "{twice} of {pages} pages of the host");
        mount.unmount();
    }
}

//! Rows of the table of what a union filesystem must get right (fs/README.md, "Rows"), each a test that names its row: what
//! a program sees is taken down on a plain directory of the host and on a writable mount over an image of the same
//! tree, and must be the same on both; and what the row is about is checked by itself.

mod data;
mod names;
mod special;

use std::path::Path;
use std::time::Duration;

use crate::common::directory::Directory;
use crate::common::ops::{Target as _, parse};
use crate::support::{Layer, Mounted, TempStore, can_mount};

/// What was seen, a line each.
type Seen = Vec<String>;

/// More than a tick of the coarse clock: what happens within one has the same time.
const TICK: Duration = Duration::from_millis(5);

/// Lets `watch` work on a directory of the host and on a mount whose image has the same tree, made by operations.
fn row(base: &str, watch: impl Fn(&Path) -> Seen) -> Option<Seen> {
    can_mount().then(|| {
        let host = tempfile::tempdir().unwrap();
        let mut directory = Directory::new(host.path());
        for op in parse(base) {
            directory.apply(&op).unwrap();
        }
        let store = TempStore::new();
        let chain = store.image(&[Layer::of_picture(&directory.picture())]);
        let mount = Mounted::writable(store.upper(chain));
        let (expected, got) = (watch(host.path()), watch(&mount.root));
        assert_eq!(got, expected, "the mount, and the host");
        got
    })
}

/// A row that the host does not share.
fn here(layers: &[Layer], watch: impl Fn(&Path)) {
    if can_mount() {
        let store = TempStore::new();
        let chain = store.image(layers);
        let mount = Mounted::writable(store.upper(chain));
        watch(&mount.root);
    }
}

/// An answer as its error number, 0 for none.
fn code<T>(answer: std::io::Result<T>) -> i32 {
    answer
        .err()
        .map_or(0, |error| error.raw_os_error().unwrap())
}

fn errno<T>(answer: rustix::io::Result<T>) -> i32 {
    answer.err().map_or(0, rustix::io::Errno::raw_os_error)
}

fn names(dir: &Path) -> Vec<std::ffi::OsString> {
    let entries = std::fs::read_dir(dir).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    names
}

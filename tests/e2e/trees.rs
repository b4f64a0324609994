//! Listing a directory tree with everything that an image can say of it, to compare two trees.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

/// Every path below `root` (and `.`) with one line that says all of it but the inode number and ctime.
pub(crate) fn list(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut lines = BTreeMap::new();
    let mut first_names: HashMap<u64, PathBuf> = HashMap::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let mut names: Vec<OsString> = fs::read_dir(root.join(&folder))
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        names.sort();
        if folder.as_os_str().is_empty() {
            lines.insert(
                PathBuf::from("."),
                describe(root, &fs::symlink_metadata(root).unwrap()),
            );
        }
        for name in names {
            let relative = folder.join(name);
            let path = root.join(&relative);
            let meta = fs::symlink_metadata(&path).unwrap();
            let mut line = describe(&path, &meta);
            if meta.is_dir() {
                folders.push(relative.clone());
            } else if meta.nlink() > 1 {
                let first = first_names
                    .entry(meta.ino())
                    .or_insert_with(|| relative.clone());
                line.push_str(&format!(" same-as={}", first.display()));
            }
            lines.insert(relative, line);
        }
    }
    // Which name of a hard-linked file came first depends on the walk alone, and the walk is the same for both.
    lines
}

fn describe(path: &Path, meta: &fs::Metadata) -> String {
    let kind = meta.mode() & 0o170_000;
    let mut line = format!(
        "{kind:o} mode={:o} uid={} gid={} nlink={}",
        meta.mode() & 0o7777,
        meta.uid(),
        meta.gid(),
        meta.nlink()
    );
    if !meta.is_dir() {
        line.push_str(&format!(
            " size={} mtime={}.{:09}",
            meta.len(),
            meta.mtime(),
            meta.mtime_nsec()
        ));
    } else {
        line.push_str(&format!(" mtime={}.{:09}", meta.mtime(), meta.mtime_nsec()));
    }
    if kind == 0o020_000 || kind == 0o060_000 {
        line.push_str(&format!(" rdev={:x}", meta.rdev()));
    }
    if meta.is_symlink() {
        line.push_str(&format!(" -> {}", fs::read_link(path).unwrap().display()));
    }
    if meta.is_file() {
        line.push_str(&format!(
            " sha256={}",
            hex::encode(Sha256::digest(fs::read(path).unwrap()))
        ));
    }
    for (name, value) in xattrs(path) {
        line.push_str(&format!(
            " {}={}",
            name.to_string_lossy(),
            hex::encode(value)
        ));
    }
    line
}

fn xattrs(path: &Path) -> BTreeMap<OsString, Vec<u8>> {
    let mut names = vec![0_u8; 64 << 10];
    let Ok(len) = rustix::fs::llistxattr(path, &mut names) else {
        return BTreeMap::new();
    };
    names[..len]
        .split(|b| *b == 0)
        .filter(|name| !name.is_empty())
        .map(|name| {
            let name = std::ffi::OsStr::from_bytes(name).to_owned();
            let mut value = vec![0_u8; 64 << 10];
            let len = rustix::fs::lgetxattr(path, &name, &mut value).unwrap();
            value.truncate(len);
            (name, value)
        })
        .collect()
}

/// Panics with the first differences of two listings.
pub(crate) fn assert_same(
    what: &str,
    left: &BTreeMap<PathBuf, String>,
    right: &BTreeMap<PathBuf, String>,
) {
    assert!(!left.is_empty(), "{what}: nothing to compare");
    let mut differences = Vec::new();
    for path in left
        .keys()
        .chain(right.keys().filter(|path| !left.contains_key(*path)))
    {
        let (a, b) = (left.get(path), right.get(path));
        if a != b {
            differences.push(format!(
                "{}\n  left:  {a:?}\n  right: {b:?}",
                path.display()
            ));
        }
    }
    let shown = differences
        .iter()
        .take(8)
        .cloned()
        .collect::<Vec<_>>()
        .join("\n");
    assert!(
        differences.is_empty(),
        "{what}: {} paths differ\n{shown}",
        differences.len()
    );
}

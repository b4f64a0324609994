//! A tree as a list: one JSON object a path, in the words of `oci-cases/walk.py`.

use std::collections::BTreeMap;
use std::io::Read;

use crate::{Blob, Content, Digest, Ino, Inode, Kind, Store, Tree};
use serde_json::{Map, Value, json};

/// Lists a tree, and checks on the way what every tree promises: links, kinds and counts agree.
pub(crate) fn list(store: &Store, tree: &Tree) -> Vec<Map<String, Value>> {
    let mut out = Vec::new();
    let mut names: BTreeMap<Ino, Vec<usize>> = BTreeMap::new();
    let mut todo = vec![(Ino::ROOT, Vec::new())];
    while let Some((ino, at)) = todo.pop() {
        let inode = tree.inode(ino).unwrap().unwrap();
        let shown = if at.is_empty() {
            ".".to_owned()
        } else {
            python_text(&at)
        };
        out.push(describe(store, &inode, shown));
        if inode.kind != Kind::Dir {
            names.entry(ino).or_default().push(out.len() - 1);
            continue;
        }
        let dir = tree.dir(ino).unwrap().unwrap();
        let subdirs = dir.entries.iter().filter(|e| e.kind == Kind::Dir).count();
        assert!(
            matches!(inode.content, Content::Dir { subdirs: n, .. } if n as usize == subdirs),
            "nlink of {ino:?}"
        );
        for entry in &dir.entries {
            let child = tree.inode(entry.ino).unwrap().unwrap();
            assert_eq!(child.kind, entry.kind, "kind of {:?}", entry.name);
            let links = child
                .links
                .iter()
                .filter(|l| l.parent == ino && l.name == entry.name)
                .count();
            assert_eq!(links, 1, "links of {:?}", entry.name);
            let mut path = at.clone();
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(entry.name.as_bytes());
            todo.push((entry.ino, path));
        }
    }
    for (ino, places) in &names {
        let links = tree.inode(*ino).unwrap().unwrap().links.len();
        assert_eq!(links, places.len(), "nlink of {}", out[places[0]]["path"]);
        // Groups are of regular files alone, as walk.py has them.
        if links > 1 && out[places[0]]["type"] == "file" {
            let first = places
                .iter()
                .map(|p| out[*p]["path"].as_str().unwrap())
                .min()
                .unwrap()
                .to_owned();
            for place in places {
                out[*place].insert("hardlink_group".to_owned(), json!(first));
            }
        }
    }
    out.sort_by(|a, b| a["path"].as_str().cmp(&b["path"].as_str()));
    out
}

/// A list as walk.py prints it.
pub(crate) fn lines(list: &[Map<String, Value>]) -> String {
    let known = list.iter().cloned().map(|mut entry| {
        // walk.py has only the digest.
        entry.remove("text");
        format!("{}\n", Value::Object(entry))
    });
    known.collect()
}

/// The paths of a tree with what they hold, short: for tests that say what they expect in words.
pub(crate) fn summary(store: &Store, tree: &Tree) -> Vec<String> {
    let mut out = Vec::new();
    for entry in list(store, tree) {
        let path = entry["path"].as_str().unwrap();
        out.push(match entry["type"].as_str().unwrap() {
            "file" => {
                let links = entry
                    .get("hardlink_group")
                    .map(|g| format!(" = {}", g.as_str().unwrap()));
                format!(
                    "f {path} {}{}",
                    entry["text"].as_str().unwrap(),
                    links.unwrap_or_default()
                )
            }
            "dir" => format!("d {path}"),
            "symlink" => format!("l {path} {}", entry["link"].as_str().unwrap()),
            other => format!("{other} {path}"),
        });
    }
    out
}

fn describe(store: &Store, inode: &Inode, path: String) -> Map<String, Value> {
    let mtime = i128::from(inode.mtime.seconds) * 1_000_000_000 + i128::from(inode.mtime.nanos);
    let mut entry = Map::new();
    let mut put = |key: &str, value: Value| entry.insert(key.to_owned(), value);
    put("path", json!(path));
    put("uid", json!(inode.uid));
    put("gid", json!(inode.gid));
    put("mtime", serde_json::from_str(&mtime.to_string()).unwrap());
    if inode.kind != Kind::Symlink {
        put("mode", json!(format!("0o{:o}", inode.mode)));
    }
    let (major, minor) = (rustix::fs::major(inode.rdev), rustix::fs::minor(inode.rdev));
    match inode.kind {
        Kind::File => {
            let content = content(store, inode);
            assert_eq!(content.len() as u64, inode.size, "size of {path}");
            put("type", json!("file"));
            put("size", json!(inode.size));
            put("sha256", json!(Digest::of(&content).hex()[..16]));
            put(
                "text",
                json!(String::from_utf8_lossy(&content[..content.len().min(64)])),
            );
        }
        Kind::Dir => drop(put("type", json!("dir"))),
        Kind::Symlink => {
            let Content::Symlink(target) = &inode.content else {
                panic!("symlink {path} without target")
            };
            put("type", json!("symlink"));
            put("link", json!(python_text(target)));
        }
        Kind::Char => drop((
            put("type", json!("char")),
            put("rdev", json!([major, minor])),
        )),
        Kind::Block => drop((
            put("type", json!("block")),
            put("rdev", json!([major, minor])),
        )),
        Kind::Fifo => drop(put("type", json!("fifo"))),
        Kind::Socket => drop(put("type", json!("socket"))),
    }
    let mut xattrs = Map::new();
    for (name, value) in &inode.xattrs {
        let name = String::from_utf8_lossy(name);
        let shown = ["user.", "security.", "trusted."]
            .iter()
            .any(|p| name.starts_with(p));
        let hidden = ["trusted.overlay", "user.overlay", "security.selinux"]
            .iter()
            .any(|p| name.starts_with(p));
        if shown && !hidden {
            xattrs.insert(name.into_owned(), json!(hex::encode(value)));
        }
    }
    if !xattrs.is_empty() {
        entry.insert("xattrs".to_owned(), Value::Object(xattrs));
    }
    entry
}

/// The whole content of a file.
pub(crate) fn content(store: &Store, inode: &Inode) -> Vec<u8> {
    let read = |blob| match store.blob(blob).unwrap() {
        Blob::Small(content) => content.to_vec(),
        Blob::File(file, size) => {
            let mut content = Vec::new();
            (&*file).read_to_end(&mut content).unwrap();
            assert_eq!(content.len() as u64, size);
            content
        }
    };
    let size = usize::try_from(inode.size).unwrap();
    match &inode.content {
        Content::None => vec![0; size],
        Content::Blob(blob) => read(blob),
        Content::Sparse { blob, extents } => {
            let stored = read(blob);
            let mut content = vec![0; size];
            let mut at = 0;
            for extent in extents {
                let (offset, len) = (
                    usize::try_from(extent.offset).unwrap(),
                    usize::try_from(extent.len).unwrap(),
                );
                content[offset..offset + len].copy_from_slice(&stored[at..at + len]);
                at += len;
            }
            assert_eq!(at, stored.len());
            content
        }
        other => panic!("no content of a lower file: {other:?}"),
    }
}

/// Bytes as Python's `decode('utf-8', 'backslashreplace')` shows them.
fn python_text(bytes: &[u8]) -> String {
    let mut out = String::new();
    for chunk in bytes.utf8_chunks() {
        out.push_str(chunk.valid());
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out
}

//! What the union shows: through lookup, readdir and the records, never past the rules.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use nacre_fs::union::{getattr, readdir};
use nacre_store::{Content, Ino, Kind};

use super::{Memory, letter_of, stamp, text};
use crate::common::ops::{HELD, Picture, Seen};

impl Memory {
    pub(super) fn seen(&self, ino: Ino, same_as: String) -> Seen {
        let inode = self.settled(ino);
        let target = match &inode.content {
            Content::Symlink(target) => text(target),
            _ => String::new(),
        };
        Seen {
            kind: letter_of(inode.kind),
            mode: inode.mode,
            uid: inode.uid,
            gid: inode.gid,
            nlink: u64::from(getattr::nlink(ino, &inode)),
            size: inode.size,
            rdev: inode.rdev,
            target,
            bytes: if inode.kind == Kind::File {
                self.bytes(ino)
            } else {
                Vec::new()
            },
            xattrs: inode
                .xattrs
                .iter()
                .map(|(k, v)| (text(k), v.to_vec()))
                .collect(),
            same_as,
            mtime: stamp(inode.mtime),
            ctime: stamp(inode.ctime),
            ino: ino.0,
        }
    }

    /// Lists a directory as readdir does: name, inode, cookie.
    pub fn list(&self, dir: Ino, after: u64) -> Vec<(String, Ino, Kind, u64)> {
        let mut items = Vec::new();
        let visited = readdir::visit(self, dir, after, &mut |item| {
            items.push((text(item.name), item.ino, item.kind, item.cookie));
            ControlFlow::Continue(())
        });
        visited.unwrap();
        items
    }

    /// Every path with its inode, the root first.
    pub fn paths(&self) -> Vec<(String, Ino)> {
        let mut paths = vec![(String::new(), Ino::ROOT)];
        let mut at = 0;
        while let Some((path, dir)) = paths.get(at).cloned() {
            at += 1;
            if self.inode(dir).kind != Kind::Dir {
                continue;
            }
            for (child, ino, _, _) in self.list(dir, 0) {
                if child != "." && child != ".." {
                    paths.push((
                        if path.is_empty() {
                            child
                        } else {
                            format!("{path}/{child}")
                        },
                        ino,
                    ));
                }
            }
        }
        paths.sort();
        paths
    }

    /// Returns the tree as it is now.
    pub(super) fn show(&self) -> Picture {
        let mut first: BTreeMap<Ino, String> = BTreeMap::new();
        let mut picture = Picture::new();
        for (path, ino) in self.paths() {
            let same_as = first.entry(ino).or_insert_with(|| path.clone()).clone();
            picture.insert(path, self.seen(ino, same_as));
        }
        if let Some(ino) = self.held {
            let same_as = first.get(&ino).cloned().unwrap_or_else(|| HELD.to_owned());
            picture.insert(HELD.to_owned(), self.seen(ino, same_as));
        }
        picture
    }
}

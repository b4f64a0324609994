//! What the model shows.

use std::collections::BTreeMap;

use super::{Model, ROOT, ino_of};
use crate::common::ops::{HELD, Picture, Seen};

impl Model {
    /// Counts the names that lead to a place.
    fn names(&self, id: u64) -> u64 {
        let mut count = 0;
        let mut dirs = vec![ROOT];
        while let Some(dir) = dirs.pop() {
            for child in self.at(dir).children.values() {
                count += u64::from(*child == id);
                if self.at(*child).kind == 'd' {
                    dirs.push(*child);
                }
            }
        }
        count
    }

    fn seen(&self, id: u64, same_as: String) -> Seen {
        let place = self.at(id);
        let subdirs = place
            .children
            .values()
            .filter(|child| self.at(**child).kind == 'd')
            .count();
        let size = match place.kind {
            'l' => place.target.len(),
            _ => place.bytes.len(),
        };
        Seen {
            kind: place.kind,
            mode: place.mode,
            uid: place.uid,
            gid: place.gid,
            nlink: if place.kind == 'd' {
                2 + u64::try_from(subdirs).unwrap()
            } else {
                self.names(id)
            },
            size: u64::try_from(size).unwrap(),
            rdev: place.rdev,
            target: place.target.clone(),
            bytes: place.bytes.clone(),
            xattrs: place.xattrs.clone(),
            same_as,
            mtime: place.mtime,
            ctime: place.ctime,
            ino: ino_of(id).0,
        }
    }

    fn list(&self, dir: u64, prefix: &str, paths: &mut Vec<(String, u64)>) {
        for (name, id) in &self.at(dir).children {
            let path = if prefix.is_empty() {
                name.clone()
            } else {
                format!("{prefix}/{name}")
            };
            paths.push((path.clone(), *id));
            if self.at(*id).kind == 'd' {
                self.list(*id, &path, paths);
            }
        }
    }

    /// Returns the tree as it is now.
    pub(super) fn show(&self) -> Picture {
        let mut paths = vec![(String::new(), ROOT)];
        self.list(ROOT, "", &mut paths);
        paths.sort();
        let mut first: BTreeMap<u64, String> = BTreeMap::new();
        let mut picture = Picture::new();
        for (path, id) in paths {
            let same_as = first.entry(id).or_insert_with(|| path.clone()).clone();
            picture.insert(path, self.seen(id, same_as));
        }
        if let Some(id) = self.held {
            let same_as = first.get(&id).cloned().unwrap_or_else(|| HELD.to_owned());
            picture.insert(HELD.to_owned(), self.seen(id, same_as));
        }
        picture
    }
}

//! The reference: a tree of nodes in memory, as naive as can be. Root asks, the umask is 022.

use std::collections::BTreeMap;

use nacre_store::Ino;
use rustix::io::Errno;

use super::ops::{
    AclSpec, Allocate, HELD, Node, Op, Outcome, Picture, Rename, Seen, SetXattr, Stamp, Target,
    WhichAcl,
};

/// The umask under which every judge works.
pub const UMASK: u16 = 0o022;

const ROOT: u64 = 1;

/// The inode number of a place.
pub fn ino_of(id: u64) -> Ino {
    Ino(if id == ROOT { 1 } else { id + 100 })
}

/// One place in the tree.
#[derive(Debug, Clone)]
pub struct Place {
    pub kind: char,
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
    pub rdev: u64,
    pub target: String,
    pub bytes: Vec<u8>,
    pub xattrs: BTreeMap<String, Vec<u8>>,
    pub children: BTreeMap<String, u64>,
    pub mtime: Stamp,
    pub ctime: Stamp,
}

/// The tree.
#[derive(Debug, Clone)]
pub struct Model {
    pub places: BTreeMap<u64, Place>,
    next: u64,
    pub now: i64,
    held: Option<u64>,
}

type Found<T> = Result<T, Errno>;

impl Model {
    /// An empty root directory.
    pub fn new() -> Self {
        let mut model = Self {
            places: BTreeMap::new(),
            next: ROOT,
            now: 1_000,
            held: None,
        };
        model.make('d', 0o755);
        model
    }

    fn make(&mut self, kind: char, mode: u16) -> u64 {
        let stamp = (self.now, 0);
        let place = Place {
            kind,
            mode,
            uid: 0,
            gid: 0,
            rdev: 0,
            target: String::new(),
            bytes: Vec::new(),
            xattrs: BTreeMap::new(),
            children: BTreeMap::new(),
            mtime: stamp,
            ctime: stamp,
        };
        self.places.insert(self.next, place);
        self.next += 1;
        self.next - 1
    }

    fn at(&self, id: u64) -> &Place {
        &self.places[&id]
    }

    fn at_mut(&mut self, id: u64) -> &mut Place {
        self.places.get_mut(&id).unwrap()
    }

    /// Walks to the directory of the last name. Every symbolic link here leads nowhere.
    fn walk(&self, path: &str) -> Found<(u64, String)> {
        let mut names: Vec<&str> = path.split('/').collect();
        let last = names.pop().unwrap();
        let mut dir = ROOT;
        for name in names {
            let id = *self.at(dir).children.get(name).ok_or(Errno::NOENT)?;
            match self.at(id).kind {
                'd' => dir = id,
                'l' => return Err(Errno::NOENT),
                _ => return Err(Errno::NOTDIR),
            }
        }
        Ok((dir, last.to_owned()))
    }

    fn find(&self, path: &str) -> Found<u64> {
        let (dir, name) = self.walk(path)?;
        self.at(dir)
            .children
            .get(&name)
            .copied()
            .ok_or(Errno::NOENT)
    }

    /// Finds what a path leads to if the last name is followed too.
    fn follow(&self, path: &str) -> Found<u64> {
        let id = self.find(path)?;
        if self.at(id).kind == 'l' {
            Err(Errno::NOENT)
        } else {
            Ok(id)
        }
    }

    /// Finds a file to be opened for writing.
    fn writable(&self, path: &str) -> Found<u64> {
        let id = self.follow(path)?;
        match self.at(id).kind {
            'f' => Ok(id),
            'd' => Err(Errno::ISDIR),
            _ => Err(Errno::INVAL),
        }
    }

    fn touch(&mut self, id: u64) {
        let stamp = (self.now, 0);
        let place = self.at_mut(id);
        place.mtime = stamp;
        place.ctime = stamp;
    }

    fn changed(&mut self, id: u64) {
        self.at_mut(id).ctime = (self.now, 0);
    }

    /// Adds a new place: owner, group, permissions.
    fn grow(&mut self, path: &str, kind: char, mode: u16) -> Found<u64> {
        let (dir, name) = self.walk(path)?;
        if self.at(dir).children.contains_key(&name) {
            return Err(Errno::EXIST);
        }
        Ok(self.grow_in(dir, name, kind, mode))
    }

    fn grow_in(&mut self, dir: u64, name: String, kind: char, mode: u16) -> u64 {
        let id = self.make(kind, mode);
        let parent = self.at(dir).clone();
        let default = parent.xattrs.get(WhichAcl::Default.name());
        let place = self.at_mut(id);
        match default {
            _ if kind == 'l' => {}
            None => place.mode &= !UMASK,
            Some(acl) => inherit(place, acl),
        }
        if parent.mode & 0o2000 != 0 {
            place.gid = parent.gid;
            if kind == 'd' {
                place.mode |= 0o2000;
            }
        }
        self.at_mut(dir).children.insert(name, id);
        self.touch(dir);
        id
    }

    fn link(&mut self, from: &str, to: &str) -> Outcome {
        let id = self.find(from)?;
        let (dir, name) = self.walk(to)?;
        if self.at(dir).children.contains_key(&name) {
            return Err(Errno::EXIST);
        }
        if self.at(id).kind == 'd' {
            return Err(Errno::PERM);
        }
        self.at_mut(dir).children.insert(name, id);
        self.touch(dir);
        self.changed(id);
        Ok(())
    }

    fn remove(&mut self, path: &str, want_dir: bool) -> Outcome {
        let (dir, name) = self.walk(path)?;
        let id = *self.at(dir).children.get(&name).ok_or(Errno::NOENT)?;
        match (self.at(id).kind == 'd', want_dir) {
            (true, false) => return Err(Errno::ISDIR),
            (false, true) => return Err(Errno::NOTDIR),
            (true, true) if !self.at(id).children.is_empty() => return Err(Errno::NOTEMPTY),
            _ => {}
        }
        self.at_mut(dir).children.remove(&name);
        self.touch(dir);
        self.changed(id);
        Ok(())
    }

    /// Returns whether `upper` is `dir` or above it.
    fn is_above(&self, upper: u64, dir: u64) -> bool {
        upper == dir
            || self
                .at(upper)
                .children
                .values()
                .any(|child| self.is_above(*child, dir))
    }

    fn rename(&mut self, from: &str, to: &str, how: Rename) -> Outcome {
        let (from_dir, from_name) = self.walk(from)?;
        let (to_dir, to_name) = self.walk(to)?;
        let source = *self
            .at(from_dir)
            .children
            .get(&from_name)
            .ok_or(Errno::NOENT)?;
        let target = self.at(to_dir).children.get(&to_name).copied();
        match (how, target) {
            (Rename::NoReplace | Rename::NoReplaceWhiteout, Some(_)) => return Err(Errno::EXIST),
            (Rename::Exchange, None) => return Err(Errno::NOENT),
            _ => {}
        }
        if from_dir != to_dir {
            if self.is_above(source, to_dir) {
                return Err(Errno::INVAL);
            }
            if target.is_some_and(|target| self.is_above(target, from_dir)) {
                return Err(if how == Rename::Exchange {
                    Errno::INVAL
                } else {
                    Errno::NOTEMPTY
                });
            }
        }
        if target == Some(source) {
            return Ok(());
        }
        if let (Some(target), false) = (target, how == Rename::Exchange) {
            match (self.at(source).kind == 'd', self.at(target).kind == 'd') {
                (true, false) => return Err(Errno::NOTDIR),
                (false, true) => return Err(Errno::ISDIR),
                (true, true) if !self.at(target).children.is_empty() => {
                    return Err(Errno::NOTEMPTY);
                }
                _ => {}
            }
        }
        self.at_mut(from_dir).children.remove(&from_name);
        self.at_mut(to_dir).children.insert(to_name, source);
        if let Some(target) = target {
            self.changed(target);
        }
        match (how, target) {
            (Rename::Exchange, Some(target)) => {
                self.at_mut(from_dir).children.insert(from_name, target);
            }
            (Rename::Whiteout | Rename::NoReplaceWhiteout, _) => {
                self.grow_in(from_dir, from_name, 'c', 0);
            }
            _ => {}
        }
        self.changed(source);
        self.touch(from_dir);
        self.touch(to_dir);
        Ok(())
    }

    fn write(&mut self, id: u64, offset: u64, len: u64, fill: u8) {
        if len == 0 {
            return;
        }
        let (start, end) = (
            usize::try_from(offset).unwrap(),
            usize::try_from(offset + len).unwrap(),
        );
        let bytes = &mut self.at_mut(id).bytes;
        bytes.resize(bytes.len().max(end), 0);
        bytes[start..end].fill(fill);
        self.touch(id);
    }

    fn truncate(&mut self, id: u64, size: u64) {
        self.at_mut(id)
            .bytes
            .resize(usize::try_from(size).unwrap(), 0);
        self.touch(id);
    }

    fn allocate(&mut self, id: u64, offset: u64, len: u64, how: Allocate) -> Outcome {
        if len == 0 {
            return Err(Errno::INVAL);
        }
        let (start, end) = (
            usize::try_from(offset).unwrap(),
            usize::try_from(offset + len).unwrap(),
        );
        let bytes = &mut self.at_mut(id).bytes;
        if how == Allocate::Punch && start >= bytes.len() {
            return Ok(());
        }
        if matches!(
            how,
            Allocate::Punch | Allocate::ZeroGrow | Allocate::ZeroKeepSize
        ) {
            let size = bytes.len();
            bytes[start.min(size)..end.min(size)].fill(0);
        }
        if matches!(how, Allocate::Grow | Allocate::ZeroGrow) {
            bytes.resize(bytes.len().max(end), 0);
        }
        self.touch(id);
        Ok(())
    }

    /// What the kernel says to a name before a filesystem sees it.
    fn check_xattr(&self, id: u64, name: &str) -> Outcome {
        let kind = self.at(id).kind;
        match name {
            _ if name.starts_with("user.") && !matches!(kind, 'f' | 'd') => Err(Errno::PERM),
            "user." => Err(Errno::INVAL),
            "odd" => Err(Errno::OPNOTSUPP),
            _ if name.starts_with("system.") && kind == 'l' => Err(Errno::OPNOTSUPP),
            _ => Ok(()),
        }
    }

    fn set_xattr(&mut self, path: &str, name: &str, value: &str, how: SetXattr) -> Outcome {
        let id = self.find(path)?;
        self.check_xattr(id, name)?;
        let there = self.at(id).xattrs.contains_key(name);
        match how {
            SetXattr::Create if there => return Err(Errno::EXIST),
            SetXattr::Replace if !there => return Err(Errno::NODATA),
            _ => {}
        }
        self.at_mut(id)
            .xattrs
            .insert(name.to_owned(), value.as_bytes().to_vec());
        self.changed(id);
        Ok(())
    }

    fn remove_xattr(&mut self, path: &str, name: &str) -> Outcome {
        let id = self.find(path)?;
        self.check_xattr(id, name)?;
        let there = self.at_mut(id).xattrs.remove(name).is_some();
        if !there && !name.starts_with("system.") {
            return Err(Errno::NODATA);
        }
        self.changed(id);
        Ok(())
    }

    fn set_acl(&mut self, path: &str, which: WhichAcl, acl: &AclSpec) -> Outcome {
        let id = self.find(path)?;
        self.check_xattr(id, which.name())?;
        let bytes = acl.to_bytes();
        if bytes.len() == 4 {
            self.at_mut(id).xattrs.remove(which.name());
            self.changed(id);
            return Ok(());
        }
        if which == WhichAcl::Default && self.at(id).kind != 'd' {
            return Err(Errno::ACCESS);
        }
        let named = has(&bytes, 2) || has(&bytes, 8);
        if !has(&bytes, 1) || !has(&bytes, 4) || !has(&bytes, 32) || (named && !has(&bytes, 16)) {
            return Err(Errno::INVAL);
        }
        let place = self.at_mut(id);
        match which {
            WhichAcl::Default => drop(place.xattrs.insert(which.name().to_owned(), bytes)),
            WhichAcl::Access => set_access(place, bytes),
        }
        self.changed(id);
        Ok(())
    }

    fn chmod(&mut self, id: u64, mode: u16) {
        let place = self.at_mut(id);
        place.mode = mode;
        if let Some(mut acl) = place.xattrs.remove(WhichAcl::Access.name()) {
            let group = if has(&acl, 16) { 16 } else { 4 };
            for (tag, shift) in [(1, 6), (group, 3), (32, 0)] {
                set_perm(&mut acl, tag, (mode >> shift) & 7);
            }
            set_access(place, acl);
        }
        self.changed(id);
    }

    fn node(&mut self, path: &str, node: Node, mode: u16, rdev: u64) -> Outcome {
        let kind = match node {
            Node::File => 'f',
            Node::Char => 'c',
            Node::Block => 'b',
            Node::Fifo => 'p',
            Node::Socket => 's',
        };
        let id = self.grow(path, kind, mode)?;
        if matches!(kind, 'c' | 'b') {
            self.at_mut(id).rdev = rdev;
        }
        Ok(())
    }

    fn held(&self) -> Found<u64> {
        self.held.ok_or(Errno::BADF)
    }

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
}

/// An entry of an ACL: tag and permissions.
fn entries(acl: &[u8]) -> impl Iterator<Item = (u8, u8)> {
    acl[4..].chunks(8).map(|entry| (entry[0], entry[2]))
}

fn has(acl: &[u8], tag: u8) -> bool {
    entries(acl).any(|(t, _)| t == tag)
}

fn perm(acl: &[u8], tag: u8) -> u16 {
    u16::from(entries(acl).find(|(t, _)| *t == tag).unwrap().1)
}

fn set_perm(acl: &mut [u8], tag: u8, perm: u16) {
    let entry = acl[4..]
        .chunks_mut(8)
        .find(|entry| entry[0] == tag)
        .unwrap();
    entry[2] = u8::try_from(perm).unwrap();
}

/// Gives a place an access ACL, or only the mode that says the same.
fn set_access(place: &mut Place, acl: Vec<u8>) {
    let group = if has(&acl, 16) { 16 } else { 4 };
    place.mode =
        (place.mode & !0o777) | (perm(&acl, 1) << 6) | (perm(&acl, group) << 3) | perm(&acl, 32);
    place.xattrs.remove(WhichAcl::Access.name());
    if acl.len() > 4 + 3 * 8 {
        place.xattrs.insert(WhichAcl::Access.name().to_owned(), acl);
    }
}

fn inherit(place: &mut Place, default: &[u8]) {
    if place.kind == 'd' {
        place
            .xattrs
            .insert(WhichAcl::Default.name().to_owned(), default.to_vec());
    }
    let mut acl = default.to_vec();
    let group = if has(&acl, 16) { 16 } else { 4 };
    for (tag, shift) in [(1, 6), (group, 3), (32, 0)] {
        let both = perm(&acl, tag) & (place.mode >> shift);
        set_perm(&mut acl, tag, both);
    }
    set_access(place, acl);
}

impl Target for Model {
    fn apply(&mut self, op: &Op) -> Outcome {
        self.now += 1;
        match op {
            Op::Create { path, mode } => self.grow(path, 'f', *mode).map(drop),
            Op::Mkdir { path, mode } => self.grow(path, 'd', mode & 0o1777).map(drop),
            Op::Mknod {
                path,
                node,
                mode,
                rdev,
            } => self.node(path, *node, *mode, *rdev),
            Op::Symlink { target, path } => {
                let id = self.grow(path, 'l', 0o777)?;
                self.at_mut(id).target.clone_from(target);
                Ok(())
            }
            Op::Link { from, to } => self.link(from, to),
            Op::Unlink { path } => self.remove(path, false),
            Op::Rmdir { path } => self.remove(path, true),
            Op::Rename { from, to, how } => self.rename(from, to, *how),
            Op::Chmod { path, mode } => {
                let id = self.follow(path)?;
                self.chmod(id, *mode);
                Ok(())
            }
            Op::Chown { path, uid, gid } => {
                let id = self.find(path)?;
                let place = self.at_mut(id);
                (place.uid, place.gid) = (*uid, *gid);
                if place.kind != 'd' {
                    place.mode &= !0o4000;
                    if place.mode & 0o10 != 0 {
                        place.mode &= !0o2000;
                    }
                }
                self.changed(id);
                Ok(())
            }
            Op::Truncate { path, size } => {
                let id = self.writable(path)?;
                self.truncate(id, *size);
                Ok(())
            }
            Op::Write {
                path,
                offset,
                len,
                fill,
            } => {
                let id = self.writable(path)?;
                self.write(id, *offset, *len, *fill);
                Ok(())
            }
            Op::Allocate {
                path,
                offset,
                len,
                how,
            } => {
                let id = self.writable(path)?;
                self.allocate(id, *offset, *len, *how)
            }
            Op::Mtime { path, seconds } => {
                let id = self.find(path)?;
                self.at_mut(id).mtime = (*seconds, 0);
                self.changed(id);
                Ok(())
            }
            Op::SetXattr {
                path,
                name,
                value,
                how,
            } => self.set_xattr(path, name, value, *how),
            Op::RemoveXattr { path, name } => self.remove_xattr(path, name),
            Op::SetAcl { path, which, acl } => self.set_acl(path, *which, acl),
            Op::Hold { path } => {
                self.held = None;
                self.held = Some(self.writable(path)?);
                Ok(())
            }
            Op::HeldWrite { offset, len, fill } => {
                let id = self.held()?;
                self.write(id, *offset, *len, *fill);
                Ok(())
            }
            Op::HeldTruncate { size } => {
                let id = self.held()?;
                self.truncate(id, *size);
                Ok(())
            }
            Op::HeldChmod { mode } => {
                let id = self.held()?;
                self.chmod(id, *mode);
                Ok(())
            }
            Op::Release => {
                self.held = None;
                Ok(())
            }
        }
    }

    fn picture(&self) -> Picture {
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

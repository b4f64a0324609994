//! The reference: a tree of nodes in memory, as naive as can be. Root asks, the umask is 022.

mod acl;
mod look;

use std::collections::BTreeMap;

use nacre_store::Ino;
use rustix::io::Errno;

use acl::inherit;

use super::ops::{Allocate, Node, Op, Outcome, Picture, Rename, Stamp, Target, WhichAcl};

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
        self.show()
    }
}

//! The union's rules over layers in memory, with data files in memory: what the vfs does with plans, without a disk.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use nacre_fs::union::content::{self, DataStep, Source};
use nacre_fs::union::create::{self, Purpose};
use nacre_fs::union::setattr::{self, Change, Kill, SetTime};
use nacre_fs::union::unlink::Gone;
use nacre_fs::union::{At, Context, Errno, Layers, Origin, Plan};
use nacre_fs::union::{fallocate, getattr, link, lookup, readdir, rename, unlink, write, xattr};
use nacre_store::{
    BlobId, Content, Digest, DirEntry, DirList, Extent, FileName, Ino, Inode, Kind, LayerNo, Link,
    Override, Time, UpperOp,
};
use rustix::io::Errno as OsErrno;

use super::model::{Model, UMASK, ino_of};
use super::ops::{
    Allocate, HELD, Node, Op, Outcome, Picture, Rename, Seen, SetXattr, Stamp, Target,
};

/// A data file.
#[derive(Debug, Clone)]
struct DataFile {
    bytes: Vec<u8>,
    mtime: Time,
    ctime: Time,
}

/// A base and an upper in memory.
#[derive(Debug, Clone)]
pub struct Memory {
    pub base_inodes: BTreeMap<Ino, Arc<Inode>>,
    pub base_dirs: BTreeMap<Ino, Arc<DirList>>,
    pub inodes: BTreeMap<Ino, Arc<Inode>>,
    pub dirs: BTreeMap<Ino, Arc<BTreeMap<FileName, Override>>>,
    pub orphans: BTreeSet<Ino>,
    blobs: BTreeMap<BlobId, Vec<u8>>,
    data: BTreeMap<Ino, DataFile>,
    now: i64,
    next_ino: u64,
    next_seq: u64,
    held: Option<Ino>,
    pub origin: Origin,
}

impl Layers for Memory {
    fn base_inode(&self, ino: Ino) -> Result<Option<Arc<Inode>>, Errno> {
        Ok(self.base_inodes.get(&ino).cloned())
    }

    fn base_dir(&self, ino: Ino) -> Result<Option<Arc<DirList>>, Errno> {
        Ok(self.base_dirs.get(&ino).cloned())
    }

    fn upper_inode(&self, ino: Ino) -> Result<Option<Arc<Inode>>, Errno> {
        Ok(self.inodes.get(&ino).cloned())
    }

    fn upper_dir(&self, ino: Ino) -> Result<Arc<BTreeMap<FileName, Override>>, Errno> {
        Ok(self.dirs.get(&ino).cloned().unwrap_or_default())
    }
}

fn time(stamp: Stamp) -> Time {
    Time {
        seconds: stamp.0,
        nanos: u32::try_from(stamp.1).unwrap(),
    }
}

fn stamp(time: Time) -> Stamp {
    (time.seconds, i64::from(time.nanos))
}

fn name(text: &str) -> FileName {
    FileName::new(text.as_bytes()).unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn kind_of(letter: char) -> Kind {
    match letter {
        'f' => Kind::File,
        'd' => Kind::Dir,
        'l' => Kind::Symlink,
        'c' => Kind::Char,
        'b' => Kind::Block,
        'p' => Kind::Fifo,
        _ => Kind::Socket,
    }
}

fn letter_of(kind: Kind) -> char {
    match kind {
        Kind::File => 'f',
        Kind::Dir => 'd',
        Kind::Symlink => 'l',
        Kind::Char => 'c',
        Kind::Block => 'b',
        Kind::Fifo => 'p',
        Kind::Socket => 's',
    }
}

impl Memory {
    /// Makes the model's tree the base, with an empty upper.
    pub fn over(model: &Model) -> Self {
        let mut memory = Self {
            base_inodes: BTreeMap::new(),
            base_dirs: BTreeMap::new(),
            inodes: BTreeMap::new(),
            dirs: BTreeMap::new(),
            orphans: BTreeSet::new(),
            blobs: BTreeMap::new(),
            data: BTreeMap::new(),
            now: model.now,
            next_ino: 10_000,
            next_seq: 1,
            held: None,
            origin: Origin::User,
        };
        let mut links: BTreeMap<u64, Vec<Link>> = BTreeMap::new();
        let mut dirs = vec![1_u64];
        let mut kept = BTreeSet::from([1_u64]);
        while let Some(dir) = dirs.pop() {
            for (child_name, child) in &model.places[&dir].children {
                links.entry(*child).or_default().push(Link {
                    parent: ino_of(dir),
                    name: name(child_name),
                });
                if kept.insert(*child) && model.places[child].kind == 'd' {
                    dirs.push(*child);
                }
            }
        }
        for id in kept {
            memory.add_base(model, id, links.remove(&id).unwrap_or_default());
        }
        memory
    }

    fn add_base(&mut self, model: &Model, id: u64, links: Vec<Link>) {
        let place = &model.places[&id];
        let mut size = u64::try_from(place.bytes.len()).unwrap();
        let content = match place.kind {
            'd' => {
                let entries = place.children.iter().map(|(child_name, child)| DirEntry {
                    name: name(child_name),
                    ino: ino_of(*child),
                    kind: kind_of(model.places[child].kind),
                });
                let mut entries: Vec<DirEntry> = entries.collect();
                entries.sort_by(|one, other| one.name.cmp(&other.name));
                let subdirs = entries
                    .iter()
                    .filter(|entry| entry.kind == Kind::Dir)
                    .count();
                self.base_dirs
                    .insert(ino_of(id), Arc::new(DirList { entries }));
                Content::Dir {
                    pages: LayerNo(1),
                    subdirs: u32::try_from(subdirs).unwrap(),
                }
            }
            'l' => {
                size = u64::try_from(place.target.len()).unwrap();
                Content::Symlink(place.target.as_bytes().into())
            }
            _ => self.stored(&place.bytes, id % 2 == 0),
        };
        let inode = Inode {
            kind: kind_of(place.kind),
            mode: place.mode,
            uid: place.uid,
            gid: place.gid,
            rdev: place.rdev,
            size,
            atime: time(place.mtime),
            mtime: time(place.mtime),
            ctime: time(place.ctime),
            btime: time(place.ctime),
            content,
            xattrs: place
                .xattrs
                .iter()
                .map(|(k, v)| (k.as_bytes().into(), v.as_slice().into()))
                .collect(),
            links,
            init: false,
        };
        self.base_inodes.insert(ino_of(id), Arc::new(inode));
    }

    /// Stores content as a blob, or as runs between zeros.
    pub fn stored(&mut self, bytes: &[u8], sparse: bool) -> Content {
        if bytes.iter().all(|byte| *byte == 0) {
            return Content::None;
        }
        let put = |blobs: &mut BTreeMap<BlobId, Vec<u8>>, bytes: Vec<u8>| {
            let blob = BlobId(Digest::of(&bytes));
            blobs.insert(blob, bytes);
            blob
        };
        if !sparse {
            return Content::Blob(put(&mut self.blobs, bytes.to_vec()));
        }
        let mut extents: Vec<Extent> = Vec::new();
        let mut packed = Vec::new();
        for (offset, byte) in (0_u64..).zip(bytes).filter(|(_, byte)| **byte != 0) {
            packed.push(*byte);
            match extents.last_mut() {
                Some(run) if run.offset + run.len == offset => run.len += 1,
                _ => extents.push(Extent { offset, len: 1 }),
            }
        }
        Content::Sparse {
            blob: put(&mut self.blobs, packed),
            extents: extents.into(),
        }
    }

    /// Reads bytes of what a blob holds, at the file's offsets.
    fn read_base(&self, content: &Content, range: &Range<u64>) -> Vec<u8> {
        let slice = |blob: &BlobId, start: u64, len: u64| {
            let start = usize::try_from(start).unwrap();
            self.blobs[blob][start..start + usize::try_from(len).unwrap()].to_vec()
        };
        match content {
            Content::Blob(blob) => slice(blob, range.start, range.end - range.start),
            Content::Sparse { blob, extents } => {
                let mut before = 0;
                for run in extents {
                    if run.offset <= range.start && range.end <= run.offset + run.len {
                        return slice(
                            blob,
                            before + range.start - run.offset,
                            range.end - range.start,
                        );
                    }
                    before += run.len;
                }
                panic!("{range:?} is in no run of {extents:?}");
            }
            Content::Chunked { base, .. } => self.read_base(base, range),
            other => panic!("{other:?} has no blob"),
        }
    }

    fn has_data(inode: &Inode) -> bool {
        matches!(inode.content, Content::Data | Content::Chunked { .. })
    }

    pub fn inode(&self, ino: Ino) -> Arc<Inode> {
        getattr::inode(self, ino).unwrap()
    }

    pub fn size(&self, ino: Ino) -> u64 {
        let inode = self.inode(ino);
        if Self::has_data(&inode) {
            u64::try_from(self.data[&ino].bytes.len()).unwrap()
        } else {
            inode.size
        }
    }

    /// The record as stat shows it: with a data file, size and times are the file's.
    pub fn settled(&self, ino: Ino) -> Inode {
        let mut inode = (*self.inode(ino)).clone();
        if Self::has_data(&inode) {
            inode.size = self.size(ino);
            inode.mtime = self.data[&ino].mtime;
            inode.ctime = inode.ctime.max(self.data[&ino].ctime);
        }
        inode
    }

    /// Reads a whole file.
    pub fn bytes(&self, ino: Ino) -> Vec<u8> {
        let inode = self.inode(ino);
        let mut bytes = Vec::new();
        for (range, source) in content::pieces(&inode.content, 0..self.size(ino)) {
            let (start, end) = (
                usize::try_from(range.start).unwrap(),
                usize::try_from(range.end).unwrap(),
            );
            assert_eq!(start, bytes.len(), "pieces leave a gap");
            match source {
                Source::Zeros => bytes.resize(end, 0),
                Source::Data => bytes.extend_from_slice(&self.data[&ino].bytes[start..end]),
                Source::Base => bytes.extend(self.read_base(&inode.content, &range)),
            }
        }
        bytes
    }

    fn context(&mut self) -> Context {
        self.next_seq += 1;
        Context {
            now: time((self.now, 0)),
            uid: 0,
            gid: 0,
            umask: UMASK,
            seq: self.next_seq,
            origin: self.origin,
        }
    }

    fn fresh(&mut self) -> Ino {
        self.next_ino += 1;
        Ino(self.next_ino)
    }

    /// Does the data file's part of a plan.
    fn step(&mut self, ino: Ino, steps: &[DataStep]) {
        let now = time((self.now, 0));
        for step in steps {
            let copied = match step {
                DataStep::Copy { from, range } => self.read_base(from, range),
                _ => Vec::new(),
            };
            let file = self.data.entry(ino).or_insert(DataFile {
                bytes: Vec::new(),
                mtime: now,
                ctime: now,
            });
            (file.mtime, file.ctime) = (now, now);
            match step {
                DataStep::Create => file.bytes.clear(),
                DataStep::SetLen(len) => file.bytes.resize(usize::try_from(*len).unwrap(), 0),
                DataStep::Copy { range, .. } => {
                    let start = usize::try_from(range.start).unwrap();
                    file.bytes[start..start + copied.len()].copy_from_slice(&copied);
                }
                DataStep::Punch(range) => {
                    file.bytes[usize::try_from(range.start).unwrap()
                        ..usize::try_from(range.end).unwrap()]
                        .fill(0);
                }
                DataStep::Reserve(_) => {}
            }
        }
    }

    /// Does a batch.
    fn done<T>(&mut self, plan: Plan<T>) -> T {
        let mut seen = BTreeSet::new();
        for op in &plan.ops {
            let key = match op {
                UpperOp::SetInode(ino, _) | UpperOp::DropInode(ino) => format!("inode {ino:?}"),
                UpperOp::SetEntry(dir, name, _) | UpperOp::DropEntry(dir, name) => {
                    format!("{dir:?} {name}")
                }
                UpperOp::SetOrphan(ino) | UpperOp::DropOrphan(ino) => format!("orphan {ino:?}"),
            };
            assert!(
                seen.insert(key),
                "a batch says something twice: {:?}",
                plan.ops
            );
        }
        for op in plan.ops {
            self.write(op);
        }
        plan.answer
    }

    fn write(&mut self, op: UpperOp) {
        match op {
            UpperOp::SetInode(ino, inode) => drop(self.inodes.insert(ino, Arc::from(inode))),
            UpperOp::DropInode(ino) => {
                self.inodes.remove(&ino);
                self.data.remove(&ino);
            }
            UpperOp::SetEntry(dir, name, over) => {
                Arc::make_mut(self.dirs.entry(dir).or_default()).insert(name, over);
            }
            UpperOp::DropEntry(dir, name) => {
                Arc::make_mut(self.dirs.entry(dir).or_default()).remove(&name);
            }
            UpperOp::SetOrphan(ino) => drop(self.orphans.insert(ino)),
            UpperOp::DropOrphan(ino) => drop(self.orphans.remove(&ino)),
        }
    }

    fn reclaim(&mut self, ino: Ino) {
        if self.orphans.contains(&ino) && self.held != Some(ino) {
            for op in unlink::reclaim(ino) {
                self.write(op);
            }
        }
    }

    fn gone(&mut self, gone: Gone) {
        assert_eq!(gone.orphan, self.orphans.contains(&gone.ino));
        self.reclaim(gone.ino);
    }

    // ---------------------------------------------------------------- what the kernel does

    /// Walks to the directory of the last name.
    fn walk(&self, path: &str) -> Result<(Ino, FileName), OsErrno> {
        let mut names: Vec<&str> = path.split('/').collect();
        let last = names.pop().unwrap();
        let mut dir = Ino::ROOT;
        for part in names {
            let child = lookup::child(self, dir, &name(part))
                .map_err(os)?
                .ok_or(OsErrno::NOENT)?;
            match child.kind {
                Kind::Dir => dir = child.ino,
                Kind::Symlink => return Err(OsErrno::NOENT),
                _ => return Err(OsErrno::NOTDIR),
            }
        }
        Ok((dir, name(last)))
    }

    pub fn find(&self, path: &str) -> Result<Ino, OsErrno> {
        if path.is_empty() {
            return Ok(Ino::ROOT);
        }
        let (dir, name) = self.walk(path)?;
        let child = lookup::child(self, dir, &name).map_err(os)?;
        child.map(|child| child.ino).ok_or(OsErrno::NOENT)
    }

    fn follow(&self, path: &str) -> Result<Ino, OsErrno> {
        let ino = self.find(path)?;
        if self.inode(ino).kind == Kind::Symlink {
            Err(OsErrno::NOENT)
        } else {
            Ok(ino)
        }
    }

    fn writable(&self, path: &str) -> Result<Ino, OsErrno> {
        let ino = self.follow(path)?;
        match self.inode(ino).kind {
            Kind::File => Ok(ino),
            Kind::Dir => Err(OsErrno::ISDIR),
            _ => Err(OsErrno::INVAL),
        }
    }

    fn user_xattr(&self, ino: Ino, name: &str) -> Outcome {
        let fits = matches!(self.inode(ino).kind, Kind::File | Kind::Dir);
        if name.starts_with("user.") && !fits {
            Err(OsErrno::PERM)
        } else {
            Ok(())
        }
    }

    // ---------------------------------------------------------------- operations

    fn make(
        &mut self,
        path: &str,
        node: Option<Node>,
        mode: u16,
        rdev: u64,
        target: Option<&str>,
    ) -> Outcome {
        let (dir, name) = self.walk(path)?;
        let at = At { dir, name: &name };
        let (ctx, fresh) = (self.context(), self.fresh());
        let plan = match (node, target) {
            (_, Some(target)) => create::symlink(self, &ctx, at, fresh, target.as_bytes()),
            (None, None) => create::dir(self, &ctx, at, fresh, mode & 0o1777),
            (Some(Node::File), None) => {
                let purpose = if self.now % 2 == 0 {
                    Purpose::Empty
                } else {
                    Purpose::Writing
                };
                create::file(self, &ctx, at, fresh, mode, purpose)
            }
            (Some(Node::Char), None) => create::node(self, &ctx, at, fresh, Kind::Char, mode, rdev),
            (Some(Node::Block), None) => {
                create::node(self, &ctx, at, fresh, Kind::Block, mode, rdev)
            }
            (Some(Node::Fifo), None) => create::node(self, &ctx, at, fresh, Kind::Fifo, mode, rdev),
            (Some(Node::Socket), None) => {
                create::node(self, &ctx, at, fresh, Kind::Socket, mode, rdev)
            }
        };
        let plan = plan.map_err(os)?;
        self.step(fresh, &plan.answer.steps);
        let made = self.done(plan);
        assert_eq!(made.inode, *self.inode(fresh));
        Ok(())
    }

    fn rename(&mut self, from: &str, to: &str, how: Rename) -> Outcome {
        let (from_dir, from_name) = self.walk(from)?;
        let (to_dir, to_name) = self.walk(to)?;
        let how = match how {
            Rename::Replace => rename::How::Replace,
            Rename::NoReplace => rename::How::NoReplace,
            Rename::Exchange => rename::How::Exchange,
            Rename::Whiteout => rename::How::Whiteout(self.fresh()),
            Rename::NoReplaceWhiteout => rename::How::NoReplaceWhiteout(self.fresh()),
        };
        let ctx = self.context();
        let (from, to) = (
            At {
                dir: from_dir,
                name: &from_name,
            },
            At {
                dir: to_dir,
                name: &to_name,
            },
        );
        let plan = rename::plan(self, &ctx, from, to, how).map_err(os)?;
        if let Some(gone) = self.done(plan).replaced {
            self.gone(gone);
        }
        Ok(())
    }

    fn set_attributes(&mut self, ino: Ino, change: &Change) -> Outcome {
        let ctx = self.context();
        let plan = setattr::plan(self, &ctx, ino, change, Kill::Capability).map_err(os)?;
        self.step(ino, &plan.answer.steps);
        self.done(plan);
        if let (Some(SetTime::At(time)), Some(file)) = (change.mtime, self.data.get_mut(&ino)) {
            file.mtime = time;
        }
        Ok(())
    }

    fn write_bytes(&mut self, ino: Ino, offset: u64, len: u64, fill: u8) -> Outcome {
        let ctx = self.context();
        let plan =
            write::plan(self, &ctx, ino, offset..offset + len, Kill::Capability).map_err(os)?;
        self.step(ino, &plan.answer);
        if len > 0 {
            let file = self.data.get_mut(&ino).unwrap();
            let (start, end) = (
                usize::try_from(offset).unwrap(),
                usize::try_from(offset + len).unwrap(),
            );
            file.bytes.resize(file.bytes.len().max(end), 0);
            file.bytes[start..end].fill(fill);
            (file.mtime, file.ctime) = (ctx.now, ctx.now);
        }
        self.done(plan);
        Ok(())
    }

    fn allocate(&mut self, ino: Ino, offset: u64, len: u64, how: Allocate) -> Outcome {
        let how = match how {
            Allocate::Grow => fallocate::How::Grow,
            Allocate::KeepSize => fallocate::How::KeepSize,
            Allocate::Punch => fallocate::How::Punch,
            Allocate::ZeroGrow => fallocate::How::ZeroGrow,
            Allocate::ZeroKeepSize => fallocate::How::ZeroKeepSize,
        };
        let (ctx, size) = (self.context(), self.size(ino));
        let plan = fallocate::plan(
            self,
            &ctx,
            ino,
            how,
            offset..offset + len,
            size,
            Kill::Capability,
        )
        .map_err(os)?;
        self.step(ino, &plan.answer);
        self.done(plan);
        Ok(())
    }

    fn remove(&mut self, path: &str, what: RemovePlan) -> Outcome {
        let (dir, name) = self.walk(path)?;
        let ctx = self.context();
        let plan = what(self, &ctx, At { dir, name: &name }).map_err(os)?;
        let gone = self.done(plan);
        self.gone(gone);
        Ok(())
    }

    fn set_xattr(&mut self, path: &str, name: &str, value: &[u8], how: SetXattr) -> Outcome {
        let ino = self.find(path)?;
        self.user_xattr(ino, name)?;
        let how = match how {
            SetXattr::Either => xattr::How::Either,
            SetXattr::Create => xattr::How::Create,
            SetXattr::Replace => xattr::How::Replace,
        };
        let ctx = self.context();
        let plan = xattr::set(self, &ctx, ino, name.as_bytes(), value, how).map_err(os)?;
        self.done(plan);
        Ok(())
    }

    fn hold(&mut self, ino: Option<Ino>) {
        let old = std::mem::replace(&mut self.held, ino);
        if let Some(old) = old {
            self.reclaim(old);
        }
    }

    fn held(&self) -> Result<Ino, OsErrno> {
        self.held.ok_or(OsErrno::BADF)
    }

    fn seen(&self, ino: Ino, same_as: String) -> Seen {
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

    // ---------------------------------------------------------------- what must hold whatever happens

    /// Checks all that must be true of the two layers.
    pub fn check(&self) {
        let mut links: BTreeMap<Ino, BTreeSet<(Ino, Vec<u8>)>> =
            BTreeMap::from([(Ino::ROOT, BTreeSet::new())]);
        let mut dirs = vec![(Ino::ROOT, Ino::ROOT)];
        while let Some((dir, parent)) = dirs.pop() {
            self.check_dir(dir, parent, &mut links, &mut dirs);
        }
        for (ino, names) in &links {
            let inode = self.inode(*ino);
            let known: BTreeSet<_> = inode
                .links
                .iter()
                .map(|link| (link.parent, link.name.as_bytes().to_vec()))
                .collect();
            assert_eq!(known.len(), inode.links.len(), "{ino:?} has a link twice");
            assert_eq!(
                &known, names,
                "{ino:?} has not the links that the directories say"
            );
            assert!(
                !self.orphans.contains(ino),
                "{ino:?} has names and is an orphan"
            );
        }
        for (ino, inode) in &self.inodes {
            assert!(
                links.contains_key(ino) || self.orphans.contains(ino),
                "{ino:?} is nowhere"
            );
            assert!(
                !self.orphans.contains(ino) || inode.links.is_empty(),
                "orphan {ino:?} has links"
            );
            assert!(
                !inode.init,
                "{ino:?} belongs to the runtime, after a user's operation"
            );
        }
        for (dir, entries) in &self.dirs {
            assert!(
                entries.is_empty() || links.contains_key(dir),
                "{dir:?} is gone and has overrides"
            );
            self.check_overrides(*dir, entries);
        }
        for (ino, inode) in &self.inodes {
            assert_eq!(
                Self::has_data(inode),
                self.data.contains_key(ino),
                "{ino:?}: {:?}",
                inode.content
            );
        }
    }

    fn check_dir(
        &self,
        dir: Ino,
        parent: Ino,
        links: &mut BTreeMap<Ino, BTreeSet<(Ino, Vec<u8>)>>,
        dirs: &mut Vec<(Ino, Ino)>,
    ) {
        let items = self.list(dir, 0);
        let cookies: Vec<u64> = items.iter().map(|item| item.3).collect();
        assert!(
            cookies.is_sorted_by(|one, next| one < next),
            "cookies {cookies:?} of {dir:?}"
        );
        assert_eq!(items[0], (".".to_owned(), dir, Kind::Dir, cookies[0]));
        assert_eq!(items[1], ("..".to_owned(), parent, Kind::Dir, cookies[1]));
        for (child_name, ino, kind, cookie) in &items[2..] {
            let child = lookup::child(self, dir, &name(child_name))
                .unwrap()
                .unwrap();
            assert_eq!(
                (child.ino, child.kind),
                (*ino, *kind),
                "readdir and lookup of {child_name}"
            );
            assert_eq!(self.inode(*ino).kind, *kind, "kind of {child_name}");
            assert!(*cookie < 1 << 31, "cookie {cookie}");
            assert!(
                links
                    .entry(*ino)
                    .or_default()
                    .insert((dir, child_name.as_bytes().to_vec())),
                "{child_name} twice"
            );
            if *kind == Kind::Dir {
                assert_eq!(links[ino].len(), 1, "a directory with two names");
                dirs.push((*ino, dir));
            }
        }
    }

    fn check_overrides(&self, dir: Ino, entries: &BTreeMap<FileName, Override>) {
        let mut seqs = BTreeSet::new();
        for (entry_name, over) in entries {
            let base = self
                .base_dirs
                .get(&dir)
                .and_then(|list| list.find(entry_name))
                .map(|(_, entry)| entry);
            match over {
                Override::Whiteout => assert!(
                    base.is_some(),
                    "whiteout of {entry_name}, which the base has not"
                ),
                Override::Entry { ino, seq, .. } => {
                    assert_eq!(*seq == 0, base.is_some(), "sequence of {entry_name}");
                    assert!(
                        base.is_none_or(|entry| entry.ino != *ino),
                        "{entry_name} leads where the base leads"
                    );
                    assert!(*seq == 0 || seqs.insert(*seq), "sequence {seq} twice");
                }
            }
        }
    }
}

type RemovePlan = fn(&dyn Layers, &Context, At<'_>) -> Result<Plan<Gone>, Errno>;

/// The errors that the rules give, as the operating system numbers them.
pub fn os(errno: Errno) -> OsErrno {
    match errno {
        Errno::Access => OsErrno::ACCESS,
        Errno::Exist => OsErrno::EXIST,
        Errno::Inval => OsErrno::INVAL,
        Errno::Io => OsErrno::IO,
        Errno::IsDir => OsErrno::ISDIR,
        Errno::MLink => OsErrno::MLINK,
        Errno::NameTooLong => OsErrno::NAMETOOLONG,
        Errno::NoData => OsErrno::NODATA,
        Errno::NoEnt => OsErrno::NOENT,
        Errno::NoSpc => OsErrno::NOSPC,
        Errno::NoSys => OsErrno::NOSYS,
        Errno::NotDir => OsErrno::NOTDIR,
        Errno::NotEmpty => OsErrno::NOTEMPTY,
        Errno::NotSup => OsErrno::OPNOTSUPP,
        Errno::Perm => OsErrno::PERM,
        Errno::Range => OsErrno::RANGE,
        Errno::RoFs => OsErrno::ROFS,
        Errno::TooBig => OsErrno::TOOBIG,
        Errno::FBig => OsErrno::FBIG,
        Errno::BadF => OsErrno::BADF,
        Errno::XDev => OsErrno::XDEV,
        Errno::NoTty => OsErrno::NOTTY,
        Errno::Stale => OsErrno::STALE,
    }
}

impl Target for Memory {
    fn apply(&mut self, op: &Op) -> Outcome {
        self.now += 1;
        match op {
            Op::Create { path, mode } => self.make(path, Some(Node::File), *mode, 0, None),
            Op::Mkdir { path, mode } => self.make(path, None, *mode, 0, None),
            Op::Mknod {
                path,
                node,
                mode,
                rdev,
            } => self.make(path, Some(*node), *mode, *rdev, None),
            Op::Symlink { target, path } => self.make(path, None, 0, 0, Some(target)),
            Op::Link { from, to } => {
                let ino = self.find(from)?;
                let (dir, name) = self.walk(to)?;
                let ctx = self.context();
                let plan = link::plan(self, &ctx, ino, At { dir, name: &name }).map_err(os)?;
                self.done(plan);
                Ok(())
            }
            Op::Unlink { path } => self.remove(path, unlink::file),
            Op::Rmdir { path } => self.remove(path, unlink::dir),
            Op::Rename { from, to, how } => self.rename(from, to, *how),
            Op::Chmod { path, mode } => {
                let ino = self.follow(path)?;
                self.set_attributes(
                    ino,
                    &Change {
                        mode: Some(*mode),
                        ..Change::default()
                    },
                )
            }
            Op::Chown { path, uid, gid } => {
                let ino = self.find(path)?;
                self.set_attributes(
                    ino,
                    &Change {
                        uid: Some(*uid),
                        gid: Some(*gid),
                        ..Change::default()
                    },
                )
            }
            Op::Truncate { path, size } => {
                let ino = self.writable(path)?;
                self.set_attributes(
                    ino,
                    &Change {
                        size: Some(*size),
                        ..Change::default()
                    },
                )
            }
            Op::Write {
                path,
                offset,
                len,
                fill,
            } => {
                let ino = self.writable(path)?;
                self.write_bytes(ino, *offset, *len, *fill)
            }
            Op::Allocate {
                path,
                offset,
                len,
                how,
            } => {
                let ino = self.writable(path)?;
                self.allocate(ino, *offset, *len, *how)
            }
            Op::Mtime { path, seconds } => {
                let ino = self.find(path)?;
                let at = SetTime::At(time((*seconds, 0)));
                self.set_attributes(
                    ino,
                    &Change {
                        mtime: Some(at),
                        ..Change::default()
                    },
                )
            }
            Op::SetXattr {
                path,
                name,
                value,
                how,
            } => self.set_xattr(path, name, value.as_bytes(), *how),
            Op::RemoveXattr { path, name } => {
                let ino = self.find(path)?;
                self.user_xattr(ino, name)?;
                let ctx = self.context();
                let plan = xattr::remove(self, &ctx, ino, name.as_bytes()).map_err(os)?;
                self.done(plan);
                Ok(())
            }
            Op::SetAcl { path, which, acl } => {
                self.set_xattr(path, which.name(), &acl.to_bytes(), SetXattr::Either)
            }
            Op::Hold { path } => {
                self.hold(None);
                let ino = self.writable(path)?;
                self.hold(Some(ino));
                Ok(())
            }
            Op::HeldWrite { offset, len, fill } => {
                let ino = self.held()?;
                self.write_bytes(ino, *offset, *len, *fill)
            }
            Op::HeldTruncate { size } => {
                let ino = self.held()?;
                self.set_attributes(
                    ino,
                    &Change {
                        size: Some(*size),
                        ..Change::default()
                    },
                )
            }
            Op::HeldChmod { mode } => {
                let ino = self.held()?;
                self.set_attributes(
                    ino,
                    &Change {
                        mode: Some(*mode),
                        ..Change::default()
                    },
                )
            }
            Op::Release => {
                self.hold(None);
                Ok(())
            }
        }
    }

    fn picture(&self) -> Picture {
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

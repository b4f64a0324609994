//! The union's rules over layers in memory, with data files in memory: what the vfs does with plans, without a disk.
//!
//! ```text
//! actions     operations, as the kernel and the vfs do them
//! data        blobs and data files
//! look        what is seen
//! check       what must always hold
//! tree        trees in and out
//! ```

mod actions;
mod check;
mod data;
mod look;
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use nacre_fs::union::unlink::Gone;
use nacre_fs::union::{Context, Errno, Layers, Origin, Plan, getattr, unlink};
use nacre_store::{
    BlobId, Content, DirEntry, DirList, FileName, Ino, Inode, Kind, LayerNo, Link, Override, Time,
    UpperOp,
};

use super::model::{Model, UMASK, ino_of};
use super::ops::Stamp;

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
            _ => self.stored(&place.bytes, id.is_multiple_of(2)),
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

    /// The time, which every operation moves on.
    pub fn now(&self) -> i64 {
        self.now
    }

    pub fn inode(&self, ino: Ino) -> Arc<Inode> {
        getattr::inode(self, ino).unwrap()
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
                UpperOp::SetUndo(ino, _) | UpperOp::DropUndo(ino) => format!("undo {ino:?}"),
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
            UpperOp::SetUndo(..) | UpperOp::DropUndo(_) => {}
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
}

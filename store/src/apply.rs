//! Applying: what a layer archive's entries do to the tree below. No host path, no bytes of content, no database keys.
//!
//! The whole layer counts, not the order of its marks (OCI image-spec, layer.md): whiteouts and opaque marks hide what
//! the layers *below* have, wherever in the archive they stand; then the entries are replayed in order. What the
//! specification leaves open is decided as the page of cases (`layer-format.md`) says, each at its place below.

use std::collections::HashSet;

use crate::archive::{Entry, EntryKind};
use crate::record::RecordEntry;
use crate::stage::Stage;
use crate::{Content, Error, FileName, Ino, Inode, Kind, LayerNo, Result};

/// Symbolic links followed on the way to one entry: Linux's own limit (path_resolution(7)).
const LINKS_MAX: usize = 40;

/// Components that links may bring into one walk: no honest one needs a tenth, and a layer of millions of entries through
/// long links would else cost hours.
const LINK_STEPS_MAX: usize = 1024;

/// Rounds of hard links that come before their targets: each round is over all that still wait, so that a chain
/// against the order of the archive may not be of any length.
const LINK_ROUNDS_MAX: usize = 64;

/// A layer's entries, to be gone through as often as needed.
pub(crate) trait Layer {
    /// Calls `each` for every entry in order.
    fn for_each(&self, each: &mut dyn FnMut(RecordEntry) -> Result<()>) -> Result<()>;
    /// Whether there are whiteouts or opaque marks.
    fn has_marks(&self) -> bool;
}

/// What to do where a directory on the way is missing.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    /// There is no such place.
    Stop,
    /// Make it: 0755, root's, of time 0; also in the place of a file.
    Make,
}

/// A step of a walk.
enum Step {
    Root,
    Up,
    Down(FileName),
    /// A component of the path itself, and how many of it that makes: not one that a link brought in.
    Own(usize),
}

/// Applies a layer.
pub(crate) fn apply(stage: &mut Stage<'_>, layer: &dyn Layer) -> Result<()> {
    if layer.has_marks() {
        hide(stage, layer)?;
    }
    let mut replay = Replay {
        stage,
        parent: None,
        later: Vec::new(),
    };
    layer.for_each(&mut |record| replay.entry(record))?;
    replay.finish()
}

/// Hides what the marks name in the layers below.
fn hide(stage: &mut Stage<'_>, layer: &dyn Layer) -> Result<()> {
    let mut dirs: Option<HashSet<Vec<FileName>>> = None;
    // A link below that this very layer replaces by a directory leads nowhere: the mark is meant for the directory.
    let mut is_dir_of_layer = |path: &[FileName]| -> Result<bool> {
        if dirs.is_none() {
            let mut all = HashSet::new();
            layer.for_each(&mut |record| {
                if record.entry.kind == EntryKind::Dir {
                    all.insert(record.entry.path);
                }
                Ok(())
            })?;
            dirs = Some(all);
        }
        Ok(dirs.as_ref().is_some_and(|all| all.contains(path)))
    };
    layer.for_each(&mut |record| {
        let path = &record.entry.path;
        match (&record.entry.kind, path.split_last()) {
            (EntryKind::Opaque, _) => {
                if let Some(dir) = walk(stage, path, Missing::Stop, &mut is_dir_of_layer)? {
                    stage.clear(dir)?;
                }
            }
            (EntryKind::Whiteout, Some((name, parent))) => {
                if let Some(dir) = walk(stage, parent, Missing::Stop, &mut is_dir_of_layer)? {
                    stage.remove(dir, name)?;
                }
            }
            _ => {}
        }
        Ok(())
    })
}

/// Finds a directory, following links within the tree (an absolute one starts at the tree's root, none leads out).
fn walk(
    stage: &mut Stage<'_>,
    path: &[FileName],
    missing: Missing,
    replaced: &mut dyn FnMut(&[FileName]) -> Result<bool>,
) -> Result<Option<Ino>> {
    let mut todo: Vec<Step> = (0..path.len()).rev().map(Step::Own).collect();
    let mut way = vec![Ino::ROOT];
    let (mut links, mut link_steps) = (0, 0);
    while let Some(step) = todo.pop() {
        let (name, own) = match step {
            Step::Root => {
                way.truncate(1);
                continue;
            }
            Step::Up => {
                if way.len() > 1 {
                    way.pop();
                }
                continue;
            }
            Step::Down(name) => (name, None),
            Step::Own(index) => {
                let name = path
                    .get(index)
                    .ok_or_else(|| refused(path, "no such component"))?;
                (name.clone(), Some(index))
            }
        };
        let dir = way.last().copied().unwrap_or(Ino::ROOT);
        match (stage.find(dir, &name)?, missing) {
            (Some((ino, Kind::Dir)), _) => way.push(ino),
            (Some((ino, Kind::Symlink)), _) => {
                if let Some(prefix) = own.and_then(|index| path.get(..=index))
                    && replaced(prefix)?
                {
                    return Ok(None);
                }
                links += 1;
                let target = stage.with_inode(ino, |inode| match &inode.content {
                    Content::Symlink(target) => target.clone(),
                    _ => Box::default(),
                })?;
                let steps = push_target(&mut todo, &target);
                let why = match steps {
                    None => "leads through a symbolic link that names no place",
                    Some(steps) if links <= LINKS_MAX && link_steps + steps < LINK_STEPS_MAX => {
                        link_steps += steps;
                        continue;
                    }
                    Some(_) => "too many levels of symbolic links",
                };
                return match missing {
                    Missing::Stop => Ok(None),
                    Missing::Make => Err(refused(path, why)),
                };
            }
            (_, Missing::Stop) => return Ok(None),
            (there, Missing::Make) => {
                // A file where a directory must be: the later entry wins, as everywhere.
                if there.is_some() {
                    stage.remove(dir, &name)?;
                }
                let made = crate::tree::bare_dir(LayerNo(0));
                way.push(stage.create(dir, &name, made)?);
            }
        }
    }
    Ok(Some(way.last().copied().unwrap_or(Ino::ROOT)))
}

/// Puts a link's target before what is still to do; returns its components, or `None` if one can be no name.
fn push_target(todo: &mut Vec<Step>, target: &[u8]) -> Option<usize> {
    let before = todo.len();
    for part in target.split(|b| *b == b'/').rev() {
        match part {
            b"" | b"." => {}
            b".." => todo.push(Step::Up),
            name => todo.push(Step::Down(FileName::new(name).ok()?)),
        }
    }
    if target.first() == Some(&b'/') {
        todo.push(Step::Root);
    }
    Some(todo.len() - before)
}

/// The entries of a layer, one after another.
struct Replay<'a, 'b> {
    stage: &'a mut Stage<'b>,
    /// The parent of the entry before: most have the same.
    parent: Option<(Vec<FileName>, Ino)>,
    /// Hard links to what has not come yet.
    later: Vec<Entry>,
}

impl Replay<'_, '_> {
    fn entry(&mut self, record: RecordEntry) -> Result<()> {
        let entry = &record.entry;
        match &entry.kind {
            EntryKind::Whiteout | EntryKind::Opaque => Ok(()),
            EntryKind::Dir => self.dir(entry),
            EntryKind::HardLink(target) => {
                if !self.hard_link(entry, target)? {
                    // Some tools write a link before what it leads to.
                    self.later.push(record.entry);
                }
                Ok(())
            }
            _ => self.node(&record),
        }
    }

    /// Does the links that came too early, in as many rounds as chains of them need.
    fn finish(mut self) -> Result<()> {
        for rounds in 0.. {
            let round = std::mem::take(&mut self.later);
            let before = round.len();
            for entry in round {
                if let EntryKind::HardLink(target) = &entry.kind
                    && !self.hard_link(&entry, target)?
                {
                    self.later.push(entry);
                }
            }
            let Some(waiting) = self.later.first() else {
                break;
            };
            if self.later.len() == before {
                let why = "hard link to a file that does not exist";
                return Err(refused(&waiting.path, why));
            }
            if rounds == LINK_ROUNDS_MAX {
                let why = "hard links wait for each other in too long a chain";
                return Err(refused(&waiting.path, why));
            }
        }
        Ok(())
    }

    /// The directory of an entry, made if need be, and its name there.
    fn place<'p>(&mut self, path: &'p [FileName]) -> Result<(Ino, &'p FileName)> {
        let (name, parent) = path
            .split_last()
            .ok_or_else(|| refused(path, "the root can only be a directory"))?;
        if let Some((known, ino)) = &self.parent
            && known.as_slice() == parent
        {
            return Ok((*ino, name));
        }
        let found = walk(self.stage, parent, Missing::Make, &mut |_| Ok(false))?;
        let dir = found.ok_or_else(|| refused(path, "has no parent directory"))?;
        self.parent = Some((parent.to_vec(), dir));
        Ok((dir, name))
    }

    fn remove(&mut self, dir: Ino, name: &FileName, kind: Kind) -> Result<()> {
        if matches!(kind, Kind::Dir | Kind::Symlink) {
            // The way to the parent of the entry before may have led here.
            self.parent = None;
        }
        self.stage.remove(dir, name)
    }

    /// A directory: there already, it gets the attributes and keeps its children; anything else makes way.
    fn dir(&mut self, entry: &Entry) -> Result<()> {
        if entry.path.is_empty() {
            set_attributes(self.stage.inode_mut(Ino::ROOT)?, entry);
            return Ok(());
        }
        let (dir, name) = self.place(&entry.path)?;
        match self.stage.find(dir, name)? {
            Some((ino, Kind::Dir)) => {
                set_attributes(self.stage.inode_mut(ino)?, entry);
                return Ok(());
            }
            Some((_, kind)) => self.remove(dir, name, kind)?,
            None => {}
        }
        let mut inode = crate::tree::bare_dir(LayerNo(0));
        set_attributes(&mut inode, entry);
        self.stage.create(dir, name, inode).map(|_| ())
    }

    /// A file, link, device or pipe: what was there makes way. A place keeps its number while it keeps its kind,
    /// unless the file has other names: those keep the old file, as they do on any file system.
    fn node(&mut self, record: &RecordEntry) -> Result<()> {
        let entry = &record.entry;
        let inode = new_node(record)?;
        let (dir, name) = self.place(&entry.path)?;
        if let Some((ino, kind)) = self.stage.find(dir, name)? {
            if kind == inode.kind && self.stage.with_inode(ino, |there| there.links.len() == 1)? {
                if kind == Kind::Symlink {
                    self.parent = None;
                }
                let there = self.stage.inode_mut(ino)?;
                let links = std::mem::take(&mut there.links);
                *there = Inode { links, ..inode };
                return Ok(());
            }
            self.remove(dir, name, kind)?;
        }
        self.stage.create(dir, name, inode).map(|_| ())
    }

    /// One more name, for a file of this layer or of those below; `false` if it is not there (yet).
    fn hard_link(&mut self, entry: &Entry, target: &[FileName]) -> Result<bool> {
        let Some((target_name, target_parent)) = target.split_last() else {
            return Err(refused(&entry.path, "hard link to the root directory"));
        };
        let Some(target_dir) = walk(self.stage, target_parent, Missing::Stop, &mut |_| Ok(false))?
        else {
            return Ok(false);
        };
        // A symbolic link is linked itself, never what it leads to.
        let Some((ino, kind)) = self.stage.find(target_dir, target_name)? else {
            return Ok(false);
        };
        if kind == Kind::Dir {
            return Err(refused(&entry.path, "hard link to a directory"));
        }
        let (dir, name) = self.place(&entry.path)?;
        let there = self.stage.find(dir, name)?;
        // There already, it stays, as rename(2) has it.
        if there.map(|(there, _)| there) != Some(ino) {
            if let Some((_, kind)) = there {
                self.remove(dir, name, kind)?;
            }
            // What made way, here or for a parent, may have held the target.
            if self.stage.is_gone(ino) {
                let why = "hard link in the place of its own target";
                return Err(refused(&entry.path, why));
            }
            self.stage.link(ino, dir, name)?;
        }
        // The last entry of a file decides on its attributes, whatever name it is for.
        let inode = self.stage.inode_mut(ino)?;
        let mut xattrs = std::mem::take(&mut inode.xattrs);
        xattrs.extend(entry.xattrs.iter().map(|(n, v)| (n.clone(), v.clone())));
        set_attributes(inode, entry);
        inode.xattrs = xattrs;
        Ok(true)
    }
}

fn refused(path: &[FileName], why: &'static str) -> Error {
    let path: Vec<_> = path.iter().map(FileName::to_string).collect();
    Error::Refused {
        layer: None,
        path: format!("/{}", path.join("/")),
        why,
    }
}

/// Gives an inode an entry's attributes. An archive knows one time: it is all four.
fn set_attributes(inode: &mut Inode, entry: &Entry) {
    // A link's own permissions are no one's (symlink(7)); every kernel shows 0777.
    inode.mode = if inode.kind == Kind::Symlink {
        0o777
    } else {
        entry.mode & 0o7777
    };
    inode.uid = entry.uid;
    inode.gid = entry.gid;
    inode.atime = entry.mtime;
    inode.mtime = entry.mtime;
    inode.ctime = entry.mtime;
    inode.btime = entry.mtime;
    inode.xattrs.clone_from(&entry.xattrs);
}

/// The inode of an entry that is no directory and no hard link.
fn new_node(record: &RecordEntry) -> Result<Inode> {
    let entry = &record.entry;
    let mut inode = crate::tree::bare_dir(LayerNo(0));
    inode.content = Content::None;
    match &entry.kind {
        EntryKind::File { size, extents } => {
            inode.kind = Kind::File;
            inode.size = *size;
            inode.content = match (&record.content, extents) {
                (None, _) => Content::None,
                (Some((blob, _)), None) => Content::Blob(*blob),
                (Some((blob, _)), Some(extents)) => {
                    let extents: Box<[_]> = extents.iter().filter(|e| e.len > 0).copied().collect();
                    Content::Sparse {
                        blob: *blob,
                        extents,
                    }
                }
            };
        }
        EntryKind::Symlink(target) => {
            inode.kind = Kind::Symlink;
            inode.size = target.len() as u64;
            inode.content = Content::Symlink(target.clone());
        }
        EntryKind::Char(rdev) => (inode.kind, inode.rdev) = (Kind::Char, *rdev),
        EntryKind::Block(rdev) => (inode.kind, inode.rdev) = (Kind::Block, *rdev),
        EntryKind::Fifo => inode.kind = Kind::Fifo,
        EntryKind::Dir | EntryKind::HardLink(_) | EntryKind::Whiteout | EntryKind::Opaque => {
            return Err(refused(&entry.path, "is no file"));
        }
    }
    set_attributes(&mut inode, entry);
    Ok(inode)
}

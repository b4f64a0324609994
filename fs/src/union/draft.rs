//! A plan in the making: records loaded once and changed in place, entries set by one rule.

use std::collections::BTreeMap;

use nacre_store::{Content, Ino, Inode, Kind, Link, Override, UpperOp};

use super::lookup::{self, Child};
use super::{At, Context, Errno, Layers, Origin, Plan, getattr};

/// Collects an operation's changes; nothing happens before the plan is done by the caller.
pub(super) struct Draft<'a> {
    pub(super) layers: &'a dyn Layers,
    pub(super) ctx: &'a Context,
    inodes: BTreeMap<Ino, Inode>,
    ops: Vec<UpperOp>,
}

impl<'a> Draft<'a> {
    pub(super) fn new(layers: &'a dyn Layers, ctx: &'a Context) -> Self {
        Self {
            layers,
            ctx,
            inodes: BTreeMap::new(),
            ops: Vec::new(),
        }
    }

    /// Returns the record of `ino` to be changed; the batch will hold it whole. What a user changes is no longer the
    /// runtime's, nor are the directories on the way to it.
    pub(super) fn inode(&mut self, ino: Ino) -> Result<&mut Inode, Errno> {
        let mut at = Some(ino);
        while let Some(next) = at {
            at = self
                .load(next)?
                .filter(|above| !self.inodes.contains_key(above));
        }
        self.inodes.get_mut(&ino).ok_or(Errno::Io)
    }

    /// Loads a record; returns the directory above if that belongs to the runtime no longer either.
    fn load(&mut self, ino: Ino) -> Result<Option<Ino>, Errno> {
        if self.inodes.contains_key(&ino) {
            return Ok(None);
        }
        let mut inode = (*getattr::inode(self.layers, ino)?).clone();
        let claimed = inode.init && self.ctx.origin == Origin::User;
        inode.init &= !claimed;
        let above = inode.links.first().map(|link| link.parent);
        let taken = match above {
            Some(above) if claimed => getattr::inode(self.layers, above)?.init,
            _ => false,
        };
        self.inodes.insert(ino, inode);
        Ok(above.filter(|_| taken))
    }

    /// Adds a new inode.
    pub(super) fn insert(&mut self, ino: Ino, inode: Inode) {
        self.inodes.insert(ino, inode);
    }

    /// Notes that the entries of `dir` change, and by how many directories.
    pub(super) fn dir_changed(&mut self, dir: Ino, subdirs_delta: i32) -> Result<(), Errno> {
        if self.ctx.origin == Origin::Runtime && subdirs_delta == 0 {
            return Ok(());
        }
        let (now, origin) = (self.ctx.now, self.ctx.origin);
        let inode = self.inode(dir)?;
        if origin == Origin::User {
            inode.mtime = now;
            inode.ctime = now;
        }
        let Content::Dir { subdirs, .. } = &mut inode.content else {
            return Err(Errno::Io); // a directory's record without a directory's content is damage
        };
        *subdirs = subdirs.checked_add_signed(subdirs_delta).ok_or(Errno::Io)?;
        Ok(())
    }

    /// Lets a name lead to `to`. A name keeps its place in readdir; one that leads where the base leads needs no override.
    pub(super) fn set_entry(&mut self, at: At<'_>, to: Child) -> Result<(), Errno> {
        self.set_entry_at(at, to, self.ctx.seq)
    }

    /// The same for a name that takes over from `from`, which goes: within a directory it takes its place in readdir too.
    /// Else a program that renames each entry that it reads, and back, would read for ever.
    pub(super) fn move_entry(&mut self, from: At<'_>, at: At<'_>, to: Child) -> Result<(), Errno> {
        let place = match self.layers.upper_dir(from.dir)?.get(from.name) {
            Some(Override::Entry { seq, .. }) if *seq != 0 && from.dir == at.dir => *seq,
            _ => self.ctx.seq,
        };
        self.set_entry_at(at, to, place)
    }

    /// Lets a name lead to `to`, at `place` if it has none.
    fn set_entry_at(&mut self, at: At<'_>, to: Child, place: u64) -> Result<(), Errno> {
        let base = self.layers.base_dir(at.dir)?;
        let below = base
            .as_ref()
            .and_then(|list| list.find(at.name))
            .map(|(_, entry)| entry);
        let upper = self.layers.upper_dir(at.dir)?;
        let over = upper.get(at.name);
        if below.is_some_and(|entry| entry.ino == to.ino && entry.kind == to.kind) {
            if over.is_some() {
                self.ops.push(UpperOp::DropEntry(at.dir, at.name.clone()));
            }
            return Ok(());
        }
        let seq = match (below, over) {
            (Some(_), _) => 0,
            (None, Some(Override::Entry { seq, .. })) => *seq,
            (None, Some(Override::Whiteout) | None) => place,
        };
        let entry = Override::Entry {
            ino: to.ino,
            kind: to.kind,
            seq,
        };
        self.ops
            .push(UpperOp::SetEntry(at.dir, at.name.clone(), entry));
        Ok(())
    }

    /// Takes a name away: hides the base's, forgets the upper's.
    pub(super) fn remove_entry(&mut self, at: At<'_>) -> Result<(), Errno> {
        let base = self.layers.base_dir(at.dir)?;
        let op = if base.is_some_and(|list| list.find(at.name).is_some()) {
            UpperOp::SetEntry(at.dir, at.name.clone(), Override::Whiteout)
        } else {
            UpperOp::DropEntry(at.dir, at.name.clone())
        };
        self.ops.push(op);
        Ok(())
    }

    /// Takes one name from `ino`; returns whether it was the last. What has no name left is an orphan.
    pub(super) fn drop_link(&mut self, ino: Ino, at: At<'_>) -> Result<bool, Errno> {
        let now = self.ctx.now;
        let inode = self.inode(ino)?;
        let place = link_place(inode, at)?;
        inode.links.remove(place);
        inode.ctime = now;
        if !inode.links.is_empty() {
            return Ok(false);
        }
        if inode.kind == Kind::Dir {
            // An empty directory's overrides are whiteouts; nobody will look into it again.
            for name in self.layers.upper_dir(ino)?.keys() {
                self.ops.push(UpperOp::DropEntry(ino, name.clone()));
            }
        }
        self.ops.push(UpperOp::SetOrphan(ino));
        Ok(true)
    }

    /// Notes that an orphan gets a name.
    pub(super) fn adopt(&mut self, ino: Ino) {
        self.ops.push(UpperOp::DropOrphan(ino));
    }

    /// Adds a new inode that has no name: it is an orphan from the first.
    pub(super) fn insert_orphan(&mut self, ino: Ino, inode: Inode) {
        self.ops.push(UpperOp::SetOrphan(ino));
        self.insert(ino, inode);
    }

    /// Gives one of the names of `ino` another place.
    pub(super) fn move_link(&mut self, ino: Ino, from: At<'_>, to: At<'_>) -> Result<(), Errno> {
        let now = self.ctx.now;
        let inode = self.inode(ino)?;
        let place = link_place(inode, from)?;
        inode.ctime = now;
        if let Some(link) = inode.links.get_mut(place) {
            *link = link_at(to);
        }
        Ok(())
    }

    /// Ends the draft.
    pub(super) fn finish<T>(mut self, answer: T) -> Plan<T> {
        let records = self.inodes.into_iter();
        self.ops
            .extend(records.map(|(ino, inode)| UpperOp::SetInode(ino, Box::new(inode))));
        Plan {
            ops: self.ops,
            answer,
        }
    }
}

/// Returns the link that a name is.
pub(super) fn link_at(at: At<'_>) -> Link {
    Link {
        parent: at.dir,
        name: at.name.clone(),
    }
}

/// Finds a name among an inode's links; an entry that its inode does not know of is damage.
fn link_place(inode: &Inode, at: At<'_>) -> Result<usize, Errno> {
    let is_it = |link: &Link| link.parent == at.dir && link.name == *at.name;
    inode.links.iter().position(is_it).ok_or(Errno::Io)
}

/// Returns what `at` leads to, or `NoEnt`.
pub(super) fn existing(layers: &dyn Layers, at: At<'_>) -> Result<Child, Errno> {
    lookup::child(layers, at.dir, at.name)?.ok_or(Errno::NoEnt)
}

/// Refuses a name that is there.
pub(super) fn vacant(layers: &dyn Layers, at: At<'_>) -> Result<(), Errno> {
    match lookup::child(layers, at.dir, at.name)? {
        Some(_) => Err(Errno::Exist),
        None => Ok(()),
    }
}

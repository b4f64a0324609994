//! Two trees side by side: every path at which they may differ, parents first, in a directory what is gone before
//! what is there. Follows names, never links; as deep as trees go without recursion.

use std::collections::{BTreeMap, BTreeSet};

use nacre_store::{DirEntry, FileName, Ino, Kind, Result};

use super::{ChangeKind, Tree, compare, named_inode};

/// Names worth looking at, by directory.
pub(super) type Names = BTreeMap<Ino, BTreeSet<FileName>>;

/// One path.
#[derive(Debug)]
pub(crate) struct Step {
    /// The directory's step; the root's is itself.
    pub(crate) parent: usize,
    /// The name there; none is the root's.
    name: Option<FileName>,
    /// What was there.
    pub(crate) old: Option<Ino>,
    /// What is there.
    pub(crate) new: Option<Ino>,
    /// What there is, if anything.
    pub(crate) kind: Kind,
    /// What happened to the path itself, as docker sees it.
    change: Option<ChangeKind>,
    /// The path itself is in any way another.
    pub(crate) differs: bool,
    /// Something below is changed as docker sees it.
    change_below: bool,
    /// Something below is in any way another.
    pub(crate) differs_below: bool,
    /// A directory that is another than the one that was there.
    pub(crate) replaced: bool,
    /// It lies in a replaced directory, where nothing is what was there, whatever it looks like.
    pub(crate) within_replaced: bool,
}

impl Step {
    /// Returns what docker lists the path as.
    pub(crate) fn listed(&self) -> Option<ChangeKind> {
        self.change
            .or(self.change_below.then_some(ChangeKind::Modified))
    }
}

/// The paths at which two trees may differ.
#[derive(Debug)]
pub(crate) struct Walk(Vec<Step>);

/// A path still to be looked at.
struct Pending {
    parent: usize,
    name: FileName,
    old: Option<DirEntry>,
    new: Option<DirEntry>,
}

impl Walk {
    /// Compares all of two trees.
    pub(super) fn full(old: &dyn Tree, new: &dyn Tree) -> Result<Self> {
        Walker {
            old,
            new,
            names: None,
        }
        .run()
    }

    /// Compares only what `names` lead to, and all of what hangs at another place.
    pub(super) fn within(old: &dyn Tree, new: &dyn Tree, names: &Names) -> Result<Self> {
        let names = Some(names);
        Walker { old, new, names }.run()
    }

    /// The steps.
    pub(crate) fn steps(&self) -> &[Step] {
        &self.0
    }

    /// Returns a step's path, from the root.
    pub(crate) fn path(&self, mut at: usize) -> Vec<FileName> {
        let mut path = Vec::new();
        while let Some(Step {
            name: Some(name),
            parent,
            ..
        }) = self.0.get(at)
        {
            path.push(name.clone());
            at = *parent;
        }
        path.reverse();
        path
    }
}

struct Walker<'a> {
    old: &'a dyn Tree,
    new: &'a dyn Tree,
    names: Option<&'a Names>,
}

impl Walker<'_> {
    fn run(&self) -> Result<Walk> {
        let (old, new) = (
            named_inode(self.old, Ino::ROOT)?,
            named_inode(self.new, Ino::ROOT)?,
        );
        let pair = ((Ino::ROOT, &*old), (Ino::ROOT, &*new));
        let root = Step {
            parent: 0,
            name: None,
            old: Some(Ino::ROOT),
            new: Some(Ino::ROOT),
            kind: Kind::Dir,
            change: None,
            differs: compare::differs(pair.0, pair.1),
            change_below: false,
            differs_below: false,
            replaced: false,
            within_replaced: false,
        };
        let mut steps = vec![root];
        let mut pending = Vec::new();
        self.open(&steps, 0, &mut pending)?;
        while let Some(next) = pending.pop() {
            let within_replaced = steps
                .get(next.parent)
                .is_some_and(|above| above.replaced || above.within_replaced);
            let Some(step) = self.step(next, within_replaced)? else {
                continue;
            };
            if step.kind != Kind::Dir && !step.differs && !within_replaced {
                continue; // nothing is to be said of a file that stayed what it was
            }
            let (at, enters) = (steps.len(), step.kind == Kind::Dir && step.new.is_some());
            mark_above(&mut steps, &step);
            steps.push(step);
            if enters {
                self.open(&steps, at, &mut pending)?;
            }
        }
        Ok(Walk(steps))
    }

    /// Compares one path; `None` if neither tree has it.
    fn step(&self, next: Pending, within_replaced: bool) -> Result<Option<Step>> {
        let Pending {
            parent,
            name,
            old,
            new,
        } = next;
        let (change, differs, replaced) = match (&old, &new) {
            (None, None) => return Ok(None),
            (None, Some(_)) => (Some(ChangeKind::Added), true, false),
            (Some(_), None) => (Some(ChangeKind::Deleted), true, false),
            (Some(was), Some(is)) => {
                let (one, other) = (
                    named_inode(self.old, was.ino)?,
                    named_inode(self.new, is.ino)?,
                );
                let (one, other) = ((was.ino, &*one), (is.ino, &*other));
                let change = compare::is_modified(one, other).then_some(ChangeKind::Modified);
                let both_dirs = was.kind == Kind::Dir && is.kind == Kind::Dir;
                (
                    change,
                    compare::differs(one, other),
                    both_dirs && was.ino != is.ino,
                )
            }
        };
        let kind = new
            .as_ref()
            .or(old.as_ref())
            .map_or(Kind::File, |entry| entry.kind);
        Ok(Some(Step {
            parent,
            name: Some(name),
            old: old.map(|entry| entry.ino),
            new: new.map(|entry| entry.ino),
            kind,
            change,
            differs,
            change_below: false,
            differs_below: false,
            replaced,
            within_replaced,
        }))
    }

    /// Puts what is in a directory on the stack: what is gone comes off it first, then the rest by name.
    fn open(&self, steps: &[Step], at: usize, pending: &mut Vec<Pending>) -> Result<()> {
        let Some(Step {
            old,
            new: Some(new),
            within_replaced,
            ..
        }) = steps.get(at)
        else {
            return Ok(());
        };
        let was_dir = match old {
            Some(old) => named_inode(self.old, *old)?.kind == Kind::Dir,
            None => false,
        };
        let old = old.filter(|_| was_dir);
        let mut pairs = match self.names {
            Some(names) if old == Some(*new) && !within_replaced => self.named(*new, names)?,
            _ => self.merged(old, *new)?,
        };
        pairs.sort_by(|one, other| (one.2.is_some(), &one.0).cmp(&(other.2.is_some(), &other.0)));
        pending.extend(pairs.into_iter().rev().map(|(name, old, new)| Pending {
            parent: at,
            name,
            old,
            new,
        }));
        Ok(())
    }

    /// Returns the touched names of a directory that is where it was.
    fn named(&self, dir: Ino, names: &Names) -> Result<Vec<Pair>> {
        let Some(names) = names.get(&dir) else {
            return Ok(Vec::new());
        };
        let pair = |name: &FileName| {
            Ok((
                name.clone(),
                self.old.child(dir, name)?,
                self.new.child(dir, name)?,
            ))
        };
        names.iter().map(pair).collect()
    }

    /// Returns all names of two directories.
    fn merged(&self, old: Option<Ino>, new: Ino) -> Result<Vec<Pair>> {
        let mut pairs: BTreeMap<FileName, (Option<DirEntry>, Option<DirEntry>)> = BTreeMap::new();
        if let Some(old) = old {
            for entry in self.old.dir(old)?.iter().flat_map(|list| &list.entries) {
                pairs.entry(entry.name.clone()).or_default().0 = Some(entry.clone());
            }
        }
        for entry in self.new.dir(new)?.iter().flat_map(|list| &list.entries) {
            pairs.entry(entry.name.clone()).or_default().1 = Some(entry.clone());
        }
        Ok(pairs
            .into_iter()
            .map(|(name, (old, new))| (name, old, new))
            .collect())
    }
}

/// A name, what it led to, and what it leads to.
type Pair = (FileName, Option<DirEntry>, Option<DirEntry>);

/// Tells the directories above of a change.
fn mark_above(steps: &mut [Step], step: &Step) {
    let (mut at, change, differs) = (step.parent, step.change.is_some(), step.differs);
    while let Some(above) = steps.get_mut(at) {
        let news = (change && !above.change_below) || (differs && !above.differs_below);
        above.change_below |= change;
        above.differs_below |= differs;
        if !news {
            return;
        }
        at = above.parent;
    }
}

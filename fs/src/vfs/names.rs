//! Names: looked up, listed, made, linked, moved, taken away.

use std::ops::ControlFlow;
use std::time::Duration;

use nacre_store::{FileName, Ino, Kind};

use super::{Attr, Caller, Planned, Vfs};
use crate::data::DataFiles;
use crate::errno::{Errno, Result, of_rule, of_store};
use crate::union::create::{self, Made, Purpose};
use crate::union::readdir::{self, Item};
use crate::union::unlink::{self, Gone};
use crate::union::{At, Context, Layers, getattr, link, lookup, rename};

/// A new inode that holds no bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Node<'a> {
    /// A directory.
    Dir,
    /// A symbolic link and its target.
    Symlink(&'a [u8]),
    /// A file, device, pipe or socket, with its device number.
    Other(Kind, u64),
}

/// The flags of `renameat2(2)` that Linux allows together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RenameHow {
    /// What has the new name is replaced.
    Replace,
    /// `RENAME_NOREPLACE`.
    NoReplace,
    /// `RENAME_EXCHANGE`.
    Exchange,
    /// `RENAME_WHITEOUT`.
    Whiteout,
    /// `RENAME_NOREPLACE | RENAME_WHITEOUT`.
    NoReplaceWhiteout,
}

/// Names in a path: PATH_MAX is 4,096 bytes.
const PATH_DEPTH_MAX: usize = 2048;

/// What may become of a file that is made without a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It may get a name while it is open.
    MayGetAName,
    /// It never gets one (`O_EXCL`).
    StaysUnnamed,
}

impl Vfs {
    /// Finds a name; `Ok(None)` says that it is not there, which the kernel may remember. A hit counts as a lookup.
    pub fn lookup(&self, dir: Ino, name: &[u8]) -> Result<Option<Attr>> {
        let found = match name {
            b"." => Some(dir),
            b".." => Some(lookup::parent(self, dir).map_err(of_rule)?),
            _ => self.child(dir, &file_name(name)?)?,
        };
        let Some(ino) = found else {
            return Ok(None);
        };
        let attr = self.attr(ino)?;
        self.held.looked_up(&[ino]);
        Ok(Some(attr))
    }

    /// Finds a name, without counting.
    pub(crate) fn child(&self, dir: Ino, name: &FileName) -> Result<Option<Ino>> {
        let child = lookup::child(self, dir, name).map_err(of_rule)?;
        Ok(child.map(|child| child.ino))
    }

    /// Shows a directory's entries behind a cookie until `visit` breaks.
    pub fn readdir(
        &self,
        dir: Ino,
        after: u64,
        visit: &mut dyn FnMut(Item<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        readdir::visit(self, dir, after, visit).map_err(of_rule)
    }

    /// The same with attributes; what `visit` takes (does not break at) counts as looked up, but for `.` and `..`.
    pub fn readdirplus(
        &self,
        dir: Ino,
        after: u64,
        visit: &mut dyn FnMut(Item<'_>, &Attr) -> ControlFlow<()>,
    ) -> Result<()> {
        let mut taken = Vec::new();
        let mut failed = None;
        let done = self.readdir(dir, after, &mut |item| {
            let attr = match self.attr(item.ino) {
                Ok(attr) => attr,
                Err(errno) => {
                    failed = Some(errno);
                    return ControlFlow::Break(());
                }
            };
            let flow = visit(item, &attr);
            if flow.is_continue() && !matches!(item.name, b"." | b"..") {
                taken.push(item.ino);
            }
            flow
        });
        self.held.looked_up(&taken);
        done?;
        // What came before a damaged entry is shown; the next call starts at it and says so.
        match failed {
            Some(errno) if taken.is_empty() => Err(errno),
            Some(_) | None => Ok(()),
        }
    }

    /// The directory that holds directory `dir`; the root's is itself.
    pub(crate) fn parent_of(&self, dir: Ino) -> Result<Ino> {
        lookup::parent(self, dir).map_err(of_rule)
    }

    /// How many names a directory has, about: those of the image that are hidden or replaced are counted as well.
    pub(crate) fn entries_of(&self, dir: Ino) -> Result<usize> {
        let own = self.upper_dir(dir).map_err(of_rule)?.len();
        let base = self.base_dir(dir).map_err(of_rule)?;
        Ok(base
            .map_or(0, |list| list.entries.len())
            .saturating_add(own))
    }

    /// Where a directory is, below the root: `.` for the root itself.
    pub(crate) fn path_of_dir(&self, dir: Ino) -> Result<Vec<u8>> {
        let (mut names, mut at) = (Vec::new(), dir);
        while at != Ino::ROOT {
            let inode = self.inode(at)?;
            let link = inode.links.first().ok_or(Errno::NOENT)?;
            names.push(link.name.as_bytes().to_vec());
            at = link.parent;
            if names.len() > PATH_DEPTH_MAX {
                return Err(Errno::NAMETOOLONG);
            }
        }
        names.push(b".".to_vec());
        names.reverse();
        Ok(names.join(&b'/'))
    }

    /// Reads a symbolic link.
    pub fn readlink(&self, ino: Ino) -> Result<Box<[u8]>> {
        match &self.inode(ino)?.content {
            nacre_store::Content::Symlink(target) => Ok(target.clone()),
            _ => Err(Errno::INVAL),
        }
    }

    /// Makes an inode that holds no bytes. Counts as a lookup.
    pub fn make(
        &self,
        caller: &Caller,
        dir: Ino,
        name: &[u8],
        mode: u16,
        node: Node<'_>,
    ) -> Result<Attr> {
        let name = file_name(name)?;
        let at = At { dir, name: &name };
        let fresh = self.fresh_ino()?;
        let made = self.make_planned(caller, fresh, &|layers, ctx, fresh| match node {
            Node::Dir => create::dir(layers, ctx, at, fresh, mode),
            Node::Symlink(target) => create::symlink(layers, ctx, at, fresh, target),
            Node::Other(Kind::File, _) => {
                create::file(layers, ctx, at, fresh, mode, Purpose::Empty)
            }
            Node::Other(kind, rdev) => create::node(layers, ctx, at, fresh, kind, mode, rdev),
        })?;
        self.held.looked_up(&[made.ino]);
        self.attr_of(made.ino, &made.inode)
    }

    /// Makes a file that is about to be written (or only read, if so opened). Counts as a lookup; the opening follows.
    pub fn create(
        &self,
        caller: &Caller,
        dir: Ino,
        name: &[u8],
        mode: u16,
        purpose: Purpose,
    ) -> Result<Attr> {
        let name = file_name(name)?;
        let at = At { dir, name: &name };
        let made = self.make_file(caller, purpose, &|layers, ctx, fresh| {
            create::file(layers, ctx, at, fresh, mode, purpose)
        })?;
        self.held.looked_up(&[made.ino]);
        self.attr_of(made.ino, &made.inode)
    }

    /// Makes a file without a name. It goes when nobody holds it any more, unless it gets a name by then.
    /// Counts as a lookup; the opening follows.
    pub fn create_unnamed(
        &self,
        caller: &Caller,
        dir: Ino,
        mode: u16,
        purpose: Purpose,
        fate: Fate,
    ) -> Result<Attr> {
        let made = self.make_file(caller, purpose, &|layers, ctx, fresh| {
            create::unnamed(layers, ctx, dir, fresh, mode, purpose)
        })?;
        if fate == Fate::MayGetAName {
            self.held.may_get_a_name(made.ino);
        }
        self.held.looked_up(&[made.ino]);
        self.attr_of(made.ino, &made.inode)
    }

    /// Makes what `rule` plans under a fresh number; one to be written gets one whose data file is made already, if possible.
    fn make_file(
        &self,
        caller: &Caller,
        purpose: Purpose,
        rule: &dyn Fn(&dyn Layers, &Context, Ino) -> Planned<Made>,
    ) -> Result<Made> {
        if purpose == Purpose::Empty {
            return self.make_planned(caller, self.fresh_ino()?, rule);
        }
        let files = self.data.files()?;
        let (ready, more) = files.ready_ino();
        if more {
            self.chores.make_ready();
        }
        let fresh = ready.map_or_else(|| self.fresh_ino(), Ok)?;
        let made = self.make_planned(caller, fresh, rule);
        if made.is_err() {
            files.unused_ino(fresh);
        }
        made
    }

    pub(super) fn fresh_ino(&self) -> Result<Ino> {
        self.upper()?.new_ino().map_err(|e| of_store(&e))
    }

    /// Makes what `rule` plans: its data file first, if it gets one, then its record and its name.
    pub(super) fn make_planned(
        &self,
        caller: &Caller,
        fresh: Ino,
        rule: &dyn Fn(&dyn Layers, &Context, Ino) -> Planned<Made>,
    ) -> Result<Made> {
        self.upper()?;
        self.room.to_grow()?;
        let steps = self
            .foresee(caller, |layers, ctx| rule(layers, ctx, fresh))?
            .answer
            .steps;
        if steps.is_empty() {
            return self.change(caller, |layers, ctx| rule(layers, ctx, fresh));
        }
        self.data.run(fresh, None, &steps)?;
        let made = self.change(caller, |layers, ctx| rule(layers, ctx, fresh));
        // Another thread took the name meanwhile, or the disk is full: nothing names the data file.
        made.inspect_err(|_| self.remove_unnamed(fresh, &steps))
    }

    /// Gives a file another name. Counts as a lookup.
    pub fn link(&self, caller: &Caller, ino: Ino, dir: Ino, name: &[u8]) -> Result<Attr> {
        self.upper()?;
        self.room.to_grow()?;
        let name = file_name(name)?;
        let to = At { dir, name: &name };
        let inode = self.change(caller, |layers, ctx| {
            if self.held.is_unnamed(ino) {
                link::first(layers, ctx, ino, to)
            } else {
                link::plan(layers, ctx, ino, to)
            }
        })?;
        self.held.looked_up(&[ino]);
        self.attr_of(ino, &inode)
    }

    /// Takes a name from what is no directory.
    pub fn unlink(&self, caller: &Caller, dir: Ino, name: &[u8]) -> Result<()> {
        let name = file_name(name)?;
        let at = At { dir, name: &name };
        let gone = self.change(caller, |layers, ctx| unlink::file(layers, ctx, at))?;
        self.end_gone(gone);
        Ok(())
    }

    /// Removes an empty directory.
    pub fn rmdir(&self, caller: &Caller, dir: Ino, name: &[u8]) -> Result<()> {
        let name = file_name(name)?;
        let at = At { dir, name: &name };
        let gone = self.change(caller, |layers, ctx| unlink::dir(layers, ctx, at))?;
        self.end_gone(gone);
        Ok(())
    }

    fn end_gone(&self, gone: Gone) {
        if gone.orphan {
            self.end_if_unheld(&[gone.ino]);
        }
    }

    /// Renames. What replaces something has its bytes on disk first: after a power loss the name leads to the old
    /// content or to the new one, never to an empty file.
    pub fn rename(
        &self,
        caller: &Caller,
        (dir, name): (Ino, &[u8]),
        (new_dir, new_name): (Ino, &[u8]),
        how: RenameHow,
    ) -> Result<()> {
        let (name, new_name) = (file_name(name)?, file_name(new_name)?);
        let from = At { dir, name: &name };
        let to = At {
            dir: new_dir,
            name: &new_name,
        };
        let upper = self.upper()?;
        let how = match how {
            RenameHow::Replace => rename::How::Replace,
            RenameHow::NoReplace => rename::How::NoReplace,
            RenameHow::Exchange => rename::How::Exchange,
            RenameHow::Whiteout => {
                rename::How::Whiteout(upper.new_ino().map_err(|e| of_store(&e))?)
            }
            RenameHow::NoReplaceWhiteout => {
                rename::How::NoReplaceWhiteout(upper.new_ino().map_err(|e| of_store(&e))?)
            }
        };
        if how == rename::How::Replace {
            self.sync_replacement(from, to)?;
        }
        let renamed = self.change(caller, |layers, ctx| {
            rename::plan(layers, ctx, from, to, how)
        })?;
        if let Some(gone) = renamed.replaced {
            self.end_gone(gone);
        }
        Ok(())
    }

    fn sync_replacement(&self, from: At<'_>, to: At<'_>) -> Result<()> {
        let (Some(ino), Some(_)) = (
            self.child(from.dir, from.name)?,
            self.child(to.dir, to.name)?,
        ) else {
            return Ok(());
        };
        if self.inode(ino)?.content.has_data_file() {
            self.sync_file(ino, false)?;
        }
        Ok(())
    }

    /// The kernel lets go of inodes, each so many lookups of it.
    pub fn forget(&self, forgets: &[(Ino, u64)]) {
        let unheld = self.chores.put(self.held.forgotten(forgets));
        self.end_if_unheld(&unheld);
    }

    /// Whether a thread calls [`Vfs::do_chores`] from now on.
    pub fn set_chores(&self, done: bool) {
        self.chores.attend(done);
    }

    /// Does what requests left for later; waits for it no longer than `time`. Returns whether to call again.
    pub fn do_chores(&self, time: Duration) -> bool {
        let chores = self.chores.take(time, &|| self.room.has_plenty());
        if chores.make_ready
            && self.room.has_plenty()
            && let Err(errno) = self.data.files().and_then(DataFiles::make_ready)
        {
            // Whoever needs one makes it, and tells of the error.
            tracing::debug!(%errno, "cannot make data files ahead");
        }
        self.end_if_unheld(&chores.unheld);
        self.chores.is_attended()
    }

    /// The kernel's connection ended: orphans go, what is left is made durable.
    pub fn disconnect(&self) {
        let orphans = self.held.end();
        if !self.is_writable() {
            return;
        }
        if let Err(errno) = self.end_orphans(&orphans, &|_| true) {
            tracing::warn!(inodes = orphans.len(), %errno, "cannot reclaim unlinked files yet");
        }
        if let Err(errno) = self.data.files().and_then(DataFiles::clear_ready) {
            tracing::warn!(%errno, "cannot remove data files that were made ahead");
        }
        if let Err(errno) = self.sync() {
            tracing::error!(%errno, "cannot make the upper durable at the end of its mount");
        }
    }

    /// `st_nlink` of a record, for those who have only that.
    pub fn nlink(ino: Ino, inode: &nacre_store::Inode) -> u32 {
        getattr::nlink(ino, inode)
    }
}

/// Checks a name that the kernel passed on.
pub(super) fn file_name(name: &[u8]) -> Result<FileName> {
    FileName::new(name).map_err(|error| match error {
        nacre_store::InvalidName::TooLong => Errno::NAMETOOLONG,
        nacre_store::InvalidName::Empty => Errno::NOENT,
        nacre_store::InvalidName::Dots | nacre_store::InvalidName::Separator => Errno::INVAL,
    })
}

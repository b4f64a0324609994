//! Attributes and extended attributes, and what `statfs` says.

use nacre_store::{Growth, Ino};

use super::{Attr, Caller, Rule, Vfs, With};
use crate::errno::{Result, of_rule};
use crate::union::setattr::{self, Change, Changed, Kill, SetTime};
use crate::union::{Context, Layers, content, xattr};

/// What `setattr` is to change.
pub type AttrChange = Change;

/// What `statfs` says: the truth of the host's filesystem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields of statvfs(3)")]
pub struct HostSpace {
    pub block_bytes: u64,
    pub fragment_bytes: u64,
    pub blocks: u64,
    pub blocks_free: u64,
    pub blocks_available: u64,
    pub files: u64,
    pub files_free: u64,
}

impl Vfs {
    /// chmod, chown, truncate, utimens.
    pub fn setattr(
        &self,
        caller: &Caller,
        ino: Ino,
        change: &AttrChange,
        kill: Kill,
    ) -> Result<Attr> {
        self.upper()?;
        let rule =
            |layers: &dyn Layers, ctx: &Context| setattr::plan(layers, ctx, ino, change, kill);
        let changed = match change.size {
            Some(size) => self.resize(caller, ino, size, &rule)?,
            None => self.change(caller, rule)?,
        };
        if changed.inode.content.has_data_file() {
            // A data file that was just made has the times that the file had before.
            let resized = change.size.map(|_| SetTime::Now);
            let (atime, mtime) = (change.atime, change.mtime.or(resized));
            if atime.is_some() || mtime.is_some() {
                self.data.files()?.set_times(ino, atime, mtime)?;
            }
        }
        self.attr_of(ino, &changed.inode)
    }

    /// Gives a file another length: its data file first, then its record.
    fn resize(
        &self,
        caller: &Caller,
        ino: Ino,
        size: u64,
        rule: &Rule<'_, Changed>,
    ) -> Result<Changed> {
        let _writing = self.writing(ino);
        let before = self.inode(ino)?;
        let is_longer = size > self.data.size(ino, &before)?;
        let growth = if is_longer {
            self.room.to_grow()?;
            Growth::AsItSays
        } else {
            // Before anything is cut off: what must be refused is refused while nothing has happened.
            self.room.to_free()?;
            Growth::Frees
        };
        let plan = self.foresee(caller, rule)?;
        self.data.run(ino, Some(&*before), &plan.answer.steps)?;
        let cuts_base = content::cuts_base(&before.content, size);
        // A record that is on disk before the cut is, or a cut before its record, would mix what was cut with what is written
        // next. If the disk does not take the cut, the record must follow it all the same.
        let synced = if cuts_base {
            self.sync_file(ino, true)
        } else {
            Ok(())
        };
        let claims = if cuts_base {
            None
        } else {
            self.claims(ino, &before, &plan.ops)?
        };
        let with = With { claims, growth };
        let changed = self.change_with(with, caller, rule).inspect_err(|_| {
            self.remove_unnamed(ino, &plan.answer.steps);
        })?;
        synced?;
        if cuts_base {
            self.sync_records()?;
        }
        Ok(changed)
    }

    /// Sets what a truncation by open takes: like `setattr`, but it tells the kernel, which sees no attributes.
    pub(super) fn truncate(&self, caller: &Caller, ino: Ino, kill: Kill) -> Result<()> {
        let before = self.inode(ino)?;
        let change = Change {
            size: Some(0),
            ..Change::default()
        };
        let after = self.setattr(caller, ino, &change, kill)?;
        if after.mode != before.mode {
            self.tell_attributes(ino);
        }
        Ok(())
    }

    /// Reads an extended attribute.
    pub fn getxattr(&self, ino: Ino, name: &[u8]) -> Result<Box<[u8]>> {
        xattr::get(self, ino, name).map_err(of_rule)
    }

    /// Lists extended attributes, each name with a NUL.
    pub fn listxattr(&self, caller: &Caller, ino: Ino) -> Result<Vec<u8>> {
        xattr::list(self, &self.context(caller, 0), ino).map_err(of_rule)
    }

    /// Sets an extended attribute.
    pub fn setxattr(
        &self,
        caller: &Caller,
        ino: Ino,
        name: &[u8],
        value: &[u8],
        how: xattr::How,
    ) -> Result<()> {
        self.upper()?;
        self.room.to_grow()?;
        self.change(caller, |layers, ctx| {
            xattr::set(layers, ctx, ino, name, value, how)
        })
    }

    /// Removes an extended attribute.
    pub fn removexattr(&self, caller: &Caller, ino: Ino, name: &[u8]) -> Result<()> {
        self.change(caller, |layers, ctx| xattr::remove(layers, ctx, ino, name))
    }

    /// What `statfs` says.
    pub fn statfs(&self) -> Result<HostSpace> {
        let host = self.room.host()?;
        Ok(HostSpace {
            block_bytes: host.f_bsize,
            fragment_bytes: host.f_frsize,
            blocks: host.f_blocks,
            blocks_free: host.f_bfree,
            blocks_available: host.f_bavail,
            files: host.f_files,
            files_free: host.f_ffree,
        })
    }
}

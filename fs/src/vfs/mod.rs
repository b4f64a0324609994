//! One tree at work: what the kernel (or the engine) asks, answered by the rules over the store. Never names FUSE.
//!
//! ```text
//! names      lookup, create, link, unlink, rename, readdir
//! attrs      attributes and extended attributes
//! files      open, read, write, fallocate, seek, copy
//! held       what the kernel holds: open files, looked-up inodes, orphans
//! place      the engine's own way in: paths, init files
//! undo       files of the image that were changed and are not on disk yet
//! settle     commit on a timer, fsync, and the tree as diff and commit read it
//! overrides  the upper in memory
//! recent     the bounded map under every cache
//! chores     what a request leaves for later
//! room       the floor under the host's free space
//! ```
//!
//! **Locks**, by rank; one of a higher number is never held while one of a lower number is taken:
//!
//! 1. `writing`: one of 64 by inode number, held while a file's content changes its kind (copy-up). Bytes are copied under it.
//! 2. `changing`: the whole tree, held while a plan is made and its batch is written. No byte of a file is copied
//!    and no kernel of a mount is asked under it.
//! 3. `held`: what the kernel holds. Leaves: everything in `overrides`, `data`, `room`.
//!
//! Reads take leaves only. A plan that needs work on a data file is made twice: without `changing`, for
//! the steps; then again under it, for the batch. Between the two the content cannot change (`writing` is held), the rest may.

mod attrs;
mod chores;
mod files;
mod held;
mod names;
mod overrides;
mod place;
mod recent;
mod room;
mod settle;
mod undo;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nacre_store::{
    DirList, FileName, Growth, Ino, Inode, Kind, Override, Store, Time, Tree, Upper, UpperOp,
};
use parking_lot::{Mutex, MutexGuard, RwLock};

use self::chores::Chores;
use self::held::Held;
use self::overrides::Overrides;
pub(crate) use self::recent::Recent;
use self::room::Room;
use self::undo::Undos;
use crate::data::Data;
use crate::errno::{Errno, Result, of_rule, of_store, to_rule};
use crate::union::{self, Context, Layers, Origin, Plan, getattr, unlink};

pub use self::attrs::{AttrChange, HostSpace};
pub use self::files::{Access, COPY_MAX, Mode};
pub use self::held::Passthrough;
pub use self::names::{Fate, Node, RenameHow};
pub use self::settle::Settled;
pub use crate::data::Whence;

/// Locks for copy-up: with 2 threads serving a tree, 64 make a collision of two files rare.
const WRITING_LOCKS: usize = 64;

/// Orphans ended together: one batch of the database, and a moment under the tree's lock.
const TOGETHER: usize = 64;

/// What a rule says.
type Planned<T> = std::result::Result<Plan<T>, union::Errno>;

/// What comes with a plan's batch.
#[derive(Debug, Clone, Copy)]
struct With {
    /// The file whose record will name bytes of its data file that were, or are said to be, a blob's, and that are not on
    /// disk.
    claims: Option<Ino>,
    growth: Growth,
}

impl With {
    const NOTHING: Self = Self {
        claims: None,
        growth: Growth::AsItSays,
    };
}

/// A rule with its arguments: it can be asked twice, before and after the work on a data file.
type Rule<'a, T> = dyn Fn(&dyn Layers, &Context) -> Planned<T> + 'a;

/// One tree at work. Shared by everything that serves or changes it; nothing in it is lost with it.
pub struct Vfs {
    store: Store,
    base: Tree,
    upper: Option<Upper>,
    overrides: Overrides,
    data: Data,
    held: Held,
    room: Room,
    /// Rank 1, see above.
    writing: Vec<Mutex<()>>,
    /// Rank 2, see above; the sequence number last given.
    changing: Mutex<u64>,
    /// Something was changed since the last commit.
    dirty: AtomicBool,
    chores: Chores,
    undos: Undos,
    kernel: RwLock<Option<Box<dyn Kernel>>>,
}

/// What must be told to a kernel that caches without limit, because it cannot know it: changes that none of its
/// own requests made. Never called under a lock, but for one.
pub trait Kernel: Send + Sync {
    /// An inode's attributes are others. May be called while a request is being answered.
    fn attributes_changed(&self, ino: Ino);
    /// A file's bytes, and its attributes, are others. What programs stored in mappings is written (to us) first, so
    /// no thread that serves the tree may call this.
    fn content_changed(&self, ino: Ino);
    /// These are a file's bytes, all of them. Called (under the lock `writing`) while the answer to its only opening is due.
    fn content_is(&self, ino: Ino, bytes: &[u8]);
    /// A directory has a name that leads elsewhere.
    fn entry_changed(&self, dir: Ino, name: &FileName);
}

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// fsuid.
    pub uid: u32,
    /// fsgid.
    pub gid: u32,
    /// umask; 0 where it does not matter.
    pub umask: u16,
    /// On whose behalf.
    pub origin: Origin,
}

impl Caller {
    /// A process in the mount.
    pub fn user(uid: u32, gid: u32, umask: u16) -> Self {
        Self {
            uid,
            gid,
            umask,
            origin: Origin::User,
        }
    }
}

/// What `stat` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields of stat(2)")]
pub struct Attr {
    pub ino: Ino,
    pub kind: Kind,
    pub mode: u16,
    pub nlink: u32,
    pub uid: u32,
    pub gid: u32,
    pub rdev: u64,
    pub size: u64,
    pub blocks: u64,
    pub atime: Time,
    pub mtime: Time,
    pub ctime: Time,
    pub btime: Time,
    /// Nobody but us changes it: `false` while the kernel writes the file by itself.
    pub settled: bool,
}

impl Vfs {
    /// The tree as it is in the store.
    pub fn read_only(store: Store, tree: Tree) -> Self {
        Self::new(store, tree, None, 0, Overrides::none())
    }

    /// An upper's tree. Orphans that its last connection left behind are reclaimed.
    pub fn writable(upper: Upper) -> Result<Self> {
        let seq = upper.last_seq().map_err(|e| of_store(&e))?;
        let (store, base) = (upper.store().clone(), upper.base().clone());
        let overrides = Overrides::of(&upper);
        let vfs = Self::new(store, base, Some(upper.clone()), seq, overrides);
        vfs.undo(&upper)?;
        vfs.end_orphans(&upper.orphans().map_err(|e| of_store(&e))?, &|_| true)?;
        Ok(vfs)
    }

    fn new(store: Store, base: Tree, upper: Option<Upper>, seq: u64, overrides: Overrides) -> Self {
        let room = Room::new(store.clone());
        Self {
            data: Data::new(store.clone(), upper.clone()),
            store,
            base,
            overrides,
            held: Held::new(upper.is_some()),
            room,
            writing: (0..WRITING_LOCKS).map(|_| Mutex::new(())).collect(),
            changing: Mutex::new(seq),
            dirty: AtomicBool::new(false),
            chores: Chores::default(),
            undos: Undos::default(),
            kernel: RwLock::new(None),
            upper,
        }
    }

    /// The upper; a read-only tree has none, hence `ROFS`.
    pub fn upper(&self) -> Result<&Upper> {
        self.upper.as_ref().ok_or(Errno::ROFS)
    }

    /// The store that the tree is in.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The tree below.
    pub fn base(&self) -> &Tree {
        &self.base
    }

    /// Whether it can be written.
    pub fn is_writable(&self) -> bool {
        self.upper.is_some()
    }

    /// Sets (or takes away) whom to tell of changes that no request made.
    pub fn set_kernel(&self, kernel: Option<Box<dyn Kernel>>) {
        *self.kernel.write() = kernel;
    }

    pub(crate) fn tell_attributes(&self, ino: Ino) {
        if let Some(kernel) = self.kernel.read().as_ref() {
            kernel.attributes_changed(ino);
        }
    }

    fn tell_entry(&self, dir: Ino, name: &FileName) {
        if let Some(kernel) = self.kernel.read().as_ref() {
            kernel.entry_changed(dir, name);
        }
    }

    fn tell_content(&self, ino: Ino) {
        if let Some(kernel) = self.kernel.read().as_ref() {
            kernel.content_changed(ino);
        }
    }

    /// The newest record of an inode.
    pub fn inode(&self, ino: Ino) -> Result<Arc<Inode>> {
        getattr::inode(self, ino).map_err(of_rule)
    }

    /// What `stat` says of an inode.
    pub fn attr(&self, ino: Ino) -> Result<Attr> {
        self.attr_of(ino, &*self.inode(ino)?)
    }

    /// With a data file, size, blocks and times are the data file's own. Of the two times of change the later counts:
    /// a chmod is only in the record, a write only in the data file.
    pub(crate) fn attr_of(&self, ino: Ino, inode: &Inode) -> Result<Attr> {
        let mut attr = Attr {
            ino,
            kind: inode.kind,
            mode: inode.mode,
            nlink: getattr::nlink(ino, inode),
            uid: inode.uid,
            gid: inode.gid,
            rdev: inode.rdev,
            size: inode.size,
            blocks: 0,
            atime: inode.atime,
            mtime: inode.mtime,
            ctime: inode.ctime,
            btime: inode.btime,
            settled: true,
        };
        if inode.content.has_data_file() {
            // Before the times are read: who opens the file after this tells the kernel to forget them.
            attr.settled = !self.held.is_written_by_kernel(ino);
            let stat = self.data.files()?.stat(ino)?;
            attr.size = stat.size;
            attr.blocks = stat
                .blocks
                .saturating_add(crate::data::base_blocks(&inode.content));
            attr.atime = stat.atime;
            attr.mtime = stat.mtime;
            attr.ctime = stat.ctime.max(inode.ctime);
        } else {
            attr.blocks = getattr::blocks(inode);
        }
        Ok(attr)
    }

    fn context(&self, caller: &Caller, seq: u64) -> Context {
        Context {
            now: now(),
            uid: caller.uid,
            gid: caller.gid,
            umask: caller.umask,
            seq,
            origin: caller.origin,
        }
    }

    /// A rule's answer without its batch: for what must be done before the batch is written.
    fn foresee<T>(
        &self,
        caller: &Caller,
        rule: impl FnOnce(&dyn Layers, &Context) -> Planned<T>,
    ) -> Result<Plan<T>> {
        self.upper()?;
        rule(self, &self.context(caller, u64::MAX)).map_err(of_rule)
    }

    /// Makes a plan and writes its batch, with nothing in between.
    fn change<T>(
        &self,
        caller: &Caller,
        rule: impl FnOnce(&dyn Layers, &Context) -> Planned<T>,
    ) -> Result<T> {
        self.change_with(With::NOTHING, caller, rule)
    }

    /// The same after work on a data file.
    fn change_with<T>(
        &self,
        with: With,
        caller: &Caller,
        rule: impl FnOnce(&dyn Layers, &Context) -> Planned<T>,
    ) -> Result<T> {
        let upper = self.upper()?;
        let mut seq = self.changing.lock();
        let next = seq.checked_add(1).ok_or(Errno::NOSPC)?;
        let plan = rule(self, &self.context(caller, next)).map_err(of_rule)?;
        if !plan.ops.is_empty() {
            let nameless = self.write_ops(upper, plan.ops, with)?;
            *seq = next;
            self.remove_data_files(upper, &nameless);
        }
        Ok(plan.answer)
    }

    /// The caller holds `changing`.
    fn write_batch(&self, upper: &Upper, ops: Vec<UpperOp>) -> Result<()> {
        let nameless = self.write_ops(upper, ops, With::NOTHING)?;
        self.remove_data_files(upper, &nameless);
        Ok(())
    }

    /// The change that took their names is made: what cannot be removed now is swept after an unclean end.
    fn remove_data_files(&self, upper: &Upper, nameless: &[Ino]) {
        if let Err(error) = upper.remove_data_files(nameless) {
            tracing::warn!(%error, "cannot remove a data file that nothing names");
        }
    }

    /// The same but for data files that no record names any more: returns their inodes.
    fn write_ops(&self, upper: &Upper, mut ops: Vec<UpperOp>, with: With) -> Result<Vec<Ino>> {
        self.add_undos(&mut ops, with.claims)?;
        let known = |ino| self.overrides.known(ino);
        let written = upper.write_knowing(&ops, &known, with.growth);
        let nameless = written.map_err(|e| {
            self.undos.not_written(&ops);
            of_store(&e)
        })?;
        self.held.follow(&ops);
        self.undos.follow(&ops);
        self.overrides.apply(ops);
        self.dirty.store(true, Ordering::Release);
        Ok(nameless)
    }

    /// Ends those of these orphans that nobody holds any more. What cannot be ended now is on record, and goes when the
    /// upper is opened next: the change that took its names is made.
    fn end_if_unheld(&self, inos: &[Ino]) {
        if let Err(errno) = self.end_orphans(inos, &|ino| self.held.is_reclaimable(ino)) {
            tracing::warn!(inodes = inos.len(), %errno, "cannot reclaim unlinked files yet");
        }
    }

    /// Ends those of these orphans that may go, all that can be; tells of the first error.
    fn end_orphans(&self, inos: &[Ino], may_go: &dyn Fn(Ino) -> bool) -> Result<()> {
        let mut all = Ok(());
        for some in inos.chunks(TOGETHER) {
            all = all.and(self.end_together(some, may_go));
        }
        all
    }

    fn end_together(&self, inos: &[Ino], may_go: &dyn Fn(Ino) -> bool) -> Result<()> {
        let upper = self.upper()?;
        let changing = self.changing.lock();
        let gone: Vec<Ino> = inos.iter().copied().filter(|ino| may_go(*ino)).collect();
        let ops: Vec<UpperOp> = gone.iter().flat_map(|ino| unlink::reclaim(*ino)).collect();
        if ops.is_empty() {
            return Ok(());
        }
        let nameless = self.write_ops(upper, ops, With::NOTHING)?;
        drop(changing);
        for ino in gone {
            self.data.files()?.forget(ino);
        }
        self.remove_data_files(upper, &nameless);
        Ok(())
    }

    /// Rank 1.
    fn writing(&self, ino: Ino) -> Option<MutexGuard<'_, ()>> {
        let index = ino.0 % (WRITING_LOCKS as u64);
        let lock = usize::try_from(index)
            .ok()
            .and_then(|index| self.writing.get(index));
        lock.map(Mutex::lock)
    }
}

impl Layers for Vfs {
    fn base_inode(&self, ino: Ino) -> std::result::Result<Option<Arc<Inode>>, union::Errno> {
        self.base.inode(ino).map_err(|e| to_rule(of_store(&e)))
    }

    fn base_dir(&self, ino: Ino) -> std::result::Result<Option<Arc<DirList>>, union::Errno> {
        self.base.dir(ino).map_err(|e| to_rule(of_store(&e)))
    }

    fn upper_inode(&self, ino: Ino) -> std::result::Result<Option<Arc<Inode>>, union::Errno> {
        match &self.upper {
            Some(upper) => self.overrides.inode(upper, ino).map_err(to_rule),
            None => Ok(None),
        }
    }

    fn upper_dir(
        &self,
        ino: Ino,
    ) -> std::result::Result<Arc<BTreeMap<FileName, Override>>, union::Errno> {
        match &self.upper {
            Some(upper) => self.overrides.dir(upper, ino).map_err(to_rule),
            None => Ok(Arc::default()),
        }
    }
}

/// The time as the host's filesystem stamps it (coarse), so that the times of records and of data files compare.
fn now() -> Time {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
    Time {
        seconds: now.tv_sec,
        nanos: u32::try_from(now.tv_nsec).unwrap_or(0),
    }
}

//! New inodes: files, directories, device nodes, symbolic links.
//!
//! The group and the setgid bit come from a setgid directory, permissions from its default ACL or else the umask.
//! A directory that takes the place of a hidden one starts empty, since entries belong to inodes, not to names.

use std::collections::BTreeMap;

use nacre_store::{Content, Ino, Inode, Kind, LayerNo, Link};

use super::acl::{self, Acl};
use super::content::DataStep;
use super::draft::{Draft, link_at, vacant};
use super::lookup::{self, Child};
use super::{At, Context, Errno, Layers, Origin, Plan};

/// The longest target of a symbolic link (PATH_MAX less the NUL).
const TARGET_BYTES_MAX: usize = 4095;
/// `pages` of a directory that no layer wrote.
const NO_PAGES: LayerNo = LayerNo(0);
/// The bits that `chmod` can set.
const MODE_BITS: u16 = 0o7777;
/// `S_ISGID`.
const SET_GROUP_ID: u16 = 0o2000;

/// Extended attributes by name, as a record holds them.
type Xattrs = BTreeMap<Box<[u8]>, Box<[u8]>>;

/// What was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// Its number.
    pub ino: Ino,
    /// Its record.
    pub inode: Inode,
    /// What to do with its data file first.
    pub steps: Vec<DataStep>,
}

/// Whether a new file is about to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// It may stay empty for ever: no data file.
    Empty,
    /// It is opened for writing: it gets its data file at once, and its first write costs no second record.
    Writing,
}

impl Purpose {
    /// What a new file holds, and what to do for it first.
    fn content(self) -> (Content, Vec<DataStep>) {
        match self {
            Self::Empty => (Content::None, Vec::new()),
            Self::Writing => (Content::Data, vec![DataStep::Create]),
        }
    }
}

/// What a new inode is, but for its place.
struct Seed {
    kind: Kind,
    mode: u16,
    rdev: u64,
    size: u64,
    content: Content,
}

impl Seed {
    fn new(kind: Kind, mode: u16, content: Content) -> Self {
        Self {
            kind,
            mode,
            rdev: 0,
            size: 0,
            content,
        }
    }
}

/// Plans `open(O_CREAT)` of a name that is not there.
pub fn file(
    layers: &dyn Layers,
    ctx: &Context,
    at: At<'_>,
    fresh: Ino,
    mode: u16,
    purpose: Purpose,
) -> Result<Plan<Made>, Errno> {
    let (content, steps) = purpose.content();
    plan(
        layers,
        ctx,
        at,
        fresh,
        Seed::new(Kind::File, mode, content),
        steps,
    )
}

/// Plans `open(O_TMPFILE)` in a directory: a file without a name, an orphan until it gets one. The directory stays as it is.
pub fn unnamed(
    layers: &dyn Layers,
    ctx: &Context,
    dir: Ino,
    fresh: Ino,
    mode: u16,
    purpose: Purpose,
) -> Result<Plan<Made>, Errno> {
    let parent = lookup::live_dir(layers, dir)?;
    let (content, steps) = purpose.content();
    let seed = Seed::new(Kind::File, mode, content);
    let inode = grown(ctx, &parent, Vec::new(), seed);
    let mut draft = Draft::new(layers, ctx);
    draft.insert_orphan(fresh, inode.clone());
    Ok(draft.finish(Made {
        ino: fresh,
        inode,
        steps,
    }))
}

/// Plans `mkdir`.
pub fn dir(
    layers: &dyn Layers,
    ctx: &Context,
    at: At<'_>,
    fresh: Ino,
    mode: u16,
) -> Result<Plan<Made>, Errno> {
    let content = Content::Dir {
        pages: NO_PAGES,
        subdirs: 0,
    };
    plan(
        layers,
        ctx,
        at,
        fresh,
        Seed::new(Kind::Dir, mode, content),
        Vec::new(),
    )
}

/// Plans `mknod`: any kind but a directory or a symbolic link.
pub fn node(
    layers: &dyn Layers,
    ctx: &Context,
    at: At<'_>,
    fresh: Ino,
    kind: Kind,
    mode: u16,
    rdev: u64,
) -> Result<Plan<Made>, Errno> {
    let rdev = match kind {
        Kind::Char | Kind::Block => rdev,
        Kind::File | Kind::Fifo | Kind::Socket => 0,
        Kind::Dir | Kind::Symlink => return Err(Errno::Inval),
    };
    let seed = Seed {
        rdev,
        ..Seed::new(kind, mode, Content::None)
    };
    plan(layers, ctx, at, fresh, seed, Vec::new())
}

/// Plans `symlink`.
pub fn symlink(
    layers: &dyn Layers,
    ctx: &Context,
    at: At<'_>,
    fresh: Ino,
    target: &[u8],
) -> Result<Plan<Made>, Errno> {
    if target.is_empty() {
        return Err(Errno::NoEnt);
    }
    if target.len() > TARGET_BYTES_MAX {
        return Err(Errno::NameTooLong);
    }
    let seed = Seed {
        size: u64::try_from(target.len()).map_err(|_| Errno::NameTooLong)?,
        ..Seed::new(Kind::Symlink, 0o777, Content::Symlink(target.into()))
    };
    plan(layers, ctx, at, fresh, seed, Vec::new())
}

/// Leaves behind what `RENAME_WHITEOUT` leaves: a character device 0:0, by which another overlay on top of this tree
/// hides a name.
pub(super) fn whiteout_node(draft: &mut Draft<'_>, at: At<'_>, fresh: Ino) -> Result<(), Errno> {
    let parent = lookup::live_dir(draft.layers, at.dir)?;
    let inode = grown(
        draft.ctx,
        &parent,
        vec![link_at(at)],
        Seed::new(Kind::Char, 0, Content::None),
    );
    let kind = inode.kind;
    draft.insert(fresh, inode);
    draft.set_entry(at, Child { ino: fresh, kind })
}

fn plan(
    layers: &dyn Layers,
    ctx: &Context,
    at: At<'_>,
    fresh: Ino,
    seed: Seed,
    steps: Vec<DataStep>,
) -> Result<Plan<Made>, Errno> {
    vacant(layers, at)?;
    let parent = lookup::live_dir(layers, at.dir)?;
    let kind = seed.kind;
    let inode = grown(ctx, &parent, vec![link_at(at)], seed);
    let mut draft = Draft::new(layers, ctx);
    draft.insert(fresh, inode.clone());
    draft.set_entry(at, Child { ino: fresh, kind })?;
    draft.dir_changed(at.dir, i32::from(kind == Kind::Dir))?;
    let made = Made {
        ino: fresh,
        inode,
        steps,
    };
    Ok(draft.finish(made))
}

/// Returns the record of a new inode: what it is, and what its directory hands down.
fn grown(ctx: &Context, parent: &Inode, links: Vec<Link>, seed: Seed) -> Inode {
    let mut mode = seed.mode & MODE_BITS;
    let mut xattrs = Xattrs::new();
    if seed.kind != Kind::Symlink {
        (mode, xattrs) = permissions(ctx, parent, seed.kind, mode);
    }
    let mut gid = ctx.gid;
    if parent.mode & SET_GROUP_ID != 0 {
        gid = parent.gid;
        if seed.kind == Kind::Dir {
            mode |= SET_GROUP_ID;
        }
    }
    Inode {
        kind: seed.kind,
        mode,
        uid: ctx.uid,
        gid,
        rdev: seed.rdev,
        size: seed.size,
        atime: ctx.now,
        mtime: ctx.now,
        ctime: ctx.now,
        btime: ctx.now,
        content: seed.content,
        xattrs,
        links,
        init: ctx.origin == Origin::Runtime,
    }
}

/// Returns the mode and the ACLs that a new inode gets: from the directory's default ACL, or else by the umask. A default
/// ACL that does not parse (an image can hold one) counts as none, as it does when the kernel checks permissions.
fn permissions(ctx: &Context, parent: &Inode, kind: Kind, mode: u16) -> (u16, Xattrs) {
    let mut xattrs = Xattrs::new();
    let default = parent.xattrs.get(acl::DEFAULT);
    let Some(inherited) = default.and_then(|bytes| Acl::parse(bytes).ok().flatten()) else {
        return (mode & !(ctx.umask & 0o777), xattrs);
    };
    if kind == Kind::Dir {
        xattrs.insert(acl::DEFAULT.into(), inherited.to_bytes());
    }
    let mut access = inherited;
    let mode = access.inherit(mode);
    if !access.is_mode() {
        xattrs.insert(acl::ACCESS.into(), access.to_bytes());
    }
    (mode, xattrs)
}

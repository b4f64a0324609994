//! The operations, each one call and an answer.

use std::ops::ControlFlow;
use std::sync::Arc;

use nacre_store::Ino;

use super::reply::{Body, Reply};
use super::wire::{self, CopyRange, Create, Header, Op, fopen};
use super::{Backing, Profile, Shell, convert};
use crate::errno::{Errno, Result};
use crate::union::create::Purpose;
use crate::vfs::{Access, Attr, Mode, Node, Whence};

/// How an open file is served, as the kernel is told.
enum Opened {
    Flags(u32),
    Backed(Arc<Backing>),
}

/// The handle of an open file. Nothing has to be found by it; a program that is being executed is known by it when it is closed.
const FILE: u64 = 0;
const PROGRAM: u64 = 1;

impl Opened {
    fn answer(&self, body: Body, handle: u64) -> Body {
        match self {
            Self::Flags(flags) => body.opened(handle, *flags, 0),
            Self::Backed(backing) => {
                body.opened(handle, fopen::NOFLUSH | fopen::PASSTHROUGH, backing.id)
            }
        }
    }
}

fn entry(made: Result<Attr>) -> Result<Body> {
    made.map(|attr| Body::default().entry(&attr))
}

fn created((attr, opened): (Attr, Opened)) -> Body {
    opened.answer(Body::default().entry(&attr), FILE)
}

fn size(done: Result<usize>) -> Result<Body> {
    let len = u32::try_from(done?).map_err(|_| Errno::IO)?;
    Ok(Body::size(len))
}

/// Answers a request for a value: its length if the buffer is empty, the value if it fits.
fn value(reply: &Reply<'_>, room: u32, value: Result<impl AsRef<[u8]>>) {
    match value {
        Err(errno) => reply.error(errno),
        Ok(value) => match u32::try_from(value.as_ref().len()) {
            Ok(len) if room == 0 => reply.data(Body::size(len).as_ref()),
            Ok(len) if len <= room => reply.data(value.as_ref()),
            Ok(_) | Err(_) => reply.error(Errno::RANGE),
        },
    }
}

impl Shell {
    /// Does what a request asks and answers it.
    pub(super) fn serve(&self, header: &Header, op: &Op<'_>, reply: &Reply<'_>) {
        let (vfs, node) = (&self.vfs, header.node);
        let caller = |umask| convert::caller(header, umask);
        match *op {
            Op::Lookup { name } => reply.result(match vfs.lookup(node, name) {
                Ok(Some(attr)) => entry(Ok(attr)),
                Ok(None) => Ok(Body::negative()),
                Err(errno) => Err(errno),
            }),
            Op::Forget { lookups } => vfs.forget(&[(node, lookups)]),
            Op::BatchForget { count, pairs } => match wire::forgets(count, pairs) {
                Ok(forgets) => vfs.forget(&forgets),
                Err(wire::Malformed) => tracing::warn!("the kernel sent a malformed forget"),
            },
            Op::GetAttr => reply.result(vfs.attr(node).map(|attr| Body::attributes(&attr))),
            Op::StatX => reply.result(vfs.attr(node).map(|attr| Body::statx(&attr))),
            Op::SetAttr(set) => {
                let change = convert::change(&set);
                let done = vfs.setattr(&caller(0), node, &change, convert::kill(set.kill));
                reply.result(done.map(|attr| Body::attributes(&attr)));
            }
            Op::ReadLink => reply.result(vfs.readlink(node)),
            Op::Symlink { name, target } => {
                let made = vfs.make(&caller(0), node, name, 0o777, Node::Symlink(target));
                reply.result(entry(made));
            }
            Op::MkNod {
                name,
                mode,
                rdev,
                umask,
            } => {
                let made = convert::kind_of_mode(mode).and_then(|kind| {
                    let made = Node::Other(kind, u64::from(rdev));
                    vfs.make(&caller(umask), node, name, convert::permissions(mode), made)
                });
                reply.result(entry(made));
            }
            Op::MkDir { name, mode, umask } => {
                let mode = convert::permissions(mode);
                reply.result(entry(vfs.make(&caller(umask), node, name, mode, Node::Dir)));
            }
            Op::Unlink { name } => reply.empty(vfs.unlink(&caller(0), node, name)),
            Op::RmDir { name } => reply.empty(vfs.rmdir(&caller(0), node, name)),
            Op::Rename {
                name,
                new_dir,
                new_name,
                flags,
            } => {
                let (from, to) = ((node, name), (new_dir, new_name));
                let how = convert::rename_how(flags);
                reply.empty(how.and_then(|how| vfs.rename(&caller(0), from, to, how)));
            }
            Op::Link { node: old, name } => {
                reply.result(entry(vfs.link(&caller(0), old, node, name)));
            }
            Op::StatFs => reply.result(vfs.statfs().map(|host| Body::statfs(&host))),
            Op::SetXattr {
                name,
                value,
                flags,
                stranger,
            } => {
                let how = convert::xattr_how(flags, stranger);
                reply.empty(vfs.setxattr(&caller(0), node, name, value, how));
            }
            Op::GetXattr { name, size } => value(reply, size, vfs.getxattr(node, name)),
            Op::ListXattr { size } => value(reply, size, vfs.listxattr(&caller(0), node)),
            Op::RemoveXattr { name } => reply.empty(vfs.removexattr(&caller(0), node, name)),
            Op::ReadDir { offset, size } => self.list(reply, node, offset, size),
            Op::ReadDirPlus { offset, size } => {
                self.list_plus(reply, node, offset, size);
                if offset == 0 {
                    self.ahead.listed(header.thread, node);
                }
            }
            // Every request is answered in its own time; none waits for another program, so none need be cut short.
            Op::Interrupt => {}
            Op::Destroy => reply.empty(Ok(())),
            // No ioctl is known on any file, as on a filesystem without flags and attributes of its own.
            Op::Ioctl => reply.error(Errno::NOTTY),
            // Once is enough: the kernel caches listings until it changes the directory itself, and nothing waits
            // for a close.
            Op::OpenDir | Op::Flush | Op::Unknown => reply.error(Errno::NOSYS),
            Op::Open { .. }
            | Op::Create { .. }
            | Op::TmpFile(_)
            | Op::Release { .. }
            | Op::Read { .. }
            | Op::Write { .. }
            | Op::Fsync
            | Op::Fallocate { .. }
            | Op::Lseek { .. }
            | Op::CopyFileRange(_)
            | Op::CopyFileRange64(_) => self.serve_file(header, op, reply),
        }
    }

    /// The operations on the content of files.
    fn serve_file(&self, header: &Header, op: &Op<'_>, reply: &Reply<'_>) {
        let (vfs, node) = (&self.vfs, header.node);
        let caller = convert::caller(header, 0);
        match *op {
            Op::Open { flags, kill } => {
                let opened = self.open(header, flags, kill);
                let handle = if convert::is_execution(flags) {
                    PROGRAM
                } else {
                    FILE
                };
                let answer = opened.as_ref().map(|o| o.answer(Body::default(), handle));
                reply.result(answer.map_err(|e| *e));
            }
            Op::Create { create, name } => {
                reply.result(self.create(header, &create, Some(name)).map(created));
            }
            Op::TmpFile(create) => {
                reply.result(self.create(header, &create, None).map(created));
            }
            Op::Release { handle } => {
                if handle == PROGRAM {
                    vfs.executed(node);
                }
                self.release(node);
                reply.empty(Ok(()));
            }
            Op::Read { offset, size } => {
                let len = usize::try_from(size).unwrap_or(usize::MAX);
                if let Err(errno) = vfs.read(node, offset, len, |bytes| reply.data(bytes)) {
                    reply.error(errno);
                }
            }
            Op::Write {
                offset,
                kill,
                bytes,
            } => {
                reply.result(size(vfs.write(
                    &caller,
                    node,
                    offset,
                    bytes,
                    convert::kill(kill),
                )));
            }
            Op::Fsync => reply.empty(vfs.fsync(node)),
            Op::Fallocate { offset, len, mode } => {
                let kill = convert::kill_of(header);
                let how = convert::allocate_how(mode);
                reply.empty(
                    how.and_then(|how| vfs.fallocate(&caller, node, how, (offset, len), kill)),
                );
            }
            Op::Lseek { offset, whence } => reply.result(self.seek(node, offset, whence)),
            Op::CopyFileRange(range) => reply.result(size(self.copy(header, &range))),
            Op::CopyFileRange64(range) => {
                let copied = self.copy(header, &range);
                reply.result(copied.map(|len| Body::offset(len as u64)));
            }
            _ => reply.error(Errno::NOSYS),
        }
    }

    fn open(&self, header: &Header, flags: u32, kill: bool) -> Result<Opened> {
        if self.profile == Profile::ReadOnly {
            // Once is enough: the kernel opens without us from now on, and keeps what it has cached.
            return Err(Errno::NOSYS);
        }
        let (caller, access) = (convert::caller(header, 0), convert::access(flags));
        // Who opens for writing was refused by the kernel if the program runs. `O_RDONLY | O_TRUNC` it refuses after we did it.
        if convert::truncates_unasked(flags) && self.vfs.is_executed(header.node) {
            return Err(Errno::TXTBSY);
        }
        self.vfs
            .prepare_open(&caller, header.node, access, convert::kill(kill))?;
        self.sync_for(header.node, flags)?;
        let opened = self.open_mode(header.node, access)?;
        if convert::is_execution(flags) {
            self.vfs.executes(header.node);
        }
        // What the kernel knows of the times may not be right any more. (Truncation made it forget them already.)
        if access == Access::Write && matches!(opened, Opened::Backed(_)) {
            self.vfs.tell_attributes(header.node);
        }
        Ok(opened)
    }

    /// Makes a file and opens it; one without a name if none is given.
    fn create(
        &self,
        header: &Header,
        create: &Create,
        name: Option<&[u8]>,
    ) -> Result<(Attr, Opened)> {
        let access = convert::access(create.flags);
        let purpose = match access {
            Access::Read => Purpose::Empty,
            Access::Write | Access::Truncate => Purpose::Writing,
        };
        let caller = convert::caller(header, create.umask);
        let mode = convert::permissions(create.mode);
        let mut attr = match name {
            Some(name) => self.vfs.create(&caller, header.node, name, mode, purpose),
            None => {
                let fate = convert::fate(create.flags);
                self.vfs
                    .create_unnamed(&caller, header.node, mode, purpose, fate)
            }
        }?;
        self.sync_for(attr.ino, create.flags)?;
        let opened = self.open_mode(attr.ino, access)?;
        attr.settled = access == Access::Read || !matches!(opened, Opened::Backed(_));
        Ok((attr, opened))
    }

    /// With O_SYNC or O_DSYNC what leads to the file is made durable now: the kernel makes the bytes so, and may do it by itself.
    fn sync_for(&self, ino: Ino, flags: u32) -> Result<()> {
        if convert::is_synchronous(flags) {
            self.vfs.fsync(ino)?;
        }
        Ok(())
    }

    /// Counts a file as open, backed by the kernel's own descriptor if the tree says so and the kernel agrees.
    fn open_mode(&self, ino: Ino, access: Access) -> Result<Opened> {
        let mut backings = self.backings.lock();
        let mut mode = self.vfs.open(ino, access)?;
        if let Mode::Backed(file) = &mode {
            if let Some(backing) = backings.get(&ino.0) {
                return Ok(Opened::Backed(backing.clone()));
            }
            match Backing::open(&self.device, file) {
                Ok(backing) => {
                    let backing = Arc::new(backing);
                    backings.insert(ino.0, backing.clone());
                    return Ok(Opened::Backed(backing));
                }
                Err(error) => {
                    self.refuse(&error);
                    mode = self.vfs.open_unbacked(ino);
                }
            }
        }
        Ok(Opened::Flags(match mode {
            Mode::Cached => Self::cached_flags(),
            Mode::Refreshed | Mode::Backed(_) => fopen::NOFLUSH,
        }))
    }

    fn release(&self, ino: Ino) {
        let mut backings = self.backings.lock();
        let closed = self.vfs.release(ino).then(|| backings.remove(&ino.0));
        drop(backings);
        drop(closed);
    }

    fn list(&self, reply: &Reply<'_>, dir: Ino, after: u64, size: u32) {
        let room = usize::try_from(size).unwrap_or(usize::MAX);
        let mut body = Body::with_room(room.min(LISTING_BYTES));
        let done = self.vfs.readdir(dir, after, &mut |item| {
            let entry = (item.ino, item.kind, item.cookie, item.name);
            flow(body.dir_entry(room, entry, None))
        });
        reply.result(done.map(|()| body));
    }

    fn list_plus(&self, reply: &Reply<'_>, dir: Ino, after: u64, size: u32) {
        let room = usize::try_from(size).unwrap_or(usize::MAX);
        let mut body = Body::with_room(room.min(LISTING_BYTES));
        let done = self.vfs.readdirplus(dir, after, &mut |item, attr| {
            let entry = (item.ino, item.kind, item.cookie, item.name);
            flow(body.dir_entry(room, entry, Some(attr)))
        });
        reply.result(done.map(|()| body));
    }

    fn seek(&self, ino: Ino, offset: u64, whence: u32) -> Result<Body> {
        let whence = match whence.cast_signed() {
            libc::SEEK_DATA => Whence::Data,
            libc::SEEK_HOLE => Whence::Hole,
            _ => return Err(Errno::INVAL),
        };
        if i64::try_from(offset).is_err() {
            return Err(Errno::NXIO);
        }
        let found = self.vfs.seek(ino, offset, whence)?;
        i64::try_from(found).map_err(|_| Errno::OVERFLOW)?;
        Ok(Body::offset(found))
    }

    fn copy(&self, header: &Header, range: &CopyRange) -> Result<usize> {
        let from = (header.node, range.offset_in);
        let to = (range.node_out, range.offset_out);
        let (caller, kill) = (convert::caller(header, 0), convert::kill_of(header));
        self.vfs.copy(&caller, from, to, range.len, kill)
    }
}

/// Room that a listing starts with; more only if the kernel asks for it.
const LISTING_BYTES: usize = 64 << 10;

fn flow(taken: bool) -> ControlFlow<()> {
    if taken {
        ControlFlow::Continue(())
    } else {
        ControlFlow::Break(())
    }
}

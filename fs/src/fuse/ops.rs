//! The operations, each one call and a reply.

use std::ffi::OsStr;
use std::io;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use fuser::{
    BsdFileFlags, CopyFileRangeFlags, FileHandle, Filesystem, FopenFlags, Generation, INodeNo,
    IoctlFlags, KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen,
    ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use nacre_store::Ino;

use super::{FOREVER, Profile, Shell, convert};
use crate::errno::{Errno, Result};
use crate::union::create::Purpose;
use crate::union::setattr::Kill;
use crate::union::xattr;
use crate::vfs::{Access, Attr, AttrChange, Mode, Node, Whence};

/// Inode numbers are never used again, so one generation is enough.
const GENERATION: Generation = Generation(0);

/// Open files are told apart by their inode alone, so that a handle needs no table and outlives the process.
const NO_HANDLE: FileHandle = FileHandle(0);

fn entry(reply: ReplyEntry, made: Result<Attr>) {
    match made {
        Ok(attr) => reply.entry(&FOREVER, &convert::attr(&attr), GENERATION),
        Err(errno) => reply.error(convert::errno(errno)),
    }
}

fn empty(reply: ReplyEmpty, done: Result<()>) {
    match done {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(convert::errno(errno)),
    }
}

fn written(reply: ReplyWrite, done: Result<usize>) {
    match done.map(u32::try_from) {
        Ok(Ok(len)) => reply.written(len),
        Ok(Err(_)) => reply.error(fuser::Errno::EIO),
        Err(errno) => reply.error(convert::errno(errno)),
    }
}

/// Answers a request for a value: its length if the buffer is empty, the value if it fits.
fn value(reply: ReplyXattr, room: u32, value: Result<impl AsRef<[u8]>>) {
    match value {
        Err(errno) => reply.error(convert::errno(errno)),
        Ok(value) => match u32::try_from(value.as_ref().len()) {
            Ok(len) if room == 0 => reply.size(len),
            Ok(len) if len <= room => reply.data(value.as_ref()),
            Ok(_) | Err(_) => reply.error(fuser::Errno::ERANGE),
        },
    }
}

impl Shell {
    /// Counts a file as open, backed by the kernel's own descriptor if the tree says so and the kernel agrees.
    fn open_mode(
        &self,
        ino: Ino,
        access: Access,
        register: impl FnOnce(&std::fs::File) -> io::Result<fuser::BackingId>,
    ) -> Result<std::result::Result<Arc<fuser::BackingId>, FopenFlags>> {
        let mut backings = self.backings.lock();
        let mut mode = self.vfs.open(ino, access)?;
        if let Mode::Backed(file) = &mode {
            if let Some(backing) = backings.get(&ino.0) {
                return Ok(Ok(backing.clone()));
            }
            match register(file) {
                Ok(backing) => {
                    let backing = Arc::new(backing);
                    backings.insert(ino.0, backing.clone());
                    return Ok(Ok(backing));
                }
                Err(error) => {
                    self.refuse(&error);
                    mode = self.vfs.open_unbacked(ino);
                }
            }
        }
        Ok(Err(match mode {
            Mode::Cached => Self::cached_flags(),
            Mode::Refreshed | Mode::Backed(_) => FopenFlags::FOPEN_NOFLUSH,
        }))
    }
}

impl Filesystem for Shell {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> io::Result<()> {
        self.negotiate(config);
        Ok(())
    }

    fn destroy(&mut self) {
        self.backings.lock().clear();
        self.vfs.disconnect();
    }

    fn lookup(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.vfs.lookup(convert::ino(parent), name.as_bytes()) {
            Ok(Some(attr)) => reply.entry(&FOREVER, &convert::attr(&attr), GENERATION),
            Ok(None) => reply.entry(&FOREVER, &convert::negative(), GENERATION),
            Err(errno) => reply.error(convert::errno(errno)),
        }
    }

    fn forget(&self, _req: &Request, ino: INodeNo, nlookup: u64) {
        self.vfs.forget(&[(convert::ino(ino), nlookup)]);
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        match self.vfs.attr(convert::ino(ino)) {
            Ok(attr) => reply.attr(&FOREVER, &convert::attr(&attr)),
            Err(errno) => reply.error(convert::errno(errno)),
        }
    }

    fn setattr(
        &self,
        req: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let change = AttrChange {
            mode: mode.map(convert::permissions),
            uid,
            gid,
            size,
            atime: atime.map(convert::set_time),
            mtime: mtime.map(convert::set_time),
        };
        let caller = convert::caller(req, 0);
        match self
            .vfs
            .setattr(&caller, convert::ino(ino), &change, convert::kill(req))
        {
            Ok(attr) => reply.attr(&FOREVER, &convert::attr(&attr)),
            Err(errno) => reply.error(convert::errno(errno)),
        }
    }

    fn readlink(&self, _req: &Request, ino: INodeNo, reply: ReplyData) {
        match self.vfs.readlink(convert::ino(ino)) {
            Ok(target) => reply.data(&target),
            Err(errno) => reply.error(convert::errno(errno)),
        }
    }

    fn mknod(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        let (caller, dir) = (convert::caller(req, umask), convert::ino(parent));
        entry(
            reply,
            convert::kind_of_mode(mode).and_then(|kind| {
                let node = Node::Other(kind, u64::from(rdev));
                self.vfs.make(
                    &caller,
                    dir,
                    name.as_bytes(),
                    convert::permissions(mode),
                    node,
                )
            }),
        );
    }

    fn mkdir(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        let (caller, dir) = (convert::caller(req, umask), convert::ino(parent));
        let mode = convert::permissions(mode);
        entry(
            reply,
            self.vfs
                .make(&caller, dir, name.as_bytes(), mode, Node::Dir),
        );
    }

    fn unlink(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let caller = convert::caller(req, 0);
        empty(
            reply,
            self.vfs
                .unlink(&caller, convert::ino(parent), name.as_bytes()),
        );
    }

    fn rmdir(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let caller = convert::caller(req, 0);
        empty(
            reply,
            self.vfs
                .rmdir(&caller, convert::ino(parent), name.as_bytes()),
        );
    }

    fn symlink(
        &self,
        req: &Request,
        parent: INodeNo,
        link_name: &OsStr,
        target: &Path,
        reply: ReplyEntry,
    ) {
        let (caller, dir) = (convert::caller(req, 0), convert::ino(parent));
        let node = Node::Symlink(target.as_os_str().as_bytes());
        entry(
            reply,
            self.vfs
                .make(&caller, dir, link_name.as_bytes(), 0o777, node),
        );
    }

    fn rename(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let from = (convert::ino(parent), name.as_bytes());
        let to = (convert::ino(newparent), newname.as_bytes());
        let caller = convert::caller(req, 0);
        let how = convert::rename_how(flags);
        empty(
            reply,
            how.and_then(|how| self.vfs.rename(&caller, from, to, how)),
        );
    }

    fn link(
        &self,
        req: &Request,
        ino: INodeNo,
        newparent: INodeNo,
        newname: &OsStr,
        reply: ReplyEntry,
    ) {
        let (caller, dir) = (convert::caller(req, 0), convert::ino(newparent));
        entry(
            reply,
            self.vfs
                .link(&caller, convert::ino(ino), dir, newname.as_bytes()),
        );
    }

    fn open(&self, req: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        if self.profile == Profile::ReadOnly {
            // Once is enough: the kernel opens without us from now on, and keeps what it has cached.
            return reply.error(fuser::Errno::ENOSYS);
        }
        let (ino, access) = (convert::ino(ino), convert::access(flags));
        let caller = convert::caller(req, 0);
        let opened = self
            .vfs
            .prepare_open(&caller, ino, access, convert::kill(req))
            .and_then(|()| self.open_mode(ino, access, |file| reply.open_backing(file)));
        match opened {
            Ok(Ok(backing)) => {
                reply.opened_passthrough(NO_HANDLE, FopenFlags::FOPEN_NOFLUSH, &backing);
            }
            Ok(Err(flags)) => reply.opened(NO_HANDLE, flags),
            Err(errno) => reply.error(convert::errno(errno)),
        }
    }

    fn create(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let access = convert::access(OpenFlags(flags));
        let purpose = match access {
            Access::Read => Purpose::Empty,
            Access::Write | Access::Truncate => Purpose::Writing,
        };
        let (caller, dir) = (convert::caller(req, umask), convert::ino(parent));
        let mode = convert::permissions(mode);
        let made = self
            .vfs
            .create(&caller, dir, name.as_bytes(), mode, purpose);
        let opened = made.and_then(|attr| {
            let mode = self.open_mode(attr.ino, access, |file| reply.open_backing(file))?;
            Ok((attr, mode))
        });
        match opened {
            Ok((attr, Ok(backing))) => reply.created_passthrough(
                &FOREVER,
                &convert::attr(&attr),
                GENERATION,
                NO_HANDLE,
                FopenFlags::FOPEN_NOFLUSH,
                &backing,
            ),
            Ok((attr, Err(flags))) => {
                reply.created(
                    &FOREVER,
                    &convert::attr(&attr),
                    GENERATION,
                    NO_HANDLE,
                    flags,
                );
            }
            Err(errno) => reply.error(convert::errno(errno)),
        }
    }

    fn read(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let len = usize::try_from(size).unwrap_or(usize::MAX);
        let mut reply = Some(reply);
        let done = self.vfs.read(convert::ino(ino), offset, len, |bytes| {
            if let Some(reply) = reply.take() {
                reply.data(bytes);
            }
        });
        if let (Err(errno), Some(reply)) = (done, reply) {
            reply.error(convert::errno(errno));
        }
    }

    fn write(
        &self,
        req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let kill = if write_flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID) {
            Kill::All
        } else {
            Kill::Capability
        };
        let caller = convert::caller(req, 0);
        written(
            reply,
            self.vfs
                .write(&caller, convert::ino(ino), offset, data, kill),
        );
    }

    fn flush(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _lock_owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        // Nothing waits for a close here; the kernel does not ask again.
        reply.error(fuser::Errno::ENOSYS);
    }

    fn release(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        let mut backings = self.backings.lock();
        let closed = self
            .vfs
            .release(convert::ino(ino))
            .then(|| backings.remove(&ino.0));
        drop(backings);
        drop(closed);
        reply.ok();
    }

    fn fsync(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        empty(reply, self.vfs.fsync(convert::ino(ino)));
    }

    fn opendir(&self, _req: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        // As with open, in every profile: the kernel then caches listings until it changes the directory itself.
        reply.error(fuser::Errno::ENOSYS);
    }

    fn readdir(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let done = self.vfs.readdir(convert::ino(ino), offset, &mut |item| {
            let (node, kind) = (INodeNo(item.ino.0), convert::kind(item.kind));
            match reply.add(node, item.cookie, kind, convert::name(item.name)) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        });
        match done {
            Ok(()) => reply.ok(),
            Err(errno) => reply.error(convert::errno(errno)),
        }
    }

    fn readdirplus(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let done = self
            .vfs
            .readdirplus(convert::ino(ino), offset, &mut |item, attr| {
                let (node, name) = (INodeNo(item.ino.0), convert::name(item.name));
                let attr = convert::attr(attr);
                match reply.add(node, item.cookie, name, &FOREVER, &attr, GENERATION) {
                    true => ControlFlow::Break(()),
                    false => ControlFlow::Continue(()),
                }
            });
        match done {
            Ok(()) => reply.ok(),
            Err(errno) => reply.error(convert::errno(errno)),
        }
    }

    fn fsyncdir(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        empty(reply, self.vfs.fsync(convert::ino(ino)));
    }

    fn statfs(&self, _req: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        match self.vfs.statfs() {
            Ok(host) => reply.statfs(
                host.blocks,
                host.blocks_free,
                host.blocks_available,
                host.files,
                host.files_free,
                u32::try_from(host.block_bytes).unwrap_or(4096),
                255,
                u32::try_from(host.fragment_bytes).unwrap_or(4096),
            ),
            Err(errno) => reply.error(convert::errno(errno)),
        }
    }

    fn setxattr(
        &self,
        req: &Request,
        ino: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        let how = match flags {
            libc::XATTR_CREATE => xattr::How::Create,
            libc::XATTR_REPLACE => xattr::How::Replace,
            _ => xattr::How::Either,
        };
        let (caller, ino) = (convert::caller(req, 0), convert::ino(ino));
        empty(
            reply,
            self.vfs.setxattr(&caller, ino, name.as_bytes(), value, how),
        );
    }

    fn getxattr(&self, _req: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        value(
            reply,
            size,
            self.vfs.getxattr(convert::ino(ino), name.as_bytes()),
        );
    }

    fn listxattr(&self, req: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        value(
            reply,
            size,
            self.vfs
                .listxattr(&convert::caller(req, 0), convert::ino(ino)),
        );
    }

    fn removexattr(&self, req: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let caller = convert::caller(req, 0);
        empty(
            reply,
            self.vfs
                .removexattr(&caller, convert::ino(ino), name.as_bytes()),
        );
    }

    fn ioctl(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _flags: IoctlFlags,
        _cmd: u32,
        _in_data: &[u8],
        _out_size: u32,
        reply: ReplyIoctl,
    ) {
        reply.error(fuser::Errno::ENOTTY);
    }

    fn fallocate(
        &self,
        req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let (caller, ino) = (convert::caller(req, 0), convert::ino(ino));
        let kill = convert::kill(req);
        let how = convert::allocate_how(mode);
        empty(
            reply,
            how.and_then(|how| {
                self.vfs
                    .fallocate(&caller, ino, how, (offset, length), kill)
            }),
        );
    }

    fn lseek(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        let found = match (whence, u64::try_from(offset)) {
            (libc::SEEK_DATA, Ok(offset)) => self.vfs.seek(convert::ino(ino), offset, Whence::Data),
            (libc::SEEK_HOLE, Ok(offset)) => self.vfs.seek(convert::ino(ino), offset, Whence::Hole),
            (libc::SEEK_DATA | libc::SEEK_HOLE, Err(_)) => Err(Errno::NXIO),
            _ => Err(Errno::INVAL),
        };
        match found.map(i64::try_from) {
            Ok(Ok(offset)) => reply.offset(offset),
            Ok(Err(_)) => reply.error(fuser::Errno::EOVERFLOW),
            Err(errno) => reply.error(convert::errno(errno)),
        }
    }

    fn copy_file_range(
        &self,
        req: &Request,
        ino_in: INodeNo,
        _fh_in: FileHandle,
        offset_in: u64,
        ino_out: INodeNo,
        _fh_out: FileHandle,
        offset_out: u64,
        len: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        let from = (convert::ino(ino_in), offset_in);
        let to = (convert::ino(ino_out), offset_out);
        let caller = convert::caller(req, 0);
        written(
            reply,
            self.vfs.copy(&caller, from, to, len, convert::kill(req)),
        );
    }
}

//! Answers of the FUSE protocol, written as bytes, and sent once each.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};

use nacre_store::{FileName, Ino, Kind, Time};

use crate::errno::Errno;
use crate::vfs::{Attr, HostSpace};

/// For as long as the kernel likes: we say so when something changes.
const FOREVER_SECONDS: u64 = 1 << 30;

/// How long attributes are right.
fn valid_seconds(attr: &Attr) -> u64 {
    if attr.settled { FOREVER_SECONDS } else { 0 }
}

/// The unit of reads that we like.
const BLOCK_BYTES: u32 = 4096;

/// Permission bits of a statx mask: the basic fields and the time of birth.
const STATX_BASIC_AND_BTIME: u32 = 0xfff;

/// Sends one message; the kernel takes it whole or not at all.
fn send(device: BorrowedFd<'_>, head: &[u8], body: &[u8]) -> io::Result<()> {
    rustix::io::writev(device, &[IoSlice::new(head), IoSlice::new(body)])?;
    Ok(())
}

/// The header of an answer or a message: its length, an error or a code, and what it answers.
fn head(body: usize, error: i32, unique: u64) -> [u8; 16] {
    let len = u32::try_from(body.saturating_add(16)).unwrap_or(u32::MAX);
    let mut bytes = [0; 16];
    let parts = len.to_ne_bytes().into_iter().chain(error.to_ne_bytes());
    for (to, from) in bytes.iter_mut().zip(parts.chain(unique.to_ne_bytes())) {
        *to = from;
    }
    bytes
}

/// The answer to one request, sent at most once.
pub(super) struct Reply<'a> {
    device: BorrowedFd<'a>,
    unique: u64,
    sent: Cell<bool>,
}

impl<'a> Reply<'a> {
    pub(super) fn new(device: BorrowedFd<'a>, unique: u64) -> Self {
        Self {
            device,
            unique,
            sent: Cell::new(false),
        }
    }

    fn put(&self, error: i32, body: &[u8]) {
        if self.sent.replace(true) {
            return;
        }
        match send(self.device, &head(body.len(), error, self.unique), body) {
            Ok(()) => {}
            // The request was interrupted, or the connection is gone: nobody waits.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => {}
            Err(error) => tracing::warn!(%error, "the kernel did not take an answer"),
        }
    }

    pub(super) fn error(&self, errno: Errno) {
        self.put(0_i32.saturating_sub(errno.raw_os_error()), &[]);
    }

    pub(super) fn data(&self, bytes: &[u8]) {
        self.put(0, bytes);
    }

    /// An answer that is bytes, or the number of what went wrong.
    pub(super) fn result<T: AsRef<[u8]>>(&self, done: Result<T, Errno>) {
        match done {
            Ok(bytes) => self.data(bytes.as_ref()),
            Err(errno) => self.error(errno),
        }
    }

    pub(super) fn empty(&self, done: Result<(), Errno>) {
        self.result(done.map(|()| []));
    }
}

/// Bytes in the making.
#[derive(Default)]
pub(super) struct Body(Vec<u8>);

impl AsRef<[u8]> for Body {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Body {
    pub(super) fn with_room(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    fn u16(mut self, value: u16) -> Self {
        self.0.extend_from_slice(&value.to_ne_bytes());
        self
    }

    fn u32(mut self, value: u32) -> Self {
        self.0.extend_from_slice(&value.to_ne_bytes());
        self
    }

    fn u64(mut self, value: u64) -> Self {
        self.0.extend_from_slice(&value.to_ne_bytes());
        self
    }

    fn i64(self, value: i64) -> Self {
        self.u64(value.cast_unsigned())
    }

    fn zeros(mut self, bytes: usize) -> Self {
        self.0.resize(self.0.len().saturating_add(bytes), 0);
        self
    }

    fn attr(self, attr: &Attr) -> Self {
        self.u64(attr.ino.0)
            .u64(attr.size)
            .u64(attr.blocks)
            .i64(attr.atime.seconds)
            .i64(attr.mtime.seconds)
            .i64(attr.ctime.seconds)
            .u32(attr.atime.nanos)
            .u32(attr.mtime.nanos)
            .u32(attr.ctime.nanos)
            .u32(format(attr.kind) | u32::from(attr.mode))
            .u32(attr.nlink)
            .u32(attr.uid)
            .u32(attr.gid)
            .u32(rdev(attr.rdev))
            .u32(BLOCK_BYTES)
            .u32(0)
    }

    /// A node that a name leads to. Inode numbers are never used again, so one generation is enough.
    pub(super) fn entry(self, attr: &Attr) -> Self {
        self.u64(attr.ino.0)
            .u64(0)
            .u64(FOREVER_SECONDS)
            .u64(valid_seconds(attr))
            .u32(0)
            .u32(0)
            .attr(attr)
    }

    /// "Not there, and you may remember it": node 0.
    pub(super) fn negative() -> Self {
        Self::default()
            .u64(0)
            .u64(0)
            .u64(FOREVER_SECONDS)
            .zeros(104)
    }

    pub(super) fn attributes(attr: &Attr) -> Self {
        Self::default()
            .u64(valid_seconds(attr))
            .u32(0)
            .u32(0)
            .attr(attr)
    }

    /// How an open file is served. Handles are 0: open files are told apart by their inode alone.
    pub(super) fn opened(self, handle: u64, flags: u32, backing: i32) -> Self {
        self.u64(handle).u32(flags).u32(backing.cast_unsigned())
    }

    pub(super) fn size(len: u32) -> Self {
        Self::default().u32(len).u32(0)
    }

    pub(super) fn offset(offset: u64) -> Self {
        Self::default().u64(offset)
    }

    pub(super) fn statx(attr: &Attr) -> Self {
        let time = |body: Self, time: Time| body.i64(time.seconds).u32(time.nanos).u32(0);
        let mut body = Self::default()
            .u64(valid_seconds(attr))
            .zeros(24)
            .u32(STATX_BASIC_AND_BTIME)
            .u32(BLOCK_BYTES)
            .u64(0)
            .u32(attr.nlink)
            .u32(attr.uid)
            .u32(attr.gid)
            .u16(u16::try_from(format(attr.kind)).unwrap_or(0) | attr.mode)
            .u16(0)
            .u64(attr.ino.0)
            .u64(attr.size)
            .u64(attr.blocks)
            .u64(0);
        for at in [attr.atime, attr.btime, attr.ctime, attr.mtime] {
            body = time(body, at);
        }
        let device = rustix::fs::Dev::from(rdev(attr.rdev));
        body.u32(rustix::fs::major(device))
            .u32(rustix::fs::minor(device))
            .zeros(120)
    }

    pub(super) fn statfs(host: &HostSpace) -> Self {
        Self::default()
            .u64(host.blocks)
            .u64(host.blocks_free)
            .u64(host.blocks_available)
            .u64(host.files)
            .u64(host.files_free)
            .u32(u32::try_from(host.block_bytes).unwrap_or(BLOCK_BYTES))
            .u32(255)
            .u32(u32::try_from(host.fragment_bytes).unwrap_or(BLOCK_BYTES))
            .zeros(28)
    }

    /// Adds an entry of a listing, with attributes or without; `false` if it would not fit into `room` bytes.
    pub(super) fn dir_entry(
        &mut self,
        room: usize,
        (ino, kind, cookie, name): (Ino, Kind, u64, &[u8]),
        attr: Option<&Attr>,
    ) -> bool {
        let fixed = if attr.is_some() { 128 + 24 } else { 24_usize };
        let whole = fixed.saturating_add(name.len()).next_multiple_of(8);
        if self.len().saturating_add(whole) > room {
            return false;
        }
        let end = self.len().saturating_add(whole);
        let mut body = std::mem::take(self);
        if let Some(attr) = attr {
            body = body.entry(attr);
        }
        body = body
            .u64(ino.0)
            .u64(cookie)
            .u32(u32::try_from(name.len()).unwrap_or(0))
            .u32(format(kind) >> 12);
        body.0.extend_from_slice(name);
        body.0.resize(end, 0);
        *self = body;
        true
    }
}

/// What we agree to.
pub(super) struct Agreed {
    pub(super) minor: u32,
    pub(super) max_readahead: u32,
    pub(super) flags: u64,
    pub(super) max_background: u16,
    pub(super) max_write: u32,
    pub(super) stack_depth: u32,
}

impl Agreed {
    pub(super) fn body(&self) -> Body {
        let [low, high] = [self.flags & u64::from(u32::MAX), self.flags >> 32]
            .map(|half| u32::try_from(half).unwrap_or(0));
        let pages = u16::try_from(self.max_write / 4096).unwrap_or(u16::MAX);
        Body::default()
            .u32(super::wire::MAJOR)
            .u32(self.minor)
            .u32(self.max_readahead)
            .u32(low)
            .u16(self.max_background)
            .u16(self.max_background / 4 * 3)
            .u32(self.max_write)
            .u32(1) // times have nanoseconds
            .u16(pages)
            .u16(0)
            .u32(high)
            .u32(self.stack_depth)
            .zeros(24)
    }
}

/// What the kernel is told of by itself.
pub(super) fn tell_inode(device: impl AsFd, ino: Ino, offset: i64) -> io::Result<()> {
    const INVALIDATE_INODE: i32 = 2;
    let body = Body::default().u64(ino.0).i64(offset).i64(0);
    tell(device, INVALIDATE_INODE, &body)
}

/// A name leads elsewhere.
pub(super) fn tell_entry(device: impl AsFd, dir: Ino, name: &FileName) -> io::Result<()> {
    const INVALIDATE_ENTRY: i32 = 3;
    let name = name.as_bytes();
    let len = u32::try_from(name.len()).unwrap_or(0);
    let mut body = Body::default().u64(dir.0).u32(len).u32(0);
    body.0.extend_from_slice(name);
    body.0.push(0);
    tell(device, INVALIDATE_ENTRY, &body)
}

/// All bytes of a file, for the page cache.
pub(super) fn tell_content(device: impl AsFd, ino: Ino, bytes: &[u8]) -> io::Result<()> {
    const STORE: i32 = 4;
    let len = u32::try_from(bytes.len()).map_err(|_| io::ErrorKind::FileTooLarge)?;
    let mut body = Body::default().u64(ino.0).u64(0).u32(len).u32(0);
    body.0.extend_from_slice(bytes);
    tell(device, STORE, &body)
}

fn tell(device: impl AsFd, code: i32, body: &Body) -> io::Result<()> {
    match send(device.as_fd(), &head(body.len(), code, 0), body.as_ref()) {
        // The kernel has it not in its cache.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        done => done,
    }
}

/// The kind in a mode.
fn format(kind: Kind) -> u32 {
    match kind {
        Kind::File => libc::S_IFREG,
        Kind::Dir => libc::S_IFDIR,
        Kind::Symlink => libc::S_IFLNK,
        Kind::Char => libc::S_IFCHR,
        Kind::Block => libc::S_IFBLK,
        Kind::Fifo => libc::S_IFIFO,
        Kind::Socket => libc::S_IFSOCK,
    }
}

/// FUSE has 32 bits, as Linux has for every device that exists (12 + 20).
fn rdev(rdev: u64) -> u32 {
    u32::try_from(rdev).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use nacre_store::{Ino, Kind, Time};

    use super::{Agreed, Body};
    use crate::vfs::{Attr, HostSpace};

    fn attr() -> Attr {
        let time = Time {
            seconds: -1,
            nanos: 5,
        };
        Attr {
            ino: Ino(9),
            kind: Kind::File,
            mode: 0o644,
            nlink: 1,
            uid: 2,
            gid: 3,
            rdev: 0,
            size: 4,
            blocks: 8,
            atime: time,
            mtime: time,
            ctime: time,
            btime: time,
            settled: true,
        }
    }

    /// The sizes that the kernel checks.
    #[test]
    fn answers_have_the_protocols_sizes() {
        let host = HostSpace {
            block_bytes: 4096,
            fragment_bytes: 4096,
            blocks: 1,
            blocks_free: 1,
            blocks_available: 1,
            files: 1,
            files_free: 1,
        };
        let agreed = Agreed {
            minor: 45,
            max_readahead: 1,
            flags: 1 << 37,
            max_background: 64,
            max_write: 1 << 20,
            stack_depth: 1,
        };
        for (what, body, bytes) in [
            ("entry", Body::default().entry(&attr()), 128),
            ("negative", Body::negative(), 128),
            ("attributes", Body::attributes(&attr()), 104),
            (
                "created",
                Body::default().entry(&attr()).opened(0, 0, 0),
                144,
            ),
            ("statx", Body::statx(&attr()), 288),
            ("statfs", Body::statfs(&host), 80),
            ("init", agreed.body(), 64),
        ] {
            assert_eq!(body.len(), bytes, "{what}");
        }
    }

    #[test]
    fn a_listing_ends_before_its_room_does() {
        let mut body = Body::default();
        let item = (Ino(2), Kind::Dir, 7, &b"name"[..]);
        assert!(body.dir_entry(63, item, None));
        assert!(!body.dir_entry(63, item, None));
        assert!(body.dir_entry(64, item, None));
        assert_eq!(body.len(), 64);
    }
}

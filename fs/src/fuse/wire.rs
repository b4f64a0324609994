//! Requests of the FUSE protocol (7.x), read from bytes with every bound checked. No system call, no meaning.
//!
//! A request is a header of 40 bytes, the operation's arguments, names that end with a NUL, at last extensions that we
//! did not ask for and leave unread. All numbers are the host's own (the kernel is on the same machine).

use nacre_store::Ino;

/// The protocol that this speaks; of the two minor versions the smaller counts.
pub(super) const MAJOR: u32 = 7;
pub(super) const MINOR: u32 = 45;

/// A request's header.
pub(super) const HEADER_BYTES: usize = 40;

/// What precedes a write's bytes: the buffer must have room for that beside the largest write.
pub(super) const WRITE_HEADER_BYTES: usize = HEADER_BYTES + 40;

/// Capabilities that INIT agrees on.
pub(super) mod init {
    pub(crate) const ASYNC_READ: u64 = 1;
    pub(crate) const ATOMIC_O_TRUNC: u64 = 1 << 3;
    pub(crate) const EXPORT_SUPPORT: u64 = 1 << 4;
    pub(crate) const BIG_WRITES: u64 = 1 << 5;
    pub(crate) const DONT_MASK: u64 = 1 << 6;
    pub(crate) const DO_READDIRPLUS: u64 = 1 << 13;
    pub(crate) const NO_OPEN_SUPPORT: u64 = 1 << 17;
    pub(crate) const PARALLEL_DIROPS: u64 = 1 << 18;
    pub(crate) const POSIX_ACL: u64 = 1 << 20;
    pub(crate) const MAX_PAGES: u64 = 1 << 22;
    pub(crate) const CACHE_SYMLINKS: u64 = 1 << 23;
    pub(crate) const NO_OPENDIR_SUPPORT: u64 = 1 << 24;
    pub(crate) const EXPLICIT_INVAL_DATA: u64 = 1 << 25;
    pub(crate) const HANDLE_KILLPRIV_V2: u64 = 1 << 28;
    /// The long form of SETXATTR; every kernel that can greet us has it.
    pub(crate) const SETXATTR_EXT: u64 = 1 << 29;
    pub(crate) const INIT_EXT: u64 = 1 << 30;
    pub(crate) const PASSTHROUGH: u64 = 1 << 37;
}

/// How an open file is served.
pub(super) mod fopen {
    pub(crate) const KEEP_CACHE: u32 = 1 << 1;
    pub(crate) const NOFLUSH: u32 = 1 << 5;
    pub(crate) const PASSTHROUGH: u32 = 1 << 7;
}

/// What a request for a change of attributes names.
mod valid {
    pub(super) const MODE: u32 = 1;
    pub(super) const UID: u32 = 1 << 1;
    pub(super) const GID: u32 = 1 << 2;
    pub(super) const SIZE: u32 = 1 << 3;
    pub(super) const ATIME: u32 = 1 << 4;
    pub(super) const MTIME: u32 = 1 << 5;
    pub(super) const ATIME_NOW: u32 = 1 << 7;
    pub(super) const MTIME_NOW: u32 = 1 << 8;
    pub(super) const KILL_SUIDGID: u32 = 1 << 11;
}

const OPEN_KILL_SUIDGID: u32 = 1;
const WRITE_KILL_SUIDGID: u32 = 1 << 2;
const SETXATTR_ACL_KILL_SGID: u32 = 1;

/// The bytes are no request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

type Parsed<T> = Result<T, Malformed>;

/// Who asks what, of which node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) opcode: u32,
    pub(super) unique: u64,
    pub(super) node: Ino,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// The thread that asks; 0 if it is unknown to our namespace of processes.
    pub(super) thread: u32,
}

/// A time that a program set: seconds since the epoch, and nanoseconds forwards from there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SetTime {
    Now,
    At(i64, u32),
}

/// New attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct SetAttr {
    pub(super) mode: Option<u32>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    pub(super) size: Option<u64>,
    pub(super) atime: Option<SetTime>,
    pub(super) mtime: Option<SetTime>,
    pub(super) kill: bool,
}

/// A file to be made and opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Create {
    pub(super) flags: u32,
    pub(super) mode: u32,
    pub(super) umask: u32,
}

/// Bytes to be copied between files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CopyRange {
    pub(super) offset_in: u64,
    pub(super) node_out: Ino,
    pub(super) offset_out: u64,
    pub(super) len: u64,
}

/// The operations that we know, each with what it needs; the node is the header's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op<'a> {
    Lookup {
        name: &'a [u8],
    },
    Forget {
        lookups: u64,
    },
    BatchForget {
        count: u32,
        pairs: &'a [u8],
    },
    GetAttr,
    SetAttr(SetAttr),
    ReadLink,
    Symlink {
        name: &'a [u8],
        target: &'a [u8],
    },
    MkNod {
        name: &'a [u8],
        mode: u32,
        rdev: u32,
        umask: u32,
    },
    MkDir {
        name: &'a [u8],
        mode: u32,
        umask: u32,
    },
    Unlink {
        name: &'a [u8],
    },
    RmDir {
        name: &'a [u8],
    },
    Rename {
        name: &'a [u8],
        new_dir: Ino,
        new_name: &'a [u8],
        flags: u32,
    },
    Link {
        node: Ino,
        name: &'a [u8],
    },
    Open {
        flags: u32,
        kill: bool,
    },
    Read {
        offset: u64,
        size: u32,
    },
    Write {
        offset: u64,
        kill: bool,
        bytes: &'a [u8],
    },
    StatFs,
    Release {
        handle: u64,
    },
    Fsync,
    SetXattr {
        name: &'a [u8],
        value: &'a [u8],
        flags: u32,
        /// An ACL by one who is not in the file's group.
        stranger: bool,
    },
    GetXattr {
        name: &'a [u8],
        size: u32,
    },
    ListXattr {
        size: u32,
    },
    RemoveXattr {
        name: &'a [u8],
    },
    Flush,
    OpenDir,
    ReadDir {
        offset: u64,
        size: u32,
    },
    ReadDirPlus {
        offset: u64,
        size: u32,
    },
    Create {
        create: Create,
        name: &'a [u8],
    },
    TmpFile(Create),
    Interrupt,
    Destroy,
    Ioctl,
    Fallocate {
        offset: u64,
        len: u64,
        mode: u32,
    },
    Lseek {
        offset: u64,
        whence: u32,
    },
    CopyFileRange(CopyRange),
    CopyFileRange64(CopyRange),
    StatX,
    /// An operation of a newer kernel, or one that we leave to it.
    Unknown,
}

/// The kernel's greeting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Init {
    pub(super) major: u32,
    pub(super) minor: u32,
    pub(super) max_readahead: u32,
    pub(super) flags: u64,
}

impl Op<'_> {
    /// Whether it waits for a disk or moves many bytes by its nature.
    pub(super) fn is_slow(&self) -> bool {
        matches!(
            self,
            Self::Fsync
                | Self::Fallocate { .. }
                | Self::CopyFileRange(_)
                | Self::CopyFileRange64(_)
        )
    }
}

/// The bytes that are left of a request.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Parsed<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn u16(&mut self) -> Parsed<u16> {
        let bytes = self.take(2)?.try_into().map_err(|_| Malformed)?;
        Ok(u16::from_ne_bytes(bytes))
    }

    fn u32(&mut self) -> Parsed<u32> {
        let bytes = self.take(4)?.try_into().map_err(|_| Malformed)?;
        Ok(u32::from_ne_bytes(bytes))
    }

    fn u64(&mut self) -> Parsed<u64> {
        let bytes = self.take(8)?.try_into().map_err(|_| Malformed)?;
        Ok(u64::from_ne_bytes(bytes))
    }

    fn i64(&mut self) -> Parsed<i64> {
        Ok(self.u64()?.cast_signed())
    }

    fn ino(&mut self) -> Parsed<Ino> {
        self.u64().map(Ino)
    }

    /// A name, without its NUL.
    fn name(&mut self) -> Parsed<&'a [u8]> {
        let end = self.0.iter().position(|byte| *byte == 0).ok_or(Malformed)?;
        let name = self.take(end)?;
        self.take(1)?;
        Ok(name)
    }

    fn bytes(&mut self, len: u32) -> Parsed<&'a [u8]> {
        self.take(usize::try_from(len).map_err(|_| Malformed)?)
    }
}

/// Reads a header; returns what follows it, without extensions.
pub(super) fn header(bytes: &[u8]) -> Parsed<(Header, &[u8])> {
    let mut reader = Reader(bytes);
    let len = usize::try_from(reader.u32()?).map_err(|_| Malformed)?;
    if len != bytes.len() {
        return Err(Malformed);
    }
    let header = Header {
        opcode: reader.u32()?,
        unique: reader.u64()?,
        node: reader.ino()?,
        uid: reader.u32()?,
        gid: reader.u32()?,
        thread: reader.u32()?,
    };
    let extension_words = usize::from(reader.u16()?);
    reader.take(2)?;
    let body = reader.0;
    let end = extension_words
        .checked_mul(8)
        .and_then(|bytes| body.len().checked_sub(bytes))
        .ok_or(Malformed)?;
    Ok((header, body.get(..end).ok_or(Malformed)?))
}

/// Whether it is the greeting.
pub(super) fn is_init(header: &Header) -> bool {
    header.opcode == 26
}

/// Reads the greeting.
pub(super) fn init(body: &[u8]) -> Parsed<Init> {
    let mut reader = Reader(body);
    let (major, minor) = (reader.u32()?, reader.u32()?);
    let (max_readahead, low) = (reader.u32()?, u64::from(reader.u32()?));
    let high = if low & init::INIT_EXT == 0 {
        0
    } else {
        u64::from(reader.u32()?)
    };
    Ok(Init {
        major,
        minor,
        max_readahead,
        flags: low | (high << 32),
    })
}

/// Reads an operation.
pub(super) fn op(opcode: u32, body: &[u8]) -> Parsed<Op<'_>> {
    let mut r = Reader(body);
    Ok(match opcode {
        1 => Op::Lookup { name: r.name()? },
        2 => Op::Forget { lookups: r.u64()? },
        3 => Op::GetAttr,
        4 => Op::SetAttr(set_attr(&mut r)?),
        5 => Op::ReadLink,
        6 => Op::Symlink {
            name: r.name()?,
            target: r.name()?,
        },
        8 => {
            let (mode, rdev, umask) = (r.u32()?, r.u32()?, r.u32()?);
            r.take(4)?;
            Op::MkNod {
                mode,
                rdev,
                umask,
                name: r.name()?,
            }
        }
        9 => Op::MkDir {
            mode: r.u32()?,
            umask: r.u32()?,
            name: r.name()?,
        },
        10 => Op::Unlink { name: r.name()? },
        11 => Op::RmDir { name: r.name()? },
        12 => Op::Rename {
            new_dir: r.ino()?,
            flags: 0,
            name: r.name()?,
            new_name: r.name()?,
        },
        13 => Op::Link {
            node: r.ino()?,
            name: r.name()?,
        },
        14 => Op::Open {
            flags: r.u32()?,
            kill: r.u32()? & OPEN_KILL_SUIDGID != 0,
        },
        15 => read(&mut r, |offset, size| Op::Read { offset, size })?,
        16 => write(&mut r)?,
        17 => Op::StatFs,
        18 => Op::Release { handle: r.u64()? },
        20 | 30 => Op::Fsync,
        21 => set_xattr(&mut r)?,
        22 => {
            let size = r.u32()?;
            r.take(4)?;
            Op::GetXattr {
                size,
                name: r.name()?,
            }
        }
        23 => Op::ListXattr { size: r.u32()? },
        24 => Op::RemoveXattr { name: r.name()? },
        25 => Op::Flush,
        27 => Op::OpenDir,
        28 => read(&mut r, |offset, size| Op::ReadDir { offset, size })?,
        35 => Op::Create {
            create: create(&mut r)?,
            name: r.name()?,
        },
        36 => Op::Interrupt,
        38 => Op::Destroy,
        39 => Op::Ioctl,
        42 => {
            let count = r.u32()?;
            r.take(4)?;
            Op::BatchForget { count, pairs: r.0 }
        }
        43 => {
            r.take(8)?;
            Op::Fallocate {
                offset: r.u64()?,
                len: r.u64()?,
                mode: r.u32()?,
            }
        }
        44 => read(&mut r, |offset, size| Op::ReadDirPlus { offset, size })?,
        45 => {
            let (new_dir, flags) = (r.ino()?, r.u32()?);
            r.take(4)?;
            Op::Rename {
                new_dir,
                flags,
                name: r.name()?,
                new_name: r.name()?,
            }
        }
        46 => {
            r.take(8)?;
            Op::Lseek {
                offset: r.u64()?,
                whence: r.u32()?,
            }
        }
        47 => Op::CopyFileRange(copy_range(&mut r)?),
        51 => Op::TmpFile(create(&mut r)?),
        52 => Op::StatX,
        53 => Op::CopyFileRange64(copy_range(&mut r)?),
        _ => Op::Unknown,
    })
}

fn set_attr(r: &mut Reader<'_>) -> Parsed<SetAttr> {
    let valid = r.u32()?;
    r.take(12)?;
    let size = r.u64()?;
    r.take(8)?;
    let (atime, mtime) = (r.i64()?, r.i64()?);
    r.take(8)?;
    let (atime_nanos, mtime_nanos) = (r.u32()?, r.u32()?);
    r.take(4)?;
    let mode = r.u32()?;
    r.take(4)?;
    let (uid, gid) = (r.u32()?, r.u32()?);
    let has = |bit| valid & bit != 0;
    let time = |bit, now, seconds, nanos| match (has(bit), has(now)) {
        (true, true) => Some(SetTime::Now),
        (true, false) => Some(SetTime::At(seconds, nanos)),
        (false, _) => None,
    };
    Ok(SetAttr {
        mode: has(valid::MODE).then_some(mode),
        uid: has(valid::UID).then_some(uid),
        gid: has(valid::GID).then_some(gid),
        size: has(valid::SIZE).then_some(size),
        atime: time(valid::ATIME, valid::ATIME_NOW, atime, atime_nanos),
        mtime: time(valid::MTIME, valid::MTIME_NOW, mtime, mtime_nanos),
        kill: has(valid::KILL_SUIDGID),
    })
}

fn create(r: &mut Reader<'_>) -> Parsed<Create> {
    let (flags, mode, umask) = (r.u32()?, r.u32()?, r.u32()?);
    r.take(4)?;
    Ok(Create { flags, mode, umask })
}

fn read<'a>(r: &mut Reader<'a>, of: impl FnOnce(u64, u32) -> Op<'a>) -> Parsed<Op<'a>> {
    r.take(8)?;
    Ok(of(r.u64()?, r.u32()?))
}

fn write<'a>(r: &mut Reader<'a>) -> Parsed<Op<'a>> {
    r.take(8)?;
    let (offset, size, flags) = (r.u64()?, r.u32()?, r.u32()?);
    r.take(16)?;
    Ok(Op::Write {
        offset,
        kill: flags & WRITE_KILL_SUIDGID != 0,
        bytes: r.bytes(size)?,
    })
}

fn set_xattr<'a>(r: &mut Reader<'a>) -> Parsed<Op<'a>> {
    let (size, flags) = (r.u32()?, r.u32()?);
    let stranger = r.u32()? & SETXATTR_ACL_KILL_SGID != 0;
    r.take(4)?;
    Ok(Op::SetXattr {
        stranger,
        name: r.name()?,
        value: r.bytes(size)?,
        flags,
    })
}

fn copy_range(r: &mut Reader<'_>) -> Parsed<CopyRange> {
    r.take(8)?;
    let (offset_in, node_out) = (r.u64()?, r.ino()?);
    r.take(8)?;
    Ok(CopyRange {
        offset_in,
        node_out,
        offset_out: r.u64()?,
        len: r.u64()?,
    })
}

/// The pairs of a batch of forgets; fewer than promised is malformed.
pub(super) fn forgets(count: u32, pairs: &[u8]) -> Parsed<Vec<(Ino, u64)>> {
    let mut reader = Reader(pairs);
    let most = pairs.len() / 16;
    if usize::try_from(count).map_err(|_| Malformed)? > most {
        return Err(Malformed);
    }
    (0..count)
        .map(|_| Ok((reader.ino()?, reader.u64()?)))
        .collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use nacre_store::Ino;
    use proptest::prelude::*;

    use super::{Malformed, Op, SetTime, forgets, header, init, op};

    fn request(opcode: u32, extension_words: u16, body: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(u32::try_from(40 + body.len()).unwrap().to_ne_bytes());
        bytes.extend(opcode.to_ne_bytes());
        bytes.extend(77_u64.to_ne_bytes());
        bytes.extend(5_u64.to_ne_bytes());
        bytes.extend(1000_u32.to_ne_bytes());
        bytes.extend(100_u32.to_ne_bytes());
        bytes.extend(4_u32.to_ne_bytes());
        bytes.extend(extension_words.to_ne_bytes());
        bytes.extend([0; 2]);
        bytes.extend(body);
        bytes
    }

    #[test]
    fn a_header_names_caller_and_node_and_leaves_extensions_out() {
        let bytes = request(1, 1, b"name\0........");
        let (head, body) = header(&bytes).unwrap();
        assert_eq!((head.unique, head.node), (77, Ino(5)));
        assert_eq!((head.uid, head.gid), (1000, 100));
        assert_eq!(body, b"name\0");
        assert_eq!(op(1, body), Ok(Op::Lookup { name: b"name" }));
    }

    #[test]
    fn what_is_cut_short_or_claims_too_much_is_malformed() {
        let bytes = request(1, 0, b"name\0");
        for len in 0..bytes.len() {
            assert_eq!(header(&bytes[..len]), Err(Malformed), "{len} bytes");
        }
        assert_eq!(header(&request(1, 2, b"name\0")), Err(Malformed));
        assert_eq!(op(1, b"name"), Err(Malformed), "no NUL");
        let mut write = [0_u8; 44];
        write[16..20].copy_from_slice(&5_u32.to_ne_bytes());
        assert_eq!(op(16, &write), Err(Malformed), "4 bytes of 5");
        assert_eq!(forgets(u32::MAX, &[0; 32]), Err(Malformed));
    }

    #[test]
    fn times_that_programs_set_arrive_as_they_are_before_the_epoch_too() {
        let times = [
            (0, 0),
            (-1, 500_000_000),
            (1 << 34, 7),
            (i64::MIN, 0),
            (i64::MAX, 999_999_999),
        ];
        for (seconds, nanos) in times {
            let mut body = [0_u8; 88];
            body[..4].copy_from_slice(&(1_u32 << 5).to_ne_bytes());
            body[40..48].copy_from_slice(&i64::to_ne_bytes(seconds));
            body[60..64].copy_from_slice(&u32::to_ne_bytes(nanos));
            let Ok(Op::SetAttr(set)) = op(4, &body) else {
                panic!("not read");
            };
            assert_eq!(set.mtime, Some(SetTime::At(seconds, nanos)));
            assert_eq!((set.atime, set.size, set.kill), (None, None, false));
        }
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(
            opcode in 0_u32..60,
            body in proptest::collection::vec(any::<u8>(), 0..200),
            extension_words in 0_u16..8,
        ) {
            if let Ok(Op::BatchForget { count, pairs }) = op(opcode, &body) {
                forgets(count, pairs).ok();
            }
            init(&body).ok();
            header(&body).ok();
            if let Ok((head, rest)) = header(&request(opcode, extension_words, &body)) {
                op(head.opcode, rest).ok();
            }
        }
    }
}

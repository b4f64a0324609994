//! A real directory: what the host's filesystem, or a mount of ours, makes of the operations.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirEntryExt as _, FileExt as _, FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FallocateFlags, FileType, Gid, Mode, OFlags, RenameFlags, Timespec, Timestamps,
    UTIME_OMIT, Uid, XattrFlags,
};
use rustix::io::Errno;

use super::model::UMASK;
use super::ops::{Allocate, HELD, Node, Op, Outcome, Picture, Rename, Seen, SetXattr, Target};

/// A directory, and what `Hold` holds in it.
pub struct Directory {
    root: PathBuf,
    held: Option<File>,
}

impl Directory {
    /// Takes an empty directory as the tree's root.
    pub fn new(root: &Path) -> Self {
        rustix::process::umask(mode(UMASK));
        Self {
            root: root.to_owned(),
            held: None,
        }
    }

    fn path(&self, path: &str) -> PathBuf {
        if path.is_empty() {
            self.root.clone()
        } else {
            self.root.join(path)
        }
    }

    /// Opens a file for writing; what is neither file nor directory is not touched (a device would be the host's).
    fn open(&self, path: &str, flags: OFlags) -> Result<File, Errno> {
        let path = self.path(path);
        let stat = rustix::fs::stat(&path)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile | FileType::Directory => {}
            _ => return Err(Errno::INVAL),
        }
        Ok(File::from(rustix::fs::open(
            &path,
            flags | OFlags::CLOEXEC,
            Mode::empty(),
        )?))
    }

    fn held(&self) -> Result<&File, Errno> {
        self.held.as_ref().ok_or(Errno::BADF)
    }

    fn list(&self, path: &str, paths: &mut Vec<String>) {
        for entry in std::fs::read_dir(self.path(path)).unwrap() {
            let entry = entry.unwrap();
            let child = entry.file_name().into_string().unwrap();
            let child = if path.is_empty() {
                child
            } else {
                format!("{path}/{child}")
            };
            let stat = std::fs::symlink_metadata(self.path(&child)).unwrap();
            assert_eq!(entry.ino(), stat.ino(), "readdir and stat of {child}");
            assert_eq!(
                entry.file_type().unwrap(),
                stat.file_type(),
                "readdir and stat of {child}"
            );
            paths.push(child.clone());
            if stat.is_dir() {
                self.list(&child, paths);
            }
        }
    }
}

fn mode(bits: u16) -> Mode {
    Mode::from_raw_mode(bits.into())
}

fn io(error: std::io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}

fn write(file: &File, offset: u64, len: u64, fill: u8) -> Outcome {
    let bytes = vec![fill; usize::try_from(len).unwrap()];
    file.write_all_at(&bytes, offset).map_err(io)
}

fn allocate(file: &File, offset: u64, len: u64, how: Allocate) -> Outcome {
    let flags = match how {
        Allocate::Grow => FallocateFlags::empty(),
        Allocate::KeepSize => FallocateFlags::KEEP_SIZE,
        Allocate::Punch => FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
        Allocate::ZeroGrow => FallocateFlags::ZERO_RANGE,
        Allocate::ZeroKeepSize => FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE,
    };
    rustix::fs::fallocate(file, flags, offset, len)
}

fn letter(kind: std::fs::FileType) -> char {
    match () {
        () if kind.is_file() => 'f',
        () if kind.is_dir() => 'd',
        () if kind.is_symlink() => 'l',
        () if kind.is_char_device() => 'c',
        () if kind.is_block_device() => 'b',
        () if kind.is_fifo() => 'p',
        () => 's',
    }
}

/// Reads all extended attributes but those that the host's security module puts on every file.
fn xattrs(
    list: impl Fn(&mut [u8]) -> Result<usize, Errno>,
    get: impl Fn(&OsStr, &mut [u8]) -> Result<usize, Errno>,
) -> BTreeMap<String, Vec<u8>> {
    let mut names = vec![0; 64 << 10];
    let len = list(&mut names).unwrap();
    let mut xattrs = BTreeMap::new();
    for name in names[..len]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
    {
        if name == b"security.selinux" {
            continue;
        }
        let mut value = vec![0; 64 << 10];
        let len = get(OsStr::from_bytes(name), &mut value).unwrap();
        value.truncate(len);
        xattrs.insert(String::from_utf8(name.to_vec()).unwrap(), value);
    }
    xattrs
}

fn seen(path: &Path, same_as: String) -> Seen {
    let stat = std::fs::symlink_metadata(path).unwrap();
    let kind = letter(stat.file_type());
    let target = if kind == 'l' {
        std::fs::read_link(path).unwrap()
    } else {
        PathBuf::new()
    };
    Seen {
        kind,
        mode: u16::try_from(stat.mode() & 0o7777).unwrap(),
        uid: stat.uid(),
        gid: stat.gid(),
        nlink: stat.nlink(),
        size: if kind == 'd' { 0 } else { stat.size() },
        rdev: stat.rdev(),
        target: target.into_os_string().into_string().unwrap(),
        bytes: if kind == 'f' {
            std::fs::read(path).unwrap()
        } else {
            Vec::new()
        },
        xattrs: xattrs(
            |names| rustix::fs::llistxattr(path, names),
            |name, value| rustix::fs::lgetxattr(path, name, value),
        ),
        same_as,
        mtime: (stat.mtime(), stat.mtime_nsec()),
        ctime: (stat.ctime(), stat.ctime_nsec()),
        ino: stat.ino(),
    }
}

impl Target for Directory {
    fn apply(&mut self, op: &Op) -> Outcome {
        match op {
            Op::Create { path, mode: bits } => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
                rustix::fs::open(self.path(path), flags, mode(*bits)).map(drop)
            }
            Op::Mkdir { path, mode: bits } => rustix::fs::mkdir(self.path(path), mode(*bits)),
            Op::Mknod {
                path,
                node,
                mode: bits,
                rdev,
            } => {
                let kind = match node {
                    Node::File => FileType::RegularFile,
                    Node::Char => FileType::CharacterDevice,
                    Node::Block => FileType::BlockDevice,
                    Node::Fifo => FileType::Fifo,
                    Node::Socket => FileType::Socket,
                };
                rustix::fs::mknodat(CWD, self.path(path), kind, mode(*bits), *rdev)
            }
            Op::Symlink { target, path } => rustix::fs::symlink(target, self.path(path)),
            Op::Link { from, to } => {
                rustix::fs::linkat(CWD, self.path(from), CWD, self.path(to), AtFlags::empty())
            }
            Op::Unlink { path } => rustix::fs::unlink(self.path(path)),
            Op::Rmdir { path } => rustix::fs::rmdir(self.path(path)),
            Op::Rename { from, to, how } => {
                let flags = match how {
                    Rename::Replace => RenameFlags::empty(),
                    Rename::NoReplace => RenameFlags::NOREPLACE,
                    Rename::Exchange => RenameFlags::EXCHANGE,
                    Rename::Whiteout => RenameFlags::WHITEOUT,
                    Rename::NoReplaceWhiteout => RenameFlags::WHITEOUT | RenameFlags::NOREPLACE,
                };
                rustix::fs::renameat_with(CWD, self.path(from), CWD, self.path(to), flags)
            }
            Op::Chmod { path, mode: bits } => rustix::fs::chmod(self.path(path), mode(*bits)),
            Op::Chown { path, uid, gid } => {
                let (uid, gid) = (Uid::from_raw(*uid), Gid::from_raw(*gid));
                rustix::fs::chownat(
                    CWD,
                    self.path(path),
                    Some(uid),
                    Some(gid),
                    AtFlags::SYMLINK_NOFOLLOW,
                )
            }
            Op::Truncate { path, size } => {
                self.open(path, OFlags::WRONLY)?.set_len(*size).map_err(io)
            }
            Op::Write {
                path,
                offset,
                len,
                fill,
            } => write(&self.open(path, OFlags::WRONLY)?, *offset, *len, *fill),
            Op::Allocate {
                path,
                offset,
                len,
                how,
            } => allocate(&self.open(path, OFlags::WRONLY)?, *offset, *len, *how),
            Op::Mtime { path, seconds } => {
                let times = Timestamps {
                    last_access: Timespec {
                        tv_sec: 0,
                        tv_nsec: UTIME_OMIT,
                    },
                    last_modification: Timespec {
                        tv_sec: *seconds,
                        tv_nsec: 0,
                    },
                };
                rustix::fs::utimensat(CWD, self.path(path), &times, AtFlags::SYMLINK_NOFOLLOW)
            }
            Op::SetXattr {
                path,
                name,
                value,
                how,
            } => {
                let flags = match how {
                    SetXattr::Either => XattrFlags::empty(),
                    SetXattr::Create => XattrFlags::CREATE,
                    SetXattr::Replace => XattrFlags::REPLACE,
                };
                rustix::fs::lsetxattr(self.path(path), name.as_str(), value.as_bytes(), flags)
            }
            Op::RemoveXattr { path, name } => {
                rustix::fs::lremovexattr(self.path(path), name.as_str())
            }
            Op::SetAcl { path, which, acl } => rustix::fs::lsetxattr(
                self.path(path),
                which.name(),
                &acl.to_bytes(),
                XattrFlags::empty(),
            ),
            Op::Hold { path } => {
                self.held = None;
                self.held = Some(self.open(path, OFlags::RDWR)?);
                Ok(())
            }
            Op::HeldWrite { offset, len, fill } => write(self.held()?, *offset, *len, *fill),
            Op::HeldTruncate { size } => self.held()?.set_len(*size).map_err(io),
            Op::HeldChmod { mode: bits } => rustix::fs::fchmod(self.held()?, mode(*bits)),
            Op::Release => {
                self.held = None;
                Ok(())
            }
        }
    }

    fn picture(&self) -> Picture {
        let mut paths = vec![String::new()];
        self.list("", &mut paths);
        paths.sort();
        let mut first: BTreeMap<u64, String> = BTreeMap::new();
        let mut picture = Picture::new();
        for path in paths {
            let ino = std::fs::symlink_metadata(self.path(&path)).unwrap().ino();
            let same_as = first.entry(ino).or_insert_with(|| path.clone()).clone();
            picture.insert(path.clone(), seen(&self.path(&path), same_as));
        }
        if let Some(held) = &self.held {
            let ino = held.metadata().unwrap().ino();
            let same_as = first.get(&ino).cloned().unwrap_or_else(|| HELD.to_owned());
            picture.insert(HELD.to_owned(), held_seen(held, same_as));
        }
        picture
    }
}

/// Looks at an open file, which may have no name any more.
fn held_seen(file: &File, same_as: String) -> Seen {
    let stat = file.metadata().unwrap();
    let mut bytes = vec![0; usize::try_from(stat.size()).unwrap()];
    file.read_exact_at(&mut bytes, 0).unwrap();
    Seen {
        kind: 'f',
        mode: u16::try_from(stat.mode() & 0o7777).unwrap(),
        uid: stat.uid(),
        gid: stat.gid(),
        nlink: stat.nlink(),
        size: stat.size(),
        rdev: stat.rdev(),
        target: String::new(),
        bytes,
        xattrs: xattrs(
            |names| rustix::fs::flistxattr(file, names),
            |name, value| rustix::fs::fgetxattr(file, name, value),
        ),
        same_as,
        mtime: (stat.mtime(), stat.mtime_nsec()),
        ctime: (stat.ctime(), stat.ctime_nsec()),
        ino: stat.ino(),
    }
}

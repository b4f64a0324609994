//! The operations: what the kernel does with a path, then the rule, then its plan.

use std::ops::Range;

use nacre_fs::union::create::{self, Purpose};
use nacre_fs::union::setattr::{self, Change, Kill, SetTime};
use nacre_fs::union::unlink::Gone;
use nacre_fs::union::{At, Context, Errno, Layers, Plan};
use nacre_fs::union::{fallocate, link, lookup, rename, unlink, write, xattr};
use nacre_store::{Content, FileName, INLINE_BYTES_MAX, Ino, Kind};
use rustix::io::Errno as OsErrno;

use super::{Memory, name, time};
use crate::common::ops::{Allocate, Node, Op, Outcome, Picture, Rename, SetXattr, Target};

type RemovePlan = fn(&dyn Layers, &Context, At<'_>) -> Result<Plan<Gone>, Errno>;

impl Memory {
    /// Walks to the directory of the last name.
    fn walk(&self, path: &str) -> Result<(Ino, FileName), OsErrno> {
        let mut names: Vec<&str> = path.split('/').collect();
        let last = names.pop().unwrap();
        let mut dir = Ino::ROOT;
        for part in names {
            let child = lookup::child(self, dir, &name(part))
                .map_err(os)?
                .ok_or(OsErrno::NOENT)?;
            match child.kind {
                Kind::Dir => dir = child.ino,
                Kind::Symlink => return Err(OsErrno::NOENT),
                _ => return Err(OsErrno::NOTDIR),
            }
        }
        Ok((dir, name(last)))
    }

    pub fn find(&self, path: &str) -> Result<Ino, OsErrno> {
        if path.is_empty() {
            return Ok(Ino::ROOT);
        }
        let (dir, name) = self.walk(path)?;
        let child = lookup::child(self, dir, &name).map_err(os)?;
        child.map(|child| child.ino).ok_or(OsErrno::NOENT)
    }

    fn follow(&self, path: &str) -> Result<Ino, OsErrno> {
        let ino = self.find(path)?;
        if self.inode(ino).kind == Kind::Symlink {
            Err(OsErrno::NOENT)
        } else {
            Ok(ino)
        }
    }

    fn writable(&self, path: &str) -> Result<Ino, OsErrno> {
        let ino = self.follow(path)?;
        match self.inode(ino).kind {
            Kind::File => Ok(ino),
            Kind::Dir => Err(OsErrno::ISDIR),
            _ => Err(OsErrno::INVAL),
        }
    }

    fn user_xattr(&self, ino: Ino, name: &str) -> Outcome {
        let fits = matches!(self.inode(ino).kind, Kind::File | Kind::Dir);
        if name.starts_with("user.") && !fits {
            Err(OsErrno::PERM)
        } else {
            Ok(())
        }
    }

    fn make(
        &mut self,
        path: &str,
        node: Option<Node>,
        mode: u16,
        rdev: u64,
        target: Option<&str>,
    ) -> Outcome {
        let (dir, name) = self.walk(path)?;
        let at = At { dir, name: &name };
        let (ctx, fresh) = (self.context(), self.fresh());
        let plan = match (node, target) {
            (_, Some(target)) => create::symlink(self, &ctx, at, fresh, target.as_bytes()),
            (None, None) => create::dir(self, &ctx, at, fresh, mode & 0o1777),
            (Some(Node::File), None) => {
                let purpose = if self.now % 2 == 0 {
                    Purpose::Empty
                } else {
                    Purpose::Writing
                };
                create::file(self, &ctx, at, fresh, mode, purpose)
            }
            (Some(Node::Char), None) => create::node(self, &ctx, at, fresh, Kind::Char, mode, rdev),
            (Some(Node::Block), None) => {
                create::node(self, &ctx, at, fresh, Kind::Block, mode, rdev)
            }
            (Some(Node::Fifo), None) => create::node(self, &ctx, at, fresh, Kind::Fifo, mode, rdev),
            (Some(Node::Socket), None) => {
                create::node(self, &ctx, at, fresh, Kind::Socket, mode, rdev)
            }
        };
        let plan = plan.map_err(os)?;
        self.step(fresh, &plan.answer.steps);
        let made = self.done(plan);
        assert_eq!(made.inode, *self.inode(fresh));
        Ok(())
    }

    fn rename(&mut self, from: &str, to: &str, how: Rename) -> Outcome {
        let (from_dir, from_name) = self.walk(from)?;
        let (to_dir, to_name) = self.walk(to)?;
        let how = match how {
            Rename::Replace => rename::How::Replace,
            Rename::NoReplace => rename::How::NoReplace,
            Rename::Exchange => rename::How::Exchange,
            Rename::Whiteout => rename::How::Whiteout(self.fresh()),
            Rename::NoReplaceWhiteout => rename::How::NoReplaceWhiteout(self.fresh()),
        };
        let ctx = self.context();
        let (from, to) = (
            At {
                dir: from_dir,
                name: &from_name,
            },
            At {
                dir: to_dir,
                name: &to_name,
            },
        );
        let plan = rename::plan(self, &ctx, from, to, how).map_err(os)?;
        if let Some(gone) = self.done(plan).replaced {
            self.gone(gone);
        }
        Ok(())
    }

    fn set_attributes(&mut self, ino: Ino, change: &Change) -> Outcome {
        let ctx = self.context();
        let plan = setattr::plan(self, &ctx, ino, change, Kill::Capability).map_err(os)?;
        self.step(ino, &plan.answer.steps);
        self.done(plan);
        if let (Some(SetTime::At(time)), Some(file)) = (change.mtime, self.data.get_mut(&ino)) {
            file.mtime = time;
        }
        Ok(())
    }

    fn write_bytes(&mut self, ino: Ino, offset: u64, len: u64, fill: u8) -> Outcome {
        let ctx = self.context();
        if self.write_to_record(ino, offset..offset + len, fill)? {
            return Ok(());
        }
        let plan =
            write::plan(self, &ctx, ino, offset..offset + len, Kill::Capability).map_err(os)?;
        self.step(ino, &plan.answer);
        if len > 0 {
            let file = self.data.get_mut(&ino).unwrap();
            let (start, end) = (
                usize::try_from(offset).unwrap(),
                usize::try_from(offset + len).unwrap(),
            );
            file.bytes.resize(file.bytes.len().max(end), 0);
            file.bytes[start..end].fill(fill);
            (file.mtime, file.ctime) = (ctx.now, ctx.now);
        }
        self.done(plan);
        Ok(())
    }

    /// A small file's first write goes into its record, the next to a data file.
    fn write_to_record(&mut self, ino: Ino, range: Range<u64>, fill: u8) -> Result<bool, OsErrno> {
        let inode = self.inode(ino);
        if range.is_empty()
            || !matches!(inode.content, Content::Blob(_))
            || inode.size.max(range.end) > INLINE_BYTES_MAX
        {
            return Ok(false);
        }
        let at = |offset: u64| usize::try_from(offset).unwrap();
        let mut bytes = self.bytes(ino);
        bytes.resize(bytes.len().max(at(range.end)), 0);
        bytes[at(range.start)..at(range.end)].fill(fill);
        let ctx = self.context();
        let plan = write::inline(self, &ctx, ino, &bytes, Kill::Capability).map_err(os)?;
        self.done(plan);
        Ok(true)
    }

    fn allocate(&mut self, ino: Ino, offset: u64, len: u64, how: Allocate) -> Outcome {
        let how = match how {
            Allocate::Grow => fallocate::How::Grow,
            Allocate::KeepSize => fallocate::How::KeepSize,
            Allocate::Punch => fallocate::How::Punch,
            Allocate::ZeroGrow => fallocate::How::ZeroGrow,
            Allocate::ZeroKeepSize => fallocate::How::ZeroKeepSize,
        };
        let (ctx, size) = (self.context(), self.size(ino));
        let plan = fallocate::plan(
            self,
            &ctx,
            ino,
            how,
            offset..offset + len,
            size,
            Kill::Capability,
        )
        .map_err(os)?;
        self.step(ino, &plan.answer);
        self.done(plan);
        Ok(())
    }

    fn remove(&mut self, path: &str, what: RemovePlan) -> Outcome {
        let (dir, name) = self.walk(path)?;
        let ctx = self.context();
        let plan = what(self, &ctx, At { dir, name: &name }).map_err(os)?;
        let gone = self.done(plan);
        self.gone(gone);
        Ok(())
    }

    fn set_xattr(&mut self, path: &str, name: &str, value: &[u8], how: SetXattr) -> Outcome {
        let ino = self.find(path)?;
        self.user_xattr(ino, name)?;
        let how = match how {
            SetXattr::Either => xattr::How::Either,
            SetXattr::Create => xattr::How::Create,
            SetXattr::Replace => xattr::How::Replace,
        };
        let ctx = self.context();
        let plan = xattr::set(self, &ctx, ino, name.as_bytes(), value, how).map_err(os)?;
        self.done(plan);
        Ok(())
    }

    fn hold(&mut self, ino: Option<Ino>) {
        let old = std::mem::replace(&mut self.held, ino);
        if let Some(old) = old {
            self.reclaim(old);
        }
    }

    fn held(&self) -> Result<Ino, OsErrno> {
        self.held.ok_or(OsErrno::BADF)
    }
}

/// The errors that the rules give, as the operating system numbers them.
pub fn os(errno: Errno) -> OsErrno {
    match errno {
        Errno::Access => OsErrno::ACCESS,
        Errno::Exist => OsErrno::EXIST,
        Errno::Inval => OsErrno::INVAL,
        Errno::Io => OsErrno::IO,
        Errno::IsDir => OsErrno::ISDIR,
        Errno::MLink => OsErrno::MLINK,
        Errno::NameTooLong => OsErrno::NAMETOOLONG,
        Errno::NoData => OsErrno::NODATA,
        Errno::NoEnt => OsErrno::NOENT,
        Errno::NoSpc => OsErrno::NOSPC,
        Errno::NoSys => OsErrno::NOSYS,
        Errno::NotDir => OsErrno::NOTDIR,
        Errno::NotEmpty => OsErrno::NOTEMPTY,
        Errno::NotSup => OsErrno::OPNOTSUPP,
        Errno::Perm => OsErrno::PERM,
        Errno::Range => OsErrno::RANGE,
        Errno::RoFs => OsErrno::ROFS,
        Errno::TooBig => OsErrno::TOOBIG,
        Errno::FBig => OsErrno::FBIG,
        Errno::BadF => OsErrno::BADF,
        Errno::XDev => OsErrno::XDEV,
        Errno::NoTty => OsErrno::NOTTY,
        Errno::Stale => OsErrno::STALE,
    }
}

impl Target for Memory {
    fn apply(&mut self, op: &Op) -> Outcome {
        self.now += 1;
        match op {
            Op::Create { path, mode } => self.make(path, Some(Node::File), *mode, 0, None),
            Op::Mkdir { path, mode } => self.make(path, None, *mode, 0, None),
            Op::Mknod {
                path,
                node,
                mode,
                rdev,
            } => self.make(path, Some(*node), *mode, *rdev, None),
            Op::Symlink { target, path } => self.make(path, None, 0, 0, Some(target)),
            Op::Link { from, to } => {
                let ino = self.find(from)?;
                let (dir, name) = self.walk(to)?;
                let ctx = self.context();
                let plan = link::plan(self, &ctx, ino, At { dir, name: &name }).map_err(os)?;
                self.done(plan);
                Ok(())
            }
            Op::Unlink { path } => self.remove(path, unlink::file),
            Op::Rmdir { path } => self.remove(path, unlink::dir),
            Op::Rename { from, to, how } => self.rename(from, to, *how),
            Op::Chmod { path, mode } => {
                let ino = self.follow(path)?;
                self.set_attributes(
                    ino,
                    &Change {
                        mode: Some(*mode),
                        ..Change::default()
                    },
                )
            }
            Op::Chown { path, uid, gid } => {
                let ino = self.find(path)?;
                self.set_attributes(
                    ino,
                    &Change {
                        uid: Some(*uid),
                        gid: Some(*gid),
                        ..Change::default()
                    },
                )
            }
            Op::Truncate { path, size } => {
                let ino = self.writable(path)?;
                self.set_attributes(
                    ino,
                    &Change {
                        size: Some(*size),
                        ..Change::default()
                    },
                )
            }
            Op::Write {
                path,
                offset,
                len,
                fill,
            } => {
                let ino = self.writable(path)?;
                self.write_bytes(ino, *offset, *len, *fill)
            }
            Op::Allocate {
                path,
                offset,
                len,
                how,
            } => {
                let ino = self.writable(path)?;
                self.allocate(ino, *offset, *len, *how)
            }
            Op::Mtime { path, seconds } => {
                let ino = self.find(path)?;
                let at = SetTime::At(time((*seconds, 0)));
                self.set_attributes(
                    ino,
                    &Change {
                        mtime: Some(at),
                        ..Change::default()
                    },
                )
            }
            Op::SetXattr {
                path,
                name,
                value,
                how,
            } => self.set_xattr(path, name, value.as_bytes(), *how),
            Op::RemoveXattr { path, name } => {
                let ino = self.find(path)?;
                self.user_xattr(ino, name)?;
                let ctx = self.context();
                let plan = xattr::remove(self, &ctx, ino, name.as_bytes()).map_err(os)?;
                self.done(plan);
                Ok(())
            }
            Op::SetAcl { path, which, acl } => {
                self.set_xattr(path, which.name(), &acl.to_bytes(), SetXattr::Either)
            }
            Op::Hold { path } => {
                self.hold(None);
                let ino = self.writable(path)?;
                self.hold(Some(ino));
                Ok(())
            }
            Op::HeldWrite { offset, len, fill } => {
                let ino = self.held()?;
                self.write_bytes(ino, *offset, *len, *fill)
            }
            Op::HeldTruncate { size } => {
                let ino = self.held()?;
                self.set_attributes(
                    ino,
                    &Change {
                        size: Some(*size),
                        ..Change::default()
                    },
                )
            }
            Op::HeldChmod { mode } => {
                let ino = self.held()?;
                self.set_attributes(
                    ino,
                    &Change {
                        mode: Some(*mode),
                        ..Change::default()
                    },
                )
            }
            Op::Release => {
                self.hold(None);
                Ok(())
            }
        }
    }

    fn picture(&self) -> Picture {
        self.show()
    }
}

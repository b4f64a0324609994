//! The engine's own way in: paths resolved inside the tree, whole files read, and what the runtime puts in place (`init`).

use std::sync::Arc;

use nacre_store::{Content, FileName, Ino, Inode, Kind};

use super::names::{Node, file_name};
use super::{Caller, Vfs};
use crate::data::COPY_BYTES;
use crate::errno::{Errno, Result, of_rule};
use crate::union::create::{self, Purpose};
use crate::union::setattr::Kill;
use crate::union::{At, Origin, lookup};

/// Symbolic links followed in one path, as Linux has it.
const SYMLINKS_MAX: usize = 40;

/// Bytes of a path with all its links put in.
const PATH_BYTES_MAX: usize = 64 << 10;

/// The runtime: root, and what it makes is in neither diff nor commit.
const RUNTIME: Caller = Caller {
    uid: 0,
    gid: 0,
    umask: 0,
    origin: Origin::Runtime,
};

/// Whether a link at the end of a path is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Last {
    Follow,
    Keep,
}

/// Where a path leads: to an inode, or to a name in a directory that is not there yet.
enum Found {
    Inode(Ino),
    Missing(Ino, FileName),
}

impl Vfs {
    /// Resolves a path inside the tree, whose root no `..` and no link leaves.
    pub fn resolve(&self, path: &[u8], follow_last: bool) -> Result<(Ino, Arc<Inode>)> {
        let last = if follow_last {
            Last::Follow
        } else {
            Last::Keep
        };
        match self.walk(path, last, None)? {
            Found::Inode(ino) => Ok((ino, self.inode(ino)?)),
            Found::Missing(..) => Err(Errno::NOENT),
        }
    }

    /// Reads a whole file; `FBIG` if it is longer than `max`.
    pub fn read_all(&self, ino: Ino, max: usize) -> Result<Vec<u8>> {
        let inode = self.inode(ino)?;
        let size = usize::try_from(self.data.size(ino, &inode)?).map_err(|_| Errno::FBIG)?;
        if size > max {
            return Err(Errno::FBIG);
        }
        let mut all = Vec::new();
        while all.len() < size {
            let len = COPY_BYTES.min(size.saturating_sub(all.len()));
            let read = self.read(ino, all.len() as u64, len, |bytes| {
                all.extend_from_slice(bytes);
                bytes.len()
            })?;
            if read == 0 {
                break;
            }
        }
        Ok(all)
    }

    /// Makes sure that a path leads to a directory; what is missing of it is made, marked `init`. Links are followed.
    pub fn make_init_dir(&self, path: &[u8], mode: u16) -> Result<Ino> {
        match self.walk(path, Last::Follow, Some(mode))? {
            Found::Inode(ino) if self.inode(ino)?.kind == Kind::Dir => Ok(ino),
            Found::Inode(_) => Err(Errno::NOTDIR),
            Found::Missing(dir, name) => self.put(dir, &name, mode, Node::Dir),
        }
    }

    /// Makes sure that a path leads to a file with this content, made and marked `init` if it is missing. A file that
    /// is there already is left as it is if `content` is `None` (a mount point for a file); else its content is
    /// replaced, which counts as a change of that file unless it is `init` too.
    pub fn make_init_file(&self, path: &[u8], mode: u16, content: Option<&[u8]>) -> Result<Ino> {
        let ino = match self.walk(path, Last::Follow, Some(DIR_MODE))? {
            Found::Inode(ino) if self.inode(ino)?.kind == Kind::File => ino,
            Found::Inode(ino) if self.inode(ino)?.kind == Kind::Dir => return Err(Errno::ISDIR),
            // A device or a socket can be a mount point for a file; it cannot hold one.
            Found::Inode(ino) if content.is_none() => return Ok(ino),
            Found::Inode(_) => return Err(Errno::INVAL),
            Found::Missing(dir, name) => self.put(dir, &name, mode, Node::Other(Kind::File, 0))?,
        };
        if let Some(content) = content {
            self.truncate(&RUNTIME, ino, Kill::All)?;
            let mut done = 0;
            while let Some(rest) = content.get(done..).filter(|rest| !rest.is_empty()) {
                let piece = rest.get(..COPY_BYTES).unwrap_or(rest);
                let written = self.write(&RUNTIME, ino, done as u64, piece, Kill::All)?;
                done = done.saturating_add(written);
            }
            self.tell_content(ino);
        }
        Ok(ino)
    }

    /// Makes sure that a path leads to a symbolic link, made and marked `init` if nothing is there.
    pub fn make_init_symlink(&self, path: &[u8], target: &[u8]) -> Result<Ino> {
        match self.walk(path, Last::Keep, Some(DIR_MODE))? {
            Found::Inode(ino) => Ok(ino),
            Found::Missing(dir, name) => self.put(dir, &name, 0o777, Node::Symlink(target)),
        }
    }

    /// Puts a new inode in place and tells the kernel, which may remember that the name was not there.
    fn put(&self, dir: Ino, name: &FileName, mode: u16, node: Node<'_>) -> Result<Ino> {
        let at = At { dir, name };
        let fresh = self.fresh_ino()?;
        let made = self.make_planned(&RUNTIME, fresh, &|layers, ctx, fresh| match node {
            Node::Dir => create::dir(layers, ctx, at, fresh, mode),
            Node::Symlink(target) => create::symlink(layers, ctx, at, fresh, target),
            Node::Other(..) => create::file(layers, ctx, at, fresh, mode, Purpose::Empty),
        })?;
        self.tell_entry(dir, name);
        Ok(made.ino)
    }

    /// Follows a path from the root. With `make`, missing directories before the last component are made.
    fn walk(&self, path: &[u8], last: Last, make: Option<u16>) -> Result<Found> {
        let mut todo: Vec<Vec<u8>> = components(path);
        let mut bytes = path.len();
        let mut links = 0;
        let mut dir = Ino::ROOT;
        while let Some(component) = todo.pop() {
            if component == b".." {
                dir = lookup::parent(self, dir).map_err(of_rule)?;
                continue;
            }
            let name = file_name(&component)?;
            let Some(ino) = self.child(dir, &name)? else {
                match (todo.is_empty(), make) {
                    (true, _) => return Ok(Found::Missing(dir, name)),
                    (false, Some(mode)) => {
                        dir = self.put(dir, &name, mode, Node::Dir)?;
                        continue;
                    }
                    (false, None) => return Err(Errno::NOENT),
                }
            };
            let inode = self.inode(ino)?;
            match &inode.content {
                Content::Symlink(target) if !todo.is_empty() || last == Last::Follow => {
                    links += 1;
                    bytes = bytes.saturating_add(target.len());
                    if links > SYMLINKS_MAX || bytes > PATH_BYTES_MAX {
                        return Err(Errno::LOOP);
                    }
                    if target.first() == Some(&b'/') {
                        dir = Ino::ROOT;
                    }
                    todo.extend(components(target));
                }
                _ if todo.is_empty() => return Ok(Found::Inode(ino)),
                _ if inode.kind == Kind::Dir => dir = ino,
                _ => return Err(Errno::NOTDIR),
            }
        }
        Ok(Found::Inode(dir))
    }
}

/// Mode of directories made on the way.
const DIR_MODE: u16 = 0o755;

/// A path's components, last first, without empty ones and `.`.
fn components(path: &[u8]) -> Vec<Vec<u8>> {
    let parts = path.split(|byte| *byte == b'/').rev();
    parts
        .filter(|part| !part.is_empty() && *part != b".")
        .map(<[u8]>::to_vec)
        .collect()
}

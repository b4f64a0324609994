//! What an upper changed, as a layer archive: applied to the base it gives the tree that the upper showed.
//!
//! Directories come before what is in them, whiteouts before additions, a file's content with its first path. A directory
//! that was removed and made anew is opaque. Sockets are left out, as docker does: nobody listens on them any more.

use std::collections::BTreeMap;
use std::io::{Read, Write};

use nacre_store::archive::{ArchiveError, Entry, EntryKind, Writer};
use nacre_store::{Content, Extent, FileName, Ino, Inode, Kind, Time};

use crate::diff::{Snapshot, Step, Tree, Walk, named_inode};

/// What a whiteout's name begins with in an archive (OCI image-spec, layer.md).
const WHITEOUT_PREFIX: &[u8] = b".wh.";

/// Where the bytes of a snapshot's files are read.
pub trait Contents {
    /// Opens `ino`'s content from its start: all `size` bytes, or of a sparse file (`extents` of
    /// [`Contents::extents`]) the runs' bytes, one after another.
    fn open(&self, ino: Ino, inode: &Inode) -> std::io::Result<Box<dyn Read + '_>>;

    /// The runs of a file worth storing as sparse; `None` when every byte is stored.
    fn extents(&self, ino: Ino, inode: &Inode) -> std::io::Result<Option<Vec<Extent>>>;
}

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Written {
    /// Entries of the archive; 0: nothing changed.
    pub entries: u64,
    /// Sum of the regular files' sizes.
    pub content_bytes: u64,
}

/// Why no layer can be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LayerError {
    /// The name means a whiteout in an archive.
    #[error("{path}: a layer archive cannot hold names that begin with \".wh.\"")]
    ReservedName {
        /// The file.
        path: String,
    },
    /// The content could not be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The archive could not be written.
    #[error("cannot write {path} to the layer: {source}")]
    Write {
        /// The file.
        path: String,
        /// Why.
        source: ArchiveError,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] nacre_store::Error),
}

/// Writes the snapshot's changes to `out` as an uncompressed tar, deterministic.
pub fn write(
    snapshot: &Snapshot<'_>,
    contents: &dyn Contents,
    out: impl Write,
) -> Result<Written, LayerError> {
    let walk = snapshot.walk()?;
    let mut layer = Layer {
        snapshot,
        contents,
        walk: &walk,
        archive: Writer::new(out),
        first_paths: BTreeMap::new(),
        written: Written::default(),
    };
    for (at, step) in walk.steps().iter().enumerate() {
        layer.add(at, step)?;
    }
    let written = layer.written;
    layer.archive.finish().map_err(|source| LayerError::Write {
        path: "its end".to_owned(),
        source,
    })?;
    Ok(written)
}

/// A layer in the making.
struct Layer<'a, W> {
    snapshot: &'a Snapshot<'a>,
    contents: &'a dyn Contents,
    walk: &'a Walk,
    archive: Writer<W>,
    /// Under which path a file of several names came first.
    first_paths: BTreeMap<Ino, Vec<FileName>>,
    written: Written,
}

impl<W: Write> Layer<'_, W> {
    /// Adds what a path needs, if anything.
    fn add(&mut self, at: usize, step: &Step) -> Result<(), LayerError> {
        let Some(ino) = step.new.filter(|_| step.kind != Kind::Socket) else {
            // Where nothing is, or only a socket, what was there is hidden; an opaque directory hides it already.
            let hides = step.old.is_some() && !step.within_replaced;
            return if hides {
                self.hide(self.walk.path(at), EntryKind::Whiteout)
            } else {
                Ok(())
            };
        };
        if !(step.differs || step.differs_below || step.within_replaced)
            || (at == 0 && !step.differs)
        {
            return Ok(());
        }
        let path = self.walk.path(at);
        if path
            .last()
            .is_some_and(|name| name.as_bytes().starts_with(WHITEOUT_PREFIX))
        {
            return Err(LayerError::ReservedName { path: shown(&path) });
        }
        let inode = named_inode(self.snapshot, ino)?;
        match inode.kind {
            Kind::Dir => {
                self.put(&path, &inode, EntryKind::Dir, &mut std::io::empty())?;
                if step.replaced && self.had_entries(step)? {
                    self.hide(path, EntryKind::Opaque)?;
                }
                Ok(())
            }
            _ => self.add_file(path, ino, &inode),
        }
    }

    /// Adds what is no directory: as a link to where it is already, or with its content.
    fn add_file(&mut self, path: Vec<FileName>, ino: Ino, inode: &Inode) -> Result<(), LayerError> {
        if inode.links.len() > 1 {
            let known = match self.first_paths.get(&ino) {
                Some(first) => Some(first.clone()),
                None => self.kept_path(ino, inode)?,
            };
            if let Some(target) = known {
                return self.put(
                    &path,
                    inode,
                    EntryKind::HardLink(target),
                    &mut std::io::empty(),
                );
            }
            self.first_paths.insert(ino, path.clone());
        }
        let kind = match (inode.kind, &inode.content) {
            (Kind::Symlink, Content::Symlink(target)) => EntryKind::Symlink(target.clone()),
            (Kind::Char, _) => EntryKind::Char(inode.rdev),
            (Kind::Block, _) => EntryKind::Block(inode.rdev),
            (Kind::Fifo, _) => EntryKind::Fifo,
            _ => return self.add_content(&path, ino, inode),
        };
        self.put(&path, inode, kind, &mut std::io::empty())
    }

    fn add_content(
        &mut self,
        path: &[FileName],
        ino: Ino,
        inode: &Inode,
    ) -> Result<(), LayerError> {
        let contents = self.contents;
        let unreadable = |source| LayerError::Read {
            path: shown(path),
            source,
        };
        let extents = contents.extents(ino, inode).map_err(unreadable)?;
        let mut content = contents.open(ino, inode).map_err(unreadable)?;
        self.written.content_bytes = self.written.content_bytes.saturating_add(inode.size);
        let kind = EntryKind::File {
            size: inode.size,
            extents,
        };
        self.put(path, inode, kind, &mut content)
    }

    /// Returns a path under which the base has the file and keeps it, as it is and in directories that stay: the archive
    /// need not bring what can be linked there.
    fn kept_path(&self, ino: Ino, inode: &Inode) -> Result<Option<Vec<FileName>>, LayerError> {
        let base = self.snapshot.base();
        let same = base.inode(ino)?.is_some_and(|old| {
            let attributes = (old.mode, old.uid, old.gid, old.size, old.mtime)
                == (inode.mode, inode.uid, inode.gid, inode.size, inode.mtime);
            attributes && old.content == inode.content && old.xattrs == inode.xattrs
        });
        if !same {
            return Ok(None);
        }
        for link in &inode.links {
            let mut names = vec![link.name.clone()];
            let mut dir = link.parent;
            while dir != Ino::ROOT {
                let above = named_inode(self.snapshot, dir)?;
                let Some(up) = above.links.first() else { break };
                names.push(up.name.clone());
                dir = up.parent;
            }
            names.reverse();
            if dir == Ino::ROOT && self.is_kept(&names, ino)? {
                return Ok(Some(names));
            }
        }
        Ok(None)
    }

    /// Returns whether a path leads through the same inodes to `ino` in the base and now.
    fn is_kept(&self, path: &[FileName], ino: Ino) -> Result<bool, LayerError> {
        let mut at = Ino::ROOT;
        for name in path {
            let was = self.snapshot.base().child(at, name)?.map(|entry| entry.ino);
            let is = self.snapshot.child(at, name)?.map(|entry| entry.ino);
            match (was, is) {
                (Some(was), Some(is)) if was == is => at = is,
                _ => return Ok(false),
            }
        }
        Ok(at == ino)
    }

    fn had_entries(&self, step: &Step) -> Result<bool, LayerError> {
        let Some(old) = step.old else {
            return Ok(false);
        };
        Ok(self
            .snapshot
            .base()
            .dir(old)?
            .is_some_and(|list| !list.entries.is_empty()))
    }

    /// Adds a whiteout or an opaque mark; they have no attributes, so that equal changes give equal archives.
    fn hide(&mut self, path: Vec<FileName>, kind: EntryKind) -> Result<(), LayerError> {
        let entry = Entry {
            path,
            kind,
            mode: 0,
            uid: 0,
            gid: 0,
            mtime: Time::default(),
            xattrs: BTreeMap::new(),
        };
        self.append(&entry, &mut std::io::empty())
    }

    fn put(
        &mut self,
        path: &[FileName],
        inode: &Inode,
        kind: EntryKind,
        content: &mut dyn Read,
    ) -> Result<(), LayerError> {
        let entry = Entry {
            path: path.to_vec(),
            kind,
            mode: inode.mode,
            uid: inode.uid,
            gid: inode.gid,
            mtime: inode.mtime,
            xattrs: inode.xattrs.clone(),
        };
        self.append(&entry, content)
    }

    fn append(&mut self, entry: &Entry, content: &mut dyn Read) -> Result<(), LayerError> {
        self.archive
            .append(entry, content)
            .map_err(|source| LayerError::Write {
                path: shown(&entry.path),
                source,
            })?;
        self.written.entries = self.written.entries.saturating_add(1);
        Ok(())
    }
}

/// Writes a path for a message.
fn shown(path: &[FileName]) -> String {
    if path.is_empty() {
        return "/".to_owned();
    }
    path.iter().map(|name| format!("/{name}")).collect()
}

//! Batches of changes: all or nothing, in order; the blobs and data files that records begin or cease to name with them.

use std::collections::HashMap;
use std::sync::Arc;

use super::keys::{INODE, ORPHAN, SEQUENCE, encode_override, entry_key, ino_key, key, put_inode};
use super::{Override, Upper, undo};
use crate::blobs::add_count;
use crate::db::{Batch, Durability, Family};
use crate::failpoint::{self, Point};
use crate::{BlobId, Content, FileName, Ino, Inode, Result, remove};

/// One change of a batch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum UpperOp {
    /// Sets an inode's record.
    SetInode(Ino, Box<Inode>),
    /// Forgets an inode's record and, if it has one, its data file.
    DropInode(Ino),
    /// Sets an override.
    SetEntry(Ino, FileName, Override),
    /// Takes an override back.
    DropEntry(Ino, FileName),
    /// Remembers an unlinked but open inode.
    SetOrphan(Ino),
    /// It is gone, or linked again.
    DropOrphan(Ino),
    /// Keeps what an inode was before this batch, until its data file is synced: a loss of power takes it back to that.
    SetUndo(Ino, Box<Inode>),
    /// Its data file is synced, or gone.
    DropUndo(Ino),
}

/// Whether a change is part of a removal: of a name, or of an inode.
fn takes_away(op: &UpperOp) -> bool {
    match op {
        UpperOp::DropInode(_)
        | UpperOp::DropEntry(..)
        | UpperOp::SetEntry(_, _, Override::Whiteout)
        | UpperOp::SetOrphan(_)
        | UpperOp::DropOrphan(_)
        // An fsync ends with it, and must not fail on a full disk.
        | UpperOp::DropUndo(_) => true,
        UpperOp::SetInode(..) | UpperOp::SetEntry(..) | UpperOp::SetUndo(..) => false,
    }
}

/// Whether a batch needs room on the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Growth {
    /// As its changes say: it does, unless one of them takes something away.
    AsItSays,
    /// It is part of what gives room back, like a truncation: it may use the reserve.
    Frees,
}

/// What the writer of a batch knows of an inode's record (that there is none included), so that it need not be read again;
/// `None`: it does not know. It must be right: blobs and data files are kept or removed by it.
type Known<'a> = &'a dyn Fn(Ino) -> Option<Option<Arc<Inode>>>;

/// What a batch does beside its own keys.
#[derive(Default)]
struct Effects {
    /// Contents of the inodes that the batch sets or drops, as of now.
    contents: HashMap<Ino, Option<Content>>,
    blobs: HashMap<BlobId, i64>,
    /// Data files that go, and whether their record must be durably gone first: it now has its content elsewhere.
    files: Vec<(Ino, bool)>,
    seq: u64,
}

impl Upper {
    /// Writes a batch: all or nothing, in order, not synced; blobs that records begin or cease to name are counted, data
    /// files that none names any more are removed. On a full disk only what takes something away.
    pub fn write(&self, batch: &[UpperOp]) -> Result<()> {
        let nameless = self.write_knowing(batch, &|_| None, Growth::AsItSays)?;
        self.remove_data_files(&nameless)
    }

    /// The same for a writer that knows records; returns the inodes whose data files are to be removed, by
    /// [`Upper::remove_data_files`].
    pub fn write_knowing(
        &self,
        batch: &[UpperOp],
        known: Known<'_>,
        growth: Growth,
    ) -> Result<Vec<Ino>> {
        if growth == Growth::Frees || batch.iter().any(takes_away) {
            self.inner().room.to_unlink()?;
        } else if !batch.is_empty() {
            self.inner().room.to_grow()?;
        }
        let (db, id) = (&self.inner().db, self.0.id);
        let mut highest = self.0.seq.lock();
        let mut effects = Effects {
            seq: *highest,
            ..Effects::default()
        };
        let mut out = db.batch();
        for op in batch {
            match op {
                UpperOp::SetInode(ino, inode) => {
                    self.replace_content(*ino, Some(&inode.content), known, &mut effects)?;
                    put_inode(&mut out, id, *ino, inode)?;
                }
                UpperOp::DropInode(ino) => {
                    self.replace_content(*ino, None, known, &mut effects)?;
                    out.delete(Family::Upper, &ino_key(id, INODE, *ino))?;
                }
                UpperOp::SetEntry(dir, name, value) => {
                    if let Override::Entry { seq, .. } = value {
                        effects.seq = effects.seq.max(*seq);
                    }
                    out.put(
                        Family::Upper,
                        &entry_key(id, *dir, name),
                        &encode_override(*value),
                    )?;
                }
                UpperOp::DropEntry(dir, name) => {
                    out.delete(Family::Upper, &entry_key(id, *dir, name))?
                }
                UpperOp::SetOrphan(ino) => {
                    out.put(Family::Upper, &ino_key(id, ORPHAN, *ino), b"")?
                }
                UpperOp::DropOrphan(ino) => {
                    out.delete(Family::Upper, &ino_key(id, ORPHAN, *ino))?
                }
                UpperOp::SetUndo(ino, before) if failpoint::is_synced(Point::SyncUndo) => {
                    undo::put(&mut out, id, self.0.instance, (*ino, before))?
                }
                UpperOp::SetUndo(..) => {}
                UpperOp::DropUndo(ino) => undo::delete(&mut out, id, *ino)?,
            }
        }
        if effects.seq != *highest {
            out.put(
                Family::Upper,
                &key(id, SEQUENCE, b""),
                &effects.seq.to_be_bytes(),
            )?;
        }
        let seq = effects.seq;
        let nameless = self.commit(out, effects)?;
        *highest = seq;
        Ok(nameless)
    }

    /// Removes data files that no record names any more.
    pub fn remove_data_files(&self, inos: &[Ino]) -> Result<()> {
        for ino in inos {
            remove::remove_file_if_there(&self.data_path(*ino))?;
        }
        Ok(())
    }

    /// Notes what blobs and files it means that an inode gets another content, or none.
    fn replace_content(
        &self,
        ino: Ino,
        to: Option<&Content>,
        known: Known<'_>,
        effects: &mut Effects,
    ) -> Result<()> {
        let before = match effects.contents.remove(&ino) {
            Some(content) => content,
            None => match known(ino) {
                Some(inode) => inode.map(|inode| inode.content.clone()),
                None => self.inode(ino)?.map(|inode| inode.content),
            },
        };
        if let Some(blob) = before.as_ref().and_then(Content::blob) {
            *effects.blobs.entry(blob).or_default() -= 1;
        }
        if let Some(blob) = to.and_then(Content::blob) {
            *effects.blobs.entry(blob).or_default() += 1;
        }
        if before.as_ref().is_some_and(Content::has_data_file)
            && !to.is_some_and(Content::has_data_file)
        {
            effects.files.push((ino, to.is_some()));
        }
        if to.is_some_and(Content::has_data_file) {
            effects.files.retain(|(file, _)| *file != ino);
        }
        effects.contents.insert(ino, to.cloned());
        Ok(())
    }

    /// Once it is written nothing makes it fail any more: what it leaves behind is somebody else's to sweep, and a caller that
    /// is told of an error takes the batch for not written. Returns the data files that are to go.
    fn commit(&self, mut out: Batch<'_>, effects: Effects) -> Result<Vec<Ino>> {
        for (blob, delta) in effects.blobs.iter().filter(|(_, delta)| **delta != 0) {
            add_count(&mut out, blob, *delta)?;
        }
        out.write(Durability::Logged)?;
        failpoint::pass(Point::UpperWritten)?;
        let dropped: Vec<BlobId> = effects
            .blobs
            .iter()
            .filter(|(_, d)| **d < 0)
            .map(|(blob, _)| *blob)
            .collect();
        if !dropped.is_empty()
            && let Err(error) = self.inner().blobs.delete_unheld(dropped)
        {
            tracing::warn!(%error, upper = self.0.id.0, "contents that nobody holds are left");
        }
        // After power loss the old record may be back: its file must not be gone then.
        if effects.files.iter().any(|(_, durably)| *durably)
            && let Err(error) = self.sync()
        {
            tracing::warn!(%error, upper = self.0.id.0, "data files that no record names are left");
            return Ok(Vec::new());
        }
        Ok(effects.files.into_iter().map(|(ino, _)| ino).collect())
    }
}

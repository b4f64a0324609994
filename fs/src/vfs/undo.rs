//! Which files have an undo record in the upper: bytes of the image were copied into their data file, and nobody has synced
//! it since. The record comes with the batch that first names such bytes, and goes when they are on disk.

use std::collections::HashMap;

use nacre_store::{Ino, Upper, UpperOp};
use parking_lot::Mutex;

use super::{Vfs, With};
use crate::errno::{Errno, Result, of_store};
use crate::union::Layers;
use crate::union::content;

/// Files with an undo record. A leaf among the locks; changed under `changing` only.
#[derive(Default)]
pub(super) struct Undos(Mutex<State>);

#[derive(Default)]
struct State {
    /// When each file last got bytes that may not be on disk.
    stamps: HashMap<Ino, Stamp>,
    next: Stamp,
}

type Stamp = u64;

impl Undos {
    /// The file is about to get bytes that may not be on disk; returns whether it has an undo record already. Before the
    /// batch is written: a sync in between finds the old stamp, or none.
    fn note(&self, ino: Ino) -> bool {
        let mut state = self.0.lock();
        let stamp = state.next;
        state.next = stamp.wrapping_add(1);
        state.stamps.insert(ino, stamp).is_some()
    }

    /// Whether the file has an undo record: what is written to it can be taken back.
    pub(super) fn has(&self, ino: Ino) -> bool {
        self.stamp(ino).is_some()
    }

    fn stamp(&self, ino: Ino) -> Option<Stamp> {
        self.0.lock().stamps.get(&ino).copied()
    }

    fn all(&self) -> Vec<(Ino, Stamp)> {
        let state = self.0.lock();
        let stamps = state.stamps.iter();
        stamps.map(|(ino, stamp)| (*ino, *stamp)).collect()
    }

    /// Follows a batch that was not written: its undo records are not there, and the next copy needs them.
    pub(super) fn not_written(&self, ops: &[UpperOp]) {
        for op in ops {
            if let UpperOp::SetUndo(ino, _) = op {
                self.0.lock().stamps.remove(ino);
            }
        }
    }

    /// Follows a batch that was written.
    pub(super) fn follow(&self, ops: &[UpperOp]) {
        for op in ops {
            if let UpperOp::DropUndo(ino) = op {
                self.0.lock().stamps.remove(ino);
            }
        }
    }
}

impl Vfs {
    /// What a batch must carry beside `ops`: of a file that `claims` copied bytes what it was, of one that goes no undo
    /// record. The caller holds `changing`.
    pub(super) fn add_undos(&self, ops: &mut Vec<UpperOp>, claims: Option<Ino>) -> Result<()> {
        let gone = ops.iter().filter_map(|op| match op {
            UpperOp::DropInode(ino) => self.undos.stamp(*ino).map(|_| UpperOp::DropUndo(*ino)),
            _ => None,
        });
        let gone: Vec<UpperOp> = gone.collect();
        ops.extend(gone);
        if let Some(ino) = claims {
            let before = self.inode(ino)?;
            if !self.undos.note(ino) {
                ops.push(UpperOp::SetUndo(ino, Box::new((*before).clone())));
            }
        }
        Ok(())
    }

    /// Whether an undo record can be kept of a file: it names no blob, or the image's, which is there as long as the upper is.
    pub(super) fn can_undo(&self, ino: Ino) -> Result<bool> {
        let base = self.base_inode(ino).map_err(crate::errno::of_rule)?;
        let blob = self.inode(ino)?.content.blob();
        Ok(blob.is_none() || base.is_some_and(|base| base.content.blob() == blob))
    }

    /// Makes a file's bytes durable, and the name of its data file if `named`. Who has an undo record needs both before it
    /// goes: a data file that is gone after a loss of power is an empty file.
    pub(super) fn sync_file(&self, ino: Ino, named: bool) -> Result<()> {
        let stamp = self.undos.stamp(ino);
        let files = self.data.files()?;
        if named || stamp.is_some() {
            files.sync_with_name(ino)?;
        } else {
            files.sync(ino)?;
        }
        match stamp {
            Some(stamp) => self.drop_undos(&[(ino, stamp)]),
            None => Ok(()),
        }
    }

    /// Makes the bytes of all files with an undo record durable. One of which that cannot be done keeps its record, and no
    /// other from losing it.
    pub(super) fn sync_copied(&self) -> Result<()> {
        let all = self.undos.all();
        if all.is_empty() {
            return Ok(());
        }
        let files = self.data.files()?;
        let inos: Vec<Ino> = all.iter().map(|(ino, _)| *ino).collect();
        let failed = files.sync_all(&inos);
        files.sync_names()?;
        let synced = all.into_iter().filter(|(ino, _)| !failed.contains(ino));
        let synced: Vec<(Ino, Stamp)> = synced.collect();
        for some in synced.chunks(super::TOGETHER) {
            self.drop_undos(some)?;
        }
        if failed.is_empty() {
            Ok(())
        } else {
            Err(Errno::IO)
        }
    }

    /// The bytes that these files had are on disk. What came since has a younger stamp, and keeps its undo record.
    fn drop_undos(&self, synced: &[(Ino, Stamp)]) -> Result<()> {
        let upper = self.upper()?;
        let _changing = self.changing.lock();
        let synced = synced.iter();
        let still = synced.filter(|(ino, stamp)| self.undos.stamp(*ino) == Some(*stamp));
        let ops: Vec<UpperOp> = still.map(|(ino, _)| UpperOp::DropUndo(*ino)).collect();
        if ops.is_empty() {
            return Ok(());
        }
        self.write_ops(upper, ops, With::NOTHING).map(drop)
    }

    /// Takes back, when an upper is opened, what the power took.
    pub(super) fn undo(&self, upper: &Upper) -> Result<()> {
        for undo in upper.undos().map_err(|e| of_store(&e))? {
            if undo.is_void {
                self.undos.note(undo.ino);
                continue;
            }
            let mut ops = vec![UpperOp::DropUndo(undo.ino)];
            if let Some(now) = upper.inode(undo.ino).map_err(|e| of_store(&e))? {
                let len = std::fs::metadata(upper.data_path(undo.ino)).map_or(0, |file| file.len());
                if let Some(inode) = content::taken_back(&now, &undo.before, len) {
                    tracing::warn!(
                        inode = undo.ino.0,
                        "an unsynced change of a file is taken back after a loss of power"
                    );
                    ops.push(UpperOp::SetInode(undo.ino, Box::new(inode)));
                }
            }
            let _changing = self.changing.lock();
            self.write_batch(upper, ops)?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::collections::BTreeMap;

    use nacre_store::{Content, Ino, Inode, Kind, Time, UpperOp};

    use super::Undos;

    const INO: Ino = Ino(7);

    fn record() -> Inode {
        Inode {
            kind: Kind::File,
            mode: 0o644,
            uid: 0,
            gid: 0,
            rdev: 0,
            size: 0,
            atime: Time::default(),
            mtime: Time::default(),
            ctime: Time::default(),
            btime: Time::default(),
            content: Content::None,
            xattrs: BTreeMap::new(),
            links: Vec::new(),
            init: false,
        }
    }

    #[test]
    fn a_file_gets_one_undo_record_until_it_is_dropped() {
        let undos = Undos::default();
        assert!(!undos.note(INO), "the first copy needs one");
        assert!(undos.note(INO), "the next has it");
        undos.follow(&[UpperOp::DropUndo(INO)]);
        assert!(!undos.has(INO));
        assert!(!undos.note(INO));
    }

    #[test]
    fn a_batch_that_was_not_written_leaves_the_next_copy_to_ask_for_its_record_again() {
        let undos = Undos::default();
        undos.note(INO);
        undos.not_written(&[UpperOp::SetUndo(INO, Box::new(record()))]);
        assert!(!undos.note(INO), "no record was written");
    }

    #[test]
    fn bytes_that_came_after_a_sync_began_have_a_younger_stamp() {
        let undos = Undos::default();
        undos.note(INO);
        let synced = undos.stamp(INO).unwrap();
        undos.note(INO);
        assert_ne!(undos.stamp(INO), Some(synced));
    }
}

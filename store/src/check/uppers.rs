//! The check of writable layers.

use std::collections::HashSet;

use super::Check;
use crate::db::Family;
use crate::remove::list;
use crate::{BlobId, Ino, Override, Result, UpperId};

impl Check<'_> {
    /// Uppers: their bases, records and data files.
    pub(super) fn uppers(&mut self) -> Result<()> {
        let uppers = self.inner.db.uppers()?;
        self.checked("uppers", uppers.len());
        for (id, base) in &uppers {
            let object = format!("upper {}", id.0);
            if let Some(chain) = base {
                if self.inner.db.layer(chain)?.is_none() {
                    self.fault(&object, format!("its base {chain} is not there"));
                    continue;
                }
                self.tops.insert(*chain);
                self.need(Some(*chain))?;
            }
            let checked = self.upper(*id);
            self.noted(&object, checked);
        }
        let known: HashSet<UpperId> = uppers.into_iter().map(|(id, _)| id).collect();
        let inner = self.inner;
        let mut scan = inner.db.scan(Family::Upper, b"")?;
        let mut last = None;
        while let Some((key, _)) = scan.next()? {
            let id = key
                .get(..4)
                .and_then(|k| k.try_into().ok())
                .map(u32::from_be_bytes)
                .map(UpperId);
            if id != last && !id.is_some_and(|id| known.contains(&id)) {
                self.fault(
                    format!("override {}", key.escape_ascii()),
                    "belongs to no upper",
                );
            }
            last = id;
        }
        drop(scan);
        for dir in list(&inner.root.join("uppers"))? {
            let id = dir
                .file_name()
                .and_then(|n| n.to_str()?.parse().ok())
                .map(UpperId);
            if !id.is_some_and(|id| known.contains(&id)) {
                self.fault(dir.display(), "belongs to no upper");
            }
        }
        Ok(())
    }

    fn upper(&mut self, id: UpperId) -> Result<()> {
        let upper = self.store.open_upper(id)?;
        let inodes = upper.inodes()?;
        let data: HashSet<Ino> = inodes
            .iter()
            .filter(|(_, inode)| inode.content.has_data_file())
            .map(|(ino, _)| *ino)
            .collect();
        let known: HashSet<Ino> = inodes.iter().map(|(ino, _)| *ino).collect();
        for (dir, name, value) in upper.entries()? {
            let object = format!("upper {} entry {} {name}", id.0, dir.0);
            if let Override::Entry { ino, .. } = value
                && !known.contains(&ino)
                && upper.base().inode(ino)?.is_none()
            {
                self.fault(
                    object,
                    format!("leads to inode {}, which is not there", ino.0),
                );
            }
        }
        for undo in upper.undos()? {
            if !known.contains(&undo.ino) {
                self.fault(
                    format!("upper {} undo record {}", id.0, undo.ino.0),
                    "belongs to no inode",
                );
            }
        }
        // A record without its data file is an empty file; a data file without its record is left over. An upper in
        // use makes files before their records: those are young.
        if self.inner.open_uppers.lock().is_pinned_beside(&id) {
            return Ok(());
        }
        for shard in list(upper.data_dir())? {
            for path in list(&shard)? {
                let ino = path
                    .file_name()
                    .and_then(|n| u64::from_str_radix(n.to_str()?, 16).ok())
                    .map(Ino);
                if !ino.is_some_and(|ino| data.contains(&ino) && upper.data_path(ino) == path) {
                    self.fault(path.display(), "belongs to no inode");
                }
            }
        }
        Ok(())
    }

    /// How many inodes of uppers hold each blob of `wanted`, as of now.
    pub(super) fn uppers_hold(
        &self,
        wanted: Option<&BlobId>,
    ) -> Result<std::collections::HashMap<BlobId, i64>> {
        let mut held = std::collections::HashMap::new();
        for (id, _) in self.inner.db.uppers()? {
            for (_, inode) in self.inner.upper_inodes(id)? {
                if let Some(blob) = inode
                    .content
                    .blob()
                    .filter(|b| wanted.is_none_or(|w| w == b))
                {
                    *held.entry(blob).or_default() += 1;
                }
            }
        }
        Ok(held)
    }
}

//! What an unclean end left: blobs that nobody holds, files that no record names, and half-made parts of writable layers.
//! Never touches what a record names.

use std::collections::HashSet;
use std::path::PathBuf;

use crate::db::{Durability, Family};
use crate::remove::{list, remove_file_if_there};
use crate::store::Inner;
use crate::upper::{data_path, put_inode};
use crate::{BlobId, Content, Digest, Error, Ino, Inode, Result, Store, UpperId};

impl Store {
    /// Deletes the data files that an unclean end left in writable layers without a record, and finishes cuts. Opening a store leaves them: to
    /// look at a hundred thousand files takes longer than a service may take to start. For a thread of its own; a layer that
    /// is opened meanwhile is done first.
    pub fn sweep_uppers(&self) -> Result<()> {
        loop {
            let next = self.inner.unswept.lock().iter().next().copied();
            match next {
                Some(id) => self.inner.sweep_data_files(id)?,
                None => return Ok(()),
            }
        }
    }
}

impl Inner {
    /// After an unclean end: deletes blobs that nobody holds and files that no record names.
    pub(crate) fn sweep_unclean(&self) -> Result<()> {
        let mut unheld = Vec::new();
        let mut scan = self.db.scan(Family::Blobs, b"")?;
        let mut held = None;
        let mut last: Option<BlobId> = None;
        // Each place is followed by its count, if there is one.
        while let Some((key, value)) = scan.next()? {
            let id = key
                .get(..32)
                .and_then(|k| k.try_into().ok())
                .map(|k| BlobId(Digest::from_bytes(k)));
            let id = id.ok_or_else(|| Error::corrupt("blob", key.escape_ascii()))?;
            if key.len() == 32 {
                unheld.extend(last.take().filter(|last| held != Some(*last)));
                last = Some(id);
            } else if value.iter().any(|b| *b != 0) {
                held = Some(id);
            }
        }
        unheld.extend(last.filter(|last| held != Some(*last)));
        drop(scan);
        self.blobs.delete_unheld(unheld)?;
        for path in self.stray_files()? {
            remove_file_if_there(&path)?;
        }
        self.sweep_upper_dirs()
    }

    /// A writable layer's directory is made before the layer is known: what no layer names goes. What is in the others is
    /// looked at later.
    fn sweep_upper_dirs(&self) -> Result<()> {
        let uppers: HashSet<UpperId> = self.db.uppers()?.into_iter().map(|(id, _)| id).collect();
        let dirs: HashSet<PathBuf> = uppers.iter().map(|id| self.upper_dir(*id)).collect();
        for path in list(&self.root.join("uppers"))? {
            if !dirs.contains(&path) {
                std::fs::remove_dir_all(&path).map_err(Error::io("cannot remove", &path))?;
            }
        }
        *self.unswept.lock() = uppers;
        Ok(())
    }

    /// A data file is made before its record and removed after it: what no record names is what was left of that. To be called
    /// before a layer is used: a file in use may not have its record yet.
    pub(crate) fn sweep_data_files(&self, id: UpperId) -> Result<()> {
        let mut unswept = self.unswept.lock();
        if !unswept.contains(&id) {
            return Ok(());
        }
        let dir = self.upper_dir(id);
        let inodes = self.upper_inodes(id)?;
        self.finish_cuts(id, &inodes)?;
        let held: HashSet<Ino> = inodes
            .iter()
            .filter(|(_, inode)| inode.content.has_data_file())
            .map(|(ino, _)| *ino)
            .collect();
        // After power loss the directory may be gone.
        let shards = if dir.exists() {
            list(&dir)?
        } else {
            Vec::new()
        };
        for path in shards
            .iter()
            .map(|shard| list(shard))
            .collect::<Result<Vec<_>>>()?
            .concat()
        {
            let ino = path
                .file_name()
                .and_then(|name| u64::from_str_radix(name.to_str()?, 16).ok())
                .map(Ino);
            if !ino.is_some_and(|ino| held.contains(&ino) && data_path(&dir, ino) == path) {
                remove_file_if_there(&path)?;
            }
        }
        unswept.remove(&id);
        Ok(())
    }

    /// A file that is partly the image's is cut before its record says so: a data file that is shorter than what the record
    /// shows of the image was cut, and the record was not written.
    fn finish_cuts(&self, id: UpperId, inodes: &[(Ino, Inode)]) -> Result<()> {
        let dir = self.upper_dir(id);
        for (ino, inode) in inodes {
            let Content::Chunked { base_len, .. } = inode.content else {
                continue;
            };
            let path = data_path(&dir, *ino);
            let len = match std::fs::metadata(&path) {
                Ok(meta) => meta.len(),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
                Err(error) => return Err(Error::io("cannot look at", &path)(error)),
            };
            if len < base_len {
                let mut cut = inode.clone();
                cut.content.cut_base(len);
                // On a full disk too: a layer must be opened to be made smaller.
                self.room.to_shrink();
                let mut batch = self.db.batch();
                put_inode(&mut batch, id, *ino, &cut)?;
                batch.write(Durability::Logged)?;
            }
        }
        Ok(())
    }
}

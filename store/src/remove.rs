//! Removing: what nothing needs any more goes, in steps that may be interrupted anywhere. Never decides what is wanted.
//!
//! One synced batch takes the objects out of the catalog, takes their hold off their blobs and marks their numbers as
//! doomed; deleting what stands under those numbers comes after, here or at the next open.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::blobs::{self, Freed, Place, small_key};
use crate::catalog::{Doomed, LayerHead, RecordHead};
use crate::db::{Batch, Durability, Family};
use crate::failpoint::{self, Point};
use crate::numbers::RecordNo;
use crate::record::EntryReader;
use crate::stage::changed_key;
use crate::store::Inner;
use crate::tree::version_key;
use crate::{
    ArchiveId, BlobId, ChainId, Content, DiffId, Digest, Error, ImageId, Ino, LayerNo, ManifestId,
    Result, Store, codec,
};

/// Bytes of one batch of deletions.
const BATCH_BYTES: usize = 1 << 20;

/// What a removal freed.
#[derive(Clone, Debug, Default)]
pub struct Removed {
    /// Freed chains, top first.
    pub chains: Vec<ChainId>,
    /// Bytes of their regular files.
    pub content_bytes: u64,
}

impl Store {
    /// Removes an image without names or users, with everything that nothing else needs.
    pub fn remove_image(&self, id: &ImageId) -> Result<Removed> {
        let inner = &self.inner;
        inner.room.to_shrink();
        let _serial = inner.catalog.lock();
        let record = inner
            .db
            .image_record(id)?
            .ok_or_else(|| Error::not_found("image", id))?;
        if let Some((name, _)) = inner.db.names()?.into_iter().find(|(_, image)| image == id) {
            return Err(Error::InUse {
                what: "image",
                name: id.to_string(),
                by: format!("the name {name}"),
            });
        }
        let others = inner
            .db
            .image_records()?
            .into_iter()
            .filter(|(other, _)| other != id);
        let kept: HashSet<ManifestId> = others.flat_map(|(_, image)| image.manifests).collect();
        let mut batch = inner.db.batch();
        batch.delete_image(id)?;
        for manifest in record.manifests.iter().filter(|m| !kept.contains(m)) {
            batch.delete_manifest(manifest)?;
        }
        inner.remove_unused(batch, Some(id))
    }

    /// Removes layers and unpacked archives that nothing needs: what interrupted pulls have left, and what was in use
    /// when its image was removed.
    pub fn sweep(&self) -> Result<Removed> {
        self.inner.room.to_shrink();
        let _serial = self.inner.catalog.lock();
        self.inner.remove_unused(self.inner.db.batch(), None)
    }
}

impl Inner {
    /// Removes what neither an image (but `gone`), an upper nor anyone in memory needs, together with `batch`. The
    /// catalog is locked.
    fn remove_unused(&self, mut batch: Batch<'_>, gone: Option<&ImageId>) -> Result<Removed> {
        let (mut layers, records) = {
            let records = self.records.lock();
            let chains = self.chains.lock();
            let all = self.db.layers()?;
            let live = self.live_chains(&all, gone, |chain| chains.is_pinned(chain))?;
            let (used, layers): (Vec<_>, Vec<_>) =
                all.into_iter().partition(|(chain, _)| live.contains(chain));
            let used: HashSet<DiffId> = used.into_iter().map(|(_, layer)| layer.diff).collect();
            let mut unused = self.db.records()?;
            unused.retain(|(diff, _)| !used.contains(diff) && !records.is_pinned(diff));
            for (chain, layer) in &layers {
                batch.delete_layer(chain)?;
                batch.doom(Doomed::Layer(layer.no))?;
            }
            let mut freed = Vec::new();
            for (diff, record) in unused {
                let blobs = self.record_blobs(&record)?;
                for (blob, times) in &blobs {
                    blobs::add_count(&mut batch, blob, -times)?;
                }
                batch.delete_record(&diff, &record)?;
                batch.doom(Doomed::Record(record.no))?;
                freed.push((record, blobs));
            }
            failpoint::pass(Point::RemoveReady)?;
            batch.write(failpoint::synced(Point::SyncRemove))?;
            failpoint::pass(Point::RemoveUnlisted)?;
            // Under the lock: the same archive may be on its way in again.
            for (record, _) in &freed {
                self.drop_archives(record)?;
            }
            failpoint::pass(Point::RemoveArchivesGone)?;
            (layers, freed)
        };
        let mut freed = Freed::default();
        for (record, blobs) in records {
            freed
                .packs
                .extend(self.blobs.delete_unheld(blobs.into_keys())?.packs);
            failpoint::pass(Point::RemoveContentsGone)?;
            self.drop_record_parts(record.no)?;
        }
        failpoint::pass(Point::RemoveRecordsGone)?;
        for (_, layer) in &layers {
            self.drop_layer_parts(layer.no)?;
        }
        failpoint::pass(Point::RemoveLayersGone)?;
        self.give_back(&freed.packs)?;
        layers.sort_unstable_by_key(|(_, layer)| std::cmp::Reverse(layer.no));
        let content_bytes = layers.iter().map(|(_, layer)| layer.content_bytes).sum();
        Ok(Removed {
            chains: layers.into_iter().map(|(chain, _)| chain).collect(),
            content_bytes,
        })
    }

    /// All chains that an image, an upper or someone in memory needs.
    fn live_chains(
        &self,
        all: &[(ChainId, LayerHead)],
        gone: Option<&ImageId>,
        pinned: impl Fn(&ChainId) -> bool,
    ) -> Result<HashSet<ChainId>> {
        let heads: HashMap<&ChainId, &LayerHead> =
            all.iter().map(|(chain, layer)| (chain, layer)).collect();
        let mut roots: Vec<ChainId> = Vec::new();
        for (id, image) in self.db.image_records()? {
            if Some(&id) != gone {
                roots.extend(image.chains().last());
            }
        }
        roots.extend(self.db.uppers()?.into_iter().filter_map(|(_, base)| base));
        roots.extend(all.iter().map(|(chain, _)| *chain).filter(pinned));
        let mut live = HashSet::new();
        for root in roots {
            let mut next = Some(root);
            while let Some(chain) = next.filter(|chain| live.insert(*chain)) {
                next = heads.get(&chain).and_then(|head| head.parent);
            }
        }
        Ok(live)
    }

    /// The blobs that a record holds, each with how often.
    pub(crate) fn record_blobs(&self, record: &RecordHead) -> Result<HashMap<BlobId, i64>> {
        let mut blobs = HashMap::new();
        let mut entries = EntryReader::new(&self.db, record);
        while let Some(entry) = entries.next()? {
            if let Some((blob, _)) = entry.content {
                *blobs.entry(blob).or_default() += 1;
            }
        }
        Ok(blobs)
    }

    fn drop_archives(&self, record: &RecordHead) -> Result<()> {
        for archive in record.archives.iter().filter(|a| a.kept) {
            remove_file_if_there(&self.archive_path(&archive.id))?;
        }
        Ok(())
    }

    /// Deletes the chunks of a record that is out of the catalog.
    pub(crate) fn drop_record_parts(&self, no: RecordNo) -> Result<()> {
        let mut batch = self.db.batch();
        batch.delete_prefix(Family::Records, &no.0.to_be_bytes())?;
        batch.reprieve(Doomed::Record(no))?;
        batch.write(Durability::Logged)
    }

    /// Deletes the versions of a layer that is out of the catalog, or never was in it.
    pub(crate) fn drop_layer_parts(&self, no: LayerNo) -> Result<()> {
        let mut batch = self.db.batch();
        let mut changed = self.db.scan(Family::Changed, &no.0.to_be_bytes())?;
        while let Some((key, _)) = changed.next()? {
            let ino = key
                .get(4..)
                .and_then(|k| k.try_into().ok())
                .map(u64::from_be_bytes);
            let ino = Ino(ino.ok_or_else(|| Error::corrupt("changed inode", key.escape_ascii()))?);
            let version = version_key(ino, no);
            let has_pages = self.db.with(Family::Inodes, &version, |value| {
                let content = codec::decode_inode(value).map(|inode| inode.content);
                matches!(content, Some(Content::Dir { pages, .. }) if pages == no)
            })?;
            // An apply that was interrupted may have written the pages and not yet the inode.
            if has_pages != Some(false) {
                let mut pages = self.db.scan(Family::Dirs, &version)?;
                while let Some((page, _)) = pages.next()? {
                    batch.delete(Family::Dirs, page)?;
                }
            }
            batch.delete(Family::Inodes, &version)?;
            batch.delete(Family::Changed, &changed_key(no, ino))?;
            if batch.bytes() >= BATCH_BYTES {
                batch.write(Durability::Logged)?;
                batch = self.db.batch();
            }
        }
        batch.reprieve(Doomed::Layer(no))?;
        batch.write(Durability::Logged)
    }

    /// Gives the space of deleted small contents back to the host.
    pub(crate) fn give_back(&self, packs: &BTreeSet<RecordNo>) -> Result<()> {
        let Some(last) = packs.last() else {
            return Ok(());
        };
        self.db.collect_garbage(Family::Small, true)?;
        let mut from = packs.first().copied().unwrap_or(*last);
        let mut to = from;
        for pack in packs {
            // One run of neighbours is one compaction; what lies between two runs is left alone.
            if pack.0 > to.0 + 1 {
                self.compact_packs(from, to)?;
                from = *pack;
            }
            to = *pack;
        }
        self.compact_packs(from, to)?;
        self.db.collect_garbage(Family::Small, false)?;
        self.db.compact(
            Family::Records,
            &from.0.to_be_bytes(),
            &(last.0 + 1).to_be_bytes(),
        )
    }

    fn compact_packs(&self, from: RecordNo, to: RecordNo) -> Result<()> {
        self.db.compact(
            Family::Small,
            &small_key(from, 0),
            &small_key(RecordNo(to.0 + 1), 0),
        )
    }

    /// Finishes what was doomed when the store was last open.
    pub(crate) fn finish_removals(&self) -> Result<()> {
        for doomed in self.db.doomed()? {
            match doomed {
                Doomed::Layer(no) => self.drop_layer_parts(no)?,
                Doomed::Upper(id) => self.drop_upper_parts(id)?,
                Doomed::Record(no) => {
                    self.drop_pack(no)?;
                    self.drop_record_parts(no)?;
                }
            }
        }
        Ok(())
    }

    /// Deletes the small contents of a pack that nobody holds. Their digests may stand nowhere, so they are hashed.
    fn drop_pack(&self, no: RecordNo) -> Result<()> {
        let mut batch = self.db.batch();
        let mut scan = self.db.scan(Family::Small, &no.0.to_be_bytes())?;
        while let Some((key, content)) = scan.next()? {
            let id = BlobId(Digest::of(content));
            let here = match self.blobs.place(&id)? {
                Some((Place::Small { pack, index }, _)) => small_key(pack, index).as_slice() == key,
                _ => false,
            };
            if here && self.blobs.count(&id)? != 0 {
                continue;
            }
            batch.delete(Family::Small, key)?;
            if here {
                batch.delete(Family::Blobs, id.0.as_bytes())?;
                batch.delete(Family::Blobs, &blobs::count_key(&id))?;
            }
        }
        batch.write(Durability::Logged)
    }

    /// Files of blobs and archives that stand in no record, and half-written ones.
    pub(crate) fn stray_files(&self) -> Result<Vec<std::path::PathBuf>> {
        let mut stray = Vec::new();
        for dir in list(self.blobs.dir())? {
            let temp = dir == self.blobs.temp_dir();
            for path in list(&dir)? {
                let id = path
                    .file_name()
                    .and_then(|n| Digest::from_hex(n.to_str()?).ok())
                    .map(BlobId);
                let known = match id.filter(|_| !temp) {
                    Some(id) => {
                        matches!(self.blobs.place(&id)?, Some((Place::File, _)))
                            && self.blobs.path(&id) == path
                    }
                    None => false,
                };
                if !known {
                    stray.push(path);
                }
            }
        }
        for path in list(&self.archives_dir())? {
            let id = path
                .file_name()
                .and_then(|n| Digest::from_hex(n.to_str()?).ok())
                .map(ArchiveId);
            let known = match id {
                Some(id) => match self.db.diff_of_archive(&id)? {
                    Some(diff) => self
                        .db
                        .record(&diff)?
                        .is_some_and(|record| record.archives.iter().any(|a| a.id == id && a.kept)),
                    None => false,
                },
                None => false,
            };
            if !known {
                stray.push(path);
            }
        }
        Ok(stray)
    }
}

/// The entries of a directory.
pub(crate) fn list(dir: &std::path::Path) -> Result<Vec<std::path::PathBuf>> {
    let entries = std::fs::read_dir(dir).map_err(Error::io("cannot list", dir))?;
    entries
        .map(|entry| {
            entry
                .map(|e| e.path())
                .map_err(Error::io("cannot list", dir))
        })
        .collect()
}

/// Removes a file; it may be gone already.
pub(crate) fn remove_file_if_there(path: &std::path::Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io("cannot remove", path)(error))
        }
        _ => Ok(()),
    }
}

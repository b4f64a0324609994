//! The check of images, names, manifests, layers and records.

use std::collections::HashSet;
use std::fs::File;
use std::io::Read;

use sha2::{Digest as _, Sha256};

use super::Check;
use crate::catalog::RecordHead;
use crate::pins::{LockedPins, Pins};
use crate::record::TarReader;
use crate::{ChainId, DiffId, Digest, Error, ImageId, ManifestId, Result, publish};

impl Check<'_> {
    /// Images: the digests of their documents, their layers, their names.
    pub(super) fn images(&mut self) -> Result<()> {
        let images = self.inner.db.image_records()?;
        self.checked("images", images.len());
        let ids: HashSet<ImageId> = images.iter().map(|(id, _)| *id).collect();
        let mut named: HashSet<ManifestId> = HashSet::new();
        for (id, image) in &images {
            let object = format!("image {id}");
            if Digest::of(&image.config) != id.0 {
                self.fault(&object, "its configuration has another digest");
            }
            if let Some(diffs) = self.noted(&object, publish::diff_ids(&image.config))
                && !diffs.iter().eq(image.layers.iter().map(|l| &l.diff))
            {
                self.fault(&object, "its layers are not those of its configuration");
            }
            let chains = image.chains();
            for chain in chains.iter().rev() {
                if self.inner.db.layer(chain)?.is_none() {
                    self.fault(&object, format!("its layer {chain} is not there"));
                }
            }
            self.tops.extend(chains.last());
            self.needed.extend(chains);
            named.extend(&image.manifests);
        }
        for (name, image) in self.inner.db.names()? {
            if !ids.contains(&image) {
                self.fault(
                    format!("name {name}"),
                    format!("its image {image} is not there"),
                );
            }
        }
        self.manifests(&named)
    }

    fn manifests(&mut self, named: &HashSet<ManifestId>) -> Result<()> {
        let manifests = self.inner.db.raw_manifests()?;
        self.checked("manifests", manifests.len());
        let mut there = HashSet::new();
        for (id, manifest) in manifests {
            if Digest::of(&manifest.bytes) != id.0 {
                self.fault(format!("manifest {id}"), "has another digest");
            }
            if !named.contains(&id) {
                self.fault(format!("manifest {id}"), "belongs to no image");
            }
            there.insert(id);
        }
        for id in named.difference(&there) {
            self.fault(
                format!("manifest {id}"),
                "is not there, but an image came with it",
            );
        }
        Ok(())
    }

    /// Layers: their parents, records and numbers, and whether anything needs them.
    pub(super) fn layers(&mut self) -> Result<()> {
        let layers = self.inner.db.layers()?;
        self.checked("layers", layers.len());
        let pinned: HashSet<ChainId> = {
            let pins = self.inner.chains.lock();
            layers
                .iter()
                .map(|(chain, _)| *chain)
                .filter(|chain| pins.is_pinned(chain))
                .collect()
        };
        for chain in pinned {
            self.need(Some(chain))?;
        }
        for (chain, layer) in &layers {
            let object = format!("layer {chain}");
            if *chain != ChainId::extend(layer.parent.as_ref(), &layer.diff) {
                self.fault(&object, "is not the chain of its parent and its DiffID");
            }
            if !self.layers.insert(layer.no) {
                self.fault(
                    &object,
                    format!("its number {} is another one's too", layer.no.0),
                );
            }
            if let Some(parent) = &layer.parent {
                match self.inner.db.layer(parent)? {
                    None => self.fault(&object, format!("its parent {parent} is not there")),
                    Some(parent) if parent.no >= layer.no => {
                        self.fault(&object, "is older than its parent")
                    }
                    Some(_) => {}
                }
            }
            match self.inner.db.record(&layer.diff)? {
                None => self.fault(&object, format!("its record {} is not there", layer.diff)),
                Some(record) if record.content_bytes != layer.content_bytes => {
                    self.fault(&object, "its size is not that of its record");
                }
                Some(_) => {}
            }
            if !self.needed.contains(chain) {
                self.fault(&object, "is needed by nothing");
            }
            self.diffs.insert(layer.diff);
        }
        Ok(())
    }

    /// Notes that a chain is needed, with all that is below it.
    pub(super) fn need(&mut self, mut chain: Option<ChainId>) -> Result<()> {
        while let Some(next) = chain {
            if !self.needed.insert(next) {
                break;
            }
            chain = self.inner.db.layer(&next)?.and_then(|layer| layer.parent);
        }
        Ok(())
    }

    /// Records: the tar that they rebuild has their DiffID, and the archives as received have theirs.
    pub(super) fn records(&mut self, pins: &LockedPins<'_, DiffId>) -> Result<()> {
        let records = self.inner.db.records()?;
        self.checked("records", records.len());
        let mut archives = 0;
        for (diff, record) in &records {
            let object = format!("record {diff}");
            if let Some(blobs) = self.noted(&object, self.inner.record_blobs(record)) {
                for (blob, times) in blobs {
                    *self.held.entry(blob).or_default() += times;
                }
            }
            if let Some((actual, bytes)) = self.noted(&object, self.rebuilt(*diff, record)) {
                if actual != diff.0 {
                    self.fault(&object, "its tar cannot be rebuilt: it has another digest");
                }
                if bytes != record.tar_bytes {
                    self.fault(&object, "its tar has another length");
                }
            }
            if record.archives.is_empty() {
                self.fault(&object, "has come in no archive");
            }
            archives += record.archives.len();
            self.archives(*diff, record)?;
            // A record that no layer uses is what an interrupted pull has left: legal, it waits for the next one.
            if !self.diffs.contains(diff) && !pins.is_pinned(diff) {
                tracing::debug!(%diff, "record is used by no layer");
            }
        }
        self.checked("archives", archives);
        for (archive, diff) in self.inner.db.archive_index()? {
            let record = records.iter().find(|(d, _)| *d == diff);
            if !record.is_some_and(|(_, record)| record.archives.iter().any(|a| a.id == archive)) {
                self.fault(
                    format!("archive {archive}"),
                    format!("its record {diff} does not know it"),
                );
            }
        }
        Ok(())
    }

    fn rebuilt(&self, diff: DiffId, record: &RecordHead) -> Result<(Digest, u64)> {
        // The records are locked as a whole: this pin is of a set of its own.
        let pin = Pins::default().pin(diff);
        let mut tar = TarReader::new(&self.inner.db, &self.inner.blobs, record.clone(), pin)?;
        digest(&mut tar, "rebuilt tar")
    }

    fn archives(&mut self, diff: DiffId, record: &RecordHead) -> Result<()> {
        for archive in &record.archives {
            let object = format!("archive {}", archive.id);
            if self.inner.db.diff_of_archive(&archive.id)? != Some(diff) {
                self.fault(&object, "the index does not lead to its record");
            }
            if !archive.kept {
                continue;
            }
            let path = self.inner.archive_path(&archive.id);
            let found = File::open(&path).map_err(Error::io("cannot open", &path));
            let Some(mut file) = self.noted(&object, found) else {
                continue;
            };
            if let Some((actual, bytes)) = self.noted(&object, digest(&mut file, "layer archive"))
                && (actual != archive.id.0 || bytes != archive.bytes)
            {
                self.fault(&object, format!("{} has another content", path.display()));
            }
        }
        Ok(())
    }
}

/// Reads to the end; returns the digest and the length.
pub(super) fn digest(from: &mut impl Read, what: &'static str) -> Result<(Digest, u64)> {
    let mut hash = Sha256::new();
    let mut bytes = 0;
    let mut buf = vec![0; 256 << 10];
    loop {
        let got = from
            .read(&mut buf)
            .map_err(|source| Error::Input { what, source })?;
        if got == 0 {
            return Ok((Digest::finish(hash), bytes));
        }
        hash.update(buf.get(..got).unwrap_or_default());
        bytes += got as u64;
    }
}

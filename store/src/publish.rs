//! Publishing: an image's layers become trees and the image becomes visible, in one synced write after all that it names
//! is there. Reads of the configuration only what the store must be sure of.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::apply::{self, Layer};
use crate::catalog::{Doomed, ImageLayer, ImageRecord, LayerHead, RecordHead};
use crate::db::Db;
use crate::failpoint::{self, Point};
use crate::record::{EntryReader, RecordEntry};
use crate::stage::Stage;
use crate::store::Inner;
use crate::{
    ChainId, DiffId, Digest, Error, ImageId, LayerNo, ManifestId, RawManifest, RefUpdate, Result,
    Store, Tree, Unpacked,
};

/// Registries cap manifests at 4 MiB, and configurations are no larger.
const DOCUMENT_BYTES_MAX: usize = 4 << 20;

/// Layers of an image: eight times what docker allows.
const LAYERS_MAX: usize = 1024;

/// Bytes of a complete name: docker's 255 for the repository, 128 for the tag, a digest, and a host.
const NAME_BYTES_MAX: usize = 1024;

/// An image to be made visible.
pub struct NewImage {
    /// The configuration's bytes, as received: their digest is the image's ID.
    pub config: Vec<u8>,
    /// The manifest's bytes and media type as received; none for commit, import and docker-archives.
    pub manifest: Option<RawManifest>,
    /// Bottom layer first; as many as the configuration's `rootfs.diff_ids`, in the same order.
    pub layers: Vec<Unpacked>,
    /// Names to point at it.
    pub refs: Vec<RefUpdate>,
    /// The image it was committed from.
    pub parent: Option<ImageId>,
}

impl Store {
    /// Applies what layers are not applied yet and makes the image visible, with its names, in one synced write.
    /// `applied` is called with a layer's index when its tree stands.
    pub fn publish(&self, image: NewImage, applied: &dyn Fn(usize)) -> Result<ImageId> {
        check(&image)?;
        let inner = &self.inner;
        inner.room.to_grow()?;
        let _serial = inner.catalog.lock();
        let mut new = Vec::new();
        let published = inner.publish(&image, applied, &mut new);
        if published.is_err() {
            inner.room.to_shrink();
            for (_, layer) in new {
                // Should this fail too, the mark makes the next open do it.
                if let Err(error) = inner.drop_layer_parts(layer.no) {
                    tracing::warn!(%error, layer = layer.no.0, "cannot delete what a failed publication left");
                }
            }
        }
        let id = published.map_err(|error| inner.room.explained(error))?;
        failpoint::pass(Point::PublishSynced)?;
        Ok(id)
    }
}

impl Inner {
    fn publish(
        self: &Arc<Self>,
        image: &NewImage,
        applied: &dyn Fn(usize),
        new: &mut Vec<(ChainId, LayerHead)>,
    ) -> Result<ImageId> {
        let mut chain: Option<ChainId> = None;
        let mut below: Vec<LayerNo> = Vec::new();
        for (index, layer) in image.layers.iter().enumerate() {
            let next = ChainId::extend(chain.as_ref(), &layer.diff);
            let no = match self.db.layer(&next)? {
                Some(head) => head.no,
                None => {
                    let no = self.numbers.layer(&self.db)?;
                    let record = self.db.record(&layer.diff)?;
                    let record = record.ok_or_else(|| Error::not_found("layer", layer.diff))?;
                    self.db.doom(Doomed::Layer(no))?;
                    let content_bytes = record.content_bytes;
                    new.push((
                        next,
                        LayerHead {
                            no,
                            diff: layer.diff,
                            parent: chain,
                            content_bytes,
                        },
                    ));
                    failpoint::pass(Point::PublishMarked)?;
                    self.apply(&below, no, &record)
                        .map_err(|error| error.in_layer(&layer.diff))?;
                    failpoint::pass(Point::PublishApplied)?;
                    no
                }
            };
            below.push(no);
            chain = Some(next);
            applied(index);
        }
        let id = ImageId(Digest::of(&image.config));
        let mut batch = self.db.batch();
        for (chain, layer) in new.iter() {
            batch.put_layer(chain, layer)?;
            batch.reprieve(Doomed::Layer(layer.no))?;
        }
        batch.put_image(&id, &self.image_to_be(&id, image)?)?;
        if let Some(manifest) = &image.manifest {
            batch.put_manifest(&ManifestId(Digest::of(&manifest.bytes)), manifest)?;
        }
        for update in &image.refs {
            batch.put_name(&update.name, &id)?;
        }
        failpoint::pass(Point::PublishReady)?;
        batch.write(failpoint::synced(Point::SyncPublish))?;
        Ok(id)
    }

    /// Writes the tree of a layer on those below, under a number that is not published yet.
    fn apply(self: &Arc<Self>, below: &[LayerNo], no: LayerNo, record: &RecordHead) -> Result<()> {
        let tree = Tree::of_layers(self, below.to_vec());
        let mut stage = Stage::new(self, &tree, no)?;
        apply::apply(
            &mut stage,
            &Recorded {
                db: &self.db,
                head: record,
            },
        )?;
        stage.write()
    }

    /// The image's record: one that is there already keeps what the new one does not bring.
    fn image_to_be(&self, id: &ImageId, image: &NewImage) -> Result<ImageRecord> {
        let before = self.db.image_record(id)?;
        let mut layers: Vec<ImageLayer> = Vec::with_capacity(image.layers.len());
        for layer in &image.layers {
            let archive = Some((layer.archive, layer.archive_bytes));
            layers.push(ImageLayer {
                diff: layer.diff,
                archive,
                content_bytes: layer.content_bytes,
            });
        }
        let mut record = ImageRecord {
            config: image.config.clone(),
            layers,
            manifests: Vec::new(),
            parent: image.parent,
            tagged_at: now(),
        };
        let manifest = image
            .manifest
            .as_ref()
            .map(|m| ManifestId(Digest::of(&m.bytes)));
        record.manifests.extend(manifest);
        if let Some(before) = before {
            if manifest.is_none() && !before.manifests.is_empty() {
                // The manifest that stays names the archives that it came with.
                record.layers = before.layers;
            }
            record.manifests.extend(
                before
                    .manifests
                    .into_iter()
                    .filter(|m| Some(*m) != manifest),
            );
            record.parent = record.parent.or(before.parent);
        }
        Ok(record)
    }
}

/// Nanoseconds since the epoch.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// A record as `apply` wants it.
struct Recorded<'a> {
    db: &'a Db,
    head: &'a RecordHead,
}

impl Layer for Recorded<'_> {
    fn for_each(&self, each: &mut dyn FnMut(RecordEntry) -> Result<()>) -> Result<()> {
        let mut entries = EntryReader::new(self.db, self.head);
        while let Some(entry) = entries.next()? {
            each(entry)?;
        }
        Ok(())
    }

    fn has_marks(&self) -> bool {
        self.head.marks > 0
    }
}

#[derive(serde::Deserialize)]
struct Config {
    rootfs: RootFs,
}

#[derive(serde::Deserialize)]
struct RootFs {
    #[serde(default)]
    diff_ids: Option<Vec<String>>,
}

/// Reads the DiffIDs of a configuration.
pub(crate) fn diff_ids(config: &[u8]) -> Result<Vec<DiffId>> {
    let invalid = |why: String| Error::Invalid {
        what: "image configuration",
        why,
    };
    let config: Config = serde_json::from_slice(config).map_err(|e| invalid(e.to_string()))?;
    let ids = config.rootfs.diff_ids.unwrap_or_default();
    ids.iter()
        .map(|id| {
            id.parse()
                .map_err(|e: crate::InvalidDigest| invalid(e.to_string()))
        })
        .collect()
}

fn check(image: &NewImage) -> Result<()> {
    let invalid = |what, why: String| Err(Error::Invalid { what, why });
    if image.config.len() > DOCUMENT_BYTES_MAX {
        return invalid(
            "image configuration",
            format!("larger than {DOCUMENT_BYTES_MAX} bytes"),
        );
    }
    if image
        .manifest
        .as_ref()
        .is_some_and(|m| m.bytes.len() > DOCUMENT_BYTES_MAX)
    {
        return invalid(
            "manifest",
            format!("larger than {DOCUMENT_BYTES_MAX} bytes"),
        );
    }
    let diffs = diff_ids(&image.config)?;
    if diffs.len() > LAYERS_MAX {
        return invalid(
            "image configuration",
            format!("more than {LAYERS_MAX} layers"),
        );
    }
    if diffs.len() != image.layers.len() {
        let why = format!(
            "names {} layers, but there are {}",
            diffs.len(),
            image.layers.len()
        );
        return invalid("image configuration", why);
    }
    for (expected, layer) in diffs.iter().zip(&image.layers) {
        if *expected != layer.diff {
            return Err(Error::DigestMismatch {
                what: "layer",
                expected: expected.0,
                actual: layer.diff.0,
            });
        }
    }
    image
        .refs
        .iter()
        .try_for_each(|update| check_name(&update.name))
}

/// Refuses what can be no name.
pub(crate) fn check_name(name: &str) -> Result<()> {
    let why = match name {
        "" => "empty",
        _ if name.len() > NAME_BYTES_MAX => "too long",
        _ if name.chars().any(char::is_control) => "has control characters",
        _ => return Ok(()),
    };
    Err(Error::Invalid {
        what: "image name",
        why: why.to_owned(),
    })
}

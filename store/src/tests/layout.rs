//! OCI image layouts in: just enough of the format to feed the store.

use std::fs::File;
use std::path::Path;

use crate::{Expected, ImageId, NewImage, RawManifest, RefUpdate, Result, Store, Unpacked};
use serde_json::Value;

/// An image of a layout, read.
pub(crate) struct Layout {
    dir: std::path::PathBuf,
    manifest: Vec<u8>,
    config: Vec<u8>,
    layers: Vec<(String, u64)>,
    diffs: Vec<String>,
}

impl Layout {
    pub(crate) fn open(dir: &Path) -> Layout {
        let json = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let blob =
            |digest: &str| std::fs::read(dir.join("blobs").join(digest.replace(':', "/"))).unwrap();
        let index = json(&std::fs::read(dir.join("index.json")).unwrap());
        let manifest = blob(&text(&index["manifests"][0]["digest"]));
        let parsed = json(&manifest);
        let config = blob(&text(&parsed["config"]["digest"]));
        let layers = parsed["layers"].as_array().unwrap().iter();
        let layers = layers
            .map(|l| (text(&l["digest"]), l["size"].as_u64().unwrap()))
            .collect();
        let diffs = json(&config)["rootfs"]["diff_ids"]
            .as_array()
            .unwrap()
            .iter()
            .map(text)
            .collect();
        Layout {
            dir: dir.to_owned(),
            manifest,
            config,
            layers,
            diffs,
        }
    }

    pub(crate) fn layer_count(&self) -> usize {
        self.layers.len()
    }

    pub(crate) fn unpack(&self, store: &Store, index: usize) -> Result<Unpacked> {
        let (digest, size) = &self.layers[index];
        let expected = Expected {
            archive: Some(digest.parse().unwrap()),
            size: Some(*size),
            diff: Some(self.diffs[index].parse().unwrap()),
        };
        let file = File::open(self.dir.join("blobs").join(digest.replace(':', "/"))).unwrap();
        store.unpack(file, &expected, &|_| {})
    }

    pub(crate) fn unpack_all(&self, store: &Store) -> Result<Vec<Unpacked>> {
        (0..self.layers.len())
            .map(|index| self.unpack(store, index))
            .collect()
    }

    pub(crate) fn publish(
        &self,
        store: &Store,
        layers: Vec<Unpacked>,
        name: &str,
    ) -> Result<ImageId> {
        let media_type = "application/vnd.oci.image.manifest.v1+json".to_owned();
        let image = NewImage {
            config: self.config.clone(),
            manifest: Some(RawManifest {
                media_type,
                bytes: self.manifest.clone(),
            }),
            layers,
            refs: vec![RefUpdate {
                name: name.to_owned(),
            }],
            parent: None,
        };
        store.publish(image, &|_| {})
    }

    pub(crate) fn import(&self, store: &Store, name: &str) -> Result<ImageId> {
        self.publish(store, self.unpack_all(store)?, name)
    }
}

//! Sums over images and containers: what is shared, what descends from what, what a list shows. Reads only.

use std::collections::{HashMap, HashSet};

use nacre_store::{ChainId, Image, ImageId};

use super::container::Container;
use super::error::Result;
use super::image::{self, Listed};
use super::{Engine, remove};

/// How images share their layers.
#[derive(Clone, Debug, Default)]
pub struct Shared {
    /// Bytes of all layers, each counted once.
    pub all_layers: u64,
    /// Of each image, in the order given, the bytes of layers that others have too.
    pub per_image: Vec<u64>,
}

impl Engine {
    /// Adds up what images share.
    pub fn shared_bytes(&self, images: &[Listed]) -> Shared {
        let mut holders: HashMap<ChainId, (u64, usize)> = HashMap::new();
        for layer in images.iter().flat_map(|listed| &listed.image.layers) {
            holders
                .entry(layer.chain)
                .or_insert((layer.content_bytes, 0))
                .1 += 1;
        }
        let shared = |image: &Image| {
            let others = |chain: &ChainId| holders.get(chain).is_some_and(|(_, count)| *count > 1);
            let layers = image.layers.iter().filter(|layer| others(&layer.chain));
            layers
                .map(|layer| layer.content_bytes)
                .fold(0, u64::saturating_add)
        };
        Shared {
            all_layers: holders
                .values()
                .map(|(bytes, _)| *bytes)
                .fold(0, u64::saturating_add),
            per_image: images.iter().map(|listed| shared(&listed.image)).collect(),
        }
    }

    /// Bytes of an image, 0 if it is gone.
    pub fn image_bytes(&self, id: &ImageId) -> Result<u64> {
        Ok(self.store.image(id)?.as_ref().map_or(0, image::bytes))
    }

    /// The image as a list of containers shows it: as it was asked for, or its short ID if that means another image now.
    pub fn image_as_shown(&self, container: &Container) -> String {
        let asked = &container.config.image;
        match self.find_image(asked) {
            Ok(found) if found.image.id == container.image => asked.clone(),
            _ => remove::short(&container.image),
        }
    }

    /// Says whether an image is one of `ancestors`, or was committed from one.
    pub fn descends(&self, image: &ImageId, ancestors: &[ImageId]) -> bool {
        let mut seen = HashSet::new();
        let mut next = Some(*image);
        while let Some(id) = next.filter(|id| seen.insert(*id)) {
            if ancestors.contains(&id) {
                return true;
            }
            next = self
                .store
                .image(&id)
                .ok()
                .flatten()
                .and_then(|image| image.parent);
        }
        false
    }

    /// An identity of this store for `info`: the same as long as it stays where it is.
    pub fn identity(&self) -> String {
        let digest =
            nacre_store::Digest::of(self.store.root().as_os_str().as_encoded_bytes()).hex();
        names_of(&digest)
    }

    /// The version of the store's format on disk.
    pub fn format_version(&self) -> u32 {
        let text = std::fs::read_to_string(self.store.root().join("format")).unwrap_or_default();
        text.trim().parse().unwrap_or(0)
    }
}

/// Five groups, as a UUID has them: what clients expect of an ID.
fn names_of(digest: &str) -> String {
    let part = |from: usize, to: usize| digest.get(from..to).unwrap_or_default();
    [
        part(0, 8),
        part(8, 12),
        part(12, 16),
        part(16, 20),
        part(20, 32),
    ]
    .join("-")
}

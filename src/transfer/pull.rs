//! A registry's image into the store: nothing of it is to be seen before all of it is there.

use std::sync::Arc;

use nacre_store::{DiffId, ImageId, ManifestId, NewImage, RawManifest, RefUpdate, Store};
use parking_lot::Mutex;

use super::CONFIG_BYTES_MAX;
use super::bridge::blocking;
use super::downloads::Downloads;
use super::error::{Error, Result};
use super::fetch::{Errand, Layers, Step};
use super::image_config::ImageConfig;
use super::progress::{Moved, Progress, Status, short, tell};
use crate::reference::Reference;
use crate::registry::{
    Client, Descriptor, Fetched, ImageManifest, InvalidManifest, Manifest, Platform,
};

/// An image that was pulled.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pulled {
    /// What it is called now, tag or digest included.
    pub reference: Option<Reference>,
    /// Which image it is.
    pub image: ImageId,
    /// The digest that its name has in the registry: of the index if there is one.
    pub digest: ManifestId,
    /// Whether the name points at another image than before.
    pub updated: bool,
}

impl Pulled {
    /// As docker's next to last line: `Digest: sha256:…`.
    pub fn digest_line(&self) -> String {
        format!("Digest: {}", self.digest)
    }

    /// As docker's last line: `Status: Downloaded newer image for debian:12`.
    pub fn status_line(&self) -> String {
        let name = self
            .reference
            .as_ref()
            .map_or_else(|| self.image.to_string(), Reference::familiar);
        status_line(&name, self.updated)
    }
}

/// docker's last line on an image, or on a repository of which all tags were pulled.
pub fn status_line(name: &str, updated: bool) -> String {
    match updated {
        true => format!("Status: Downloaded newer image for {name}"),
        false => format!("Status: Image is up to date for {name}"),
    }
}

/// What is to be had: the manifest that was picked, and the digest that the name stands for.
struct Found {
    raw: RawManifest,
    id: ManifestId,
    image: ImageManifest,
    named: ManifestId,
}

/// Pulls an image. A reference without tag and digest means `latest`; `platform` picks from an index, the host's by default.
pub async fn pull(
    store: &Store,
    client: &Client,
    reference: &Reference,
    platform: Option<&Platform>,
    downloads: &Downloads,
    progress: Arc<dyn Progress>,
) -> Result<Pulled> {
    let reference = match reference.digest() {
        // A digest says more than a tag, which may have moved on; docker does not keep the tag then either.
        Some(digest) => reference.with_digest(*digest),
        None => reference.clone().or_latest(),
    };
    let found = find(client, &reference, platform).await?;
    let said = reference
        .tag()
        .map_or_else(|| found.named.to_string(), str::to_owned);
    tell(
        &*progress,
        &said,
        Status::PullingFrom(reference.path().to_owned()),
    );

    let name = reference.familiar();
    let image = ImageId(found.image.config.digest);
    let known = known_config(store, &image, &found.id).await?;
    let is_known = known.is_some();
    let config = match known {
        Some(config) => config,
        None => {
            let wanted = &found.image.config;
            client
                .small_blob(&reference, wanted, "image config", CONFIG_BYTES_MAX as u64)
                .await?
        }
    };
    let parsed = ImageConfig::parse(&name, &config)?;
    parsed.check_platform(&name, platform)?;
    check_count(&name, &parsed.diffs, &found.image.layers)?;

    let refs = names(&reference, &found.named);
    let updated = {
        let (store, name) = (store.clone(), reference.to_string());
        blocking(move || store.resolve(&name)).await?? != Some(image)
    };
    let pulled = Pulled {
        reference: Some(reference.clone()),
        image,
        digest: found.named,
        updated,
    };
    // It may have been removed in the meantime: then its layers are fetched after all.
    if is_known && name_known(store, &image, &found.id, &refs).await? {
        return Ok(pulled);
    }
    let errand = Errand::new(store, client, &reference, downloads, progress.clone());
    let Layers { unpacked, told } = errand.fetch_all(&found.image.layers, &parsed.diffs).await?;
    let new = NewImage {
        config,
        manifest: Some(found.raw),
        layers: unpacked,
        refs,
        parent: None,
    };
    publish(store, new, told, progress).await?;
    Ok(pulled)
}

/// Fetches the manifest, and through an index the one that fits.
async fn find(
    client: &Client,
    reference: &Reference,
    platform: Option<&Platform>,
) -> Result<Found> {
    let Fetched { raw, id, manifest } = client.manifest(reference).await?;
    let entries = match manifest {
        Manifest::Image(image) => {
            return Ok(Found {
                raw,
                id,
                image,
                named: id,
            });
        }
        Manifest::Index(entries) => entries,
    };
    let invalid = |source| {
        Error::from(crate::registry::Error::Manifest {
            name: reference.familiar(),
            source,
        })
    };
    let host = Platform::host();
    let entry = Descriptor::select(&entries, platform.unwrap_or(&host)).map_err(invalid)?;
    let picked = client
        .manifest(&reference.with_digest(entry.digest))
        .await?;
    match picked.manifest {
        Manifest::Image(image) => Ok(Found {
            raw: picked.raw,
            id: picked.id,
            image,
            named: id,
        }),
        Manifest::Index(_) => Err(invalid(InvalidManifest::Ambiguous(
            "an index within an index".to_owned(),
        ))),
    }
}

/// The names that an image gets: the one asked for, and the one with its digest.
fn names(reference: &Reference, named: &ManifestId) -> Vec<RefUpdate> {
    let digested = reference.with_digest(*named.digest());
    let mut names = vec![RefUpdate {
        name: reference.to_string(),
    }];
    if digested != *reference {
        names.push(RefUpdate {
            name: digested.to_string(),
        });
    }
    names
}

/// Refuses an image whose manifest and configuration do not speak of the same number of layers.
pub(super) fn check_count(name: &str, diffs: &[DiffId], layers: &[Descriptor]) -> Result<()> {
    if diffs.len() == layers.len() {
        return Ok(());
    }
    let what = format!(
        "it names {} layers, its manifest {}",
        diffs.len(),
        layers.len()
    );
    Err(Error::Config {
        name: name.to_owned(),
        what,
    })
}

/// The configuration of an image that is here with this very manifest.
async fn known_config(
    store: &Store,
    image: &ImageId,
    manifest: &ManifestId,
) -> Result<Option<Vec<u8>>> {
    let (store, image, manifest) = (store.clone(), *image, *manifest);
    blocking(move || {
        let known = store.image(&image)?;
        let same = known.filter(|known| known.manifest == Some(manifest));
        Ok(same.map(|known| known.config))
    })
    .await?
}

/// If the very image is here already, only points the names at it; those that do so already cost no write.
async fn name_known(
    store: &Store,
    image: &ImageId,
    manifest: &ManifestId,
    refs: &[RefUpdate],
) -> Result<bool> {
    let (store, image, manifest, refs) = (store.clone(), *image, *manifest, refs.to_vec());
    blocking(move || {
        let known = store
            .image(&image)?
            .is_some_and(|known| known.manifest == Some(manifest));
        if known {
            for update in &refs {
                if store.resolve(&update.name)? != Some(image) {
                    store.tag(&update.name, &image)?;
                }
            }
        }
        Ok(known)
    })
    .await?
}

/// Applies the layers and makes the image visible.
async fn publish(
    store: &Store,
    image: NewImage,
    told: Vec<Option<Step>>,
    progress: Arc<dyn Progress>,
) -> Result<ImageId> {
    let store = store.clone();
    blocking(move || {
        let applying = Applying::new(&*progress, told);
        let id = store.publish(image, &|index| applying.applied(index))?;
        applying.all_applied();
        Ok(id)
    })
    .await?
}

/// Tells of the layers as their trees come to stand, each once and in order.
pub(super) struct Applying<'a> {
    progress: &'a dyn Progress,
    layers: Vec<Option<Step>>,
    /// How many are behind us. Rank: a leaf.
    behind: Mutex<usize>,
}

impl<'a> Applying<'a> {
    pub(super) fn new(progress: &'a dyn Progress, layers: Vec<Option<Step>>) -> Applying<'a> {
        Applying {
            progress,
            layers,
            behind: Mutex::new(0),
        }
    }

    pub(super) fn applied(&self, index: usize) {
        let mut behind = self.behind.lock();
        let new = self
            .layers
            .iter()
            .take(index.saturating_add(1))
            .skip(*behind);
        for Step { digest, size } in new.flatten() {
            let id = short(digest);
            tell(
                self.progress,
                &id,
                Status::Extracting(Moved {
                    current: *size,
                    total: *size,
                }),
            );
            tell(self.progress, &id, Status::PullComplete);
        }
        *behind = (*behind).max(index.saturating_add(1));
    }

    pub(super) fn all_applied(&self) {
        if let Some(last) = self.layers.len().checked_sub(1) {
            self.applied(last);
        }
    }
}

//! A registry's image into the store: its layers download, inflate and hash at once, and nothing of it is to be seen before all of it is there.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use nacre_store::{
    ArchiveId, DiffId, Digest, Expected, ImageId, ManifestId, NewImage, RawManifest, RefUpdate,
    Store, Unpacked,
};
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::CONFIG_BYTES_MAX;
use super::bridge::{blocking, feed, stopped};
use super::error::{Error, Result};
use super::image_config::ImageConfig;
use super::progress::{Bar, Moved, Progress, Status, retrying, short, tell};
use crate::reference::Reference;
use crate::registry::{
    Client, Descriptor, Fetched, ImageManifest, InvalidManifest, Manifest, Platform,
};

/// Layers under way at once, as docker has it: enough to fill a line and the processors, few enough for a registry's patience.
const LAYERS_AT_ONCE: usize = 3;

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
        match self.updated {
            true => format!("Status: Downloaded newer image for {name}"),
            false => format!("Status: Image is up to date for {name}"),
        }
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
    let config = client
        .small_blob(
            &reference,
            &found.image.config,
            "image config",
            CONFIG_BYTES_MAX,
        )
        .await?;
    let parsed = ImageConfig::parse(&name, &config)?;
    parsed.check_platform(&name, platform)?;
    check_count(&name, &parsed.diffs, &found.image.layers)?;

    let refs = names(&reference, &found.named);
    let image = ImageId(found.image.config.digest);
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
    if name_known(store, &image, &found.id, &refs).await? {
        return Ok(pulled);
    }
    let Layers { unpacked, told } = fetch_layers(
        store,
        client,
        &reference,
        &found.image.layers,
        &parsed.diffs,
        &progress,
    )
    .await?;
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

/// If the very image is here already, only points the names at it.
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
                store.tag(&update.name, &image)?;
            }
        }
        Ok(known)
    })
    .await?
}

/// All layers of an image, the bottom one first.
struct Layers {
    unpacked: Vec<Unpacked>,
    /// Those that were fetched: what is told when they are applied.
    told: Vec<Option<Step>>,
}

/// Brings all layers into the store. On an error the others are broken off.
async fn fetch_layers(
    store: &Store,
    client: &Client,
    reference: &Reference,
    layers: &[Descriptor],
    diffs: &[DiffId],
    progress: &Arc<dyn Progress>,
) -> Result<Layers> {
    let permits = Arc::new(Semaphore::new(LAYERS_AT_ONCE));
    let mut here: HashMap<Digest, Unpacked> = HashMap::new();
    let mut fetched: HashSet<Digest> = HashSet::new();
    let mut missing = Vec::new();
    for (layer, diff) in layers.iter().zip(diffs) {
        if here.contains_key(&layer.digest) || fetched.contains(&layer.digest) {
            continue;
        }
        let id = short(&layer.digest);
        match present(store, layer, diff).await? {
            Some(unpacked) => {
                tell(&**progress, &id, Status::AlreadyExists);
                here.insert(layer.digest, unpacked);
            }
            None => {
                tell(&**progress, &id, Status::PullingFsLayer);
                fetched.insert(layer.digest);
                missing.push((layer, *diff));
            }
        }
    }
    let mut tasks = JoinSet::new();
    for (layer, diff) in missing {
        let permit = permits.clone();
        let (store, client, reference) = (store.clone(), client.clone(), reference.clone());
        let (layer, progress) = (layer.clone(), progress.clone());
        tasks.spawn(async move {
            let id = short(&layer.digest);
            let permit = match permit.clone().try_acquire_owned() {
                Ok(permit) => Ok(permit),
                Err(_) => {
                    tell(&*progress, &id, Status::Waiting);
                    permit.acquire_owned().await
                }
            };
            // The semaphore is never closed: an error here is the end of the service.
            let _permit = permit.map_err(|_| Error::Stopping)?;
            let unpacked =
                fetch_layer(&store, &client, &reference, &layer, diff, &*progress).await?;
            Ok::<_, Error>((layer.digest, unpacked))
        });
    }
    while let Some(done) = tasks.join_next().await {
        let (digest, unpacked) = done.map_err(stopped)??;
        here.insert(digest, unpacked);
    }
    let mut all = Layers {
        unpacked: Vec::with_capacity(layers.len()),
        told: Vec::with_capacity(layers.len()),
    };
    for (layer, diff) in layers.iter().zip(diffs) {
        let fetched = fetched.remove(&layer.digest);
        all.told.push(fetched.then_some(Step {
            digest: layer.digest,
            size: layer.size,
        }));
        all.unpacked.push(match here.remove(&layer.digest) {
            Some(unpacked) => unpacked,
            // The same layer a second time in one image.
            None => {
                present(store, layer, diff)
                    .await?
                    .ok_or_else(|| nacre_store::Error::NotFound {
                        what: "layer",
                        name: layer.digest.to_string(),
                    })?
            }
        });
    }
    Ok(all)
}

/// The layer, if it is in the store: under the archive that the manifest names, so that a push can name it again.
async fn present(store: &Store, layer: &Descriptor, diff: &DiffId) -> Result<Option<Unpacked>> {
    let (store, archive, diff) = (store.clone(), ArchiveId(layer.digest), *diff);
    let found = blocking(move || store.unpacked_by_archive(&archive)).await??;
    Ok(found.filter(|unpacked| unpacked.diff == diff))
}

/// Downloads one layer and unpacks it while it comes.
async fn fetch_layer(
    store: &Store,
    client: &Client,
    reference: &Reference,
    layer: &Descriptor,
    diff: DiffId,
    progress: &dyn Progress,
) -> Result<Unpacked> {
    let id = short(&layer.digest);
    let (feed, reader) = feed();
    let unpacking = {
        let store = store.clone();
        let expected = Expected {
            archive: Some(ArchiveId(layer.digest)),
            size: Some(layer.size),
            diff: Some(diff),
        };
        tokio::task::spawn_blocking(move || store.unpack(reader, &expected, &|_| ()))
    };
    let mut stream = client.blob(reference, layer);
    let bar = Bar::new(progress, &id, layer.size, Status::Downloading);
    let mut broken = None;
    loop {
        match stream
            .chunk(&mut |pause| tell(progress, &id, retrying(pause)))
            .await
        {
            Ok(Some(chunk)) => {
                bar.add(chunk.len() as u64);
                if !feed.send(chunk).await {
                    // The store has refused what came so far; it says why below.
                    break;
                }
            }
            Ok(None) => {
                tell(progress, &id, Status::VerifyingChecksum);
                feed.end().await;
                break;
            }
            Err(error) => {
                broken = Some(error);
                drop(feed);
                break;
            }
        }
    }
    // Waited for in any case, so that nothing of this layer is under way when the caller hears of the error.
    let unpacked = unpacking.await.map_err(stopped)?;
    if let Some(error) = broken {
        return Err(error.into());
    }
    let unpacked = unpacked?;
    tell(progress, &id, Status::DownloadComplete);
    Ok(unpacked)
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

/// A layer that is told of when its tree stands.
pub(super) struct Step {
    pub(super) digest: Digest,
    pub(super) size: u64,
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

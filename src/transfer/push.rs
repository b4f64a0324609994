//! The store's image to a registry. What was received goes out byte for byte; only layers that were made here are
//! compressed, while they go. The manifest goes last: before it, nothing has changed for anybody.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use nacre_store::{DiffId, Digest, Image, ManifestId, RawManifest, Store};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::bridge::{blocking, stopped};
use super::error::{Error, Result};
use super::image_config::ImageConfig;
use super::outgoing::{self, Format, LayerBytes, OutgoingLayer};
use super::progress::{Event, Progress, Status, retrying, short, tell};
use super::sources::{Compressed, InMemory, Unchanged, compressed_before};
use crate::reference::Reference;
use crate::registry::{Client, Mounted, Platform, Upload, UploadSource, media};

/// Layers under way at once; compressing keeps a processor busy.
const LAYERS_AT_ONCE: usize = 3;
/// From how many other repositories a layer is asked for before it is uploaded.
const MOUNT_SOURCES_MAX: usize = 3;

/// An image that was pushed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pushed {
    /// Under which name.
    pub reference: Reference,
    /// The manifest's digest.
    pub digest: ManifestId,
    /// The manifest's length.
    pub size: usize,
}

impl Pushed {
    /// As docker's last line: `latest: digest: sha256:… size: 527`.
    pub fn line(&self) -> String {
        format!(
            "{}: digest: {} size: {}",
            self.reference.tag().unwrap_or_default(),
            self.digest,
            self.size
        )
    }
}

/// What goes out, decided before anything is sent.
struct Plan {
    /// None: it is built from what the uploads give.
    manifest: Option<RawManifest>,
    format: Format,
    layers: Vec<Outgoing>,
}

/// One layer of a plan.
#[derive(Clone)]
enum Outgoing {
    /// As it is.
    Unchanged(OutgoingLayer),
    /// Compressed on the way.
    Compressed {
        diff: DiffId,
        content_bytes: u64,
        media_type: String,
    },
}

impl Outgoing {
    fn diff(&self) -> &DiffId {
        match self {
            Outgoing::Unchanged(layer) => &layer.diff,
            Outgoing::Compressed { diff, .. } => diff,
        }
    }
}

/// Where everything of one push goes.
#[derive(Clone)]
struct Errand {
    store: Store,
    client: Client,
    to: Reference,
    /// Repositories of the same registry that this image has names in.
    mount_from: Arc<Vec<String>>,
    progress: Arc<dyn Progress>,
}

/// Tells where a push goes; docker says so once, however many tags follow.
pub fn tell_repository(repository: &Reference, progress: &dyn Progress) {
    progress.event(Event {
        id: None,
        status: Status::RefersTo(repository.repository()),
    });
}

/// Pushes the image that `reference` names, to the repository that it names. With a `platform` it must be for that one.
pub async fn push(
    store: &Store,
    client: &Client,
    reference: &Reference,
    platform: Option<&Platform>,
    progress: Arc<dyn Progress>,
) -> Result<Pushed> {
    let reference = reference.clone().or_latest();
    let (image, plan) = {
        let (store, name, platform) = (store.clone(), reference.clone(), platform.cloned());
        blocking(move || -> Result<_> {
            let missing = || Error::NoSuchImage(name.familiar());
            let id = store.resolve(&name.to_string())?.ok_or_else(missing)?;
            let image = store.image(&id)?.ok_or_else(missing)?;
            let shown = name.familiar();
            if platform.is_some() {
                ImageConfig::parse(&shown, &image.config)?
                    .check_platform(&shown, platform.as_ref())?;
            }
            let plan = plan(&store, &image)?;
            Ok((image, plan))
        })
        .await??
    };
    let errand = Errand {
        store: store.clone(),
        client: client.clone(),
        to: reference.clone(),
        mount_from: Arc::new(mount_sources(&image, &reference)),
        progress,
    };
    let layers = errand.send_layers(&plan.layers).await?;
    errand.send_config(&image).await?;
    let manifest = plan
        .manifest
        .unwrap_or_else(|| outgoing::build(&image.config, &layers, plan.format));
    let digest = client.put_manifest(&reference, &manifest).await?;
    if let Some(digested) = reference.tag().map(|_| reference.with_digest(digest.0)) {
        let (store, id) = (store.clone(), image.id);
        blocking(move || store.tag(&digested.to_string(), &id)).await??;
    }
    Ok(Pushed {
        reference,
        digest,
        size: manifest.bytes.len(),
    })
}

fn plan(store: &Store, image: &Image) -> Result<Plan> {
    if let Some((raw, _, layers)) = outgoing::original(store, image)? {
        let layers = layers.into_iter().map(Outgoing::Unchanged).collect();
        return Ok(Plan {
            manifest: Some(raw),
            format: Format::Docker,
            layers,
        });
    }
    let format = outgoing::format_of(store, image)?;
    let gzip = match format {
        Format::Docker => media::DOCKER_LAYER_GZIP,
        Format::Oci => media::OCI_LAYER_GZIP,
    };
    let plain = outgoing::plain_layers(store, image, format)?;
    let layers = plain
        .into_iter()
        .zip(&image.layers)
        .map(|(layer, known)| match layer.bytes {
            LayerBytes::Received(_) => Outgoing::Unchanged(layer),
            LayerBytes::Rebuilt(diff) => Outgoing::Compressed {
                diff,
                content_bytes: known.content_bytes,
                media_type: gzip.to_owned(),
            },
        });
    Ok(Plan {
        manifest: None,
        format,
        layers: layers.collect(),
    })
}

fn mount_sources(image: &Image, to: &Reference) -> Vec<String> {
    let names = image
        .refs
        .iter()
        .filter_map(|name| Reference::parse(name).ok());
    let elsewhere = names.filter(|name| name.domain() == to.domain() && name.path() != to.path());
    let mut paths: Vec<String> = elsewhere.map(|name| name.path().to_owned()).collect();
    paths.dedup();
    paths.truncate(MOUNT_SOURCES_MAX);
    paths
}

impl Errand {
    /// Sends all layers, the top one told of first, as docker does; returns them bottom first.
    async fn send_layers(&self, layers: &[Outgoing]) -> Result<Vec<OutgoingLayer>> {
        let mut seen = HashSet::new();
        let each: Vec<Outgoing> = layers
            .iter()
            .rev()
            .filter(|layer| seen.insert(*layer.diff()))
            .cloned()
            .collect();
        for layer in &each {
            tell(
                &*self.progress,
                &short(layer.diff().digest()),
                Status::Preparing,
            );
        }
        let permits = Arc::new(Semaphore::new(LAYERS_AT_ONCE));
        let mut tasks = JoinSet::new();
        for layer in each {
            let (errand, permits) = (self.clone(), permits.clone());
            tasks.spawn(async move {
                let id = short(layer.diff().digest());
                let permit = match permits.clone().try_acquire_owned() {
                    Ok(permit) => Ok(permit),
                    Err(_) => {
                        tell(&*errand.progress, &id, Status::Waiting);
                        permits.acquire_owned().await
                    }
                };
                // The semaphore is never closed: an error here is the end of the service.
                let _permit = permit.map_err(|_| Error::Stopping)?;
                errand.send_layer(&id, layer).await
            });
        }
        let mut sent = HashMap::new();
        while let Some(done) = tasks.join_next().await {
            let layer = done.map_err(stopped)??;
            sent.insert(layer.diff, layer);
        }
        Ok(layers
            .iter()
            .filter_map(|layer| sent.get(layer.diff()).cloned())
            .collect())
    }

    async fn send_layer(&self, id: &str, layer: Outgoing) -> Result<OutgoingLayer> {
        match layer {
            Outgoing::Unchanged(layer) if layer.foreign => {
                tell(&*self.progress, id, Status::SkippedForeign);
                Ok(layer)
            }
            Outgoing::Unchanged(layer) => {
                let source = Unchanged::new(&self.store, &layer, id, &self.progress);
                self.send_known(id, &layer.digest, &source).await?;
                Ok(layer)
            }
            Outgoing::Compressed {
                diff,
                content_bytes,
                media_type,
            } => {
                let source = Compressed::new(&self.store, diff, content_bytes, id, &self.progress);
                match compressed_before(&diff) {
                    Some((digest, _)) => self.send_known(id, &digest, &source).await?,
                    None => self.upload(id, None, &source).await?,
                }
                let gone = || nacre_store::Error::NotFound {
                    what: "compressed layer",
                    name: diff.to_string(),
                };
                let (digest, size) = compressed_before(&diff).ok_or_else(gone)?;
                Ok(OutgoingLayer {
                    diff,
                    bytes: LayerBytes::Rebuilt(diff),
                    media_type,
                    digest,
                    size,
                    foreign: false,
                })
            }
        }
    }

    /// Sends what has a digest already: not at all if it is there, by a mount if another repository has it.
    async fn send_known(&self, id: &str, digest: &Digest, source: &dyn UploadSource) -> Result<()> {
        if self.client.has_blob(&self.to, digest).await? {
            tell(&*self.progress, id, Status::LayerAlreadyExists);
            return Ok(());
        }
        let mut begun = None;
        for from in self.mount_from.iter() {
            // A registry that will not mount takes an upload all the same.
            match self.client.mount_blob(&self.to, from, digest).await {
                Ok(Mounted::Yes) => {
                    tell(&*self.progress, id, Status::MountedFrom(from.clone()));
                    return Ok(());
                }
                Ok(Mounted::No(upload)) => {
                    begun = Some(upload);
                    break;
                }
                Err(error) => tracing::debug!(%error, from, "cannot mount a layer, it is uploaded"),
            }
        }
        self.upload(id, begun, source).await
    }

    async fn upload(
        &self,
        id: &str,
        begun: Option<Upload>,
        source: &dyn UploadSource,
    ) -> Result<()> {
        let retrying = |pause| tell(&*self.progress, id, retrying(pause));
        self.client
            .upload(&self.to, begun, source, &retrying)
            .await?;
        tell(&*self.progress, id, Status::Pushed);
        Ok(())
    }

    async fn send_config(&self, image: &Image) -> Result<()> {
        if !self.client.has_blob(&self.to, &image.id.0).await? {
            self.client
                .upload(&self.to, None, &InMemory(image.config.clone()), &|_| ())
                .await?;
        }
        Ok(())
    }
}

//! An image's layers from a registry into the store: they download, inflate and hash at once. Where one fails, the others
//! are broken off, and all have ended when the caller hears of it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use nacre_store::{ArchiveId, DiffId, Digest, Expected, Store, Unpacked};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::bridge::{blocking, feed, stopped};
use super::downloads::{Downloads, Turn, Underway};
use super::error::{Error, Result};
use super::progress::{Bar, Progress, Status, retrying, short, tell};
use crate::reference::Reference;
use crate::registry::{BlobStream, Client, Descriptor};

/// All layers of an image, the bottom one first.
pub(super) struct Layers {
    pub(super) unpacked: Vec<Unpacked>,
    /// Those that were fetched: what is told when they are applied.
    pub(super) told: Vec<Option<Step>>,
}

/// A layer that is told of when its tree stands.
pub(super) struct Step {
    pub(super) digest: Digest,
    pub(super) size: u64,
}

/// Where the layers of one pull come from and go to.
#[derive(Clone)]
pub(super) struct Errand {
    store: Store,
    client: Client,
    reference: Reference,
    progress: Arc<dyn Progress>,
    permits: Arc<Semaphore>,
    /// Shared with every other pull.
    downloads: Downloads,
    /// One layer has failed: the others need not go on.
    failed: CancellationToken,
}

impl Errand {
    pub(super) fn new(
        store: &Store,
        client: &Client,
        reference: &Reference,
        downloads: &Downloads,
        progress: Arc<dyn Progress>,
    ) -> Errand {
        Errand {
            store: store.clone(),
            client: client.clone(),
            reference: reference.clone(),
            progress,
            downloads: downloads.clone(),
            permits: Arc::new(Semaphore::new(client.layers_at_once())),
            failed: CancellationToken::new(),
        }
    }

    /// Brings all layers into the store.
    pub(super) async fn fetch_all(
        &self,
        layers: &[Descriptor],
        diffs: &[DiffId],
    ) -> Result<Layers> {
        let mut here: HashMap<Digest, Unpacked> = HashMap::new();
        let mut missing: HashSet<Digest> = HashSet::new();
        let mut fetches = Vec::new();
        for (layer, diff) in layers.iter().zip(diffs) {
            if here.contains_key(&layer.digest) || missing.contains(&layer.digest) {
                continue;
            }
            let id = short(&layer.digest);
            if let Some(unpacked) = self.present(layer, diff).await? {
                tell(&*self.progress, &id, Status::AlreadyExists);
                here.insert(layer.digest, unpacked);
                continue;
            }
            tell(&*self.progress, &id, Status::PullingFsLayer);
            missing.insert(layer.digest);
            fetches.push((layer.clone(), *diff));
        }
        // Begun only now: docker tells of all layers before the first one moves.
        let mut tasks = JoinSet::new();
        for (layer, diff) in fetches {
            let errand = self.clone();
            tasks.spawn(
                async move { Ok((layer.digest, errand.fetch_in_turn(&layer, diff).await?)) },
            );
        }
        here.extend(self.outcome(tasks).await?);
        let mut all = Layers {
            unpacked: Vec::with_capacity(layers.len()),
            told: Vec::with_capacity(layers.len()),
        };
        for (layer, diff) in layers.iter().zip(diffs) {
            let fetched = missing.remove(&layer.digest);
            all.told.push(fetched.then_some(Step {
                digest: layer.digest,
                size: layer.size,
            }));
            let unpacked = match here.remove(&layer.digest) {
                Some(unpacked) => Some(unpacked),
                // The same layer a second time in one image.
                None => self.present(layer, diff).await?,
            };
            let gone = || nacre_store::Error::NotFound {
                what: "layer",
                name: layer.digest.to_string(),
            };
            all.unpacked.push(unpacked.ok_or_else(gone)?);
        }
        Ok(all)
    }

    /// Waits for all layers; the first error is the answer.
    async fn outcome(
        &self,
        mut tasks: JoinSet<Result<(Digest, Unpacked)>>,
    ) -> Result<Vec<(Digest, Unpacked)>> {
        let mut done = Vec::new();
        let mut first = None;
        while let Some(ended) = tasks.join_next().await {
            match ended.map_err(stopped).and_then(|ended| ended) {
                Ok(layer) => done.push(layer),
                Err(error) => {
                    self.failed.cancel();
                    first.get_or_insert(error);
                }
            }
        }
        first.map_or(Ok(done), Err)
    }

    /// The layer, if it is in the store: under the archive that the manifest names, so that a push can name it again.
    async fn present(&self, layer: &Descriptor, diff: &DiffId) -> Result<Option<Unpacked>> {
        let (store, archive, diff) = (self.store.clone(), ArchiveId(layer.digest), *diff);
        let found = blocking(move || store.unpacked_by_archive(&archive)).await??;
        Ok(found.filter(|unpacked| unpacked.diff == diff))
    }

    async fn fetch_in_turn(&self, layer: &Descriptor, diff: DiffId) -> Result<Unpacked> {
        let permit = match self.permits.clone().try_acquire_owned() {
            Ok(permit) => Ok(permit),
            Err(_) => {
                tell(&*self.progress, &short(&layer.digest), Status::Waiting);
                self.permits.clone().acquire_owned().await
            }
        };
        // The semaphore is never closed: an error here is the end of the service.
        let _permit = permit.map_err(|_| Error::Stopping)?;
        // Whoever has the turn has a permit as well and is at work, so nobody waits in a circle.
        let mut turn = tokio::select! {
            turn = self.downloads.turn(&layer.digest) => turn,
            () = self.failed.cancelled() => return Err(Error::Stopping),
        };
        let unpacked = match self.present(layer, &diff).await? {
            Some(unpacked) => unpacked,
            None => self.fetch(layer, diff, &mut turn).await?,
        };
        tell(
            &*self.progress,
            &short(&layer.digest),
            Status::DownloadComplete,
        );
        Ok(unpacked)
    }

    /// Downloads one layer, or the rest of it, and unpacks it while it comes. What turns out not to be the layer is fetched
    /// once more from its first byte, if somebody else may give something better.
    async fn fetch(&self, layer: &Descriptor, diff: DiffId, turn: &mut Turn) -> Result<Unpacked> {
        let mut stream = self.client.blob(&self.reference, layer);
        loop {
            turn.take_if(|underway| underway.diff != diff);
            let begun = turn.get_or_insert_with(|| self.begin(layer, diff));
            let inherited = begun.offset > 0;
            stream.start_at(begun.offset);
            let downloaded = tokio::select! {
                downloaded = self.download(layer, &mut stream, begun) => downloaded,
                () = self.failed.cancelled() => Err(Error::Stopping),
            };
            if let Err(error) = downloaded {
                if !turn.is_awaited()
                    && let Some(Underway {
                        feed, unpacking, ..
                    }) = turn.take()
                {
                    // Waited for, so that nothing of this layer is under way when the caller hears of the error.
                    drop(feed);
                    drop(unpacking.await);
                }
                return Err(error);
            }
            let unpacked = (&mut begun.unpacking).await;
            **turn = None;
            let error = match unpacked.map_err(stopped)? {
                Ok(unpacked) => return Ok(unpacked),
                Err(error) => error,
            };
            if !is_of_content(&error) || !(stream.distrust(&error).await? || inherited) {
                return Err(Error::of_layer(&layer.digest, error));
            }
            tracing::warn!(layer = %layer.digest, %error, "a layer is fetched once more");
        }
    }

    fn begin(&self, layer: &Descriptor, diff: DiffId) -> Underway {
        let (feed, reader) = feed();
        let store = self.store.clone();
        let expected = Expected {
            archive: Some(ArchiveId(layer.digest)),
            size: Some(layer.size),
            diff: Some(diff),
        };
        let unpack = move || store.unpack(reader, &expected, &|_| ());
        Underway {
            feed,
            unpacking: tokio::task::spawn_blocking(unpack),
            diff,
            offset: 0,
        }
    }

    /// Feeds a layer's bytes to the store, until it has them or has refused them. May be dropped at any time: `begun` then
    /// says how far it came.
    async fn download(
        &self,
        layer: &Descriptor,
        stream: &mut BlobStream<'_>,
        begun: &mut Underway,
    ) -> Result<()> {
        let id = short(&layer.digest);
        let bar = Bar::new(&*self.progress, &id, layer.size, Status::Downloading);
        bar.add(begun.offset);
        let mut told = |pause| tell(&*self.progress, &id, retrying(pause));
        while let Some(chunk) = stream.chunk(&mut told).await? {
            let bytes = chunk.len() as u64;
            if !begun.feed.send(chunk).await {
                // The store has refused what came so far, and says why itself.
                return Ok(());
            }
            begun.offset = begun.offset.saturating_add(bytes);
            bar.add(bytes);
        }
        tell(&*self.progress, &id, Status::VerifyingChecksum);
        begun.feed.end().await;
        Ok(())
    }
}

/// Whether an archive was refused for its bytes.
fn is_of_content(error: &nacre_store::Error) -> bool {
    matches!(
        error,
        nacre_store::Error::Archive(_)
            | nacre_store::Error::DigestMismatch { .. }
            | nacre_store::Error::SizeMismatch { .. }
    )
}

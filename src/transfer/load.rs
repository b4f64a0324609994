//! docker's and OCI's archives into the store. All images of an archive are checked before the first becomes visible.

use std::io::Read;
use std::rc::Rc;

use nacre_store::{DiffId, Digest, ImageId, ManifestId, NewImage, RefUpdate, Store, Unpacked};
use serde::Deserialize;

use super::error::{Error, Result};
use super::image_config::ImageConfig;
use super::incoming::{self, Incoming};
use super::index::{Candidate, Parsed, candidates};
use super::progress::Progress;
use super::pull::check_count;
use crate::reference::Reference;
use crate::registry::{Descriptor, Platform};

/// Images of one archive.
const IMAGES_MAX: usize = 10_000;
/// Names of one image.
const NAMES_MAX: usize = 1000;

/// An image that was loaded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Loaded {
    /// Which.
    pub image: ImageId,
    /// What the archive calls it.
    pub names: Vec<Reference>,
    /// What those names meant before, where that was another image.
    pub replaced: Vec<(Reference, ImageId)>,
}

impl Loaded {
    /// docker's lines about it.
    pub fn lines(&self) -> Vec<String> {
        let renamed = self.replaced.iter().map(|(name, old)| {
            let name = name.familiar();
            format!("The image {name} already exists, renaming the old one with ID {old} to empty string")
        });
        let mut lines: Vec<String> = renamed.collect();
        lines.extend(
            self.names
                .iter()
                .map(|name| format!("Loaded image: {}", name.familiar())),
        );
        if self.names.is_empty() {
            lines.push(format!("Loaded image ID: {}", self.image));
        }
        lines
    }
}

/// `manifest.json` (docker-archive).
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

/// An image of the archive, found and complete. Its documents are the archive's own: thousands of images may share one.
struct Ready<'a> {
    config: &'a [u8],
    manifest: Option<Rc<Parsed>>,
    named: Option<ManifestId>,
    layers: Vec<Unpacked>,
    /// The layers' files in the archive.
    files: Vec<String>,
    names: Vec<Reference>,
}

/// Takes in all images of an archive. Blocks, and reads it from its first byte to its last.
pub fn load(
    store: &Store,
    archive: impl Read,
    platform: Option<&Platform>,
    progress: &dyn Progress,
) -> Result<Vec<Loaded>> {
    let incoming = incoming::read(store, archive, progress)?;
    let document = |digest: &Digest| Ok(incoming.blob(digest).map(<[u8]>::to_vec));
    let layout = incoming
        .document("index.json")
        .map(|index| candidates(index, &document, platform));
    let ready = match (incoming.document("manifest.json"), layout) {
        // Where both are there, docker's says the names; the layout has the manifests that keep the digests.
        (Some(items), layout) => from_docker(
            store,
            &incoming,
            items,
            layout.and_then(Result::ok).unwrap_or_default(),
        )?,
        (None, Some(found)) => found?
            .into_iter()
            .map(|found| from_layout(store, &incoming, found))
            .collect::<Result<_>>()?,
        (None, None) => {
            return Err(Error::NotAnImage(
                "it has neither a manifest.json nor an index.json".to_owned(),
            ));
        }
    };
    if ready.is_empty() {
        return Err(Error::NotAnImage("it has no image".to_owned()));
    }
    ready
        .into_iter()
        .map(|ready| publish(store, ready))
        .collect()
}

fn from_docker<'a>(
    store: &Store,
    incoming: &'a Incoming,
    items: &[u8],
    mut layout: Vec<Candidate>,
) -> Result<Vec<Ready<'a>>> {
    let items: Vec<Item> = serde_json::from_slice(items)
        .map_err(|error| Error::NotAnImage(format!("manifest.json: {error}")))?;
    if items.len() > IMAGES_MAX {
        return Err(Error::NotAnImage(format!(
            "it has more than {IMAGES_MAX} images"
        )));
    }
    let mut ready = Vec::new();
    for item in items {
        let config = incoming.document(&item.config);
        let config = config.ok_or_else(|| {
            Error::NotAnImage(format!("it names {}, which is not in it", item.config))
        })?;
        let parsed = ImageConfig::parse(&item.config, config)?;
        parsed.check_platform(&item.config, None)?;
        let paths = item.layers.unwrap_or_default();
        if paths.len() != parsed.diffs.len() {
            let what = format!(
                "it names {} layers, manifest.json {}",
                parsed.diffs.len(),
                paths.len()
            );
            return Err(Error::Config {
                name: item.config,
                what,
            });
        }
        let layers = paths
            .iter()
            .zip(&parsed.diffs)
            .map(|(path, diff)| incoming.layer(store, path, diff));
        let layers = layers.collect::<Result<Vec<Unpacked>>>()?;
        let names = names(item.repo_tags.unwrap_or_default())?;
        let same = layout
            .iter()
            .position(|candidate| is_manifest_of(candidate, config, &layers));
        let found = same.map(|index| layout.swap_remove(index));
        let named = found.as_ref().map(|found| found.named);
        ready.push(Ready {
            config,
            manifest: found.map(|found| found.manifest),
            named,
            layers,
            files: paths,
            names,
        });
    }
    Ok(ready)
}

/// Whether a manifest of the layout speaks of just this configuration and these archives.
fn is_manifest_of(candidate: &Candidate, config: &[u8], layers: &[Unpacked]) -> bool {
    let image = &candidate.manifest.image;
    let named = image.layers.iter().map(|layer| &layer.digest);
    image.config.digest == Digest::of(config)
        && named.eq(layers.iter().map(|layer| layer.archive.digest()))
}

fn names(tags: Vec<String>) -> Result<Vec<Reference>> {
    if tags.len() > NAMES_MAX {
        return Err(Error::NotAnImage(format!(
            "an image with more than {NAMES_MAX} names"
        )));
    }
    let parse = |tag: &String| match Reference::parse(tag) {
        Ok(name) => Ok(name.or_latest()),
        Err(error) => Err(Error::NotAnImage(format!("invalid tag {tag:?}: {error}"))),
    };
    tags.iter().map(parse).collect()
}

fn from_layout<'a>(store: &Store, incoming: &'a Incoming, found: Candidate) -> Result<Ready<'a>> {
    let name = found.shown();
    let image = &found.manifest.image;
    let config = incoming.blob(&image.config.digest);
    let config = config
        .ok_or_else(|| Error::NotAnImage(format!("the configuration of {name} is not in it")))?;
    let parsed = ImageConfig::parse(&name, config)?;
    parsed.check_platform(&name, None)?;
    check_count(&name, &parsed.diffs, &image.layers)?;
    let file = |layer: &Descriptor| format!("blobs/sha256/{}", layer.digest.hex());
    let files: Vec<String> = image.layers.iter().map(file).collect();
    let layers = files.iter().zip(&parsed.diffs);
    let layers = layers
        .map(|(file, diff)| incoming.layer(store, file, diff))
        .collect::<Result<_>>()?;
    let names = found.reference().into_iter().collect();
    Ok(Ready {
        config,
        manifest: Some(found.manifest),
        named: Some(found.named),
        layers,
        files,
        names,
    })
}

fn publish(store: &Store, ready: Ready<'_>) -> Result<Loaded> {
    let image = ImageId(Digest::of(ready.config));
    let mut replaced = Vec::new();
    let mut refs = Vec::new();
    for name in &ready.names {
        if let Some(old) = store
            .resolve(&name.to_string())?
            .filter(|old| *old != image)
        {
            replaced.push((name.clone(), old));
        }
        refs.push(RefUpdate {
            name: name.to_string(),
        });
        if let Some(named) = &ready.named {
            refs.push(RefUpdate {
                name: name.with_digest(named.0).to_string(),
            });
        }
    }
    let diffs: Vec<DiffId> = ready.layers.iter().map(|layer| layer.diff).collect();
    let new = NewImage {
        config: ready.config.to_vec(),
        manifest: ready.manifest.map(|found| found.raw.clone()),
        layers: ready.layers,
        refs,
        parent: None,
    };
    let to_blame = |error: &nacre_store::Error| match error {
        nacre_store::Error::Refused { layer, .. } => {
            let at = diffs.iter().position(|diff| Some(diff) == layer.as_ref())?;
            ready.files.get(at)
        }
        _ => None,
    };
    let image = store
        .publish(new, &|_| ())
        .map_err(|error| match to_blame(&error) {
            Some(file) => Error::within(file, error),
            None => error.into(),
        })?;
    Ok(Loaded {
        image,
        names: ready.names,
        replaced,
    })
}

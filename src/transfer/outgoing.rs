//! Which manifest and which blobs an image goes out with: what it came with, byte for byte, where all of that is still to
//! be had; else a manifest of our own. Never compresses by itself.

use std::collections::BTreeMap;
use std::io::Read;

use nacre_store::{ArchiveId, DiffId, Digest, Image, ImageId, RawManifest, Store};
use serde::Serialize;

use super::error::Result;
use crate::registry::{ImageManifest, Manifest, media};

/// How far up the images that an image was committed from are asked for their format.
const ANCESTORS_MAX: usize = 128;

/// Where a layer's bytes come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum LayerBytes {
    /// The archive as it was received.
    Received(ArchiveId),
    /// The uncompressed tar, rebuilt.
    Rebuilt(DiffId),
}

/// A layer with everything that a manifest says of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct OutgoingLayer {
    pub(super) diff: DiffId,
    pub(super) bytes: LayerBytes,
    pub(super) media_type: String,
    pub(super) digest: Digest,
    pub(super) size: u64,
    /// Its publisher forbids to upload it.
    pub(super) foreign: bool,
}

/// Which family of media types a manifest speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Format {
    Docker,
    Oci,
}

/// The manifest that an image came with and all its layers, if each of them can be given out unchanged.
pub(super) fn original(
    store: &Store,
    image: &Image,
) -> Result<Option<(RawManifest, ImageManifest, Vec<OutgoingLayer>)>> {
    let Some(id) = &image.manifest else {
        return Ok(None);
    };
    let Some(raw) = store.manifest(id)? else {
        return Ok(None);
    };
    let Ok(Manifest::Image(manifest)) = Manifest::parse(&raw) else {
        return Ok(None);
    };
    let same_image =
        ImageId(manifest.config.digest) == image.id && manifest.layers.len() == image.layers.len();
    if !same_image {
        return Ok(None);
    }
    let mut layers = Vec::new();
    for (named, layer) in manifest.layers.iter().zip(&image.layers) {
        let Some(bytes) = bytes_of(store, &named.digest, &layer.diff)? else {
            return Ok(None);
        };
        layers.push(OutgoingLayer {
            diff: layer.diff,
            bytes,
            media_type: named.media_type.clone(),
            digest: named.digest,
            size: named.size,
            foreign: named.is_foreign(),
        });
    }
    Ok(Some((raw, manifest, layers)))
}

/// Where the bytes with this digest are, if they are.
fn bytes_of(store: &Store, archive: &Digest, diff: &DiffId) -> Result<Option<LayerBytes>> {
    if archive == diff.digest() {
        return Ok(Some(LayerBytes::Rebuilt(*diff)));
    }
    let id = ArchiveId(*archive);
    Ok(store.archive(&id)?.map(|_| LayerBytes::Received(id)))
}

/// The layers of an image as they can be given out without compressing anything: as received, else as plain tars.
pub(super) fn plain_layers(
    store: &Store,
    image: &Image,
    format: Format,
) -> Result<Vec<OutgoingLayer>> {
    let mut layers = Vec::new();
    for layer in &image.layers {
        let received = match layer.archive {
            Some((id, size)) if id.0 != layer.diff.0 => kept(store, id, size, layer.diff, format)?,
            _ => None,
        };
        let layer = match received {
            Some(received) => received,
            None => OutgoingLayer {
                diff: layer.diff,
                bytes: LayerBytes::Rebuilt(layer.diff),
                media_type: media::OCI_LAYER.to_owned(),
                digest: layer.diff.0,
                size: tar_size(store, layer)?,
                foreign: false,
            },
        };
        layers.push(layer);
    }
    Ok(layers)
}

/// A layer whose archive is kept, its type read off its first bytes.
fn kept(
    store: &Store,
    id: ArchiveId,
    size: u64,
    diff: DiffId,
    format: Format,
) -> Result<Option<OutgoingLayer>> {
    let Some(file) = store.archive(&id)? else {
        return Ok(None);
    };
    let mut magic = Vec::new();
    let failed = |source| nacre_store::Error::Input {
        what: "layer archive",
        source,
    };
    file.take(4).read_to_end(&mut magic).map_err(failed)?;
    let media_type = match (magic.as_slice(), format) {
        ([0x1f, 0x8b, ..], Format::Docker) => media::DOCKER_LAYER_GZIP.to_owned(),
        ([0x1f, 0x8b, ..], Format::Oci) => media::OCI_LAYER_GZIP.to_owned(),
        // docker's own types know no zstd; every reader of OCI's does.
        _ => format!("{}+zstd", media::OCI_LAYER),
    };
    let (bytes, digest) = (LayerBytes::Received(id), id.0);
    Ok(Some(OutgoingLayer {
        diff,
        bytes,
        media_type,
        digest,
        size,
        foreign: false,
    }))
}

/// The length of a layer's tar: known if it came as one, else counted by rebuilding it.
fn tar_size(store: &Store, layer: &nacre_store::LayerInfo) -> Result<u64> {
    if let Some((_, size)) = layer.archive.filter(|(id, _)| id.0 == layer.diff.0) {
        return Ok(size);
    }
    let failed = |source| nacre_store::Error::Input {
        what: "layer",
        source,
    };
    Ok(std::io::copy(&mut store.tar(&layer.diff)?, &mut std::io::sink()).map_err(failed)?)
}

/// The format of the image that an image was committed from, at last docker's.
pub(super) fn format_of(store: &Store, image: &Image) -> Result<Format> {
    let mut current = image.clone();
    for _ in 0..ANCESTORS_MAX {
        if let Some(id) = &current.manifest
            && let Some(raw) = store.manifest(id)?
        {
            let is_oci = matches!(
                raw.media_type.as_str(),
                media::OCI_MANIFEST | media::OCI_INDEX
            );
            return Ok(if is_oci { Format::Oci } else { Format::Docker });
        }
        let parent = match &current.parent {
            Some(parent) => store.image(parent)?,
            None => None,
        };
        match parent {
            Some(parent) => current = parent,
            None => break,
        }
    }
    Ok(Format::Docker)
}

/// Writes a manifest. The same image gives the same bytes.
pub(super) fn build(config: &[u8], layers: &[OutgoingLayer], format: Format) -> RawManifest {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Wire<'a> {
        schema_version: u32,
        media_type: &'a str,
        config: WireDescriptor<'a>,
        layers: Vec<WireDescriptor<'a>>,
    }
    // One layer that docker's types cannot name makes the whole an OCI image.
    let format = match layers
        .iter()
        .all(|layer| layer.media_type == media::DOCKER_LAYER_GZIP)
    {
        true => format,
        false => Format::Oci,
    };
    let (own, config_type) = match format {
        Format::Docker => (media::DOCKER_MANIFEST, media::DOCKER_CONFIG),
        Format::Oci => (media::OCI_MANIFEST, media::OCI_CONFIG),
    };
    let layer_type = |layer: &'_ OutgoingLayer| match (format, layer.media_type.as_str()) {
        (Format::Oci, media::DOCKER_LAYER_GZIP) => media::OCI_LAYER_GZIP.to_owned(),
        (_, other) => other.to_owned(),
    };
    let layers = layers.iter().map(|layer| WireDescriptor {
        media_type: layer_type(layer).into(),
        digest: layer.digest.to_string(),
        size: layer.size,
        annotations: None,
    });
    let wire = Wire {
        schema_version: 2,
        media_type: own,
        config: WireDescriptor {
            media_type: config_type.into(),
            digest: Digest::of(config).to_string(),
            size: config.len() as u64,
            annotations: None,
        },
        layers: layers.collect(),
    };
    RawManifest {
        media_type: own.to_owned(),
        bytes: json(&wire),
    }
}

/// A descriptor, as JSON.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WireDescriptor<'a> {
    pub(super) media_type: std::borrow::Cow<'a, str>,
    pub(super) digest: String,
    pub(super) size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) annotations: Option<BTreeMap<&'a str, String>>,
}

/// Serialises what cannot fail to serialise: our own structs of strings and numbers.
pub(super) fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value)
        .unwrap_or_else(|error| unreachable!("plain data became no JSON: {error}"))
}

//! Images as one archive, in one pass: an OCI layout with docker's `manifest.json` and `repositories` beside it, as docker
//! writes it since version 25. Layers go out as they came in, so that every digest stays.
//!
//! ```text
//! blobs/sha256/HEX   configurations, layers, manifests
//! index.json         OCI's way in
//! manifest.json      docker's way in
//! oci-layout         OCI's version
//! repositories       docker's oldest way in
//! ```

use std::collections::{BTreeMap, HashSet};
use std::io::{self, Read, Write};

use nacre_store::archive::{Entry, EntryKind, Writer};
use nacre_store::{Digest, FileName, Image, ImageId, RawManifest, Store, Time};
use serde::Serialize;

use super::error::{Error, Result};
use super::index::{NAME_COMPLETE, NAME_WITHIN};
use super::outgoing::{self, Format, LayerBytes, OutgoingLayer, WireDescriptor, json};
use crate::reference::Reference;
use crate::registry::media;

/// An image to be saved, under these names.
#[derive(Clone, Debug)]
pub struct ToSave {
    /// Which.
    pub image: ImageId,
    /// With tags; none to save it by its ID alone.
    pub names: Vec<Reference>,
}

/// An image with all that is written of it.
struct Planned {
    image: Image,
    names: Vec<Reference>,
    manifest: RawManifest,
    layers: Vec<OutgoingLayer>,
}

/// An item of docker's `manifest.json`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// OCI's `index.json`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Index<'a> {
    schema_version: u32,
    media_type: &'a str,
    manifests: Vec<WireDescriptor<'a>>,
}

/// Writes an archive of images. Blocks. Nothing is written before all images are known to be whole.
pub fn save(store: &Store, images: &[ToSave], out: impl Write) -> Result<()> {
    let planned = images
        .iter()
        .map(|image| plan(store, image))
        .collect::<Result<Vec<_>>>()?;
    let mut archive = Out {
        writer: Writer::new(out),
        written: HashSet::new(),
    };
    for image in &planned {
        archive.blob(
            &image.image.id.0,
            image.image.config.len() as u64,
            image.image.config.as_slice(),
        )?;
        for layer in &image.layers {
            if !archive.written.contains(&layer.digest) {
                archive.blob(&layer.digest, layer.size, open(store, layer)?)?;
            }
        }
        let manifest = &image.manifest.bytes;
        archive.blob(
            &Digest::of(manifest),
            manifest.len() as u64,
            manifest.as_slice(),
        )?;
    }
    archive.document("index.json", &json(&index(&planned)))?;
    archive.document(
        "manifest.json",
        &json(&planned.iter().map(item).collect::<Vec<_>>()),
    )?;
    archive.document("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    archive.document("repositories", &json(&repositories(&planned)))?;
    archive
        .writer
        .finish()
        .map_err(Error::Output)?
        .flush()
        .map_err(Error::Write)
}

fn plan(store: &Store, wanted: &ToSave) -> Result<Planned> {
    let image = store
        .image(&wanted.image)?
        .ok_or_else(|| Error::NoSuchImage(wanted.image.to_string()))?;
    let (manifest, layers) = match outgoing::original(store, &image)? {
        Some((raw, _, layers)) => (raw, layers),
        None => {
            let layers = outgoing::plain_layers(store, &image, Format::Oci)?;
            (outgoing::build(&image.config, &layers, Format::Oci), layers)
        }
    };
    Ok(Planned {
        image,
        names: wanted.names.clone(),
        manifest,
        layers,
    })
}

/// The bytes of a layer as they are written.
pub(super) fn open(store: &Store, layer: &OutgoingLayer) -> Result<Box<dyn Read + Send>> {
    match layer.bytes {
        LayerBytes::Rebuilt(diff) => Ok(store.tar(&diff)?),
        LayerBytes::Received(archive) => match store.archive(&archive)? {
            Some(file) => Ok(Box::new(file)),
            None => Err(nacre_store::Error::NotFound {
                what: "layer archive",
                name: archive.to_string(),
            }
            .into()),
        },
    }
}

fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn index(planned: &[Planned]) -> Index<'_> {
    let mut manifests = Vec::new();
    for image in planned {
        let descriptor = |name: Option<&Reference>| WireDescriptor {
            media_type: image.manifest.media_type.as_str().into(),
            digest: Digest::of(&image.manifest.bytes).to_string(),
            size: image.manifest.bytes.len() as u64,
            annotations: name.map(|name| {
                let tag = name.tag().unwrap_or_default().to_owned();
                BTreeMap::from([(NAME_COMPLETE, name.to_string()), (NAME_WITHIN, tag)])
            }),
        };
        match image.names.as_slice() {
            [] => manifests.push(descriptor(None)),
            names => manifests.extend(names.iter().map(|name| descriptor(Some(name)))),
        }
    }
    Index {
        schema_version: 2,
        media_type: media::OCI_INDEX,
        manifests,
    }
}

fn item(image: &Planned) -> Item {
    let tags: Vec<String> = image.names.iter().map(Reference::familiar).collect();
    Item {
        config: blob_path(&image.image.id.0),
        repo_tags: (!tags.is_empty()).then_some(tags),
        layers: image
            .layers
            .iter()
            .map(|layer| blob_path(&layer.digest))
            .collect(),
    }
}

/// Repository → tag → top layer.
fn repositories(planned: &[Planned]) -> BTreeMap<String, BTreeMap<String, String>> {
    let mut all: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for image in planned {
        let top = image
            .layers
            .last()
            .map(|layer| layer.digest.hex())
            .unwrap_or_default();
        for name in &image.names {
            let tag = name.tag().unwrap_or_default().to_owned();
            all.entry(name.familiar_repository())
                .or_default()
                .insert(tag, top.clone());
        }
    }
    all
}

/// The archive being written.
struct Out<W: Write> {
    writer: Writer<W>,
    /// Blobs that several images share are written once.
    written: HashSet<Digest>,
}

impl<W: Write> Out<W> {
    fn blob(&mut self, digest: &Digest, size: u64, content: impl Read) -> Result<()> {
        if self.written.insert(*digest) {
            self.file(
                &blob_path(digest),
                size,
                Verified {
                    content,
                    left: size,
                    digest: *digest,
                    hash: Default::default(),
                },
            )?;
        }
        Ok(())
    }

    fn document(&mut self, path: &str, content: &[u8]) -> Result<()> {
        self.file(path, content.len() as u64, content)
    }

    fn file(&mut self, path: &str, size: u64, content: impl Read) -> Result<()> {
        let names = path
            .split('/')
            .map(|name| FileName::new(name.as_bytes()))
            .collect::<std::result::Result<_, _>>();
        let entry = Entry {
            path: names.map_err(|error| Error::NotAnImage(format!("{path}: {error}")))?,
            kind: EntryKind::File {
                size,
                extents: None,
            },
            mode: 0o644,
            uid: 0,
            gid: 0,
            // The same images give the same archive, whenever it is written.
            mtime: Time::default(),
            xattrs: BTreeMap::new(),
        };
        self.writer.append(&entry, content).map_err(Error::Output)
    }
}

/// Content on its way out, checked against the name that it is written under: damage on disk must not leave the store.
struct Verified<R> {
    content: R,
    left: u64,
    digest: Digest,
    hash: sha2::Sha256,
}

impl<R: Read> Read for Verified<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.content.read(buf)?;
        sha2::Digest::update(&mut self.hash, buf.get(..count).unwrap_or_default());
        let before = self.left;
        self.left = before.saturating_sub(count as u64);
        // Checked with the last byte: whoever knows the size does not read once more.
        if before > 0 && self.left == 0 && Digest::finish(self.hash.clone()) != self.digest {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("blob {} is damaged in the store", self.digest),
            ));
        }
        Ok(count)
    }
}

//! What an OCI layout's index names (image-spec, image-layout.md): which images, under which names. Never opens a file.

use nacre_store::{Digest, ManifestId, RawManifest};

use super::error::{Error, Result};
use crate::reference::Reference;
use crate::registry::{Descriptor, ImageManifest, InvalidManifest, Manifest, Platform};

/// How deep indexes are followed; real ones are at most two deep.
const DEPTH_MAX: u32 = 4;
/// The complete name, as containerd and docker write it.
pub(super) const NAME_COMPLETE: &str = "io.containerd.image.name";
/// The name within the layout: a tag, or a name.
pub(super) const NAME_WITHIN: &str = "org.opencontainers.image.ref.name";

/// One image of a layout.
pub(super) struct Candidate {
    /// The manifest as it is.
    pub(super) raw: RawManifest,
    /// What it says.
    pub(super) image: ImageManifest,
    /// The digest that the index names: of the manifest, or of an index on the way to it.
    pub(super) named: ManifestId,
    /// The complete name, if the index has it.
    pub(super) complete: Option<String>,
    /// The name within the layout.
    pub(super) within: Option<String>,
}

impl Candidate {
    /// How errors call it.
    pub(super) fn shown(&self) -> String {
        self.complete
            .clone()
            .or_else(|| self.within.clone())
            .unwrap_or_else(|| self.named.to_string())
    }

    /// The complete reference that the index itself gives; a bare tag is none.
    pub(super) fn reference(&self) -> Option<Reference> {
        let complete = self.complete.as_deref();
        let within = self
            .within
            .as_deref()
            .filter(|name| name.contains([':', '/']));
        complete
            .or(within)
            .and_then(|name| Reference::parse(name).ok())
            .map(Reference::or_latest)
    }
}

/// Fetches a small document of the layout by its digest, verified; none where it is not there.
pub(super) type Document<'a> = &'a dyn Fn(&Digest) -> Result<Option<Vec<u8>>>;

/// Finds all images that the index names, for `platform` (the host's by default) where it has a choice.
pub(super) fn candidates(
    index: &[u8],
    document: Document<'_>,
    platform: Option<&Platform>,
) -> Result<Vec<Candidate>> {
    let raw = RawManifest {
        media_type: String::new(),
        bytes: index.to_vec(),
    };
    let invalid = |source| Error::Manifest {
        name: "index.json".to_owned(),
        source,
    };
    let Manifest::Index(entries) = Manifest::parse(&raw).map_err(invalid)? else {
        return Err(invalid(InvalidManifest::Syntax(
            "it has no manifests".to_owned(),
        )));
    };
    let mut found = Vec::new();
    for entry in entries.iter().filter(|entry| !entry.is_attestation()) {
        let Some((raw, image)) = follow(entry, document, platform, 0)? else {
            continue;
        };
        let note = |key: &str| {
            entry
                .annotations
                .get(key)
                .filter(|name| !name.is_empty())
                .cloned()
        };
        let named = ManifestId(entry.digest);
        found.push(Candidate {
            raw,
            image,
            named,
            complete: note(NAME_COMPLETE),
            within: note(NAME_WITHIN),
        });
    }
    Ok(found)
}

/// Follows one entry to an image; none where it leads to something else than an image.
fn follow(
    entry: &Descriptor,
    document: Document<'_>,
    platform: Option<&Platform>,
    depth: u32,
) -> Result<Option<(RawManifest, ImageManifest)>> {
    let invalid = |source| Error::Manifest {
        name: entry.digest.to_string(),
        source,
    };
    if depth > DEPTH_MAX {
        return Err(invalid(InvalidManifest::TooMany {
            what: "indexes within indexes",
            limit: DEPTH_MAX as usize,
        }));
    }
    let bytes = document(&entry.digest)?.ok_or_else(|| {
        Error::NotAnImage(format!(
            "it names manifest {}, which is not in it",
            entry.digest
        ))
    })?;
    let mut raw = RawManifest {
        media_type: entry.media_type.clone(),
        bytes,
    };
    let manifest = match Manifest::parse(&raw) {
        // Signatures, charts and the like may lie beside images.
        Err(InvalidManifest::MediaType(_)) => return Ok(None),
        other => other.map_err(invalid)?,
    };
    raw.media_type = manifest.media_type(&raw).to_owned();
    let entries = match manifest {
        Manifest::Image(image) => return Ok(Some((raw, image))),
        Manifest::Index(entries) => entries,
    };
    // An archive need not hold the images of all platforms: what is not there cannot be meant.
    let mut present = Vec::new();
    for inner in entries {
        if document(&inner.digest)?.is_some() {
            present.push(inner);
        }
    }
    let host = Platform::host();
    let picked = match (
        Descriptor::select(&present, platform.unwrap_or(&host)),
        platform,
        present.as_slice(),
    ) {
        (Ok(picked), ..) => picked,
        // The only one there is, and nobody asked for another.
        (Err(_), None, [only]) => only,
        (Err(error), ..) => return Err(invalid(error)),
    };
    follow(picked, document, platform, depth + 1)
}

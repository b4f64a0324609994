//! What an OCI layout's index names (image-spec, image-layout.md): which images, under which names. Never opens a file.

use std::collections::HashMap;
use std::rc::Rc;

use nacre_store::{Digest, ManifestId, RawManifest};

use super::error::{Error, Result};
use crate::reference::Reference;
use crate::registry::{Descriptor, ImageManifest, InvalidManifest, Manifest, Platform, media};

/// How deep indexes are followed; real ones are at most two deep.
const DEPTH_MAX: u32 = 4;
/// The complete name, as containerd and docker write it.
pub(super) const NAME_COMPLETE: &str = "io.containerd.image.name";
/// The name within the layout: a tag, or a name.
pub(super) const NAME_WITHIN: &str = "org.opencontainers.image.ref.name";

/// An image's manifest.
pub(super) struct Parsed {
    /// As it is.
    pub(super) raw: RawManifest,
    /// What it says.
    pub(super) image: ImageManifest,
}

/// One image of a layout.
pub(super) struct Candidate {
    /// The manifest; an image of many names has but one.
    pub(super) manifest: Rc<Parsed>,
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
    let mut walk = Walk {
        document,
        platform,
        present: HashMap::new(),
        ends: HashMap::new(),
    };
    let mut found = Vec::new();
    for entry in entries.iter().filter(|entry| !entry.is_attestation()) {
        let Some(manifest) = walk.follow(entry, 0)? else {
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
            manifest,
            named,
            complete: note(NAME_COMPLETE),
            within: note(NAME_WITHIN),
        });
    }
    Ok(found)
}

/// A walk through a layout. A stranger's index may name one document thousands of times: each is looked for once, and
/// followed once as each of the types that have a meaning.
struct Walk<'a> {
    document: Document<'a>,
    platform: Option<&'a Platform>,
    /// Whether a document is there.
    present: HashMap<Digest, bool>,
    /// Where a document leads to.
    ends: HashMap<(Digest, &'static str), Option<Rc<Parsed>>>,
}

impl Walk<'_> {
    /// Follows one entry to an image; none where it leads to something else than an image.
    fn follow(&mut self, entry: &Descriptor, depth: u32) -> Result<Option<Rc<Parsed>>> {
        let key = (entry.digest, meaning(&entry.media_type));
        if let Some(known) = self.ends.get(&key) {
            return Ok(known.clone());
        }
        let end = self.follow_new(entry, depth)?;
        self.ends.insert(key, end.clone());
        Ok(end)
    }

    fn follow_new(&mut self, entry: &Descriptor, depth: u32) -> Result<Option<Rc<Parsed>>> {
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
        let bytes = (self.document)(&entry.digest)?.ok_or_else(|| {
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
        match manifest {
            Manifest::Image(image) => Ok(Some(Rc::new(Parsed { raw, image }))),
            Manifest::Index(entries) => {
                let picked = self.pick(entries)?.map_err(invalid)?;
                self.follow(&picked, depth + 1)
            }
        }
    }

    /// An archive need not hold the images of all platforms: what is not there cannot be meant.
    fn pick(
        &mut self,
        entries: Vec<Descriptor>,
    ) -> Result<std::result::Result<Descriptor, InvalidManifest>> {
        let mut present = Vec::new();
        for inner in entries {
            if self.is_present(&inner.digest)? {
                present.push(inner);
            }
        }
        let host = Platform::host();
        let picked = Descriptor::select(&present, self.platform.unwrap_or(&host));
        Ok(match (picked, self.platform, present.as_slice()) {
            (Ok(picked), ..) => Ok(picked.clone()),
            // The only one there is, and nobody asked for another.
            (Err(_), None, [only]) => Ok(only.clone()),
            (Err(error), ..) => Err(error),
        })
    }

    fn is_present(&mut self, digest: &Digest) -> Result<bool> {
        if let Some(known) = self.present.get(digest) {
            return Ok(*known);
        }
        let present = (self.document)(digest)?.is_some();
        self.present.insert(*digest, present);
        Ok(present)
    }
}

/// The type as far as [`Manifest::parse`] tells types apart; it refuses the old ones, and so does the whole walk.
fn meaning(media_type: &str) -> &'static str {
    let known = [
        media::DOCKER_MANIFEST,
        media::DOCKER_LIST,
        media::OCI_MANIFEST,
        media::OCI_INDEX,
    ];
    let found = known.into_iter().find(|known| *known == media_type);
    found.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use std::cell::Cell;

    use super::*;

    const ENTRIES: usize = 4096;

    fn index_of(digests: impl Iterator<Item = (String, Digest)>) -> Vec<u8> {
        let entries: Vec<_> = digests
            .map(|(kind, digest)| serde_json::json!({"mediaType": kind, "digest": digest.to_string(), "size": 3}))
            .collect();
        serde_json::to_vec(&serde_json::json!({"schemaVersion": 2, "manifests": entries})).unwrap()
    }

    /// An index of 4096 entries that all name one index, whose entries all name one image: seventeen million otherwise.
    #[test]
    fn a_document_that_is_named_thousands_of_times_is_read_a_few_times() {
        let digest = Digest::of(b"x").to_string();
        let image = serde_json::json!({
            "schemaVersion": 2,
            "config": {"mediaType": media::OCI_CONFIG, "digest": digest, "size": 1},
            "layers": [],
        });
        let image = serde_json::to_vec(&image).unwrap();
        let image_digest = Digest::of(&image);
        let inner = index_of((0..ENTRIES).map(|_| (String::new(), image_digest)));
        let inner_digest = Digest::of(&inner);
        // Of many types, none of which means anything.
        let outer = index_of((0..ENTRIES).map(|n| (format!("text/x-{n}"), inner_digest)));
        let reads = Cell::new(0);
        let document = |digest: &Digest| {
            reads.set(reads.get() + 1);
            let all = [(image_digest, &image), (inner_digest, &inner)];
            let found = all.into_iter().find(|(known, _)| known == digest);
            Ok(found.map(|(_, bytes)| bytes.clone()))
        };
        let found = candidates(&outer, &document, None).unwrap();
        assert_eq!(found.len(), ENTRIES);
        assert!(reads.get() <= 4, "{} reads", reads.get());
        let shared = found
            .iter()
            .all(|one| Rc::ptr_eq(&one.manifest, &found[0].manifest));
        assert!(shared, "each name holds a copy of the manifest");
        assert_eq!(found[0].named, ManifestId(inner_digest));
        assert_eq!(found[0].manifest.raw.bytes, image);
    }
}

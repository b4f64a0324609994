//! Doors for tests/fuzz: the documents of images and layouts.

use std::collections::HashMap;

use nacre_store::Digest;

use super::image_config::ImageConfig;
use super::index::candidates;

/// Reads a configuration as a pull does; returns how many layers it names.
pub fn image(bytes: &[u8]) -> Option<usize> {
    let config = ImageConfig::parse("fuzz", bytes).ok()?;
    // Refused or not, both are right.
    drop(config.check_platform("fuzz", None));
    Some(config.diffs.len())
}

/// Finds the images of a layout whose index is `index` and whose other documents are `documents`, by their digests.
pub fn layout(index: &[u8], documents: &[&[u8]]) -> usize {
    let all: HashMap<Digest, &[u8]> = documents.iter().map(|d| (Digest::of(d), *d)).collect();
    let document = |digest: &Digest| Ok(all.get(digest).map(|bytes| bytes.to_vec()));
    let Ok(found) = candidates(index, &document, None) else {
        return 0;
    };
    for candidate in &found {
        assert!(!candidate.shown().is_empty(), "an image without a name");
        drop(candidate.reference());
    }
    found.len()
}

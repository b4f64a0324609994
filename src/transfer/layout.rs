//! An OCI layout in a directory, into the store. Makes file names of digests only, never of what the layout says.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use nacre_store::{
    ArchiveId, DiffId, Digest, Expected, ImageId, NewImage, RefUpdate, Store, Unpacked,
};
use parking_lot::Mutex;

use super::CONFIG_BYTES_MAX;
use super::error::{Error, Result};
use super::fetch::Step;
use super::image_config::ImageConfig;
use super::index::{Candidate, candidates};
use super::progress::{Bar, Progress, Status, short, tell};
use super::pull::{Applying, Pulled, check_count};
use crate::reference::Reference;
use crate::registry::{Descriptor, MANIFEST_BYTES_MAX, Platform};

/// Layers unpacked at once; inflating keeps a processor busy.
const LAYERS_AT_ONCE: usize = 3;

/// Takes an image out of a layout. `wanted` is its name within the layout; without one there must be one image, or one
/// that is called `latest`. Blocks.
pub fn pull_oci_layout(
    store: &Store,
    dir: &Path,
    wanted: Option<&str>,
    platform: Option<&Platform>,
    progress: &dyn Progress,
) -> Result<Pulled> {
    let index = read_file(&dir.join("index.json"), MANIFEST_BYTES_MAX as u64)?
        .ok_or_else(|| not_there(dir.join("index.json")))?;
    let document = |digest: &Digest| read_blob(dir, digest, MANIFEST_BYTES_MAX as u64);
    let found = choose(dir, candidates(&index, &document, platform)?, wanted)?;
    let name = found.shown();
    let config = read_blob(
        dir,
        &found.manifest.image.config.digest,
        CONFIG_BYTES_MAX as u64,
    )?
    .ok_or_else(|| not_there(blob_path(dir, &found.manifest.image.config.digest)))?;
    let parsed = ImageConfig::parse(&name, &config)?;
    parsed.check_platform(&name, platform)?;
    check_count(&name, &parsed.diffs, &found.manifest.image.layers)?;

    let reference = found
        .reference()
        .or_else(|| named_after(dir, found.within.as_deref()));
    let image = ImageId(found.manifest.image.config.digest);
    let before = match &reference {
        Some(reference) => store.resolve(&reference.to_string())?,
        None => store.image(&image)?.map(|known| known.id),
    };
    let layers = unpack_all(
        store,
        dir,
        &found.manifest.image.layers,
        &parsed.diffs,
        progress,
    )?;
    let told = layers.iter().zip(&found.manifest.image.layers);
    let told = told
        .map(|((_, fetched), l)| {
            fetched.then_some(Step {
                digest: l.digest,
                size: l.size,
            })
        })
        .collect();
    let refs = reference
        .iter()
        .flat_map(|name| [name.clone(), name.with_digest(*found.named.digest())]);
    let new = NewImage {
        config,
        manifest: Some(found.manifest.raw.clone()),
        layers: layers.into_iter().map(|(unpacked, _)| unpacked).collect(),
        refs: refs
            .map(|name| RefUpdate {
                name: name.to_string(),
            })
            .collect(),
        parent: None,
    };
    let applying = Applying::new(progress, told);
    store.publish(new, &|index| applying.applied(index))?;
    applying.all_applied();
    Ok(Pulled {
        reference,
        image,
        digest: found.named,
        updated: before != Some(image),
    })
}

/// Finds the one image that is meant.
fn choose(dir: &Path, mut found: Vec<Candidate>, wanted: Option<&str>) -> Result<Candidate> {
    let names: Vec<String> = found.iter().map(Candidate::shown).collect();
    let is_called = |candidate: &Candidate, name: &str| {
        [&candidate.within, &candidate.complete]
            .into_iter()
            .flatten()
            .any(|known| known == name)
    };
    let position = match wanted {
        Some(wanted) => found
            .iter()
            .position(|candidate| is_called(candidate, wanted)),
        None if found.len() == 1 => Some(0),
        None => found
            .iter()
            .position(|candidate| is_called(candidate, "latest")),
    };
    if let Some(position) = position {
        return Ok(found.swap_remove(position));
    }
    let missing = wanted.map_or_else(
        || "it does not say which image is meant".to_owned(),
        |w| format!("no image {w:?}"),
    );
    let known = if names.is_empty() {
        "it is empty".to_owned()
    } else {
        format!("it has {}", names.join(", "))
    };
    Err(Error::NotAnImage(format!(
        "OCI layout {}: {missing}; {known}",
        dir.display()
    )))
}

/// A layout that knows tags only is named after its directory.
fn named_after(dir: &Path, tag: Option<&str>) -> Option<Reference> {
    let whole = dir.canonicalize().ok()?;
    let base = whole.file_name()?.to_str()?.to_lowercase();
    Reference::parse(&base)
        .ok()?
        .name_only()
        .with_tag(tag.unwrap_or(crate::reference::DEFAULT_TAG))
        .ok()
}

/// Brings all layers in, a few at once; says of each whether it was new.
fn unpack_all(
    store: &Store,
    dir: &Path,
    layers: &[Descriptor],
    diffs: &[DiffId],
    progress: &dyn Progress,
) -> Result<Vec<(Unpacked, bool)>> {
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, (Unpacked, bool))>> = Mutex::default();
    let failed: Mutex<Option<Error>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..LAYERS_AT_ONCE.min(layers.len()) {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let (Some(layer), Some(diff)) = (layers.get(index), diffs.get(index)) else {
                        return;
                    };
                    if failed.lock().is_some() {
                        return;
                    }
                    match unpack(store, dir, layer, *diff, progress) {
                        Ok(unpacked) => done.lock().push((index, unpacked)),
                        Err(error) => {
                            failed.lock().get_or_insert(error);
                        }
                    }
                }
            });
        }
    });
    if let Some(error) = failed.into_inner() {
        return Err(error);
    }
    let mut done = done.into_inner();
    done.sort_by_key(|(index, _)| *index);
    Ok(done.into_iter().map(|(_, unpacked)| unpacked).collect())
}

fn unpack(
    store: &Store,
    dir: &Path,
    layer: &Descriptor,
    diff: DiffId,
    progress: &dyn Progress,
) -> Result<(Unpacked, bool)> {
    let id = short(&layer.digest);
    let archive = ArchiveId(layer.digest);
    if let Some(unpacked) = store
        .unpacked_by_archive(&archive)?
        .filter(|unpacked| unpacked.diff == diff)
    {
        tell(progress, &id, Status::AlreadyExists);
        return Ok((unpacked, false));
    }
    tell(progress, &id, Status::PullingFsLayer);
    let path = blob_path(dir, &layer.digest);
    let file = File::open(&path).map_err(|source| Error::File { path, source })?;
    let expected = Expected {
        archive: Some(archive),
        size: Some(layer.size),
        diff: Some(diff),
    };
    let bar = Bar::new(progress, &id, layer.size, Status::Extracting);
    let unpacked = store
        .unpack(file, &expected, &|bytes| bar.add(bytes))
        .map_err(|error| Error::of_layer(&layer.digest, error))?;
    Ok((unpacked, true))
}

fn blob_path(dir: &Path, digest: &Digest) -> PathBuf {
    dir.join("blobs/sha256").join(digest.hex())
}

fn not_there(path: PathBuf) -> Error {
    Error::File {
        path,
        source: io::ErrorKind::NotFound.into(),
    }
}

/// Reads a small blob, verified; none where it is not there.
fn read_blob(dir: &Path, digest: &Digest, limit: u64) -> Result<Option<Vec<u8>>> {
    let Some(content) = read_file(&blob_path(dir, digest), limit)? else {
        return Ok(None);
    };
    let actual = Digest::of(&content);
    if actual != *digest {
        return Err(nacre_store::Error::DigestMismatch {
            what: "blob",
            expected: *digest,
            actual,
        }
        .into());
    }
    Ok(Some(content))
}

/// Reads a small file; none where it is not there.
fn read_file(path: &Path, limit: u64) -> Result<Option<Vec<u8>>> {
    let failed = |source| Error::File {
        path: path.to_owned(),
        source,
    };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut content = Vec::new();
    file.take(limit.saturating_add(1))
        .read_to_end(&mut content)
        .map_err(failed)?;
    if content.len() as u64 > limit {
        return Err(failed(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("more than {limit} bytes"),
        )));
    }
    Ok(Some(content))
}

//! The entries of an image archive, in any order, from a pipe: layers are unpacked as they pass, documents are kept,
//! because what an entry is may be said only by the last one. While a layer goes to disk the next is read.
//! Never seeks, never writes a file.

use std::collections::HashMap;
use std::io::{self, Read};
use std::sync::Arc;
use std::thread::ScopedJoinHandle;

use nacre_store::archive::{self, ArchiveError, EntryKind, Limits, Reader};
use nacre_store::{ArchiveId, Arrived, DiffId, Digest, Expected, FileName, Store, Unpacked};

use super::error::{Error, Result};
use super::progress::{Bar, Progress, Status};

/// Bytes of one document: a manifest or a configuration is not larger.
const DOCUMENT_BYTES_MAX: u64 = 4 << 20;
/// Bytes of all documents of one archive, which are held in memory: thousands of images have less.
const DOCUMENTS_BYTES_MAX: u64 = 64 << 20;
/// Entries of one archive: an image has some three a layer.
const ENTRIES_MAX: u64 = 200_000;
/// Bytes of an archive, inflated: no more than that nothing is endless.
const ARCHIVE_BYTES_MAX: u64 = 1 << 44;
/// How often a link is followed: docker's archives link once.
const LINKS_MAX: usize = 8;
/// Bytes that pass a reader at once where nobody wants them.
const SKIP_BYTES: usize = 64 << 10;

/// A path within the archive, its components joined by slashes.
type EntryPath = String;

/// What an archive held.
pub(super) struct Incoming {
    documents: HashMap<EntryPath, Vec<u8>>,
    layers: HashMap<EntryPath, Layer>,
    links: HashMap<EntryPath, EntryPath>,
}

/// What became of a file that may be a layer.
enum Layer {
    /// It is in the store now; held until the images are published.
    Unpacked(Unpacked),
    /// It was there before, by the digest that its name claims: its content was not looked at.
    Known(Unpacked),
    /// It is none. That matters only if an image names it.
    Refused(Arc<nacre_store::Error>),
}

/// Reads an archive to its end: plain, or compressed as a whole.
pub(super) fn read(store: &Store, archive: impl Read, progress: &dyn Progress) -> Result<Incoming> {
    let limits = Limits {
        layer_bytes_max: ARCHIVE_BYTES_MAX,
        entries_max: ENTRIES_MAX,
        ..Limits::default()
    };
    let plain = archive::inflate(archive, &limits).map_err(Error::Archive)?;
    let mut reader = Reader::new(plain, io::sink(), limits);
    let mut incoming = Incoming {
        documents: HashMap::new(),
        layers: HashMap::new(),
        links: HashMap::new(),
    };
    let mut held = 0;
    std::thread::scope(|scope| {
        let mut settling: Option<Settling<'_>> = None;
        while let Some(entry) = reader.next_entry().map_err(Error::Archive)? {
            let Some(path) = joined(&entry.path) else {
                continue;
            };
            match &entry.kind {
                EntryKind::File {
                    size,
                    extents: None,
                } => {
                    let arrived =
                        incoming.file(store, &path, *size, &mut reader, &mut held, progress)?;
                    if let Some(arrived) = arrived {
                        // One at a time: the disk is no quicker for two.
                        incoming.settled(settling.take())?;
                        settling = Some((path, scope.spawn(move || arrived.settle())));
                    }
                }
                EntryKind::Symlink(target) => incoming.link(path, &entry.path, target),
                EntryKind::HardLink(target) => {
                    if let Some(target) = joined(target) {
                        incoming.links.insert(path, target);
                    }
                }
                _ => {}
            }
        }
        incoming.settled(settling)
    })?;
    Ok(incoming)
}

/// A layer that goes to disk, under its path.
type Settling<'scope> = (
    EntryPath,
    ScopedJoinHandle<'scope, nacre_store::Result<Unpacked>>,
);

fn joined(path: &[FileName]) -> Option<EntryPath> {
    let parts: Option<Vec<&str>> = path
        .iter()
        .map(|part| std::str::from_utf8(part.as_bytes()).ok())
        .collect();
    parts
        .map(|parts| parts.join("/"))
        .filter(|path| !path.is_empty())
}

impl Incoming {
    /// A document, by its path in the archive.
    pub(super) fn document(&self, path: &str) -> Option<&[u8]> {
        self.documents.get(self.follow(path)).map(Vec::as_slice)
    }

    /// A document of the OCI layout, verified when it came in.
    pub(super) fn blob(&self, digest: &Digest) -> Option<&[u8]> {
        self.document(&format!("blobs/sha256/{}", digest.hex()))
    }

    /// The layer that a path holds, which must be the one with this DiffID.
    pub(super) fn layer(&self, store: &Store, path: &str, diff: &DiffId) -> Result<Unpacked> {
        let path = self.follow(path);
        let mismatch = |actual: Digest| {
            let error = nacre_store::Error::DigestMismatch {
                what: "layer",
                expected: diff.0,
                actual,
            };
            Error::within(path, error)
        };
        match self.layers.get(path) {
            Some(Layer::Unpacked(layer) | Layer::Known(layer)) if layer.diff != *diff => {
                Err(mismatch(layer.diff.0))
            }
            // Its archive is asked for first: an image is pushed with the archive that it came with.
            Some(Layer::Unpacked(layer) | Layer::Known(layer)) => {
                let found = match store.unpacked_by_archive(&layer.archive)? {
                    Some(found) => Some(found),
                    None => store.unpacked_by_diff(diff)?,
                };
                let gone = || nacre_store::Error::NotFound {
                    what: "layer",
                    name: diff.to_string(),
                };
                Ok(found.ok_or_else(gone)?)
            }
            Some(Layer::Refused(error)) => Err(Error::within(path, Arc::clone(error))),
            None => match store.unpacked_by_diff(diff)? {
                // An archive may leave out what its reader is known to have.
                Some(layer) => Ok(layer),
                None => Err(Error::NotAnImage(format!(
                    "it names layer {path}, which is not in it"
                ))),
            },
        }
    }

    fn follow<'a>(&'a self, path: &'a str) -> &'a str {
        let mut path = path.trim_start_matches("./");
        for _ in 0..LINKS_MAX {
            match self.links.get(path) {
                Some(target) => path = target,
                None => break,
            }
        }
        path
    }

    /// Remembers a symbolic link to another entry; one that leads out of the archive leads nowhere.
    fn link(&mut self, path: EntryPath, at: &[FileName], target: &[u8]) {
        let Ok(target) = std::str::from_utf8(target) else {
            return;
        };
        let names = at
            .iter()
            .map(|name| String::from_utf8_lossy(name.as_bytes()).into_owned());
        let mut parts: Vec<String> = names.collect();
        parts.pop();
        for part in target.split('/') {
            match part {
                "" | "." => {}
                ".." => {
                    parts.pop();
                }
                part => parts.push(part.to_owned()),
            }
        }
        self.links.insert(path, parts.join("/"));
    }

    /// Waits for a layer that goes to disk.
    fn settled(&mut self, settling: Option<Settling<'_>>) -> Result<()> {
        let Some((path, settling)) = settling else {
            return Ok(());
        };
        let settled = settling.join();
        let unpacked = settled.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        self.layers.insert(path, Layer::Unpacked(unpacked));
        Ok(())
    }

    /// Takes in one file: a document if it is one, else a layer, which is returned if it was not here.
    fn file<R: Read>(
        &mut self,
        store: &Store,
        path: &str,
        size: u64,
        reader: &mut Reader<R, io::Sink>,
        held: &mut u64,
        progress: &dyn Progress,
    ) -> Result<Option<Arrived>> {
        let mut content = Content(reader);
        let mut start = Vec::new();
        if size <= DOCUMENT_BYTES_MAX {
            let mut first = [0; 1];
            let read = content
                .read(&mut first)
                .map_err(|error| carried(path, error))?;
            start.extend_from_slice(first.get(..read).unwrap_or_default());
            // A tar begins with a name, compressed data with its magic: neither is JSON beyond its first byte.
            if matches!(start.as_slice(), [b'{' | b'[']) {
                let read = content.read_to_end(&mut start);
                read.map_err(|error| carried(path, error))?;
                if serde_json::from_slice::<serde::de::IgnoredAny>(&start).is_ok() {
                    self.keep(path, start, held)?;
                    return Ok(None);
                }
            }
        }
        if !may_be_layer(path) {
            skip(path, &mut content)?;
            return Ok(None);
        }
        if let Some(known) = known(store, path)? {
            self.layers.insert(path.to_owned(), Layer::Known(known));
            skip(path, &mut content)?;
            return Ok(None);
        }
        let bar = Bar::new(progress, &shown(path), size, Status::LoadingLayer);
        let expected = Expected {
            archive: claimed(path).map(ArchiveId),
            size: Some(size),
            diff: None,
        };
        let read = start.as_slice().chain(&mut content);
        let arrived = match store.arrive(read, &expected, &|bytes| bar.add(bytes)) {
            Ok(arrived) => Some(arrived),
            // The pipe's failure is this archive's; only a layer's own damage may wait for an image that names it.
            Err(nacre_store::Error::Input { source, .. }) => return Err(carried(path, source)),
            Err(
                error @ (nacre_store::Error::Archive(_)
                | nacre_store::Error::DigestMismatch { .. }
                | nacre_store::Error::SizeMismatch { .. }),
            ) => {
                let refused = Layer::Refused(Arc::new(error));
                self.layers.insert(path.to_owned(), refused);
                None
            }
            Err(error) => return Err(error.into()),
        };
        skip(path, &mut content)?;
        Ok(arrived)
    }

    fn keep(&mut self, path: &str, content: Vec<u8>, held: &mut u64) -> Result<()> {
        *held = held.saturating_add(content.len() as u64);
        if *held > DOCUMENTS_BYTES_MAX {
            return Err(Error::NotAnImage(format!(
                "its documents are larger than {DOCUMENTS_BYTES_MAX} bytes"
            )));
        }
        if let Some(expected) = claimed(path) {
            let actual = Digest::of(&content);
            if actual != expected {
                let error = nacre_store::Error::DigestMismatch {
                    what: "blob",
                    expected,
                    actual,
                };
                return Err(Error::within(path, error));
            }
        }
        self.documents.insert(path.to_owned(), content);
        Ok(())
    }
}

/// The digest that a file of an OCI layout must have.
fn claimed(path: &str) -> Option<Digest> {
    path.strip_prefix("blobs/sha256/")
        .and_then(|hex| Digest::from_hex(hex).ok())
}

/// The files that archives keep layers in: blobs, `ID/layer.tar`, `DIFF.tar`.
fn may_be_layer(path: &str) -> bool {
    let by_ending = [".tar", ".tar.gz", ".tgz", ".tar.zst"]
        .iter()
        .any(|ending| path.ends_with(ending));
    claimed(path).is_some() || by_ending
}

/// The layer that a name claims to be, if the store has it. Nothing is taken on trust: an image gets it only where its
/// own configuration asks for that very DiffID.
fn known(store: &Store, path: &str) -> Result<Option<Unpacked>> {
    if let Some(digest) = claimed(path) {
        return Ok(store.unpacked_by_archive(&ArchiveId(digest))?);
    }
    match path
        .strip_suffix(".tar")
        .and_then(|hex| Digest::from_hex(hex).ok())
    {
        Some(digest) => Ok(store.unpacked_by_diff(&DiffId(digest))?),
        None => Ok(None),
    }
}

/// The first 12 digits of what a path names.
fn shown(path: &str) -> String {
    let name = path
        .trim_end_matches("/layer.tar")
        .rsplit('/')
        .next()
        .unwrap_or_default();
    name.chars().take(12).collect()
}

fn skip(path: &str, content: &mut impl Read) -> Result<()> {
    let mut buf = [0; SKIP_BYTES];
    while content
        .read(&mut buf)
        .map_err(|error| carried(path, error))?
        > 0
    {}
    Ok(())
}

/// The content of the entry that a reader stands at.
struct Content<'a, R: Read>(&'a mut Reader<R, io::Sink>);

impl<R: Read> Read for Content<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read_content(buf).map_err(io::Error::other)
    }
}

/// Takes the archive's error out of the I/O error that carried it, while a file of the archive was read.
fn carried(path: &str, error: io::Error) -> Error {
    match error.downcast::<ArchiveError>() {
        // It names the file itself.
        Ok(error @ ArchiveError::Truncated { .. }) => Error::Archive(error),
        Ok(error) => Error::within(path, nacre_store::Error::Archive(error)),
        Err(error) => Error::NotAnImage(format!("{path}: {error}")),
    }
}

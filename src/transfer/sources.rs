//! Where the bytes of a layer come from when they go out: an archive as received, a tar rebuilt, or a tar rebuilt and
//! compressed on the way. Each can be read again from the start, because an upload can break.

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::{Arc, LazyLock};

use flate2::write::GzEncoder;
use nacre_store::{DiffId, Digest, Store};
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};

use super::bridge::stream_of;
use super::outgoing::OutgoingLayer;
use super::progress::{Bar, Progress, Status};
use super::save;
use crate::registry::{UploadBody, UploadSource};

/// What gzip and docker use; higher levels cost twice the time for a hundredth of the size.
const GZIP_LEVEL: u32 = 6;
/// Bytes that move at once.
const COPY_BYTES: usize = 128 << 10;
/// How many results of compressing are remembered: a digest and a number each.
const MEMO_MAX: usize = 10_000;

/// What our compression makes of a layer. It depends on the layer and on this program alone, so it may be remembered
/// for the process's life, and asked before compressing again. Rank: a leaf.
static COMPRESSED: LazyLock<Mutex<HashMap<DiffId, (Digest, u64)>>> = LazyLock::new(Mutex::default);

/// Returns digest and size of a layer that was compressed before.
pub(super) fn compressed_before(diff: &DiffId) -> Option<(Digest, u64)> {
    COMPRESSED.lock().get(diff).copied()
}

/// Tells of bytes on their way, from any thread.
#[derive(Clone)]
struct Meter {
    progress: Arc<dyn Progress>,
    id: String,
    total: u64,
}

impl Meter {
    fn bar(&self) -> Bar<'_> {
        Bar::new(&*self.progress, &self.id, self.total, Status::Pushing)
    }
}

/// A layer as it is.
pub(super) struct Unchanged {
    store: Store,
    layer: OutgoingLayer,
    meter: Meter,
}

impl Unchanged {
    pub(super) fn new(
        store: &Store,
        layer: &OutgoingLayer,
        id: &str,
        progress: &Arc<dyn Progress>,
    ) -> Unchanged {
        let meter = Meter {
            progress: progress.clone(),
            id: id.to_owned(),
            total: layer.size,
        };
        Unchanged {
            store: store.clone(),
            layer: layer.clone(),
            meter,
        }
    }
}

impl UploadSource for Unchanged {
    fn name(&self) -> String {
        format!("layer {}", self.layer.digest)
    }

    fn size(&self) -> Option<u64> {
        Some(self.layer.size)
    }

    fn open(&self) -> io::Result<UploadBody> {
        let mut content = save::open(&self.store, &self.layer).map_err(io::Error::other)?;
        let meter = self.meter.clone();
        Ok(stream_of(move |out| {
            let bar = meter.bar();
            copy(&mut content, &mut |part| {
                bar.add(part.len() as u64);
                out.write_all(part)
            })
        }))
    }

    fn digest(&self) -> Option<Digest> {
        Some(self.layer.digest)
    }
}

/// Bytes that are in memory: a configuration.
pub(super) struct InMemory(pub(super) Vec<u8>);

impl UploadSource for InMemory {
    fn name(&self) -> String {
        "image configuration".to_owned()
    }

    fn size(&self) -> Option<u64> {
        Some(self.0.len() as u64)
    }

    fn open(&self) -> io::Result<UploadBody> {
        let content = bytes::Bytes::from(self.0.clone());
        Ok(Box::pin(futures_util::stream::once(
            async move { Ok(content) },
        )))
    }

    fn digest(&self) -> Option<Digest> {
        Some(Digest::of(&self.0))
    }
}

/// A layer that is compressed while it goes out.
pub(super) struct Compressed {
    store: Store,
    diff: DiffId,
    meter: Meter,
}

impl Compressed {
    /// `content_bytes` is what the bar goes up to: how long the tar will be is not known.
    pub(super) fn new(
        store: &Store,
        diff: DiffId,
        content_bytes: u64,
        id: &str,
        progress: &Arc<dyn Progress>,
    ) -> Compressed {
        let meter = Meter {
            progress: progress.clone(),
            id: id.to_owned(),
            total: content_bytes,
        };
        Compressed {
            store: store.clone(),
            diff,
            meter,
        }
    }
}

impl UploadSource for Compressed {
    fn name(&self) -> String {
        format!("layer {}", self.diff)
    }

    fn size(&self) -> Option<u64> {
        compressed_before(&self.diff).map(|(_, size)| size)
    }

    fn open(&self) -> io::Result<UploadBody> {
        let mut tar = self.store.tar(&self.diff).map_err(io::Error::other)?;
        let (diff, meter) = (self.diff, self.meter.clone());
        Ok(stream_of(move |out| {
            let bar = meter.bar();
            // No name and no time in its header: the same tar gives the same bytes.
            let hashed = Hashed {
                out,
                hash: Sha256::new(),
                bytes: 0,
            };
            let mut gzip = GzEncoder::new(hashed, flate2::Compression::new(GZIP_LEVEL));
            copy(&mut tar, &mut |part| {
                bar.add(part.len() as u64);
                gzip.write_all(part)
            })?;
            let Hashed { hash, bytes, .. } = gzip.finish()?;
            remember(diff, Digest::finish(hash), bytes);
            Ok(())
        }))
    }

    fn digest(&self) -> Option<Digest> {
        compressed_before(&self.diff).map(|(digest, _)| digest)
    }
}

fn remember(diff: DiffId, digest: Digest, bytes: u64) {
    let mut known = COMPRESSED.lock();
    if known.len() >= MEMO_MAX {
        known.clear();
    }
    known.insert(diff, (digest, bytes));
}

fn copy(from: &mut impl io::Read, to: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut buf = vec![0; COPY_BYTES];
    loop {
        match from.read(&mut buf) {
            Ok(0) => return Ok(()),
            Ok(count) => to(buf.get(..count).unwrap_or_default())?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Hashes and counts what passes.
struct Hashed<'a> {
    out: &'a mut dyn Write,
    hash: Sha256,
    bytes: u64,
}

impl Write for Hashed<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let count = self.out.write(buf)?;
        let part = buf.get(..count).unwrap_or_default();
        self.hash.update(part);
        self.bytes = self.bytes.saturating_add(part.len() as u64);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

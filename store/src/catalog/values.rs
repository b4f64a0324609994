//! The values of the catalog and their bytes. Knows no keys.

use crate::codec::{Decoder, Encoder};
use crate::numbers::RecordNo;
use crate::{ArchiveId, ChainId, DiffId, Digest, ImageId, LayerNo, ManifestId, RawManifest};

/// An applied layer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct LayerHead {
    pub(crate) no: LayerNo,
    pub(crate) diff: DiffId,
    pub(crate) parent: Option<ChainId>,
    pub(crate) content_bytes: u64,
}

/// An archive as received that a record was made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ReceivedArchive {
    pub(crate) id: ArchiveId,
    pub(crate) bytes: u64,
    /// Whether its file was kept.
    pub(crate) kept: bool,
}

/// A layer archive taken apart: where its parts are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct RecordHead {
    pub(crate) no: RecordNo,
    pub(crate) content_bytes: u64,
    pub(crate) tar_bytes: u64,
    pub(crate) entries: u64,
    /// Whiteouts and opaque marks among the entries.
    pub(crate) marks: u64,
    pub(crate) entry_chunks: u32,
    pub(crate) header_chunks: u32,
    pub(crate) archives: Vec<ReceivedArchive>,
}

/// One layer of an image, bottom first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ImageLayer {
    pub(crate) diff: DiffId,
    pub(crate) archive: Option<(ArchiveId, u64)>,
    pub(crate) content_bytes: u64,
}

/// An image.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ImageRecord {
    pub(crate) config: Vec<u8>,
    pub(crate) layers: Vec<ImageLayer>,
    /// Every manifest that it came with, the last first.
    pub(crate) manifests: Vec<ManifestId>,
    pub(crate) parent: Option<ImageId>,
    pub(crate) tagged_at: i64,
}

impl ImageRecord {
    /// The chains of the layers, bottom first.
    pub(crate) fn chains(&self) -> Vec<ChainId> {
        let mut chain = None;
        self.layers
            .iter()
            .map(|layer| {
                let next = ChainId::extend(chain.as_ref(), &layer.diff);
                chain = Some(next);
                next
            })
            .collect()
    }
}

/// Writes a digest that may be missing.
pub(super) fn encode_optional(out: &mut Encoder, digest: Option<&Digest>) {
    match digest {
        None => out.byte(0),
        Some(digest) => out.byte(1).digest(digest),
    };
}

fn decode_optional(input: &mut Decoder<'_>) -> Option<Option<Digest>> {
    match input.byte()? {
        0 => Some(None),
        1 => input.digest().map(Some),
        _ => None,
    }
}

impl LayerHead {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new();
        out.uint(self.no.0.into()).digest(&self.diff.0);
        encode_optional(&mut out, self.parent.as_ref().map(|p| &p.0));
        out.uint(self.content_bytes).finish()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<LayerHead> {
        let mut input = Decoder::new(bytes)?;
        let no = LayerNo(input.u32()?);
        let diff = DiffId(input.digest()?);
        let parent = decode_optional(&mut input)?.map(ChainId);
        let content_bytes = input.uint()?;
        input.end()?;
        Some(LayerHead {
            no,
            diff,
            parent,
            content_bytes,
        })
    }
}

impl RecordHead {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new();
        out.uint(self.no.0)
            .uint(self.content_bytes)
            .uint(self.tar_bytes)
            .uint(self.entries)
            .uint(self.marks);
        out.uint(self.entry_chunks.into())
            .uint(self.header_chunks.into())
            .uint(self.archives.len() as u64);
        for archive in &self.archives {
            out.digest(&archive.id.0)
                .uint(archive.bytes)
                .byte(archive.kept.into());
        }
        out.finish()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<RecordHead> {
        let mut input = Decoder::new(bytes)?;
        let no = RecordNo(input.uint()?);
        let (content_bytes, tar_bytes) = (input.uint()?, input.uint()?);
        let (entries, marks) = (input.uint()?, input.uint()?);
        let (entry_chunks, header_chunks) = (input.u32()?, input.u32()?);
        let mut archives = Vec::new();
        for _ in 0..input.count()? {
            let id = ArchiveId(input.digest()?);
            archives.push(ReceivedArchive {
                id,
                bytes: input.uint()?,
                kept: input.byte()? == 1,
            });
        }
        input.end()?;
        Some(RecordHead {
            no,
            content_bytes,
            tar_bytes,
            entries,
            marks,
            entry_chunks,
            header_chunks,
            archives,
        })
    }
}

impl ImageRecord {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new();
        out.bytes(&self.config).uint(self.layers.len() as u64);
        for layer in &self.layers {
            out.digest(&layer.diff.0).uint(layer.content_bytes);
            encode_optional(&mut out, layer.archive.as_ref().map(|(id, _)| &id.0));
            if let Some((_, bytes)) = layer.archive {
                out.uint(bytes);
            }
        }
        out.uint(self.manifests.len() as u64);
        for manifest in &self.manifests {
            out.digest(&manifest.0);
        }
        encode_optional(&mut out, self.parent.as_ref().map(|p| &p.0));
        out.int(self.tagged_at).finish()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<ImageRecord> {
        let mut input = Decoder::new(bytes)?;
        let config = input.bytes()?.to_vec();
        let mut layers = Vec::new();
        for _ in 0..input.count()? {
            let (diff, content_bytes) = (DiffId(input.digest()?), input.uint()?);
            let archive = match decode_optional(&mut input)? {
                None => None,
                Some(id) => Some((ArchiveId(id), input.uint()?)),
            };
            layers.push(ImageLayer {
                diff,
                archive,
                content_bytes,
            });
        }
        let mut manifests = Vec::new();
        for _ in 0..input.count()? {
            manifests.push(ManifestId(input.digest()?));
        }
        let parent = decode_optional(&mut input)?.map(ImageId);
        let tagged_at = input.int()?;
        input.end()?;
        Some(ImageRecord {
            config,
            layers,
            manifests,
            parent,
            tagged_at,
        })
    }
}

/// Reads a manifest's record.
pub(super) fn decode_manifest(bytes: &[u8]) -> Option<RawManifest> {
    let mut input = Decoder::new(bytes)?;
    let media_type = input.string()?;
    Some(RawManifest {
        media_type,
        bytes: input.rest().to_vec(),
    })
}

/// Reads what an upper is on.
pub(super) fn decode_upper(bytes: &[u8]) -> Option<Option<ChainId>> {
    let mut input = Decoder::new(bytes)?;
    let base = decode_optional(&mut input)?.map(ChainId);
    input.end()?;
    Some(base)
}

#[cfg(test)]
mod tests;

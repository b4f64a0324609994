//! The catalog: layers, records, images, names, manifests, documents and uppers, each under its typed key. Knows
//! their bytes, not their rules.

mod values;

use crate::codec::Encoder;
use crate::db::{Batch, Db, Durability, Family};
use crate::numbers::RecordNo;
use crate::{
    ArchiveId, ChainId, DiffId, Digest, DocumentKind, Error, ImageId, LayerNo, ManifestId,
    RawManifest, Result, UpperId,
};

pub(crate) use values::{ImageLayer, ImageRecord, LayerHead, ReceivedArchive, RecordHead};
use values::{decode_manifest, decode_upper, encode_optional};

/// What is not (or no longer) part of the store though its keys may be there: to be deleted at the next chance.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Doomed {
    /// Versions of a layer.
    Layer(LayerNo),
    /// Parts of a record, and what of its pack nobody holds.
    Record(RecordNo),
    /// Overrides and data files of an upper.
    Upper(UpperId),
}

const LAYER: u8 = b'l';
const RECORD: u8 = b'r';
const ARCHIVE: u8 = b'a';
const IMAGE: u8 = b'i';
const NAME: u8 = b'n';
const MANIFEST: u8 = b'm';
const DOCUMENT: u8 = b'd';
const UPPER: u8 = b'u';
const DOOMED: u8 = b'x';

fn key(tag: u8, rest: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(1 + rest.len());
    key.push(tag);
    key.extend_from_slice(rest);
    key
}

fn encode_doomed(doomed: Doomed) -> Vec<u8> {
    let (kind, number) = match doomed {
        Doomed::Layer(no) => (b'l', u64::from(no.0)),
        Doomed::Record(no) => (b'r', no.0),
        Doomed::Upper(id) => (b'u', u64::from(id.0)),
    };
    let mut out = vec![DOOMED, kind];
    out.extend_from_slice(&number.to_be_bytes());
    out
}

fn decode_doomed(key: &[u8]) -> Option<Doomed> {
    let [DOOMED, kind, number @ ..] = key else {
        return None;
    };
    let number = u64::from_be_bytes(number.try_into().ok()?);
    Some(match kind {
        b'l' => Doomed::Layer(LayerNo(number.try_into().ok()?)),
        b'r' => Doomed::Record(RecordNo(number)),
        b'u' => Doomed::Upper(UpperId(number.try_into().ok()?)),
        _ => return None,
    })
}

/// A digest that ends a key.
fn digest_of_key(key: &[u8]) -> Option<Digest> {
    Some(Digest::from_bytes(key.get(1..)?.try_into().ok()?))
}

/// Typed reads of the catalog.
impl Db {
    fn entry<T>(
        &self,
        tag: u8,
        id: &[u8],
        what: &'static str,
        decode: impl FnOnce(&[u8]) -> Option<T>,
    ) -> Result<Option<T>> {
        match self.with(Family::Catalog, &key(tag, id), decode)? {
            None => Ok(None),
            Some(Some(value)) => Ok(Some(value)),
            Some(None) => Err(Error::corrupt(
                what,
                String::from_utf8_lossy(id).escape_debug(),
            )),
        }
    }

    fn entries<T>(
        &self,
        tag: u8,
        what: &'static str,
        decode: impl Fn(&[u8], &[u8]) -> Option<T>,
    ) -> Result<Vec<T>> {
        let mut scan = self.scan(Family::Catalog, &[tag])?;
        let mut all = Vec::new();
        while let Some((key, value)) = scan.next()? {
            all.push(decode(key, value).ok_or_else(|| Error::corrupt(what, key.escape_ascii()))?);
        }
        Ok(all)
    }

    pub(crate) fn layer(&self, chain: &ChainId) -> Result<Option<LayerHead>> {
        self.entry(LAYER, chain.0.as_bytes(), "layer", LayerHead::decode)
    }

    pub(crate) fn layers(&self) -> Result<Vec<(ChainId, LayerHead)>> {
        self.entries(LAYER, "layer", |k, v| {
            Some((ChainId(digest_of_key(k)?), LayerHead::decode(v)?))
        })
    }

    pub(crate) fn record(&self, diff: &DiffId) -> Result<Option<RecordHead>> {
        self.entry(
            RECORD,
            diff.0.as_bytes(),
            "layer record",
            RecordHead::decode,
        )
    }

    pub(crate) fn records(&self) -> Result<Vec<(DiffId, RecordHead)>> {
        self.entries(RECORD, "layer record", |k, v| {
            Some((DiffId(digest_of_key(k)?), RecordHead::decode(v)?))
        })
    }

    pub(crate) fn diff_of_archive(&self, archive: &ArchiveId) -> Result<Option<DiffId>> {
        let decode = |bytes: &[u8]| Some(DiffId(Digest::from_bytes(bytes.try_into().ok()?)));
        self.entry(ARCHIVE, archive.0.as_bytes(), "archive index", decode)
    }

    pub(crate) fn archive_index(&self) -> Result<Vec<(ArchiveId, DiffId)>> {
        self.entries(ARCHIVE, "archive index", |k, v| {
            Some((
                ArchiveId(digest_of_key(k)?),
                DiffId(Digest::from_bytes(v.try_into().ok()?)),
            ))
        })
    }

    pub(crate) fn image_record(&self, image: &ImageId) -> Result<Option<ImageRecord>> {
        self.entry(IMAGE, image.0.as_bytes(), "image", ImageRecord::decode)
    }

    pub(crate) fn image_records(&self) -> Result<Vec<(ImageId, ImageRecord)>> {
        self.entries(IMAGE, "image", |k, v| {
            Some((ImageId(digest_of_key(k)?), ImageRecord::decode(v)?))
        })
    }

    pub(crate) fn name(&self, name: &str) -> Result<Option<ImageId>> {
        let decode = |bytes: &[u8]| Some(ImageId(Digest::from_bytes(bytes.try_into().ok()?)));
        self.entry(NAME, name.as_bytes(), "name", decode)
    }

    /// All names, sorted.
    pub(crate) fn names(&self) -> Result<Vec<(String, ImageId)>> {
        self.entries(NAME, "name", |k, v| {
            let name = String::from_utf8(k.get(1..)?.to_vec()).ok()?;
            Some((name, ImageId(Digest::from_bytes(v.try_into().ok()?))))
        })
    }

    pub(crate) fn raw_manifest(&self, id: &ManifestId) -> Result<Option<RawManifest>> {
        self.entry(MANIFEST, id.0.as_bytes(), "manifest", decode_manifest)
    }

    pub(crate) fn raw_manifests(&self) -> Result<Vec<(ManifestId, RawManifest)>> {
        self.entries(MANIFEST, "manifest", |k, v| {
            Some((ManifestId(digest_of_key(k)?), decode_manifest(v)?))
        })
    }

    pub(crate) fn document_list(&self, kind: DocumentKind) -> Result<Vec<(String, Vec<u8>)>> {
        let kind = document_byte(kind);
        let mut scan = self.scan(Family::Catalog, &[DOCUMENT, kind])?;
        let mut all = Vec::new();
        while let Some((key, value)) = scan.next()? {
            let name = key
                .get(2..)
                .and_then(|k| String::from_utf8(k.to_vec()).ok());
            all.push((
                name.ok_or_else(|| Error::corrupt("document", key.escape_ascii()))?,
                value.to_vec(),
            ));
        }
        Ok(all)
    }

    pub(crate) fn upper_base(&self, id: UpperId) -> Result<Option<Option<ChainId>>> {
        self.entry(UPPER, &id.0.to_be_bytes(), "upper", decode_upper)
    }

    pub(crate) fn uppers(&self) -> Result<Vec<(UpperId, Option<ChainId>)>> {
        self.entries(UPPER, "upper", |k, v| {
            Some((
                UpperId(u32::from_be_bytes(k.get(1..)?.try_into().ok()?)),
                decode_upper(v)?,
            ))
        })
    }

    pub(crate) fn doomed(&self) -> Result<Vec<Doomed>> {
        self.entries(DOOMED, "doomed object", |k, _| decode_doomed(k))
    }

    /// Marks what is about to be written as not part of the store, until the batch that takes the mark off.
    pub(crate) fn doom(&self, doomed: Doomed) -> Result<()> {
        let mut batch = self.batch();
        batch.doom(doomed)?;
        batch.write(Durability::Logged)
    }
}

const fn document_byte(kind: DocumentKind) -> u8 {
    match kind {
        DocumentKind::Container => b'c',
        DocumentKind::Mount => b'm',
    }
}

/// Typed writes of the catalog.
impl Batch<'_> {
    pub(crate) fn put_layer(&mut self, chain: &ChainId, layer: &LayerHead) -> Result<()> {
        self.put(
            Family::Catalog,
            &key(LAYER, chain.0.as_bytes()),
            &layer.encode(),
        )
    }

    pub(crate) fn delete_layer(&mut self, chain: &ChainId) -> Result<()> {
        self.delete(Family::Catalog, &key(LAYER, chain.0.as_bytes()))
    }

    /// Sets a record, and the index of its archives.
    pub(crate) fn put_record(&mut self, diff: &DiffId, record: &RecordHead) -> Result<()> {
        for archive in &record.archives {
            self.put(
                Family::Catalog,
                &key(ARCHIVE, archive.id.0.as_bytes()),
                diff.0.as_bytes(),
            )?;
        }
        self.put(
            Family::Catalog,
            &key(RECORD, diff.0.as_bytes()),
            &record.encode(),
        )
    }

    pub(crate) fn delete_record(&mut self, diff: &DiffId, record: &RecordHead) -> Result<()> {
        for archive in &record.archives {
            self.delete(Family::Catalog, &key(ARCHIVE, archive.id.0.as_bytes()))?;
        }
        self.delete(Family::Catalog, &key(RECORD, diff.0.as_bytes()))
    }

    pub(crate) fn put_image(&mut self, id: &ImageId, image: &ImageRecord) -> Result<()> {
        self.put(
            Family::Catalog,
            &key(IMAGE, id.0.as_bytes()),
            &image.encode(),
        )
    }

    pub(crate) fn delete_image(&mut self, id: &ImageId) -> Result<()> {
        self.delete(Family::Catalog, &key(IMAGE, id.0.as_bytes()))
    }

    pub(crate) fn put_name(&mut self, name: &str, image: &ImageId) -> Result<()> {
        self.put(
            Family::Catalog,
            &key(NAME, name.as_bytes()),
            image.0.as_bytes(),
        )
    }

    pub(crate) fn delete_name(&mut self, name: &str) -> Result<()> {
        self.delete(Family::Catalog, &key(NAME, name.as_bytes()))
    }

    pub(crate) fn put_manifest(&mut self, id: &ManifestId, manifest: &RawManifest) -> Result<()> {
        let value = Encoder::new()
            .bytes(manifest.media_type.as_bytes())
            .rest(&manifest.bytes)
            .finish();
        self.put(Family::Catalog, &key(MANIFEST, id.0.as_bytes()), &value)
    }

    pub(crate) fn delete_manifest(&mut self, id: &ManifestId) -> Result<()> {
        self.delete(Family::Catalog, &key(MANIFEST, id.0.as_bytes()))
    }

    pub(crate) fn put_document(
        &mut self,
        kind: DocumentKind,
        name: &str,
        value: &[u8],
    ) -> Result<()> {
        self.put(Family::Catalog, &document_key(kind, name), value)
    }

    pub(crate) fn delete_document(&mut self, kind: DocumentKind, name: &str) -> Result<()> {
        self.delete(Family::Catalog, &document_key(kind, name))
    }

    pub(crate) fn put_upper(&mut self, id: UpperId, base: Option<&ChainId>) -> Result<()> {
        let mut value = Encoder::new();
        encode_optional(&mut value, base.map(|b| &b.0));
        self.put(
            Family::Catalog,
            &key(UPPER, &id.0.to_be_bytes()),
            &value.finish(),
        )
    }

    pub(crate) fn delete_upper(&mut self, id: UpperId) -> Result<()> {
        self.delete(Family::Catalog, &key(UPPER, &id.0.to_be_bytes()))
    }

    pub(crate) fn doom(&mut self, doomed: Doomed) -> Result<()> {
        self.put(Family::Catalog, &encode_doomed(doomed), b"")
    }

    pub(crate) fn reprieve(&mut self, doomed: Doomed) -> Result<()> {
        self.delete(Family::Catalog, &encode_doomed(doomed))
    }
}

fn document_key(kind: DocumentKind, name: &str) -> Vec<u8> {
    let mut key = vec![DOCUMENT, document_byte(kind)];
    key.extend_from_slice(name.as_bytes());
    key
}

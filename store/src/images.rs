//! Images and their names: reading them, pointing names at them. Never applies or removes a layer.

use std::collections::HashMap;

use crate::catalog::ImageRecord;
use crate::failpoint::{self, Point};
use crate::publish::{check_name, now};
use crate::{ArchiveId, ChainId, DiffId, Error, ImageId, ManifestId, Result, Store};

/// A manifest or an index, byte for byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawManifest {
    /// `application/vnd.oci.image.manifest.v1+json` and the like.
    pub media_type: String,
    /// The bytes that its digest is of.
    pub bytes: Vec<u8>,
}

/// A name to be set: `docker.io/library/debian:12`, or `docker.io/library/debian@sha256:…` (names are kept
/// canonical and complete; the store does not parse them beyond that).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefUpdate {
    /// The complete name.
    pub name: String,
}

/// An image as the store knows it.
#[derive(Clone, Debug)]
pub struct Image {
    /// Digest of the configuration.
    pub id: ImageId,
    /// The configuration's bytes.
    pub config: Vec<u8>,
    /// The tree; `None` for an image without layers.
    pub chain: Option<ChainId>,
    /// Bottom layer first.
    pub layers: Vec<LayerInfo>,
    /// The manifest that it came with.
    pub manifest: Option<ManifestId>,
    /// Every name that points at it, sorted.
    pub refs: Vec<String>,
    /// The image it was committed from.
    pub parent: Option<ImageId>,
    /// When a name was last pointed at it, or it was published; nanoseconds since the epoch.
    pub tagged_at: i64,
}

/// One layer of an image.
#[derive(Clone, Debug)]
pub struct LayerInfo {
    /// The stack up to here.
    pub chain: ChainId,
    /// This layer's uncompressed tar.
    pub diff: DiffId,
    /// The archive as received, and its length: what a push of this image names.
    pub archive: Option<(ArchiveId, u64)>,
    /// Sum of the regular files' sizes.
    pub content_bytes: u64,
}

impl Image {
    fn new(id: ImageId, record: ImageRecord, refs: Vec<String>) -> Image {
        let chains = record.chains();
        let layers = record
            .layers
            .iter()
            .zip(&chains)
            .map(|(layer, chain)| LayerInfo {
                chain: *chain,
                diff: layer.diff,
                archive: layer.archive,
                content_bytes: layer.content_bytes,
            });
        Image {
            id,
            chain: chains.last().copied(),
            layers: layers.collect(),
            config: record.config,
            manifest: record.manifests.first().copied(),
            refs,
            parent: record.parent,
            tagged_at: record.tagged_at,
        }
    }
}

impl Store {
    /// All images, newest first by the configuration's `created`, then by ID.
    pub fn images(&self) -> Result<Vec<Image>> {
        let mut names: HashMap<ImageId, Vec<String>> = HashMap::new();
        for (name, image) in self.inner.db.names()? {
            names.entry(image).or_default().push(name);
        }
        let records = self.inner.db.image_records()?;
        let mut images: Vec<(i128, Image)> = records
            .into_iter()
            .map(|(id, record)| {
                let created = created(&record.config);
                (
                    created,
                    Image::new(id, record, names.remove(&id).unwrap_or_default()),
                )
            })
            .collect();
        images.sort_by(|(a, x), (b, y)| b.cmp(a).then(x.id.cmp(&y.id)));
        Ok(images.into_iter().map(|(_, image)| image).collect())
    }

    /// One image.
    pub fn image(&self, id: &ImageId) -> Result<Option<Image>> {
        let Some(record) = self.inner.db.image_record(id)? else {
            return Ok(None);
        };
        let names = self.inner.db.names()?.into_iter();
        let refs = names
            .filter(|(_, image)| image == id)
            .map(|(name, _)| name)
            .collect();
        Ok(Some(Image::new(*id, record, refs)))
    }

    /// The image a complete name points at.
    pub fn resolve(&self, name: &str) -> Result<Option<ImageId>> {
        self.inner.db.name(name)
    }

    /// Points `name` at `image`; returns what it pointed at before.
    pub fn tag(&self, name: &str, image: &ImageId) -> Result<Option<ImageId>> {
        check_name(name)?;
        self.inner.room.to_grow()?;
        let db = &self.inner.db;
        let _serial = self.inner.catalog.lock();
        let mut record = db
            .image_record(image)?
            .ok_or_else(|| Error::not_found("image", image))?;
        let before = db.name(name)?;
        record.tagged_at = now();
        let mut batch = db.batch();
        batch.put_name(name, image)?;
        batch.put_image(image, &record)?;
        batch.write(failpoint::synced(Point::SyncTag))?;
        failpoint::pass(Point::TagSynced)?;
        Ok(before)
    }

    /// Removes a name; returns what it pointed at.
    pub fn untag(&self, name: &str) -> Result<Option<ImageId>> {
        let _serial = self.inner.catalog.lock();
        let before = self.inner.db.name(name)?;
        if before.is_some() {
            self.inner.room.to_shrink();
            let mut batch = self.inner.db.batch();
            batch.delete_name(name)?;
            batch.write(failpoint::synced(Point::SyncUntag))?;
            failpoint::pass(Point::UntagSynced)?;
        }
        Ok(before)
    }

    /// A manifest's bytes.
    pub fn manifest(&self, id: &ManifestId) -> Result<Option<RawManifest>> {
        self.inner.db.raw_manifest(id)
    }
}

/// When a configuration says it was created, in nanoseconds; of one that does not say, before all others.
fn created(config: &[u8]) -> i128 {
    #[derive(serde::Deserialize)]
    struct Created {
        created: Option<String>,
    }
    let text = serde_json::from_slice::<Created>(config)
        .ok()
        .and_then(|c| c.created);
    text.and_then(|t| rfc3339_nanos(&t)).unwrap_or(i128::MIN)
}

/// Reads a time as RFC 3339 writes it.
fn rfc3339_nanos(text: &str) -> Option<i128> {
    let number = |range: std::ops::Range<usize>| -> Option<i64> {
        let digits = text.get(range)?;
        digits
            .bytes()
            .all(|b| b.is_ascii_digit())
            .then(|| digits.parse().ok())
            .flatten()
    };
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    if !(1..=12).contains(&month)
        || !(1..=31).contains(&day)
        || hour > 24
        || minute > 59
        || second > 60
    {
        return None;
    }
    let mut rest = text.get(19..)?;
    let mut nanos = 0i128;
    if let Some(fraction) = rest.strip_prefix('.') {
        let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
        for place in 0..9 {
            let digit = fraction.as_bytes().get(place).filter(|_| place < digits);
            nanos = nanos * 10 + digit.map_or(0, |d| i128::from(d - b'0'));
        }
        rest = fraction.get(digits..)?;
    }
    let offset = match rest.as_bytes() {
        [b'Z' | b'z'] => 0,
        [sign @ (b'+' | b'-'), _, _, b':', _, _] => {
            let minutes =
                rest.get(1..3)?.parse::<i64>().ok()? * 60 + rest.get(4..6)?.parse::<i64>().ok()?;
            if *sign == b'-' { -minutes } else { minutes }
        }
        _ => return None,
    };
    // Days since the epoch of the civil calendar, years counted from March so that the leap day comes last.
    let (y, m) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let era = y.div_euclid(400);
    let of_era = y.rem_euclid(400);
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + (153 * m + 2) / 5 + day
        - 1
        - 719_468;
    let seconds = days * 86_400 + hour * 3_600 + (minute - offset) * 60 + second;
    Some(i128::from(seconds) * 1_000_000_000 + nanos)
}

#[cfg(test)]
mod tests {
    use super::rfc3339_nanos;

    #[test]
    fn times_of_configurations_are_read_with_fraction_and_offset() {
        assert_eq!(rfc3339_nanos("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(
            rfc3339_nanos("2020-09-13T12:26:40.5Z"),
            Some(1_600_000_000_500_000_000)
        );
        assert_eq!(
            rfc3339_nanos("2020-09-13T14:26:40+02:00"),
            Some(1_600_000_000_000_000_000)
        );
        assert_eq!(rfc3339_nanos("1969-12-31T23:59:59.999999999Z"), Some(-1));
        assert_eq!(
            rfc3339_nanos("2000-02-29T00:00:00Z"),
            Some(951_782_400_000_000_000)
        );
        assert_eq!(rfc3339_nanos("yesterday"), None);
        assert_eq!(rfc3339_nanos("2020-13-13T12:26:40Z"), None);
    }
}

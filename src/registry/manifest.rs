//! Manifests and indexes: parsed, bounded, and refused when they could be read in two ways. Never re-serialised: what is
//! kept and sent on are the bytes as they came.

use std::collections::BTreeMap;

use nacre_store::{Digest, ManifestId, RawManifest};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::platform::Platform;

/// Bytes of a manifest or an index; registries refuse larger ones.
pub const MANIFEST_BYTES_MAX: usize = 4 << 20;
/// Layers of one image (layer-format.md, section 2).
pub const LAYERS_MAX: usize = 1024;
/// Entries of one index; real ones have dozens.
const INDEX_ENTRIES_MAX: usize = 4096;

/// Addresses of one layer elsewhere; real ones have one or two.
const URLS_MAX: usize = 16;

/// Media types that have a meaning here.
pub mod media {
    /// docker's image manifest.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// docker's index.
    pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// docker's image configuration.
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    /// docker's gzip-compressed layer.
    pub const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    /// OCI's image manifest.
    pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// OCI's index.
    pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// OCI's image configuration.
    pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// OCI's plain layer.
    pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    /// OCI's gzip-compressed layer.
    pub const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
    /// Schema 1, signed and not.
    pub(super) const SCHEMA1: [&str; 2] = [
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
        "application/vnd.docker.distribution.manifest.v1+json",
    ];
    /// The start of both types of layers whose bytes are somewhere else.
    pub(crate) const NOT_DISTRIBUTABLE: [&str; 2] = [
        "application/vnd.docker.image.rootfs.foreign.",
        "application/vnd.oci.image.layer.nondistributable.",
    ];
}

/// Why a manifest cannot be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidManifest {
    /// It does not parse.
    #[error("invalid manifest: {0}")]
    Syntax(String),
    /// It can be read as two things (CVE-2021-41190).
    #[error("ambiguous manifest: {0}")]
    Ambiguous(String),
    /// It is of the oldest kind.
    #[error(
        "manifest schema 1 is not supported: the image must be pushed again in the OCI format or as docker schema 2"
    )]
    Schema1,
    /// It is no image.
    #[error("unsupported media type {0}")]
    MediaType(String),
    /// It is too big.
    #[error("invalid manifest: more than {limit} {what}")]
    TooMany {
        /// `layers`, `entries`.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// No entry of the index fits.
    #[error("no matching manifest for {0} in the manifest list entries")]
    NoMatch(Platform),
}

/// A manifest as it came, verified against the digest that it was asked by.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// Bytes and media type.
    pub raw: RawManifest,
    /// Its digest.
    pub id: ManifestId,
    /// What it says.
    pub manifest: Manifest,
}

/// What a manifest says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Manifest {
    /// One image.
    Image(ImageManifest),
    /// Images for several platforms.
    Index(Vec<Descriptor>),
}

/// One image: its configuration and its layers, the bottom one first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ImageManifest {
    /// The configuration.
    pub config: Descriptor,
    /// The layers.
    pub layers: Vec<Descriptor>,
}

/// A reference to content by digest.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Descriptor {
    /// What it is.
    pub media_type: String,
    /// Of the bytes.
    pub digest: Digest,
    /// How many.
    pub size: u64,
    /// In an index: what it runs on.
    pub platform: Option<Platform>,
    /// Notes.
    pub annotations: BTreeMap<String, String>,
    /// Where else it is to be had. Only of layers that their publisher forbids to upload these are ever asked.
    pub urls: Vec<String>,
}

#[derive(Deserialize)]
struct WireManifest {
    #[serde(default, rename = "schemaVersion")]
    schema_version: Option<u64>,
    #[serde(default, rename = "mediaType")]
    media_type: Option<String>,
    #[serde(default)]
    config: Option<WireDescriptor>,
    #[serde(default)]
    layers: Option<Vec<WireDescriptor>>,
    #[serde(default)]
    manifests: Option<Vec<WireDescriptor>>,
    #[serde(default, rename = "fsLayers")]
    fs_layers: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct WireDescriptor {
    #[serde(default, rename = "mediaType")]
    media_type: String,
    digest: String,
    size: u64,
    #[serde(default)]
    platform: Option<WirePlatform>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
    #[serde(default)]
    urls: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct WirePlatform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    variant: Option<String>,
}

impl Manifest {
    /// Reads a manifest or an index. Its media type may be empty where nobody said one.
    pub fn parse(raw: &RawManifest) -> Result<Manifest, InvalidManifest> {
        if media::SCHEMA1.contains(&raw.media_type.as_str()) {
            return Err(InvalidManifest::Schema1);
        }
        let wire: WireManifest = serde_json::from_slice(&raw.bytes)
            .map_err(|error| InvalidManifest::Syntax(error.to_string()))?;
        let inner = wire.media_type.as_deref().unwrap_or_default();
        if wire.fs_layers.is_some()
            || wire.schema_version == Some(1)
            || media::SCHEMA1.contains(&inner)
        {
            return Err(InvalidManifest::Schema1);
        }
        let stated = stated_type(&raw.media_type, inner)?;
        let ambiguous = |what: &str| Err(InvalidManifest::Ambiguous(what.to_owned()));
        match (wire.manifests, wire.layers, wire.config) {
            (Some(_), Some(_), _) | (Some(_), _, Some(_)) => {
                ambiguous("it has both manifests and layers or a config")
            }
            (Some(_), None, None) if stated == Some(Kind::Image) => {
                ambiguous("it says image and is an index")
            }
            (None, _, _) if stated == Some(Kind::Index) => {
                ambiguous("it says index and has no manifests")
            }
            (Some(entries), None, None) => index(entries),
            (None, Some(layers), Some(config)) => image(config, layers),
            (None, ..) => Err(InvalidManifest::Syntax(
                "it has neither manifests nor layers and a config".to_owned(),
            )),
        }
    }
}

impl Manifest {
    /// The type to keep and to send on: the one that it came with, the one that it calls itself, or what it looks like.
    pub fn media_type<'a>(&self, raw: &'a RawManifest) -> &'a str {
        #[derive(Deserialize)]
        struct Typed {
            #[serde(default, rename = "mediaType")]
            media_type: Option<String>,
        }
        if kind_of(&raw.media_type).is_some() {
            return &raw.media_type;
        }
        let typed: Option<Typed> = serde_json::from_slice(&raw.bytes).ok();
        let inner = typed.and_then(|typed| typed.media_type).unwrap_or_default();
        let known = [
            media::DOCKER_MANIFEST,
            media::DOCKER_LIST,
            media::OCI_MANIFEST,
            media::OCI_INDEX,
        ];
        match (known.into_iter().find(|known| *known == inner), self) {
            (Some(known), _) => known,
            (None, Manifest::Image(_)) => media::OCI_MANIFEST,
            (None, Manifest::Index(_)) => media::OCI_INDEX,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Image,
    Index,
}

fn kind_of(media_type: &str) -> Option<Kind> {
    match media_type {
        media::DOCKER_MANIFEST | media::OCI_MANIFEST => Some(Kind::Image),
        media::DOCKER_LIST | media::OCI_INDEX => Some(Kind::Index),
        _ => None,
    }
}

/// Brings the type outside (header, descriptor) and inside (`mediaType`) together.
fn stated_type(outer: &str, inner: &str) -> Result<Option<Kind>, InvalidManifest> {
    if !inner.is_empty() && kind_of(inner).is_none() {
        return Err(InvalidManifest::MediaType(inner.to_owned()));
    }
    if kind_of(outer).is_some() && !inner.is_empty() && outer != inner {
        return Err(InvalidManifest::Ambiguous(format!(
            "it came as {outer} and calls itself {inner}"
        )));
    }
    Ok(kind_of(inner).or(kind_of(outer)))
}

fn index(entries: Vec<WireDescriptor>) -> Result<Manifest, InvalidManifest> {
    if entries.len() > INDEX_ENTRIES_MAX {
        return Err(InvalidManifest::TooMany {
            what: "entries",
            limit: INDEX_ENTRIES_MAX,
        });
    }
    entries
        .into_iter()
        .map(WireDescriptor::read)
        .collect::<Result<_, _>>()
        .map(Manifest::Index)
}

fn image(config: WireDescriptor, layers: Vec<WireDescriptor>) -> Result<Manifest, InvalidManifest> {
    if layers.len() > LAYERS_MAX {
        return Err(InvalidManifest::TooMany {
            what: "layers",
            limit: LAYERS_MAX,
        });
    }
    let config = config.read()?;
    let is_config = matches!(
        config.media_type.as_str(),
        media::DOCKER_CONFIG | media::OCI_CONFIG | ""
    );
    if !is_config {
        return Err(InvalidManifest::MediaType(config.media_type));
    }
    let layers = layers
        .into_iter()
        .map(WireDescriptor::read)
        .collect::<Result<Vec<_>, _>>()?;
    if let Some(foreign) = layers.iter().find(|layer| !is_layer(&layer.media_type)) {
        return Err(InvalidManifest::MediaType(foreign.media_type.clone()));
    }
    Ok(Manifest::Image(ImageManifest { config, layers }))
}

/// Whether a layer of this type may be a tar. How it is compressed is seen in its bytes; encrypted ones cannot be read.
fn is_layer(media_type: &str) -> bool {
    let is_tar =
        media_type.contains(".tar") || matches!(media_type, "" | "application/octet-stream");
    is_tar && !media_type.ends_with("+encrypted")
}

impl WireDescriptor {
    fn read(self) -> Result<Descriptor, InvalidManifest> {
        let digest = self
            .digest
            .parse()
            .map_err(|error: nacre_store::InvalidDigest| {
                InvalidManifest::Syntax(error.to_string())
            })?;
        let urls = self.urls.unwrap_or_default();
        if urls.len() > URLS_MAX {
            return Err(InvalidManifest::TooMany {
                what: "urls of one layer",
                limit: URLS_MAX,
            });
        }
        let platform = self
            .platform
            .filter(|platform| !platform.os.is_empty() || !platform.architecture.is_empty());
        Ok(Descriptor {
            media_type: self.media_type,
            digest,
            size: self.size,
            platform: platform
                .map(|p| Platform::normal(&p.os, &p.architecture, p.variant.as_deref())),
            annotations: self.annotations.unwrap_or_default(),
            urls,
        })
    }
}

impl Descriptor {
    /// Whether it is a statement about another entry, not an image.
    pub(crate) fn is_attestation(&self) -> bool {
        let unknown = self
            .platform
            .as_ref()
            .is_some_and(|p| p.os == "unknown" && p.architecture == "unknown");
        unknown || self.annotations.contains_key("vnd.docker.reference.type")
    }

    /// Picks the entry of an index that fits `platform` best; one that does not say its platform is taken last.
    pub fn select<'a>(
        entries: &'a [Descriptor],
        platform: &Platform,
    ) -> Result<&'a Descriptor, InvalidManifest> {
        let images = || entries.iter().filter(|entry| !entry.is_attestation());
        let fitting = images().filter_map(|entry| {
            let distance = platform.distance(entry.platform.as_ref()?)?;
            Some((distance, entry))
        });
        let best = fitting
            .min_by_key(|(distance, _)| *distance)
            .map(|(_, entry)| entry);
        best.or_else(|| images().find(|entry| entry.platform.is_none()))
            .ok_or_else(|| InvalidManifest::NoMatch(platform.clone()))
    }

    /// Whether it names a layer that its publisher forbids to upload.
    pub(crate) fn is_foreign(&self) -> bool {
        media::NOT_DISTRIBUTABLE
            .iter()
            .any(|start| self.media_type.starts_with(start))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn parse(media_type: &str, text: &str) -> Result<Manifest, InvalidManifest> {
        Manifest::parse(&RawManifest {
            media_type: media_type.to_owned(),
            bytes: text.as_bytes().to_vec(),
        })
    }

    fn descriptor(rest: &str) -> String {
        format!(
            r#"{{"digest":"sha256:{}","size":3{rest}}}"#,
            "ab".repeat(32)
        )
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        let d = descriptor("");
        let both = format!(r#"{{"schemaVersion":2,"config":{d},"layers":[],"manifests":[]}}"#);
        let image = format!(r#"{{"schemaVersion":2,"config":{d},"layers":[{d}]}}"#);
        let index = format!(r#"{{"schemaVersion":2,"manifests":[{d}]}}"#);
        let typed = format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","config":{d},"layers":[]}}"#,
            media::OCI_MANIFEST
        );
        assert!(matches!(
            parse("", &both),
            Err(InvalidManifest::Ambiguous(_))
        ));
        assert!(matches!(
            parse(media::OCI_INDEX, &image),
            Err(InvalidManifest::Ambiguous(_))
        ));
        assert!(matches!(
            parse(media::OCI_MANIFEST, &index),
            Err(InvalidManifest::Ambiguous(_))
        ));
        assert!(matches!(
            parse(media::DOCKER_MANIFEST, &typed),
            Err(InvalidManifest::Ambiguous(_))
        ));
        assert!(matches!(
            parse(media::OCI_MANIFEST, &typed),
            Ok(Manifest::Image(_))
        ));
        assert!(matches!(
            parse("text/plain", &image),
            Ok(Manifest::Image(_))
        ));
        let twice = format!(r#"{{"layers":[],"layers":[{d}],"config":{d}}}"#);
        assert!(
            matches!(parse("", &twice), Err(InvalidManifest::Syntax(_))),
            "a key that comes twice"
        );
    }

    #[test]
    fn absurd_manifests_are_refused() {
        let d = descriptor("");
        let negative = d.replace(r#""size":3"#, r#""size":-1"#);
        let sha512 = d.replace("sha256", "sha512");
        let many = vec![d.clone(); LAYERS_MAX + 1].join(",");
        let helm = descriptor(r#","mediaType":"application/vnd.cncf.helm.config.v1+json""#);
        let locked =
            descriptor(r#","mediaType":"application/vnd.oci.image.layer.v1.tar+gzip+encrypted""#);
        let table = [
            ("garbage".to_owned(), "syntax"),
            ("{}".to_owned(), "syntax"),
            ("[]".to_owned(), "syntax"),
            (
                format!(r#"{{"config":{d},"layers":[{negative}]}}"#),
                "syntax",
            ),
            (format!(r#"{{"config":{d},"layers":[{sha512}]}}"#), "syntax"),
            (format!(r#"{{"config":{d},"layers":[{many}]}}"#), "many"),
            (format!(r#"{{"config":{helm},"layers":[]}}"#), "media"),
            (format!(r#"{{"config":{d},"layers":[{locked}]}}"#), "media"),
            (
                r#"{"schemaVersion":1,"fsLayers":[],"history":[]}"#.to_owned(),
                "schema1",
            ),
        ];
        for (text, kind) in table {
            let got = match parse("", &text).unwrap_err() {
                InvalidManifest::Syntax(_) => "syntax",
                InvalidManifest::TooMany { .. } => "many",
                InvalidManifest::MediaType(_) => "media",
                InvalidManifest::Schema1 => "schema1",
                other => panic!("{text}: {other}"),
            };
            assert_eq!(got, kind, "{text}");
        }
        assert_eq!(
            parse(media::SCHEMA1[0], "{}"),
            Err(InvalidManifest::Schema1)
        );
    }

    #[test]
    fn an_index_gives_the_entry_of_the_platform() {
        let entry = |size: u64, platform: &str| {
            descriptor(&format!(r#","platform":{platform}"#))
                .replace(r#""size":3"#, &format!(r#""size":{size}"#))
        };
        let text = format!(
            r#"{{"manifests":[{},{},{},{}]}}"#,
            entry(1, r#"{"os":"unknown","architecture":"unknown"}"#),
            entry(2, r#"{"os":"linux","architecture":"amd64"}"#),
            entry(3, r#"{"os":"linux","architecture":"arm","variant":"v6"}"#),
            entry(4, r#"{"os":"linux","architecture":"arm64","variant":"v8"}"#),
        );
        let Manifest::Index(entries) = parse("", &text).unwrap() else {
            panic!("no index")
        };
        let picked = |platform: &str| {
            Descriptor::select(&entries, &Platform::parse(platform).unwrap()).map(|e| e.size)
        };
        assert_eq!(picked("linux/amd64"), Ok(2));
        assert_eq!(picked("linux/arm/v7"), Ok(3));
        assert_eq!(picked("linux/arm64"), Ok(4));
        let error = picked("linux/s390x").unwrap_err();
        assert_eq!(
            error.to_string(),
            "no matching manifest for linux/s390x in the manifest list entries"
        );
    }
}

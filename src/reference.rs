//! Image names: their grammar, their complete and their familiar form. Never asks a store or a registry.
//!
//! ```text
//! debian                          docker.io/library/debian          a name: domain / path
//! debian:12                       docker.io/library/debian:12       … : tag
//! [::1]:5000/a/b@sha256:01ab…     the same                          … @ digest
//! ```
//!
//! The grammar is that of docker's references (distribution/reference, and docker's normalisation on top of it):
//! what docker takes we take, what it refuses we refuse with its words, because scripts look for them.

use std::fmt;
use std::str::FromStr;

use nacre_store::Digest;

#[cfg(test)]
mod tests;

/// The registry of names without a domain.
pub const DEFAULT_DOMAIN: &str = "docker.io";
/// The tag of names without a tag.
pub const DEFAULT_TAG: &str = "latest";
/// What docker.io was called once; still written in many places.
const LEGACY_DEFAULT_DOMAIN: &str = "index.docker.io";
/// Where docker.io keeps the images of names without a slash.
const OFFICIAL_PREFIX: &str = "library/";
/// Bytes of a path; registries refuse longer ones.
const PATH_BYTES_MAX: usize = 255;
/// Bytes of a tag, by the grammar.
const TAG_BYTES_MAX: usize = 128;
/// Hex digits that a digest has at least, by the grammar.
const DIGEST_HEX_MIN: usize = 32;
/// Bytes of a whole reference that are looked at, and repeated in an error: path, tag, a digest and a long domain fit.
const TEXT_BYTES_MAX: usize = 1024;

/// A complete image name: a domain and a path, and usually a tag, a digest or both.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a text names no image. The words are docker's.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidReference {
    /// It does not follow the grammar.
    #[error("invalid reference format")]
    Format,
    /// Its path has upper-case letters.
    #[error("invalid reference format: repository name ({0}) must be lowercase")]
    Uppercase(String),
    /// It would be taken for an ID.
    #[error("invalid repository name ({0}), cannot specify 64-byte hexadecimal strings")]
    LooksLikeId(String),
    /// Its path is too long.
    #[error("repository name must not be more than {PATH_BYTES_MAX} characters")]
    TooLong,
    /// Its digest is of a kind that nacre does not verify.
    #[error("unsupported digest algorithm")]
    DigestAlgorithm,
    /// Its digest has the wrong number of digits.
    #[error("invalid checksum digest length")]
    DigestLength,
    /// Its digest is not in lower-case hex.
    #[error("invalid checksum digest format")]
    DigestFormat,
}

/// What a user may mean by one word: an image's ID or a name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum IdOrReference {
    /// `sha256:` and 64 hex digits, or the digits alone.
    Id(Digest),
    /// Anything else that parses.
    Reference(Reference),
}

impl IdOrReference {
    /// Parses one word of a command line.
    pub fn parse(text: &str) -> Result<IdOrReference, InvalidReference> {
        if let Ok(digest) = Digest::from_hex(text) {
            return Ok(IdOrReference::Id(digest));
        }
        if let Ok(digest) = text.parse() {
            return Ok(IdOrReference::Id(digest));
        }
        Reference::parse(text).map(IdOrReference::Reference)
    }
}

impl Reference {
    /// Parses a name as a user writes it; `debian` becomes `docker.io/library/debian`, without a tag.
    pub fn parse(text: &str) -> Result<Reference, InvalidReference> {
        if Digest::from_hex(text).is_ok() {
            return Err(InvalidReference::LooksLikeId(text.to_owned()));
        }
        if text.len() > TEXT_BYTES_MAX {
            return Err(InvalidReference::Format);
        }
        let (domain, rest) = split_domain(text);
        let remote = rest.split(':').next().unwrap_or_default();
        if remote.chars().any(char::is_uppercase) {
            return Err(InvalidReference::Uppercase(remote.to_owned()));
        }
        let (name, digest) = match rest.split_once('@') {
            Some((name, digest)) => (name, Some(digest)),
            None => (rest.as_str(), None),
        };
        let (path, tag) = match name.split_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (name, None),
        };
        let fits = is_domain(&domain)
            && is_path(path)
            && tag.is_none_or(is_tag)
            && digest.is_none_or(is_digest);
        if !fits {
            return Err(InvalidReference::Format);
        }
        if path.len() > PATH_BYTES_MAX {
            return Err(InvalidReference::TooLong);
        }
        Ok(Reference {
            digest: digest.map(parse_digest).transpose()?,
            tag: tag.map(str::to_owned),
            path: path.to_owned(),
            domain,
        })
    }

    /// The registry, as in `docker.io` or `127.0.0.1:5000`.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The repository within the registry, as in `library/debian`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The tag, if one was written.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if one was written.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Domain and path, as in `docker.io/library/debian`.
    pub fn repository(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// Domain and path as users write them, as in `debian`. docker.io stays where its repository reads as a registry:
    /// docker shows `docker.io/a.b/c` as `a.b/c`, which is another image.
    pub fn familiar_repository(&self) -> String {
        if self.domain != DEFAULT_DOMAIN {
            return self.repository();
        }
        match self.path.strip_prefix(OFFICIAL_PREFIX) {
            Some(short) if !short.contains('/') => short.to_owned(),
            _ if self.path.split_once('/').is_some_and(reads_as_domain) => self.repository(),
            _ => self.path.clone(),
        }
    }

    /// The whole as users write it, as in `debian:12`.
    pub fn familiar(&self) -> String {
        format!("{}{}", self.familiar_repository(), self.suffix())
    }

    /// Adds the tag `latest` where there is neither a tag nor a digest.
    #[must_use]
    pub fn or_latest(mut self) -> Reference {
        if self.tag.is_none() && self.digest.is_none() {
            self.tag = Some(DEFAULT_TAG.to_owned());
        }
        self
    }

    /// The repository with this tag and no digest.
    pub fn with_tag(&self, tag: &str) -> Result<Reference, InvalidReference> {
        if !is_tag(tag) {
            return Err(InvalidReference::Format);
        }
        Ok(Reference {
            tag: Some(tag.to_owned()),
            digest: None,
            ..self.clone()
        })
    }

    /// The repository with this digest and no tag.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Reference {
        Reference {
            tag: None,
            digest: Some(digest),
            ..self.clone()
        }
    }

    /// The repository alone.
    #[must_use]
    pub fn name_only(&self) -> Reference {
        Reference {
            tag: None,
            digest: None,
            ..self.clone()
        }
    }

    fn suffix(&self) -> String {
        let tag = self
            .tag
            .as_ref()
            .map(|tag| format!(":{tag}"))
            .unwrap_or_default();
        let digest = self
            .digest
            .map(|digest| format!("@{digest}"))
            .unwrap_or_default();
        format!("{tag}{digest}")
    }
}

impl FromStr for Reference {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Reference, InvalidReference> {
        Reference::parse(text)
    }
}

/// The complete name, as the store keeps it: `docker.io/library/debian:12`.
impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}{}", self.domain, self.path, self.suffix())
    }
}

/// Whether the first component of a name is taken for a domain.
fn reads_as_domain((first, _): (&str, &str)) -> bool {
    first == "localhost" || first.contains(['.', ':']) || first.chars().any(char::is_uppercase)
}

/// Finds the domain that a name is in: its first component is one if it could be no path.
fn split_domain(text: &str) -> (String, String) {
    let (domain, rest) = match text.split_once('/') {
        Some((first, rest)) if first == LEGACY_DEFAULT_DOMAIN => (DEFAULT_DOMAIN, rest),
        Some((first, rest)) if reads_as_domain((first, rest)) => (first, rest),
        _ => (DEFAULT_DOMAIN, text),
    };
    if domain == DEFAULT_DOMAIN && !rest.contains('/') {
        return (domain.to_owned(), format!("{OFFICIAL_PREFIX}{rest}"));
    }
    (domain.to_owned(), rest.to_owned())
}

/// host [ ":" port ], the host a DNS name, an IPv4 address or a bracketed IPv6 address.
fn is_domain(text: &str) -> bool {
    let (host, after) = if text.starts_with('[') {
        let Some((host, after)) = text.split_once(']') else {
            return false;
        };
        (host, after)
    } else {
        text.split_at(text.find(':').unwrap_or(text.len()))
    };
    let port_fits = match after.strip_prefix(':') {
        Some(port) => !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()),
        None => after.is_empty(),
    };
    let host_fits = match host.strip_prefix('[') {
        Some(v6) => !v6.is_empty() && v6.bytes().all(|b| b.is_ascii_hexdigit() || b == b':'),
        None => host.split('.').all(is_domain_label),
    };
    host_fits && port_fits
}

fn is_domain_label(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !text.is_empty()
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn is_path(text: &str) -> bool {
    text.split('/').all(is_path_component)
}

/// Runs of lower-case letters and digits, with one of `.`, `_`, `__` or any number of `-` between them.
fn is_path_component(text: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let ends_fit = |b: Option<u8>| b.is_some_and(alphanumeric);
    if !ends_fit(text.bytes().next()) || !ends_fit(text.bytes().last()) {
        return false;
    }
    text.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        .all(|between| {
            matches!(between, "" | "." | "_" | "__") || between.bytes().all(|b| b == b'-')
        })
}

fn is_tag(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    text.bytes().next().is_some_and(word)
        && text.len() <= TAG_BYTES_MAX
        && text.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

/// algorithm ":" hex, the algorithm words with one of `-_+.` between them; what the grammar asks before the digest is parsed.
fn is_digest(text: &str) -> bool {
    let Some((algorithm, hex)) = text.split_once(':') else {
        return false;
    };
    let word_fits = |word: &str| {
        word.bytes().next().is_some_and(|b| b.is_ascii_alphabetic())
            && word.bytes().all(|b| b.is_ascii_alphanumeric())
    };
    algorithm.split(['-', '_', '+', '.']).all(word_fits)
        && hex.len() >= DIGEST_HEX_MIN
        && hex.bytes().all(|b| b.is_ascii_hexdigit())
}

fn parse_digest(text: &str) -> Result<Digest, InvalidReference> {
    let hex = text
        .strip_prefix("sha256:")
        .ok_or(InvalidReference::DigestAlgorithm)?;
    if hex.len() != Digest::HEX_LEN {
        return Err(InvalidReference::DigestLength);
    }
    Digest::from_hex(hex).map_err(|_| InvalidReference::DigestFormat)
}

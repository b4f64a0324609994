//! Names of images: docker's grammar, as far as the command line needs it.
//! The service judges; this only splits, and shows names as docker does.

use crate::error::{Error, Result};

/// The registry of a name that names none.
pub(crate) const DEFAULT_DOMAIN: &str = "docker.io";
/// The name that docker.io had once.
const OLD_DOMAIN: &str = "index.docker.io";
/// The owner of docker.io's images that have none.
const OFFICIAL: &str = "library/";
/// The tag of a name that has none.
pub(crate) const DEFAULT_TAG: &str = "latest";
/// Bytes of a path; registries refuse longer ones.
const PATH_BYTES_MAX: usize = 255;
/// Bytes of a whole reference that are looked at.
const TEXT_BYTES_MAX: usize = 1024;
/// docker's limit of a tag.
const TAG_BYTES_MAX: usize = 128;

/// Hex digits that a digest has at least, by the grammar.
const DIGEST_HEX_MIN: usize = 32;

/// A reference, taken apart: `domain/path[:tag][@digest]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    /// `docker.io`, `127.0.0.1:5000`.
    pub(crate) domain: String,
    /// `library/ubuntu`.
    pub(crate) path: String,
    pub(crate) tag: Option<String>,
    pub(crate) digest: Option<String>,
}

impl Reference {
    /// Reads a reference as people write it.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        if is_hex_id(text) {
            return Err(Error::said(format!(
                "invalid repository name ({text}), cannot specify 64-byte hexadecimal strings"
            )));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (text, None),
        };
        let (domain, remainder) = split_domain(rest);
        let (path, tag) = match remainder.rsplit_once(':') {
            Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
            _ => (remainder.as_str(), None),
        };
        if path.chars().any(|c| c.is_ascii_uppercase()) {
            return Err(Error::said(format!(
                "invalid reference format: repository name ({path}) must be lowercase"
            )));
        }
        let sound = is_domain(&domain)
            && path.split('/').all(is_path_component)
            && path.len() <= PATH_BYTES_MAX
            && text.len() <= TEXT_BYTES_MAX
            && tag.is_none_or(is_tag)
            && digest.is_none_or(is_digest);
        if !sound {
            return Err(Error::said("invalid reference format"));
        }
        Ok(Self {
            domain,
            path: path.to_owned(),
            tag: tag.map(str::to_owned),
            digest: digest.map(str::to_owned),
        })
    }

    /// The name without tag and digest, as people write it: `ubuntu`. docker.io stays where the rest reads as a registry.
    pub(crate) fn familiar_name(&self) -> String {
        if self.domain != DEFAULT_DOMAIN {
            return format!("{}/{}", self.domain, self.path);
        }
        match self.path.strip_prefix(OFFICIAL) {
            Some(name) if !name.contains('/') => name.to_owned(),
            _ if self.path.split_once('/').is_some_and(reads_as_domain) => self.full_name(),
            _ => self.path.clone(),
        }
    }

    /// The name without tag and digest, in full: `docker.io/library/ubuntu`.
    pub(crate) fn full_name(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// The reference in full, the tag filled in: what pull prints last.
    pub(crate) fn canonical(&self) -> String {
        let name = self.full_name();
        match (&self.tag, &self.digest) {
            (Some(tag), Some(digest)) => format!("{name}:{tag}@{digest}"),
            (None, Some(digest)) => format!("{name}@{digest}"),
            (tag, None) => format!("{name}:{}", tag.as_deref().unwrap_or(DEFAULT_TAG)),
        }
    }

    /// The reference as people write it, the tag filled in.
    pub(crate) fn familiar(&self) -> String {
        let name = self.familiar_name();
        match (&self.tag, &self.digest) {
            (Some(tag), Some(digest)) => format!("{name}:{tag}@{digest}"),
            (None, Some(digest)) => format!("{name}@{digest}"),
            (tag, None) => format!("{name}:{}", tag.as_deref().unwrap_or(DEFAULT_TAG)),
        }
    }

    /// What selects the image in its repository: the digest, or the tag.
    pub(crate) fn selector(&self) -> &str {
        self.digest
            .as_deref()
            .or(self.tag.as_deref())
            .unwrap_or(DEFAULT_TAG)
    }
}

/// Says whether text is a whole image ID without its algorithm.
fn is_hex_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether the first component of a name is taken for a domain.
fn reads_as_domain((first, _): (&str, &str)) -> bool {
    first.contains(['.', ':'])
        || first == "localhost"
        || first.chars().any(|c| c.is_ascii_uppercase())
}

fn split_domain(name: &str) -> (String, String) {
    let (domain, remainder) = match name.split_once('/') {
        Some((first, rest)) if reads_as_domain((first, rest)) => (first, rest),
        _ => (DEFAULT_DOMAIN, name),
    };
    let domain = if domain == OLD_DOMAIN {
        DEFAULT_DOMAIN
    } else {
        domain
    };
    let remainder = if domain == DEFAULT_DOMAIN && !remainder.contains('/') {
        format!("{OFFICIAL}{remainder}")
    } else {
        remainder.to_owned()
    };
    (domain.to_owned(), remainder)
}

fn is_domain(domain: &str) -> bool {
    let (host, port) = match domain
        .strip_prefix('[')
        .and_then(|rest| rest.split_once(']'))
    {
        Some((address, after)) => {
            let is_address = |b: u8| b.is_ascii_hexdigit() || b == b':';
            return !address.is_empty()
                && address.bytes().all(is_address)
                && (after.is_empty() || after.strip_prefix(':').is_some_and(is_port));
        }
        None => match domain.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (domain, None),
        },
    };
    port.is_none_or(is_port)
        && host.split('.').all(|label| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-')
        })
}

fn is_port(port: &str) -> bool {
    !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit())
}

/// Lower-case letters and digits, joined by one dot, one or two underscores,
/// or any number of dashes.
fn is_path_component(component: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    component.starts_with(is_plain)
        && component.ends_with(is_plain)
        && component
            .split(is_plain)
            .all(|joint| matches!(joint, "" | "." | "_" | "__") || joint.bytes().all(|b| b == b'-'))
}

fn is_tag(tag: &str) -> bool {
    tag.len() <= TAG_BYTES_MAX
        && tag.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && tag
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

/// As the service's grammar has it; whether the digest can be verified is the service's to say.
fn is_digest(digest: &str) -> bool {
    let Some((algorithm, hex)) = digest.split_once(':') else {
        return false;
    };
    let is_word = |word: &str| {
        word.starts_with(|c: char| c.is_ascii_alphabetic())
            && word.bytes().all(|b| b.is_ascii_alphanumeric())
    };
    if algorithm == "sha256" {
        return is_hex_id(hex);
    }
    algorithm.split(['-', '_', '+', '.']).all(is_word)
        && hex.len() >= DIGEST_HEX_MIN
        && hex.bytes().all(|b| b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn names_are_completed_and_shown_short() {
        for (text, canonical, familiar) in [
            ("ubuntu", "docker.io/library/ubuntu:latest", "ubuntu:latest"),
            (
                "ubuntu:18.04",
                "docker.io/library/ubuntu:18.04",
                "ubuntu:18.04",
            ),
            ("a/b", "docker.io/a/b:latest", "a/b:latest"),
            ("docker.io/x", "docker.io/library/x:latest", "x:latest"),
            ("index.docker.io/a/b", "docker.io/a/b:latest", "a/b:latest"),
            (
                "127.0.0.1:5000/d",
                "127.0.0.1:5000/d:latest",
                "127.0.0.1:5000/d:latest",
            ),
            (
                "docker.io/a.b/c",
                "docker.io/a.b/c:latest",
                "docker.io/a.b/c:latest",
            ),
            ("localhost/d:1", "localhost/d:1", "localhost/d:1"),
            ("[::1]:5000/d", "[::1]:5000/d:latest", "[::1]:5000/d:latest"),
            ("Host/d", "Host/d:latest", "Host/d:latest"),
        ] {
            let reference = Reference::parse(text).unwrap();
            assert_eq!(reference.canonical(), canonical);
            assert_eq!(reference.familiar(), familiar);
        }
    }

    #[test]
    fn a_digest_selects_before_a_tag() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let reference = Reference::parse(&format!("x:1@{digest}")).unwrap();
        assert_eq!(reference.selector(), digest);
        assert_eq!(
            reference.canonical(),
            format!("docker.io/library/x:1@{digest}")
        );
    }

    #[test]
    fn bad_names_are_refused_in_dockers_words() {
        for (text, message) in [
            ("", "invalid reference format"),
            ("a b", "invalid reference format"),
            ("a::b", "invalid reference format"),
            ("-a", "invalid reference format"),
            ("a/../b", "invalid reference format"),
            ("a@sha256:12", "invalid reference format"),
            ("a:-t", "invalid reference format"),
            ("[]/a", "invalid reference format"),
            (
                "a@sh~:00000000000000000000000000000000",
                "invalid reference format",
            ),
            (
                "Nginx",
                "invalid reference format: repository name (library/Nginx) must be lowercase",
            ),
        ] {
            assert_eq!(
                Reference::parse(text).unwrap_err().to_string(),
                message,
                "{text}"
            );
        }
        let id = "b".repeat(64);
        assert!(
            Reference::parse(&id)
                .unwrap_err()
                .to_string()
                .contains("64-byte")
        );
    }
}

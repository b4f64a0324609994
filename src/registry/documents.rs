//! Small documents in: manifests, lists of tags. Verified against what they were asked by; never kept.

use nacre_store::{Digest, ManifestId, RawManifest};
use reqwest::Url;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LINK};
use serde::Deserialize;

use super::Result;
use super::call::Call;
use super::client::Client;
use super::error::Error;
use super::manifest::{Fetched, InvalidManifest, Manifest, media};
use crate::reference::{DEFAULT_TAG, Reference};

/// Bytes of one page of tags.
const TAGS_BYTES_MAX: usize = 4 << 20;
/// Tags of one repository; the largest public ones have tens of thousands.
const TAGS_MAX: usize = 500_000;
/// The digest of what was sent or asked for.
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

impl Client {
    /// Fetches the manifest or index that a reference names; its digest counts more than its tag. Verified against
    /// the digest that it was asked by, or that the registry names.
    pub async fn manifest(&self, reference: &Reference) -> Result<Fetched> {
        let asked = match (reference.digest(), reference.tag()) {
            (Some(digest), _) => digest.to_string(),
            (None, tag) => tag.unwrap_or(DEFAULT_TAG).to_owned(),
        };
        let mut call = Call::get(
            reference,
            self.url(reference, &format!("manifests/{asked}")).await?,
        );
        for accepted in [
            media::OCI_INDEX,
            media::OCI_MANIFEST,
            media::DOCKER_LIST,
            media::DOCKER_MANIFEST,
        ] {
            call.headers
                .append(ACCEPT, HeaderValue::from_static(accepted));
        }
        let settings = self.settings();
        self.document(&call, settings.manifest_bytes_max, |headers, bytes| {
            let fetched = read_manifest(reference, headers, bytes)?;
            match &fetched.manifest {
                Manifest::Image(image) if image.layers.len() > settings.layers_max => {
                    let source = InvalidManifest::TooMany {
                        what: "layers",
                        limit: settings.layers_max,
                    };
                    Err(unusable(reference, source))
                }
                _ => Ok(fetched),
            }
        })
        .await
    }

    /// All tags of a repository, in the registry's order.
    pub async fn tags(&self, reference: &Reference) -> Result<Vec<String>> {
        #[derive(Deserialize)]
        struct Page {
            #[serde(default)]
            tags: Option<Vec<String>>,
        }
        let mut tags = Vec::new();
        let mut next = Some(self.url(reference, "tags/list?n=1000").await?);
        while let Some(url) = next {
            let call = Call::get(reference, url);
            let read = |headers: &HeaderMap, body: Vec<u8>| {
                let page = serde_json::from_slice::<Page>(&body)
                    .map_err(|error| self.breach(format!("list of tags: {error}")))?;
                let next = text(headers, &LINK).and_then(|link| next_page(&call.url, link));
                Ok((page, next))
            };
            let (page, further) = self.document(&call, TAGS_BYTES_MAX, read).await?;
            next = further;
            let page = page.tags.unwrap_or_default();
            if page.is_empty() {
                break;
            }
            tags.extend(page);
            if tags.len() > TAGS_MAX {
                let what = format!("list of the tags of {}", reference.familiar_repository());
                return Err(Error::TooLarge {
                    what,
                    limit: TAGS_MAX as u64,
                });
            }
        }
        Ok(tags)
    }
}

/// Reads a manifest, and verifies it against the digest that it was asked by, or that came with it.
fn read_manifest(reference: &Reference, headers: &HeaderMap, bytes: Vec<u8>) -> Result<Fetched> {
    let media_type = text(headers, &CONTENT_TYPE).unwrap_or_default();
    let media_type = media_type.split(';').next().unwrap_or_default().trim();
    let named: Option<Digest> =
        text(headers, &CONTENT_DIGEST).and_then(|digest| digest.parse().ok());
    let actual = Digest::of(&bytes);
    if let Some(expected) = reference.digest().copied().or(named)
        && expected != actual
    {
        return Err(Error::DigestMismatch {
            what: "manifest",
            expected,
            actual,
        });
    }
    let mut raw = RawManifest {
        media_type: media_type.to_owned(),
        bytes,
    };
    let manifest = Manifest::parse(&raw).map_err(|source| unusable(reference, source))?;
    raw.media_type = manifest.media_type(&raw).to_owned();
    Ok(Fetched {
        raw,
        id: ManifestId(actual),
        manifest,
    })
}

fn unusable(reference: &Reference, source: InvalidManifest) -> Error {
    Error::Manifest {
        name: reference.familiar(),
        source,
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// `<URL>; rel="next"` (RFC 5988), on the same registry.
pub(super) fn next_page(from: &Url, link: &str) -> Option<Url> {
    let (target, rest) = link.strip_prefix('<')?.split_once('>')?;
    let next = from.join(target).ok()?;
    (rest.contains("next") && next.origin() == from.origin() && next != *from).then_some(next)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn pages_stay_on_the_registry() {
        let from = Url::parse("http://r:1/v2/a/tags/list?n=1").unwrap();
        let next = next_page(&from, r#"</v2/a/tags/list?n=1&last=x>; rel="next""#).unwrap();
        assert_eq!(next.as_str(), "http://r:1/v2/a/tags/list?n=1&last=x");
        assert_eq!(next_page(&from, r#"<http://evil/v2/>; rel="next""#), None);
        assert_eq!(next_page(&from, "garbage"), None);
    }
}

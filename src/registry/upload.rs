//! Blobs and manifests out: upload, mount from another repository, tag. An upload that breaks goes on where it broke, as
//! far as the registry knows where that is. Never compresses, never re-serialises.

use std::io;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use nacre_store::{Digest, ManifestId, RawManifest};
use reqwest::header::{CONTENT_TYPE, HeaderName, HeaderValue, LOCATION, RANGE};
use reqwest::{Method, Response, StatusCode, Url};

use super::Result;
use super::blobs::FURTHER_BYTES;
use super::call::Call;
use super::client::Client;
use super::error::{Direction, Error};
use super::pieces::{ANSWER_STALL, CHUNK_BYTES, CHUNK_BYTES_MAX, stalled};
use super::send::header;
use crate::reference::{DEFAULT_TAG, Reference};

/// The smallest chunk that a registry takes (OCI distribution, "Pushing a blob in chunks").
const CHUNK_MIN_LENGTH: HeaderName = HeaderName::from_static("oci-chunk-min-length");

/// The bytes of an upload, as they come.
pub type UploadBody = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

/// What is to be uploaded. It may be read more than once: an upload that breaks begins again.
pub trait UploadSource: Send + Sync {
    /// As errors name it.
    fn name(&self) -> String;
    /// How many bytes, where that is known before they are read.
    fn size(&self) -> Option<u64>;
    /// Starts at the first byte.
    fn open(&self) -> io::Result<UploadBody>;
    /// The digest of the bytes; may be unknown until they were read to the end.
    fn digest(&self) -> Option<Digest>;
}

/// An upload that a registry has agreed to.
#[derive(Clone)]
pub struct Upload {
    pub(super) location: Url,
    /// Bytes that the registry has of it.
    pub(super) offset: u64,
    /// How many it is sent at once, where it is not sent in one stream.
    pub(super) chunk_bytes: usize,
}

/// A registry's answer to a wish to mount.
pub enum Mounted {
    /// The blob is there now.
    Yes,
    /// It is not (not there, or not to be seen); but an upload may begin.
    No(Upload),
}

/// How an upload stands.
enum Stage {
    /// The registry knows of none.
    New,
    /// More may be sent.
    Going(Upload),
    /// It broke; the registry may have more of it than is known here, or nothing any more.
    Broken(Upload),
}

impl Stage {
    fn offset(&self) -> u64 {
        match self {
            Stage::New => 0,
            Stage::Going(upload) | Stage::Broken(upload) => upload.offset,
        }
    }
}

/// How the bytes are sent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// All in one request: the fastest, and what every registry knows.
    Stream,
    /// In many: what it breaks off again then costs one of them.
    Chunks,
}

impl Client {
    /// Asks for a blob to be taken over from another repository of the same registry.
    pub async fn mount_blob(&self, to: &Reference, from: &str, digest: &Digest) -> Result<Mounted> {
        let mut url = self.url(to, "blobs/uploads/").await?;
        url.query_pairs_mut()
            .append_pair("mount", &digest.to_string())
            .append_pair("from", from);
        let mut call = Call::new(Direction::Push, to, Method::POST, url);
        call.also_from = Some(from);
        let answer = self.send(&call).await?;
        match answer.status() {
            StatusCode::CREATED => Ok(Mounted::Yes),
            _ => self.upload_at(&call.url, &answer).map(Mounted::No),
        }
    }

    /// Sends a blob, going on or beginning again where that may help; returns its digest.
    pub async fn upload(
        &self,
        to: &Reference,
        begun: Option<Upload>,
        source: &dyn UploadSource,
        retrying: &(dyn Fn(Duration) + Sync),
    ) -> Result<Digest> {
        let mut stage = begun.map_or(Stage::New, Stage::Going);
        let mut way = Way::Stream;
        let (mut failures, mut furthest) = (0, 0_u64);
        loop {
            let error = match self.advance(to, &mut stage, way, source).await {
                Ok(Some(digest)) => return Ok(digest),
                Ok(None) => continue,
                Err(error) => error,
            };
            // Compared with the best so far: a registry that forgets an upload each time is not served for ever.
            if stage.offset() >= furthest.saturating_add(FURTHER_BYTES) {
                furthest = stage.offset();
                failures = 0;
            }
            failures += 1;
            let may_help = error.is_passing() || is_curable(&error, way, failures);
            if failures >= self.settings().blob_attempts || !may_help {
                return Err(error);
            }
            way = match (way, &error) {
                // Not every registry takes chunks.
                (Way::Chunks, Error::Refused(_)) if !error.is_passing() => Way::Stream,
                _ => Way::Chunks,
            };
            let pause = self.settings().delay(failures);
            retrying(pause);
            tokio::time::sleep(pause).await;
        }
    }

    /// One step of an upload; the digest after the last one.
    async fn advance(
        &self,
        to: &Reference,
        stage: &mut Stage,
        way: Way,
        source: &dyn UploadSource,
    ) -> Result<Option<Digest>> {
        *stage = match std::mem::replace(stage, Stage::New) {
            Stage::New => Stage::Going(self.begin(to).await?),
            Stage::Going(mut upload) => {
                let finished = self.finish(to, &mut upload, way, source).await;
                *stage = Stage::Broken(upload);
                return finished.map(Some);
            }
            Stage::Broken(upload) => match self.standing(to, &upload).await {
                Ok(Some(upload)) => Stage::Going(upload),
                Ok(None) => {
                    // It may be unknown because it has come to its end, and only the answer was lost.
                    if let Some(digest) = source.digest()
                        && self.has_blob(to, &digest).await?
                    {
                        return Ok(Some(digest));
                    }
                    Stage::New
                }
                Err(error) => {
                    *stage = Stage::Broken(upload);
                    return Err(error);
                }
            },
        };
        Ok(None)
    }

    async fn begin(&self, to: &Reference) -> Result<Upload> {
        let url = self.url(to, "blobs/uploads/").await?;
        let call = Call::new(Direction::Push, to, Method::POST, url);
        let answer = self.send(&call).await?;
        self.upload_at(&call.url, &answer)
    }

    /// Asks how far an upload is. None: the registry knows nothing of it, or does not say.
    async fn standing(&self, to: &Reference, upload: &Upload) -> Result<Option<Upload>> {
        let url = upload.location.clone();
        let call = Call::new(Direction::Push, to, Method::GET, url);
        let answer = match self.send(&call).await {
            Ok(answer) => answer,
            Err(error @ (Error::Transport { .. } | Error::Stalled { .. })) => return Err(error),
            Err(error) => {
                tracing::info!(%error, "an upload cannot be gone on with");
                return Ok(None);
            }
        };
        let Some(offset) = header(&answer, &RANGE).and_then(|range| received(&range)) else {
            return Ok(None);
        };
        let location = match self.upload_at(&call.url, &answer) {
            Ok(next) => next.location,
            Err(_) => call.url,
        };
        Ok(Some(Upload {
            location,
            offset,
            chunk_bytes: upload.chunk_bytes,
        }))
    }

    /// Sends what is missing, and the digest of the whole.
    async fn finish(
        &self,
        to: &Reference,
        upload: &mut Upload,
        way: Way,
        source: &dyn UploadSource,
    ) -> Result<Digest> {
        match way {
            Way::Stream if upload.offset == 0 => self.stream(to, upload, source).await?,
            Way::Stream | Way::Chunks => self.chunks(to, upload, source).await?,
        }
        let digest = source
            .digest()
            .ok_or_else(|| self.breach(format!("it did not read {} to the end", source.name())))?;
        let mut url = upload.location.clone();
        url.query_pairs_mut()
            .append_pair("digest", &digest.to_string());
        let call = Call::new(Direction::Push, to, Method::PUT, url);
        let answer = tokio::time::timeout(ANSWER_STALL, self.send(&call)).await;
        match answer {
            Ok(answer) => answer.map(|_| digest),
            Err(_) => Err(stalled(&call.method, &call.url)),
        }
    }

    /// Where an upload goes on.
    pub(super) fn upload_at(&self, from: &Url, answer: &Response) -> Result<Upload> {
        let location = header(answer, &LOCATION)
            .ok_or_else(|| self.breach("it names no place for an upload".to_owned()))?;
        let location = from
            .join(&location)
            .map_err(|_| self.breach("the place for an upload is no address".to_owned()))?;
        let least = header(answer, &CHUNK_MIN_LENGTH).and_then(|least| least.trim().parse().ok());
        Ok(Upload {
            location,
            offset: 0,
            chunk_bytes: least.unwrap_or(0).clamp(CHUNK_BYTES, CHUNK_BYTES_MAX),
        })
    }

    /// Sends a manifest under the reference's tag (or digest), byte for byte.
    pub async fn put_manifest(&self, to: &Reference, raw: &RawManifest) -> Result<ManifestId> {
        let under = match (to.tag(), to.digest()) {
            (Some(tag), _) => tag.to_owned(),
            (None, Some(digest)) => digest.to_string(),
            (None, None) => DEFAULT_TAG.to_owned(),
        };
        let url = self.url(to, &format!("manifests/{under}")).await?;
        let mut call = Call::new(Direction::Push, to, Method::PUT, url);
        let media_type = HeaderValue::try_from(&raw.media_type)
            .map_err(|_| self.breach(format!("{:?} is no media type", raw.media_type)))?;
        call.headers.insert(CONTENT_TYPE, media_type);
        call.body = Bytes::from(raw.bytes.clone());
        self.send(&call).await?;
        Ok(ManifestId(Digest::of(&raw.bytes)))
    }
}

/// Whether a refusal is one of this upload, so that going on or another one may end well: its token ended under way, the
/// registry has forgotten it or has another part of it than was thought, or what was put together of parts is not the blob.
fn is_curable(error: &Error, way: Way, failures: u32) -> bool {
    let Error::Refused(refusal) = error else {
        return false;
    };
    let of_upload = matches!(refusal.action, "Patch" | "Put");
    match refusal.status {
        401 => failures == 1,
        404 | 416 => of_upload,
        400 => of_upload && way == Way::Chunks,
        _ => false,
    }
}

/// How many bytes a registry has, by `0-1023`: the last one is named. Of `0-0` nobody knows whether it is none or one.
fn received(range: &str) -> Option<u64> {
    let range = range.trim();
    let range = range
        .strip_prefix("bytes=")
        .or_else(|| range.strip_prefix("bytes "))
        .unwrap_or(range);
    let last: u64 = range.strip_prefix("0-")?.parse().ok()?;
    if last == 0 {
        return Some(0);
    }
    last.checked_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_names_its_last_byte() {
        for (range, bytes) in [
            ("0-1023", Some(1024)),
            ("bytes=0-9", Some(10)),
            ("bytes 0-9", Some(10)),
            ("0-0", Some(0)),
            ("5-9", None),
            ("0--1", None),
            ("0-18446744073709551615", None),
            ("", None),
        ] {
            assert_eq!(received(range), bytes, "{range:?}");
        }
    }
}

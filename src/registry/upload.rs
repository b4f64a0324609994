//! Blobs and manifests out: upload, mount from another repository, tag. Never compresses, never re-serialises.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use nacre_store::{Digest, ManifestId, RawManifest};
use parking_lot::Mutex;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, LOCATION};
use reqwest::{Method, Response, StatusCode, Url};

use super::Result;
use super::auth;
use super::call::{Call, action};
use super::client::Client;
use super::error::{Direction, Error};
use super::send::{header, shown};
use crate::reference::{DEFAULT_TAG, Reference};

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
pub struct Upload {
    location: Url,
}

/// A registry's answer to a wish to mount.
pub enum Mounted {
    /// The blob is there now.
    Yes,
    /// It is not (not there, or not to be seen); but an upload may begin.
    No(Upload),
}

/// A registry that answers an upload this slowly has lost it; storing the last of many gigabytes takes a while.
const ANSWER_STALL: Duration = Duration::from_secs(300);
/// How often an upload is looked at.
const WATCH: Duration = Duration::from_secs(5);

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

    /// Sends a blob, beginning again where that may help; returns its digest.
    pub async fn upload(
        &self,
        to: &Reference,
        mut begun: Option<Upload>,
        source: &dyn UploadSource,
        retrying: &(dyn Fn(Duration) + Sync),
    ) -> Result<Digest> {
        let mut failures = 0;
        loop {
            let error = match self.upload_once(to, begun.take(), source).await {
                Ok(digest) => return Ok(digest),
                Err(error) => error,
            };
            failures += 1;
            // A token that ended under way: the next attempt fetches another.
            let token_ended =
                matches!(&error, Error::Refused(refusal) if refusal.status == 401) && failures == 1;
            if failures >= self.settings().blob_attempts || !(error.is_passing() || token_ended) {
                return Err(error);
            }
            let pause = self.settings().delay(failures);
            retrying(pause);
            tokio::time::sleep(pause).await;
        }
    }

    async fn upload_once(
        &self,
        to: &Reference,
        begun: Option<Upload>,
        source: &dyn UploadSource,
    ) -> Result<Digest> {
        let upload = match begun {
            Some(upload) => upload,
            None => {
                let call = Call::new(
                    Direction::Push,
                    to,
                    Method::POST,
                    self.url(to, "blobs/uploads/").await?,
                );
                let answer = self.send(&call).await?;
                self.upload_at(&call.url, &answer)?
            }
        };
        let mut upload = self.patch(to, upload, source).await?;
        let digest = source
            .digest()
            .ok_or_else(|| self.breach(format!("it did not read {} to the end", source.name())))?;
        upload
            .location
            .query_pairs_mut()
            .append_pair("digest", &digest.to_string());
        let call = Call::new(Direction::Push, to, Method::PUT, upload.location);
        let answer = tokio::time::timeout(ANSWER_STALL, self.send(&call)).await;
        match answer {
            Ok(answer) => answer.map(|_| digest),
            Err(_) => Err(stalled(&call.method, &call.url)),
        }
    }

    /// Streams the bytes into an upload.
    async fn patch(
        &self,
        to: &Reference,
        upload: Upload,
        source: &dyn UploadSource,
    ) -> Result<Upload> {
        let unreadable = |error| Error::Source {
            what: source.name(),
            source: error,
        };
        let mut call = Call::new(Direction::Push, to, Method::PATCH, upload.location);
        call.headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/octet-stream"),
        );
        if let Some(size) = source.size() {
            call.headers.insert(CONTENT_LENGTH, HeaderValue::from(size));
        }
        let (watched, body) = Watched::new(source.open().map_err(unreadable)?);
        let request = self
            .http()
            .request(Method::PATCH, call.url.clone())
            .headers(self.headers(&call).await?);
        let sending = request.body(reqwest::Body::wrap_stream(body)).send();
        let answer = watched.wait(&call, sending).await;
        if let Some(error) = watched.error.lock().take() {
            return Err(unreadable(error));
        }
        let answer = answer?;
        if answer.status() == 401
            && let Some(challenge) = auth::read_challenges(answer.headers()).challenge
        {
            self.learn(challenge, &call);
        }
        if !answer.status().is_success() {
            return Err(self.refusal(&call, answer).await);
        }
        self.upload_at(&call.url, &answer)
    }

    /// Where an upload goes on.
    fn upload_at(&self, from: &Url, answer: &Response) -> Result<Upload> {
        let location = header(answer, &LOCATION)
            .ok_or_else(|| self.breach("it names no place for an upload".to_owned()))?;
        let location = from
            .join(&location)
            .map_err(|_| self.breach("the place for an upload is no address".to_owned()))?;
        Ok(Upload { location })
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

/// Sees how far an upload is, and why its source failed.
struct Watched {
    sent: Arc<AtomicU64>,
    error: Arc<Mutex<Option<io::Error>>>,
}

impl Watched {
    fn new(body: UploadBody) -> (Watched, UploadBody) {
        let watched = Watched {
            sent: Arc::default(),
            error: Arc::default(),
        };
        let (sent, error) = (watched.sent.clone(), watched.error.clone());
        let body = body.map(move |chunk| match chunk {
            Ok(chunk) => {
                sent.fetch_add(chunk.len() as u64, Ordering::Relaxed);
                Ok(chunk)
            }
            Err(failed) => {
                *error.lock() = Some(failed);
                Err(io::Error::other("the source of the upload failed"))
            }
        });
        (watched, Box::pin(body))
    }

    /// Waits for the answer as long as bytes move, and for a while after the last.
    async fn wait(
        &self,
        call: &Call<'_>,
        sending: impl Future<Output = reqwest::Result<Response>>,
    ) -> Result<Response> {
        tokio::pin!(sending);
        let (mut seen, mut still) = (0, Duration::ZERO);
        loop {
            if let Ok(sent) = tokio::time::timeout(WATCH, &mut sending).await {
                return sent.map_err(|cause| Error::Transport {
                    action: call.action(),
                    url: shown(&call.url),
                    cause,
                });
            }
            let now = self.sent.load(Ordering::Relaxed);
            still = if now == seen {
                still.saturating_add(WATCH)
            } else {
                Duration::ZERO
            };
            seen = now;
            if still >= ANSWER_STALL {
                return Err(stalled(&call.method, &call.url));
            }
        }
    }
}

fn stalled(method: &Method, url: &Url) -> Error {
    Error::Stalled {
        action: action(method),
        url: shown(url),
        seconds: ANSWER_STALL.as_secs(),
    }
}

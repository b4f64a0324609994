//! The bytes of an upload on their way: in one stream, or in chunks. Watches that they move; decides nothing about what
//! follows when they do not.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use parking_lot::Mutex;
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, Response, Url};

use super::Result;
use super::auth;
use super::call::{Call, action};
use super::client::Client;
use super::error::{Direction, Error};
use super::send::shown;
use super::upload::{Upload, UploadBody, UploadSource};
use crate::reference::Reference;

/// A registry that answers an upload this slowly has lost it; storing the last of many gigabytes takes a while.
pub(super) const ANSWER_STALL: Duration = Duration::from_secs(300);
/// How often an upload is looked at.
const WATCH: Duration = Duration::from_secs(5);
/// Bytes of a chunk, held in memory for each layer on its way: what a break costs at most, and more than any known registry
/// wants at least (5 MiB).
pub(super) const CHUNK_BYTES: usize = 8 << 20;
/// No registry gets larger ones.
pub(super) const CHUNK_BYTES_MAX: usize = 64 << 20;
/// Bytes of a chunk that go to the connection at once, so that it can be seen whether they move.
const PIECE_BYTES: usize = 128 << 10;

impl Client {
    /// Sends all bytes in one request.
    pub(super) async fn stream(
        &self,
        to: &Reference,
        upload: &mut Upload,
        source: &dyn UploadSource,
    ) -> Result<()> {
        let mut call = Call::new(Direction::Push, to, Method::PATCH, upload.location.clone());
        if let Some(size) = source.size() {
            call.headers.insert(CONTENT_LENGTH, HeaderValue::from(size));
        }
        let body = source.open().map_err(|error| unreadable(source, error))?;
        let answer = self.patch(&mut call, body, source).await?;
        upload.location = self.upload_at(&call.url, &answer)?.location;
        Ok(())
    }

    /// Sends the bytes that the registry has not in chunks; `upload` always says how far it is.
    pub(super) async fn chunks(
        &self,
        to: &Reference,
        upload: &mut Upload,
        source: &dyn UploadSource,
    ) -> Result<()> {
        let mut body = source.open().map_err(|error| unreadable(source, error))?;
        let mut skip = upload.offset;
        let mut held = BytesMut::new();
        while let Some(piece) = body.next().await {
            let mut piece = piece.map_err(|error| unreadable(source, error))?;
            let dropped = usize::try_from(skip).unwrap_or(usize::MAX).min(piece.len());
            drop(piece.split_to(dropped));
            skip = skip.saturating_sub(dropped as u64);
            held.extend_from_slice(&piece);
            while held.len() >= upload.chunk_bytes {
                let chunk = held.split_to(upload.chunk_bytes).freeze();
                self.chunk(to, upload, chunk, source).await?;
            }
        }
        if skip > 0 {
            let what = format!(
                "it says that it has more of {} than there is",
                source.name()
            );
            return Err(self.breach(what));
        }
        if held.is_empty() {
            return Ok(());
        }
        self.chunk(to, upload, held.freeze(), source).await
    }

    async fn chunk(
        &self,
        to: &Reference,
        upload: &mut Upload,
        chunk: Bytes,
        source: &dyn UploadSource,
    ) -> Result<()> {
        let mut call = Call::new(Direction::Push, to, Method::PATCH, upload.location.clone());
        let size = chunk.len() as u64;
        let end = upload.offset.saturating_add(size);
        // Without `bytes` and without a total: so the distribution specification wants it.
        let range = format!("{}-{}", upload.offset, end.saturating_sub(1));
        let range = HeaderValue::try_from(range)
            .map_err(|_| self.breach("a range of digits is no header".to_owned()))?;
        call.headers.insert(CONTENT_RANGE, range);
        call.headers.insert(CONTENT_LENGTH, HeaderValue::from(size));
        let pieces = futures_util::stream::unfold(chunk, |mut rest| async move {
            let piece = rest.split_to(rest.len().min(PIECE_BYTES));
            (!piece.is_empty()).then_some((Ok(piece), rest))
        });
        let answer = self.patch(&mut call, Box::pin(pieces), source).await?;
        upload.location = self.upload_at(&call.url, &answer)?.location;
        upload.offset = end;
        Ok(())
    }

    /// Sends bytes into an upload, once.
    async fn patch(
        &self,
        call: &mut Call<'_>,
        body: UploadBody,
        source: &dyn UploadSource,
    ) -> Result<Response> {
        let octets = HeaderValue::from_static("application/octet-stream");
        call.headers.insert(CONTENT_TYPE, octets);
        let (watched, body) = Watched::new(body);
        let request = self
            .http()
            .request(Method::PATCH, call.url.clone())
            .headers(self.headers(call).await?);
        let sending = request.body(reqwest::Body::wrap_stream(body)).send();
        let answer = watched.wait(call, sending).await;
        if let Some(error) = watched.error.lock().take() {
            return Err(unreadable(source, error));
        }
        let answer = answer?;
        if answer.status() == 401
            && let Some(challenge) = auth::read_challenges(answer.headers()).challenge
        {
            self.learn(challenge, call);
        }
        if !answer.status().is_success() {
            return Err(self.refusal(call, answer).await);
        }
        Ok(answer)
    }
}

fn unreadable(source: &dyn UploadSource, error: io::Error) -> Error {
    Error::Source {
        what: source.name(),
        source: error,
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

pub(super) fn stalled(method: &Method, url: &Url) -> Error {
    Error::Stalled {
        action: action(method),
        url: shown(url),
        seconds: ANSWER_STALL.as_secs(),
    }
}

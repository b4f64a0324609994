//! Blobs in: downloads that go on where they broke. Never holds more than a chunk; what comes is verified by who reads it to the end.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use nacre_store::Digest;
use reqwest::header::{CONTENT_RANGE, HeaderValue, RANGE};
use reqwest::{Method, Response, StatusCode, Url};

use super::Result;
use super::call::Call;
use super::client::Client;
use super::error::{Direction, Error};
use super::foreign::Elsewhere;
use super::manifest::Descriptor;
use super::send::{Answered, Failed, header, next_chunk};
use crate::reference::Reference;

/// A download that came this much further since its last failure is a slow network, not a dead one: it may fail again as often.
pub(super) const FURTHER_BYTES: u64 = 1 << 20;

/// A blob on its way in.
pub struct BlobStream<'a> {
    client: Client,
    reference: &'a Reference,
    digest: Digest,
    size: u64,
    /// Bytes handed out.
    offset: u64,
    answer: Option<(Url, Answered)>,
    /// The mirrors that gave some of it.
    mirrors: BTreeSet<usize>,
    /// Asked where the registry has not got it, or not the right one.
    elsewhere: Elsewhere,
    /// What was handed out before the source that is asked now.
    from_others: u64,
    /// Bytes to drop: of an answer that starts at the beginning again.
    skip: u64,
    failures: u32,
    failed_at: u64,
}

/// What to do next after a failure.
enum Next {
    Pause(Duration),
    /// A mirror is not asked again: the next source is, at once.
    Elsewhere,
    GiveUp(Error),
}

impl Client {
    /// Begins the download of a blob; nothing is sent before the first chunk is asked for.
    pub fn blob<'a>(&self, reference: &'a Reference, blob: &Descriptor) -> BlobStream<'a> {
        BlobStream {
            client: self.clone(),
            reference,
            digest: blob.digest,
            size: blob.size,
            offset: 0,
            answer: None,
            mirrors: BTreeSet::new(),
            elsewhere: Elsewhere::of(blob),
            from_others: 0,
            skip: 0,
            failures: 0,
            failed_at: 0,
        }
    }

    /// Fetches a small blob into memory, verified; `what` names it in errors.
    pub async fn small_blob(
        &self,
        reference: &Reference,
        blob: &Descriptor,
        what: &'static str,
        limit: u64,
    ) -> Result<Vec<u8>> {
        if blob.size > limit {
            return Err(Error::TooLarge {
                what: format!("{what} of {}", reference.familiar()),
                limit,
            });
        }
        let mut stream = self.blob(reference, blob);
        loop {
            stream.start_at(0);
            let mut content = Vec::new();
            while let Some(chunk) = stream.chunk(&mut |_| ()).await? {
                content.extend_from_slice(&chunk);
            }
            let actual = Digest::of(&content);
            if actual == blob.digest {
                return Ok(content);
            }
            let error = Error::DigestMismatch {
                what,
                expected: blob.digest,
                actual,
            };
            if !stream.distrust(&error).await? {
                return Err(error);
            }
        }
    }

    /// Whether the repository has a blob.
    pub async fn has_blob(&self, reference: &Reference, digest: &Digest) -> Result<bool> {
        let url = self.url(reference, &format!("blobs/{digest}")).await?;
        match self
            .send(&Call::new(Direction::Push, reference, Method::HEAD, url))
            .await
        {
            Ok(_) => Ok(true),
            Err(Error::Refused(refusal)) if refusal.status == 404 => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl<'a> BlobStream<'a> {
    /// Begins anew, and leaves out what somebody has already.
    pub fn start_at(&mut self, offset: u64) {
        self.offset = offset;
        self.from_others = offset;
        self.answer = None;
        self.mirrors.clear();
        self.skip = 0;
        self.failures = 0;
        self.failed_at = offset;
    }

    /// The next bytes, `None` after the last. Where the connection breaks it pauses, tells `retrying` for how long, and goes on.
    pub async fn chunk(
        &mut self,
        retrying: &mut (dyn FnMut(Duration) + Send),
    ) -> Result<Option<Bytes>> {
        loop {
            // What a registry sends beyond the promised length is not looked at.
            if self.offset >= self.size {
                self.answer = None;
                return Ok(None);
            }
            let next = match self.advance().await {
                Ok(Some(chunk)) => return Ok(Some(chunk)),
                Ok(None) => continue,
                Err(next) => next,
            };
            self.answer = None;
            match next {
                Next::GiveUp(error) => {
                    if !self.elsewhere.next(&self.client).await? {
                        return Err(error);
                    }
                    tracing::info!(%error, digest = %self.digest, "not where it was asked for");
                    self.failures = 0;
                    self.from_others = self.offset;
                }
                Next::Elsewhere => {}
                Next::Pause(pause) => {
                    retrying(pause);
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    /// One step: opens the answer, or reads from it.
    async fn advance(&mut self) -> std::result::Result<Option<Bytes>, Next> {
        let Some((url, mut answered)) = self.answer.take() else {
            self.answer = Some(self.open().await?);
            return Ok(None);
        };
        let response = &mut answered.response;
        let mut chunk = match next_chunk(&self.client, &Method::GET, &url, response).await {
            Ok(Some(chunk)) => chunk,
            Ok(None) if answered.mirror.is_some() => {
                return Err(self.refuse(answered.mirror, self.too_short()));
            }
            Ok(None) => return Err(self.failed(self.too_short().into())),
            Err(error) => return Err(self.failed(error.into())),
        };
        self.mirrors.extend(answered.mirror);
        self.answer = Some((url, answered));
        let dropped = usize::try_from(self.skip)
            .unwrap_or(usize::MAX)
            .min(chunk.len());
        drop(chunk.split_to(dropped));
        self.skip = self.skip.saturating_sub(dropped as u64);
        let left = usize::try_from(self.size.saturating_sub(self.offset)).unwrap_or(usize::MAX);
        chunk.truncate(left);
        self.offset = self.offset.saturating_add(chunk.len() as u64);
        Ok((!chunk.is_empty()).then_some(chunk))
    }

    async fn call(&self) -> Result<Call<'a>> {
        let url = self
            .client
            .url(self.reference, &format!("blobs/{}", self.digest))
            .await?;
        let mut call = Call::get(self.reference, url);
        call.failures = self.failures;
        if self.offset > 0
            && let Ok(range) = HeaderValue::try_from(format!("bytes={}-", self.offset))
        {
            call.headers.insert(RANGE, range);
        }
        Ok(call)
    }

    /// Asks for the blob, or for what is missing of it.
    async fn open(&mut self) -> std::result::Result<(Url, Answered), Next> {
        let call = self.call().await.map_err(Next::GiveUp)?;
        let answered = match self.elsewhere.ask(&call).await {
            Some(answered) => answered,
            None => self.client.send_once(&call).await,
        };
        match answered {
            Ok(answered) => {
                self.accept(&answered)?;
                Ok((call.url, answered))
            }
            Err(failed) => Err(self.failed(failed)),
        }
    }

    /// Checks that an answer is what is missing, or all of it.
    fn accept(&mut self, answered: &Answered) -> std::result::Result<(), Next> {
        let answer = &answered.response;
        self.skip = match (answer.status(), self.offset) {
            (StatusCode::PARTIAL_CONTENT, offset) if starts_at(answer, offset) => 0,
            (StatusCode::PARTIAL_CONTENT, _) => {
                let what = format!("blob {}: another range than the one asked for", self.digest);
                return Err(self.refuse(answered.mirror, self.client.breach(what)));
            }
            // It knows no ranges: what is here already comes again.
            (_, offset) => offset,
        };
        let promised = answer.content_length().map(|rest| {
            if self.skip > 0 {
                rest
            } else {
                rest.saturating_add(self.offset)
            }
        });
        match promised {
            Some(actual) if actual != self.size => {
                Err(self.refuse(answered.mirror, self.wrong_size(actual)))
            }
            _ => Ok(()),
        }
    }

    /// What follows an answer that is not to be used: the end, or where a mirror gave it, the next source.
    fn refuse(&self, mirror: Option<usize>, error: Error) -> Next {
        match mirror {
            Some(mirror) => {
                self.client.distrust(mirror, &error);
                Next::Elsewhere
            }
            None => Next::GiveUp(error),
        }
    }

    /// The blob is not what it should be: asks the mirrors that gave some of it nothing more, nor the address that gave all of
    /// it. Says whether somebody is left who may give something better, from its first byte. Each time there is one less, so
    /// this ends.
    pub async fn distrust(&mut self, error: &(dyn std::error::Error + Sync)) -> Result<bool> {
        for mirror in &self.mirrors {
            self.client.distrust(*mirror, error);
        }
        if !self.mirrors.is_empty() {
            return Ok(true);
        }
        // Who gave only the rest may not be to blame: he is asked for all of it.
        if self.elsewhere.is_asked() && self.from_others > 0 {
            return Ok(true);
        }
        self.elsewhere.next(&self.client).await
    }

    fn too_short(&self) -> Error {
        self.wrong_size(self.offset)
    }

    fn wrong_size(&self, actual: u64) -> Error {
        Error::SizeMismatch {
            what: "blob",
            digest: self.digest,
            expected: self.size,
            actual,
        }
    }

    /// Counts a failure; decides whether to go on.
    fn failed(&mut self, failed: Failed) -> Next {
        let Failed { error, pause } = failed;
        if self.offset.saturating_sub(self.failed_at) >= FURTHER_BYTES {
            self.failures = 0;
        }
        self.failures += 1;
        self.failed_at = self.offset;
        let settings = self.client.settings();
        let passing = error.is_passing() || matches!(error, Error::SizeMismatch { .. });
        if !passing || self.failures >= settings.blob_attempts {
            return Next::GiveUp(error);
        }
        Next::Pause(pause.unwrap_or_else(|| settings.delay(self.failures)))
    }
}

/// `bytes 5-9/10` (RFC 9110, section 14.4).
fn starts_at(answer: &Response, offset: u64) -> bool {
    let range = header(answer, &CONTENT_RANGE);
    let first = range
        .as_deref()
        .and_then(|range| range.strip_prefix("bytes "));
    let first = first
        .and_then(|range| range.split('-').next())
        .and_then(|first| first.trim().parse().ok());
    first == Some(offset)
}

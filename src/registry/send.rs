//! One exchange with a registry: sent, answered or waited for in vain, tried again. Knows nothing of what is sent.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use reqwest::header::{HeaderMap, HeaderName, RETRY_AFTER};
use reqwest::{Method, Response, Url};

use super::call::{Call, action};
use super::client::{Client, Inner};
use super::error::{self, Error, Refusal};
use super::{Result, auth, certificates};

/// Bytes of an error document that are read.
const ERROR_BYTES_MAX: usize = 64 << 10;
/// A registry that asks for a longer pause is told the user about instead.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

/// An answer, and who gave it.
pub(super) struct Answered {
    pub(super) response: Response,
    /// Which mirror; none: the registry itself.
    pub(super) mirror: Option<usize>,
}

/// Why one exchange came to nothing.
pub(super) struct Failed {
    pub(super) error: Error,
    /// How long the registry wants not to be asked again.
    pub(super) pause: Option<Duration>,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Failed {
        Failed { error, pause: None }
    }
}

impl Client {
    /// Sends a request until it succeeds, or fails in a way that will not pass.
    pub(super) async fn send(&self, call: &Call<'_>) -> Result<Response> {
        let mut failures = 0;
        loop {
            match self.send_once(call).await {
                Ok(answered) => return Ok(answered.response),
                Err(failed) => self.pause_after(failed, &mut failures).await?,
            }
        }
    }

    /// Sends a request for a document and reads it into memory, up to a limit. An answer that breaks off is a failure like
    /// any other. A mirror whose document `read` refuses is asked nothing more.
    pub(super) async fn document<T>(
        &self,
        call: &Call<'_>,
        limit: usize,
        read: impl Fn(&HeaderMap, Vec<u8>) -> Result<T>,
    ) -> Result<T> {
        let mut call = call.clone();
        loop {
            match self.document_once(&call, limit, &read).await {
                Ok(Some(document)) => return Ok(document),
                // Asked elsewhere at once: there is one source less, so this ends.
                Ok(None) => {}
                Err(failed) => self.pause_after(failed, &mut call.failures).await?,
            }
        }
    }

    async fn document_once<T>(
        &self,
        call: &Call<'_>,
        limit: usize,
        read: &impl Fn(&HeaderMap, Vec<u8>) -> Result<T>,
    ) -> std::result::Result<Option<T>, Failed> {
        let Answered { response, mirror } = self.send_once(call).await?;
        let headers = response.headers().clone();
        let body = self
            .read_body(&call.method, &call.url, response, limit)
            .await;
        match (body.and_then(|body| read(&headers, body)), mirror) {
            (Ok(document), _) => Ok(Some(document)),
            (Err(error), Some(mirror)) if !error.is_passing() => {
                self.distrust(mirror, &error);
                Ok(None)
            }
            (Err(error), _) => Err(error.into()),
        }
    }

    /// Sends a request once; an answer that is no success is an error.
    pub(super) async fn send_once(&self, call: &Call<'_>) -> std::result::Result<Answered, Failed> {
        let answered = self.send_authorised(call).await?;
        if answered.response.status().is_success() {
            return Ok(answered);
        }
        let pause = retry_after(&answered.response);
        let error = self.refusal(call, answered.response).await;
        Err(Failed { error, pause })
    }

    /// Waits before the next attempt, if there is to be one.
    async fn pause_after(&self, failed: Failed, failures: &mut u32) -> Result<()> {
        let Failed { error, pause } = failed;
        let settings = self.settings();
        *failures += 1;
        // Whoever cannot be reached at all is not waited for; but with mirrors the next attempt is for another.
        let unreachable = self.0.mirrors.is_empty()
            && matches!(&error, Error::Transport { cause, .. } if cause.is_connect());
        if *failures >= settings.request_attempts || unreachable || !error.is_passing() {
            return Err(error);
        }
        tokio::time::sleep(pause.unwrap_or_else(|| settings.delay(*failures))).await;
        Ok(())
    }

    /// Waits for the head of an answer, not for ever.
    pub(super) async fn timed(
        &self,
        method: &Method,
        url: &Url,
        send: impl Future<Output = reqwest::Result<Response>>,
    ) -> Result<Response> {
        let stall = self.0.settings.stall;
        match tokio::time::timeout(stall, send).await {
            Ok(sent) => sent.map_err(|cause| self.transport(method, url, cause)),
            Err(_) => Err(Error::Stalled {
                action: action(method),
                url: shown(url),
                seconds: stall.as_secs(),
            }),
        }
    }

    /// What a failed exchange is called: a certificate that is refused is no broken connection.
    fn transport(&self, method: &Method, url: &Url, cause: reqwest::Error) -> Error {
        let Inner {
            registry, settings, ..
        } = &*self.0;
        match certificates::refused(&cause, registry, &settings.certs_dirs) {
            Some(what) => Error::Untrusted {
                action: action(method),
                url: shown(url),
                what,
            },
            None => Error::Transport {
                action: action(method),
                url: shown(url),
                cause,
            },
        }
    }

    /// Reads a body that is to be held in memory, up to a limit.
    pub(super) async fn read_body(
        &self,
        method: &Method,
        url: &Url,
        mut answer: Response,
        limit: usize,
    ) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        while let Some(chunk) = next_chunk(self, method, url, &mut answer).await? {
            if body.len().saturating_add(chunk.len()) > limit {
                let what = format!("answer to {} \"{}\"", action(method), shown(url));
                return Err(Error::TooLarge {
                    what,
                    limit: limit as u64,
                });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    /// Makes an error of an answer that is no success.
    pub(super) async fn refusal(&self, call: &Call<'_>, answer: Response) -> Error {
        let status = answer.status().as_u16();
        let oauth = auth::read_challenges(answer.headers())
            .error
            .filter(|_| status == 401 || status == 403);
        // The body of a refusal only adds words: that it breaks off changes nothing.
        let body = self
            .read_body(&call.method, &call.url, answer, ERROR_BYTES_MAX)
            .await
            .unwrap_or_default();
        let (mut code, mut message) = error::read_error_body(status, &body);
        match oauth {
            Some((kind, words)) if kind == "insufficient_scope" => {
                code = Some("DENIED".to_owned());
                message = words
                    .unwrap_or_else(|| "requested access to the resource is denied".to_owned());
            }
            _ if status == 401 && code.is_none() => {
                code = Some("UNAUTHORIZED".to_owned());
                message = "authentication required".to_owned();
            }
            _ => {}
        }
        Error::Refused(Box::new(Refusal {
            direction: call.direction,
            action: call.action(),
            url: shown(&call.url),
            reference: call.reference.clone(),
            status,
            code,
            message,
        }))
    }

    /// The registry broke the protocol.
    pub(super) fn breach(&self, what: String) -> Error {
        Error::Protocol {
            registry: self.0.registry.clone(),
            what,
        }
    }
}

/// An address as errors show it: what follows `?` may be a secret of somebody's.
pub(super) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.to_string()
}

pub(super) fn header(answer: &Response, name: &HeaderName) -> Option<String> {
    answer
        .headers()
        .get(name)
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned)
}

/// The pause that a registry asks for, in seconds or as a date (RFC 9110, section 10.2.3), up to a limit.
pub(super) fn retry_after(answer: &Response) -> Option<Duration> {
    pause(&header(answer, &RETRY_AFTER)?, SystemTime::now())
}

fn pause(asked: &str, now: SystemTime) -> Option<Duration> {
    let asked = asked.trim();
    let pause = match asked.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        // A date that is past is no pause.
        Err(_) => httpdate::parse_http_date(asked)
            .ok()?
            .duration_since(now)
            .unwrap_or_default(),
    };
    Some(pause.min(RETRY_AFTER_MAX))
}

/// The next piece of a body, not waited for longer than a stall may last.
pub(super) async fn next_chunk(
    client: &Client,
    method: &Method,
    url: &Url,
    answer: &mut Response,
) -> Result<Option<Bytes>> {
    let action = action(method);
    let stall = client.settings().stall;
    match tokio::time::timeout(stall, answer.chunk()).await {
        Ok(read) => read.map_err(|cause| Error::Transport {
            action,
            url: shown(url),
            cause,
        }),
        Err(_) => Err(Error::Stalled {
            action,
            url: shown(url),
            seconds: stall.as_secs(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_seconds_or_dates_and_never_long() {
        // Sun, 06 Nov 1994 08:49:37 GMT.
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        for (asked, seconds) in [
            ("7", Some(7)),
            (" 0 ", Some(0)),
            ("86400", Some(60)),
            ("Sun, 06 Nov 1994 08:49:42 GMT", Some(5)),
            ("Sunday, 06-Nov-94 08:49:42 GMT", Some(5)),
            ("Sun Nov  6 08:49:42 1994", Some(5)),
            ("Mon, 07 Nov 1994 08:49:37 GMT", Some(60)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("-1", None),
            ("99999999999999999999999", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(
                pause(asked, now),
                seconds.map(Duration::from_secs),
                "{asked:?}"
            );
        }
    }
}

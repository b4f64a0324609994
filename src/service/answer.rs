//! Answers: bodies, headers, errors, streams. Knows HTTP and nothing of what is answered.

use std::pin::Pin;

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use bytes::Bytes;
use futures_util::{Stream, stream};
use nacre_cli::api;
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

use crate::engine::{Error, Fault};

/// A connection that speaks no HTTP any more.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// Work that is done on a taken-over connection.
pub(crate) type Takeover =
    Box<dyn FnOnce(Box<dyn Duplex>) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

/// What a route answers.
pub(crate) enum Answer {
    /// An ordinary response.
    Plain(Response<Body>),
    /// The connection is taken over.
    Hijack {
        /// What the bytes on it are.
        content_type: &'static str,
        /// What happens on it.
        run: Takeover,
    },
}

impl From<Response<Body>> for Answer {
    fn from(response: Response<Body>) -> Answer {
        Answer::Plain(response)
    }
}

/// A result of a route.
pub(crate) type Outcome = Result<Answer, Error>;

fn with(status: StatusCode, content_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// JSON with a status.
pub(crate) fn json_with<T: Serialize>(status: StatusCode, value: &T) -> Outcome {
    let fail = |error| Error::broken(format!("cannot write the answer: {error}"));
    let mut bytes = serde_json::to_vec(value).map_err(fail)?;
    bytes.push(b'\n');
    Ok(with(status, "application/json", Body::from(bytes)).into())
}

/// JSON.
pub(crate) fn json<T: Serialize>(value: &T) -> Outcome {
    json_with(StatusCode::OK, value)
}

/// Nothing but a status.
pub(crate) fn status(status: StatusCode) -> Answer {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response.into()
}

/// An error, as docker tells it.
pub(crate) fn error(error: &Error) -> Response<Body> {
    let status = match error.fault() {
        Fault::Invalid => StatusCode::BAD_REQUEST,
        Fault::Unauthorized => StatusCode::UNAUTHORIZED,
        Fault::NotFound => StatusCode::NOT_FOUND,
        Fault::Conflict => StatusCode::CONFLICT,
        Fault::Unchanged => StatusCode::NOT_MODIFIED,
        Fault::Unsupported => StatusCode::NOT_IMPLEMENTED,
        Fault::Broken => StatusCode::INTERNAL_SERVER_ERROR,
    };
    if status == StatusCode::NOT_MODIFIED {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = status;
        return response;
    }
    let mut bytes = serde_json::to_vec(&api::ErrorBody {
        message: chain(error),
    })
    .unwrap_or_default();
    bytes.push(b'\n');
    with(status, "application/json", Body::from(bytes))
}

/// An error and its causes, but for those whose text the one above says already.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    text
}

/// A path that no route has.
pub(crate) fn page_not_found() -> Error {
    Error::not_found("page not found")
}

/// Chunks that a slow client may leave unread before the sender waits.
const CHUNKS_AHEAD: usize = 16;

/// A body that is written while it is sent: its two ends.
pub(crate) fn pipe() -> (mpsc::Sender<Bytes>, mpsc::Receiver<Bytes>) {
    mpsc::channel(CHUNKS_AHEAD)
}

/// The chunks that come out of a pipe.
pub(crate) fn chunks(
    from: mpsc::Receiver<Bytes>,
) -> impl Stream<Item = Result<Bytes, std::io::Error>> {
    stream::unfold(from, |mut from| async move {
        from.recv().await.map(|chunk| (Ok(chunk), from))
    })
}

/// A streamed body. Its headers are sent at once, whenever its first chunk comes.
pub(crate) fn streamed<S>(content_type: &'static str, chunks: S) -> Answer
where
    S: Stream<Item = Result<Bytes, std::io::Error>> + Send + 'static,
{
    with(StatusCode::OK, content_type, Body::from_stream(chunks)).into()
}

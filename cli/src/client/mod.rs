//! The client of the service: HTTP/1.1 over its Unix socket, one connection a
//! request. Turns statuses of 400 and more into errors; never prints.

mod connect;
mod hijack;
mod lines;
mod route;
mod shutdown;

use std::io;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::fs::File;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::sync::mpsc;

pub(crate) use connect::Connector;
pub(crate) use hijack::Hijacked;
pub(crate) use lines::JsonLines;
pub(crate) use route::Route;

use crate::api::ErrorBody;
use crate::error::{Error, Result};

/// The largest answer that is read whole: `inspect` of many containers is far
/// below it.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// How much of a file is sent at a time.
const UPLOAD_CHUNK_BYTES: usize = 256 << 10;

/// A request's body.
pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// A request: what is sent where.
pub(crate) struct Call {
    method: Method,
    route: Route,
    headers: Vec<(&'static str, String)>,
    body: Body,
}

impl Call {
    fn new(method: Method, route: Route) -> Self {
        Self {
            method,
            route,
            headers: Vec::new(),
            body: empty(),
        }
    }

    pub(crate) fn get(route: Route) -> Self {
        Self::new(Method::GET, route)
    }

    pub(crate) fn post(route: Route) -> Self {
        Self::new(Method::POST, route)
    }

    pub(crate) fn delete(route: Route) -> Self {
        Self::new(Method::DELETE, route)
    }

    pub(crate) fn header(mut self, name: &'static str, value: String) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Sends a value as JSON.
    pub(crate) fn json<T: Serialize>(mut self, value: &T) -> Result<Self> {
        let bytes = serde_json::to_vec(value).map_err(|source| Error::Answer {
            what: self.route.to_string(),
            source,
        })?;
        self.headers
            .push((CONTENT_TYPE_NAME, "application/json".to_owned()));
        self.body = Full::new(Bytes::from(bytes))
            .map_err(|never| match never {})
            .boxed_unsync();
        Ok(self)
    }

    /// Sends a file.
    pub(crate) fn upload(self, file: File) -> Self {
        let chunks = futures_util::stream::unfold(file, |mut file| async move {
            let mut chunk = BytesMut::with_capacity(UPLOAD_CHUNK_BYTES);
            match file.read_buf(&mut chunk).await {
                Ok(0) => None,
                Ok(_) => Some((Ok(chunk.freeze()), file)),
                Err(error) => Some((Err(error), file)),
            }
        });
        self.stream(chunks)
    }

    /// Sends what arrives piece by piece.
    pub(crate) fn upload_chunks(self, chunks: mpsc::Receiver<io::Result<Vec<u8>>>) -> Self {
        let chunks = futures_util::stream::unfold(chunks, |mut chunks| async move {
            let chunk = chunks.recv().await?;
            Some((chunk.map(Bytes::from), chunks))
        });
        self.stream(chunks)
    }

    fn stream(mut self, chunks: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> Self {
        self.headers
            .push((CONTENT_TYPE_NAME, "application/x-tar".to_owned()));
        let frames = chunks.map(|chunk| chunk.map(Frame::data));
        self.body = StreamBody::new(frames.boxed()).boxed_unsync();
        self
    }
}

const CONTENT_TYPE_NAME: &str = "Content-Type";

fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// The client of one service.
pub(crate) struct Client {
    connector: Connector,
}

impl Client {
    pub(crate) fn new(connector: Connector) -> Self {
        Self { connector }
    }

    /// Says whether a service runs, without starting one.
    pub(crate) async fn is_served(&self) -> Result<bool> {
        Ok(self.connector.connect_if_running().await?.is_some())
    }

    /// Sends a request and returns the answer's head; its body is still to be
    /// read.
    ///
    /// # Errors
    /// [`Error::Api`] for every status of 400 or more.
    pub(crate) async fn send(&self, call: Call) -> Result<Response<Incoming>> {
        let what = call.route.to_string();
        let stream = self.connector.connect().await?;
        let response = Self::exchange(stream, call).await?;
        let status = response.status();
        if status.is_client_error() || status.is_server_error() {
            let bytes = read_whole(response, &what).await?;
            return Err(refused(status, &bytes, &what));
        }
        Ok(response)
    }

    /// Sends a request on a connection of its own and returns the answer's
    /// head, whatever its status.
    async fn exchange(stream: UnixStream, call: Call) -> Result<Response<Incoming>> {
        let what = call.route.to_string();
        let broken = |source| Error::Connection {
            what: what.clone(),
            source,
        };
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(broken)?;
        // The connection ends by itself with the answer's body, or with the
        // upgraded stream; an error of it is seen there as well.
        tokio::spawn(connection.with_upgrades());
        let mut request = Request::builder()
            .method(call.method)
            .uri(call.route.to_string())
            .header(HOST, "nacre")
            .header("User-Agent", USER_AGENT);
        for (name, value) in call.headers {
            request = request.header(name, value);
        }
        let request = request.body(call.body).map_err(|source| Error::Request {
            what: what.clone(),
            source,
        })?;
        sender.send_request(request).await.map_err(broken)
    }

    /// Reads an answer whose head is there already.
    pub(crate) async fn answer<T: DeserializeOwned>(
        &self,
        response: Response<Incoming>,
        what: &str,
    ) -> Result<T> {
        let bytes = read_whole(response, what).await?;
        serde_json::from_slice(&bytes).map_err(|source| Error::Answer {
            what: what.to_owned(),
            source,
        })
    }

    /// Sends a request and reads its answer as JSON.
    pub(crate) async fn json<T: DeserializeOwned>(&self, call: Call) -> Result<T> {
        let what = call.route.to_string();
        let response = self.send(call).await?;
        self.answer(response, &what).await
    }

    /// Gets a JSON answer.
    pub(crate) async fn get<T: DeserializeOwned>(&self, route: Route) -> Result<T> {
        self.json(Call::get(route)).await
    }

    /// Sends a request whose answer has no content worth reading.
    pub(crate) async fn done(&self, call: Call) -> Result<StatusCode> {
        let what = call.route.to_string();
        let response = self.send(call).await?;
        let status = response.status();
        read_whole(response, &what).await?;
        Ok(status)
    }

    /// Sends a request and reads its answer line by line.
    pub(crate) async fn lines(&self, call: Call) -> Result<JsonLines> {
        let what = call.route.to_string();
        Ok(JsonLines::new(self.send(call).await?.into_body(), what))
    }
}

const USER_AGENT: &str = concat!("nacre/", env!("CARGO_PKG_VERSION"));

async fn read_whole(response: Response<Incoming>, what: &str) -> Result<Bytes> {
    let mut body = response.into_body();
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|source| Error::Connection {
            what: what.to_owned(),
            source,
        })?;
        if let Some(data) = frame.data_ref() {
            if bytes.len().saturating_add(data.len()) > ANSWER_BYTES_MAX {
                return Err(Error::AnswerTooLarge {
                    what: what.to_owned(),
                    limit: ANSWER_BYTES_MAX,
                });
            }
            bytes.extend_from_slice(data);
        }
    }
    Ok(bytes.freeze())
}

/// The error that an answer with such a status is.
fn refused(status: StatusCode, bytes: &[u8], what: &str) -> Error {
    let message = match serde_json::from_slice::<ErrorBody>(bytes) {
        Ok(body) => body.message,
        Err(_) => {
            let text = String::from_utf8_lossy(bytes).trim().to_owned();
            if text.is_empty() {
                format!("{what}: {status}")
            } else {
                text
            }
        }
    };
    Error::Api {
        status: status.as_u16(),
        message,
    }
}

/// The content type of an answer, or nothing.
pub(crate) fn content_type(response: &Response<Incoming>) -> &str {
    response
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}

//! One request as the routes see it: decoded path and query, the body, who asks.

use std::io::{self, Read};
use std::sync::Arc;

use axum::body::{Body, BodyDataStream};
use axum::http::{HeaderMap, Method};
use bytes::Bytes;
use futures_util::StreamExt;
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use super::params::{ApiVersion, Params};
use crate::engine::{Engine, Error};

/// Longest JSON body that is read: docker's own limit for a create request is the same order.
const JSON_BYTES_MAX: usize = 8 << 20;

/// Chunks of an uploaded archive that may wait to be read.
const CHUNKS_AHEAD: usize = 16;

/// One request.
pub(crate) struct Call {
    /// The engine.
    pub engine: Arc<Engine>,
    /// How the service was started, for what it tells about itself.
    pub about: Arc<super::About>,
    /// The verb.
    pub method: Method,
    /// The API version that was asked for.
    pub version: ApiVersion,
    /// The path's parts, decoded, without the version.
    pub path: Vec<String>,
    /// The query.
    pub params: Params,
    /// The headers.
    pub headers: HeaderMap,
    /// The process at the other end, if the kernel tells.
    pub peer: Option<i32>,
    /// Only ever taken whole; the lock is what makes a request fit to be shared while work is awaited.
    body: Mutex<Body>,
}

impl Call {
    pub(crate) fn new(
        engine: Arc<Engine>,
        about: Arc<super::About>,
        parts: &axum::http::request::Parts,
        body: Body,
        peer: Option<i32>,
    ) -> Result<Call, Error> {
        let (version, path) = super::params::path(parts.uri.path())?;
        Ok(Call {
            engine,
            about,
            method: parts.method.clone(),
            version,
            path,
            params: Params::parse(parts.uri.query().unwrap_or_default()),
            headers: parts.headers.clone(),
            peer,
            body: Mutex::new(body),
        })
    }

    /// Does blocking work on the engine, away from the threads that serve sockets.
    pub(crate) async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Arc<Engine>) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let engine = Arc::clone(&self.engine);
        blocking(move || work(&engine)).await
    }

    /// Reads a JSON body.
    pub(crate) async fn json<T: DeserializeOwned>(&mut self) -> Result<T, Error> {
        let bytes = self.bytes().await?;
        if bytes.is_empty() {
            return Err(Error::invalid(
                "invalid JSON: got EOF while reading request body",
            ));
        }
        serde_json::from_slice(&bytes)
            .map_err(|error| Error::invalid(format!("invalid JSON: {error}")))
    }

    /// Reads a JSON body that may be missing.
    pub(crate) async fn json_or_default<T: DeserializeOwned + Default>(
        &mut self,
    ) -> Result<T, Error> {
        let bytes = self.bytes().await?;
        if bytes.is_empty() {
            return Ok(T::default());
        }
        serde_json::from_slice(&bytes)
            .map_err(|error| Error::invalid(format!("invalid JSON: {error}")))
    }

    async fn bytes(&mut self) -> Result<Bytes, Error> {
        let body = std::mem::take(self.body.get_mut());
        axum::body::to_bytes(body, JSON_BYTES_MAX)
            .await
            .map_err(|error| Error::invalid(format!("cannot read the request's body: {error}")))
    }

    /// The body as a blocking reader, for an archive of any length.
    pub(crate) fn reader(&mut self) -> BodyReader {
        let body = std::mem::take(self.body.get_mut()).into_data_stream();
        let (to, from) = mpsc::channel(CHUNKS_AHEAD);
        tokio::spawn(forward(body, to));
        BodyReader {
            from,
            chunk: Bytes::new(),
        }
    }
}

/// Runs blocking work. A panic in it is our bug; the client gets an error and the service goes on.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let panicked = |_| Error::broken("the service failed at this request; its log says more");
    tokio::task::spawn_blocking(work).await.map_err(panicked)?
}

async fn forward(mut body: BodyDataStream, to: mpsc::Sender<io::Result<Bytes>>) {
    let mut reader = Some(to);
    while let Some(chunk) = body.next().await {
        let broken = chunk.is_err();
        if let Some(to) = &reader
            && to.send(chunk.map_err(io::Error::other)).await.is_err()
        {
            // It has read what it wanted. The rest must be taken all the same until the client has sent it or leaves:
            // one whose writing fails does not read the answer, which is on its way meanwhile.
            reader = None;
        }
        if broken {
            break;
        }
    }
}

/// A request's body, read by a blocking thread.
pub(crate) struct BodyReader {
    from: mpsc::Receiver<io::Result<Bytes>>,
    chunk: Bytes,
}

impl Read for BodyReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() {
            match self.from.blocking_recv() {
                Some(chunk) => self.chunk = chunk?,
                None => return Ok(0),
            }
        }
        let len = self.chunk.len().min(buf.len());
        let part = self.chunk.split_to(len);
        if let Some(buf) = buf.get_mut(..len) {
            buf.copy_from_slice(&part);
        }
        Ok(len)
    }
}

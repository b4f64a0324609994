//! A body of JSON objects, one a line.

use std::collections::VecDeque;

use bytes::{Buf, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};

/// The longest line: a progress message is a few hundred bytes.
const LINE_BYTES_MAX: usize = 16 << 20;

/// The lines of an answer as they arrive.
pub(crate) struct JsonLines {
    body: Incoming,
    what: String,
    held: BytesMut,
    ready: VecDeque<BytesMut>,
    ended: bool,
}

impl JsonLines {
    pub(crate) fn new(body: Incoming, what: String) -> Self {
        Self {
            body,
            what,
            held: BytesMut::new(),
            ready: VecDeque::new(),
            ended: false,
        }
    }

    /// The next object, or `None` at the end.
    pub(crate) async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>> {
        loop {
            while let Some(line) = self.ready.pop_front() {
                if line.trim_ascii().is_empty() {
                    continue;
                }
                return serde_json::from_slice(&line)
                    .map(Some)
                    .map_err(|source| Error::Answer {
                        what: self.what.clone(),
                        source,
                    });
            }
            if self.ended {
                return Ok(None);
            }
            self.fill().await?;
        }
    }

    async fn fill(&mut self) -> Result<()> {
        let Some(frame) = self.body.frame().await else {
            self.ended = true;
            let rest = std::mem::take(&mut self.held);
            self.ready.push_back(rest);
            return Ok(());
        };
        let frame = frame.map_err(|source| Error::Connection {
            what: self.what.clone(),
            source,
        })?;
        let Some(data) = frame.data_ref() else {
            return Ok(());
        };
        self.held.extend_from_slice(data);
        while let Some(end) = self.held.iter().position(|byte| *byte == b'\n') {
            let line = self.held.split_to(end);
            self.held.advance(1);
            self.ready.push_back(line);
        }
        if self.held.len() > LINE_BYTES_MAX {
            return Err(Error::AnswerTooLarge {
                what: self.what.clone(),
                limit: LINE_BYTES_MAX,
            });
        }
        Ok(())
    }
}

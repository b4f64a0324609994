//! Progress streams: lines while work goes on, an HTTP error if it fails before the first, a last line if after.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use nacre_cli::api;
use serde_json::json;
use tokio::sync::mpsc;

use super::answer::{self, Outcome};
use crate::engine::Error;
use crate::transfer::{Event, Progress};

/// Where progress lines go. Clones share it.
#[derive(Clone)]
pub(crate) struct Sink(mpsc::UnboundedSender<api::Progress>);

impl Sink {
    /// Sends a line. A client that left is noticed by whoever runs the work.
    pub(crate) fn line(&self, line: api::Progress) {
        drop(self.0.send(line));
    }

    /// A transfer's progress as lines.
    pub(crate) fn progress(&self) -> Arc<dyn Progress> {
        let sink = self.clone();
        Arc::new(move |event: Event| sink.line(translate(&event)))
    }

    /// Names the image that was taken in: for nacre's client.
    pub(crate) fn names(&self, id: &nacre_store::ImageId, reference: Option<String>) {
        let aux = api::PullAux {
            reference,
            id: id.to_string(),
        };
        self.line(api::Progress::aux(
            serde_json::to_value(aux).unwrap_or_else(|_| json!({})),
        ));
    }
}

fn translate(event: &Event) -> api::Progress {
    let status = event.status.to_string();
    let id = event.id.clone().unwrap_or_default();
    match event.status.moved() {
        Some(moved) => api::Progress::bytes(id, status, moved.current, moved.total),
        // A line about no layer is a sentence; docker's client prints it as it is.
        None if event.id.is_none() => api::Progress::status(status),
        None => api::Progress::layer(id, status),
    }
}

/// Runs work that tells of its progress. The work ends with the client, wherever it awaits.
pub(crate) async fn stream<W, F>(work: W) -> Outcome
where
    W: FnOnce(Sink) -> F,
    F: Future<Output = Result<(), Error>> + Send + 'static,
{
    let (to, mut lines) = mpsc::unbounded_channel();
    let left = to.clone();
    let work = work(Sink(to));
    let task = tokio::spawn(async move {
        tokio::select! {
            done = work => done,
            () = left.closed() => Ok(()),
        }
    });
    let panicked = |_| Error::broken("the service failed at this request; its log says more");
    // The first line decides: until then, a failure is an HTTP error.
    let Some(first) = lines.recv().await else {
        task.await.map_err(panicked)??;
        return Ok(answer::streamed("application/json", stream::empty()));
    };
    let state = (Some(first), lines, Some(task));
    let chunks = stream::unfold(state, |(first, mut lines, task)| async move {
        let line = match first {
            Some(line) => Some(line),
            None => lines.recv().await,
        };
        if let Some(line) = line {
            return Some((Ok(bytes(&line)), (None, lines, task)));
        }
        let failure = match task?.await {
            Ok(Ok(())) => return None,
            Ok(Err(error)) => answer::chain(&error),
            Err(_) => "the service failed at this request; its log says more".to_owned(),
        };
        Some((
            Ok(bytes(&api::Progress::failure(failure))),
            (None, lines, None),
        ))
    });
    Ok(answer::streamed("application/json", chunks))
}

fn bytes(line: &api::Progress) -> Bytes {
    // Of our own types only an aux that is no JSON could fail, and ours are.
    Bytes::from(line.to_line().unwrap_or_default())
}

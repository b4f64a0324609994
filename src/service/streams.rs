//! The routes that take the connection over: attach, and the start of an exec. Moves bytes, and understands none.

use std::os::unix::net::UnixStream as BlockingStream;
use std::sync::Arc;

use axum::http::StatusCode;
use nacre_cli::api::{self, StreamKind};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::UnixStream;

use super::answer::{self, Answer, Duplex, Outcome};
use super::call::{self, Call};
use super::follow::{MULTIPLEXED_SINCE, frame};
use crate::engine::{Attachment, Engine, Error, Line, More, ReadyExec, Stream, Wanted};
use crate::runtime::AttachRequest;

/// Bytes moved at once: what a pipe holds.
const MOVE_BYTES: usize = 64 << 10;

/// docker's: ctrl-p, ctrl-q.
const DEFAULT_DETACH_KEYS: [u8; 2] = [16, 17];

/// Reads `ctrl-p,ctrl-q` and the like; nothing means docker's default.
pub(crate) fn detach_keys(text: &str) -> Result<Vec<u8>, Error> {
    if text.is_empty() {
        return Ok(DEFAULT_DETACH_KEYS.to_vec());
    }
    let bad = |key: &str| {
        Error::invalid(format!(
            "Invalid detach keys ({text}) provided: unknown key {key:?}"
        ))
    };
    let byte = |key: &str| match key.strip_prefix("ctrl-") {
        Some("@") => Ok(0),
        Some("[") => Ok(27),
        Some("\\") => Ok(28),
        Some("]") => Ok(29),
        Some("^") => Ok(30),
        Some("_") => Ok(31),
        Some(letter) => match letter.as_bytes() {
            [letter @ b'a'..=b'z'] => Ok(letter - b'a' + 1),
            _ => Err(bad(key)),
        },
        None => match key.as_bytes() {
            [byte] => Ok(*byte),
            _ => Err(bad(key)),
        },
    };
    text.split(',').map(byte).collect()
}

/// The content type of a stream with or without a terminal.
fn content_type(tty: bool, call: &Call) -> &'static str {
    if tty || call.version < MULTIPLEXED_SINCE {
        api::RAW_STREAM
    } else {
        api::MULTIPLEXED_STREAM
    }
}

pub(crate) async fn attach(call: Call, name: String) -> Outcome {
    let params = &call.params;
    let streaming = params.flag("stream", false);
    let replay = params.flag("logs", false);
    let request = AttachRequest {
        stdin: params.flag("stdin", false) && streaming,
        stdout: params.flag("stdout", false),
        stderr: params.flag("stderr", false),
        detach_keys: detach_keys(params.text("detachKeys"))?,
    };
    let engine = Arc::clone(&call.engine);
    if !streaming {
        let container = call.work(move |engine| engine.container(&name)).await?;
        let tty = container.config.tty;
        let id = container.id.to_string();
        let content_type = content_type(tty, &call);
        let run = move |mut client: Box<dyn Duplex>| async move {
            if replay {
                replay_logs(engine, id, request, tty, &mut client).await;
            }
            // The client has all it asked for; that it may have left is its business.
            client.shutdown().await.ok();
        };
        return Ok(Answer::Hijack {
            content_type,
            run: Box::new(|client| Box::pin(run(client))),
        });
    }
    let attached = {
        let request = request.clone();
        call.work(move |engine| engine.attach(&name, request))
            .await?
    };
    let (container, attachment) = attached;
    let tty = container.config.tty;
    let id = container.id.to_string();
    let content_type = content_type(tty, &call);
    let run = move |mut client: Box<dyn Duplex>| async move {
        if replay {
            replay_logs(engine, id, request, tty, &mut client).await;
        }
        let stream = match attachment {
            Attachment::Now(stream) => Some(stream),
            // The sender is dropped if the start fails.
            Attachment::AtStart(stream) => stream.await.ok(),
        };
        match stream {
            Some(stream) => join(client, stream, std::future::ready(())).await,
            None => drop(client.shutdown().await),
        }
    };
    Ok(Answer::Hijack {
        content_type,
        run: Box::new(|client| Box::pin(run(client))),
    })
}

async fn replay_logs(
    engine: Arc<Engine>,
    id: String,
    request: AttachRequest,
    tty: bool,
    client: &mut Box<dyn Duplex>,
) {
    let (to, mut from) = answer::pipe();
    tokio::task::spawn_blocking(move || {
        let wanted = Wanted {
            stdout: request.stdout,
            stderr: request.stderr,
            ..Wanted::default()
        };
        let told = engine.logs(&id, &wanted, &mut |line| match line {
            Some(line) if to.blocking_send(bytes_of(&line, tty)).is_err() => More::No,
            _ => More::Yes,
        });
        if let Err(error) = told {
            tracing::debug!(container = %id, %error, "cannot replay a log");
        }
    });
    while let Some(chunk) = from.recv().await {
        if client.write_all(&chunk).await.is_err() {
            return;
        }
    }
}

fn bytes_of(line: &Line, tty: bool) -> bytes::Bytes {
    let kind = match line.stream {
        Stream::Stdout => StreamKind::Stdout,
        Stream::Stderr => StreamKind::Stderr,
    };
    if tty {
        bytes::Bytes::copy_from_slice(&line.text)
    } else {
        frame(kind, &line.text)
    }
}

/// Joins a client and a shim until the shim is done, and what must be known before the client hears of the end. The
/// client's end of input closes the shim's input only.
async fn join(client: Box<dyn Duplex>, shim: BlockingStream, known: impl Future<Output = ()>) {
    let shim = shim
        .set_nonblocking(true)
        .and_then(|()| UnixStream::from_std(shim));
    let shim = match shim {
        Ok(shim) => shim,
        Err(error) => {
            tracing::warn!(%error, "cannot attach to a shim");
            return;
        }
    };
    let (from_shim, to_shim) = tokio::io::split(shim);
    let (from_client, to_client) = tokio::io::split(client);
    let mut input = tokio::spawn(feed(from_client, to_shim));
    let to_client = drain(from_shim, to_client).await;
    // Output is at its end: say so first, then read what the client still sends, for closing a Unix socket with unread
    // input would throw away the output that is under way.
    known.await;
    let mut to_client = to_client;
    to_client.shutdown().await.ok();
    let grace = std::time::Duration::from_secs(2);
    if tokio::time::timeout(grace, &mut input).await.is_err() {
        input.abort();
    }
}

/// Client to shim. After the client's end, or once the shim takes no more, what comes is read and dropped.
async fn feed(mut client: ReadHalf<Box<dyn Duplex>>, mut shim: WriteHalf<UnixStream>) {
    let mut buf = vec![0; MOVE_BYTES];
    let mut open = true;
    while let Ok(len @ 1..) = client.read(&mut buf).await {
        if open
            && shim
                .write_all(buf.get(..len).unwrap_or_default())
                .await
                .is_err()
        {
            open = false;
        }
    }
    shim.shutdown().await.ok();
}

/// Shim to client, until either is done.
async fn drain(
    mut shim: ReadHalf<UnixStream>,
    mut client: WriteHalf<Box<dyn Duplex>>,
) -> WriteHalf<Box<dyn Duplex>> {
    let mut buf = vec![0; MOVE_BYTES];
    while let Ok(len @ 1..) = shim.read(&mut buf).await {
        let written = client.write_all(buf.get(..len).unwrap_or_default()).await;
        if written.is_err() || client.flush().await.is_err() {
            break;
        }
    }
    client
}

pub(crate) async fn start_exec(mut call: Call, id: String) -> Outcome {
    let asked: api::ExecStartRequest = call.json_or_default().await?;
    let size = asked.console_size.and_then(super::exec::size);
    let detach = asked.detach;
    let (ready, stream, tty) = call
        .work(move |engine| {
            let tty = engine.exec(&id)?.request.process.tty;
            let (ready, stream) = engine.ready_exec(&id, !detach, size)?;
            Ok((ready, stream, tty))
        })
        .await?;
    let engine = Arc::clone(&call.engine);
    let Some(stream) = stream else {
        call::blocking(move || engine.start_exec(ready)).await?;
        return Ok(answer::status(StatusCode::OK));
    };
    let content_type = content_type(tty, &call);
    let run = move |client| run_exec(engine, ready, stream, tty, client);
    Ok(Answer::Hijack {
        content_type,
        run: Box::new(|client| Box::pin(run(client))),
    })
}

/// The connection is taken over already: a failed start is told on it, as docker does.
async fn run_exec(
    engine: Arc<Engine>,
    ready: ReadyExec,
    stream: BlockingStream,
    tty: bool,
    mut client: Box<dyn Duplex>,
) {
    let (id, starting) = (ready.id().to_owned(), Arc::clone(&engine));
    match call::blocking(move || starting.start_exec(ready)).await {
        // At the end of the output clients ask for the exit code, and take what they get.
        Ok(()) => {
            let ended = async move {
                let wait = move || engine.wait_exec(&id);
                if let Err(error) = tokio::task::spawn_blocking(wait).await {
                    tracing::warn!(%error, "cannot wait for the end of an exec");
                }
            };
            join(client, stream, ended).await;
        }
        Err(error) => {
            let text = format!("{}\r\n", answer::chain(&error));
            let bytes = if tty {
                bytes::Bytes::from(text)
            } else {
                frame(StreamKind::Stdout, text.as_bytes())
            };
            if client.write_all(&bytes).await.is_ok() {
                client.shutdown().await.ok();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn detach_keys_are_bytes() {
        assert_eq!(detach_keys("").unwrap(), [16, 17]);
        assert_eq!(detach_keys("ctrl-a,x,ctrl-]").unwrap(), [1, b'x', 29]);
        assert!(detach_keys("ctrl-1").is_err() && detach_keys("ab").is_err());
    }
}

//! Connections of old clients that want a stream without asking for an upgrade: taken over before hyper sees them,
//! because hyper gives a connection away only for a 101.

use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Request};
use rustix::net::RecvFlags;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::answer::{self, Answer};
use super::{Service, listen};

/// Longest head that is looked at here; a longer one goes to hyper.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// How often, and how long apart, an unfinished head is looked at before hyper gets it.
const LOOKS_MAX: u32 = 50;
const LOOK_PAUSE: Duration = Duration::from_millis(2);
/// Header lines, as many as hyper takes by default.
const HEADERS_MAX: usize = 100;
/// Longest body of such a request: the options of an exec's start.
const BODY_BYTES_MAX: usize = 64 << 10;

/// Looks at the first bytes without taking them: is this an attach, or the start of an exec, without `Upgrade:`?
pub(crate) async fn wants_takeover(stream: &UnixStream) -> bool {
    let mut head = vec![0; HEAD_BYTES_MAX];
    for _ in 0..LOOKS_MAX {
        if stream.readable().await.is_err() {
            return false;
        }
        let seen = stream.try_io(tokio::io::Interest::READABLE, || {
            let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
            let (len, _) = rustix::net::recv(stream.as_fd(), &mut head[..], flags)?;
            Ok(len)
        });
        let seen = match seen {
            Ok(0) => return false,
            Ok(len) => head.get(..len).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
            Err(_) => return false,
        };
        if let Some(verdict) = judge(seen) {
            return verdict;
        }
        // The rest of the head is under way; readiness alone would answer at once.
        tokio::time::sleep(LOOK_PAUSE).await;
    }
    false
}

/// Decides as soon as the bytes allow it.
pub(super) fn judge(seen: &[u8]) -> Option<bool> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let status = request.parse(seen);
    if request.method.is_some_and(|method| method != "POST")
        || request.path.is_some_and(|path| !is_stream(path))
    {
        return Some(false);
    }
    match status {
        Ok(httparse::Status::Complete(_)) => Some(
            !request
                .headers
                .iter()
                .any(|header| header.name.eq_ignore_ascii_case("upgrade")),
        ),
        Ok(httparse::Status::Partial) if seen.len() < HEAD_BYTES_MAX => None,
        _ => Some(false),
    }
}

fn is_stream(path: &str) -> bool {
    let path = path.split('?').next().unwrap_or_default();
    (path.contains("/containers/") && path.ends_with("/attach"))
        || (path.contains("/exec/") && path.ends_with("/start"))
}

/// Serves the one request of such a connection.
pub(crate) async fn serve(mut stream: UnixStream, service: &Arc<Service>, peer: Option<i32>) {
    let Some(request) = read(&mut stream).await else {
        return;
    };
    let (parts, body) = request.into_parts();
    let outcome = listen::handle(service, &parts, body, peer).await;
    let written = match outcome {
        Ok(Answer::Hijack { content_type, run }) => {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\n\r\n");
            if stream.write_all(head.as_bytes()).await.is_ok() {
                run(Box::new(stream)).await;
            }
            return;
        }
        Ok(Answer::Plain(response)) => write(&mut stream, response).await,
        Err(error) => write(&mut stream, answer::error(&error)).await,
    };
    if written.is_err() {
        // The client has left.
    }
}

async fn read(stream: &mut UnixStream) -> Option<Request<Body>> {
    let mut bytes = Vec::new();
    let (mut request, head_len, body_len) = loop {
        if stream.read_buf(&mut bytes).await.ok()? == 0
            || bytes.len() > HEAD_BYTES_MAX + BODY_BYTES_MAX
        {
            return None;
        }
        if let Some(parsed) = parse(&bytes)? {
            break parsed;
        }
    };
    let end = head_len.checked_add(body_len.min(BODY_BYTES_MAX))?;
    while bytes.len() < end {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    *request.body_mut() = Body::from(bytes.get(head_len..end)?.to_vec());
    Some(request)
}

/// Parses a head: the request, its own length and its body's. `Some(None)`: more bytes are needed.
pub(super) fn parse(bytes: &[u8]) -> Option<Option<(Request<Body>, usize, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut parsed = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(head_len) = parsed.parse(bytes).ok()? else {
        return Some(None);
    };
    let mut request = Request::new(Body::empty());
    *request.method_mut() = parsed.method?.parse().ok()?;
    *request.uri_mut() = parsed.path?.parse().ok()?;
    let mut body_len = 0;
    for header in parsed.headers.iter() {
        if header.name.eq_ignore_ascii_case("content-length") {
            body_len = std::str::from_utf8(header.value)
                .ok()?
                .trim()
                .parse()
                .ok()?;
        }
        let name = HeaderName::from_bytes(header.name.as_bytes()).ok()?;
        request
            .headers_mut()
            .append(name, HeaderValue::from_bytes(header.value).ok()?);
    }
    Some(Some((request, head_len, body_len)))
}

async fn write(
    stream: &mut UnixStream,
    response: axum::http::Response<Body>,
) -> std::io::Result<()> {
    let (parts, body) = response.into_parts();
    let body = axum::body::to_bytes(body, BODY_BYTES_MAX)
        .await
        .map_err(std::io::Error::other)?;
    let status = parts.status;
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(&body).await?;
    stream.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_streams_without_an_upgrade_are_taken_over() {
        let head = |line: &str, more: &str| {
            judge(format!("{line} HTTP/1.1\r\nHost: x\r\n{more}\r\n").as_bytes())
        };
        assert_eq!(head("POST /containers/web/attach?stream=1", ""), Some(true));
        assert_eq!(
            head("POST /v1.24/exec/0af/start", "Content-Length: 2\r\n"),
            Some(true)
        );
        assert_eq!(
            head("POST /containers/web/attach", "upgrade: tcp\r\n"),
            Some(false)
        );
        assert_eq!(head("POST /containers/web/start", ""), Some(false));
        assert_eq!(head("GET /containers/web/attach", ""), Some(false));
    }

    #[test]
    fn an_unfinished_head_is_undecided() {
        assert_eq!(
            judge(b"POST /containers/web/attach HTTP/1.1\r\nHost: x\r\n"),
            None
        );
        assert_eq!(judge(b"PO"), None);
        assert_eq!(judge(b"not http at all \x01\r\n\r\n"), Some(false));
    }
}

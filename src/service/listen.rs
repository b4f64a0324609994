//! The socket's accept loop: one task a connection, HTTP by hyper, and connections taken over. Never looks at a route.

use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{UnixListener, UnixStream};

use super::answer::{self, Answer, Outcome};
use super::call::Call;
use super::{Service, raw, route};
use crate::engine::Error;

/// Mode of the socket: root, and the group that the administrator gives it.
const SOCKET_MODE: u32 = 0o660;

/// Pause after an accept that failed, so that running out of descriptors does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Listens on a socket at `path`, made anew; what is no socket there is left as it is.
pub(crate) fn bind(path: &Path) -> std::io::Result<UnixListener> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => std::fs::remove_file(path)?,
        Ok(_) => {
            return Err(std::io::Error::new(
                std::io::ErrorKind::AlreadyExists,
                "there is something else than a socket, and it is left as it is",
            ));
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(SOCKET_MODE))?;
    Ok(listener)
}

/// Accepts connections until the future is dropped.
pub(crate) async fn accept(listener: UnixListener, service: Arc<Service>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let service = Arc::clone(&service);
                let busy = service.activity.enter();
                tokio::spawn(async move {
                    serve(stream, &service).await;
                    drop(busy);
                });
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// Serves one connection. A client that breaks off is no failure of ours, so what it leaves is not told.
async fn serve(stream: UnixStream, service: &Arc<Service>) {
    let peer = stream.peer_cred().ok().and_then(|cred| cred.pid());
    if raw::wants_takeover(&stream).await {
        raw::serve(stream, service, peer).await;
        return;
    }
    let handler = service_fn(|request| {
        let service = Arc::clone(service);
        async move { Ok::<_, std::convert::Infallible>(respond(&service, request, peer).await) }
    });
    let connection =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), handler);
    if connection.with_upgrades().await.is_err() {
        // It was cut off, or did not speak HTTP.
    }
}

async fn respond(
    service: &Arc<Service>,
    mut request: Request<Incoming>,
    peer: Option<i32>,
) -> Response<Body> {
    let wants_upgrade = request.headers().contains_key(header::UPGRADE);
    let upgrade = hyper::upgrade::on(&mut request);
    let (parts, body) = request.into_parts();
    let mut response = match handle(service, &parts, Body::new(body), peer).await {
        Ok(Answer::Plain(response)) => response,
        Ok(Answer::Hijack { content_type, run }) if wants_upgrade => {
            // Not counted as activity: a container that runs is in use itself, and one that never starts shall keep nobody.
            tokio::spawn(async move {
                // Without an upgrade the client has left already.
                if let Ok(upgraded) = upgrade.await {
                    run(Box::new(TokioIo::new(upgraded))).await;
                }
            });
            switching(content_type)
        }
        Ok(Answer::Hijack { .. }) => answer::error(&Error::invalid(
            "this request takes the connection over: send it with Upgrade: tcp, or as the first on a connection",
        )),
        Err(error) => answer::error(&error),
    };
    common_headers(response.headers_mut());
    response
}

/// Routes a request.
pub(crate) async fn handle(
    service: &Arc<Service>,
    parts: &axum::http::request::Parts,
    body: Body,
    peer: Option<i32>,
) -> Outcome {
    let call = Call::new(
        Arc::clone(&service.engine),
        Arc::clone(&service.about),
        parts,
        body,
        peer,
    )?;
    route::dispatch(call).await
}

fn switching(content_type: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("tcp"));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// What docker says in every answer.
fn common_headers(headers: &mut HeaderMap) {
    headers.insert(
        "Api-Version",
        HeaderValue::from_static(nacre_cli::api::API_VERSION),
    );
    headers.insert("Ostype", HeaderValue::from_static("linux"));
    headers.insert("Docker-Experimental", HeaderValue::from_static("false"));
    headers.insert(
        header::SERVER,
        HeaderValue::from_static(concat!("nacre/", env!("CARGO_PKG_VERSION"), " (linux)")),
    );
}

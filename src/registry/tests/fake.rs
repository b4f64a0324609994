//! A registry in the test's own process, that does what the protocol says, or the fault that a test asks for.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::Response;
use bytes::Bytes;
use futures_util::StreamExt as _;
use nacre_store::Digest;
use parking_lot::Mutex;
use tokio::task::JoinHandle;

use crate::registry::{Client, Credentials, Settings, media};

/// A running registry; it ends when dropped.
pub(crate) struct Fake {
    pub(crate) address: SocketAddr,
    pub(crate) shared: Arc<Mutex<Shared>>,
    task: JoinHandle<()>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Who may come in.
#[derive(Clone, Default)]
pub(crate) enum Door {
    #[default]
    Open,
    /// `Basic`, with this header.
    Basic(String),
    /// `Bearer`, with tokens from `/token`; each token is good for so many requests.
    Token { uses: u32, who: Option<String> },
}

/// What goes wrong, once for each entry.
#[derive(Clone)]
pub(crate) enum Fault {
    /// This answer, to a path that contains the text.
    Answer {
        path: &'static str,
        status: u16,
        header: Option<(&'static str, String)>,
        body: &'static str,
    },
    /// The connection ends after so many bytes of the body.
    Cut { path: &'static str, after: usize },
    /// Of an upload only so many bytes arrive, and the answer is none that helps.
    Partly { path: &'static str, after: usize },
    /// Nothing more comes after so many bytes of the body.
    Stall { path: &'static str, after: usize },
}

#[derive(Default)]
pub(crate) struct Shared {
    pub(crate) door: Door,
    pub(crate) faults: Vec<Fault>,
    pub(crate) ignores_ranges: bool,
    pub(crate) blobs: HashMap<Digest, Bytes>,
    /// Which repository has which blob.
    pub(crate) holds: HashSet<(String, Digest)>,
    pub(crate) manifests: HashMap<(String, String), (String, Bytes)>,
    pub(crate) uploads: HashMap<String, Vec<u8>>,
    /// Bytes of every PATCH that arrived.
    pub(crate) patched: Vec<usize>,
    tokens: HashMap<String, u32>,
    /// Every request: method, path with query, authorization, range.
    pub(crate) log: Vec<Seen>,
}

#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) line: String,
    pub(crate) authorization: Option<String>,
    pub(crate) range: Option<String>,
}

impl Fake {
    pub(crate) async fn start() -> Fake {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared: Arc<Mutex<Shared>> = Arc::default();
        let app = axum::Router::new()
            .fallback(answer)
            .with_state((address, shared.clone()));
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Fake {
            address,
            shared,
            task,
        }
    }

    pub(crate) fn domain(&self) -> String {
        self.address.to_string()
    }

    pub(crate) fn client(&self) -> Client {
        self.client_as(Credentials::Anonymous)
    }

    pub(crate) fn client_as(&self, credentials: Credentials) -> Client {
        client(&self.domain(), credentials)
    }

    pub(crate) fn fault(&self, fault: Fault) {
        self.shared.lock().faults.push(fault);
    }

    /// Puts a blob into a repository.
    pub(crate) fn blob(&self, repository: &str, content: &[u8]) -> Digest {
        let digest = Digest::of(content);
        let mut shared = self.shared.lock();
        shared.blobs.insert(digest, Bytes::copy_from_slice(content));
        shared.holds.insert((repository.to_owned(), digest));
        digest
    }

    /// Puts a manifest into a repository, under a tag and its digest.
    pub(crate) fn manifest(
        &self,
        repository: &str,
        tag: &str,
        media_type: &str,
        content: &str,
    ) -> Digest {
        let digest = Digest::of(content.as_bytes());
        let value = (
            media_type.to_owned(),
            Bytes::copy_from_slice(content.as_bytes()),
        );
        let mut shared = self.shared.lock();
        shared
            .manifests
            .insert((repository.to_owned(), tag.to_owned()), value.clone());
        shared
            .manifests
            .insert((repository.to_owned(), digest.to_string()), value);
        digest
    }

    /// Puts an image of plain tars into a repository; returns its manifest's digest.
    pub(crate) fn image(
        &self,
        repository: &str,
        tag: &str,
        layers: &[Vec<u8>],
        architecture: &str,
    ) -> Digest {
        let layers: Vec<_> = layers
            .iter()
            .map(|tar| (tar.clone(), Digest::of(tar), media::OCI_LAYER))
            .collect();
        self.image_of(repository, tag, &layers, architecture)
    }

    /// Puts an image of layers as they are into a repository: bytes, DiffID, media type.
    pub(crate) fn image_of(
        &self,
        repository: &str,
        tag: &str,
        layers: &[(Vec<u8>, Digest, &str)],
        architecture: &str,
    ) -> Digest {
        let diffs: Vec<String> = layers
            .iter()
            .map(|(_, diff, _)| format!("\"{diff}\""))
            .collect();
        let config = format!(
            r#"{{"architecture":"{architecture}","os":"linux","config":{{}},"rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#,
            diffs.join(",")
        );
        self.blob(repository, config.as_bytes());
        let of = |media_type: &str, content: &[u8]| {
            format!(
                r#"{{"mediaType":"{media_type}","size":{},"digest":"{}"}}"#,
                content.len(),
                Digest::of(content)
            )
        };
        let layers = layers.iter().map(|(layer, _, media_type)| {
            self.blob(repository, layer);
            of(media_type, layer)
        });
        let layers: Vec<String> = layers.collect();
        // Odd white space and a key that nobody knows must survive.
        let manifest = format!(
            "{{ \"schemaVersion\":2,\n\t\"x-odd\" : true, \"mediaType\":\"{}\",\"config\":{},\"layers\":[{}]}}\n",
            media::OCI_MANIFEST,
            of(media::OCI_CONFIG, config.as_bytes()),
            layers.join(",")
        );
        self.manifest(repository, tag, media::OCI_MANIFEST, &manifest)
    }

    pub(crate) fn seen(&self, part: &str) -> Vec<Seen> {
        self.shared
            .lock()
            .log
            .iter()
            .filter(|seen| seen.line.contains(part))
            .cloned()
            .collect()
    }
}

/// A client that does not wait long.
pub(crate) fn client(domain: &str, credentials: Credentials) -> Client {
    Client::new(domain, credentials, impatient()).unwrap()
}

/// What keeps a test short.
pub(crate) fn impatient() -> Settings {
    Settings {
        stall: Duration::from_secs(2),
        delay_first: Duration::from_millis(1),
        delay_max: Duration::from_millis(5),
        ..Settings::default()
    }
}

type Context = (SocketAddr, Arc<Mutex<Shared>>);

async fn answer(State((address, shared)): State<Context>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let line = format!("{} {}", head.method, head.uri);
    let text = |name: &str| {
        head.headers
            .get(name)
            .map(|value| value.to_str().unwrap().to_owned())
    };
    let seen = Seen {
        line: line.clone(),
        authorization: text("authorization"),
        range: text("range"),
    };
    shared.lock().log.push(seen);
    let is_token = head.uri.path() == "/token";
    if !is_token && let Some(refusal) = refuse(&mut shared.lock(), address, &head.headers) {
        return refusal;
    }
    let fault = take_fault(&mut shared.lock(), &line);
    if let Some(Fault::Answer {
        status,
        header,
        body,
        ..
    }) = fault
    {
        let mut answer = Response::builder().status(status);
        if let Some((name, value)) = header {
            answer = answer.header(name, value);
        }
        return answer.body(Body::from(body)).unwrap();
    }
    let mut sent = axum::body::to_bytes(body, 64 << 20)
        .await
        .unwrap_or_default();
    if let Some(Fault::Partly { after, .. }) = fault {
        sent.truncate(after);
    }
    if head.method == Method::PATCH {
        shared.lock().patched.push(sent.len());
    }
    let answer = match is_token {
        true => token(&mut shared.lock(), &head.uri, &head.headers),
        false => route(
            &mut shared.lock(),
            &head.method,
            &head.uri,
            &head.headers,
            &sent,
        ),
    };
    match fault {
        Some(Fault::Cut { after, .. }) => broken(answer, after, Duration::from_millis(50)).await,
        Some(Fault::Stall { after, .. }) => broken(answer, after, Duration::from_secs(60)).await,
        Some(Fault::Partly { .. }) => plain(502, ""),
        _ => answer,
    }
}

/// The same answer, that ends too early, a while after its last byte.
async fn broken(answer: Response, after: usize, pause: Duration) -> Response {
    let (mut head, body) = answer.into_parts();
    let whole = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    head.headers.insert("content-length", whole.len().into());
    let start = whole.slice(..after.min(whole.len()));
    // What was sent must have left before the connection ends.
    let cut = async move {
        tokio::time::sleep(pause).await;
        Err(std::io::Error::other("cut"))
    };
    let start = futures_util::stream::once(async { Ok(start) });
    let pieces = start.chain(futures_util::stream::once(cut));
    Response::from_parts(head, Body::from_stream(pieces))
}

fn take_fault(shared: &mut Shared, line: &str) -> Option<Fault> {
    let position = shared.faults.iter().position(|fault| match fault {
        Fault::Answer { path, .. }
        | Fault::Cut { path, .. }
        | Fault::Partly { path, .. }
        | Fault::Stall { path, .. } => line.contains(path),
    })?;
    Some(shared.faults.remove(position))
}

fn refuse(shared: &mut Shared, address: SocketAddr, headers: &HeaderMap) -> Option<Response> {
    let given = headers
        .get("authorization")
        .map(|value| value.to_str().unwrap().to_owned())
        .unwrap_or_default();
    let challenge = match shared.door.clone() {
        Door::Open => return None,
        Door::Basic(expected) if given == expected => return None,
        Door::Basic(_) => "Basic realm=\"fake\"".to_owned(),
        Door::Token { .. } => {
            let left = shared.tokens.get_mut(given.trim_start_matches("Bearer "));
            if let Some(left) = left.filter(|left| **left > 0) {
                *left -= 1;
                return None;
            }
            format!("Bearer realm=\"http://{address}/token\",service=\"fake\"")
        }
    };
    let body = r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#;
    Some(
        Response::builder()
            .status(401)
            .header("www-authenticate", challenge)
            .body(Body::from(body))
            .unwrap(),
    )
}

fn token(shared: &mut Shared, uri: &Uri, headers: &HeaderMap) -> Response {
    let Door::Token { uses, who } = shared.door.clone() else {
        return plain(404, "");
    };
    let given = headers
        .get("authorization")
        .map(|value| value.to_str().unwrap().to_owned());
    if who.is_some() && who != given {
        return plain(401, r#"{"details":"incorrect username or password"}"#);
    }
    // A login is for no repository, and wants something to keep.
    let login = uri
        .query()
        .is_some_and(|query| query.contains("offline_token=true"));
    assert!(
        uri.query()
            .unwrap_or_default()
            .contains("scope=repository%3A")
            || uri.query().is_none()
            || login
    );
    let value = format!("token-{}", shared.tokens.len());
    shared.tokens.insert(value.clone(), uses);
    let more = if login {
        r#","refresh_token":"to-keep""#
    } else {
        ""
    };
    plain(
        200,
        &format!(r#"{{"token":"{value}","expires_in":300{more}}}"#),
    )
}

fn plain(status: u16, body: &str) -> Response {
    Response::builder()
        .status(status)
        .body(Body::from(body.to_owned()))
        .unwrap()
}

fn refused(status: u16, code: &str, message: &str) -> Response {
    plain(
        status,
        &format!(r#"{{"errors":[{{"code":"{code}","message":"{message}"}}]}}"#),
    )
}

fn route(
    shared: &mut Shared,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    body: &Bytes,
) -> Response {
    let path = uri.path();
    let Some(rest) = path.strip_prefix("/v2/") else {
        return plain(404, "");
    };
    if rest.is_empty() {
        return plain(200, "{}");
    }
    if let Some((repository, id)) = rest.split_once("/blobs/uploads/") {
        return upload(shared, method, uri, headers, repository, id, body);
    }
    if rest.contains("/blobs/") {
        return blob(shared, uri, headers);
    }
    if let Some(repository) = rest.strip_suffix("/tags/list") {
        let mut tags: Vec<&String> = shared
            .manifests
            .keys()
            .filter(|(name, _)| name == repository)
            .map(|(_, tag)| tag)
            .collect();
        tags.retain(|tag| !tag.contains(':'));
        tags.sort();
        return plain(
            200,
            &format!(r#"{{"tags":{}}}"#, serde_json::to_string(&tags).unwrap()),
        );
    }
    let Some((repository, under)) = rest.split_once("/manifests/") else {
        return plain(404, "");
    };
    if method == Method::PUT {
        let media_type = headers["content-type"].to_str().unwrap().to_owned();
        for key in [under.to_owned(), Digest::of(body).to_string()] {
            shared.manifests.insert(
                (repository.to_owned(), key),
                (media_type.clone(), body.clone()),
            );
        }
        return plain(201, "");
    }
    match shared
        .manifests
        .get(&(repository.to_owned(), under.to_owned()))
    {
        None => refused(404, "MANIFEST_UNKNOWN", "manifest unknown"),
        Some((media_type, content)) => Response::builder()
            .header("content-type", media_type)
            .header("docker-content-digest", Digest::of(content).to_string())
            .body(Body::from(content.clone()))
            .unwrap(),
    }
}

fn blob(shared: &Shared, uri: &Uri, headers: &HeaderMap) -> Response {
    let (repository, digest) = uri
        .path()
        .trim_start_matches("/v2/")
        .split_once("/blobs/")
        .unwrap();
    let digest: Digest = digest.parse().unwrap();
    let held = shared.holds.contains(&(repository.to_owned(), digest));
    let Some(content) = shared.blobs.get(&digest).filter(|_| held) else {
        return refused(404, "BLOB_UNKNOWN", "blob unknown to registry");
    };
    let range = headers.get("range").filter(|_| !shared.ignores_ranges);
    let first = range.and_then(|range| {
        range
            .to_str()
            .unwrap()
            .strip_prefix("bytes=")?
            .strip_suffix('-')?
            .parse()
            .ok()
    });
    let rest = content.slice(first.unwrap_or(0)..);
    let mut answer = Response::builder().header("content-length", rest.len());
    if let Some(first) = first {
        let range = format!("bytes {first}-{}/{}", content.len() - 1, content.len());
        answer = answer
            .status(StatusCode::PARTIAL_CONTENT)
            .header("content-range", range);
    }
    answer.body(Body::from(rest)).unwrap()
}

fn upload(
    shared: &mut Shared,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    repository: &str,
    id: &str,
    body: &Bytes,
) -> Response {
    let query: HashMap<String, String> = uri
        .query()
        .unwrap_or_default()
        .split('&')
        .filter_map(|pair| {
            let (key, value) = pair.split_once('=')?;
            Some((
                key.to_owned(),
                value.replace("%3A", ":").replace("%2F", "/"),
            ))
        })
        .collect();
    let at = |id: &str| format!("/v2/{repository}/blobs/uploads/{id}?state=1");
    match method.as_str() {
        "POST" => {
            if let (Some(digest), Some(from)) = (query.get("mount"), query.get("from")) {
                let digest: Digest = digest.parse().unwrap();
                if shared.holds.contains(&(from.clone(), digest)) {
                    shared.holds.insert((repository.to_owned(), digest));
                    return plain(201, "");
                }
            }
            let id = format!("upload-{}", shared.uploads.len());
            shared.uploads.insert(id.clone(), Vec::new());
            Response::builder()
                .status(202)
                .header("location", at(&id))
                .body(Body::empty())
                .unwrap()
        }
        "GET" => {
            let Some(content) = shared.uploads.get(id) else {
                return refused(
                    404,
                    "BLOB_UPLOAD_UNKNOWN",
                    "blob upload unknown to registry",
                );
            };
            let last = content.len().saturating_sub(1);
            Response::builder()
                .status(204)
                .header("location", at(id))
                .header("range", format!("0-{last}"))
                .body(Body::empty())
                .unwrap()
        }
        "PATCH" => {
            let Some(content) = shared.uploads.get_mut(id) else {
                return refused(
                    404,
                    "BLOB_UPLOAD_UNKNOWN",
                    "blob upload unknown to registry",
                );
            };
            if let Some(range) = headers.get("content-range") {
                let range = range.to_str().unwrap();
                let expected = format!("{}-{}", content.len(), content.len() + body.len() - 1);
                if !range.starts_with(&format!("{}-", content.len())) {
                    return refused(416, "RANGE_INVALID", &expected);
                }
            }
            content.extend_from_slice(body);
            Response::builder()
                .status(202)
                .header("location", at(id))
                .body(Body::empty())
                .unwrap()
        }
        "PUT" => {
            let Some(content) = shared.uploads.remove(id) else {
                return refused(
                    404,
                    "BLOB_UPLOAD_UNKNOWN",
                    "blob upload unknown to registry",
                );
            };
            let digest: Digest = query["digest"].parse().unwrap();
            if Digest::of(&content) != digest {
                return refused(
                    400,
                    "DIGEST_INVALID",
                    "provided digest did not match uploaded content",
                );
            }
            shared.blobs.insert(digest, Bytes::from(content));
            shared.holds.insert((repository.to_owned(), digest));
            plain(201, "")
        }
        _ => plain(405, ""),
    }
}

//! A service that only pretends: answers from a list, remembers what it was
//! asked. And the programs that ask it.

use std::io::Write;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::patience;

/// What a route answers.
#[derive(Clone)]
pub(crate) enum Reply {
    /// A status and a body.
    Body(u16, String),
    /// Pieces of a body, one after the other.
    Pieces(Vec<Vec<u8>>),
    /// A body that breaks off.
    Broken(Vec<u8>),
    /// The connection, taken over: what is sent at once, then whatever comes
    /// in until it ends (`echo`), then the end.
    Hijack {
        framed: bool,
        output: Vec<u8>,
        echo: bool,
    },
    /// Headers at once, the body after a while.
    Later(u16, String),
}

/// A pretended service; it ends with the test.
pub(crate) struct Fake {
    pub(crate) socket: PathBuf,
    asked: Arc<Mutex<Vec<String>>>,
    _directory: tempfile::TempDir,
}

type Routes = Vec<(&'static str, Reply)>;

impl Fake {
    /// Answers each route (`GET /images/json`, a prefix of what is asked for
    /// without the version) with its replies in turn; the last one stays.
    pub(crate) fn new(routes: Routes) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("s");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let listener = UnixListener::bind(&socket).unwrap();
        listener.set_nonblocking(true).unwrap();
        let state = Arc::clone(&asked);
        let routes = Arc::new(Mutex::new(routes));
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async move {
                let listener = tokio::net::UnixListener::from_std(listener).unwrap();
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    let (routes, state) = (Arc::clone(&routes), Arc::clone(&state));
                    let service = hyper::service::service_fn(move |request| {
                        answer(request, Arc::clone(&routes), Arc::clone(&state))
                    });
                    tokio::spawn(
                        hyper::server::conn::http1::Builder::new()
                            .serve_connection(TokioIo::new(stream), service)
                            .with_upgrades(),
                    );
                }
            });
        });
        Self {
            socket,
            asked,
            _directory: directory,
        }
    }

    /// What was asked, as `METHOD /path?query body`, without pings.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    /// What was asked, without queries and bodies.
    pub(crate) fn asked_paths(&self) -> Vec<String> {
        self.asked()
            .iter()
            .map(|line| {
                let words: Vec<&str> = line.split(' ').collect();
                let path = words[1].split('?').next().unwrap();
                format!("{} {path}", words[0])
            })
            .collect()
    }

    pub(crate) fn nacre(&self, words: &[&str]) -> Output {
        self.nacre_with(words, b"")
    }

    pub(crate) fn nacre_with(&self, words: &[&str], input: &[u8]) -> Output {
        let mut command = thin();
        command.arg("-H").arg(&self.socket).args(words);
        run(command, input)
    }

    /// The same by docker's own client; `None` if there is none here.
    #[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
    pub(crate) fn docker(&self, words: &[&str]) -> Option<Output> {
        const DOCKER: &str = "/usr/local/bin/docker";
        if !Path::new(DOCKER).exists() {
            eprintln!("skipped: no docker client at {DOCKER} to compare with");
            return None;
        }
        let mut command = Command::new(DOCKER);
        command
            .env_clear()
            .env("HOME", self.socket.parent().unwrap())
            .env("TZ", "UTC")
            .arg("-H")
            .arg(format!("unix://{}", self.socket.display()))
            .args(words);
        Some(run(command, b""))
    }
}

/// The command line.
pub(crate) fn thin() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nacre-thin"));
    command.env_clear().env("TZ", "UTC");
    command
}

pub(crate) fn run(mut command: Command, input: &[u8]) -> Output {
    let what = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || {
        // A program that ends early reads no more.
        drop(stdin.write_all(&input));
    });
    let output = patience::ended(child, &what, patience::PROGRAM);
    writer.join().unwrap();
    output
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

pub(crate) fn ok(body: &str) -> Reply {
    Reply::Body(200, body.to_owned())
}

pub(crate) fn refusal(status: u16, message: &str) -> Reply {
    Reply::Body(status, format!("{{\"message\":{message:?}}}"))
}

pub(crate) fn framed(pieces: &[(nacre_cli::api::StreamKind, &str)]) -> Vec<u8> {
    pieces
        .iter()
        .flat_map(|(kind, text)| {
            let mut bytes =
                nacre_cli::api::frame_header(*kind, u32::try_from(text.len()).unwrap()).to_vec();
            bytes.extend(text.as_bytes());
            bytes
        })
        .collect()
}

type Body = BoxBody<Bytes, std::io::Error>;

fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed()
}

async fn answer(
    mut request: Request<Incoming>,
    routes: Arc<Mutex<Routes>>,
    asked: Arc<Mutex<Vec<String>>>,
) -> Result<Response<Body>, std::io::Error> {
    let path = request.uri().to_string();
    let path = path.strip_prefix("/v1.50").unwrap_or(&path).to_owned();
    let head = || {
        Response::builder()
            .header("Api-Version", "1.50")
            .header("Ostype", "linux")
    };
    if path == "/_ping" {
        return Ok(head().body(full("OK")).unwrap());
    }
    let upgrades = request.headers().contains_key("upgrade");
    let upgrade = hyper::upgrade::on(&mut request);
    let auth = request.headers().get("X-Registry-Auth").cloned();
    let method = request.method().clone();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let mut line = format!("{method} {path} {}", String::from_utf8_lossy(&body));
    if let Some(auth) = auth {
        line.push_str(&format!(" auth={}", auth.to_str().unwrap()));
    }
    asked.lock().unwrap().push(line);
    let reply = {
        let mut routes = routes.lock().unwrap();
        let wanted = format!("{method} {path}");
        let found = routes
            .iter()
            .position(|(route, _)| wanted.starts_with(route));
        found.map(|index| {
            let (route, reply) = routes[index].clone();
            if routes.iter().filter(|(other, _)| *other == route).count() > 1 {
                routes.remove(index);
            }
            reply
        })
    };
    Ok(match reply {
        None => head()
            .status(404)
            .header("Content-Type", "application/json")
            .body(full("{\"message\":\"page not found\"}"))
            .unwrap(),
        Some(Reply::Body(status, body)) => head()
            .status(status)
            .header("Content-Type", "application/json")
            .body(full(body))
            .unwrap(),
        Some(Reply::Pieces(pieces)) => {
            let frames =
                futures_util::stream::iter(pieces).map(|piece| Ok(Frame::data(Bytes::from(piece))));
            head()
                .header("Content-Type", "application/json")
                .body(BodyExt::boxed(StreamBody::new(frames)))
                .unwrap()
        }
        Some(Reply::Broken(piece)) => {
            let frames = futures_util::stream::iter([
                Ok(Frame::data(Bytes::from(piece))),
                Err(std::io::Error::other("broken off")),
            ]);
            head()
                .body(BodyExt::boxed(StreamBody::new(frames)))
                .unwrap()
        }
        Some(Reply::Later(status, body)) => {
            let frames = futures_util::stream::once(async move {
                tokio::time::sleep(Duration::from_millis(50)).await;
                Ok(Frame::data(Bytes::from(body)))
            });
            head()
                .status(status)
                .body(BodyExt::boxed(StreamBody::new(frames)))
                .unwrap()
        }
        Some(Reply::Hijack {
            framed,
            output,
            echo,
        }) => {
            assert!(upgrades, "a stream was asked for without an upgrade");
            tokio::spawn(async move {
                let mut stream = TokioIo::new(upgrade.await.unwrap());
                stream.write_all(&output).await.unwrap();
                let mut came = Vec::new();
                if echo {
                    stream.read_to_end(&mut came).await.unwrap();
                    if framed {
                        let length = u32::try_from(came.len()).unwrap();
                        let header = nacre_cli::api::frame_header(
                            nacre_cli::api::StreamKind::Stdout,
                            length,
                        );
                        stream.write_all(&header).await.unwrap();
                    }
                    stream.write_all(&came).await.unwrap();
                }
                stream.shutdown().await.unwrap();
                // Whatever still comes is read, or the client sees a reset.
                drop(stream.read_to_end(&mut came).await);
            });
            let kind = if framed {
                nacre_cli::api::MULTIPLEXED_STREAM
            } else {
                nacre_cli::api::RAW_STREAM
            };
            head()
                .status(101)
                .header("Content-Type", kind)
                .header("Connection", "Upgrade")
                .header("Upgrade", "tcp")
                .body(full(""))
                .unwrap()
        }
    })
}

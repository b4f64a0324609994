//! Being connected to a process: bytes both ways, the terminal, its size,
//! signals, and the keys that leave it. Makes no request but resize and kill.

mod detach;
pub(crate) mod stdin;
pub(crate) mod terminal;

use std::io;

use futures_util::StreamExt;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::FuturesUnordered;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::api::{Demux, Frame, StreamKind};
use crate::client::{Call, Client, Hijacked, Route};
use crate::draw::{err_bytes, out_bytes};
use crate::error::{Error, Result};
use detach::{Detach, Scanned};
use terminal::{RawTerminal, size};

/// What docker leaves a container by.
pub(crate) const DETACH_KEYS_DEFAULT: &str = "ctrl-p,ctrl-q";

/// How much is read from the connection at a time.
const CHUNK_BYTES: usize = 64 << 10;

/// How often the first resize is tried: the process may not be there yet.
const RESIZE_TRIES: u32 = 10;
const RESIZE_WAIT: std::time::Duration = std::time::Duration::from_millis(10);

/// What a program exits with that a signal ended, beside the signal's number.
const EXIT_SIGNAL: i32 = 128;

/// Signals that end us, or are the process's, by name and number.
const SIGNALS: [(&str, i32); 7] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("USR1", 10),
    ("USR2", 12),
    ("ALRM", 14),
    ("TERM", 15),
];

/// Whose process it is.
#[derive(Clone, Copy)]
pub(crate) enum Process<'a> {
    Container(&'a str),
    Exec(&'a str),
}

impl Process<'_> {
    fn resize(self, rows: u16, columns: u16) -> Route {
        let route = match self {
            Self::Container(id) => Route::docker(&["containers", id, "resize"]),
            Self::Exec(id) => Route::docker(&["exec", id, "resize"]),
        };
        route
            .with("h", &rows.to_string())
            .with("w", &columns.to_string())
    }
}

/// How to be connected.
pub(crate) struct Attachment<'a> {
    pub(crate) client: &'a Client,
    pub(crate) process: Process<'a>,
    /// Whether the process has a terminal: then its output is one stream.
    pub(crate) tty: bool,
    /// Whether our input goes to the process.
    pub(crate) stdin: bool,
    pub(crate) detach_keys: Vec<u8>,
    /// Whether signals go to the process instead of ending us.
    pub(crate) proxies_signals: bool,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The process's output ended.
    Closed,
    /// The user pressed the keys that leave.
    Detached,
}

/// Refuses a terminal where input is none.
pub(crate) fn check_tty(tty: bool, stdin: bool) -> Result<()> {
    if tty && stdin && !io::IsTerminal::is_terminal(&io::stdin()) {
        return Err(Error::Exit {
            code: 1,
            message: "the input device is not a TTY".to_owned(),
        });
    }
    Ok(())
}

impl Attachment<'_> {
    /// Passes bytes, sizes and signals on until the output ends or the user
    /// leaves. The terminal is as it was when this returns, however it does.
    pub(crate) async fn run(&self, hijacked: Hijacked) -> Result<Ended> {
        let framed = hijacked.framed.unwrap_or(!self.tty);
        // Before the terminal changes: a signal must not end us in between.
        let signals = Signals::listen()?;
        let (reader, writer) = tokio::io::split(hijacked.stream);
        let raw = if self.tty && self.stdin {
            RawTerminal::enter()?
        } else {
            None
        };
        let input = self.stdin.then(|| {
            let keys = if self.tty {
                self.detach_keys.clone()
            } else {
                Vec::new()
            };
            tokio::spawn(forward(stdin::chunks(), writer, Detach::new(keys)))
        });
        let ended = self.pump(reader, framed, input, signals).await;
        drop(raw);
        ended
    }

    async fn pump(
        &self,
        mut reader: ReadHalf<TokioIo<Upgraded>>,
        framed: bool,
        input: Option<JoinHandle<Scanned>>,
        mut signals: Signals,
    ) -> Result<Ended> {
        let mut resized = listen(SignalKind::window_change())?;
        let mut requests: FuturesUnordered<LocalBoxFuture<'_, ()>> = FuturesUnordered::new();
        if self.tty {
            requests.push(Box::pin(self.resize(RESIZE_TRIES)));
        }
        let mut demux = framed.then(Demux::default);
        let mut buffer = vec![0; CHUNK_BYTES];
        let mut input = input;
        loop {
            tokio::select! {
                read = reader.read(&mut buffer) => {
                    let bytes = match read {
                        Ok(count) => buffer.get(..count).unwrap_or_default(),
                        Err(source) => return Err(Error::io("the connection to the process", source)),
                    };
                    if bytes.is_empty() {
                        return Ok(Ended::Closed);
                    }
                    write_output(demux.as_mut(), bytes)?;
                }
                scanned = finished(&mut input) => {
                    input = None;
                    if scanned == Scanned::Detached {
                        return Ok(Ended::Detached);
                    }
                }
                (name, number) = signals.next() => {
                    match self.process {
                        Process::Container(id) if self.proxies_signals => {
                            requests.push(Box::pin(self.kill(id, name)));
                        }
                        _ => return Err(Error::Silent(EXIT_SIGNAL + number)),
                    }
                }
                _ = resized.recv(), if self.tty => requests.push(Box::pin(self.resize(1))),
                Some(()) = requests.next(), if !requests.is_empty() => {}
            }
        }
    }

    /// Tells the process how large the terminal is. A process that is not
    /// there yet, or no more, has no size; that is no error of the user's.
    async fn resize(&self, tries: u32) {
        let Some((rows, columns)) = size() else {
            return;
        };
        for _ in 0..tries {
            let call = Call::post(self.process.resize(rows, columns));
            if self.client.done(call).await.is_ok() {
                return;
            }
            tokio::time::sleep(RESIZE_WAIT).await;
        }
    }

    /// Passes a signal on. A process that ended meanwhile takes none.
    async fn kill(&self, id: &str, signal: &str) {
        let route = Route::docker(&["containers", id, "kill"]).with("signal", signal);
        drop(self.client.done(Call::post(route)).await);
    }
}

/// Waits for the end of the input; for ever, if there is none to wait for.
async fn finished(input: &mut Option<JoinHandle<Scanned>>) -> Scanned {
    match input {
        Some(task) => task.await.unwrap_or(Scanned::Ended),
        None => std::future::pending().await,
    }
}

/// Sends our input to the process; its end closes only this direction.
async fn forward(
    mut chunks: mpsc::Receiver<stdin::Chunk>,
    mut writer: WriteHalf<TokioIo<Upgraded>>,
    mut detach: Detach,
) -> Scanned {
    // Input that cannot be read has ended.
    while let Some(Ok(chunk)) = chunks.recv().await {
        let (bytes, detached) = detach.scan(&chunk);
        // A process that reads no more is none of our failures: its exit code
        // tells.
        if writer.write_all(&bytes).await.is_err() || writer.flush().await.is_err() {
            return Scanned::Ended;
        }
        if detached {
            return Scanned::Detached;
        }
    }
    drop(writer.shutdown().await);
    Scanned::Ended
}

/// Writes a piece of output to where it belongs.
pub(crate) fn write_output(demux: Option<&mut Demux>, bytes: &[u8]) -> Result<()> {
    let Some(demux) = demux else {
        return out_bytes(bytes);
    };
    demux.feed(bytes, |Frame { kind, payload }| {
        match kind {
            StreamKind::Stdin | StreamKind::Stdout => out_bytes(payload)?,
            StreamKind::Stderr => err_bytes(payload),
            StreamKind::System => {
                return Err(Error::said(format!(
                    "error from daemon in stream: {}",
                    String::from_utf8_lossy(payload)
                )));
            }
        }
        Ok(())
    })
}

/// The signals that somebody may send us.
struct Signals(Vec<(&'static str, i32, Signal)>);

impl Signals {
    fn listen() -> Result<Self> {
        SIGNALS
            .iter()
            .map(|(name, number)| Ok((*name, *number, listen(SignalKind::from_raw(*number))?)))
            .collect::<Result<_>>()
            .map(Self)
    }

    async fn next(&mut self) -> (&'static str, i32) {
        std::future::poll_fn(|context| {
            for (name, number, signal) in &mut self.0 {
                if let std::task::Poll::Ready(Some(())) = signal.poll_recv(context) {
                    return std::task::Poll::Ready((*name, *number));
                }
            }
            std::task::Poll::Pending
        })
        .await
    }
}

fn listen(kind: SignalKind) -> Result<Signal> {
    signal(kind).map_err(|source| Error::io("listen for signals", source))
}

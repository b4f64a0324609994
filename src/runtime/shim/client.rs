//! One connection to a shim: a request line, then, if it attached, bytes in both directions.
//! Never blocks, and never grows beyond its bounds: while a client's backlog is full the process's output is left in its pipe
//! (docker blocks there too); a client that takes nothing for ten minutes is given up, so that it cannot stop a process for ever.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use super::detach::DetachKeys;
use super::stdio::Output;
use crate::wire::{Answer, AttachRequest, REQUEST_BYTES_MAX, Request};

/// How much output is kept for a client that does not take it: a second of a fast terminal.
const BACKLOG_BYTES_MAX: usize = 1 << 20;

/// How long a client may take nothing before it is given up; shorter than what a pager waits for its reader would lose output.
const STALL_MAX: Duration = Duration::from_secs(600);

/// How long a client that has everything may take to close.
const GOODBYE_MAX: Duration = Duration::from_secs(2);

/// One connection.
#[derive(Debug)]
pub(super) struct Client {
    stream: UnixStream,
    role: Role,
    /// What is still to be sent.
    backlog: Vec<u8>,
    /// When something was sent last, or there was nothing to send.
    moved: Instant,
    /// Nothing more will come from it.
    input_ended: bool,
    /// Nothing more will be sent to it, since then.
    parting: Option<Instant>,
    /// The other side has closed both directions.
    hung_up: bool,
    gone: bool,
}

/// What a connection is for.
#[derive(Debug)]
enum Role {
    /// Its request has not come whole.
    Asking(Vec<u8>),
    /// It waits for the end.
    Waiting,
    /// It has the streams.
    Attached {
        wanted: AttachRequest,
        keys: DetachKeys,
    },
    /// It has its answer.
    Answered,
}

/// What a client's bytes come to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// Nothing.
    Nothing,
    /// A request.
    Request(Request),
    /// Input for the process.
    Input(Vec<u8>),
    /// The end of its input.
    InputEnd,
}

impl Client {
    pub(super) fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            role: Role::Asking(Vec::new()),
            backlog: Vec::new(),
            moved: Instant::now(),
            input_ended: false,
            parting: None,
            hung_up: false,
            gone: false,
        })
    }

    pub(super) fn stream(&self) -> &UnixStream {
        &self.stream
    }

    /// Whether it is to be forgotten.
    pub(super) fn is_gone(&self) -> bool {
        self.gone
    }

    /// Whether it stays for as long as the process runs.
    pub(super) fn stays(&self) -> bool {
        matches!(self.role, Role::Waiting | Role::Attached { .. })
    }

    /// Whether it has streams.
    pub(super) fn is_attached(&self) -> bool {
        matches!(self.role, Role::Attached { .. })
    }

    /// Whether its bytes are wanted, if the process takes input now.
    pub(super) fn wants_read(&self, process_takes_input: bool) -> bool {
        let feeds = matches!(&self.role, Role::Attached { wanted, .. } if wanted.stdin);
        !self.input_ended && (process_takes_input || !feeds || self.parting.is_some())
    }

    /// Whether there is something to send.
    pub(super) fn wants_write(&self) -> bool {
        !self.backlog.is_empty()
    }

    /// Whether the process must wait for it.
    pub(super) fn is_full(&self) -> bool {
        self.backlog.len() >= BACKLOG_BYTES_MAX
    }

    /// Gives it an answer; an attach or a wait goes on, all else is over with it.
    pub(super) fn answer(&mut self, answer: &Answer) {
        match serde_json::to_vec(answer) {
            Ok(line) => {
                self.backlog.extend(line);
                self.backlog.push(b'\n');
            }
            Err(_) => self.gone = true,
        }
        self.send();
        if !self.stays() {
            self.part();
        }
    }

    /// Makes it one that waits for the end.
    pub(super) fn wait(&mut self) {
        self.role = Role::Waiting;
    }

    /// Makes it one that has the streams.
    pub(super) fn attach(&mut self, wanted: AttachRequest, terminal: bool) {
        let keys = if terminal && wanted.stdin {
            wanted.detach_keys.clone()
        } else {
            Vec::new()
        };
        self.role = Role::Attached {
            wanted,
            keys: DetachKeys::new(keys),
        };
    }

    /// Sends output: raw from a terminal, else in docker's frame.
    pub(super) fn output(&mut self, from: Output, bytes: &[u8], terminal: bool) {
        let Role::Attached { wanted, .. } = &self.role else {
            return;
        };
        let (wanted, number) = match from {
            Output::Stdout => (wanted.stdout, 1),
            Output::Stderr => (wanted.stderr, 2),
        };
        if !wanted || self.gone || self.parting.is_some() {
            return;
        }
        if self.backlog.is_empty() {
            self.moved = Instant::now();
        }
        if !terminal {
            // One read is far below 4 GiB.
            let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            self.backlog.extend([number, 0, 0, 0]);
            self.backlog.extend(length.to_be_bytes());
        }
        self.backlog.extend(bytes);
        self.send();
    }

    /// Sends what it takes.
    pub(super) fn send(&mut self) {
        while !self.backlog.is_empty() {
            match self.stream.write(&self.backlog) {
                Ok(0) => break,
                Ok(sent) => {
                    self.backlog.drain(..sent);
                    self.moved = Instant::now();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    // Nobody is there to take it; what it still sent may count.
                    self.backlog.clear();
                    self.gone = !self.feeds();
                    break;
                }
            }
        }
        if self.backlog.is_empty() && self.parting.is_some() {
            // Only the sending half: a socket that is closed with unread input resets the other side's last bytes.
            if self.stream.shutdown(Shutdown::Write).is_err() {
                self.gone = true;
            }
        }
    }

    fn feeds(&self) -> bool {
        matches!(&self.role, Role::Attached { wanted, .. } if wanted.stdin && !self.input_ended && self.parting.is_none())
    }

    /// Takes what it sent.
    pub(super) fn receive(&mut self) -> Heard {
        let mut buffer = [0; 16 << 10];
        let received = match self.stream.read(&mut buffer) {
            Ok(0) => return self.end_of_input(),
            Ok(length) => buffer.get(..length).unwrap_or_default(),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) =>
            {
                return Heard::Nothing;
            }
            Err(_) => {
                self.gone = true;
                return self.end_of_input();
            }
        };
        match &mut self.role {
            Role::Asking(line) => {
                line.extend_from_slice(received);
                let Some(end) = line.iter().position(|byte| *byte == b'\n') else {
                    self.gone = line.len() > REQUEST_BYTES_MAX;
                    return Heard::Nothing;
                };
                // What follows at once is not taken: a client waits for the answer before it sends anything else.
                let request = line
                    .get(..end)
                    .and_then(|line| serde_json::from_slice(line).ok());
                self.gone = request.is_none();
                self.role = Role::Answered;
                request.map_or(Heard::Nothing, Heard::Request)
            }
            Role::Attached { wanted, keys } if wanted.stdin && self.parting.is_none() => {
                let typed = keys.take(received);
                if typed.detached {
                    self.part();
                }
                Heard::Input(typed.bytes)
            }
            _ => Heard::Nothing,
        }
    }

    fn end_of_input(&mut self) -> Heard {
        let fed = self.feeds();
        self.input_ended = true;
        if self.parting.is_some() || !self.is_attached() {
            self.gone = true;
        }
        if fed { Heard::InputEnd } else { Heard::Nothing }
    }

    /// Notes that the other side has closed both directions.
    pub(super) fn hang_up(&mut self) {
        self.hung_up = true;
        self.backlog.clear();
        // What it sent before may still have to be read.
        self.gone |= !self.feeds();
    }

    /// Whether there is nothing to hear of it but that it hung up, which `poll` would say again and again.
    pub(super) fn is_mute(&self, process_takes_input: bool) -> bool {
        self.hung_up && !self.wants_read(process_takes_input)
    }

    /// Sends what there is and then no more.
    pub(super) fn part(&mut self) {
        if self.parting.is_none() {
            self.parting = Some(Instant::now());
            self.moved = Instant::now();
        }
        self.send();
        // One without streams has nothing to lose by a close.
        self.gone |= !self.is_attached() && self.backlog.is_empty();
    }

    /// Gives up a client that takes nothing, or does not close.
    pub(super) fn check_patience(&mut self, now: Instant) {
        let limit = if self.parting.is_some() && self.backlog.is_empty() {
            GOODBYE_MAX
        } else {
            STALL_MAX
        };
        let idle = self.backlog.is_empty() && self.parting.is_none();
        if !idle && now.saturating_duration_since(self.moved) > limit {
            self.gone = true;
        }
    }

    /// Whether its patience must be looked at again soon.
    pub(super) fn is_pressed(&self) -> bool {
        self.parting.is_some() || !self.backlog.is_empty()
    }
}

//! A process's streams: three pipes, or a terminal whose other end arrives from inside the container.
//! Never blocks: our ends are non-blocking.

use std::io::{self, IoSliceMut, PipeReader, PipeWriter};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;

use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::spec::{ConsoleSize, ProcessSpec, Stdin};

/// Where output came from; a terminal's is standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Output {
    /// Standard output, or the terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Our ends.
#[derive(Debug)]
pub(super) enum Streams {
    /// Each open until it ends.
    Pipes {
        /// To standard input.
        stdin: Option<OwnedFd>,
        /// From standard output.
        stdout: Option<OwnedFd>,
        /// From standard error.
        stderr: Option<OwnedFd>,
    },
    /// Both directions, until it ends.
    Terminal(Option<OwnedFd>),
}

/// The process's ends of the pipes.
#[derive(Debug)]
pub(super) struct ProcessEnds {
    pub(super) stdin: OwnedFd,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
}

/// What reading gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// So many bytes.
    Bytes(usize),
    /// Nothing now.
    NotNow,
    /// Nothing any more.
    End,
}

/// Makes pipes for a process without a terminal.
pub(super) fn pipes(spec: &ProcessSpec) -> io::Result<(Streams, ProcessEnds)> {
    let (our_stdout, stdout): (PipeReader, PipeWriter) = io::pipe()?;
    let (our_stderr, stderr) = io::pipe()?;
    let (stdin, our_stdin): (OwnedFd, Option<OwnedFd>) = match spec.stdin {
        Stdin::Null => (std::fs::File::open("/dev/null")?.into(), None),
        Stdin::Open | Stdin::Once => {
            let (theirs, ours) = io::pipe()?;
            (theirs.into(), Some(ours.into()))
        }
    };
    let streams = Streams::Pipes {
        stdin: our_stdin.map(non_blocking).transpose()?,
        stdout: Some(non_blocking(our_stdout.into())?),
        stderr: Some(non_blocking(our_stderr.into())?),
    };
    let ends = ProcessEnds {
        stdin,
        stdout: stdout.into(),
        stderr: stderr.into(),
    };
    Ok((streams, ends))
}

/// Takes the terminal that was sent to this socket.
pub(super) fn receive_terminal(socket: &UnixListener) -> io::Result<Streams> {
    // It was sent before the container was ready, so nothing here waits.
    socket.set_nonblocking(true)?;
    let (connection, _) = socket.accept()?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut name = [0u8; 64];
    recvmsg(
        &connection,
        &mut [IoSliceMut::new(&mut name)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    let mut descriptors = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    let terminal = descriptors
        .next()
        .and_then(|mut descriptors| descriptors.next())
        .ok_or_else(|| io::Error::other("the container sent no terminal"))?;
    Ok(Streams::Terminal(Some(non_blocking(terminal)?)))
}

fn non_blocking(fd: OwnedFd) -> io::Result<OwnedFd> {
    let flags = rustix::fs::fcntl_getfl(&fd)?;
    rustix::fs::fcntl_setfl(&fd, flags | rustix::fs::OFlags::NONBLOCK)?;
    Ok(fd)
}

impl Streams {
    /// Returns where output can be read now.
    pub(super) fn outputs(&self) -> impl Iterator<Item = (Output, BorrowedFd<'_>)> {
        let (out, err) = match self {
            Self::Pipes { stdout, stderr, .. } => (stdout.as_ref(), stderr.as_ref()),
            Self::Terminal(terminal) => (terminal.as_ref(), None),
        };
        let out = out.map(|fd| (Output::Stdout, fd.as_fd()));
        out.into_iter()
            .chain(err.map(|fd| (Output::Stderr, fd.as_fd())))
    }

    /// Returns where input can be written, as long as it can.
    pub(super) fn input(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Pipes { stdin, .. } => stdin.as_ref().map(AsFd::as_fd),
            Self::Terminal(terminal) => terminal.as_ref().map(AsFd::as_fd),
        }
    }

    /// Ends the input. A terminal's input has no end.
    pub(super) fn close_input(&mut self) {
        if let Self::Pipes { stdin, .. } = self {
            *stdin = None;
        }
    }

    /// Reads output; at its end the stream is closed.
    pub(super) fn read(&mut self, from: Output, buffer: &mut [u8]) -> Read {
        let stream = match (self, from) {
            (Self::Pipes { stdout, .. }, Output::Stdout) => stdout,
            (Self::Pipes { stderr, .. }, Output::Stderr) => stderr,
            (Self::Terminal(terminal), _) => terminal,
        };
        let Some(fd) = stream.as_ref() else {
            return Read::End;
        };
        match rustix::io::read(fd, buffer) {
            Ok(length) if length > 0 => Read::Bytes(length),
            Err(Errno::AGAIN | Errno::INTR) => Read::NotNow,
            // A terminal that nobody has open any more answers EIO.
            Ok(_) | Err(_) => {
                *stream = None;
                Read::End
            }
        }
    }

    /// Sets the terminal's size; without a terminal there is none to set.
    pub(super) fn resize(&self, size: ConsoleSize) -> io::Result<()> {
        let Self::Terminal(Some(terminal)) = self else {
            return Ok(());
        };
        let size = Winsize {
            ws_row: size.rows,
            ws_col: size.columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        Ok(tcsetwinsize(terminal, size)?)
    }

    /// Whether it is a terminal.
    pub(super) fn is_terminal(&self) -> bool {
        matches!(self, Self::Terminal(_))
    }
}

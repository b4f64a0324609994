//! Between the blocking store and the awaiting client: bytes handed over in small pieces, one way or the other. Each
//! side notices when the other is gone; an end that was not announced is an error, never the end of the data.

use std::io::{self, Read, Write};
use std::pin::Pin;

use bytes::{Buf as _, Bytes, BytesMut};
use futures_util::Stream;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use super::error::{Error, Result};

/// Pieces under way. A piece is at most what the HTTP library reads at once (some 400 KiB): a few MiB a layer.
const PIECES_MAX: usize = 8;
/// Bytes of a piece that a blocking writer hands over.
const PIECE_BYTES: usize = 128 << 10;

/// Runs blocking work on a thread for it.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    spawn_blocking(work).await.map_err(stopped)
}

/// A task gone is a panic to go on with, or the end of the service.
pub(super) fn stopped(error: tokio::task::JoinError) -> Error {
    match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(_) => Error::Stopping,
    }
}

enum Piece {
    Bytes(Bytes),
    End,
}

/// The awaiting end: bytes go in.
pub(super) struct Feed(mpsc::Sender<Piece>);

/// The blocking end: bytes come out.
pub(super) struct FedReader {
    pieces: mpsc::Receiver<Piece>,
    current: Bytes,
    ended: bool,
}

/// Makes a pair.
pub(super) fn feed() -> (Feed, FedReader) {
    let (sender, pieces) = mpsc::channel(PIECES_MAX);
    (
        Feed(sender),
        FedReader {
            pieces,
            current: Bytes::new(),
            ended: false,
        },
    )
}

impl Feed {
    /// Hands a piece over; false when nobody reads any more.
    pub(super) async fn send(&self, piece: Bytes) -> bool {
        self.0.send(Piece::Bytes(piece)).await.is_ok()
    }

    /// Says that all has been handed over; once or more often. A feed that is dropped without it was broken off.
    pub(super) async fn end(&self) {
        // A reader that is gone has its own error to tell.
        drop(self.0.send(Piece::End).await);
    }
}

impl Read for FedReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() && !self.ended {
            match self.pieces.blocking_recv() {
                Some(Piece::Bytes(piece)) => self.current = piece,
                Some(Piece::End) => self.ended = true,
                None => {
                    return Err(io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        "the transfer was broken off",
                    ));
                }
            }
        }
        let count = self.current.len().min(buf.len());
        self.current
            .copy_to_slice(buf.get_mut(..count).unwrap_or_default());
        Ok(count)
    }
}

/// Makes a stream of what blocking work writes, on a thread of its own; an error of the work is the stream's last item.
pub(super) fn stream_of(
    work: impl FnOnce(&mut dyn Write) -> io::Result<()> + Send + 'static,
) -> Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>> {
    let (sender, receiver) = mpsc::channel(PIECES_MAX);
    // Not awaited: it ends by itself, at the latest when nobody takes its pieces any more.
    drop(spawn_blocking(move || {
        let mut writer = PieceWriter {
            pieces: sender,
            buffer: BytesMut::new(),
        };
        let done = work(&mut writer).and_then(|()| writer.flush());
        if let Err(error) = done {
            drop(writer.pieces.blocking_send(Err(error)));
        }
    }));
    Box::pin(futures_util::stream::unfold(
        receiver,
        |mut pieces| async move {
            let piece = pieces.recv().await?;
            Some((piece, pieces))
        },
    ))
}

struct PieceWriter {
    pieces: mpsc::Sender<io::Result<Bytes>>,
    buffer: BytesMut,
}

impl PieceWriter {
    fn hand_over(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let piece = self.buffer.split().freeze();
        let gone = |_| {
            io::Error::new(
                io::ErrorKind::BrokenPipe,
                "nobody reads the upload any more",
            )
        };
        self.pieces.blocking_send(Ok(piece)).map_err(gone)
    }
}

impl Write for PieceWriter {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(buf);
        if self.buffer.len() >= PIECE_BYTES {
            self.hand_over()?;
        }
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.hand_over()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use futures_util::StreamExt as _;

    use super::*;

    #[tokio::test]
    async fn a_feed_that_is_dropped_is_an_error_not_an_end() {
        let (feed, mut reader) = feed();
        assert!(feed.send(Bytes::from_static(b"half")).await);
        drop(feed);
        let read = blocking(move || {
            let mut all = Vec::new();
            let result = reader.read_to_end(&mut all);
            (all, result.map_err(|error| error.kind()))
        });
        assert_eq!(
            read.await.unwrap(),
            (b"half".to_vec(), Err(io::ErrorKind::UnexpectedEof))
        );
    }

    #[tokio::test]
    async fn a_feed_that_ends_is_read_whole() {
        let (feed, mut reader) = feed();
        let read = tokio::spawn(blocking(move || {
            let mut all = Vec::new();
            reader.read_to_end(&mut all).unwrap();
            all
        }));
        for piece in ["one ", "", "two"] {
            assert!(feed.send(Bytes::from_static(piece.as_bytes())).await);
        }
        feed.end().await;
        assert_eq!(read.await.unwrap().unwrap(), b"one two");
    }

    #[tokio::test]
    async fn a_writer_becomes_a_stream_and_its_error_the_last_item() {
        let big = vec![7; PIECE_BYTES * 3 + 5];
        let sent = big.clone();
        let pieces: Vec<_> = stream_of(move |out| {
            out.write_all(&sent)?;
            Err(io::Error::other("broken"))
        })
        .collect()
        .await;
        let (last, whole) = pieces.split_last().unwrap();
        assert_eq!(last.as_ref().unwrap_err().to_string(), "broken");
        let whole: Vec<u8> = whole
            .iter()
            .flat_map(|piece| piece.as_ref().unwrap().to_vec())
            .collect();
        assert_eq!(whole, big);
    }
}

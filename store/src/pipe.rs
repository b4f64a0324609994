//! A stream of bytes from one thread to the next, in blocks that go round. Knows nothing of what they mean.

use std::io::{self, Read};
use std::sync::mpsc;

/// Bytes of a block.
pub(crate) const BLOCK_BYTES: usize = 128 << 10;

/// Blocks on the way at once: enough that neither side waits for the other's every block.
const BLOCKS: usize = 8;

/// The end that bytes go in.
pub(crate) struct PipeWriter {
    full: mpsc::SyncSender<Vec<u8>>,
    empty: mpsc::Receiver<Vec<u8>>,
}

/// The end that bytes come out.
pub(crate) struct PipeReader {
    full: mpsc::Receiver<Vec<u8>>,
    empty: mpsc::SyncSender<Vec<u8>>,
    block: Vec<u8>,
    at: usize,
}

/// The other end is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Closed;

/// Reads once, whatever signals come in between.
pub(crate) fn read_some(from: &mut impl Read, buf: &mut [u8]) -> io::Result<usize> {
    loop {
        match from.read(buf) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

/// Makes a pipe.
pub(crate) fn pipe() -> (PipeWriter, PipeReader) {
    let (full_in, full_out) = mpsc::sync_channel(BLOCKS);
    let (empty_in, empty_out) = mpsc::sync_channel(BLOCKS + 2);
    let reader = PipeReader {
        full: full_out,
        empty: empty_in,
        block: Vec::new(),
        at: 0,
    };
    (
        PipeWriter {
            full: full_in,
            empty: empty_out,
        },
        reader,
    )
}

impl PipeWriter {
    /// A block of [`BLOCK_BYTES`] to fill.
    pub(crate) fn block(&self) -> Vec<u8> {
        let mut block = self.empty.try_recv().unwrap_or_default();
        block.resize(BLOCK_BYTES, 0);
        block
    }

    /// A block that came back, if there is one: for a thread that only passes blocks on.
    pub(crate) fn spare(&self) -> Option<Vec<u8>> {
        self.empty.try_recv().ok()
    }

    /// Sends the first `len` bytes of a block.
    pub(crate) fn send(&self, mut block: Vec<u8>, len: usize) -> Result<(), Closed> {
        block.truncate(len);
        self.full.send(block).map_err(|_| Closed)
    }
}

impl PipeReader {
    /// The next block as it was sent, for who reads nothing but blocks; `used` goes back in its place. None at the end.
    pub(crate) fn next_block(&mut self, used: Option<Vec<u8>>) -> Option<Vec<u8>> {
        used.into_iter().for_each(|used| self.give_back(used));
        self.full.recv().ok()
    }

    /// A writer that is gone or has blocks enough needs no more.
    fn give_back(&self, used: Vec<u8>) {
        if used.capacity() > 0 && self.empty.try_send(used).is_err() {}
    }
}

impl Read for PipeReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.at == self.block.len() {
            // The writer's end is the end of the bytes.
            let Ok(next) = self.full.recv() else {
                return Ok(0);
            };
            let used = std::mem::replace(&mut self.block, next);
            self.at = 0;
            self.give_back(used);
        }
        let ready = self.block.get(self.at..).unwrap_or_default();
        let len = ready.len().min(buf.len());
        if let (Some(to), Some(from)) = (buf.get_mut(..len), ready.get(..len)) {
            to.copy_from_slice(from);
        }
        self.at += len;
        Ok(len)
    }
}

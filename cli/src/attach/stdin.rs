//! Reads standard input on a thread of its own: reading it blocks, and cannot
//! be called off.

use std::io;
use std::thread;

use rustix::io::{Errno, read};
use rustix::stdio::stdin;
use tokio::sync::mpsc;

/// How much is read at a time.
const CHUNK_BYTES: usize = 64 << 10;

/// How many pieces wait to be sent; more are left to the pipe that we read.
const CHUNKS_MAX: usize = 4;

/// A piece of the input, or why there are no more.
pub(crate) type Chunk = io::Result<Vec<u8>>;

/// The input, piece by piece. The thread ends with the input, with the
/// receiver, or with the program.
pub(crate) fn chunks() -> mpsc::Receiver<Chunk> {
    let (sender, receiver) = mpsc::channel(CHUNKS_MAX);
    thread::spawn(move || {
        let mut buffer = vec![0; CHUNK_BYTES];
        loop {
            match read(stdin(), &mut buffer) {
                Ok(0) => return,
                Ok(count) => {
                    let chunk = buffer.get(..count).unwrap_or_default().to_vec();
                    if sender.blocking_send(Ok(chunk)).is_err() {
                        return;
                    }
                }
                Err(Errno::INTR) => {}
                Err(errno) => {
                    // Nobody waits any more: then nobody needs to know.
                    drop(sender.blocking_send(Err(errno.into())));
                    return;
                }
            }
        }
    });
    receiver
}

//! The bytes of a tar on their way: looked at, kept as headers, or handed on as content. Never knows what they mean.

use std::io::{self, Read, Write};

/// Large enough that a read costs nothing beside its bytes, small enough to stay in a core's own cache.
const BUFFER_BYTES: usize = 256 << 10;
/// A read of content at least this long goes past the buffer.
const DIRECT_BYTES_MIN: usize = 32 << 10;

/// What goes wrong on the way.
#[derive(Debug)]
pub(super) enum Fault {
    /// The source failed.
    Source(io::Error),
    /// The header stream did not take its bytes.
    Headers(io::Error),
    /// The source ended.
    Ended,
    /// The source gives more bytes than allowed.
    TooLong,
}

/// A source with a buffer, and the stream that keeps what is no content.
pub(super) struct Input<R, H> {
    archive: R,
    headers: H,
    buf: Box<[u8]>,
    start: usize,
    end: usize,
    /// Bytes taken from the buffer.
    offset: u64,
    /// Bytes taken from the source.
    read: u64,
    read_max: u64,
    header_bytes: u64,
}

impl<R: Read, H: Write> Input<R, H> {
    pub(super) fn new(archive: R, headers: H, read_max: u64) -> Self {
        let buf = vec![0; BUFFER_BYTES].into_boxed_slice();
        Self {
            archive,
            headers,
            buf,
            start: 0,
            end: 0,
            offset: 0,
            read: 0,
            read_max,
            header_bytes: 0,
        }
    }

    /// Where the next byte is in the archive.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Bytes kept as headers.
    pub(super) fn header_bytes(&self) -> u64 {
        self.header_bytes
    }

    /// Returns what is buffered, at least `len` bytes of it unless the source ends before. `len` is small.
    pub(super) fn peek(&mut self, len: usize) -> Result<&[u8], Fault> {
        while self.buffered() < len && self.fill()? {}
        Ok(self.window())
    }

    /// Keeps the next `len` bytes as headers, whatever their number.
    pub(super) fn keep(&mut self, len: u64) -> Result<(), Fault> {
        self.keep_each(len, |_| {})
    }

    /// Keeps the next `len` bytes as headers and shows them to `look`, in pieces.
    pub(super) fn keep_each(
        &mut self,
        mut len: u64,
        mut look: impl FnMut(&[u8]),
    ) -> Result<(), Fault> {
        while len > 0 {
            if self.buffered() == 0 && !self.fill()? {
                return Err(Fault::Ended);
            }
            let part = at_most(self.buffered(), len);
            let piece = self
                .buf
                .get(self.start..self.start + part)
                .unwrap_or_default();
            self.headers.write_all(piece).map_err(Fault::Headers)?;
            look(piece);
            self.header_bytes += count(part);
            self.consume(part);
            len -= count(part);
        }
        Ok(())
    }

    /// Passes over `len` bytes of content.
    pub(super) fn skip(&mut self, mut len: u64) -> Result<(), Fault> {
        while len > 0 {
            if self.buffered() == 0 && !self.fill()? {
                return Err(Fault::Ended);
            }
            let part = at_most(self.buffered(), len);
            self.consume(part);
            len -= count(part);
        }
        Ok(())
    }

    /// Hands on content: at least a byte, at most `len` and what `out` holds, which is not nothing.
    pub(super) fn take(&mut self, out: &mut [u8], len: u64) -> Result<usize, Fault> {
        let part = at_most(out.len(), len);
        let out = out.get_mut(..part).unwrap_or_default();
        if self.buffered() == 0 && out.len() >= DIRECT_BYTES_MIN {
            let got = read(&mut self.archive, out).map_err(Fault::Source)?;
            self.offset += count(got);
            self.count_read(got)?;
            return if got == 0 { Err(Fault::Ended) } else { Ok(got) };
        }
        if self.buffered() == 0 && !self.fill()? {
            return Err(Fault::Ended);
        }
        let part = out.len().min(self.buffered());
        if let (Some(to), Some(from)) = (out.get_mut(..part), self.window().get(..part)) {
            to.copy_from_slice(from);
        }
        self.consume(part);
        Ok(part)
    }

    /// Tells whether nothing is left.
    pub(super) fn is_empty(&mut self) -> Result<bool, Fault> {
        Ok(self.buffered() == 0 && !self.fill()?)
    }

    /// How many bytes are at hand.
    pub(super) fn buffered(&self) -> usize {
        self.end - self.start
    }

    /// Flushes the header stream.
    pub(super) fn flush_headers(&mut self) -> Result<(), Fault> {
        self.headers.flush().map_err(Fault::Headers)
    }

    fn window(&self) -> &[u8] {
        self.buf.get(self.start..self.end).unwrap_or_default()
    }

    fn consume(&mut self, len: usize) {
        self.start += len;
        self.offset += count(len);
    }

    /// Reads on behind what is buffered; false at the source's end.
    fn fill(&mut self) -> Result<bool, Fault> {
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        } else if self.end == self.buf.len() {
            self.buf.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let room = self.buf.get_mut(self.end..).unwrap_or_default();
        let got = read(&mut self.archive, room).map_err(Fault::Source)?;
        self.end += got;
        self.count_read(got)?;
        Ok(got > 0)
    }

    fn count_read(&mut self, got: usize) -> Result<(), Fault> {
        self.read = self.read.saturating_add(count(got));
        if self.read > self.read_max {
            Err(Fault::TooLong)
        } else {
            Ok(())
        }
    }
}

/// Reads once; an interrupted read is tried again.
pub(super) fn read(source: &mut impl Read, buf: &mut [u8]) -> io::Result<usize> {
    loop {
        match source.read(buf) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // A source that claims more than it was given room for is wrong; believe the room.
            result => return result.map(|got| got.min(buf.len())),
        }
    }
}

fn at_most(room: usize, len: u64) -> usize {
    usize::try_from(len).map_or(room, |len| room.min(len))
}

/// A length in memory as a length in an archive.
pub(super) fn count(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    /// Gives one byte a read, and an interruption before each.
    struct Drip<'a>(&'a [u8], bool);

    impl Read for Drip<'_> {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            self.1 = !self.1;
            if self.1 {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let part = buf.len().min(1);
            self.0.read(&mut buf[..part])
        }
    }

    #[test]
    fn bytes_go_where_they_are_sent() {
        let mut headers = Vec::new();
        let mut input = Input::new(Drip(b"HEADcontentTAIL", false), &mut headers, 100);
        assert!(input.peek(4).unwrap().starts_with(b"HEAD"));
        input.keep(4).unwrap();
        let mut content = [0; 20];
        let mut got = 0;
        while got < 5 {
            got += input
                .take(&mut content[got..], 5 - u64::try_from(got).unwrap())
                .unwrap();
        }
        assert_eq!(&content[..5], b"conte");
        input.skip(2).unwrap();
        assert_eq!((input.offset(), input.header_bytes()), (11, 4));
        let mut seen = Vec::new();
        input
            .keep_each(4, |piece| seen.extend_from_slice(piece))
            .unwrap();
        assert_eq!(seen, b"TAIL");
        assert!(input.is_empty().unwrap());
        assert!(matches!(input.keep(1), Err(Fault::Ended)));
        assert!(matches!(input.take(&mut content, 1), Err(Fault::Ended)));
        assert_eq!(headers, b"HEADTAIL");
    }

    #[test]
    fn large_reads_pass_the_buffer_by() {
        let archive = vec![7; 3 * BUFFER_BYTES];
        let mut input = Input::new(archive.as_slice(), io::sink(), u64::MAX);
        let mut out = vec![0; 2 * BUFFER_BYTES];
        assert_eq!(input.take(&mut out, u64::MAX).unwrap(), 2 * BUFFER_BYTES);
        assert_eq!(input.buffered(), 0);
        assert_eq!(input.take(&mut out[..10], u64::MAX).unwrap(), 10);
        assert_eq!(input.buffered(), BUFFER_BYTES - 10);
    }

    #[test]
    fn a_source_that_does_not_end_is_stopped() {
        let mut input = Input::new(io::repeat(0), io::sink(), 1 << 20);
        assert!(matches!(input.keep(1 << 30), Err(Fault::TooLong)));
        let mut input = Input::new(io::repeat(0), io::sink(), 1 << 20);
        let mut out = vec![0; 2 << 20];
        assert!(matches!(input.take(&mut out, 1 << 30), Err(Fault::TooLong)));
    }
}

//! Frames of a zstd file: compressed bytes in, their content out. Knows no archive and no limit on what comes out.

use std::io::{self, BufRead, Read};

use zstd::stream::raw::{self, InBuffer, Operation, OutBuffer};
use zstd::zstd_safe;

use super::input::count;

const MAGIC: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
/// Skippable frames, little-endian 0x184d2a5?, may stand first.
const SKIPPABLE_MAGIC: &[u8] = &[0x2a, 0x4d, 0x18];

/// A frame may ask for a window of this size, 128 MiB: what `zstd --long` writes and reads at most by default.
const WINDOW_LOG_MAX: u32 = 27;

/// The longest header of a frame: with its magic, a descriptor, a window, a dictionary and a size.
const HEADER_BYTES_MAX: usize = 18;

/// Returns whether a file whose first bytes are these is zstd's.
pub(super) fn is_start(magic: &[u8]) -> bool {
    magic.starts_with(MAGIC) || is_skippable(magic)
}

fn is_skippable(magic: &[u8]) -> bool {
    matches!(magic.split_first(), Some((0x50..=0x5f, rest)) if rest.starts_with(SKIPPABLE_MAGIC))
}

/// Frames, one after another. What it says of a file never depends on how the file arrives, as it does with libzstd alone:
/// that one decodes a frame which lies before it whole in one go, and only then holds it to the size that it declares, and
/// only otherwise to the cap on its window.
pub(super) struct ZstdFrames<R> {
    source: R,
    decoder: raw::Decoder<'static>,
    /// The first bytes of the frame that is being read, its header among them; empty between frames.
    head: Vec<u8>,
    /// Bytes that came out of the frame.
    inflated: u64,
}

impl<R: BufRead> ZstdFrames<R> {
    pub(super) fn new(source: R) -> io::Result<Self> {
        let mut decoder = raw::Decoder::new()?;
        decoder.set_parameter(zstd_safe::DParameter::WindowLogMax(WINDOW_LOG_MAX))?;
        Ok(Self {
            source,
            decoder,
            head: Vec::with_capacity(HEADER_BYTES_MAX),
            inflated: 0,
        })
    }

    /// Where the compressed bytes come from.
    pub(super) fn source(&self) -> &R {
        &self.source
    }

    fn end_frame(&mut self) -> io::Result<()> {
        let declared = zstd_safe::get_frame_content_size(&self.head);
        let unread = |error: zstd_safe::ContentSizeError| {
            io::Error::new(io::ErrorKind::InvalidData, error.to_string())
        };
        let declared = declared.map_err(unread)?;
        let inflated = std::mem::take(&mut self.inflated);
        self.head.clear();
        match declared {
            Some(declared) if declared != inflated => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("a frame declares {declared} bytes and holds {inflated}"),
            )),
            Some(_) | None => Ok(()),
        }
    }
}

impl<R: BufRead> Read for ZstdFrames<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while !buf.is_empty() {
            let in_head = self.head.len() < HEADER_BYTES_MAX;
            let input = self.source.fill_buf()?;
            let is_over = input.is_empty();
            if is_over && self.head.is_empty() {
                break;
            }
            // The header byte by byte: so libzstd never has a frame before it whole.
            let len = if in_head { 1 } else { input.len() };
            let mut from = InBuffer::around(input.get(..len).unwrap_or_default());
            let mut to = OutBuffer::around(&mut *buf);
            let missing = self.decoder.run(&mut from, &mut to)?;
            let (read, written) = (from.pos(), to.pos());
            if in_head {
                self.head.extend(input.iter().take(read));
            }
            self.source.consume(read);
            self.inflated = self.inflated.saturating_add(count(written));
            if missing == 0 {
                self.end_frame()?;
            } else if is_over && written == 0 {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "the last frame is cut off",
                ));
            }
            if written > 0 {
                return Ok(written);
            }
        }
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::io::BufReader;

    use super::*;

    fn frame(content: &[u8]) -> Vec<u8> {
        zstd::encode_all(content, 1).unwrap()
    }

    fn skippable(len: u8) -> Vec<u8> {
        let mut frame = vec![0x5e, 0x2a, 0x4d, 0x18, len, 0, 0, 0];
        frame.resize(frame.len() + usize::from(len), 0xee);
        frame
    }

    /// Reads a file that arrives `len` bytes at a time; what came out of it, and how it ended.
    fn read(file: &[u8], len: usize) -> (Vec<u8>, io::Result<usize>) {
        let mut out = Vec::new();
        let mut frames = ZstdFrames::new(BufReader::with_capacity(len, file)).unwrap();
        let end = frames.read_to_end(&mut out);
        (out, end)
    }

    fn check(file: &[&[u8]], content: &[u8]) {
        let file = file.concat();
        assert!(is_start(&file), "{file:?}");
        for len in [1, 5, 1 << 20] {
            let (out, end) = read(&file, len);
            end.unwrap();
            assert_eq!(out, content, "{len}");
        }
    }

    #[test]
    fn frames_and_skippable_frames_in_any_order() {
        let (a, b) = (frame(b"one "), frame(b"two"));
        check(&[&a, &b], b"one two");
        check(&[&skippable(9), &a, &b], b"one two");
        check(&[&a, &skippable(0), &skippable(200), &b], b"one two");
        check(&[&a, &b, &skippable(17)], b"one two");
        check(&[&skippable(17)], b"");
    }

    #[test]
    fn garbage_behind_a_frame_is_refused() {
        let garbage = [frame(b"a").as_slice(), b"garbage"].concat();
        for len in [1, 5, 1 << 20] {
            read(&garbage, len).1.unwrap_err();
        }
    }

    #[test]
    fn a_frame_that_lies_is_refused_however_it_arrives() {
        // Magic, a descriptor, a size of 5; then an empty last block.
        let holds_nothing = [0x28, 0xb5, 0x2f, 0xfd, 0x20, 5, 1, 0, 0];
        // A size of 5 again; a block of "abc", then an empty last one.
        let holds_less = *b"\x28\xb5\x2f\xfd\x20\x05\x18\0\0abc\x01\0\0";
        // A window beyond the cap, a size of 1 in four bytes, a last block of "x".
        let wide = *b"\x28\xb5\x2f\xfd\x80\x90\x01\0\0\0\x09\0\0x";
        let good = frame(b"good");
        for bad in [&holds_nothing[..], &holds_less, &wide] {
            for file in [bad.to_vec(), [bad, &good].concat(), [&good, bad].concat()] {
                for len in [1, 4, 5, 6, 9, 13, 1 << 20] {
                    let (out, end) = read(&file, len);
                    assert!(end.is_err(), "{len}: {out:?}");
                }
            }
        }
    }

    /// libzstd takes what follows in a header for a frame if its bytes look like one and arrive by themselves.
    #[test]
    fn a_frame_within_the_header_of_another_is_none() {
        // A descriptor that names a dictionary, whose number is a magic; from there on it reads as a frame of "x".
        let file = *b"\x28\xb5\x2f\xfd\x23\x28\xb5\x2f\xfd\x20\x01\x09\0\0x";
        for len in [1, 5, 1 << 20] {
            let (out, end) = read(&file, len);
            assert!(end.is_err() && out.is_empty(), "{len}: {out:?}");
        }
    }

    #[test]
    fn a_window_beyond_the_cap_is_refused() {
        // Magic, a descriptor without a size, and a window of 2^(10 + 18) bytes; then an empty last block.
        let beyond = [0x28, 0xb5, 0x2f, 0xfd, 0, 18 << 3, 1, 0, 0];
        read(&beyond, 1 << 20).1.unwrap_err();
        check(&[&[0x28, 0xb5, 0x2f, 0xfd, 0, 17 << 3, 1, 0, 0]], b"");
    }
}

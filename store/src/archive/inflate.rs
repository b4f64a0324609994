//! Decompression of layers, whatever compressed them; zstd's frames are taken apart next door. Never looks at media types, never
//! parses the tar inside.

use std::io::{self, BufRead, Read};

use flate2::bufread::GzDecoder;

use super::error::{ArchiveError, Place};
use super::input::{self, count};
use super::limits::Limits;
use super::zstd_frames::{self, ZstdFrames};

const GZIP: &str = "gzip";
const ZSTD: &str = "zstd";
/// gzip with its only method.
const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b, 8];
const XZ_MAGIC: &[u8] = &[0xfd, b'7', b'z', b'X', b'Z', 0];
const BZIP2_MAGIC: &[u8] = b"BZh";
/// The longest of them.
const MAGIC_BYTES: usize = 6;

/// Compressed bytes are read in pieces of this size: a decoder takes them quicker than any source gives them.
const SOURCE_BUFFER_BYTES: usize = 128 << 10;

/// Inflates gzip (any number of members), zstd (any number of frames, skippable ones too) or nothing, whichever
/// the first bytes say, whatever the media type says; holds to the limits on bytes and ratio.
///
/// NULs after the last gzip member are padding, as for gzip and umoci; anything else is refused. What a read of the
/// result returns as an error carries an [`ArchiveError`], which a [`Reader`](super::Reader) over it returns as it is.
pub fn inflate<R: Read>(archive: R, limits: &Limits) -> Result<Inflated<R>, ArchiveError> {
    let mut source = Source::new(archive);
    let magic = source
        .peek(MAGIC_BYTES)
        .map_err(|error| ArchiveError::from_source(error, Place::default))?;
    let decoder = match magic {
        _ if magic.starts_with(GZIP_MAGIC) => {
            Decoder::Gzip(Gzip::Member(Box::new(GzDecoder::new(source))))
        }
        _ if zstd_frames::is_start(magic) => {
            let wrong = |source| ArchiveError::Inflate {
                format: ZSTD,
                offset: 0,
                source,
            };
            Decoder::Zstd(ZstdFrames::new(source).map_err(wrong)?)
        }
        _ if magic.starts_with(XZ_MAGIC) => {
            return Err(ArchiveError::UnsupportedCompression { format: "xz" });
        }
        _ if magic.starts_with(BZIP2_MAGIC) => {
            return Err(ArchiveError::UnsupportedCompression { format: "bzip2" });
        }
        _ => Decoder::Plain(source),
    };
    Ok(Inflated {
        decoder,
        limits: limits.clone(),
        inflated: 0,
    })
}

/// The compressed archive. Counts what the decoder consumes, not what is buffered, so that the ratio is exact.
struct Source<R> {
    archive: R,
    buf: Box<[u8]>,
    start: usize,
    end: usize,
    consumed: u64,
}

impl<R: Read> Source<R> {
    fn new(archive: R) -> Self {
        Self {
            archive,
            buf: vec![0; SOURCE_BUFFER_BYTES].into_boxed_slice(),
            start: 0,
            end: 0,
            consumed: 0,
        }
    }

    /// Returns what is buffered before anything was consumed, at least `len` bytes unless the archive is shorter.
    fn peek(&mut self, len: usize) -> io::Result<&[u8]> {
        while self.end < len {
            let got = self.read_source_at_end()?;
            if got == 0 {
                break;
            }
            self.end += got;
        }
        Ok(self.buf.get(..self.end).unwrap_or_default())
    }

    fn read_source_at_end(&mut self) -> io::Result<usize> {
        let room = self.buf.get_mut(self.end..).unwrap_or_default();
        input::read(&mut self.archive, room).map_err(|error| mark(error, self.consumed))
    }
}

/// Marks an error as the source's, so that no decoder's fault is seen in it later.
fn mark(error: io::Error, offset: u64) -> io::Error {
    let kind = error.kind();
    io::Error::new(
        kind,
        ArchiveError::from_source(error, || Place::new(b"", offset)),
    )
}

impl<R: Read> Read for Source<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.start == self.end && buf.len() >= SOURCE_BUFFER_BYTES {
            let got =
                input::read(&mut self.archive, buf).map_err(|error| mark(error, self.consumed))?;
            self.consumed = self.consumed.saturating_add(count(got));
            return Ok(got);
        }
        let got = self.fill_buf()?.read(buf)?;
        self.consume(got);
        Ok(got)
    }
}

impl<R: Read> BufRead for Source<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
            self.end = self.read_source_at_end()?;
        }
        Ok(self.buf.get(self.start..self.end).unwrap_or_default())
    }

    fn consume(&mut self, len: usize) {
        let len = len.min(self.end - self.start);
        self.start += len;
        self.consumed = self.consumed.saturating_add(count(len));
    }
}

enum Decoder<R: Read> {
    Plain(Source<R>),
    Gzip(Gzip<R>),
    Zstd(ZstdFrames<Source<R>>),
}

impl<R: Read> Decoder<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(source) => source.read(buf),
            Self::Gzip(gzip) => gzip
                .read(buf)
                .map_err(|error| classify(error, GZIP, gzip.consumed())),
            Self::Zstd(zstd) => zstd
                .read(buf)
                .map_err(|error| classify(error, ZSTD, zstd.source().consumed)),
        }
    }

    fn consumed(&self) -> u64 {
        match self {
            Self::Plain(source) => source.consumed,
            Self::Gzip(gzip) => gzip.consumed(),
            Self::Zstd(zstd) => zstd.source().consumed,
        }
    }
}

/// An error that is not marked as the source's is the decoder's own.
fn classify(error: io::Error, format: &'static str, offset: u64) -> io::Error {
    if error
        .get_ref()
        .is_some_and(|inner| inner.is::<ArchiveError>())
    {
        return error;
    }
    io::Error::new(
        error.kind(),
        ArchiveError::Inflate {
            format,
            offset,
            source: error,
        },
    )
}

/// Members of a gzip file, one after another.
enum Gzip<R> {
    Member(Box<GzDecoder<Source<R>>>),
    /// Everything is read; bytes consumed.
    End(u64),
}

impl<R: Read> Gzip<R> {
    fn consumed(&self) -> u64 {
        match self {
            Self::Member(decoder) => decoder.get_ref().consumed,
            Self::End(consumed) => *consumed,
        }
    }

    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while let Self::Member(decoder) = self {
            let got = decoder.read(buf)?;
            if got > 0 || buf.is_empty() {
                return Ok(got);
            }
            self.next_member()?;
        }
        Ok(0)
    }

    /// Goes on behind a member's end.
    fn next_member(&mut self) -> io::Result<()> {
        let consumed = self.consumed();
        let Self::Member(decoder) = std::mem::replace(self, Self::End(consumed)) else {
            return Ok(());
        };
        let mut source = decoder.into_inner();
        match source.fill_buf()?.first() {
            Some(&first) if GZIP_MAGIC.first() == Some(&first) => {
                *self = Self::Member(Box::new(GzDecoder::new(source)));
                Ok(())
            }
            _ => {
                let result = skip_padding(&mut source);
                *self = Self::End(source.consumed);
                result
            }
        }
    }
}

/// Reads NULs to the end of the archive.
fn skip_padding(source: &mut Source<impl Read>) -> io::Result<()> {
    loop {
        let padding = source.fill_buf()?;
        let len = padding.len();
        if len == 0 {
            return Ok(());
        }
        if let Some(nuls) = padding.iter().position(|b| *b != 0) {
            let offset = source.consumed.saturating_add(count(nuls));
            let garbage = ArchiveError::TrailingGarbage {
                format: GZIP,
                offset,
            };
            return Err(io::Error::new(io::ErrorKind::InvalidData, garbage));
        }
        source.consume(len);
    }
}

/// The uncompressed archive, counted.
pub struct Inflated<R: Read> {
    decoder: Decoder<R>,
    limits: Limits,
    inflated: u64,
}

impl<R: Read> Read for Inflated<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let got = self.decoder.read(buf)?;
        self.inflated = self.inflated.saturating_add(count(got));
        let Limits {
            layer_bytes_max,
            inflate_ratio_max,
            inflate_grace_bytes,
            ..
        } = self.limits;
        if self.inflated > layer_bytes_max {
            return Err(self.over(
                "layer_bytes_max",
                "bytes of the uncompressed layer",
                layer_bytes_max,
            ));
        }
        let allowed = self.decoder.consumed().saturating_mul(inflate_ratio_max);
        if self.inflated > inflate_grace_bytes && self.inflated > allowed {
            return Err(self.over(
                "inflate_ratio_max",
                "times its compressed size",
                inflate_ratio_max,
            ));
        }
        Ok(got)
    }
}

impl<R: Read> Inflated<R> {
    /// Whether nothing compressed it: then these are the bytes of the archive itself.
    pub fn is_plain(&self) -> bool {
        matches!(self.decoder, Decoder::Plain(_))
    }

    fn over(&self, limit: &'static str, what: &'static str, max: u64) -> io::Error {
        let at = Place::new(b"", self.inflated);
        io::Error::new(
            io::ErrorKind::InvalidData,
            ArchiveError::LimitExceeded {
                at,
                limit,
                what,
                max,
            },
        )
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::io::Write;

    use super::*;

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd_frame(content: &[u8]) -> Vec<u8> {
        zstd::encode_all(content, 1).unwrap()
    }

    fn inflated(archive: &[u8], limits: &Limits) -> Result<Vec<u8>, ArchiveError> {
        let mut out = Vec::new();
        match inflate(archive, limits)?.read_to_end(&mut out) {
            Ok(_) => Ok(out),
            Err(error) => Err(ArchiveError::from_source(error, Place::default)),
        }
    }

    fn check(archive: &[&[u8]], content: &[u8]) {
        let archive = archive.concat();
        assert_eq!(inflated(&archive, &Limits::default()).unwrap(), content);
    }

    #[test]
    fn whatever_the_first_bytes_say() {
        check(&[b"plain"], b"plain");
        check(&[b""], b"");
        check(&[b"x"], b"x");
        check(&[&gzip(b"packed")], b"packed");
        check(&[&zstd_frame(b"packed")], b"packed");
        check(
            &[b"\x5e\x2a\x4d\x18\0\0\0\0", &zstd_frame(b"packed")],
            b"packed",
        );
        check(&[&gzip(b"")], b"");
        check(&[&zstd_frame(b"")], b"");
        // Compression within compression is not looked for.
        check(&[&gzip(&gzip(b"twice"))], &gzip(b"twice"));
    }

    #[test]
    fn gzip_members_follow_each_other_and_nuls_end_them() {
        let (a, b) = (gzip(b"one "), gzip(b"two"));
        check(&[&a, &b], b"one two");
        check(&[&a, &gzip(b""), &b], b"one two");
        check(&[&a, &[0; 100_000]], b"one ");
        let many: Vec<_> = (0..3000).flat_map(|_| gzip(b"chunk")).collect();
        check(&[&many], &b"chunk".repeat(3000));
    }

    #[test]
    fn gzip_headers_may_have_fields() {
        let header = flate2::GzBuilder::new()
            .filename("layer.tar")
            .comment("c")
            .extra(vec![b'S', b'G', 1, 0, 9]);
        let mut encoder = header.write(Vec::new(), flate2::Compression::fast());
        encoder.write_all(b"named").unwrap();
        check(&[&encoder.finish().unwrap()], b"named");
    }

    #[test]
    fn bytes_come_whole_however_they_arrive() {
        let content: Vec<u8> = (0..300_000_u32).flat_map(|n| n.to_le_bytes()).collect();
        for archive in [gzip(&content), zstd_frame(&content), content.clone()] {
            let mut out = Vec::new();
            inflate(Few(&archive, 1021), &Limits::default())
                .unwrap()
                .read_to_end(&mut out)
                .unwrap();
            assert!(out == content);
        }
    }

    #[test]
    fn garbage_behind_gzip_is_refused_with_its_place() {
        let a = gzip(b"one");
        let end = count(a.len());
        for (tail, at) in [
            (&b"garbage"[..], end),
            (b"\0\0garbage", end + 2),
            (b"\0\x1f\x8b\x08", end + 1),
        ] {
            let error = inflated(&[&a, tail].concat(), &Limits::default()).unwrap_err();
            assert!(
                matches!(error, ArchiveError::TrailingGarbage { offset, .. } if offset == at),
                "{error}"
            );
        }
        let error =
            inflated(&[a.as_slice(), b"\x1f\x8bXX"].concat(), &Limits::default()).unwrap_err();
        assert!(
            matches!(error, ArchiveError::Inflate { format: "gzip", .. }),
            "{error}"
        );
    }

    #[test]
    fn damaged_and_truncated_data_is_refused() {
        let content: Vec<u8> = (0..5000_u32)
            .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
            .collect();
        for (format, good) in [
            ("gzip", gzip(&content)),
            ("zstd", zstd::encode_all(&content[..], 1).unwrap()),
        ] {
            for len in 8..good.len() {
                if len % 97 == 0 || len + 20 > good.len() {
                    let result = inflated(&good[..len], &Limits::default());
                    assert!(
                        matches!(&result, Err(ArchiveError::Inflate { format: named, .. }) if *named == format),
                        "{format} {len}: {result:?}"
                    );
                }
            }
        }
        let mut damaged = gzip(&content);
        let crc = damaged.len() - 8;
        damaged[crc] ^= 1;
        assert!(matches!(
            inflated(&damaged, &Limits::default()),
            Err(ArchiveError::Inflate { .. })
        ));
    }

    #[test]
    fn other_compressions_are_named() {
        for (archive, name) in [(&b"\xfd7zXZ\0rest"[..], "xz"), (b"BZh91AY", "bzip2")] {
            let error = inflated(archive, &Limits::default()).unwrap_err();
            assert!(
                matches!(error, ArchiveError::UnsupportedCompression { format } if format == name)
            );
        }
    }

    #[test]
    fn a_failing_source_is_no_damage() {
        struct Cut<'a>(&'a [u8]);
        impl Read for Cut<'_> {
            fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
                if self.0.is_empty() {
                    Err(io::ErrorKind::ConnectionReset.into())
                } else {
                    self.0.read(buf)
                }
            }
        }
        for good in [gzip(b"content"), zstd_frame(b"content")] {
            let mut out = Vec::new();
            let error = inflate(Cut(&good[..good.len() - 3]), &Limits::default())
                .unwrap()
                .read_to_end(&mut out);
            let error = ArchiveError::from_source(error.unwrap_err(), Place::default);
            assert!(
                matches!(&error, ArchiveError::Io { source, .. } if source.kind() == io::ErrorKind::ConnectionReset)
            );
        }
    }

    #[test]
    fn bombs_are_stopped_by_ratio_and_by_bytes() {
        let zeros = vec![0; 80 << 20];
        let limits = Limits {
            inflate_grace_bytes: 64 << 20,
            ..Limits::default()
        };
        for bomb in [gzip(&zeros), zstd_frame(&zeros)] {
            let error = inflated(&bomb, &limits).err().unwrap();
            let named = matches!(
                error,
                ArchiveError::LimitExceeded {
                    limit: "inflate_ratio_max",
                    max: 512,
                    ..
                }
            );
            assert!(named, "{error}");
            let raised = Limits {
                inflate_ratio_max: u64::MAX,
                ..limits.clone()
            };
            assert_eq!(inflated(&bomb, &raised).unwrap().len(), zeros.len());
            let few = Limits {
                layer_bytes_max: 1 << 20,
                ..Limits::default()
            };
            let error = inflated(&bomb, &few).err().unwrap();
            assert!(
                matches!(
                    error,
                    ArchiveError::LimitExceeded {
                        limit: "layer_bytes_max",
                        ..
                    }
                ),
                "{error}"
            );
        }
        // Below the grace, a layer may be zeros alone.
        let small = &zeros[..60 << 20];
        assert_eq!(inflated(&gzip(small), &limits).unwrap().len(), small.len());
        assert_eq!(
            inflated(&zstd_frame(small), &limits).unwrap().len(),
            small.len()
        );
    }

    /// A source that gives a few bytes at a time.
    struct Few<'a>(&'a [u8], usize);

    impl Read for Few<'_> {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            let part = buf.len().min(self.1);
            self.0.read(&mut buf[..part])
        }
    }
}

//! Why an archive is refused, each time with its object. Never decides anything.

use std::fmt;
use std::io;

/// Where in an archive: the entry that was being read or written, and the byte its header starts at.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Place {
    /// The entry's name as the archive spells it; `None` between entries.
    pub entry: Option<String>,
    /// Bytes of the uncompressed archive before it.
    pub offset: u64,
}

impl Place {
    /// A name can be a megabyte of somebody's making: an error shows this much of it.
    const NAME_SHOWN_MAX: usize = 200;

    /// Makes a place; `name` is shown as far as it is text.
    pub(super) fn new(name: &[u8], offset: u64) -> Self {
        Self {
            entry: (!name.is_empty()).then(|| shown(name)),
            offset,
        }
    }
}

/// Returns bytes of the archive as text for a message, cut to a bearable length.
pub(super) fn shown(bytes: &[u8]) -> String {
    let cut = bytes.get(..Place::NAME_SHOWN_MAX);
    let text = String::from_utf8_lossy(cut.unwrap_or(bytes));
    if cut.is_some() && bytes.len() > Place::NAME_SHOWN_MAX {
        format!("{text}…")
    } else {
        text.into_owned()
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.entry {
            Some(name) => write!(f, "entry {name:?} at byte {}", self.offset),
            None => write!(f, "byte {}", self.offset),
        }
    }
}

/// Why an archive is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// The source failed.
    #[error("cannot read archive, {at}: {source}")]
    Io {
        /// Where.
        at: Place,
        /// What the source said.
        source: io::Error,
    },
    /// The header stream did not take its bytes.
    #[error("cannot keep archive headers, {at}: {source}")]
    Headers {
        /// Where.
        at: Place,
        /// What the stream said.
        source: io::Error,
    },
    /// The output did not take its bytes.
    #[error("cannot write archive, {at}: {source}")]
    Output {
        /// Where.
        at: Place,
        /// What the output said.
        source: io::Error,
    },
    /// The content of an entry to be written could not be read.
    #[error("cannot read content, {at}: {source}")]
    Content {
        /// Where.
        at: Place,
        /// What the content's source said.
        source: io::Error,
    },
    /// The content of an entry to be written ended early.
    #[error("content of {at} ends after {got} of {expected} bytes")]
    ContentShort {
        /// Where.
        at: Place,
        /// What the entry promised.
        expected: u64,
        /// What came.
        got: u64,
    },
    /// Compressed data is damaged or ends early.
    #[error("damaged {format} data before byte {offset} of the compressed archive: {source}")]
    Inflate {
        /// gzip or zstd.
        format: &'static str,
        /// Compressed bytes consumed.
        offset: u64,
        /// What the decoder said.
        source: io::Error,
    },
    /// Bytes after compressed data that are no padding.
    #[error("garbage after {format} data at byte {offset} of the compressed archive")]
    TrailingGarbage {
        /// gzip.
        format: &'static str,
        /// Where it begins.
        offset: u64,
    },
    /// A compression that layers do not use.
    #[error("archive is compressed with {format}, layers are plain, gzip or zstd")]
    UnsupportedCompression {
        /// xz or bzip2.
        format: &'static str,
    },
    /// The archive ends too early.
    #[error("archive is truncated within the {what} of {at}")]
    Truncated {
        /// Where.
        at: Place,
        /// header, extension header, content or padding.
        what: &'static str,
    },
    /// A block is no header.
    #[error("no valid tar header at {at}: {reason}")]
    BadHeader {
        /// Where.
        at: Place,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The checksum of a header is wrong.
    #[error("no valid tar header at {at}: checksum does not match")]
    BadChecksum {
        /// Where.
        at: Place,
    },
    /// A number of a header does not parse, or says what cannot be.
    #[error("invalid {field} of {at}")]
    BadField {
        /// Where.
        at: Place,
        /// mode, uid, size …
        field: &'static str,
    },
    /// A name is none, or cannot be written.
    #[error("invalid name {name:?} of {at}: {reason}")]
    BadName {
        /// Where.
        at: Place,
        /// The name or the part of it.
        name: String,
        /// Why.
        reason: String,
    },
    /// A whiteout hides nothing that can be.
    #[error("invalid whiteout, {at}: {reason}")]
    BadWhiteout {
        /// Where.
        at: Place,
        /// Why.
        reason: &'static str,
    },
    /// A PAX record does not parse.
    #[error("invalid PAX record {record:?} of {at}: {reason}")]
    BadPax {
        /// Where.
        at: Place,
        /// Its keyword, or what stands in its place.
        record: String,
        /// Why.
        reason: &'static str,
    },
    /// A sparse file's map contradicts itself or the entry.
    #[error("invalid sparse map of {at}: {reason}")]
    BadSparse {
        /// Where.
        at: Place,
        /// Why.
        reason: &'static str,
    },
    /// A type of entry that means a tree we cannot make.
    #[error("unsupported type {:?} of {at}", char::from(*.kind))]
    UnsupportedType {
        /// Where.
        at: Place,
        /// The type flag.
        kind: u8,
    },
    /// More than a limit allows.
    #[error(
        "{at}: more than {max} {what} (limit {limit}, which the store's archive limits can raise)"
    )]
    LimitExceeded {
        /// Where.
        at: Place,
        /// The field of [`Limits`](super::Limits).
        limit: &'static str,
        /// What it counts.
        what: &'static str,
        /// What it allows.
        max: u64,
    },
}

impl ArchiveError {
    /// Takes our own error out of an I/O error that carried it through a foreign reader; any other is the source's.
    pub(super) fn from_source(error: io::Error, at: impl FnOnce() -> Place) -> Self {
        match error.downcast::<Self>() {
            Ok(ours) => ours,
            Err(source) => Self::Io { at: at(), source },
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_place_names_the_entry_and_the_byte() {
        assert_eq!(
            Place::new(b"etc/passwd", 512).to_string(),
            "entry \"etc/passwd\" at byte 512"
        );
        assert_eq!(Place::new(b"", 7).to_string(), "byte 7");
        assert_eq!(
            Place::new(b"a\nb\xff", 0).to_string(),
            "entry \"a\\nb\u{fffd}\" at byte 0"
        );
    }

    #[test]
    fn a_long_name_is_cut() {
        let name = Place::new(&[b'x'; 5000], 0).entry.unwrap();
        assert_eq!(name.chars().count(), Place::NAME_SHOWN_MAX + 1);
    }

    #[test]
    fn a_limit_says_its_name_and_the_way_out() {
        let at = Place::new(b"a", 512);
        let error = ArchiveError::LimitExceeded {
            at,
            limit: "depth_max",
            what: "path components",
            max: 3,
        };
        let text = "entry \"a\" at byte 512: more than 3 path components \
                    (limit depth_max, which the store's archive limits can raise)";
        assert_eq!(error.to_string(), text);
    }

    #[test]
    fn our_error_comes_back_out_of_an_io_error() {
        let inner = ArchiveError::UnsupportedCompression { format: "xz" };
        let back = ArchiveError::from_source(io::Error::other(inner), Place::default);
        assert!(matches!(
            back,
            ArchiveError::UnsupportedCompression { format: "xz" }
        ));
        let foreign = ArchiveError::from_source(io::Error::other("wire cut"), Place::default);
        assert!(matches!(foreign, ArchiveError::Io { .. }));
    }
}

//! File names: one component of a path, in bytes, checked once.

use std::borrow::Borrow;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;

/// A valid name of a directory entry: 1 to 255 bytes, no `/`, no NUL, not `.` or `..`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileName(Box<[u8]>);

/// Why bytes are no file name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// No bytes at all.
    #[error("empty file name")]
    Empty,
    /// More than [`FileName::LEN_MAX`] bytes.
    #[error("file name longer than 255 bytes")]
    TooLong,
    /// `.` or `..`.
    #[error("\".\" and \"..\" name no entry")]
    Dots,
    /// A slash or a NUL.
    #[error("file name with a slash or a NUL byte")]
    Separator,
}

impl FileName {
    /// NAME_MAX of Linux.
    pub const LEN_MAX: usize = 255;

    /// Checks `bytes`.
    pub fn new(bytes: &[u8]) -> Result<Self, InvalidName> {
        match bytes {
            [] => Err(InvalidName::Empty),
            b"." | b".." => Err(InvalidName::Dots),
            _ if bytes.len() > Self::LEN_MAX => Err(InvalidName::TooLong),
            _ if bytes.iter().any(|b| matches!(b, b'/' | 0)) => Err(InvalidName::Separator),
            _ => Ok(Self(bytes.into())),
        }
    }

    /// Returns the bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the name as the operating system's string.
    pub fn as_os_str(&self) -> &OsStr {
        OsStr::from_bytes(&self.0)
    }
}

impl Borrow<[u8]> for FileName {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

//! Everything that is drawn: tables, sizes, ages, progress. Knows no request
//! and no command.

pub(crate) mod age;
pub(crate) mod go_quote;
pub(crate) mod listing;
pub(crate) mod ports;
pub(crate) mod progress;
pub(crate) mod size;
pub(crate) mod table;

use std::io::{self, IsTerminal, Write};

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::error::{Error, Result};

/// Writes text to standard output.
pub(crate) fn out(text: &str) -> Result<()> {
    out_bytes(text.as_bytes())
}

/// Writes bytes to standard output and flushes them.
pub(crate) fn out_bytes(bytes: &[u8]) -> Result<()> {
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(bytes)
        .and_then(|()| stdout.flush())
        .map_err(|source| Error::io("standard output", source))
}

/// Writes text to standard error. What cannot be said there cannot be said
/// anywhere, so a failure is no error.
pub(crate) fn err(text: &str) {
    err_bytes(text.as_bytes());
}

/// Writes bytes to standard error.
pub(crate) fn err_bytes(bytes: &[u8]) {
    let mut stderr = io::stderr().lock();
    if stderr.write_all(bytes).is_ok() {
        drop(stderr.flush());
    }
}

/// Says whether standard output is a terminal.
pub(crate) fn stdout_is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Shortens text to `max` columns, the last of them `…`.
pub(crate) fn ellipsis(text: &str, max: usize) -> String {
    if text.width() <= max {
        return text.to_owned();
    }
    let mut short = String::new();
    let mut columns = 1;
    for character in text.chars() {
        columns += character.width().unwrap_or(0);
        if columns > max {
            break;
        }
        short.push(character);
    }
    short.push('…');
    short
}

/// The 12 hexadecimal digits of an ID that people see.
pub(crate) fn short_id(id: &str) -> String {
    let hex = id.split_once(':').map_or(id, |(_, hex)| hex);
    hex.chars().take(12).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_text_ends_in_an_ellipsis_within_its_columns() {
        assert_eq!(ellipsis("short", 5), "short");
        assert_eq!(ellipsis("longer", 5), "long…");
        assert_eq!(ellipsis("修改了默认网页", 7), "修改了…");
    }

    #[test]
    fn a_short_id_has_no_algorithm() {
        assert_eq!(short_id("sha256:0123456789abcdef"), "0123456789ab");
        assert_eq!(short_id("0123456789abcdef"), "0123456789ab");
    }
}

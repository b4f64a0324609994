//! docker's log file: one JSON object a line, `{"log":"…\n","stream":"stdout","time":"…"}`, the text of one line in each.
//! A line of more than 16 KiB is several objects, of which only the last ends with `\n`.
//! Never holds a line back for longer than the process lives; never fails the process: trouble is remembered and told.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use jiff::Timestamp;

use super::stdio::Output;

/// docker's longest piece of a line.
const PIECE_BYTES_MAX: usize = 16 << 10;

/// A container's log.
#[derive(Debug)]
pub(super) struct JsonLog {
    file: File,
    /// Free bytes of the disk below which nothing is logged.
    floor: u64,
    out: Partial,
    err: Partial,
    trouble: Option<String>,
}

/// The beginning of a line whose end has not come yet.
#[derive(Debug, Default)]
struct Partial(Vec<u8>);

impl JsonLog {
    /// Opens a log to go on with, or a new one.
    pub(super) fn open(path: &Path, floor: u64) -> io::Result<Self> {
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o640)
            .open(path)?;
        Ok(Self {
            file,
            floor,
            out: Partial::default(),
            err: Partial::default(),
            trouble: None,
        })
    }

    /// Logs what the process wrote at a time.
    pub(super) fn write(&mut self, from: Output, bytes: &[u8], now_ns: i64) {
        let partial = match from {
            Output::Stdout => &mut self.out,
            Output::Stderr => &mut self.err,
        };
        let lines = lines(&mut partial.0, bytes, from, now_ns);
        self.append(&lines);
    }

    /// Logs what has no end of line, because none will come.
    pub(super) fn finish(&mut self, now_ns: i64) {
        for (from, partial) in [
            (Output::Stdout, std::mem::take(&mut self.out)),
            (Output::Stderr, std::mem::take(&mut self.err)),
        ] {
            if !partial.0.is_empty() {
                let mut line = Vec::new();
                encode(&mut line, &partial.0, from, now_ns);
                self.append(&line);
            }
        }
    }

    /// Returns what went wrong first, if anything did.
    pub(super) fn trouble(&self) -> Option<String> {
        self.trouble.clone()
    }

    /// A disk that does not say how full it is says so when it is written to.
    fn has_room(&self) -> bool {
        let free = |disk: rustix::fs::StatVfs| disk.f_bavail.saturating_mul(disk.f_frsize);
        rustix::fs::fstatvfs(&self.file).map_or(true, |disk| free(disk) >= self.floor)
    }

    fn append(&mut self, lines: &[u8]) {
        if lines.is_empty() {
            return;
        }
        // The last of a disk is for the store's removals: a container that talks a lot must not eat it up.
        let written = match self.has_room() {
            true => self.file.write_all(lines),
            false => Err(io::ErrorKind::StorageFull.into()),
        };
        if let Err(error) = written {
            self.trouble
                .get_or_insert_with(|| format!("writing the log: {error}"));
        }
    }
}

/// Cuts bytes into objects; what has no end yet stays in `partial`.
fn lines(partial: &mut Vec<u8>, mut bytes: &[u8], from: Output, now_ns: i64) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len().saturating_mul(2));
    while !bytes.is_empty() {
        let room = PIECE_BYTES_MAX.saturating_sub(partial.len());
        let window = bytes.get(..room.min(bytes.len())).unwrap_or(bytes);
        let end = window
            .iter()
            .position(|byte| *byte == b'\n')
            .map(|place| place.saturating_add(1));
        let (piece, rest) = bytes.split_at(end.unwrap_or(window.len()));
        partial.extend_from_slice(piece);
        bytes = rest;
        if end.is_some() || partial.len() >= PIECE_BYTES_MAX {
            encode(&mut out, partial, from, now_ns);
            partial.clear();
        }
    }
    out
}

fn encode(out: &mut Vec<u8>, piece: &[u8], from: Output, now_ns: i64) {
    out.extend_from_slice(b"{\"log\":\"");
    for chunk in piece.utf8_chunks() {
        escape(out, chunk.valid());
        if !chunk.invalid().is_empty() {
            // One for each byte, as Go writes it.
            for _ in chunk.invalid() {
                out.extend_from_slice(b"\\ufffd");
            }
        }
    }
    let stream = match from {
        Output::Stdout => "stdout",
        Output::Stderr => "stderr",
    };
    let time = Timestamp::from_nanosecond(i128::from(now_ns)).unwrap_or(Timestamp::UNIX_EPOCH);
    out.extend_from_slice(format!("\",\"stream\":\"{stream}\",\"time\":\"{time}\"}}\n").as_bytes());
}

/// Go's escapes, those for HTML included.
fn escape(out: &mut Vec<u8>, text: &str) {
    for c in text.chars() {
        match c {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            '\0'..='\u{1f}' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                out.extend_from_slice(format!("\\u{:04x}", u32::from(c)).as_bytes());
            }
            c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn written(writes: &[(Output, &[u8])]) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = JsonLog::open(&path, 0).unwrap();
        for (from, bytes) in writes {
            log.write(*from, bytes, 1_700_000_000_120_000_000);
        }
        log.finish(1_700_000_001_000_000_000);
        assert_eq!(log.trouble(), None);
        std::fs::read_to_string(&path).unwrap()
    }

    #[test]
    fn a_line_is_an_object_in_dockers_words() {
        let text = written(&[
            (Output::Stdout, b"a\"\\\t<\x01\xc3\xbc"),
            (Output::Stderr, b"err\n"),
            (Output::Stdout, b"\xff!\nno end"),
        ]);
        assert_eq!(
            text,
            "{\"log\":\"err\\n\",\"stream\":\"stderr\",\"time\":\"2023-11-14T22:13:20.12Z\"}\n\
             {\"log\":\"a\\\"\\\\\\t\\u003c\\u0001ü\\ufffd!\\n\",\"stream\":\"stdout\",\"time\":\"2023-11-14T22:13:20.12Z\"}\n\
             {\"log\":\"no end\",\"stream\":\"stdout\",\"time\":\"2023-11-14T22:13:21Z\"}\n"
        );
    }

    #[test]
    fn a_long_line_is_cut_at_sixteen_kibibytes() {
        let mut long = vec![b'x'; PIECE_BYTES_MAX * 2 + 5];
        long.push(b'\n');
        let text = written(&[
            (Output::Stdout, &long[..100]),
            (Output::Stdout, &long[100..]),
        ]);
        let sizes: Vec<usize> = text
            .lines()
            .map(|line| {
                serde_json::from_str::<serde_json::Value>(line).unwrap()["log"]
                    .as_str()
                    .unwrap()
                    .len()
            })
            .collect();
        assert_eq!(sizes, [PIECE_BYTES_MAX, PIECE_BYTES_MAX, 6]);
    }

    #[test]
    fn a_full_disk_is_told_and_no_more() {
        let mut log = JsonLog::open(Path::new("/dev/full"), 0).unwrap();
        log.write(Output::Stdout, b"lost\n", 0);
        log.write(Output::Stdout, b"lost too\n", 0);
        assert!(log.trouble().unwrap().starts_with("writing the log: "));
    }
}

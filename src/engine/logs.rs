//! A container's output as it was logged: docker's json-file, one object a line. Reads only; the shim writes.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::Engine;
use super::containers::Live;
use super::error::{Error, Result};
use super::when::{self, Nanos};

/// Longest line that is read; the shim cuts its own far below.
const LINE_BYTES_MAX: u64 = 1 << 20;
/// Bytes looked at a time while lines are counted from the end.
const BLOCK_BYTES: usize = 64 << 10;
/// How often a followed log is looked at: a tenth of what people notice.
const FOLLOW_PAUSE: Duration = Duration::from_millis(20);

/// Which stream a line went to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// One piece of output, its line end included where it had one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Where it went.
    pub stream: Stream,
    /// When.
    pub time: Nanos,
    /// What it was.
    pub text: Vec<u8>,
}

/// Which lines are wanted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted {
    /// Standard output's.
    pub stdout: bool,
    /// Standard error's.
    pub stderr: bool,
    /// Not before.
    pub since: Option<Nanos>,
    /// Not after.
    pub until: Option<Nanos>,
    /// This many from the end; all if there is none.
    pub tail: Option<usize>,
    /// Go on until the container ends.
    pub follow: bool,
}

/// Whether whoever is told of lines wants more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum More {
    /// Yes.
    Yes,
    /// It has left.
    No,
}

impl Engine {
    /// Tells of a container's output, line by line.
    pub fn logs(
        &self,
        text: &str,
        wanted: &Wanted,
        tell: &mut dyn FnMut(Option<Line>) -> More,
    ) -> Result<()> {
        let live = self.containers.find(text)?;
        let path = self.container_files(&live.document().id).log();
        let mut log = match open(&path, &live, wanted.follow, tell)? {
            Some(file) => BufReader::new(file),
            None => return Ok(()),
        };
        if let Some(lines) = wanted.tail {
            let start =
                tail_start(log.get_mut(), lines).map_err(Error::io("cannot read", &path))?;
            log.seek(SeekFrom::Start(start))
                .map_err(Error::io("cannot read", &path))?;
        }
        let mut partial = Vec::new();
        loop {
            // Looked at before reading: what was written before the end is read after it.
            let active = is_active(&live);
            while read_line(&mut log, &mut partial).map_err(Error::io("cannot read", &path))? {
                let line = parse(&partial);
                partial.clear();
                let Some(line) = line else { continue };
                if wanted.until.is_some_and(|until| line.time > until) {
                    return Ok(());
                }
                if wanted.takes(&line) && tell(Some(line)) == More::No {
                    return Ok(());
                }
            }
            if !wanted.follow || !active || tell(None) == More::No {
                return Ok(());
            }
            std::thread::sleep(FOLLOW_PAUSE);
        }
    }
}

/// Opens the log; waits for it if it is to be followed and the container has not started yet.
fn open(
    path: &Path,
    live: &Arc<Live>,
    follow: bool,
    tell: &mut dyn FnMut(Option<Line>) -> More,
) -> Result<Option<File>> {
    loop {
        match File::open(path) {
            Ok(file) => return Ok(Some(file)),
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io("cannot open", path)(error));
            }
            Err(_) if !follow || !is_active(live) || tell(None) == More::No => return Ok(None),
            Err(_) => std::thread::sleep(FOLLOW_PAUSE),
        }
    }
}

fn is_active(live: &Live) -> bool {
    live.turns.borrow().active
}

impl Wanted {
    fn takes(&self, line: &Line) -> bool {
        let stream = match line.stream {
            Stream::Stdout => self.stdout,
            Stream::Stderr => self.stderr,
        };
        stream && self.since.is_none_or(|since| line.time >= since)
    }
}

/// Adds to `line` up to its end; says whether the end was there.
fn read_line(log: &mut BufReader<File>, line: &mut Vec<u8>) -> std::io::Result<bool> {
    log.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', line)?;
    Ok(line.last() == Some(&b'\n'))
}

/// A line that does not parse was cut off by a crash: nothing can be told of it.
fn parse(line: &[u8]) -> Option<Line> {
    #[derive(Deserialize)]
    struct Logged {
        log: String,
        stream: String,
        time: String,
    }
    let logged: Logged = serde_json::from_slice(line).ok()?;
    let stream = if logged.stream == "stderr" {
        Stream::Stderr
    } else {
        Stream::Stdout
    };
    Some(Line {
        stream,
        time: when::parse(&logged.time)?,
        text: logged.log.into_bytes(),
    })
}

/// Where the last `lines` lines start.
fn tail_start(file: &mut File, lines: usize) -> std::io::Result<u64> {
    let len = file.seek(SeekFrom::End(0))?;
    if lines == 0 {
        return Ok(len);
    }
    let mut end = len;
    let mut seen = 0_usize;
    let mut block = vec![0; BLOCK_BYTES];
    while end > 0 {
        let size = end.min(BLOCK_BYTES as u64);
        let start = end.saturating_sub(size);
        let size = usize::try_from(size).unwrap_or(BLOCK_BYTES);
        let part = block.get_mut(..size).unwrap_or_default();
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(part)?;
        for (at, byte) in part.iter().enumerate().rev() {
            let place = start.saturating_add(at as u64);
            // The file's own last line end closes the last line; it does not begin another.
            if *byte == b'\n' && place.saturating_add(1) < len {
                seen = seen.saturating_add(1);
                if seen == lines {
                    return Ok(place.saturating_add(1));
                }
            }
        }
        end = start;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use std::io::Write;

    use super::*;

    #[test]
    fn the_tail_starts_where_its_lines_start() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"one\ntwo\nthree\n").unwrap();
        let starts = [0, 1, 2, 3, 9].map(|lines| tail_start(&mut file, lines).unwrap());
        assert_eq!(starts, [14, 8, 4, 0, 0]);
    }

    #[test]
    fn lines_parse_and_broken_ones_do_not() {
        let line =
            parse(br#"{"log":"hi\n","stream":"stderr","time":"1970-01-01T00:00:01.5Z"}"#).unwrap();
        assert_eq!(
            line,
            Line {
                stream: Stream::Stderr,
                time: 1_500_000_000,
                text: b"hi\n".to_vec()
            }
        );
        assert_eq!(parse(br#"{"log":"hi"#), None);
    }
}

//! Compressed archives, gzip and zstd: the same however they arrive, and never beyond the limits.

use std::io::{self, Read};

use nacre_store::archive::{Limits, Reader, inflate};

const LAYER_BYTES_MAX: u64 = 1 << 20;
const READ_BYTES: usize = 10_000;

fn limits() -> Limits {
    Limits {
        layer_bytes_max: LAYER_BYTES_MAX,
        inflate_grace_bytes: 1 << 16,
        inflate_ratio_max: 100,
        ..Limits::default()
    }
}

/// A source that gives little at a time.
struct Drip<'a>(&'a [u8]);

impl Read for Drip<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let part = buf.len().min(13);
        self.0.read(&mut buf[..part])
    }
}

/// Takes one input.
pub fn run(data: &[u8]) {
    let whole = inflated(data, data.len() as u64);
    let dripped = inflated(Drip(data), data.len() as u64);
    match (whole, dripped) {
        (Some(whole), Some(dripped)) => assert!(whole == dripped, "it matters how bytes arrive"),
        (None, None) => {}
        (whole, _) => panic!(
            "refused only {}",
            if whole.is_some() { "in drips" } else { "whole" }
        ),
    }
    let Ok(tar) = inflate(data, &limits()) else {
        return;
    };
    let mut reader = Reader::new(tar, io::sink(), limits());
    while let Ok(Some(_)) = reader.next_entry() {}
}

/// Inflates to the end; none where it is refused.
fn inflated(archive: impl Read, bytes: u64) -> Option<Vec<u8>> {
    let limits = limits();
    let mut tar = inflate(archive, &limits).ok()?;
    let mut out = Vec::new();
    let mut buf = vec![0; READ_BYTES];
    loop {
        match tar.read(&mut buf) {
            Ok(0) => return Some(out),
            Ok(got) => out.extend_from_slice(&buf[..got]),
            Err(_) => return None,
        }
        let inflated = out.len() as u64;
        assert!(inflated <= limits.layer_bytes_max, "beyond layer_bytes_max");
        let allowed = limits
            .inflate_grace_bytes
            .max(bytes * limits.inflate_ratio_max);
        assert!(inflated <= allowed, "beyond inflate_ratio_max");
    }
}

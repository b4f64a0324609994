//! One measurement of tests/bench/choices.py: a crate of its own is made of this for each library that is to be compared.
//! Prints seconds.

use std::fs::File;
use std::io::Read;
use std::time::Instant;

const CHUNK: usize = 128 << 10;

fn main() {
    let mut words = std::env::args().skip(1);
    let what = words.next().expect("what to measure");
    let files: Vec<Vec<u8>> = words
        .map(|path| {
            let mut all = Vec::new();
            File::open(path)
                .and_then(|mut file| file.read_to_end(&mut all))
                .expect("a file");
            all
        })
        .collect();
    let begun = Instant::now();
    let mut total = 0;
    for content in &files {
        total += match what.as_str() {
            "inflate" => inflated(content),
            "sha2" => sha2(content),
            "ring" => ring(content),
            other => panic!("{other}"),
        };
    }
    println!("{} {total}", begun.elapsed().as_secs_f64());
}

fn inflated(content: &[u8]) -> usize {
    let mut reader = flate2::bufread::MultiGzDecoder::new(content);
    let mut buffer = vec![0; CHUNK];
    let mut total = 0;
    loop {
        match reader.read(&mut buffer).expect("gzip") {
            0 => return total,
            count => total += count,
        }
    }
}

fn sha2(content: &[u8]) -> usize {
    use sha2::Digest as _;
    let mut hash = sha2::Sha256::new();
    content.chunks(CHUNK).for_each(|chunk| hash.update(chunk));
    usize::from(hash.finalize()[0])
}

fn ring(content: &[u8]) -> usize {
    let mut hash = ring::digest::Context::new(&ring::digest::SHA256);
    content.chunks(CHUNK).for_each(|chunk| hash.update(chunk));
    usize::from(hash.finish().as_ref()[0])
}

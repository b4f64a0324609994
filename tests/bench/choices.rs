//! One measurement of tests/bench/choices.py: a crate of its own is made of this for each library that is to be compared.
//! Prints the seconds of a processor that it took, which others on the machine do not change as much as those of the clock.

const CHUNK: usize = 128 << 10;

fn main() {
    let mut words = std::env::args().skip(1);
    let what = words.next().expect("what to measure");
    let files: Vec<Vec<u8>> = words
        .map(|path| std::fs::read(path).expect("a file"))
        .collect();
    let begun = processor_seconds();
    let mut total = 0;
    for content in &files {
        total += match what.as_str() {
            #[cfg(not(feature = "hash"))]
            "inflate" => inflated(content),
            #[cfg(feature = "hash")]
            "sha2" => sha2(content),
            #[cfg(feature = "hash")]
            "ring" => ring(content),
            other => panic!("{other}"),
        };
    }
    println!("{} {total}", processor_seconds() - begun);
}

fn processor_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/self/schedstat").expect("schedstat");
    let ns = text.split(' ').next().and_then(|ns| ns.parse::<f64>().ok());
    ns.expect("a number") / 1e9
}

#[cfg(not(feature = "hash"))]
fn inflated(content: &[u8]) -> usize {
    use std::io::Read as _;
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

#[cfg(feature = "hash")]
fn sha2(content: &[u8]) -> usize {
    use sha2::Digest as _;
    let mut hash = sha2::Sha256::new();
    content.chunks(CHUNK).for_each(|chunk| hash.update(chunk));
    usize::from(hash.finalize()[0])
}

#[cfg(feature = "hash")]
fn ring(content: &[u8]) -> usize {
    let mut hash = ring::digest::Context::new(&ring::digest::SHA256);
    content.chunks(CHUNK).for_each(|chunk| hash.update(chunk));
    usize::from(hash.finish().as_ref()[0])
}

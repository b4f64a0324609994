//! The API: heads, queries, headers, bodies, and the small words in them. A line of `---` ends a body.

use nacre::fuzzing;

/// Takes one input.
pub fn run(data: &[u8]) {
    let Some((choice, rest)) = data.split_first() else {
        return;
    };
    match choice {
        b'h' => fuzzing::head(rest),
        b'b' => {
            const BETWEEN: &[u8] = b"\n---\n";
            let at = rest
                .windows(BETWEEN.len())
                .position(|bytes| bytes == BETWEEN);
            let (body, image) = match at {
                Some(at) => (&rest[..at], &rest[at + BETWEEN.len()..]),
                None => (rest, &b""[..]),
            };
            fuzzing::body(body, image);
        }
        b'w' => fuzzing::words(&String::from_utf8_lossy(rest)),
        _ => {}
    }
}

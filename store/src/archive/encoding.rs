//! Base64 and percent-encoding, as libarchive spells extended attributes. Nothing else is encoded here.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Writes base64 without padding, as libarchive does.
pub(super) fn base64_encode(bytes: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = chunk
            .iter()
            .fold(0_usize, |word, byte| word << 8 | usize::from(*byte))
            << (8 * (3 - chunk.len()));
        let sextets = [word >> 18, word >> 12, word >> 6, word].map(|bits| bits & 63);
        text.extend(
            sextets
                .iter()
                .take(chunk.len() + 1)
                .filter_map(|bits| ALPHABET.get(*bits)),
        );
    }
    text
}

/// Reads base64 with or without padding; `None` for anything else.
pub(super) fn base64_decode(text: &[u8]) -> Option<Vec<u8>> {
    let end = text
        .iter()
        .rposition(|b| *b != b'=')
        .map_or(0, |last| last + 1);
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 3);
    for chunk in text.get(..end)?.chunks(4) {
        let mut word = 0_u32;
        for byte in chunk {
            word = word << 6 | sextet(*byte)?;
        }
        let [_, high, middle, low] = (word << (6 * (4 - chunk.len()))).to_be_bytes();
        let whole = chunk.len().checked_sub(1).filter(|n| *n > 0)?;
        bytes.extend([high, middle, low].iter().take(whole));
    }
    Some(bytes)
}

fn sextet(byte: u8) -> Option<u32> {
    Some(u32::from(match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    }))
}

/// Writes everything but letters, digits and a few marks as `%XX`.
pub(super) fn percent_encode(bytes: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(bytes.len());
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-') {
            text.push(byte);
        } else {
            text.extend_from_slice(format!("%{byte:02X}").as_bytes());
        }
    }
    text
}

/// Reads `%XX`; `None` if a `%` has no two hex digits behind it.
pub(super) fn percent_decode(text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.iter();
    while let Some(&byte) = rest.next() {
        if byte == b'%' {
            let high = char::from(*rest.next()?).to_digit(16)?;
            let low = char::from(*rest.next()?).to_digit(16)?;
            bytes.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn base64_with_and_without_padding() {
        let cases: [(&[u8], Option<&[u8]>); 9] = [
            (b"", Some(b"")),
            (b"Zg==", Some(b"f")),
            (b"Zg", Some(b"f")),
            (b"Zm8=", Some(b"fo")),
            (b"Zm9v", Some(b"foo")),
            (b"Zm9vYmFy", Some(b"foobar")),
            (b"Z", None),
            (b"Zm9vY", None),
            (b"Zm 9", None),
        ];
        for (text, bytes) in cases {
            assert_eq!(
                base64_decode(text).as_deref(),
                bytes,
                "{}",
                text.escape_ascii()
            );
        }
    }

    #[test]
    fn percent_signs_need_two_digits() {
        let cases: [(&[u8], Option<&[u8]>); 5] = [
            (b"user.a", Some(b"user.a")),
            (b"user.%3D%3d", Some(b"user.==")),
            (b"%", None),
            (b"%3", None),
            (b"%zz", None),
        ];
        for (text, bytes) in cases {
            assert_eq!(
                percent_decode(text).as_deref(),
                bytes,
                "{}",
                text.escape_ascii()
            );
        }
    }

    proptest! {
        #[test]
        fn both_encodings_come_back(bytes in any::<Vec<u8>>()) {
            prop_assert_eq!(base64_decode(&base64_encode(&bytes)), Some(bytes.clone()));
            prop_assert_eq!(percent_decode(&percent_encode(&bytes)), Some(bytes));
        }
    }
}

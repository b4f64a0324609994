//! Numbers of a tar header: octal with its quirks, and base-256. Never knows which field it reads.

/// Reads a numeric field: octal text or, with the high bit of the first byte set, a big-endian two's complement number.
/// `None` if it is neither or does not fit.
pub(super) fn parse(field: &[u8]) -> Option<i64> {
    match field.first() {
        Some(first) if first & 0x80 != 0 => parse_base256(field),
        _ => parse_octal(field),
    }
}

/// Writers pad with spaces or NULs on either side and end with a space, a NUL or the field; a blank field is zero.
fn parse_octal(field: &[u8]) -> Option<i64> {
    let start = field
        .iter()
        .position(|b| !matches!(b, b' ' | 0))
        .unwrap_or(field.len());
    let mut value = 0_i64;
    for &byte in field.get(start..)? {
        match byte {
            b'0'..=b'7' => value = value.checked_mul(8)?.checked_add(i64::from(byte - b'0'))?,
            b' ' | 0 => break,
            _ => return None,
        }
    }
    Some(value)
}

/// The first byte's high bit is the mark, the next one the sign.
fn parse_base256(field: &[u8]) -> Option<i64> {
    let (&first, rest) = field.split_first()?;
    let negative = first & 0x40 != 0;
    let mut value = i128::from(first & 0x3f) - if negative { 0x40 } else { 0 };
    for &byte in rest {
        value = value.checked_mul(256)?.checked_add(i128::from(byte))?;
    }
    i64::try_from(value).ok()
}

/// Writes `value` to `field` as zero-filled octal with a NUL behind it, or as base-256 where that does not fit.
pub(super) fn write(field: &mut [u8], value: u64) {
    let digits = field.len().saturating_sub(1);
    // Three bits a digit; 22 digits hold any u64.
    if digits < 22 && value >> (3 * digits) != 0 {
        let mut rest = value;
        for byte in field.iter_mut().rev() {
            *byte = low_byte(rest);
            rest >>= 8;
        }
        if let Some(first) = field.first_mut() {
            *first |= 0x80;
        }
        return;
    }
    let mut rest = value;
    for (index, byte) in field.iter_mut().rev().enumerate() {
        if index == 0 {
            *byte = 0;
        } else {
            *byte = b'0' + (low_byte(rest) & 7);
            rest >>= 3;
        }
    }
}

/// Tells whether [`write`] finds room for `value` in octal.
pub(super) fn fits_octal(field_len: usize, value: u64) -> bool {
    let digits = field_len.saturating_sub(1);
    digits >= 22 || value >> (3 * digits) == 0
}

fn low_byte(value: u64) -> u8 {
    let [low, ..] = value.to_le_bytes();
    low
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use proptest::prelude::*;

    #[test]
    fn octal_quirks_of_known_writers() {
        let cases: [(&[u8], Option<i64>); 14] = [
            (b"0000644\0", Some(0o644)),
            (b"000644 \0", Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"\0\0\x30644\0\0", Some(0o644)),
            (b"644\0junk", Some(0o644)),
            (b"00000644", Some(0o644)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"        ", Some(0)),
            (b"", Some(0)),
            (b"77777777777\0", Some(8_589_934_591)),
            (b"0000648\0", None),
            (b"-000644\0", None),
            (b"abc\0", None),
            (b"6x4", None),
        ];
        for (field, value) in cases {
            assert_eq!(parse(field), value, "{}", field.escape_ascii());
        }
    }

    #[test]
    fn base256_with_both_signs() {
        let cases: [(&[u8], Option<i64>); 8] = [
            (b"\x80\0\0\0\0\0\0\0\0\0\0\x01", Some(1)),
            (b"\x80\0\0\0\x80\0\0\0\0\0\0\0", None),
            (
                b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff",
                Some(i64::MAX),
            ),
            (
                b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
                Some(-1),
            ),
            (b"\xff\xff\xff\xff\xff\xff\xff\x9c", Some(-100)),
            (b"\xff\xff\xff\xff\x80\0\0\0\0\0\0\0", Some(i64::MIN)),
            (b"\xbf\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", None),
            (b"\x80\0\0\0\0\x2d\xc6\xc0", Some(3_000_000)),
        ];
        for (field, value) in cases {
            assert_eq!(parse(field), value, "{}", field.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(value in 0..=i64::MAX, len in 9_usize..=12) {
            let mut field = vec![0xaa; len];
            write(&mut field, u64::try_from(value).unwrap());
            prop_assert_eq!(parse(&field), Some(value));
        }

        #[test]
        fn any_field_parses_or_not(field in proptest::collection::vec(any::<u8>(), 0..40)) {
            // Nothing to compare: a panic is the failure.
            if let Some(value) = parse_octal(&field) {
                prop_assert!(value >= 0);
            }
            parse(&field);
        }
    }

    #[test]
    fn octal_is_kept_as_long_as_it_fits() {
        let mut field = [0xaa_u8; 8];
        write(&mut field, 0o7_777_777);
        assert_eq!(&field, b"7777777\0");
        assert!(fits_octal(8, 0o7_777_777));
        assert!(!fits_octal(8, 0o10_000_000));
        write(&mut field, 0o10_000_000);
        assert_eq!(&field, b"\x80\0\0\0\0\x20\0\0");
    }
}

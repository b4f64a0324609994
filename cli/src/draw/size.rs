//! Sizes as people read them: base 1000, three or four significant digits.

const UNITS: [&str; 9] = ["B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"];

/// A size of three digits, as in listings: `1.09kB`, `183MB`.
pub(crate) fn human(bytes: i64) -> String {
    with_digits(bytes, 3)
}

/// A size of four digits, as in totals and progress: `1.235GB`.
pub(crate) fn human4(bytes: i64) -> String {
    with_digits(bytes, 4)
}

/// docker prints 999 900 bytes as `1e+03kB`; here the size goes up to the
/// next unit instead.
#[expect(
    clippy::cast_precision_loss,
    reason = "four digits are shown of a number that has at most nineteen"
)]
fn with_digits(bytes: i64, digits: usize) -> String {
    let mut size = bytes as f64;
    let mut unit = UNITS.iter();
    let mut name = unit.next();
    while let Some(current) = name {
        let text = significant(size, digits);
        // At or above ten to the power of the digits, Go turns to exponents.
        let overflows = size >= 1000.0 || text.is_none();
        if let Some(text) = text
            && !overflows
        {
            return format!("{text}{current}");
        }
        size /= 1000.0;
        name = unit.next();
    }
    // No i64 gets here: its largest is 9.22EB.
    format!("{bytes}B")
}

/// Go's `%.{digits}g` where it needs no exponent; `None` where it would.
fn significant(value: f64, digits: usize) -> Option<String> {
    if value == 0.0 {
        return Some("0".to_owned());
    }
    // Rust's own rounding gives the exponent after rounding.
    let scientific = format!("{value:.*e}", digits.saturating_sub(1));
    let exponent: i32 = scientific.split_once('e')?.1.parse().ok()?;
    let digits = i32::try_from(digits).ok()?;
    if exponent >= digits || exponent < -4 {
        return None;
    }
    let decimals = usize::try_from(digits - 1 - exponent).ok()?;
    let mut text = format!("{value:.decimals$}");
    if text.contains('.') {
        text.truncate(text.trim_end_matches('0').trim_end_matches('.').len());
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_in_listings() {
        for (bytes, text) in [
            (0, "0B"),
            (15, "15B"),
            (999, "999B"),
            (1000, "1kB"),
            (1090, "1.09kB"),
            (12_345, "12.3kB"),
            (100_500, "100kB"),
            (183_000_000, "183MB"),
            (999_400, "999kB"),
            (1_200_000_000, "1.2GB"),
            (i64::MAX, "9.22EB"),
        ] {
            assert_eq!(human(bytes), text, "{bytes}");
        }
    }

    #[test]
    fn four_digits_in_totals() {
        for (bytes, text) in [
            (0, "0B"),
            (123_456_789, "123.5MB"),
            (1_234_567_890, "1.235GB"),
            (2048, "2.048kB"),
            (999_990, "1000kB"),
        ] {
            assert_eq!(human4(bytes), text, "{bytes}");
        }
    }

    #[test]
    fn a_size_that_rounds_to_a_thousand_takes_the_next_unit() {
        assert_eq!(human(999_900), "1MB");
        assert_eq!(human(999_999_999), "1GB");
    }

    #[test]
    fn a_negative_size_is_shown_as_it_is() {
        assert_eq!(human(-1), "-1B");
    }
}

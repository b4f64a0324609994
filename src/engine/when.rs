//! Times: from and to the texts that docker's interfaces use. Never decides what time it is but in `now`.

use jiff::Timestamp;
use jiff::fmt::temporal::DateTimePrinter;

/// Nanoseconds since the epoch, as all our documents keep time.
pub type Nanos = i64;

/// Nanoseconds in a second.
pub const SECOND: i64 = 1_000_000_000;

/// The present.
pub fn now() -> Nanos {
    nanos(Timestamp::now())
}

fn nanos(time: Timestamp) -> Nanos {
    i64::try_from(time.as_nanosecond()).unwrap_or(i64::MAX)
}

fn stamp(time: Nanos) -> Timestamp {
    Timestamp::from_nanosecond(i128::from(time)).unwrap_or_default()
}

/// RFC 3339 with as many digits as are needed, in UTC: Go's RFC3339Nano.
pub fn rfc3339(time: Nanos) -> String {
    DateTimePrinter::new().timestamp_to_string(&stamp(time))
}

/// RFC 3339 with nine digits always: docker's log time stamps.
pub fn rfc3339_full(time: Nanos) -> String {
    DateTimePrinter::new()
        .precision(Some(9))
        .timestamp_to_string(&stamp(time))
}

/// The time that docker gives for "never".
pub const NEVER: &str = "0001-01-01T00:00:00Z";

/// Reads an RFC 3339 time.
pub fn parse(text: &str) -> Option<Nanos> {
    text.parse::<Timestamp>().ok().map(nanos)
}

/// Reads a time as docker's `since`, `until` and filters take it: RFC 3339 (also without zone or time: UTC),
/// seconds since the epoch with up to nine decimals, or a Go duration back from `now`.
pub fn point(text: &str, now: Nanos) -> Option<Nanos> {
    if let Some(time) = unix(text).or_else(|| parse(text)) {
        return Some(time);
    }
    if let Some(back) = duration(text) {
        return now.checked_sub(back);
    }
    let civil = text.parse::<jiff::civil::DateTime>().ok()?;
    jiff::tz::Offset::UTC.to_timestamp(civil).ok().map(nanos)
}

fn unix(text: &str) -> Option<Nanos> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = seconds.parse().ok()?;
    if fraction.len() > 9 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let fraction: i64 = format!("{fraction:0<9}").parse().ok()?;
    seconds.checked_mul(SECOND)?.checked_add(fraction)
}

/// Reads a Go duration, as `1h30m`, `1.5s` or `300ms`.
pub fn duration(text: &str) -> Option<i64> {
    const UNITS: [(&str, i64); 8] = [
        ("ns", 1),
        ("us", 1_000),
        ("µs", 1_000),
        ("μs", 1_000),
        ("ms", 1_000_000),
        ("s", SECOND),
        ("m", 60 * SECOND),
        ("h", 3600 * SECOND),
    ];
    let mut rest = text.trim();
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: i64 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(digits);
        let letters = after
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let (_, scale) = UNITS.iter().find(|(name, _)| *name == unit)?;
        total = total.checked_add(scaled(number, *scale)?)?;
        rest = after;
    }
    Some(total)
}

fn scaled(number: &str, scale: i64) -> Option<i64> {
    /// More decimals than a nanosecond's of an hour can show.
    const DECIMALS_MAX: usize = 12;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let whole: i64 = if whole.is_empty() {
        0
    } else {
        whole.parse().ok()?
    };
    let fraction = fraction.get(..fraction.len().min(DECIMALS_MAX))?;
    let mut part: i128 = 0;
    if !fraction.is_empty() {
        let divisor = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
        part = fraction
            .parse::<i128>()
            .ok()?
            .checked_mul(i128::from(scale))?
            .checked_div(divisor)?;
    }
    whole
        .checked_mul(scale)?
        .checked_add(i64::try_from(part).ok()?)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn durations_are_gos() {
        assert_eq!(duration("1h30m"), Some(5400 * SECOND));
        assert_eq!(duration("1.5s"), Some(1_500_000_000));
        assert_eq!(duration("300ms"), Some(300_000_000));
        for bad in ["", "5", "h", "1d", "1h-5m", "99999999999999h"] {
            assert_eq!(duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn points_in_time_have_three_forms() {
        let now = parse("2026-11-24T00:00:00Z").unwrap();
        assert_eq!(point("1.5", now), Some(1_500_000_000));
        assert_eq!(
            point("2026-11-23T00:00:00Z", now),
            Some(now - 86_400 * SECOND)
        );
        assert_eq!(
            point("2026-11-23T00:00:00", now),
            Some(now - 86_400 * SECOND)
        );
        assert_eq!(point("24h", now), Some(now - 86_400 * SECOND));
        assert_eq!(point("yesterday", now), None);
    }

    #[test]
    fn times_print_with_nine_digits_or_as_few_as_needed() {
        assert_eq!(
            rfc3339_full(1_500_000_000),
            "1970-01-01T00:00:01.500000000Z"
        );
        assert_eq!(rfc3339(1_500_000_000), "1970-01-01T00:00:01.5Z");
        assert_eq!(rfc3339(SECOND), "1970-01-01T00:00:01Z");
    }
}

//! Times as flags give them: a date, a time, seconds since 1970, or how long
//! ago.

use jiff::civil::{Date, DateTime};
use jiff::{SignedDuration, Timestamp};

use crate::draw::age::local_zone;

/// Reads a time and returns seconds since 1970, nanoseconds after the dot, as
/// the API takes it.
pub(crate) fn timestamp(text: &str) -> std::result::Result<String, String> {
    timestamp_at(text, Timestamp::now())
}

fn timestamp_at(text: &str, now: Timestamp) -> std::result::Result<String, String> {
    let text = text.trim();
    if let Some(ago) = duration(text) {
        let time = now
            .checked_sub(ago)
            .map_err(|_| format!("{text:?} is before the beginning of time"))?;
        return Ok(shown(time));
    }
    let digits = text.strip_prefix('-').unwrap_or(text);
    if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return Ok(text.to_owned());
    }
    let zoned = |time: DateTime| {
        time.to_zoned_datetime(local_zone())
            .map(|zoned| zoned.timestamp())
    };
    text.parse::<Timestamp>()
        .or_else(|_| text.parse::<DateTime>().and_then(zoned))
        .or_else(|_| {
            text.parse::<Date>()
                .and_then(|date| zoned(date.to_datetime(jiff::civil::Time::midnight())))
        })
        .map(shown)
        .map_err(|_| format!("failed to parse value as time or duration: {text:?}"))
}

fn shown(time: Timestamp) -> String {
    format!("{}.{:09}", time.as_second(), time.subsec_nanosecond().abs())
}

/// Go's durations: `1h30m`, `1.5s`; a unit is needed.
fn duration(text: &str) -> Option<SignedDuration> {
    let mut rest = text;
    let mut total = SignedDuration::ZERO;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
        let (number, after) = rest.split_at(digits);
        let number: f64 = number.parse().ok()?;
        let (seconds, unit) = [
            (1e-9, "ns"),
            (1e-6, "us"),
            (1e-6, "µs"),
            (1e-3, "ms"),
            (1.0, "s"),
            (60.0, "m"),
            (3600.0, "h"),
        ]
        .into_iter()
        .find(|(_, unit)| after.starts_with(unit))?;
        total = total.checked_add(SignedDuration::try_from_secs_f64(number * seconds).ok()?)?;
        rest = after.get(unit.len()..)?;
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn times_are_seconds_since_1970() {
        let now = Timestamp::from_second(1_000_000).unwrap();
        for (text, seconds) in [
            ("42m", "997480.000000000"),
            ("1h30m", "994600.000000000"),
            ("1.5s", "999998.500000000"),
            ("1700000000", "1700000000"),
            ("1700000000.5", "1700000000.5"),
            ("2013-01-02T13:23:37Z", "1357133017.000000000"),
            ("2013-01-02T13:23:37.5+01:00", "1357129417.500000000"),
        ] {
            assert_eq!(timestamp_at(text, now).unwrap(), seconds, "{text}");
        }
        assert!(timestamp_at("2013-01-02", now).is_ok());
        assert!(timestamp_at("2013-01-02T13:23", now).is_ok());
        for bad in ["yesterday", "", "5x", "1h2"] {
            assert!(timestamp_at(bad, now).is_err(), "{bad}");
        }
        assert!(timestamp_at("99999999999h", now).is_err());
    }
}

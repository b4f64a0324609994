//! Ages and times as people read them.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// docker shows no age for anything up to the end of the 20th century: such
/// times stand for "unknown" in reproducible images.
const EPOCH_OF_AGES: i64 = 946_684_800;

/// The seconds since 1970, now.
pub(crate) fn now() -> i64 {
    Timestamp::now().as_second()
}

/// A duration in words: `3 minutes`, `About an hour`.
pub(crate) fn words(seconds: i64) -> String {
    let minutes = seconds / 60;
    // To the nearest hour, the half up.
    let hours = seconds.saturating_add(1800) / 3600;
    match (seconds, minutes, hours) {
        (..1, _, _) => "Less than a second".to_owned(),
        (1, _, _) => "1 second".to_owned(),
        (2..60, _, _) => format!("{seconds} seconds"),
        (_, 1, _) => "About a minute".to_owned(),
        (_, 2..60, _) => format!("{minutes} minutes"),
        (_, _, 1) => "About an hour".to_owned(),
        (_, _, ..48) => format!("{hours} hours"),
        (_, _, ..336) => format!("{} days", hours / 24),
        (_, _, ..1440) => format!("{} weeks", hours / 168),
        (_, _, ..17520) => format!("{} months", hours / 720),
        _ => format!("{} years", hours / 8760),
    }
}

/// How long ago a time was.
pub(crate) fn ago(created: i64, now: i64) -> String {
    format!("{} ago", words(now.saturating_sub(created)))
}

/// How long ago a step of a history was; nothing for times that mean nothing.
pub(crate) fn ago_or_not_available(created: i64, now: i64) -> String {
    if created <= EPOCH_OF_AGES {
        "N/A".to_owned()
    } else {
        ago(created, now)
    }
}

/// Go's `time.String()` in the local zone: `2026-11-19 02:36:34 +0000 UTC`.
pub(crate) fn local(created: i64) -> String {
    formatted(created, "%Y-%m-%d %H:%M:%S %z %Z")
}

/// RFC 3339 in the local zone.
pub(crate) fn rfc3339(created: i64) -> String {
    let text = formatted(created, "%Y-%m-%dT%H:%M:%S%:z");
    match text.strip_suffix("+00:00") {
        Some(time) => format!("{time}Z"),
        None => text,
    }
}

/// The zone of this machine; UTC where it has none.
pub(crate) fn local_zone() -> TimeZone {
    TimeZone::try_system().unwrap_or(TimeZone::UTC)
}

fn formatted(created: i64, format: &str) -> String {
    match Timestamp::from_second(created) {
        Ok(time) => time
            .to_zoned_datetime(local_zone())
            .strftime(format)
            .to_string(),
        // A time outside of years 1 to 9999.
        Err(_) => created.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_in_words() {
        const MINUTE: i64 = 60;
        const HOUR: i64 = 3600;
        for (seconds, text) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (2, "2 seconds"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (119, "About a minute"),
            (120, "2 minutes"),
            (59 * MINUTE, "59 minutes"),
            (60 * MINUTE, "About an hour"),
            (89 * MINUTE, "About an hour"),
            (90 * MINUTE, "2 hours"),
            (47 * HOUR, "47 hours"),
            (48 * HOUR, "2 days"),
            (335 * HOUR, "13 days"),
            (336 * HOUR, "2 weeks"),
            (1439 * HOUR, "8 weeks"),
            (1440 * HOUR, "2 months"),
            (17519 * HOUR, "24 months"),
            (17520 * HOUR, "2 years"),
            (56 * 8760 * HOUR, "56 years"),
        ] {
            assert_eq!(words(seconds), text, "{seconds}");
        }
    }

    #[test]
    fn reproducible_times_have_no_age() {
        assert_eq!(ago_or_not_available(0, 2_000_000_000), "N/A");
        assert_eq!(
            ago_or_not_available(999_999_940, 1_000_000_000),
            "About a minute ago"
        );
    }

    #[test]
    fn absurd_times_do_not_panic() {
        assert_eq!(ago(i64::MIN, i64::MAX), format!("{} ago", words(i64::MAX)));
        assert_eq!(local(i64::MAX), i64::MAX.to_string());
    }
}

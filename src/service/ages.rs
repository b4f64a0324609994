//! Times as docker's status lines tell them. Pure.

/// How long `nanos` is, in the largest unit that says enough.
pub(crate) fn human(nanos: i64) -> String {
    let seconds = nanos.div_euclid(1_000_000_000).max(0);
    let minutes = seconds.div_euclid(60);
    // docker rounds hours, and cuts off everything else.
    let hours = seconds.saturating_add(1800).div_euclid(3600);
    match (seconds, minutes, hours) {
        (0, _, _) => "Less than a second".to_owned(),
        (1, _, _) => "1 second".to_owned(),
        (s, 0, _) => format!("{s} seconds"),
        (_, 1, _) => "About a minute".to_owned(),
        (_, m, _) if m < 60 => format!("{m} minutes"),
        (_, _, 1) => "About an hour".to_owned(),
        (_, _, h) if h < 48 => format!("{h} hours"),
        (_, _, h) if h < 24 * 14 => format!("{} days", h.div_euclid(24)),
        (_, _, h) if h < 24 * 60 => format!("{} weeks", h.div_euclid(24 * 7)),
        (_, _, h) if h < 24 * 365 * 2 => format!("{} months", h.div_euclid(24 * 30)),
        (_, _, h) => format!("{} years", h.div_euclid(24 * 365)),
    }
}

#[cfg(test)]
mod tests {
    use super::human;

    #[test]
    fn ages_read_as_dockers() {
        let cases = [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (3599, "59 minutes"),
            (3600, "About an hour"),
            (5400, "2 hours"),
            (47 * 3600, "47 hours"),
            (48 * 3600, "2 days"),
            (14 * 86_400, "2 weeks"),
            (60 * 86_400, "2 months"),
            (730 * 86_400, "2 years"),
        ];
        for (seconds, wanted) in cases {
            assert_eq!(human(seconds * 1_000_000_000), wanted, "{seconds}");
        }
    }
}

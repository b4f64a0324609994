//! Signals by name and by number, as docker takes them. Never sends one.

use super::error::{Error, Result};

const NAMES: &[(&str, i32)] = &[
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("PWR", 30),
    ("SYS", 31),
];

/// First and last real-time signal that a program may use on Linux with glibc.
const RT_MIN: i32 = 34;
const RT_MAX: i32 = 64;

/// Reads `9`, `KILL`, `SIGKILL`, `RTMIN+3` or `RTMAX-2`, in any case.
pub(crate) fn parse(text: &str) -> Result<i32> {
    let bad = || Error::invalid(format!("invalid signal: {text}"));
    if let Ok(number) = text.parse::<i32>() {
        return if (1..=RT_MAX).contains(&number) {
            Ok(number)
        } else {
            Err(bad())
        };
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some((_, number)) = NAMES.iter().find(|(known, _)| *known == name) {
        return Ok(*number);
    }
    let offset = |digits: &str| digits.parse::<u8>().map(i32::from).map_err(|_| bad());
    let number = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(""), _) => RT_MIN,
        (Some(rest), _) => RT_MIN + offset(rest.strip_prefix('+').ok_or_else(bad)?)?,
        (_, Some("")) => RT_MAX,
        (_, Some(rest)) => RT_MAX - offset(rest.strip_prefix('-').ok_or_else(bad)?)?,
        _ => return Err(bad()),
    };
    if (RT_MIN..=RT_MAX).contains(&number) {
        Ok(number)
    } else {
        Err(bad())
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn names_and_numbers_are_understood() {
        for (text, number) in [
            ("9", 9),
            ("kill", 9),
            ("SIGTERM", 15),
            ("sigwinch", 28),
            ("RTMIN+3", 37),
            ("SIGRTMAX", 64),
        ] {
            assert_eq!(parse(text).unwrap(), number, "{text}");
        }
        for bad in ["", "0", "65", "SIGNOPE", "-1", "RTMIN+31", "RTMAX+1"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}

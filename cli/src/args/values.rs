//! The values of flags: read once, here, in docker's grammar and words.

use std::path::Path;

use crate::api::{StringMap, Ulimit};
use crate::error::{Error, Result};

/// What a variable's file may hold: far more than any environment.
const ENV_FILE_BYTES_MAX: u64 = 16 << 20;

/// Go's booleans.
pub(crate) fn boolean(text: &str) -> std::result::Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!(
            "strconv.ParseBool: parsing {text:?}: invalid syntax"
        )),
    }
}

/// Go's whole numbers.
pub(crate) fn int(text: &str) -> std::result::Result<i64, String> {
    text.parse().map_err(|_| {
        let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
        let reason = if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
            "value out of range"
        } else {
            "invalid syntax"
        };
        format!("strconv.ParseInt: parsing {text:?}: {reason}")
    })
}

/// A filter: `name=value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Filter {
    pub(crate) key: String,
    pub(crate) value: String,
}

/// Reads a filter.
pub(crate) fn filter(text: &str) -> std::result::Result<Filter, String> {
    let (key, value) = text
        .split_once('=')
        .ok_or("bad format of filter (expected name=value)")?;
    Ok(Filter {
        key: key.trim().to_lowercase(),
        value: value.trim().to_owned(),
    })
}

/// Filters as the API wants them: `{"label":{"a=b":true}}`; nothing if there
/// are none.
pub(crate) fn filters_json(filters: &[Filter]) -> Option<String> {
    if filters.is_empty() {
        return None;
    }
    let mut map = serde_json::Map::new();
    for filter in filters {
        let values = map
            .entry(filter.key.clone())
            .or_insert_with(|| serde_json::Value::Object(serde_json::Map::new()));
        if let serde_json::Value::Object(values) = values {
            values.insert(filter.value.clone(), serde_json::Value::Bool(true));
        }
    }
    Some(serde_json::Value::Object(map).to_string())
}

/// Which of a process's streams to attach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdin,
    Stdout,
    Stderr,
}

/// Reads the name of a stream.
pub(crate) fn stream(text: &str) -> std::result::Result<Stream, String> {
    match text.to_lowercase().as_str() {
        "stdin" => Ok(Stream::Stdin),
        "stdout" => Ok(Stream::Stdout),
        "stderr" => Ok(Stream::Stderr),
        _ => Err("valid streams are STDIN, STDOUT and STDERR".to_owned()),
    }
}

/// The limits that Linux has.
const ULIMITS: [&str; 16] = [
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// Reads a limit: `nofile=1024[:2048]`.
pub(crate) fn ulimit(text: &str) -> std::result::Result<Ulimit, String> {
    let (name, values) = text
        .split_once('=')
        .ok_or_else(|| format!("invalid ulimit argument: {text}"))?;
    if !ULIMITS.contains(&name) {
        return Err(format!("invalid ulimit type: {name}"));
    }
    let mut numbers = values.split(':').map(|number| {
        number
            .parse::<i64>()
            .map_err(|_| format!("strconv.ParseInt: parsing {number:?}: invalid syntax"))
    });
    let soft = numbers.next().unwrap_or(Ok(-1))?;
    let hard = numbers.next().unwrap_or(Ok(soft))?;
    if numbers.next().is_some() {
        return Err(format!(
            "too many limit value arguments - {values}, can only have up to two, `soft[:hard]`"
        ));
    }
    if hard != -1 && (soft == -1 || soft > hard) {
        return Err(format!(
            "ulimit soft limit must be less than or equal to hard limit: {} > {hard}",
            if soft == -1 {
                "unlimited".to_owned()
            } else {
                soft.to_string()
            }
        ));
    }
    Ok(Ulimit {
        name: name.to_owned(),
        hard,
        soft,
    })
}

/// Reads a variable: `NAME=value`, or `NAME` for this process's value.
pub(crate) fn env(text: &str) -> std::result::Result<String, String> {
    match text.split_once('=') {
        Some(("", _)) => Err(format!("invalid environment variable: {text}")),
        None if text.is_empty() => Err("invalid environment variable: ".to_owned()),
        _ => Ok(text.to_owned()),
    }
}

/// Fills in this process's value of variables that only have a name; one that
/// is not set here is left out.
pub(crate) fn resolved(variables: &[String]) -> Vec<String> {
    variables
        .iter()
        .filter_map(|variable| {
            if variable.contains('=') {
                return Some(variable.clone());
            }
            let value = std::env::var(variable).ok()?;
            Some(format!("{variable}={value}"))
        })
        .collect()
}

/// The lines of a file of variables or labels, comments left out.
pub(crate) fn lines_of(path: &Path) -> Result<Vec<String>> {
    let name = path.display().to_string();
    let fail = |source| Error::io(format!("open {name}"), source);
    let size = std::fs::metadata(path).map_err(fail)?.len();
    if size > ENV_FILE_BYTES_MAX {
        return Err(Error::said(format!(
            "{name} has {size} bytes; at most {ENV_FILE_BYTES_MAX} are read"
        )));
    }
    let bytes = std::fs::read(path).map_err(fail)?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let line = error
            .as_bytes()
            .iter()
            .take(error.utf8_error().valid_up_to())
            .filter(|byte| **byte == b'\n')
            .count();
        Error::said(format!(
            "{name}: invalid utf8 bytes at line {}",
            line.saturating_add(1)
        ))
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let mut lines = Vec::new();
    for line in text.lines() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let variable = line.split_once('=').map_or(line, |(variable, _)| variable);
        if variable.is_empty() {
            return Err(Error::said(format!(
                "invalid env file ({name}): no variable name on line '{line}'"
            )));
        }
        if variable.contains(char::is_whitespace) {
            return Err(Error::said(format!(
                "invalid env file ({name}): variable '{variable}' contains whitespaces"
            )));
        }
        lines.push(line.to_owned());
    }
    Ok(lines)
}

/// Labels as a map: `name[=value]`.
pub(crate) fn labels(words: &[String]) -> StringMap {
    words
        .iter()
        .map(|word| match word.split_once('=') {
            Some((name, value)) => (name.to_owned(), value.to_owned()),
            None => (word.clone(), String::new()),
        })
        .collect()
}

/// A capability as the kernel calls it: `net_admin` is `CAP_NET_ADMIN`.
pub(crate) fn capability(text: &str) -> String {
    let upper = text.to_uppercase();
    if upper == "ALL" || upper.starts_with("CAP_") {
        upper
    } else {
        format!("CAP_{upper}")
    }
}

/// The keys that leave a container: `ctrl-p,ctrl-q`.
pub(crate) fn detach_keys(text: &str) -> std::result::Result<Vec<u8>, String> {
    text.split(',')
        .map(|key| {
            let mut characters = key.chars();
            match (characters.next(), characters.next()) {
                (Some(c), None) if c.is_ascii() => Ok(u8::try_from(u32::from(c)).unwrap_or(b' ')),
                _ => match key.strip_prefix("ctrl-").map(str::as_bytes) {
                    Some([letter]) if letter.is_ascii_alphabetic() => {
                        Ok(letter.to_ascii_uppercase() & 0x1f)
                    }
                    Some([mark]) if b"@[\\]^_".contains(mark) => Ok(mark & 0x1f),
                    _ => Err(format!("Unknown character: '{key}'")),
                },
            }
        })
        .collect()
}

/// A platform as the API wants it where it is not a plain word:
/// `linux/arm64/v8` is `{"architecture":"arm64","os":"linux","variant":"v8"}`.
pub(crate) fn platform_json(text: &str) -> Result<String> {
    let parts: Vec<&str> = text.split('/').collect();
    let (os, architecture, variant) = match parts.as_slice() {
        [os, architecture] => (*os, *architecture, None),
        [os, architecture, variant] => (*os, *architecture, Some(*variant)),
        _ => {
            return Err(Error::said(format!(
                "invalid platform {text:?}: expected os/arch[/variant], such as linux/amd64"
            )));
        }
    };
    let mut object = serde_json::Map::new();
    object.insert("architecture".to_owned(), architecture.into());
    object.insert("os".to_owned(), os.into());
    if let Some(variant) = variant {
        object.insert("variant".to_owned(), variant.into());
    }
    Ok(serde_json::Value::Object(object).to_string())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn ulimits_are_read_and_refused_in_dockers_words() {
        assert_eq!(
            ulimit("nofile=10:20").unwrap(),
            Ulimit {
                name: "nofile".to_owned(),
                soft: 10,
                hard: 20
            }
        );
        assert_eq!(ulimit("core=0").unwrap().hard, 0);
        assert_eq!(ulimit("stack=-1").unwrap().soft, -1);
        for (text, reason) in [
            ("x=y:z", "invalid ulimit type: x"),
            ("nofile", "invalid ulimit argument: nofile"),
            (
                "nofile=9:1",
                "ulimit soft limit must be less than or equal to hard limit: 9 > 1",
            ),
            (
                "nofile=a",
                "strconv.ParseInt: parsing \"a\": invalid syntax",
            ),
        ] {
            assert_eq!(ulimit(text).unwrap_err(), reason);
        }
    }

    #[test]
    fn values_of_one_filter_key_are_gathered() {
        let filters = [
            filter("label=a").unwrap(),
            filter("LABEL=b=c").unwrap(),
            filter("dangling = true").unwrap(),
        ];
        assert_eq!(
            filters_json(&filters).unwrap(),
            r#"{"label":{"a":true,"b=c":true},"dangling":{"true":true}}"#
        );
        assert_eq!(filters_json(&[]), None);
        assert!(filter("bogus").is_err());
    }

    #[test]
    fn detach_keys_are_control_characters() {
        assert_eq!(detach_keys("ctrl-p,ctrl-q").unwrap(), [16, 17]);
        assert_eq!(detach_keys("a,ctrl-[").unwrap(), [b'a', 27]);
        assert!(detach_keys("ctrl-é").is_err());
        assert!(detach_keys("shift-a").is_err());
    }

    #[test]
    fn a_variables_file_has_comments_and_no_empty_names() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "\u{feff}A=1\n# no\n\n  B=x y\nHOME\n").unwrap();
        assert_eq!(lines_of(file.path()).unwrap(), ["A=1", "B=x y", "HOME"]);
        std::fs::write(file.path(), "A B=1\n").unwrap();
        assert!(
            lines_of(file.path())
                .unwrap_err()
                .to_string()
                .contains("contains whitespaces")
        );
        std::fs::write(file.path(), b"ok=1\nx=\xff\n").unwrap();
        assert!(
            lines_of(file.path())
                .unwrap_err()
                .to_string()
                .contains("line 2")
        );
    }

    #[test]
    fn capabilities_get_their_prefix() {
        assert_eq!(capability("net_admin"), "CAP_NET_ADMIN");
        assert_eq!(capability("CAP_CHOWN"), "CAP_CHOWN");
        assert_eq!(capability("all"), "ALL");
    }
}

//! Words of a Dockerfile's line: quoting, variables, paths. Pure.

use super::error::{Error, Result};
use super::variables::Variables;
use crate::transfer::CONFIG_BYTES_MAX;

/// Splits at blanks outside of quotes. Quotes stay in the word; [`expand`] takes them off.
pub(crate) fn split(line: &str) -> Result<Vec<String>> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote: Option<char> = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            ('\\', None | Some('"')) => {
                word.push(c);
                word.extend(chars.next());
            }
            ('"' | '\'', None) => {
                quote = Some(c);
                word.push(c);
            }
            (c, Some(open)) if c == open => {
                quote = None;
                word.push(c);
            }
            (c, None) if c.is_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
            }
            (c, _) => word.push(c),
        }
    }
    if quote.is_some() {
        return Err(Error::invalid(format!(
            "unexpected end of statement while looking for a matching quote: {line}"
        )));
    }
    if !word.is_empty() {
        words.push(word);
    }
    Ok(words)
}

/// Takes quotes and escapes off and replaces `$NAME`, `${NAME}`, `${NAME:-word}` and `${NAME:+word}` from `env`.
/// What becomes longer than `bytes_max` is refused before it does.
pub(crate) fn expand(word: &str, env: &Variables, bytes_max: usize) -> Result<String> {
    let mut out = String::new();
    let mut quote: Option<char> = None;
    let mut rest = word;
    while let Some(c) = rest.chars().next() {
        rest = rest.get(c.len_utf8()..).unwrap_or_default();
        match (c, quote) {
            ('\'' | '"', None) => quote = Some(c),
            (c, Some(open)) if c == open => quote = None,
            ('\\', None | Some('"')) => {
                if let Some(next) = rest.chars().next() {
                    rest = rest.get(next.len_utf8()..).unwrap_or_default();
                    if quote.is_some() && !matches!(next, '"' | '$' | '\\') {
                        out.push('\\');
                    }
                    out.push(next);
                }
            }
            ('$', None | Some('"')) => {
                let (value, after) = variable(rest, env, bytes_max)?;
                if value.len() > bytes_max.saturating_sub(out.len()) {
                    return Err(too_long());
                }
                out.push_str(&value);
                rest = after;
            }
            (c, _) => out.push(c),
        }
    }
    if out.len() > bytes_max {
        return Err(too_long());
    }
    Ok(out)
}

/// Variables of variables double with each line: somewhere it must end.
pub(crate) fn too_long() -> Error {
    Error::invalid(format!(
        "the changes make more than {CONFIG_BYTES_MAX} bytes, the most that an image's configuration may have: use fewer or shorter ones"
    ))
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Reads what follows a dollar sign; returns the value and what is left.
fn variable<'a>(rest: &'a str, env: &Variables, bytes_max: usize) -> Result<(String, &'a str)> {
    let Some(braced) = rest.strip_prefix('{') else {
        let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        if name.is_empty() {
            return Ok(("$".to_owned(), after));
        }
        return Ok((env.value(name).unwrap_or_default().to_owned(), after));
    };
    let bad = || {
        Error::invalid(format!(
            "failed to process \"${rest}\": syntax error: missing '}}'"
        ))
    };
    let (inner, after) = braced.split_once('}').ok_or_else(bad)?;
    let end = inner.find(|c| !is_name(c)).unwrap_or(inner.len());
    let (name, modifier) = inner.split_at(end);
    let value = env.value(name);
    let word = |word| expand(word, env, bytes_max);
    let set = value.filter(|v| !v.is_empty());
    let text = match (modifier.get(..2), modifier.get(2..)) {
        _ if modifier.is_empty() && !name.is_empty() => value.unwrap_or_default().to_owned(),
        (Some(":-"), Some(other)) => set.map_or_else(|| word(other), |v| Ok(v.to_owned()))?,
        (Some(":+"), Some(other)) => set.map_or_else(|| Ok(String::new()), |_| word(other))?,
        _ => {
            return Err(Error::invalid(format!(
                "failed to process \"${{{inner}}}\": unsupported modifier"
            )));
        }
    };
    Ok((text, after))
}

/// Removes empty, `.` and `..` components of an absolute path; never climbs above the root.
pub fn clean_path(path: &str) -> String {
    let mut out: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                out.pop();
            }
            part => out.push(part),
        }
    }
    format!("/{}", out.join("/"))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn quotes_hold_blanks_together_and_come_off_later() {
        let words = split(r#"a="b c" 'd e'\ f"#).unwrap();
        assert_eq!(words, [r#"a="b c""#, r"'d e'\ f"]);
        let plain: Vec<String> = words
            .iter()
            .map(|w| expand(w, &Variables::default(), 99).unwrap())
            .collect();
        assert_eq!(plain, ["a=b c", "d e f"]);
        assert!(split("a 'b").is_err());
    }

    #[test]
    fn variables_expand_outside_of_single_quotes() {
        let env = Variables::new(["A=1".to_owned(), "E=".to_owned()]);
        let all = expand(
            r#"$A ${A}x "$A" '$A' \$A ${N:-d} ${E:-e} ${A:+y} ${N:+z} $N$"#,
            &env,
            99,
        )
        .unwrap();
        assert_eq!(all, "1 1x 1 $A $A d e y  $");
        assert!(expand("${A", &env, 99).is_err());
        assert!(expand("${A%x}", &env, 99).is_err());
    }

    #[test]
    fn what_gets_too_long_is_refused() {
        let env = Variables::new(["A=123".to_owned()]);
        assert_eq!(expand("$A${A:+45}", &env, 5).unwrap(), "12345");
        for word in ["$A$A", "123456", "${N:-123456}", "${A:+$A$A}"] {
            let error = expand(word, &env, 5).unwrap_err().to_string();
            assert!(error.contains("4194304 bytes"), "{word}: {error}");
        }
    }

    #[test]
    fn paths_are_cleaned_within_the_root() {
        assert_eq!(clean_path("/a//./b/../c/"), "/a/c");
        assert_eq!(clean_path("/../.."), "/");
    }
}

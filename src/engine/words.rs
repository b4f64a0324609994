//! Words of a Dockerfile's line: quoting, variables, paths. Pure.

use super::error::{Error, Result};

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
pub(crate) fn expand(word: &str, env: &[String]) -> Result<String> {
    let mut out = String::with_capacity(word.len());
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
                let (value, after) = variable(rest, env)?;
                out.push_str(&value);
                rest = after;
            }
            (c, _) => out.push(c),
        }
    }
    Ok(out)
}

fn look_up<'a>(name: &str, env: &'a [String]) -> Option<&'a str> {
    env.iter()
        .rev()
        .find_map(|entry| entry.strip_prefix(name)?.strip_prefix('='))
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Reads what follows a dollar sign; returns the value and what is left.
fn variable<'a>(rest: &'a str, env: &[String]) -> Result<(String, &'a str)> {
    let Some(braced) = rest.strip_prefix('{') else {
        let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        if name.is_empty() {
            return Ok(("$".to_owned(), after));
        }
        return Ok((look_up(name, env).unwrap_or_default().to_owned(), after));
    };
    let bad = || {
        Error::invalid(format!(
            "failed to process \"${rest}\": syntax error: missing '}}'"
        ))
    };
    let (inner, after) = braced.split_once('}').ok_or_else(bad)?;
    let end = inner.find(|c| !is_name(c)).unwrap_or(inner.len());
    let (name, modifier) = inner.split_at(end);
    let value = look_up(name, env);
    let set = value.filter(|v| !v.is_empty());
    let text = match (modifier.get(..2), modifier.get(2..)) {
        _ if modifier.is_empty() && !name.is_empty() => value.unwrap_or_default().to_owned(),
        (Some(":-"), Some(word)) => set.map_or_else(|| expand(word, env), |v| Ok(v.to_owned()))?,
        (Some(":+"), Some(word)) => set.map_or_else(|| Ok(String::new()), |_| expand(word, env))?,
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
        let plain: Vec<String> = words.iter().map(|w| expand(w, &[]).unwrap()).collect();
        assert_eq!(plain, ["a=b c", "d e f"]);
        assert!(split("a 'b").is_err());
    }

    #[test]
    fn variables_expand_outside_of_single_quotes() {
        let env = ["A=1".to_owned(), "E=".to_owned()];
        let all = expand(
            r#"$A ${A}x "$A" '$A' \$A ${N:-d} ${E:-e} ${A:+y} ${N:+z} $N$"#,
            &env,
        )
        .unwrap();
        assert_eq!(all, "1 1x 1 $A $A d e y  $");
        assert!(expand("${A", &env).is_err());
        assert!(expand("${A%x}", &env).is_err());
    }

    #[test]
    fn paths_are_cleaned_within_the_root() {
        assert_eq!(clean_path("/a//./b/../c/"), "/a/c");
        assert_eq!(clean_path("/../.."), "/");
    }
}

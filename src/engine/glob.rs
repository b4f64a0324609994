//! Shell patterns as Go's `path.Match` reads them: `*`, `?`, `[a-z]`, `\x`; none of them matches a slash. Pure.

/// Says whether the whole of `text` fits `pattern`; `None` when the pattern is malformed.
pub(crate) fn matches(pattern: &str, text: &str) -> Option<bool> {
    let pattern: Vec<char> = pattern.chars().collect();
    let text: Vec<char> = text.chars().collect();
    walk(&pattern, &text)
}

/// Goes on with one star open at a time: a later star may take all that an earlier one could.
fn walk(pattern: &[char], text: &[char]) -> Option<bool> {
    let (mut p, mut t) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    loop {
        let step = match pattern.get(p) {
            Some('*') => {
                retry = Some((p + 1, t));
                p += 1;
                continue;
            }
            Some(_) => one(pattern.get(p..)?, text.get(t).copied())?,
            None if t == text.len() => return Some(true),
            None => None,
        };
        if let Some(used) = step {
            p += used;
            t += 1;
            continue;
        }
        // The star takes one character more, but never a slash.
        let (after_star, from) = match retry {
            Some(retry) => retry,
            None => return check_rest(pattern.get(p..)?).then_some(false),
        };
        match text.get(from) {
            Some(c) if *c != '/' => {
                retry = Some((after_star, from + 1));
                (p, t) = (after_star, from + 1);
            }
            _ => return check_rest(pattern.get(p..)?).then_some(false),
        }
    }
}

/// Says whether the rest of a pattern is well formed.
fn check_rest(mut pattern: &[char]) -> bool {
    while let Some(first) = pattern.first() {
        let used = if *first == '*' {
            Some(1)
        } else {
            element_len(pattern)
        };
        match used.and_then(|n| pattern.get(n..)) {
            Some(rest) => pattern = rest,
            None => return false,
        }
    }
    true
}

fn element_len(pattern: &[char]) -> Option<usize> {
    match pattern.first()? {
        '\\' => pattern.get(1).map(|_| 2),
        '[' => class(pattern, '\0').map(|(_, used)| used),
        _ => Some(1),
    }
}

/// Matches one character: `Some(Some(used))` if it fits, `Some(None)` if not, `None` if the pattern is malformed.
fn one(pattern: &[char], c: Option<char>) -> Option<Option<usize>> {
    let Some(c) = c else {
        return element_len(pattern).map(|_| None);
    };
    let (fits, used) = match pattern.first()? {
        '?' => (c != '/', 1),
        '\\' => (*pattern.get(1)? == c, 2),
        '[' => class(pattern, c)?,
        literal => (*literal == c, 1),
    };
    Some(fits.then_some(used))
}

/// Reads a bracketed class; returns whether `c` is in it and how long it is.
fn class(pattern: &[char], c: char) -> Option<(bool, usize)> {
    let mut at = 1;
    let negated = pattern.get(at) == Some(&'^');
    if negated {
        at += 1;
    }
    let mut found = false;
    let mut members = 0;
    while *pattern.get(at)? != ']' || members == 0 {
        let (low, next) = member(pattern, at)?;
        at = next;
        let mut high = low;
        if pattern.get(at) == Some(&'-') {
            (high, at) = member(pattern, at + 1)?;
        }
        found |= (low..=high).contains(&c);
        members += 1;
    }
    Some((found != negated, at + 1))
}

fn member(pattern: &[char], at: usize) -> Option<(char, usize)> {
    match pattern.get(at)? {
        '-' | ']' => None,
        '\\' => Some((*pattern.get(at + 1)?, at + 2)),
        c => Some((*c, at + 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_go() {
        let cases = [
            ("abc", "abc", true),
            ("*", "abc", true),
            ("*c", "abc", true),
            ("a*", "ab/c", false),
            ("a*/c", "ab/c", true),
            ("a*b*c*d*e*/f", "axbxcxdxexxx/f", true),
            ("a*b?c*x", "abxbbxdbxebxczzx", true),
            ("ab[c]", "abc", true),
            ("ab[b-d]", "abc", true),
            ("ab[^e-g]", "abc", true),
            ("ab[^b-d]", "abc", false),
            ("a\\*b", "a*b", true),
            ("a?b", "a/b", false),
            ("busy*:*libc", "busybox:1.36-glibc", true),
            ("", "", true),
            ("x", "", false),
        ];
        for (pattern, text, wanted) in cases {
            assert_eq!(matches(pattern, text), Some(wanted), "{pattern} {text}");
        }
    }

    #[test]
    fn malformed_patterns_are_told() {
        for bad in ["[", "[]a]", "[-]", "a[", "\\", "[a-", "x[z"] {
            assert_eq!(matches(bad, "a"), None, "{bad}");
        }
    }
}

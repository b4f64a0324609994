//! The path and the query of a request. Escapes; knows no route by name.

use std::fmt::{self, Write as _};

use crate::api::API_VERSION;

/// A path and a query, escaped.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    path: String,
    query: String,
}

impl Route {
    /// A route of the Docker Engine API; each part is escaped but for its
    /// slashes, which belong to image names.
    pub(crate) fn docker(parts: &[&str]) -> Self {
        Self::with_prefix(&format!("/v{API_VERSION}"), parts)
    }

    /// A route of nacre's own.
    pub(crate) fn nacre(parts: &[&str]) -> Self {
        Self::with_prefix("/nacre", parts)
    }

    fn with_prefix(prefix: &str, parts: &[&str]) -> Self {
        let mut path = prefix.to_owned();
        for part in parts {
            path.push('/');
            escape(&mut path, part, b"/:@");
        }
        Self {
            path,
            query: String::new(),
        }
    }

    /// Adds a parameter.
    pub(crate) fn with(mut self, key: &str, value: &str) -> Self {
        if !self.query.is_empty() {
            self.query.push('&');
        }
        escape(&mut self.query, key, b"");
        self.query.push('=');
        escape(&mut self.query, value, b"");
        self
    }

    /// Adds `key=1` if it is set.
    pub(crate) fn flag(self, key: &str, set: bool) -> Self {
        if set { self.with(key, "1") } else { self }
    }

    /// Adds a parameter that may be absent or empty.
    pub(crate) fn maybe(self, key: &str, value: Option<&str>) -> Self {
        match value {
            Some(value) if !value.is_empty() => self.with(key, value),
            _ => self,
        }
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)?;
        if !self.query.is_empty() {
            write!(f, "?{}", self.query)?;
        }
        Ok(())
    }
}

fn escape(out: &mut String, text: &str, also_plain: &[u8]) {
    for byte in text.bytes() {
        let plain = byte.is_ascii_alphanumeric()
            || matches!(byte, b'-' | b'.' | b'_' | b'~')
            || also_plain.contains(&byte);
        if plain {
            out.push(char::from(byte));
        } else if write!(out, "%{byte:02X}").is_err() {
            // Writing to a String cannot fail.
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_their_slashes_and_values_do_not() {
        let route = Route::docker(&["images", "127.0.0.1:5000/a b", "json"])
            .with("tag", "a/b&c=d")
            .flag("force", true)
            .flag("quiet", false)
            .maybe("platform", None);
        assert_eq!(
            route.to_string(),
            "/v1.50/images/127.0.0.1:5000/a%20b/json?tag=a%2Fb%26c%3Dd&force=1"
        );
    }

    #[test]
    fn a_name_cannot_break_out_of_its_part() {
        let route = Route::nacre(&["uppers", "x?y=1#z\r\nHost: a"]);
        assert_eq!(
            route.to_string(),
            "/nacre/uppers/x%3Fy%3D1%23z%0D%0AHost:%20a"
        );
    }
}

//! What stands in a request's URL: version, path, query, filters. Pure.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::engine::{Error, Filters};

/// A version of the Engine API.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct ApiVersion(pub u32, pub u32);

impl ApiVersion {
    /// The oldest that is answered.
    pub(crate) const MIN: ApiVersion = ApiVersion(1, 24);
    /// The newest that is answered.
    pub(crate) const MAX: ApiVersion = ApiVersion(1, 50);

    fn parse(text: &str) -> Option<ApiVersion> {
        let (major, minor) = text.strip_prefix('v')?.split_once('.')?;
        Some(ApiVersion(major.parse().ok()?, minor.parse().ok()?))
    }

    /// Refuses a version that is not answered, in docker's words.
    fn check(self) -> Result<ApiVersion, Error> {
        let ApiVersion(major, minor) = self;
        if self > ApiVersion::MAX {
            let ApiVersion(a, b) = ApiVersion::MAX;
            let message = format!(
                "client version {major}.{minor} is too new. Maximum supported API version is {a}.{b}"
            );
            return Err(Error::invalid(message));
        }
        if self < ApiVersion::MIN {
            let ApiVersion(a, b) = ApiVersion::MIN;
            return Err(Error::invalid(format!(
                "client version {major}.{minor} is too old. Minimum supported API version is {a}.{b}, please upgrade your client to a newer version"
            )));
        }
        Ok(self)
    }
}

/// Splits a raw path at its slashes, decodes each part, and takes a leading version off.
pub(crate) fn path(raw: &str) -> Result<(ApiVersion, Vec<String>), Error> {
    let mut parts: Vec<String> = raw
        .strip_prefix('/')
        .unwrap_or(raw)
        .split('/')
        .map(decode)
        .collect();
    let version = parts.first().and_then(|first| ApiVersion::parse(first));
    match version {
        Some(version) => {
            parts.remove(0);
            Ok((version.check()?, parts))
        }
        None => Ok((ApiVersion::MAX, parts)),
    }
}

/// Decodes percent escapes; a broken one stays as it is.
fn decode(part: &str) -> String {
    let mut out = Vec::with_capacity(part.len());
    let mut bytes = part.as_bytes();
    while let Some((first, rest)) = bytes.split_first() {
        let escaped = (*first == b'%').then(|| rest.get(..2)).flatten();
        let value =
            escaped.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        match value {
            Some(value) => {
                out.push(value);
                bytes = rest.get(2..).unwrap_or_default();
            }
            None => {
                out.push(*first);
                bytes = rest;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// A query's parameters, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Params(Vec<(String, String)>);

impl Params {
    pub(crate) fn parse(query: &str) -> Params {
        let pairs = query
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| {
                let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                (
                    decode(&key.replace('+', " ")),
                    decode(&value.replace('+', " ")),
                )
            });
        Params(pairs.collect())
    }

    /// The first value of a key, empty if it is missing.
    pub(crate) fn text(&self, key: &str) -> &str {
        self.0
            .iter()
            .find(|(k, _)| k == key)
            .map_or("", |(_, value)| value)
    }

    /// The first value of a key, unless it is missing or empty.
    pub(crate) fn some(&self, key: &str) -> Option<&str> {
        Some(self.text(key)).filter(|text| !text.is_empty())
    }

    /// All values of a key.
    pub(crate) fn all(&self, key: &str) -> Vec<String> {
        self.0
            .iter()
            .filter(|(k, _)| k == key)
            .map(|(_, value)| value.clone())
            .collect()
    }

    /// docker's reading of a truth value; `missing` stands for a key that is not there.
    pub(crate) fn flag(&self, key: &str, missing: bool) -> bool {
        let Some((_, value)) = self.0.iter().find(|(k, _)| k == key) else {
            return missing;
        };
        !matches!(
            value.trim().to_ascii_lowercase().as_str(),
            "" | "0" | "no" | "false" | "none"
        )
    }

    /// A number, if there is one.
    pub(crate) fn number<T: std::str::FromStr>(&self, key: &str) -> Result<Option<T>, Error> {
        let bad = |text: &str| Error::invalid(format!("invalid value for {key}: {text:?}"));
        self.some(key)
            .map(|text| text.parse().map_err(|_| bad(text)))
            .transpose()
    }

    /// The filters: `{"key":{"value":true}}` as docker's client sends them, or `{"key":["value"]}` as others do.
    pub(crate) fn filters(&self) -> Result<Filters, Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Values {
            Set(BTreeMap<String, bool>),
            List(Vec<Value>),
            One(Value),
        }
        let Some(text) = self.some("filters") else {
            return Ok(Filters::default());
        };
        let bad = |error| Error::invalid(format!("invalid filter: {error}"));
        let parsed: BTreeMap<String, Values> = serde_json::from_str(text).map_err(bad)?;
        let word = |value: Value| match value {
            Value::String(text) => text,
            other => other.to_string(),
        };
        let values = |values| match values {
            Values::Set(set) => set
                .into_iter()
                .filter(|(_, on)| *on)
                .map(|(value, _)| value)
                .collect(),
            Values::List(list) => list.into_iter().map(word).collect(),
            Values::One(value) => vec![word(value)],
        };
        Ok(Filters::new(
            parsed
                .into_iter()
                .map(|(key, given)| (key, values(given)))
                .collect(),
        ))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn paths_may_be_bare_or_versioned_and_names_escaped() {
        let (version, parts) = path("/v1.43/images/127.0.0.1%3A5000%2Fa/json").unwrap();
        assert_eq!(version, ApiVersion(1, 43));
        assert_eq!(parts, ["images", "127.0.0.1:5000/a", "json"]);
        assert_eq!(
            path("/_ping").unwrap(),
            (ApiVersion::MAX, vec!["_ping".to_owned()])
        );
        assert_eq!(path("/v1/x").unwrap().1, ["v1", "x"]);
    }

    #[test]
    fn versions_out_of_range_are_refused_in_dockers_words() {
        assert_eq!(
            path("/v1.99/info").unwrap_err().to_string(),
            "client version 1.99 is too new. Maximum supported API version is 1.50"
        );
        assert_eq!(
            path("/v1.12/info").unwrap_err().to_string(),
            "client version 1.12 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version"
        );
    }

    #[test]
    fn booleans_are_read_as_docker_does() {
        let params = Params::parse("a=1&b=False&c=&d=yes&e=None&f");
        let read = |key| params.flag(key, true);
        assert_eq!(
            ["a", "b", "c", "d", "e", "f", "g"].map(read),
            [true, false, false, true, false, false, true]
        );
    }

    #[test]
    fn filters_come_in_two_shapes() {
        let set = Params::parse("filters=%7B%22dangling%22%3A%7B%22true%22%3Atrue%7D%7D")
            .filters()
            .unwrap();
        let list = Params::parse(r#"filters={"dangling":["true"]}"#)
            .filters()
            .unwrap();
        assert_eq!(set, list);
        assert_eq!(set.flag("dangling").unwrap(), Some(true));
        assert!(Params::parse("filters=x").filters().is_err());
        assert_eq!(Params::parse("x=1").filters().unwrap(), Filters::default());
    }

    #[test]
    fn plus_is_a_blank_and_broken_escapes_stay() {
        let params = Params::parse("m=a+b%2Bc%zz");
        assert_eq!(params.text("m"), "a b+c%zz");
    }
}

//! Filters of lists: keys with values, as every list route takes them. Pure; how they are written on the wire is the service's.

use std::collections::BTreeMap;

use super::error::{Error, Result};

/// Keys, each with its values in a fixed order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filters(BTreeMap<String, Vec<String>>);

impl Filters {
    /// Wraps parsed filters.
    pub fn new(filters: BTreeMap<String, Vec<String>>) -> Filters {
        Filters(filters)
    }

    /// The values of a key, none if it was not given.
    pub fn get(&self, key: &str) -> &[String] {
        self.0.get(key).map_or(&[], Vec::as_slice)
    }

    /// Adds one value.
    pub fn add(&mut self, key: &str, value: &str) {
        self.0
            .entry(key.to_owned())
            .or_default()
            .push(value.to_owned());
    }

    /// Says whether the key was given.
    pub fn has(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// Refuses keys that the list does not know.
    pub fn only(&self, known: &[&str]) -> Result<()> {
        match self.0.keys().find(|key| !known.contains(&key.as_str())) {
            Some(key) => Err(Error::invalid(format!("invalid filter '{key}'"))),
            None => Ok(()),
        }
    }

    /// Reads a key that is either true or false.
    pub fn flag(&self, key: &str) -> Result<Option<bool>> {
        let bad = |values: &[String]| {
            Error::invalid(format!("invalid filter '{key}=[{}]'", values.join(" ")))
        };
        match self.get(key) {
            [] => Ok(None),
            [value] => match value.to_ascii_lowercase().as_str() {
                "true" | "1" => Ok(Some(true)),
                "false" | "0" => Ok(Some(false)),
                _ => Err(bad(self.get(key))),
            },
            many => Err(bad(many)),
        }
    }

    /// Says whether `labels` has all of the labels under `key`: `k`, or `k=v`.
    pub fn labels_match(&self, key: &str, labels: &BTreeMap<String, String>) -> bool {
        self.get(key)
            .iter()
            .all(|wanted| match wanted.split_once('=') {
                Some((key, value)) => labels.get(key).is_some_and(|v| v == value),
                None => labels.contains_key(wanted),
            })
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn filters(pairs: &[(&str, &[&str])]) -> Filters {
        let own = |values: &[&str]| values.iter().map(|v| (*v).to_owned()).collect();
        Filters::new(
            pairs
                .iter()
                .map(|(k, v)| ((*k).to_owned(), own(v)))
                .collect(),
        )
    }

    #[test]
    fn unknown_keys_and_odd_flags_are_refused_in_dockers_words() {
        let given = filters(&[("dangling", &["x"]), ("foo", &["1"])]);
        assert_eq!(
            given.only(&["dangling"]).unwrap_err().to_string(),
            "invalid filter 'foo'"
        );
        assert_eq!(
            given.flag("dangling").unwrap_err().to_string(),
            "invalid filter 'dangling=[x]'"
        );
        assert_eq!(
            filters(&[("dangling", &["1"])]).flag("dangling").unwrap(),
            Some(true)
        );
    }

    #[test]
    fn labels_are_anded() {
        let labels = BTreeMap::from([
            ("a".to_owned(), "1".to_owned()),
            ("b".to_owned(), String::new()),
        ]);
        assert!(filters(&[("label", &["a", "b"])]).labels_match("label", &labels));
        assert!(filters(&[("label", &["a=1"])]).labels_match("label", &labels));
        assert!(!filters(&[("label", &["a=1", "c"])]).labels_match("label", &labels));
        assert!(!filters(&[("label", &["a=2"])]).labels_match("label", &labels));
    }
}

//! Environment variables in their order, each found by its name at once: an image of strangers may set a million. Pure.

use std::collections::HashMap;

/// The name of an entry, `NAME=value` or `NAME`.
pub(crate) fn name_of(entry: &str) -> &str {
    entry.split_once('=').map_or(entry, |(name, _)| name)
}

/// An environment. A name may stand in it twice, as in images that others made.
#[derive(Default)]
pub(crate) struct Variables {
    /// None where one was taken away.
    entries: Vec<Option<String>>,
    /// Where the entries of a name are, in their order.
    places: HashMap<String, Vec<usize>>,
}

impl Variables {
    /// Takes entries as they are.
    pub(crate) fn new(entries: impl IntoIterator<Item = String>) -> Variables {
        let mut variables = Variables::default();
        for entry in entries {
            variables.push(entry);
        }
        variables
    }

    fn push(&mut self, entry: String) {
        let places = self.places.entry(name_of(&entry).to_owned()).or_default();
        places.push(self.entries.len());
        self.entries.push(Some(entry));
    }

    /// Sets a variable where it stands first, or at the end; an entry without `=` takes all of its name away.
    pub(crate) fn set(&mut self, entry: &str) {
        let name = name_of(entry);
        if !entry.contains('=') {
            for place in self.places.remove(name).unwrap_or_default() {
                if let Some(gone) = self.entries.get_mut(place) {
                    *gone = None;
                }
            }
            return;
        }
        let first = self.places.get(name).and_then(|places| places.first());
        match first.and_then(|place| self.entries.get_mut(*place)) {
            Some(slot) => *slot = Some(entry.to_owned()),
            None => self.push(entry.to_owned()),
        }
    }

    /// The value of a name, the last one that has any.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        let places = self.places.get(name)?;
        places.iter().rev().find_map(|place| {
            let entry = self.entries.get(*place)?.as_deref()?;
            entry.split_once('=').map(|(_, value)| value)
        })
    }

    /// The entries that are left.
    pub(crate) fn into_entries(self) -> Vec<String> {
        self.entries.into_iter().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(entries: &[&str], changes: &[&str]) -> Vec<String> {
        let mut variables = Variables::new(entries.iter().map(ToString::to_string));
        for change in changes {
            variables.set(change);
        }
        variables.into_entries()
    }

    #[test]
    fn a_variable_is_set_where_it_stands() {
        assert_eq!(
            after(&["A=1", "B=2"], &["A=3=4", "C=5"]),
            ["A=3=4", "B=2", "C=5"]
        );
        assert_eq!(after(&["A=1", "B=2", "A"], &["A"]), ["B=2"]);
        assert_eq!(after(&["A=1", "B=2"], &["A", "A=3"]), ["B=2", "A=3"]);
        assert_eq!(after(&["A=1", "A=2"], &["A=3"]), ["A=3", "A=2"]);
    }

    #[test]
    fn the_last_value_of_a_name_counts() {
        let variables = Variables::new(["A=1", "A=2=3", "A", "N"].map(str::to_owned));
        assert_eq!(variables.value("A"), Some("2=3"));
        assert_eq!((variables.value("N"), variables.value("")), (None, None));
    }
}

//! A map that keeps what was used lately, within a bound. Never the only place of anything: what it drops can be read again.

use std::collections::HashMap;
use std::hash::Hash;

/// A bounded map in two generations: when the young one reaches half the bound, the old one is dropped and the
/// young one becomes the old one. What is used moves to the young one, so what was not used for a while goes.
pub(crate) struct Recent<K, V> {
    young: HashMap<K, (V, usize)>,
    old: HashMap<K, (V, usize)>,
    young_weight: usize,
    weight_max: usize,
    is_whole: bool,
}

impl<K: Eq + Hash + Clone, V> Recent<K, V> {
    /// Makes an empty map; `weight_max` bounds the sum of what `insert` was told.
    pub(crate) fn new(weight_max: usize) -> Self {
        Self {
            young: HashMap::new(),
            old: HashMap::new(),
            young_weight: 0,
            weight_max,
            is_whole: true,
        }
    }

    /// Finds a value and marks it as used.
    pub(crate) fn get(&mut self, key: &K) -> Option<&mut V> {
        if !self.young.contains_key(key) {
            let (value, weight) = self.old.remove(key)?;
            self.insert(key.clone(), value, weight);
        }
        self.young.get_mut(key).map(|(value, _)| value)
    }

    /// Puts a value in, with its share of the bound.
    pub(crate) fn insert(&mut self, key: K, value: V, weight: usize) {
        self.remove(&key);
        if self.young_weight.saturating_add(weight) > self.weight_max / 2 {
            let dropped = std::mem::replace(&mut self.old, std::mem::take(&mut self.young));
            self.is_whole &= dropped.is_empty();
            self.young_weight = 0;
        }
        self.young_weight = self.young_weight.saturating_add(weight);
        self.young.insert(key, (value, weight));
    }

    /// Whether it holds all that was ever put in and not taken out.
    pub(crate) fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// Takes a value out.
    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        if let Some((value, weight)) = self.young.remove(key) {
            self.young_weight = self.young_weight.saturating_sub(weight);
            return Some(value);
        }
        self.old.remove(key).map(|(value, _)| value)
    }

    /// Adds to a value's share of the bound, because it grew in place.
    pub(crate) fn grow(&mut self, key: &K, by: usize) {
        if let Some((_, weight)) = self.young.get_mut(key) {
            *weight = weight.saturating_add(by);
            self.young_weight = self.young_weight.saturating_add(by);
        }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

#[cfg(test)]
mod tests {
    use super::Recent;

    #[test]
    fn never_holds_more_than_its_bound() {
        let mut map = Recent::new(10);
        for key in 0..1000 {
            map.insert(key, key, 1);
            assert!(map.len() <= 10, "{} entries after {key}", map.len());
        }
    }

    #[test]
    fn what_is_used_stays() {
        let mut map = Recent::new(10);
        map.insert(0, "kept", 1);
        for key in 1..100 {
            map.insert(key, "passing", 1);
            assert_eq!(map.get(&0), Some(&mut "kept"), "after {key}");
        }
        assert_eq!(map.get(&1), None);
    }

    #[test]
    fn a_replaced_value_counts_once() {
        let mut map = Recent::new(10);
        map.insert(1, 'a', 1);
        for _ in 0..100 {
            map.insert(2, 'b', 1);
        }
        assert_eq!(map.get(&1), Some(&mut 'a'));
        assert_eq!(map.remove(&2), Some('b'));
        assert_eq!(map.get(&2), None);
    }

    #[test]
    fn is_whole_until_something_is_dropped() {
        let mut map = Recent::new(10);
        for key in 0..10 {
            map.insert(key, key, 1);
        }
        assert!(map.is_whole());
        map.insert(10, 10, 1);
        assert!(!map.is_whole());
        assert_eq!(map.get(&0), None);
    }

    #[test]
    fn growth_in_place_counts() {
        let mut map = Recent::new(10);
        map.insert(1, 'a', 1);
        map.grow(&1, 8);
        map.insert(2, 'b', 1);
        map.insert(3, 'c', 5);
        assert_eq!(map.get(&1), None, "two generations ago");
    }
}

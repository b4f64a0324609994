//! A bounded cache in two generations: what was not asked for while the young one filled goes. Never reads anything itself.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};

use parking_lot::Mutex;

/// Shards, so that threads seldom meet.
const SHARDS: usize = 16;

struct Shard<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    /// Weight of the young ones.
    weight: usize,
}

/// A cache of immutable values: nothing is ever invalidated, because no key ever gets another value.
pub(crate) struct Cache<K, V> {
    shards: Vec<Mutex<Shard<K, V>>>,
    hasher: RandomState,
    /// Weight at which a shard's young generation becomes its old one.
    turn: usize,
}

impl<K: Eq + Hash + Copy, V: Clone> Cache<K, V> {
    /// Holds values of `weight_max` together, roughly.
    pub(crate) fn new(weight_max: usize) -> Self {
        let shard = || {
            Mutex::new(Shard {
                young: HashMap::new(),
                old: HashMap::new(),
                weight: 0,
            })
        };
        let shards = std::iter::repeat_with(shard).take(SHARDS).collect();
        Self {
            shards,
            hasher: RandomState::new(),
            turn: weight_max / SHARDS / 2,
        }
    }

    fn shard(&self, key: &K) -> Option<&Mutex<Shard<K, V>>> {
        let hash = usize::try_from(self.hasher.hash_one(key) >> 32).unwrap_or_default();
        self.shards.get(hash % SHARDS)
    }

    /// Returns a value; `weigh` tells its weight should it move to the young generation.
    pub(crate) fn get(&self, key: &K, weigh: impl FnOnce(&V) -> usize) -> Option<V> {
        let mut shard = self.shard(key)?.lock();
        if let Some(value) = shard.young.get(key) {
            return Some(value.clone());
        }
        let value = shard.old.remove(key)?;
        let weight = weigh(&value);
        self.keep(&mut shard, *key, value.clone(), weight);
        Some(value)
    }

    /// Adds a value.
    pub(crate) fn insert(&self, key: K, value: V, weight: usize) {
        if let Some(shard) = self.shard(&key) {
            self.keep(&mut shard.lock(), key, value, weight);
        }
    }

    fn keep(&self, shard: &mut Shard<K, V>, key: K, value: V, weight: usize) {
        if shard.young.contains_key(&key) {
            return;
        }
        if shard.weight + weight > self.turn && !shard.young.is_empty() {
            shard.old = std::mem::take(&mut shard.young);
            shard.weight = 0;
        }
        shard.weight += weight;
        shard.young.insert(key, value);
    }
}

#[cfg(test)]
mod tests {
    use super::{Cache, SHARDS};

    #[test]
    fn a_value_that_is_added_again_weighs_once() {
        let cache = Cache::new(SHARDS * 2 * 4);
        for _ in 0..100 {
            cache.insert(1, 'a', 1);
        }
        let shard = cache.shard(&1).expect("a shard").lock();
        assert_eq!((shard.weight, shard.old.len()), (1, 0));
    }

    #[test]
    fn what_nobody_asked_for_goes_and_the_rest_stays() {
        let cache = Cache::new(SHARDS * 2 * 4);
        for key in 0..10_000 {
            cache.insert(key, key, 1);
            assert_eq!(cache.get(&0, |_| 1), Some(0), "after {key}");
        }
        let held = (0..10_000).filter(|key| cache.get(key, |_| 1).is_some());
        assert!(held.count() < 2 * SHARDS * 4 + SHARDS);
    }
}

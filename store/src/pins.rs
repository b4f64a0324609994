//! Pins: what is in use by something that stands in no record yet. In memory only: after a crash nothing is in use.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

/// How many pins each object has. The lock also guards the decision to delete an unpinned object: whoever
/// deletes holds it from looking until the deletion is written, whoever pins holds it from looking until pinned.
pub(crate) struct Pins<K>(Arc<Mutex<HashMap<K, usize>>>);

impl<K> Clone for Pins<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K> Default for Pins<K> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K: Eq + Hash + Copy> Pins<K> {
    /// Locks the pins. A `Pin` must not be dropped before the answer is.
    pub(crate) fn lock(&self) -> LockedPins<'_, K> {
        LockedPins {
            pins: self,
            held: self.0.lock(),
        }
    }

    /// Pins an object whose being there needs no look.
    pub(crate) fn pin(&self, key: K) -> Pin<K> {
        self.lock().pin(key)
    }
}

/// The pins, locked.
pub(crate) struct LockedPins<'a, K> {
    pins: &'a Pins<K>,
    held: MutexGuard<'a, HashMap<K, usize>>,
}

impl<K: Eq + Hash + Copy> LockedPins<'_, K> {
    /// Pins an object.
    pub(crate) fn pin(&mut self, key: K) -> Pin<K> {
        self.add(key);
        Pin {
            pins: self.pins.clone(),
            key,
        }
    }

    /// Says whether anyone pins the object.
    pub(crate) fn is_pinned(&self, key: &K) -> bool {
        self.held.contains_key(key)
    }

    /// Says whether anyone pins the object beside the one who asks, and has a pin.
    pub(crate) fn is_pinned_beside(&self, key: &K) -> bool {
        self.held.get(key).is_some_and(|count| *count > 1)
    }

    /// Counts a pin that the caller takes off by itself.
    pub(crate) fn add(&mut self, key: K) {
        *self.held.entry(key).or_default() += 1;
    }

    /// Takes a pin off.
    pub(crate) fn take_off(&mut self, key: &K) {
        if let Some(count) = self.held.get_mut(key) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.held.remove(key);
            }
        }
    }
}

/// One pin, taken off when dropped.
pub(crate) struct Pin<K: Eq + Hash + Copy> {
    pins: Pins<K>,
    key: K,
}

impl<K: Eq + Hash + Copy> Drop for Pin<K> {
    fn drop(&mut self) {
        self.pins.lock().take_off(&self.key);
    }
}

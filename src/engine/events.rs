//! What happened: a ring of the latest events, and those to come. Never blocks whoever tells of one.

use std::collections::{BTreeMap, VecDeque};

use parking_lot::Mutex;
use tokio::sync::broadcast;

use super::when::{self, Nanos};

/// Events that are kept for `since`: docker keeps as many.
const KEPT_MAX: usize = 256;
/// Events that a slow listener may be behind before it misses some.
const BEHIND_MAX: usize = 256;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// image, container, mount.
    pub kind: &'static str,
    /// create, start, die …
    pub action: String,
    /// The object's ID.
    pub id: String,
    /// Its name, its image, its labels, and what else belongs to the action.
    pub attributes: BTreeMap<String, String>,
    /// When.
    pub time: Nanos,
}

/// The ring and its listeners. One lock, held for a push only; it ranks below every other lock.
pub(crate) struct Events {
    kept: Mutex<VecDeque<Event>>,
    listeners: broadcast::Sender<Event>,
}

impl Events {
    pub(crate) fn new() -> Events {
        let (listeners, _) = broadcast::channel(BEHIND_MAX);
        Events {
            kept: Mutex::new(VecDeque::new()),
            listeners,
        }
    }

    /// Tells of an event.
    pub(crate) fn tell(
        &self,
        kind: &'static str,
        action: &str,
        id: &str,
        attributes: BTreeMap<String, String>,
    ) {
        let event = Event {
            kind,
            action: action.to_owned(),
            id: id.to_owned(),
            attributes,
            time: when::now(),
        };
        let mut kept = self.kept.lock();
        if kept.len() >= KEPT_MAX {
            kept.pop_front();
        }
        kept.push_back(event.clone());
        // Sent under the lock, so that listeners see the ring's order. No listener is no failure.
        let _listeners = self.listeners.send(event).unwrap_or(0);
    }

    /// Returns what is kept, and where to listen for what comes after it: nothing is missed between the two.
    pub(crate) fn listen(&self) -> (Vec<Event>, broadcast::Receiver<Event>) {
        let kept = self.kept.lock();
        (kept.iter().cloned().collect(), self.listeners.subscribe())
    }
}

/// Attributes from pairs.
pub(crate) fn attributes<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    pairs
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_listener_gets_what_was_kept_and_then_what_comes() {
        let events = Events::new();
        events.tell("image", "tag", "a", BTreeMap::new());
        let (kept, mut next) = events.listen();
        events.tell("image", "untag", "a", BTreeMap::new());
        assert_eq!(kept.len(), 1);
        assert_eq!(next.try_recv().unwrap().action, "untag");
    }

    #[test]
    fn the_ring_forgets_the_oldest() {
        let events = Events::new();
        for n in 0..=KEPT_MAX {
            events.tell("image", "tag", &n.to_string(), BTreeMap::new());
        }
        let (kept, _) = events.listen();
        assert_eq!(kept.len(), KEPT_MAX);
        assert_eq!(kept.first().unwrap().id, "1");
    }
}

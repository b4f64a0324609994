//! What a request leaves for later, done by a thread of its own: the thread that reads requests must not be kept by what
//! no program waits for.

use std::time::{Duration, Instant};

use nacre_store::Ino;
use parking_lot::{Condvar, Mutex};

/// Inodes are ended once none came for so long: to remove their data files takes as long as all the rest of `rm`, which
/// need not wait for it.
const PAUSE: Duration = Duration::from_millis(30);

/// ... or when the first has waited so long, or when there are so many.
const WAIT_MAX: Duration = Duration::from_secs(5);
const UNHELD_MAX: usize = 1 << 16;

/// So many are taken at once: what else there is to do, and the end of the mount, need not wait for all of them.
const AT_ONCE: usize = 1024;

/// What is to be done.
#[derive(Default)]
pub(super) struct Chores {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    chores: Todo,
    attended: bool,
    /// When the first of the inodes came.
    since: Option<Instant>,
}

impl Queue {
    /// Whether inodes may wait for others.
    fn may_wait_longer(&self, has_room: bool) -> bool {
        let len = self.chores.unheld.len();
        let is_time = |since: Instant| since.elapsed() >= WAIT_MAX;
        has_room && (1..UNHELD_MAX).contains(&len) && !self.since.is_some_and(is_time)
    }

    /// The same if there is nothing else to do.
    fn may_wait(&self, has_room: bool) -> bool {
        self.attended && !self.chores.make_ready && self.may_wait_longer(has_room)
    }
}

#[derive(Default)]
pub(super) struct Todo {
    /// Inodes that nobody holds any more, to be ended.
    pub(super) unheld: Vec<Ino>,
    /// Data files are to be made ahead.
    pub(super) make_ready: bool,
}

impl Chores {
    /// Says whether somebody does what is put here.
    pub(super) fn attend(&self, attended: bool) {
        self.queue.lock().attended = attended;
        self.changed.notify_all();
    }

    /// See [`Chores::attend`].
    pub(super) fn is_attended(&self) -> bool {
        self.queue.lock().attended
    }

    /// Puts inodes here; gives them back if nobody would take them.
    pub(super) fn put(&self, unheld: Vec<Ino>) -> Vec<Ino> {
        let mut queue = self.queue.lock();
        if !queue.attended || unheld.is_empty() {
            return unheld;
        }
        if queue.chores.unheld.is_empty() {
            queue.since = Some(Instant::now());
            self.changed.notify_one();
        }
        queue.chores.unheld.extend(unheld);
        Vec::new()
    }

    /// Asks for data files.
    pub(super) fn make_ready(&self) {
        let mut queue = self.queue.lock();
        if queue.attended && !queue.chores.make_ready {
            queue.chores.make_ready = true;
            self.changed.notify_one();
        }
    }

    /// Takes what is to be done now; waits for the first no longer than `time`, and not at all when nobody attends any more.
    /// `has_room`: whether nobody needs what inodes give back, now.
    pub(super) fn take(&self, time: Duration, has_room: &dyn Fn() -> bool) -> Todo {
        let begun = Instant::now();
        let mut queue = self.queue.lock();
        if queue.attended && !queue.chores.make_ready && queue.chores.unheld.is_empty() {
            self.changed.wait_for(&mut queue, time);
        }
        let mut before = 0;
        while queue.may_wait(has_room()) && queue.chores.unheld.len() != before {
            if begun.elapsed() >= time {
                return Todo::default();
            }
            before = queue.chores.unheld.len();
            self.changed.wait_for(&mut queue, PAUSE);
        }
        if queue.chores.make_ready && queue.may_wait_longer(has_room()) {
            queue.chores.make_ready = false;
            return Todo {
                make_ready: true,
                unheld: Vec::new(),
            };
        }
        let some = queue.chores.unheld.len().min(AT_ONCE);
        let unheld = queue.chores.unheld.drain(..some).collect();
        if queue.chores.unheld.is_empty() {
            queue.since = None;
        } else {
            // The others have waited long enough too.
            queue.since = begun.checked_sub(WAIT_MAX).or(queue.since);
        }
        Todo {
            make_ready: std::mem::take(&mut queue.chores.make_ready),
            unheld,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use nacre_store::Ino;

    use super::{AT_ONCE, Chores, PAUSE, Queue, Todo, UNHELD_MAX, WAIT_MAX};

    const LONG: Duration = Duration::from_secs(20);

    fn attended() -> Chores {
        let chores = Chores::default();
        chores.attend(true);
        chores
    }

    fn inos(count: usize) -> Vec<Ino> {
        (1..).take(count).map(Ino).collect()
    }

    /// One that somebody attends, with so many inodes that came so long ago.
    fn queue(count: usize, age: Duration) -> Queue {
        Queue {
            chores: Todo {
                unheld: inos(count),
                make_ready: false,
            },
            attended: true,
            since: Instant::now().checked_sub(age),
        }
    }

    #[test]
    fn inodes_wait_for_others_unless_they_are_many_or_old_or_the_disk_is_tight() {
        let short = Duration::from_secs(1);
        assert!(queue(1, short).may_wait(true));
        assert!(queue(UNHELD_MAX - 1, short).may_wait(true));
        assert!(!queue(UNHELD_MAX, short).may_wait(true), "many");
        assert!(!queue(1, WAIT_MAX).may_wait(true), "old");
        assert!(!queue(1, short).may_wait(false), "the disk is tight");
        assert!(!queue(0, short).may_wait(true), "there is none");
        let alone = Queue {
            attended: false,
            ..queue(1, short)
        };
        assert!(!alone.may_wait(true), "the mount ends");
    }

    #[test]
    fn inodes_are_taken_after_a_pause_and_not_before() {
        let chores = attended();
        let begun = Instant::now();
        assert_eq!(chores.put(inos(3)), []);
        assert_eq!(chores.take(LONG, &|| true).unheld, inos(3));
        let waited = begun.elapsed();
        assert!((PAUSE..LONG).contains(&waited), "{waited:?}");
    }

    #[test]
    fn a_short_patience_leaves_inodes_where_they_are() {
        let chores = attended();
        assert_eq!(chores.put(inos(3)), []);
        let taken = chores.take(Duration::ZERO, &|| true);
        assert!(taken.unheld.is_empty() && !taken.make_ready);
        assert_eq!(chores.take(Duration::ZERO, &|| false).unheld, inos(3));
    }

    #[test]
    fn many_inodes_are_taken_a_part_at_a_time_and_the_parts_wait_once() {
        let chores = attended();
        assert_eq!(chores.put(inos(2 * AT_ONCE + 1)), []);
        let first = chores.take(LONG, &|| true);
        // No time at all is given to the others: they have waited.
        let (second, third) = (
            chores.take(Duration::ZERO, &|| true),
            chores.take(Duration::ZERO, &|| true),
        );
        let parts = [&first, &second, &third].map(|todo| todo.unheld.len());
        assert_eq!(parts, [AT_ONCE, AT_ONCE, 1]);
        let all = [first.unheld, second.unheld, third.unheld].concat();
        assert_eq!(all, inos(2 * AT_ONCE + 1));
        assert_eq!(chores.put(inos(1)), []);
        let next = chores.take(Duration::ZERO, &|| true);
        assert!(next.unheld.is_empty(), "who comes later waits anew");
    }

    #[test]
    fn files_are_made_ready_while_inodes_wait() {
        let chores = attended();
        assert_eq!(chores.put(inos(1)), []);
        chores.make_ready();
        let first = chores.take(LONG, &|| true);
        assert!(first.make_ready && first.unheld.is_empty());
        assert_eq!(chores.take(LONG, &|| true).unheld, inos(1));
    }

    #[test]
    fn what_nobody_attends_to_is_given_back_and_what_is_left_is_taken_at_once() {
        let chores = Chores::default();
        assert_eq!(chores.put(inos(2)), inos(2));
        let chores = Arc::new(attended());
        assert_eq!(chores.put(inos(2)), []);
        let other = Arc::clone(&chores);
        let taker = std::thread::spawn(move || other.take(LONG, &|| true).unheld);
        chores.attend(false);
        assert_eq!(taker.join().expect("no panic"), inos(2));
        assert!(!chores.is_attended());
    }
}

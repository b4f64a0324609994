//! What a request leaves for later, done by a thread of its own: the thread that reads requests must not be kept by what
//! no program waits for.

use std::time::Duration;

use nacre_store::Ino;
use parking_lot::{Condvar, Mutex};

/// How long more is waited for once there is an inode to be ended: waking the thread for each would cost more than
/// ending it.
const GATHER: Duration = Duration::from_millis(10);

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

    /// Takes all that is there; waits for the first no longer than `time`, and not at all when nobody attends any more.
    pub(super) fn take(&self, time: Duration) -> Todo {
        let mut queue = self.queue.lock();
        if queue.attended && !queue.chores.make_ready && queue.chores.unheld.is_empty() {
            self.changed.wait_for(&mut queue, time);
        }
        if queue.attended && !queue.chores.make_ready && !queue.chores.unheld.is_empty() {
            self.changed.wait_for(&mut queue, GATHER);
        }
        std::mem::take(&mut queue.chores)
    }
}

//! Data files made before they are needed: to make one takes the host 25 to 70 µs, as long as all the rest of creating a
//! file takes us, and another thread can do it meanwhile.
//!
//! They are named after fresh inode numbers, like all data files, and no record names them yet. What is left at the end of a
//! mount is removed; what a kill leaves is swept with every data file that no record names.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::sync::Arc;

use nacre_store::{Ino, Upper};
use parking_lot::Mutex;
use rustix::fs::{Timespec, Timestamps, UTIME_NOW};

use crate::errno::{Result, of_store};

/// Most of them at a time, and so descriptors.
const READY_MAX: usize = 128;

/// How many the first new file of a mount asks for; each time that none is ready, twice as many.
const READY_FIRST: usize = 8;

/// Empty data files, each under a number of its own.
#[derive(Default)]
pub(crate) struct Ready {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    files: VecDeque<(Ino, Arc<File>)>,
    /// Those that are being given to a new file.
    taken: HashMap<Ino, Arc<File>>,
    wanted: usize,
}

impl Ready {
    /// Takes the number of a file that is ready, and says whether more should be made.
    pub(super) fn take(&self) -> (Option<Ino>, bool) {
        let mut state = self.state.lock();
        let taken = state.files.pop_front();
        if taken.is_none() {
            state.wanted = state.wanted.saturating_mul(2).clamp(READY_FIRST, READY_MAX);
        }
        let ino = taken.map(|(ino, file)| {
            state.taken.insert(ino, file);
            ino
        });
        (ino, state.files.len() <= state.wanted / 2)
    }

    /// The file of a number that was taken, as if it had been made now.
    pub(super) fn file(&self, ino: Ino) -> Option<Arc<File>> {
        let file = self.state.lock().taken.remove(&ino)?;
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_NOW,
        };
        let times = Timestamps {
            last_access: now,
            last_modification: now,
        };
        // A file whose times cannot be set is made anew, under the same name.
        rustix::fs::futimens(&file, &times).ok()?;
        Some(file)
    }

    /// A number that was taken, and its file not.
    pub(super) fn give_back(&self, ino: Ino) {
        let mut state = self.state.lock();
        if let Some(file) = state.taken.remove(&ino) {
            state.files.push_back((ino, file));
        }
    }

    /// Makes as many as are wanted.
    pub(super) fn refill(&self, upper: &Upper) -> Result<()> {
        let missing = {
            let state = self.state.lock();
            state.wanted.saturating_sub(state.files.len())
        };
        for _ in 0..missing {
            let ino = upper.new_ino().map_err(|e| of_store(&e))?;
            let file = upper.data_file(ino, true).map_err(|e| of_store(&e))?;
            self.state.lock().files.push_back((ino, Arc::new(file)));
        }
        Ok(())
    }

    /// Removes those that nobody took.
    pub(super) fn clear(&self, upper: &Upper) -> Result<()> {
        let mut state = self.state.lock();
        state.wanted = 0;
        let files = std::mem::take(&mut state.files);
        drop(state);
        let inos: Vec<Ino> = files.into_iter().map(|(ino, _)| ino).collect();
        upper.remove_data_files(&inos).map_err(|e| of_store(&e))
    }
}

//! Room on the host's filesystem: growth stops at a floor, because RocksDB needs room to delete, and a reserve is given
//! back to it, step by step, on a disk that others have filled. Knows free bytes; never what wants to grow.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::fs::{FallocateFlags, StatVfs};
use rustix::io::Errno;

use crate::{Error, Result};

/// Free bytes below which nothing grows: what RocksDB may have in memory, logged or not, and not yet in tables
/// (`db::WAL_BYTES_MAX` and a buffer of small contents), which it may have to write before it can delete anything.
const FLOOR_BYTES_MAX: u64 = 64 << 20;

/// The same on the smallest filesystems.
const FLOOR_BYTES_MIN: u64 = 4 << 20;

/// Which part of a small filesystem the floor is: of 1 GiB it is all of [`FLOOR_BYTES_MAX`].
const FLOOR_SHARE: u64 = 16;

/// Which part of the floor the reserve is: a whole log (`db::WAL_BYTES_MAX`) can be written into tables out of it.
const RESERVE_SHARE: u64 = 2;

/// In how many steps the reserve is given back: whoever fills the disk again meanwhile gets two of them at most. On a tight
/// disk the database's log is no longer than one.
const STEPS: u64 = 16;

/// Steps that single names may not use up: with them whole images and layers are removed, which frees more than it takes.
const LAST_STEPS: u64 = 4;

/// How long an answer of the host is good for while there is plenty: at 2 GB/s the floor is not passed meanwhile. Not for
/// removals: others can take all at once (fallocate(2)).
const FRESH: Duration = Duration::from_millis(30);

/// Plenty is this many times the floor; below, the host is asked every time (1 µs).
const PLENTY: u64 = 4;

/// The room that a store has. The reserve is a file of its own under the store's root, shorter by what was given back.
pub struct Room {
    root: PathBuf,
    /// `None` if it could not be made: then the floor alone must do.
    file: Option<File>,
    floor: u64,
    reserve: u64,
    /// The floor that fits the filesystem.
    fitting: u64,
    /// The disk went below the floor and did not come back well above it since.
    tight: AtomicBool,
    /// What is known. Rank: last, a leaf.
    state: Mutex<State>,
}

struct State {
    last: Option<(Instant, u64)>,
    /// Bytes of the reserve that are held.
    held: u64,
    /// The host cannot keep bytes for a file.
    unable: bool,
}

/// The floor of a filesystem of `total` bytes.
fn floor_of(total: u64) -> u64 {
    (total / FLOOR_SHARE).clamp(FLOOR_BYTES_MIN, FLOOR_BYTES_MAX)
}

fn total(host: &StatVfs) -> u64 {
    host.f_blocks.saturating_mul(host.f_frsize)
}

fn free(host: &StatVfs) -> u64 {
    host.f_bavail.saturating_mul(host.f_frsize)
}

impl Room {
    /// Looks at the filesystem of `root`; gives the reserve back if there is no room to open a database in. `floor` is
    /// for tests: by default it fits the filesystem.
    pub(crate) fn open(root: &Path, floor: Option<u64>) -> Result<Room> {
        let host = rustix::fs::statvfs(root).map_err(|e| no_answer(root, e))?;
        let fitting = floor_of(total(&host));
        let path = root.join("reserve");
        let opened = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .and_then(|file| Ok((file.metadata()?.len(), file)));
        let (held, file) = match opened {
            Ok((len, file)) => (len, Some(file)),
            Err(error) => {
                tracing::warn!(%error, path = %path.display(), "the store has no reserve for a full disk");
                (0, None)
            }
        };
        let room = Room {
            root: root.to_owned(),
            floor: floor.unwrap_or(fitting),
            reserve: fitting / RESERVE_SHARE,
            fitting,
            tight: AtomicBool::new(false),
            state: Mutex::new(State {
                last: None,
                held,
                unable: file.is_none(),
            }),
            file,
        };
        if !room.has_room()? {
            // A log may have to be replayed, and written into tables.
            room.make(u64::MAX);
        }
        Ok(room)
    }

    /// By how much RocksDB's buffers are to be smaller than on a large filesystem: what is in them must fit above the floor.
    pub(crate) fn buffers_divisor(&self) -> usize {
        usize::try_from(FLOOR_BYTES_MAX.div_ceil(self.fitting.max(1))).unwrap_or(1)
    }

    /// What the host says of the filesystem.
    pub fn host(&self) -> Result<StatVfs> {
        rustix::fs::statvfs(&self.root).map_err(|e| no_answer(&self.root, e))
    }

    /// Free bytes below which nothing grows.
    pub fn floor(&self) -> u64 {
        self.floor
    }

    /// Whether there is room to grow.
    pub fn has_room(&self) -> Result<bool> {
        Ok(self.free_lately()? >= self.floor)
    }

    /// Whether there is room for `bytes` taken at once.
    pub fn has_room_for(&self, bytes: u64) -> Result<bool> {
        Ok(self.free()?.saturating_sub(bytes) >= self.floor)
    }

    /// Whether there is so much that it may be used without asking.
    pub fn has_plenty(&self) -> Result<bool> {
        Ok(self.free_lately()? >= self.floor.saturating_mul(PLENTY))
    }

    /// [`Error::NoSpace`] if there is no room to grow. To be called before whatever makes the store larger, and again
    /// for every megabyte or so of it.
    pub fn to_grow(&self) -> Result<()> {
        let free = self.free_lately()?;
        if free < self.floor {
            return Err(self.no_space(free));
        }
        Ok(())
    }

    /// To be called before what must work on a full disk: the removal of whole images and layers, and notes of what has
    /// happened. What the database then writes may use the reserve up.
    pub fn to_shrink(&self) {
        // Asks the host, which tells the database how it has to write.
        if let Err(error) = self.free() {
            tracing::warn!(%error, "not known whether the disk is full");
        }
    }

    /// The same for a single name or inode: it may need as much as it frees, so it is refused ([`Error::NoSpace`]) before
    /// nothing is left for larger removals.
    pub fn to_unlink(&self) -> Result<()> {
        let free = self.free()?;
        if free < self.floor && free + self.state.lock().held < self.step() * LAST_STEPS {
            return Err(self.no_space(free));
        }
        Ok(())
    }

    /// Whether the database has to do with little: since the disk went below the floor, until it is well above it.
    pub(crate) fn is_tight(&self) -> bool {
        self.tight.load(Ordering::Relaxed)
    }

    /// Bytes of one step of the reserve.
    pub(crate) fn step(&self) -> u64 {
        self.reserve / STEPS
    }

    /// Gives back as much of the reserve as it takes to have `bytes` and a step free; all of it if that is not enough.
    pub(crate) fn make(&self, bytes: u64) {
        let Ok(free) = self.free() else { return };
        let wanted = bytes.saturating_add(self.step());
        if free < wanted {
            let mut state = self.state.lock();
            let steps = (wanted - free).div_ceil(self.step().max(1));
            let left = state.held.saturating_sub(steps.saturating_mul(self.step()));
            self.give_back(&mut state, left);
        }
    }

    /// Takes back what is free beyond two steps, for the next who fills the disk.
    pub(crate) fn take_back(&self) {
        let Ok(free) = self.free() else { return };
        let mut state = self.state.lock();
        let spare = free.saturating_sub(self.step() * 2) / self.step().max(1) * self.step();
        let held = state.held.saturating_add(spare).min(self.reserve);
        self.take(&mut state, held);
    }

    /// An error of something that grew, in words that help if the disk is full.
    pub(crate) fn explained(&self, error: Error) -> Error {
        if matches!(error, Error::NoSpace { .. }) || !error.is_no_space() {
            return error;
        }
        tracing::warn!(%error, "the disk is full");
        match self.host() {
            Ok(host) => self.no_space(free(&host)),
            Err(_) => error,
        }
    }

    fn no_space(&self, free: u64) -> Error {
        Error::NoSpace {
            root: self.root.clone(),
            free,
            floor: self.floor,
        }
    }

    /// Free bytes as of [`FRESH`] ago, if there was plenty: for what may come a little too late.
    fn free_lately(&self) -> Result<u64> {
        let last = self.state.lock().last;
        match last {
            Some((at, free))
                if free >= self.floor.saturating_mul(PLENTY) && at.elapsed() < FRESH =>
            {
                Ok(free)
            }
            _ => self.free(),
        }
    }

    /// Free bytes. Takes the whole reserve again when there is room for it.
    pub(crate) fn free(&self) -> Result<u64> {
        let mut state = self.state.lock();
        let free = free(&self.host()?);
        state.last = Some((Instant::now(), free));
        // Twice: it must not bring us to the floor itself, where it would be given back at once.
        let missing = self.reserve.saturating_sub(state.held);
        if free < self.floor {
            if !self.tight.swap(true, Ordering::Relaxed) {
                tracing::warn!(store = %self.root.display(), free, "the disk is nearly full: nothing grows any more");
            }
        } else if free >= self.floor.saturating_add(missing.saturating_mul(2)) {
            self.take(&mut state, self.reserve);
            self.tight.store(false, Ordering::Relaxed);
        }
        Ok(free)
    }

    /// Holds `held` bytes, if the host gives them.
    fn take(&self, state: &mut State, held: u64) {
        let Some(file) = self.file.as_ref().filter(|_| !state.unable) else {
            return;
        };
        if held <= state.held {
            return;
        }
        match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, held) {
            Ok(()) => state.held = held,
            Err(errno) => {
                // A part of it may have been taken.
                let undone = file.set_len(state.held);
                tracing::debug!(%errno, ?undone, "cannot take the reserve for a full disk");
                state.unable = !matches!(errno, Errno::NOSPC | Errno::DQUOT | Errno::INTR);
            }
        }
        state.last = None;
    }

    /// Holds no more than `left` bytes.
    fn give_back(&self, state: &mut State, left: u64) {
        let Some(file) = self.file.as_ref().filter(|_| left < state.held) else {
            return;
        };
        // Synced: a journalling filesystem hands blocks out again only after it has committed their release.
        match file.set_len(left).and_then(|()| file.sync_all()) {
            Ok(()) => {
                tracing::debug!(store = %self.root.display(), left, "a part of the reserve is given back");
                state.held = left;
                state.last = None;
            }
            Err(error) => {
                tracing::warn!(%error, store = %self.root.display(), "cannot give the reserve back");
            }
        }
    }
}

fn no_answer(root: &Path, errno: Errno) -> Error {
    Error::io("cannot ask for the free space of", root)(errno.into())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn kept_bytes(root: &Path) -> u64 {
        std::fs::metadata(root.join("reserve")).unwrap().blocks() * 512
    }

    #[test]
    fn the_floor_fits_the_filesystem() {
        let table = [
            (16 << 20, 4 << 20),
            (256 << 20, 16 << 20),
            (1 << 30, 64 << 20),
            (1 << 40, 64 << 20),
        ];
        for (total, floor) in table {
            assert_eq!(floor_of(total), floor, "{total}");
        }
    }

    #[test]
    fn the_reserve_is_taken_given_back_below_the_floor_and_taken_again() {
        let dir = tempfile::tempdir().unwrap();
        let room = Room::open(dir.path(), None).unwrap();
        assert!(room.has_plenty().unwrap(), "this test needs a free disk");
        assert_eq!(kept_bytes(dir.path()), room.reserve);
        assert!(!room.is_tight());
        room.to_shrink();
        room.make(1 << 20);
        assert_eq!(kept_bytes(dir.path()), room.reserve, "there is room");
        drop(room);

        let full = Room::open(dir.path(), Some(u64::MAX)).unwrap();
        assert_eq!(kept_bytes(dir.path()), 0, "opening needs room itself");
        assert!(!full.has_room().unwrap() && !full.has_room_for(0).unwrap());
        assert!(full.is_tight());
        let said = full.to_grow().unwrap_err().to_string();
        let begins = format!("no space left in the store {} (", dir.path().display());
        assert!(said.starts_with(&begins), "{said}");
        full.take_back();
        assert_eq!(
            kept_bytes(dir.path()),
            full.reserve,
            "for the next who fills it"
        );
        full.to_unlink().unwrap();
        drop(full);

        let room = Room::open(dir.path(), None).unwrap();
        room.to_grow().unwrap();
        assert!(room.has_room_for(1).unwrap() && !room.has_room_for(u64::MAX).unwrap());
        assert_eq!(kept_bytes(dir.path()), room.reserve);
        assert!(!room.is_tight());
    }

    #[test]
    fn the_reserve_is_given_back_and_taken_by_steps() {
        let dir = tempfile::tempdir().unwrap();
        let room = Room::open(dir.path(), None).unwrap();
        room.to_grow().unwrap();
        let mut state = room.state.lock();
        for left in [room.reserve - room.step(), room.step() * 3, 0] {
            room.give_back(&mut state, left);
            assert_eq!((kept_bytes(dir.path()), state.held), (left, left));
        }
        room.give_back(&mut state, room.step());
        assert_eq!(state.held, 0, "nothing is taken by that");
        for held in [room.step(), room.reserve] {
            room.take(&mut state, held);
            assert_eq!((kept_bytes(dir.path()), state.held), (held, held));
        }
        room.take(&mut state, room.step());
        assert_eq!(state.held, room.reserve, "nothing is given back by that");
    }

    #[test]
    fn what_the_host_says_of_a_full_disk_is_explained_and_nothing_else_is() {
        let dir = tempfile::tempdir().unwrap();
        let room = Room::open(dir.path(), None).unwrap();
        let host = |errno: Errno| Error::io("cannot write", Path::new("x"))(errno.into());
        for errno in [Errno::NOSPC, Errno::DQUOT] {
            let error = room.explained(host(errno));
            assert!(matches!(error, Error::NoSpace { .. }), "{error}");
        }
        let error = room.explained(host(Errno::IO));
        assert!(matches!(error, Error::Io { .. }), "{error}");
    }
}

//! Room on the host's filesystem: growth stops at a floor, because RocksDB needs room to delete, and a reserve is given
//! back to it on a disk that others have filled. Knows free bytes; never what wants to grow.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::fs::{FallocateFlags, StatVfs};
use rustix::io::Errno;

use crate::{Error, Result};

/// Free bytes below which nothing grows: what RocksDB may have in memory logged and not yet in tables
/// (`db::WAL_BYTES_MAX`), which it may have to write before it can delete anything.
const FLOOR_BYTES_MAX: u64 = 64 << 20;

/// The same on the smallest filesystems.
const FLOOR_BYTES_MIN: u64 = 4 << 20;

/// Which part of a small filesystem the floor is: of 1 GiB it is all of [`FLOOR_BYTES_MAX`].
const FLOOR_SHARE: u64 = 16;

/// Which part of the floor the reserve is: enough for RocksDB's tables of it, compressed, and little enough to have about.
const RESERVE_SHARE: u64 = 4;

/// How long an answer of the host is good for while there is plenty: at 2 GB/s the floor is not passed meanwhile.
const FRESH: Duration = Duration::from_millis(30);

/// Plenty is this many times the floor; below, the host is asked every time (1 µs).
const PLENTY: u64 = 4;

/// The room that a store has. The reserve is a file of its own under the store's root, empty after it was given back.
pub struct Room {
    root: PathBuf,
    /// `None` if it could not be made: then the floor alone must do.
    file: Option<File>,
    floor: u64,
    reserve: u64,
    /// The floor that fits the filesystem.
    fitting: u64,
    /// What is known. Rank: last, a leaf.
    state: Mutex<State>,
}

struct State {
    last: Option<(Instant, u64)>,
    reserve: Reserve,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Reserve {
    /// Its bytes are kept.
    Held,
    /// They were given back, or not taken yet.
    Given,
    /// The host cannot keep bytes for a file.
    Unable,
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

/// Whether there is room to grow on the filesystem of an open file: for those who write beside the store without having it open.
pub fn has_room(file: &File) -> io::Result<bool> {
    let host = rustix::fs::fstatvfs(file)?;
    Ok(free(&host) >= floor_of(total(&host)))
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
        let (len, file) = match opened {
            Ok((len, file)) => (len, Some(file)),
            Err(error) => {
                tracing::warn!(%error, path = %path.display(), "the store has no reserve for a full disk");
                (0, None)
            }
        };
        let reserve = match (len, &file) {
            (_, None) => Reserve::Unable,
            (0, _) => Reserve::Given,
            _ => Reserve::Held,
        };
        let room = Room {
            root: root.to_owned(),
            file,
            floor: floor.unwrap_or(fitting),
            reserve: fitting / RESERVE_SHARE,
            fitting,
            state: Mutex::new(State {
                last: None,
                reserve,
            }),
        };
        room.to_shrink();
        Ok(room)
    }

    /// By how much RocksDB's buffers are to be smaller than on a large filesystem: what is in them must fit above the floor.
    pub(crate) fn buffers_divisor(&self) -> usize {
        usize::try_from(FLOOR_BYTES_MAX / self.fitting.max(1)).unwrap_or(1)
    }

    /// What the host says of the filesystem.
    pub fn host(&self) -> Result<StatVfs> {
        rustix::fs::statvfs(&self.root).map_err(|e| no_answer(&self.root, e))
    }

    /// Whether there is room to grow.
    pub fn has_room(&self) -> Result<bool> {
        Ok(self.free()? >= self.floor)
    }

    /// Whether there is so much that it may be used without asking.
    pub fn has_plenty(&self) -> Result<bool> {
        Ok(self.free()? >= self.floor.saturating_mul(PLENTY))
    }

    /// [`Error::NoSpace`] if there is no room to grow. To be called before whatever makes the store larger, and again
    /// for every megabyte or so of it.
    pub fn to_grow(&self) -> Result<()> {
        let free = self.free()?;
        if free < self.floor {
            return Err(self.no_space(free));
        }
        Ok(())
    }

    /// Gives the reserve back if there is no room to grow. To be called before what must work on a full disk: removals,
    /// and notes of what has happened.
    pub fn to_shrink(&self) {
        if !self.has_room().unwrap_or(false) {
            self.give_back();
        }
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

    /// Free bytes. Takes the reserve again when there is room for it.
    fn free(&self) -> Result<u64> {
        let mut state = self.state.lock();
        if let Some((at, free)) = state.last
            && free >= self.floor.saturating_mul(PLENTY)
            && at.elapsed() < FRESH
        {
            return Ok(free);
        }
        let free = free(&self.host()?);
        state.last = Some((Instant::now(), free));
        // Twice: it must not bring us to the floor itself, where it would be given back at once.
        let enough = self.floor.saturating_add(self.reserve.saturating_mul(2));
        if state.reserve == Reserve::Given && free >= enough {
            state.reserve = self.take();
        }
        Ok(free)
    }

    fn take(&self) -> Reserve {
        let Some(file) = &self.file else {
            return Reserve::Unable;
        };
        match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, self.reserve) {
            Ok(()) => Reserve::Held,
            Err(errno) => {
                // A part of it may have been taken.
                let emptied = file.set_len(0);
                tracing::debug!(%errno, ?emptied, "cannot take the reserve for a full disk");
                if matches!(errno, Errno::NOSPC | Errno::DQUOT | Errno::INTR) {
                    Reserve::Given
                } else {
                    Reserve::Unable
                }
            }
        }
    }

    fn give_back(&self) {
        let mut state = self.state.lock();
        let Some(file) = self
            .file
            .as_ref()
            .filter(|_| state.reserve == Reserve::Held)
        else {
            return;
        };
        // Synced: a journalling filesystem hands blocks out again only after it has committed their release.
        match file.set_len(0).and_then(|()| file.sync_all()) {
            Ok(()) => {
                state.reserve = Reserve::Given;
                tracing::warn!(
                    store = %self.root.display(),
                    "the disk is nearly full: nothing grows any more, the reserve for removals is given back"
                );
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
        drop(room);

        let full = Room::open(dir.path(), Some(u64::MAX)).unwrap();
        assert_eq!(kept_bytes(dir.path()), 0, "opening needs room itself");
        assert!(!full.has_room().unwrap());
        let said = full.to_grow().unwrap_err().to_string();
        let begins = format!("no space left in the store {} (", dir.path().display());
        assert!(said.starts_with(&begins), "{said}");
        drop(full);

        let room = Room::open(dir.path(), None).unwrap();
        room.to_grow().unwrap();
        assert_eq!(kept_bytes(dir.path()), room.reserve);
        room.to_shrink();
        assert_eq!(kept_bytes(dir.path()), room.reserve, "there is room");
        room.give_back();
        assert_eq!(kept_bytes(dir.path()), 0);
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

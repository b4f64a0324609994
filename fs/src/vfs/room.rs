//! The floor under the host's free space: RocksDB needs room to delete, so growth stops before the disk is full.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::fs::StatVfs;

use crate::errno::{Errno, Result};

/// Free bytes kept for deleting: a few memtables and a compaction of what an unlink touches.
const FLOOR_BYTES: u64 = 64 << 20;

/// Free bytes below which files are written through us only, so that the floor is looked at.
const PASSTHROUGH_FLOOR_BYTES: u64 = 4 * FLOOR_BYTES;

/// How long an answer of the host is good for: at 2 GB/s the floor is not passed meanwhile.
const FRESH: Duration = Duration::from_millis(30);

/// The host's filesystem under a tree.
pub(crate) struct Room {
    path: PathBuf,
    last: Mutex<Option<(Instant, u64)>>,
}

impl Room {
    /// Watches the filesystem that holds `path`.
    pub(crate) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            last: Mutex::new(None),
        }
    }

    /// What the host says of itself.
    pub(crate) fn host(&self) -> Result<StatVfs> {
        rustix::fs::statvfs(&self.path)
    }

    /// `NOSPC` if there is no room to grow.
    pub(crate) fn to_grow(&self) -> Result<()> {
        if self.free()? < FLOOR_BYTES {
            return Err(Errno::NOSPC);
        }
        Ok(())
    }

    /// Whether there is enough room to let the kernel write without asking.
    pub(crate) fn for_passthrough(&self) -> bool {
        self.free()
            .is_ok_and(|free| free >= PASSTHROUGH_FLOOR_BYTES)
    }

    fn free(&self) -> Result<u64> {
        let mut last = self.last.lock();
        if let Some((at, free)) = *last
            && at.elapsed() < FRESH
        {
            return Ok(free);
        }
        let host = self.host()?;
        let free = host.f_bavail.saturating_mul(host.f_frsize);
        *last = Some((Instant::now(), free));
        Ok(free)
    }
}

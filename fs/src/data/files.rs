//! The upper's data files: made, held open within a bound, stretched, punched, made durable.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nacre_store::failpoint::{self, Point};
use nacre_store::{Ino, Time, Upper};
use parking_lot::Mutex;
use rustix::fs::{FallocateFlags, Timespec, Timestamps};

use super::ready::Ready;
use crate::errno::{Errno, Result, of_host, of_store};
use crate::union::setattr::SetTime;
use crate::vfs::Recent;

/// Data files held open for reading and writing; any number may be in use, they are opened again.
const OPEN_MAX: usize = 512;

/// More files than this are synced by one `syncfs`.
const ONE_BY_ONE_MAX: usize = 16;

/// The data files of one upper.
pub(crate) struct DataFiles {
    upper: Upper,
    open: Mutex<Recent<Ino, Arc<File>>>,
    ready: Ready,
    /// Directories that data files were made in and that were not synced since.
    changed_dirs: Mutex<BTreeSet<PathBuf>>,
    /// Files whose bytes the disk did not take. The host says so once, to whoever syncs first, and takes the bytes for clean
    /// from then on.
    failed: Mutex<HashMap<Ino, Failure>>,
}

/// Who has still to be told that a file's bytes did not come to disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failure {
    /// All who have it open, and if nobody has, the next.
    Untold,
    /// Those who had it open were. Who syncs it now has written it anew; a timer has not.
    Told,
}

/// What a data file says of itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stat {
    pub(crate) size: u64,
    pub(crate) blocks: u64,
    pub(crate) atime: Time,
    pub(crate) mtime: Time,
    pub(crate) ctime: Time,
}

impl DataFiles {
    /// Starts with none open.
    pub(crate) fn new(upper: Upper) -> Self {
        Self {
            upper,
            open: Mutex::new(Recent::new(OPEN_MAX)),
            ready: Ready::default(),
            changed_dirs: Mutex::new(BTreeSet::new()),
            failed: Mutex::default(),
        }
    }

    /// Returns an inode's data file. One that is gone after a power loss is an empty file, not damage: its record was
    /// durable before the first fsync of its content.
    pub(crate) fn get(&self, ino: Ino) -> Result<Arc<File>> {
        if let Some(file) = self.open.lock().get(&ino) {
            return Ok(file.clone());
        }
        let file = match self.upper.data_file(ino, false) {
            Ok(file) => file,
            Err(nacre_store::Error::NotFound { .. }) => {
                tracing::warn!(inode = ino.0, "data file is gone, the file is empty");
                return self.create(ino);
            }
            Err(error) => return Err(of_store(&error)),
        };
        Ok(self.keep(ino, Arc::new(file)))
    }

    /// Makes an inode's data file, empty whatever a crash may have left under its name.
    pub(crate) fn create(&self, ino: Ino) -> Result<Arc<File>> {
        let file = match self.ready.file(ino) {
            Some(file) => file,
            None => Arc::new(self.upper.data_file(ino, true).map_err(|e| of_store(&e))?),
        };
        if let Some(dir) = self.upper.data_path(ino).parent() {
            let mut changed = self.changed_dirs.lock();
            if !changed.contains(dir) {
                changed.insert(dir.to_owned());
            }
        }
        Ok(self.keep(ino, file))
    }

    /// A fresh number whose data file is made already, if there is one, and whether more should be made.
    pub(crate) fn ready_ino(&self) -> (Option<Ino>, bool) {
        self.ready.take()
    }

    /// A number of [`DataFiles::ready_ino`] that no file got.
    pub(crate) fn unused_ino(&self, ino: Ino) {
        self.ready.give_back(ino);
    }

    /// Makes data files that are wanted soon.
    pub(crate) fn make_ready(&self) -> Result<()> {
        self.ready.refill(&self.upper)
    }

    /// Removes those that were made and not wanted.
    pub(crate) fn clear_ready(&self) -> Result<()> {
        self.ready.clear(&self.upper)
    }

    fn keep(&self, ino: Ino, file: Arc<File>) -> Arc<File> {
        self.open.lock().insert(ino, file.clone(), 1);
        file
    }

    /// Lets go of a file that is removed.
    pub(crate) fn forget(&self, ino: Ino) {
        self.open.lock().remove(&ino);
        self.failed.lock().remove(&ino);
    }

    /// Removes a data file that no record names.
    pub(crate) fn remove(&self, ino: Ino) {
        self.forget(ino);
        if let Err(error) = self.upper.remove_data_files(&[ino]) {
            // It is swept with others of its kind after an unclean end.
            tracing::warn!(inode = ino.0, %error, "cannot remove a data file that nothing names");
        }
    }

    /// Nobody has the file open any more.
    pub(crate) fn closed(&self, ino: Ino) {
        if let Some(failure) = self.failed.lock().get_mut(&ino) {
            *failure = Failure::Told;
        }
    }

    /// Size, blocks and times.
    pub(crate) fn stat(&self, ino: Ino) -> Result<Stat> {
        let of = |seconds, nanos: i64| Time {
            seconds,
            nanos: u32::try_from(nanos).unwrap_or(0),
        };
        let known = self.open.lock().get(&ino).cloned();
        let meta = match known {
            Some(file) => file.metadata(),
            // Not opened for this: a listing of a large directory would turn over all that is open.
            None => std::fs::metadata(self.upper.data_path(ino)),
        };
        let meta = match meta {
            Err(error) if error.kind() == ErrorKind::NotFound => self.get(ino)?.metadata(),
            meta => meta,
        }
        .map_err(|e| of_host(&e))?;
        Ok(Stat {
            size: meta.len(),
            blocks: meta.blocks(),
            atime: of(meta.atime(), meta.atime_nsec()),
            mtime: of(meta.mtime(), meta.mtime_nsec()),
            ctime: of(meta.ctime(), meta.ctime_nsec()),
        })
    }

    /// Sets times; `None` leaves one as it is.
    pub(crate) fn set_times(
        &self,
        ino: Ino,
        atime: Option<SetTime>,
        mtime: Option<SetTime>,
    ) -> Result<()> {
        let of = |time: Option<SetTime>| match time {
            None => Timespec {
                tv_sec: 0,
                tv_nsec: rustix::fs::UTIME_OMIT,
            },
            Some(SetTime::Now) => Timespec {
                tv_sec: 0,
                tv_nsec: rustix::fs::UTIME_NOW,
            },
            Some(SetTime::At(time)) => Timespec {
                tv_sec: time.seconds,
                tv_nsec: i64::from(time.nanos),
            },
        };
        let times = Timestamps {
            last_access: of(atime),
            last_modification: of(mtime),
        };
        rustix::fs::futimens(self.get(ino)?, &times)
    }

    /// Makes a file's content durable, for a program that asks for it.
    pub(crate) fn sync(&self, ino: Ino) -> Result<()> {
        if self.failed.lock().get(&ino) == Some(&Failure::Untold) {
            return Err(Errno::IO);
        }
        let done = self.sync_now(ino);
        match done {
            Ok(()) => self.failed.lock().remove(&ino),
            Err(_) => self.failed.lock().insert(ino, Failure::Untold),
        };
        done
    }

    fn sync_now(&self, ino: Ino) -> Result<()> {
        if !failpoint::sync(Point::SyncDataFile).map_err(|e| of_host(&e))? {
            return Ok(());
        }
        self.get(ino)?.sync_data().map_err(|e| of_host(&e))
    }

    /// Makes a file's content durable, and the name of its data file if that is new.
    pub(crate) fn sync_with_name(&self, ino: Ino) -> Result<()> {
        self.sync(ino)?;
        let path = self.upper.data_path(ino);
        let Some(dir) = path.parent() else {
            return Ok(());
        };
        if self.changed_dirs.lock().remove(dir)
            && let Err(errno) = self.sync_dirs([dir, self.upper.data_dir()])
        {
            self.changed_dirs.lock().insert(dir.to_owned());
            return Err(errno);
        }
        Ok(())
    }

    /// Makes the names of all new data files durable.
    pub(crate) fn sync_names(&self) -> Result<()> {
        let changed = std::mem::take(&mut *self.changed_dirs.lock());
        if changed.is_empty() {
            return Ok(());
        }
        let all = changed.iter().map(PathBuf::as_path);
        let done = self.sync_dirs(all.chain([self.upper.data_dir()]));
        if done.is_err() {
            self.changed_dirs.lock().extend(changed);
        }
        done
    }

    fn sync_dirs<'a>(&self, dirs: impl IntoIterator<Item = &'a Path>) -> Result<()> {
        if !failpoint::is_synced(Point::SyncDataNames) {
            return Ok(());
        }
        for dir in dirs {
            let synced = File::open(dir).and_then(|dir| dir.sync_all());
            synced.map_err(|e| of_host(&e))?;
        }
        Ok(())
    }

    /// Makes the content of several files durable, whoever wrote it; returns those of which it is not known. Of one that was
    /// removed meanwhile there is nothing to lose.
    pub(crate) fn sync_all(&self, inos: &[Ino]) -> BTreeSet<Ino> {
        let failed_before: BTreeSet<Ino> = {
            let failed = self.failed.lock();
            let inos = inos.iter().copied();
            inos.filter(|ino| failed.contains_key(ino)).collect()
        };
        if inos.len() > ONE_BY_ONE_MAX {
            match self.sync_filesystem() {
                Ok(()) => return failed_before,
                // One of the files, or another one of the host's: each is asked for itself.
                Err(errno) => tracing::warn!(%errno, "the host cannot sync its filesystem"),
            }
        }
        let mut failed = failed_before;
        for ino in inos {
            let is_there = !failed.contains(ino) && self.upper.data_path(*ino).exists();
            if is_there && let Err(errno) = self.sync(*ino) {
                tracing::error!(inode = ino.0, %errno, "what was written to a file did not come to disk");
                failed.insert(*ino);
            }
        }
        failed
    }

    fn sync_filesystem(&self) -> Result<()> {
        if failpoint::sync(Point::SyncDataFile).map_err(|e| of_host(&e))? {
            let dir = File::open(self.upper.data_dir()).map_err(|e| of_host(&e))?;
            rustix::fs::syncfs(dir)?;
        }
        Ok(())
    }

    /// Makes a hole; where the host's filesystem has none, writes zeros.
    pub(crate) fn punch(&self, ino: Ino, offset: u64, len: u64) -> Result<()> {
        let file = self.get(ino)?;
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match rustix::fs::fallocate(&*file, flags, offset, len) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                let size = file.metadata().map_err(|e| of_host(&e))?.len();
                super::write_zeros(&file, offset, offset.saturating_add(len).min(size))
            }
            done => done,
        }
    }

    /// Reserves room without growing the file.
    pub(crate) fn reserve(&self, ino: Ino, offset: u64, len: u64) -> Result<()> {
        rustix::fs::fallocate(&*self.get(ino)?, FallocateFlags::KEEP_SIZE, offset, len)
    }
}

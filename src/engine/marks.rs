//! Which superblocks this store's service serves, noted where the next service finds them if this one dies: so it takes the
//! dead mounts of its own store away, and of no other. Never looks at a mount.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::runtime::this_boot;

/// A superblock's device number, major and minor. The kernel gives it to nobody else while a mount is left, dead or not.
pub(crate) type Device = (u32, u32);

/// A directory with a file for each, named by the number; it holds the boot's identity, after which numbers mean nothing.
#[derive(Clone, Debug)]
pub(crate) struct Marks(PathBuf);

/// One superblock's; gone when dropped.
#[derive(Debug)]
pub(crate) struct Mark(PathBuf);

impl Marks {
    /// Those of the service whose directory is `run`.
    pub(crate) fn new(run: &Path) -> Marks {
        Marks(run.join("served"))
    }

    /// Notes a superblock.
    pub(crate) fn put(&self, (major, minor): Device) -> io::Result<Mark> {
        fs::create_dir_all(&self.0)?;
        let path = self.0.join(format!("{major}:{minor}"));
        fs::write(&path, this_boot()?)?;
        Ok(Mark(path))
    }

    /// Takes out what a service that died has noted since the machine was started.
    pub(crate) fn take(&self) -> Vec<Device> {
        let Ok(files) = fs::read_dir(&self.0) else {
            return Vec::new();
        };
        // In a boot that cannot be told nothing is of this one.
        let boot = this_boot().ok();
        let mut devices = Vec::new();
        for file in files.flatten() {
            let noted = fs::read_to_string(file.path()).ok();
            let of_now = boot.is_some() && noted.as_deref().map(str::trim) == boot.as_deref();
            devices.extend(device(&file.file_name().to_string_lossy()).filter(|_| of_now));
            // One that stays is looked at again, which does no harm.
            drop(Mark(file.path()));
        }
        devices
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            tracing::debug!(mark = %self.0.display(), %error, "a mark stays");
        }
    }
}

fn device(name: &str) -> Option<Device> {
    let (major, minor) = name.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn only_what_was_not_ended_is_found_and_only_in_this_boot() {
        let run = tempfile::tempdir().unwrap();
        let marks = Marks::new(run.path());
        assert!(marks.take().is_empty());
        let ended = marks.put((0, 50)).unwrap();
        let died = marks.put((0, 51)).unwrap();
        let earlier = marks.put((0, 52)).unwrap();
        fs::write(run.path().join("served/0:52"), "another boot\n").unwrap();
        fs::write(run.path().join("served/notes"), this_boot().unwrap()).unwrap();
        drop(ended);
        std::mem::forget((died, earlier));
        assert_eq!(marks.take(), [(0, 51)]);
        assert!(marks.take().is_empty());
    }
}

//! Looking into a container's root from outside: by descriptor, every path resolved by the kernel below it.
//! Never follows a link out of the root and never reads more than it was allowed.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

/// A root file system that rules can look into.
pub trait RootFs {
    /// Returns a regular file's content, links followed within the root; more than `bytes_max` is `FileTooLarge`.
    fn read(&self, path: &Path, bytes_max: usize) -> io::Result<Vec<u8>>;
    /// Returns what a path names, links followed within the root.
    fn stat(&self, path: &Path) -> io::Result<Stat>;
}

/// What a path names, as far as the rules here ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// What kind of thing it is.
    pub kind: Kind,
    /// Permission bits, the lower twelve.
    pub mode: u32,
}

/// Kinds of things a path can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// Anything else.
    Other,
}

impl From<&std::fs::Metadata> for Stat {
    fn from(meta: &std::fs::Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        let kind = if meta.is_file() {
            Kind::File
        } else if meta.is_dir() {
            Kind::Directory
        } else {
            Kind::Other
        };
        Self {
            kind,
            mode: meta.mode() & 0o7777,
        }
    }
}

/// The tree below one directory descriptor, seen as if one were inside.
#[derive(Debug)]
pub struct InRoot<Fd = OwnedFd> {
    root: Fd,
}

impl<Fd: AsFd> InRoot<Fd> {
    /// Looks below this directory.
    pub fn new(root: Fd) -> Self {
        Self { root }
    }

    /// Opens a path below the root; absolute paths and links start at the root, `..` stops there.
    pub(crate) fn open(&self, path: &Path, flags: OFlags) -> io::Result<File> {
        let fd = openat2(
            &self.root,
            path,
            flags | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
        )?;
        Ok(fd.into())
    }

    /// Makes a directory and those above it, as far as they are missing.
    pub(crate) fn make_directory(&self, path: &Path) -> io::Result<()> {
        let mut made = PathBuf::from("/");
        for part in path.components() {
            let name = match part {
                Component::Normal(name) => name,
                Component::ParentDir => {
                    // Above the root is the root.
                    made.pop();
                    continue;
                }
                _ => continue,
            };
            let above = self.open(&made, OFlags::PATH | OFlags::DIRECTORY)?;
            made.push(name);
            match self.open(&made, OFlags::PATH) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    rustix::fs::mkdirat(&above, name, Mode::from_raw_mode(0o755))?;
                }
                found => drop(found?),
            }
        }
        Ok(())
    }
}

impl<Fd: AsFd> RootFs for InRoot<Fd> {
    fn read(&self, path: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
        // Look before opening: the image may have put a pipe there, or a device that acts when it is opened.
        let found = self.open(path, OFlags::PATH)?;
        if !found.metadata()?.is_file() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let file = File::open(format!("/proc/self/fd/{}", found.as_raw_fd()))?;
        let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX);
        let mut content = Vec::new();
        file.take(limit.saturating_add(1))
            .read_to_end(&mut content)?;
        if content.len() > bytes_max {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(content)
    }

    fn stat(&self, path: &Path) -> io::Result<Stat> {
        self.open(path, OFlags::PATH)?
            .metadata()
            .map(|meta| Stat::from(&meta))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_stay_within_the_root() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        std::fs::write(dir.path().join("etc/real"), b"inside").unwrap();
        symlink("/etc/real", dir.path().join("absolute")).unwrap();
        symlink("../../../../etc/real", dir.path().join("etc/up")).unwrap();
        let root = InRoot::new(File::open(dir.path()).unwrap());
        for path in ["/absolute", "/etc/up", "etc/real", "/../../etc/real"] {
            assert_eq!(root.read(Path::new(path), 6).unwrap(), b"inside", "{path}");
        }
        let too_large = root.read(Path::new("/etc/real"), 5).unwrap_err();
        assert_eq!(too_large.kind(), io::ErrorKind::FileTooLarge);
    }

    #[test]
    fn directories_are_made_below_the_root_only() {
        let dir = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        symlink(outside.path(), dir.path().join("link")).unwrap();
        std::fs::create_dir(dir.path().join("kept")).unwrap();
        let root = InRoot::new(File::open(dir.path()).unwrap());
        root.make_directory(Path::new("/kept/../kept/new/deep"))
            .unwrap();
        assert!(dir.path().join("kept/new/deep").is_dir());
        root.make_directory(Path::new("/link/new")).unwrap_err();
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_pipe_in_place_of_a_file_does_not_hang() {
        let dir = tempfile::tempdir().unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            dir.path().join("passwd"),
            rustix::fs::FileType::Fifo,
            Mode::RUSR,
            0,
        )
        .unwrap();
        let root = InRoot::new(File::open(dir.path()).unwrap());
        assert!(root.read(Path::new("/passwd"), 100).is_err());
    }
}

//! Who owns the store, and in which format it is. Never opens the database.
//!
//! `<root>/lock` is locked (flock(2)) by the one process that has the store open and holds its pid; a clean end
//! empties it, so that a pid in an unlocked file tells of an unclean end. `<root>/format` holds the format's number.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use crate::failpoint::{self, Point};
use crate::{Error, Result};

/// The format that this program reads and writes. Any change of bytes on disk is a new number.
pub(crate) const FORMAT: u32 = 2;

/// The oldest format that is read as it is, and is this one from then on: format 2 only has more (small changed files in records).
const FORMAT_READ: u32 = 1;

/// Longest `lock` or `format` file worth reading.
const SHORT_FILE_BYTES_MAX: u64 = 64;

/// The lock on a store, given back when dropped.
pub(crate) struct Owner {
    file: File,
    path: PathBuf,
    /// Whether the owner before us ended without [`Owner::release`].
    pub(crate) unclean: bool,
}

impl Owner {
    /// Locks `root` or says who has it. Its mark is not changed yet: on a full disk there must be room made for that first.
    pub(crate) fn take(root: &Path) -> Result<Owner> {
        let path = root.join("lock");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(Error::io("cannot open", &path))?;
        let locked = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive);
        let text = read_short(&mut file, &path)?;
        match locked {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(Error::Owned {
                    root: root.to_owned(),
                    pid: text.trim().parse().unwrap_or(0),
                });
            }
            Err(errno) => return Err(Error::io("cannot lock", &path)(errno.into())),
        }
        Ok(Owner {
            file,
            path,
            unclean: !text.trim().is_empty(),
        })
    }

    /// Marks the store as in use.
    pub(crate) fn mark(&mut self) -> Result<()> {
        self.write(&format!("{}\n", std::process::id()))
    }

    /// Marks a clean end.
    pub(crate) fn release(&mut self) -> Result<()> {
        self.write("")
    }

    fn write(&mut self, text: &str) -> Result<()> {
        let write = |file: &mut File| {
            file.set_len(0)?;
            file.seek(SeekFrom::Start(0))?;
            file.write_all(text.as_bytes())?;
            // On disk before anything else is: an unclean end must not look like a clean one.
            if !failpoint::is_synced(Point::SyncLock) {
                return Ok(());
            }
            file.sync_data()
        };
        write(&mut self.file).map_err(Error::io("cannot write", &self.path))
    }
}

fn read_short(file: &mut File, path: &Path) -> Result<String> {
    let mut text = String::new();
    file.take(SHORT_FILE_BYTES_MAX)
        .read_to_string(&mut text)
        .map_err(Error::io("cannot read", path))?;
    Ok(text)
}

/// Refuses a store of another format; marks a new one.
pub(crate) fn check_format(root: &Path) -> Result<()> {
    let path = root.join("format");
    match File::open(&path) {
        Ok(mut file) => {
            let text = read_short(&mut file, &path)?;
            let found: u32 = text
                .trim()
                .parse()
                .map_err(|_| Error::corrupt("format file", path.display()))?;
            match found {
                FORMAT => Ok(()),
                FORMAT_READ => write_format(root),
                _ => Err(Error::Format {
                    root: root.to_owned(),
                    found,
                    supported: FORMAT,
                }),
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            if root.join("db").exists() {
                return Err(Error::corrupt("format file", path.display()));
            }
            write_format(root)
        }
        Err(error) => Err(Error::io("cannot open", &path)(error)),
    }
}

fn write_format(root: &Path) -> Result<()> {
    let (path, temp) = (root.join("format"), root.join("format.new"));
    let write = || {
        let mut file = File::create(&temp)?;
        writeln!(file, "{FORMAT}")?;
        file.sync_all()?;
        std::fs::rename(&temp, &path)?;
        File::open(root)?.sync_all()
    };
    write().map_err(Error::io("cannot write", &path))
}

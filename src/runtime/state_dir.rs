//! The directory where a shim and its service meet: which file is what, and how one is written so that it stays.
//! Never decides what is written.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::spec::ExecId;

/// Largest file read back from a state directory: a specification with thousands of variables and mounts.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// One process's directory.
#[derive(Clone, Debug)]
pub(crate) struct StateDir {
    path: PathBuf,
}

impl StateDir {
    pub(crate) fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the directory, for our eyes only: it tells how to steer the container.
    pub(crate) fn create(&self) -> io::Result<()> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.path)
    }

    /// What shall run (`ContainerSpec`, or `ExecSpec` in an exec's directory).
    pub(crate) fn spec(&self) -> PathBuf {
        self.path.join("spec.json")
    }
    /// Where the log goes and what else the shim must know (`shim::Order`).
    pub(crate) fn order(&self) -> PathBuf {
        self.path.join("order.json")
    }
    /// Who runs (`shim::Running`): the shim and the process, once started.
    pub(crate) fn running(&self) -> PathBuf {
        self.path.join("running.json")
    }
    /// How it ended.
    pub(crate) fn exit(&self) -> PathBuf {
        self.path.join("exit.json")
    }
    /// libcontainer's bundle configuration.
    pub(crate) fn bundle_config(&self) -> PathBuf {
        self.path.join("config.json")
    }
    /// The process part of an exec, as libcontainer reads it.
    pub(crate) fn process(&self) -> PathBuf {
        self.path.join("process.json")
    }
    /// Where the shim mounts the root, seen only in its own mount namespace.
    pub(crate) fn rootfs(&self) -> PathBuf {
        self.path.join("rootfs")
    }
    /// Where the terminal's master arrives from the container's side.
    pub(crate) fn console_socket(&self) -> PathBuf {
        self.path.join("console.sock")
    }
    /// libcontainer's own state.
    pub(crate) fn library(&self) -> PathBuf {
        self.path.join("lib")
    }
    /// What the shim says about itself when all else fails.
    pub(crate) fn shim_log(&self) -> PathBuf {
        self.path.join("shim.log")
    }
    /// The directory of an exec in this container.
    pub(crate) fn exec(&self, id: &ExecId) -> Self {
        Self::new(self.path.join("exec").join(id.as_str()))
    }

    /// Connects to the shim. By descriptor, because a socket's path may have 107 bytes and ours have more.
    pub(crate) fn connect(&self) -> io::Result<UnixStream> {
        let dir = File::open(&self.path)?;
        UnixStream::connect(format!("/proc/self/fd/{}/shim.sock", dir.as_raw_fd()))
    }

    /// Listens where `connect` knocks.
    pub(crate) fn listen(&self) -> io::Result<UnixListener> {
        self.bind("shim.sock")
    }

    /// Listens for the terminal's master.
    pub(crate) fn listen_for_console(&self) -> io::Result<UnixListener> {
        self.bind("console.sock")
    }

    fn bind(&self, name: &str) -> io::Result<UnixListener> {
        let dir = File::open(&self.path)?;
        UnixListener::bind(format!("/proc/self/fd/{}/{name}", dir.as_raw_fd()))
    }

    /// Takes the shim's socket away, so that nobody knocks in vain.
    pub(crate) fn close_socket(&self) -> io::Result<()> {
        fs::remove_file(self.path.join("shim.sock"))
    }
}

/// Writes a file of a state directory whole.
pub(crate) fn write<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
    let mut file = create(path)?;
    file.write_all(&serde_json::to_vec(value)?)
}

/// Writes a file so that whoever looks finds it whole, or not there.
pub(crate) fn write_whole<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
    let draft = path.with_extension("draft");
    write(&draft, value)?;
    fs::rename(&draft, path)
}

/// The same after a power cut.
pub(crate) fn write_durably<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
    let draft = path.with_extension("draft");
    let mut file = create(&draft)?;
    file.write_all(&serde_json::to_vec(value)?)?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    match path.parent() {
        Some(dir) => File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}

fn create(path: &Path) -> io::Result<File> {
    fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
}

/// Reads back what `write` or `write_durably` wrote.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    let file = File::open(path)?;
    if file.metadata()?.len() > FILE_BYTES_MAX {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let mut content = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(file, FILE_BYTES_MAX), &mut content)?;
    serde_json::from_slice(&content).map_err(io::Error::from)
}

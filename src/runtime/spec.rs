//! What a container and a process in it shall be, in our words: what the engine decides and the shim carries out.
//! Never touches the system and never speaks OCI; `oci` translates.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A container's identity: a name that is safe as a file name and as a cgroup name, and never empty.
///
/// It makes the cgroup's path, and an empty cgroup path would name the cgroup of whoever looks (see `oci::cgroups_path`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContainerId(String);

/// An exec's identity within its container; the same rules.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ExecId(String);

/// Says why a text is not an identity.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no identity: 1 to {ID_BYTES_MAX} of [a-zA-Z0-9_.-], a letter or digit first")]
pub struct BadId(String);

/// Ours have 64; the bound keeps file and cgroup names below the 255 bytes that the kernel takes.
const ID_BYTES_MAX: usize = 128;

fn checked(text: String) -> Result<String, BadId> {
    let tail = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    let first = text
        .as_bytes()
        .first()
        .is_some_and(u8::is_ascii_alphanumeric);
    if first && text.len() <= ID_BYTES_MAX && text.bytes().all(tail) {
        Ok(text)
    } else {
        Err(BadId(text))
    }
}

macro_rules! identity {
    ($name:ident) => {
        impl $name {
            /// Takes a text that may stand in a path.
            pub fn new(text: impl Into<String>) -> Result<Self, BadId> {
                checked(text.into()).map(Self)
            }
            /// Returns the text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl TryFrom<String> for $name {
            type Error = BadId;
            fn try_from(text: String) -> Result<Self, BadId> {
                checked(text).map(Self)
            }
        }
        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}
identity!(ContainerId);
identity!(ExecId);

/// A container: its first process and what surrounds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// Who it is.
    pub id: ContainerId,
    /// What `hostname` answers, and `$HOSTNAME`; with the host's network docker gives the host's own name here.
    pub hostname: String,
    /// What runs as process 1.
    pub process: ProcessSpec,
    /// Mounts the root read-only.
    pub read_only_root: bool,
    /// What is mounted over the root, in this order; the files that docker puts in place (`/etc/hosts` …) are binds like any other.
    pub mounts: Vec<MountSpec>,
    /// Which network it sees.
    pub network: Network,
    /// What it may do.
    pub security: Security,
    /// Limits of its processes; above our own hard limits they are lowered to them.
    pub rlimits: Vec<Rlimit>,
    /// Size of `/dev/shm`; none is docker's 64 MiB.
    pub shm_bytes: Option<u64>,
}

/// A process that shall run in a container, its first one or an exec.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessSpec {
    /// The program and its arguments; never empty.
    pub args: Vec<String>,
    /// `NAME=value`; `PATH`, `HOSTNAME`, `HOME` and `TERM` (on a terminal) are added where missing, as docker does.
    pub env: Vec<String>,
    /// Where it starts; empty is `/`.
    pub cwd: String,
    /// docker's `--user`: empty, `user`, `uid`, `user:group` … ; looked up in the container's own files.
    pub user: String,
    /// docker's `--group-add`: names or numbers.
    pub groups: Vec<String>,
    /// Gives it a terminal.
    pub tty: bool,
    /// Rows and columns of the terminal at the start.
    pub console_size: Option<ConsoleSize>,
    /// What its standard input is.
    pub stdin: Stdin,
}

/// A process that joins a running container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecSpec {
    /// Who it is, within its container.
    pub id: ExecId,
    /// What runs.
    pub process: ProcessSpec,
    /// Gives it all capabilities and no seccomp filter.
    pub privileged: bool,
}

/// A terminal's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsoleSize {
    /// Lines.
    pub rows: u16,
    /// Characters a line.
    pub columns: u16,
}

/// Where standard input comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stdin {
    /// `/dev/null`.
    #[default]
    Null,
    /// The attached clients; stays open when they leave.
    Open,
    /// The first attached client; closes when that one is done (docker's `StdinOnce`; a terminal stays open).
    Once,
}

/// One mount over the root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountSpec {
    /// Absolute path in the container; made where missing.
    pub target: String,
    /// What is there.
    pub source: MountSource,
    /// Whether the container may write there.
    pub access: Access,
}

/// What a mount shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountSource {
    /// A directory or file of the host, with what is mounted below it (`rbind`, `rprivate`).
    Bind(PathBuf),
    /// A memory file system; the options are those of docker's `--tmpfs` (`size=64m`, `mode=1777`, …).
    Tmpfs(Vec<String>),
}

/// Whether a mount may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Access {
    /// Reading only.
    ReadOnly,
    /// Reading and writing.
    ReadWrite,
}

/// Which network a container sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Network {
    /// The host's own.
    Host,
    /// A loopback interface and nothing else.
    None,
}

/// What a container may do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Security {
    /// All capabilities, all devices, no filter, nothing masked.
    pub privileged: bool,
    /// Capabilities beside docker's fourteen; `CAP_` or not, `ALL` for all.
    pub cap_add: Vec<String>,
    /// Capabilities taken away; `ALL` for all.
    pub cap_drop: Vec<String>,
    /// Which system calls it may make.
    pub seccomp: Seccomp,
    /// No program gains privileges (setuid and file capabilities do nothing).
    pub no_new_privileges: bool,
    /// Which parts of `/proc` and `/sys` are hidden or read-only.
    pub system_paths: SystemPaths,
}

/// Which system calls a container may make.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Seccomp {
    /// docker's default profile.
    #[default]
    Default,
    /// All.
    Unconfined,
}

/// Which parts of `/proc` and `/sys` are hidden or read-only.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SystemPaths {
    /// docker's lists.
    #[default]
    Default,
    /// These (docker's `MaskedPaths` and `ReadonlyPaths`); empty lists hide nothing.
    Exactly {
        /// Hidden.
        masked: Vec<String>,
        /// Read-only.
        read_only: Vec<String>,
    },
}

/// One resource limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rlimit {
    /// docker's name: `nofile`, `nproc`, `core` …
    pub name: String,
    /// What applies.
    pub soft: u64,
    /// How far the process may raise it; `u64::MAX` is no limit.
    pub hard: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_never_empty_nor_a_path() {
        for bad in [
            "",
            ".",
            "..",
            "/",
            "a/b",
            "-x",
            "a b",
            "ü",
            &"a".repeat(129),
        ] {
            assert!(ContainerId::new(bad).is_err(), "{bad:?} was taken");
        }
        assert!(serde_json::from_str::<ContainerId>("\"\"").is_err());
        assert!(ContainerId::new("0af.x_Y-1").is_ok());
    }
}

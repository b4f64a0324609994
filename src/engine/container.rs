//! What is known of one container: the document that the store keeps. Never acts on it.

use std::path::PathBuf;

use nacre_store::{ImageId, UpperId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::config::Config;
use super::when::Nanos;
use crate::runtime::spec::{
    Access, ContainerId, MountSource, MountSpec, Network, Rlimit, Security,
};

/// Version of the document's shape; another one is refused when it is read back.
pub(crate) const DOCUMENT_VERSION: u32 = 1;

/// One container. Stored as JSON under its ID.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Container {
    /// Shape of this document.
    pub version: u32,
    /// Who it is.
    pub id: ContainerId,
    /// Its name, without docker's slash.
    pub name: String,
    /// When it was made.
    pub created: Nanos,
    /// The image it was made from.
    #[serde(with = "image_text")]
    pub image: ImageId,
    /// Its writable layer.
    #[serde(with = "upper_number")]
    pub upper: UpperId,
    /// How it runs, the image's configuration merged in.
    pub config: Config,
    /// What surrounds it.
    pub host: Host,
    /// docker's HostConfig as it was asked for: shown, not acted on.
    pub host_config: Value,
    /// What it is doing.
    pub state: State,
}

/// What surrounds a container: what of docker's HostConfig nacre acts on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Host {
    /// Which network it sees.
    pub network: Network,
    /// What is mounted over the root, without the files that every container gets.
    pub mounts: Vec<MountSpec>,
    /// The root is read-only.
    pub read_only_root: bool,
    /// It goes when it ends.
    pub auto_remove: bool,
    /// What it may do.
    pub security: Security,
    /// Limits of its processes.
    pub rlimits: Vec<Rlimit>,
    /// Size of `/dev/shm`.
    pub shm_bytes: Option<u64>,
    /// Groups beside the user's own.
    pub groups: Vec<String>,
    /// `NAME:ADDRESS` lines for /etc/hosts.
    pub extra_hosts: Vec<String>,
    /// Name servers instead of the host's.
    pub dns: Vec<String>,
    /// Search domains instead of the host's.
    pub dns_search: Vec<String>,
    /// Resolver options instead of the host's.
    pub dns_options: Vec<String>,
    /// Rows and columns of the terminal at the start.
    pub console_size: Option<(u16, u16)>,
}

/// Where a container is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Never started.
    Created,
    /// Its process runs.
    Running,
    /// Its process is frozen.
    Paused,
    /// Its process has ended.
    Exited,
    /// Its removal failed half-way.
    Dead,
}

impl Phase {
    /// docker's word for it.
    pub fn word(self) -> &'static str {
        match self {
            Phase::Created => "created",
            Phase::Running => "running",
            Phase::Paused => "paused",
            Phase::Exited => "exited",
            Phase::Dead => "dead",
        }
    }

    /// It has a process.
    pub fn is_active(self) -> bool {
        match self {
            Phase::Running | Phase::Paused => true,
            Phase::Created | Phase::Exited | Phase::Dead => false,
        }
    }
}

/// What a container is doing, or how it ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct State {
    /// Where it is in its life.
    pub phase: Phase,
    /// Its process, while it has one.
    pub pid: Option<i32>,
    /// How its last process ended.
    pub exit_code: i32,
    /// Why it could not be started, or what went wrong around its end.
    pub error: String,
    /// The kernel killed it for lack of memory.
    pub oom_killed: bool,
    /// When it started last.
    pub started: Option<Nanos>,
    /// When it ended last.
    pub finished: Option<Nanos>,
}

impl State {
    /// Of a container that was just made.
    pub(crate) fn created() -> State {
        State {
            phase: Phase::Created,
            pid: None,
            exit_code: 0,
            error: String::new(),
            oom_killed: false,
            started: None,
            finished: None,
        }
    }
}

impl Container {
    /// The ID's first 12 digits.
    pub fn short_id(&self) -> &str {
        super::names::short(self.id.as_str())
    }

    /// The program and its arguments; empty for one that was made without, which create refuses.
    pub fn command(&self) -> (String, Vec<String>) {
        super::merge::command(&self.config).unwrap_or_default()
    }

    /// What the user mounted, as it is shown.
    pub fn shown_mounts(&self) -> Vec<ShownMount> {
        let shown = |mount: &MountSpec| {
            let (kind, source) = match &mount.source {
                MountSource::Bind(source) => ("bind", source.display().to_string()),
                MountSource::Tmpfs(_) => ("tmpfs", String::new()),
            };
            ShownMount {
                kind,
                source,
                target: mount.target.clone(),
                writable: mount.access == Access::ReadWrite,
            }
        };
        self.host.mounts.iter().map(shown).collect()
    }

    /// The host name inside: as asked for, or the short ID.
    pub fn hostname(&self) -> String {
        if self.config.hostname.is_empty() {
            self.short_id().to_owned()
        } else {
            self.config.hostname.clone()
        }
    }
}

/// One mount of a container, as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownMount {
    /// bind or tmpfs.
    pub kind: &'static str,
    /// The host's path; empty for a tmpfs.
    pub source: String,
    /// Where it is in the container.
    pub target: String,
    /// Whether the container may write there.
    pub writable: bool,
}

/// The files of one container beside its layers: `<root>/containers/<id>`.
#[derive(Clone, Debug)]
pub struct Files {
    dir: PathBuf,
    id: String,
}

impl Files {
    pub(crate) fn new(containers: &std::path::Path, id: &ContainerId) -> Files {
        Files {
            dir: containers.join(id.as_str()),
            id: id.as_str().to_owned(),
        }
    }

    /// The directory of them all.
    pub fn dir(&self) -> &std::path::Path {
        &self.dir
    }

    /// The output, as docker's json-file.
    pub fn log(&self) -> PathBuf {
        self.dir.join(format!("{}-json.log", self.id))
    }

    /// What is seen as `/etc/hosts`.
    pub fn hosts(&self) -> PathBuf {
        self.dir.join("hosts")
    }

    /// What is seen as `/etc/hostname`.
    pub fn hostname(&self) -> PathBuf {
        self.dir.join("hostname")
    }

    /// What is seen as `/etc/resolv.conf`.
    pub fn resolv_conf(&self) -> PathBuf {
        self.dir.join("resolv.conf")
    }

    /// Where the shim keeps its state.
    pub(crate) fn shim(&self) -> PathBuf {
        self.dir.join("shim")
    }
}

/// An image's ID as the text of its digest.
pub(crate) mod image_text {
    use nacre_store::ImageId;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(crate) fn serialize<S: Serializer>(id: &ImageId, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(id)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<ImageId, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

/// A writable layer as its number.
pub(crate) mod upper_number {
    use nacre_store::UpperId;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(crate) fn serialize<S: Serializer>(id: &UpperId, to: S) -> Result<S::Ok, S::Error> {
        id.0.serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<UpperId, D::Error> {
        u32::deserialize(from).map(UpperId)
    }
}

//! The wire's types: what the Docker Engine API 1.50 and nacre's own routes
//! say, as serde structs shared by the client here and by the service.
//! Nothing here does I/O or knows a default that only the service can know.
//!
//! Three rules hold throughout, because clients depend on them:
//!
//! * Fields stand in docker's order, and what docker always writes is always
//!   written: an absent list is `null` (`Option<Vec<_>>`), an empty one `[]`.
//! * What docker omits when empty is omitted (`skip_serializing_if`).
//! * Reading is lenient: unknown keys are ignored, missing keys and `null`
//!   become the default.
#![expect(
    missing_docs,
    reason = "the fields carry the Engine API's own names; its reference documents them"
)]

mod change;
mod container;
mod exec;
mod host_config;
mod image;
mod inspect;
mod nacre;
mod network;
mod progress;
mod stdcopy;
mod system;

pub use change::{Change, CommitResponse, KIND_ADDED, KIND_CHANGED, KIND_DELETED};
pub use container::{
    ContainerConfig, ContainerCreateRequest, ContainerCreateResponse, ContainerPort,
    ContainerSummary, ContainersPruneResponse, HealthConfig, MountPoint, NetworkingConfig,
    SummaryHostConfig, SummaryNetworkSettings, WaitError, WaitResponse,
};
pub use exec::{ExecCreateRequest, ExecInspect, ExecProcess, ExecStartRequest};
pub use host_config::{
    DeviceMapping, HostConfig, LogConfig, MountSpec, PortBinding, RestartPolicy, Ulimit,
};
pub use image::{
    GraphDriver, HistoryItem, ImageConfig, ImageDeleteItem, ImageInspect, ImageMetadata,
    ImageSummary, ImagesPruneResponse, RootFs,
};
pub use inspect::{ContainerInspect, ContainerState};
pub use nacre::{
    CheckCount, CheckReport, MountInfo, MountRequest, NacreInfo, PullAux, Reclaimed,
    RemountRequest, ShutdownRefusal,
};
pub use network::{EndpointSettings, NetworkSettings};
pub use progress::{ErrorDetail, Progress, ProgressDetail};
pub use stdcopy::{Demux, FRAME_HEADER_BYTES, Frame, StreamKind, UnknownKind, frame_header};
pub use system::{
    AuthConfig, DiskUsage, IndexInfo, Info, PluginsInfo, RegistryConfig, SwarmInfo, Version,
    VersionComponent, VersionPlatform,
};

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

/// The version of the Engine API that nacre speaks.
pub const API_VERSION: &str = "1.50";

/// The oldest version of the Engine API that nacre answers.
pub const API_VERSION_MIN: &str = "1.24";

/// The header that carries registry credentials: base64url of an [`AuthConfig`].
pub const REGISTRY_AUTH_HEADER: &str = "X-Registry-Auth";

/// The content type of a stream whose stdout and stderr are framed.
pub const MULTIPLEXED_STREAM: &str = "application/vnd.docker.multiplexed-stream";

/// The content type of a stream of bare bytes (a terminal's).
pub const RAW_STREAM: &str = "application/vnd.docker.raw-stream";

/// Go's `map[string]string`.
pub type StringMap = BTreeMap<String, String>;

/// Go's `struct{}`: the value of a set written as a map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nothing {}

/// Go's `map[string]struct{}`.
pub type StringSet = BTreeMap<String, Nothing>;

/// The body of every answer with a status of 400 or more.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    pub message: String,
}

/// The answer of a request that made something with an identity.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdResponse {
    #[serde(rename = "Id")]
    pub id: String,
}

/// Reads `null` as the type's default.
pub(crate) fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

/// Reads a command: a list of words, or one string that is the only word.
pub(crate) fn words<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Vec<String>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Words {
        One(String),
        Many(Vec<String>),
    }
    Ok(
        Option::<Words>::deserialize(deserializer)?.map(|words| match words {
            Words::One(word) => vec![word],
            Words::Many(words) => words,
        }),
    )
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it by reference"
)]
pub(crate) fn is_false(value: &bool) -> bool {
    !*value
}

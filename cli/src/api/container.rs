//! Containers as they are listed, made and waited for.

use serde::{Deserialize, Serialize};

use super::{EndpointSettings, HostConfig, StringMap, StringSet, is_false, or_default, words};
use std::collections::BTreeMap;

/// One item of `GET /containers/json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ContainerSummary {
    pub id: String,
    #[serde(deserialize_with = "or_default")]
    pub names: Vec<String>,
    pub image: String,
    #[serde(rename = "ImageID")]
    pub image_id: String,
    pub command: String,
    /// Seconds since 1970.
    pub created: i64,
    #[serde(deserialize_with = "or_default")]
    pub ports: Vec<ContainerPort>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_rw: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_root_fs: Option<i64>,
    #[serde(deserialize_with = "or_default")]
    pub labels: StringMap,
    pub state: String,
    pub status: String,
    #[serde(deserialize_with = "or_default")]
    pub host_config: SummaryHostConfig,
    pub network_settings: Option<SummaryNetworkSettings>,
    #[serde(deserialize_with = "or_default")]
    pub mounts: Vec<MountPoint>,
}

/// What a listed container shows of its host configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct SummaryHostConfig {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub network_mode: String,
}

/// What a listed container shows of its networks.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct SummaryNetworkSettings {
    #[serde(deserialize_with = "or_default")]
    pub networks: BTreeMap<String, EndpointSettings>,
}

/// One port of a listed container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ContainerPort {
    #[serde(rename = "IP", skip_serializing_if = "String::is_empty")]
    pub ip: String,
    pub private_port: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public_port: Option<u16>,
    /// `tcp`, `udp` or `sctp`.
    #[serde(rename = "Type")]
    pub protocol: String,
}

/// One mount of a container: of its listing and of its inspection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct MountPoint {
    /// `bind`, `volume` or `tmpfs`.
    #[serde(rename = "Type")]
    pub kind: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    pub source: String,
    pub destination: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub driver: String,
    pub mode: String,
    #[serde(rename = "RW")]
    pub rw: bool,
    pub propagation: String,
}

/// The portable part of a container's configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ContainerConfig {
    pub hostname: String,
    pub domainname: String,
    pub user: String,
    pub attach_stdin: bool,
    pub attach_stdout: bool,
    pub attach_stderr: bool,
    #[serde(
        deserialize_with = "or_default",
        skip_serializing_if = "StringSet::is_empty"
    )]
    pub exposed_ports: StringSet,
    pub tty: bool,
    pub open_stdin: bool,
    pub stdin_once: bool,
    pub env: Option<Vec<String>>,
    #[serde(deserialize_with = "words")]
    pub cmd: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<HealthConfig>,
    #[serde(skip_serializing_if = "is_false")]
    pub args_escaped: bool,
    pub image: String,
    pub volumes: Option<StringSet>,
    pub working_dir: String,
    /// `null`: the image's; `[""]` or `[]`: none.
    #[serde(deserialize_with = "words")]
    pub entrypoint: Option<Vec<String>>,
    #[serde(skip_serializing_if = "is_false")]
    pub network_disabled: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mac_address: String,
    pub on_build: Option<Vec<String>>,
    pub labels: Option<StringMap>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stop_signal: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<i64>,
    #[serde(deserialize_with = "words", skip_serializing_if = "Option::is_none")]
    pub shell: Option<Vec<String>>,
}

/// How a container's health is probed. Durations are nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct HealthConfig {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test: Option<Vec<String>>,
    #[serde(skip_serializing_if = "is_zero")]
    pub interval: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub timeout: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub start_period: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub start_interval: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub retries: i64,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it by reference"
)]
fn is_zero(value: &i64) -> bool {
    *value == 0
}

/// The body of `POST /containers/create`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ContainerCreateRequest {
    #[serde(flatten)]
    pub config: ContainerConfig,
    #[serde(deserialize_with = "or_default")]
    pub host_config: HostConfig,
    #[serde(deserialize_with = "or_default")]
    pub networking_config: NetworkingConfig,
}

/// The networks that a new container joins.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct NetworkingConfig {
    #[serde(deserialize_with = "or_default")]
    pub endpoints_config: BTreeMap<String, Option<EndpointSettings>>,
}

/// The answer of `POST /containers/create`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ContainerCreateResponse {
    pub id: String,
    #[serde(deserialize_with = "or_default")]
    pub warnings: Vec<String>,
}

/// The answer of `POST /containers/{id}/wait`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct WaitResponse {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<WaitError>,
    pub status_code: i64,
}

/// Why waiting failed although the request succeeded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct WaitError {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// The answer of `POST /containers/prune`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ContainersPruneResponse {
    pub containers_deleted: Option<Vec<String>>,
    pub space_reclaimed: u64,
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    /// What docker 28.2.2 sends for `create -it --name web -e A=b -v
    /// /tmp:/data:ro --tmpfs /t --ulimit nofile=10:20 … alpine sh -c 'echo hi'`.
    const CREATE: &str = include_str!("create-docker-28.json");

    #[test]
    fn what_docker_sends_is_read_and_written_without_a_difference() {
        let request: ContainerCreateRequest = serde_json::from_str(CREATE).unwrap();
        assert_eq!(serde_json::to_string(&request).unwrap(), CREATE.trim_end());
        assert_eq!(request.config.entrypoint, Some(vec![String::new()]));
    }

    #[test]
    fn null_absent_and_empty_are_told_apart_where_they_differ() {
        let entrypoint = |json: &str| {
            serde_json::from_str::<ContainerCreateRequest>(json)
                .unwrap()
                .config
                .entrypoint
        };
        assert_eq!(entrypoint("{}"), None);
        assert_eq!(entrypoint(r#"{"Entrypoint":null}"#), None);
        assert_eq!(entrypoint(r#"{"Entrypoint":[]}"#), Some(vec![]));
        assert_eq!(
            entrypoint(r#"{"Entrypoint":"sh"}"#),
            Some(vec!["sh".to_owned()])
        );
    }

    #[test]
    fn null_is_read_where_a_value_is_expected() {
        let json = r#"{"Id":"1","Names":null,"Ports":null,"Labels":null,"HostConfig":null,"NetworkSettings":null,"Mounts":null}"#;
        let summary: ContainerSummary = serde_json::from_str(json).unwrap();
        assert_eq!(summary.id, "1");
    }
}

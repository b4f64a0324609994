//! Images as they are listed, inspected, removed and pruned.

use serde::{Deserialize, Serialize};

use super::{HealthConfig, StringMap, StringSet, is_false, or_default, words};

/// One item of `GET /images/json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ImageSummary {
    /// How many containers use it; -1: not counted.
    pub containers: i64,
    /// Seconds since 1970.
    pub created: i64,
    pub id: String,
    pub labels: Option<StringMap>,
    pub parent_id: String,
    #[serde(deserialize_with = "or_default")]
    pub repo_digests: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    pub repo_tags: Vec<String>,
    /// -1: not computed.
    pub shared_size: i64,
    pub size: i64,
    /// Only for API versions below 1.44.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub virtual_size: Option<i64>,
}

impl Default for ImageSummary {
    fn default() -> Self {
        Self {
            containers: -1,
            created: 0,
            id: String::new(),
            labels: None,
            parent_id: String::new(),
            repo_digests: Vec::new(),
            repo_tags: Vec::new(),
            shared_size: -1,
            size: 0,
            virtual_size: None,
        }
    }
}

/// The answer of `GET /images/{name}/json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ImageInspect {
    pub id: String,
    #[serde(deserialize_with = "or_default")]
    pub repo_tags: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    pub repo_digests: Vec<String>,
    pub parent: String,
    pub comment: String,
    /// RFC 3339 with nanoseconds.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub created: String,
    pub docker_version: String,
    pub author: String,
    #[serde(deserialize_with = "or_default")]
    pub config: ImageConfig,
    pub architecture: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub variant: String,
    pub os: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub os_version: String,
    pub size: i64,
    /// Only for API versions below 1.44.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub virtual_size: Option<i64>,
    #[serde(deserialize_with = "or_default")]
    pub graph_driver: GraphDriver,
    #[serde(rename = "RootFS", deserialize_with = "or_default")]
    pub root_fs: RootFs,
    #[serde(deserialize_with = "or_default")]
    pub metadata: ImageMetadata,
}

/// What an image says about the containers that are made from it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ImageConfig {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exposed_ports: Option<StringSet>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env: Option<Vec<String>>,
    #[serde(deserialize_with = "words", skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    #[serde(deserialize_with = "words", skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volumes: Option<StringSet>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<StringMap>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stop_signal: String,
    #[serde(skip_serializing_if = "is_false")]
    pub args_escaped: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<HealthConfig>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_build: Option<Vec<String>>,
    #[serde(deserialize_with = "words", skip_serializing_if = "Option::is_none")]
    pub shell: Option<Vec<String>>,
}

/// How the layers are stored: docker's name for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct GraphDriver {
    pub data: Option<StringMap>,
    pub name: String,
}

/// The layers of an image, by DiffID, the lowest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct RootFs {
    #[serde(rename = "Type")]
    pub kind: String,
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<String>,
}

/// What is known about an image beside its content.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ImageMetadata {
    /// RFC 3339; docker writes year 1 if the image was never tagged here.
    pub last_tag_time: String,
}

/// One item of `GET /images/{name}/history`, the newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct HistoryItem {
    pub comment: String,
    /// Seconds since 1970.
    pub created: i64,
    pub created_by: String,
    /// `<missing>` unless the step is an image of this store.
    pub id: String,
    pub size: i64,
    pub tags: Option<Vec<String>>,
}

/// One item of the answers of `DELETE /images/{name}` and of prune.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ImageDeleteItem {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deleted: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub untagged: Option<String>,
}

/// The answer of `POST /images/prune`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ImagesPruneResponse {
    pub images_deleted: Option<Vec<ImageDeleteItem>>,
    pub space_reclaimed: u64,
}

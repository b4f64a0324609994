//! nacre's own routes, under `/nacre/`.
//!
//! | route | request | answer |
//! |---|---|---|
//! | `POST /nacre/mounts` | [`MountRequest`] | 201 [`MountInfo`] |
//! | `POST /nacre/remount` | [`RemountRequest`] | 204 |
//! | `GET /nacre/mounts` | | `[MountInfo]` |
//! | `DELETE /nacre/mounts?target=…\|name=…[&lazy=1]` | | 204 |
//! | `DELETE /nacre/uppers/{name}` | | 204 |
//! | `POST /nacre/pull?source=oci:/DIR[:REF]\|docker-archive:/FILE[&platform=os/arch]` | | a progress stream; the last line's aux is a [`PullAux`] |
//! | `GET /nacre/check` | | [`CheckReport`] |
//! | `POST /nacre/reclaim` | | [`Reclaimed`] |
//! | `POST /nacre/shutdown` | | 200, or 409 [`ShutdownRefusal`] |
//! | `GET /nacre/info` | | [`NacreInfo`] |
//!
//! A mount's name stands wherever a container's does in `GET
//! /containers/{name}/changes` and `POST /commit?container=`.

use serde::{Deserialize, Serialize};

use super::or_default;

/// The body of `POST /nacre/mounts`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct MountRequest {
    /// A reference or an ID of an image in the store; empty for a name that
    /// is kept already.
    pub image: String,
    /// The container whose root to mount, instead of an image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// Where to mount: absolute. Absent: the service picks and makes a
    /// directory under `/run/nacre/mnt`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The name that the writable layer is kept under. Absent: made up. A
    /// name that is kept already is mounted again with its changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The image's own tree, which nobody can write.
    pub read_only: bool,
    /// With `read_only`: the kernel reads large files by itself.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub passthrough: bool,
    /// What holds for this mount alone, as mount(8) names it: `ro`, `nosuid`,
    /// `nodev`, `noexec`, `nosymfollow`, `noatime`, `nodiratime`,
    /// `strictatime`, and their opposites.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
    /// `os/arch[/variant]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
}

/// The body of `POST /nacre/remount`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct RemountRequest {
    /// Where it is mounted: absolute.
    pub target: String,
    /// All that hold from now on, as in [`MountRequest::options`].
    #[serde(deserialize_with = "or_default")]
    pub options: Vec<String>,
}

/// One mount of the service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct MountInfo {
    /// Empty for a read-only mount without one.
    pub name: String,
    /// Where it is mounted: absolute. Empty for a kept upper that is not
    /// mounted now.
    pub target: String,
    /// The image as it was asked for.
    pub image: String,
    #[serde(rename = "ImageID")]
    pub image_id: String,
    pub read_only: bool,
}

/// The aux value of the last line of a pull, a load or an import by nacre:
/// what names the image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PullAux {
    /// The familiar reference, if the image has one.
    #[serde(rename = "Reference", skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    #[serde(rename = "ID")]
    pub id: String,
}

/// The answer of `GET /nacre/check`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct CheckReport {
    #[serde(deserialize_with = "or_default")]
    pub checked: Vec<CheckCount>,
    /// Empty: the store is sound.
    #[serde(deserialize_with = "or_default")]
    pub faults: Vec<String>,
}

/// How many of one kind of thing were checked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct CheckCount {
    pub what: String,
    pub count: u64,
}

/// The answer of `POST /nacre/reclaim`: layer archives as received, which are
/// gone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Reclaimed {
    pub archives: u64,
    pub space_reclaimed: u64,
}

/// Why the service does not stop: the body of the 409 of `POST
/// /nacre/shutdown`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ShutdownRefusal {
    pub message: String,
    /// Each thing in use, as a user knows it: `mount /mnt/a (debian-min)`,
    /// `container web`.
    #[serde(rename = "InUse", deserialize_with = "or_default")]
    pub in_use: Vec<String>,
}

/// The answer of `GET /nacre/info`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct NacreInfo {
    pub version: String,
    /// The store's directory: absolute.
    pub root: String,
    pub pid: i64,
    /// The version of the store's format on disk.
    pub format_version: u32,
    /// Seconds without use after which the service ends; absent: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_seconds_max: Option<u64>,
    /// What is in force, by the keys of the settings file.
    #[serde(deserialize_with = "or_default")]
    pub settings: Vec<[String; 2]>,
}

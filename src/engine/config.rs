//! An image's configuration: typed access to what we use, everything else kept as it came. Never touches the store.

use std::collections::BTreeMap;

use nacre_store::{DiffId, ImageId};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use super::error::{Error, Result};

/// How to run something: the `config` object of an image and docker's `Config` of a container, field for field.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Config {
    /// Host name inside.
    #[serde(deserialize_with = "lenient")]
    pub hostname: String,
    /// Domain name inside.
    #[serde(deserialize_with = "lenient")]
    pub domainname: String,
    /// `user`, `uid`, `user:group` or `uid:gid`.
    #[serde(deserialize_with = "lenient")]
    pub user: String,
    /// The client will send standard input.
    #[serde(deserialize_with = "lenient")]
    pub attach_stdin: bool,
    /// The client wants standard output.
    #[serde(deserialize_with = "lenient")]
    pub attach_stdout: bool,
    /// The client wants standard error.
    #[serde(deserialize_with = "lenient")]
    pub attach_stderr: bool,
    /// `80/tcp` and the like, each with an empty object.
    pub exposed_ports: Option<BTreeMap<String, Value>>,
    /// A terminal instead of pipes.
    #[serde(deserialize_with = "lenient")]
    pub tty: bool,
    /// Keep standard input open without a client.
    #[serde(deserialize_with = "lenient")]
    pub open_stdin: bool,
    /// Close standard input when the first client leaves.
    #[serde(deserialize_with = "lenient")]
    pub stdin_once: bool,
    /// `NAME=value`.
    pub env: Option<Vec<String>>,
    /// The arguments, or the whole command without an entrypoint.
    #[serde(deserialize_with = "words")]
    pub cmd: Option<Vec<String>>,
    /// docker's health check, as it came.
    pub healthcheck: Option<Value>,
    /// The image as it was asked for.
    #[serde(deserialize_with = "lenient")]
    pub image: String,
    /// Places that are volumes, each with an empty object.
    pub volumes: Option<BTreeMap<String, Value>>,
    /// Where the process starts.
    #[serde(deserialize_with = "lenient")]
    pub working_dir: String,
    /// The command that `cmd` is given to.
    #[serde(deserialize_with = "words")]
    pub entrypoint: Option<Vec<String>>,
    /// Triggers for images built upon this one.
    pub on_build: Option<Vec<String>>,
    /// Labels.
    pub labels: Option<BTreeMap<String, String>>,
    /// Signal that asks the process to end.
    #[serde(deserialize_with = "lenient")]
    pub stop_signal: String,
    /// Seconds to wait after it.
    pub stop_timeout: Option<i64>,
    /// The shell of shell-form commands.
    #[serde(deserialize_with = "words")]
    pub shell: Option<Vec<String>>,
}

/// Takes `null` for the default: images of many builders write it.
fn lenient<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    from: D,
) -> std::result::Result<T, D::Error> {
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

/// Takes a list of words or, as docker does, one string for a list of one.
fn words<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<Option<Vec<String>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Words {
        One(String),
        Many(Vec<String>),
    }
    Ok(
        Option::<Words>::deserialize(from)?.map(|words| match words {
            Words::One(word) => vec![word],
            Words::Many(words) => words,
        }),
    )
}

impl Config {
    /// Returns the fields that belong into an image, without those that are empty and those of a container alone.
    fn image_fields(&self) -> Map<String, Value> {
        let mut out = Map::new();
        let mut put = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                out.insert(key.to_owned(), value);
            }
        };
        let text = |s: &String| (!s.is_empty()).then(|| Value::from(s.clone()));
        put("User", text(&self.user));
        put(
            "ExposedPorts",
            self.exposed_ports
                .as_ref()
                .filter(|m| !m.is_empty())
                .map(object),
        );
        put(
            "Env",
            self.env.clone().filter(|v| !v.is_empty()).map(Value::from),
        );
        put(
            "Entrypoint",
            self.entrypoint
                .clone()
                .filter(|v| !v.is_empty())
                .map(Value::from),
        );
        put(
            "Cmd",
            self.cmd.clone().filter(|v| !v.is_empty()).map(Value::from),
        );
        put(
            "Healthcheck",
            self.healthcheck.clone().filter(|v| !v.is_null()),
        );
        put(
            "Volumes",
            self.volumes.as_ref().filter(|m| !m.is_empty()).map(object),
        );
        put("WorkingDir", text(&self.working_dir));
        put(
            "OnBuild",
            self.on_build
                .clone()
                .filter(|v| !v.is_empty())
                .map(Value::from),
        );
        let labels = self.labels.as_ref().filter(|m| !m.is_empty());
        put(
            "Labels",
            labels.map(|m| {
                m.iter()
                    .map(|(k, v)| (k.clone(), Value::from(v.clone())))
                    .collect()
            }),
        );
        put("StopSignal", text(&self.stop_signal));
        put(
            "Shell",
            self.shell
                .clone()
                .filter(|v| !v.is_empty())
                .map(Value::from),
        );
        out
    }
}

fn object(map: &BTreeMap<String, Value>) -> Value {
    map.iter().map(|(k, v)| (k.clone(), v.clone())).collect()
}

/// One line of an image's history.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HistoryEntry {
    /// When, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// By which command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// By whom.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// It made no layer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub empty_layer: Option<bool>,
}

/// An image's configuration file: unknown fields and the order of all fields are kept.
#[derive(Clone, Debug)]
pub struct ImageConfig(Map<String, Value>);

impl ImageConfig {
    /// Parses the configuration of image `id`.
    pub fn parse(id: &ImageId, bytes: &[u8]) -> Result<ImageConfig> {
        let fail = |source| Error::Document {
            what: "configuration of image",
            name: id.to_string(),
            source,
        };
        serde_json::from_slice(bytes).map(ImageConfig).map_err(fail)
    }

    /// The configuration of an image that was made from nothing, on this machine's platform.
    pub fn scratch() -> ImageConfig {
        let (architecture, variant) = host_architecture();
        let mut root = Map::new();
        root.insert("architecture".into(), architecture.into());
        if let Some(variant) = variant {
            root.insert("variant".into(), variant.into());
        }
        root.insert("os".into(), "linux".into());
        ImageConfig(root)
    }

    /// A text field at the top, empty when it is missing.
    pub fn text(&self, key: &str) -> &str {
        self.0.get(key).and_then(Value::as_str).unwrap_or_default()
    }

    /// Sets a field at the top.
    pub fn set(&mut self, key: &str, value: impl Into<Value>) {
        self.0.insert(key.to_owned(), value.into());
    }

    /// Takes a field at the top away.
    pub fn unset(&mut self, key: &str) {
        self.0.shift_remove(key);
    }

    /// How to run the image; what does not parse counts as not there.
    pub fn config(&self) -> Config {
        self.0
            .get("config")
            .and_then(|value| Config::deserialize(value).ok())
            .unwrap_or_default()
    }

    /// Sets how to run the image; fields that we do not know stay.
    pub fn set_config(&mut self, config: &Config) {
        let known = Config::default();
        let known = serde_json::to_value(known).unwrap_or_default();
        let mut fields = match self.0.get("config") {
            Some(Value::Object(old)) => old.clone(),
            _ => Map::new(),
        };
        let new = config.image_fields();
        fields.retain(|key, _| known.get(key).is_none() || new.contains_key(key));
        fields.extend(new);
        self.set("config", Value::Object(fields));
    }

    /// The history, oldest first.
    pub fn history(&self) -> Vec<HistoryEntry> {
        self.0
            .get("history")
            .and_then(|value| Vec::deserialize(value).ok())
            .unwrap_or_default()
    }

    /// The layers' DiffIDs, bottom first; what does not parse is left out.
    pub fn diff_ids(&self) -> Vec<DiffId> {
        let ids = self
            .0
            .get("rootfs")
            .and_then(|rootfs| rootfs.get("diff_ids"))
            .and_then(Value::as_array);
        ids.into_iter()
            .flatten()
            .filter_map(|id| id.as_str()?.parse().ok())
            .collect()
    }

    /// Records one more step, and its layer if it made one.
    pub fn push(&mut self, entry: &HistoryEntry, layer: Option<&DiffId>) {
        let rootfs = self
            .0
            .entry("rootfs")
            .or_insert_with(|| Value::Object(Map::new()));
        if let Value::Object(rootfs) = rootfs {
            rootfs.entry("type").or_insert_with(|| "layers".into());
            let ids = rootfs
                .entry("diff_ids")
                .or_insert_with(|| Value::Array(Vec::new()));
            if let (Value::Array(ids), Some(layer)) = (ids, layer) {
                ids.push(layer.to_string().into());
            }
        }
        let history = self
            .0
            .entry("history")
            .or_insert_with(|| Value::Array(Vec::new()));
        if let Value::Array(history) = history {
            history.push(serde_json::to_value(entry).unwrap_or_default());
        }
    }

    /// The bytes, whose digest is the image's ID.
    pub fn to_bytes(&self) -> Vec<u8> {
        Value::Object(self.0.clone()).to_string().into_bytes()
    }
}

/// This machine's architecture as OCI names it (GOARCH and GOARM).
pub fn host_architecture() -> (&'static str, Option<&'static str>) {
    match std::env::consts::ARCH {
        "x86_64" => ("amd64", None),
        "aarch64" => ("arm64", Some("v8")),
        "arm" => ("arm", Some("v7")),
        "x86" => ("386", None),
        "powerpc64" => ("ppc64le", None),
        other => (other, None),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn image(text: &str) -> ImageConfig {
        ImageConfig(serde_json::from_str(text).unwrap())
    }

    #[test]
    fn unknown_fields_and_their_order_survive_a_change() {
        let text = r#"{"zeta":1,"config":{"X-Ours":[1],"Cmd":["sh"],"Hostname":"h"},"alpha":{"b":2,"a":1}}"#;
        let mut image = image(text);
        let mut config = image.config();
        config.cmd = Some(vec!["bash".into()]);
        image.set_config(&config);
        let out = String::from_utf8(image.to_bytes()).unwrap();
        assert_eq!(
            out,
            r#"{"zeta":1,"config":{"X-Ours":[1],"Cmd":["bash"]},"alpha":{"b":2,"a":1}}"#
        );
    }

    #[test]
    fn nulls_and_single_words_parse() {
        let config =
            image(r#"{"config":{"User":null,"Entrypoint":"/init","Env":null,"Labels":null}}"#)
                .config();
        assert_eq!(config.entrypoint, Some(vec!["/init".to_owned()]));
        assert_eq!(config.user, "");
    }

    #[test]
    fn a_step_with_a_layer_lengthens_both_lists() {
        let mut image = ImageConfig::scratch();
        let diff = DiffId(nacre_store::Digest::of(b"x"));
        image.push(
            &HistoryEntry {
                comment: Some("why".into()),
                ..HistoryEntry::default()
            },
            Some(&diff),
        );
        image.push(
            &HistoryEntry {
                empty_layer: Some(true),
                ..HistoryEntry::default()
            },
            None,
        );
        assert_eq!(image.diff_ids(), [diff]);
        assert_eq!(image.history().len(), 2);
    }
}

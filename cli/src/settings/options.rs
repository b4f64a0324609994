//! What a service can be told beside its root and socket: by flags, by variables, by the settings file. Reads the
//! file; decides nothing about what its values mean to the service.
//!
//! A flag counts more than a variable, a variable more than the file, the file more than the default. A list that is
//! given replaces the one below it whole.
//!
//! | key | flag of `nacre service` | variable |
//! |---|---|---|
//! | `root`, `host` | `--root`, `-H` (of every command) | `NACRE_ROOT`, `NACRE_HOST` |
//! | `idle-seconds` | `--idle` | `NACRE_IDLE_SECONDS` |
//! | `insecure-registries` | `--insecure-registry` | `NACRE_INSECURE_REGISTRIES` |
//! | `certs-dirs` | `--certs-dir` | `NACRE_CERTS_DIRS` |
//! | `[[mirror]]` | `--mirror` | `NACRE_MIRRORS` |
//! | `http-proxy`, `https-proxy`, `no-proxy` | the same | `HTTP_PROXY`, `HTTPS_PROXY`, `NO_PROXY`, or small |
//! | `connect-seconds`, `stall-seconds` | the same | `NACRE_CONNECT_SECONDS`, `NACRE_STALL_SECONDS` |
//! | `request-attempts`, `blob-attempts` | the same | `NACRE_REQUEST_ATTEMPTS`, `NACRE_BLOB_ATTEMPTS` |
//! | `layers-at-once` | the same | `NACRE_LAYERS_AT_ONCE` |
//! | `[limits]` | `--limit` | `NACRE_LIMITS` |
//! | `keep-archives` | the same | `NACRE_KEEP_ARCHIVES` |
//! | `cache-bytes` | the same | `NACRE_CACHE_BYTES` |

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::{Error, Result};

/// The settings file that is read where none is named.
const FILE_DEFAULT: &str = "/etc/nacre/nacre.toml";

/// What was given; what was not is `None` or empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct ServiceOptions {
    /// The file that was read.
    #[serde(skip)]
    pub file: Option<PathBuf>,
    pub(crate) root: Option<PathBuf>,
    pub(crate) host: Option<String>,
    /// Seconds without use after which the service ends; 0: never.
    pub idle_seconds: Option<u64>,
    /// `HOST`, `HOST:PORT` or a network as `10.0.0.0/8`.
    pub insecure_registries: Vec<String>,
    /// Directories in the layout of docker's certs.d.
    pub certs_dirs: Vec<PathBuf>,
    /// Where images are looked for before their own registry.
    pub mirror: Vec<MirrorRule>,
    /// The proxy for `http://`; empty: none.
    pub http_proxy: Option<String>,
    /// The proxy for `https://`; empty: none.
    pub https_proxy: Option<String>,
    /// Hosts that are reached without a proxy, separated by commas.
    pub no_proxy: Option<String>,
    /// Seconds until a connection to a registry must stand.
    pub connect_seconds: Option<u64>,
    /// Seconds without a byte before an exchange counts as broken.
    pub stall_seconds: Option<u64>,
    /// How often a short request is sent.
    pub request_attempts: Option<u32>,
    /// How often a blob's transfer is taken up again without having come further.
    pub blob_attempts: Option<u32>,
    /// Layers of one image that are fetched at once.
    pub layers_at_once: Option<u32>,
    /// Whether compressed layers are kept as they were received.
    pub keep_archives: Option<bool>,
    /// What the service keeps in memory of what it read from its database.
    pub cache_bytes: Option<u64>,
    /// What an archive may ask for.
    pub limits: BTreeMap<Limit, u64>,
}

/// Where the images under a prefix are looked for first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct MirrorRule {
    /// A registry, or a registry and the beginning of a path: `docker.io/library`.
    pub prefix: String,
    /// What stands in its place, in order: `10.0.0.1:5000/hub`, `http://mirror.lan`.
    pub locations: Vec<String>,
}

/// A limit on what comes from elsewhere, most of them on archives: the names of [`ServiceOptions::limits`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(
    missing_docs,
    reason = "nacre-store's Limits says what each means; the last two are a registry's"
)]
pub enum Limit {
    LayerBytes,
    InflateRatio,
    InflateGraceBytes,
    Entries,
    ExtensionBytes,
    GlobalBytes,
    UnplacedBytes,
    PathDepth,
    XattrBytes,
    XattrsBytes,
    SparseExtents,
    ManifestBytes,
    Layers,
}

impl Limit {
    /// The name in the settings file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::LayerBytes => "layer-bytes",
            Self::InflateRatio => "inflate-ratio",
            Self::InflateGraceBytes => "inflate-grace-bytes",
            Self::Entries => "entries",
            Self::ExtensionBytes => "extension-bytes",
            Self::GlobalBytes => "global-bytes",
            Self::UnplacedBytes => "unplaced-bytes",
            Self::PathDepth => "path-depth",
            Self::XattrBytes => "xattr-bytes",
            Self::XattrsBytes => "xattrs-bytes",
            Self::SparseExtents => "sparse-extents",
            Self::ManifestBytes => "manifest-bytes",
            Self::Layers => "layers",
        }
    }
}

impl ServiceOptions {
    /// Reads the settings file: the one that was named, which must be there, or the default one, which need not.
    pub(crate) fn read(named: Option<&Path>) -> Result<Self> {
        let path = named.unwrap_or(Path::new(FILE_DEFAULT));
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if named.is_none() && error.kind() == ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            Err(error) => {
                let what = format!("cannot read the settings file {}", path.display());
                return Err(Error::io(what, error));
            }
        };
        let mut options = Self::parse(&text)
            .map_err(|(line, what)| Error::said(format!("{}:{line}: {what}", path.display())))?;
        options.file = Some(super::absolute(path)?);
        Ok(options)
    }

    /// Reads the text of a settings file; an error comes with its line.
    fn parse(text: &str) -> std::result::Result<Self, (usize, String)> {
        let options: Self = toml::from_str(text).map_err(|error| {
            let start = error.span().map_or(0, |span| span.start);
            let line = text.bytes().take(start).filter(|b| *b == b'\n').count() + 1;
            let what = error.message().replace('\n', "; ");
            // Not every message names its key; the value may be a secret.
            let key = text.lines().nth(line.saturating_sub(1));
            match key.and_then(|key| key.split_once('=')) {
                Some((key, _)) => (line, format!("{}: {what}", key.trim())),
                None => (line, what),
            }
        })?;
        Ok(options)
    }

    /// Puts what counts more over these.
    #[must_use]
    pub(crate) fn under(self, over: Self) -> Self {
        fn list<T>(over: Vec<T>, below: Vec<T>) -> Vec<T> {
            if over.is_empty() { below } else { over }
        }
        let mut limits = self.limits;
        limits.extend(over.limits);
        Self {
            file: over.file.or(self.file),
            root: over.root.or(self.root),
            host: over.host.or(self.host),
            idle_seconds: over.idle_seconds.or(self.idle_seconds),
            insecure_registries: list(over.insecure_registries, self.insecure_registries),
            certs_dirs: list(over.certs_dirs, self.certs_dirs),
            mirror: list(over.mirror, self.mirror),
            http_proxy: over.http_proxy.or(self.http_proxy),
            https_proxy: over.https_proxy.or(self.https_proxy),
            no_proxy: over.no_proxy.or(self.no_proxy),
            connect_seconds: over.connect_seconds.or(self.connect_seconds),
            stall_seconds: over.stall_seconds.or(self.stall_seconds),
            request_attempts: over.request_attempts.or(self.request_attempts),
            blob_attempts: over.blob_attempts.or(self.blob_attempts),
            layers_at_once: over.layers_at_once.or(self.layers_at_once),
            keep_archives: over.keep_archives.or(self.keep_archives),
            cache_bytes: over.cache_bytes.or(self.cache_bytes),
            limits,
        }
    }

    /// What the environment says.
    pub(crate) fn of_environment(variable: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let words = |name: &str| -> Vec<String> {
            let text = variable(name).unwrap_or_default();
            text.split(',')
                .map(str::trim)
                .filter(|word| !word.is_empty())
                .map(str::to_owned)
                .collect()
        };
        let either = |name: &str| {
            let small = variable(&name.to_lowercase());
            variable(name).or(small).filter(|text| !text.is_empty())
        };
        let mirrors = variable("NACRE_MIRRORS").unwrap_or_default();
        let mirrors = mirrors
            .split(';')
            .map(str::trim)
            .filter(|rule| !rule.is_empty());
        let limits = words("NACRE_LIMITS").into_iter();
        let limits = limits.map(|word| limit(&word));
        Ok(Self {
            idle_seconds: number(&variable, "NACRE_IDLE_SECONDS")?,
            connect_seconds: number(&variable, "NACRE_CONNECT_SECONDS")?,
            stall_seconds: number(&variable, "NACRE_STALL_SECONDS")?,
            request_attempts: number(&variable, "NACRE_REQUEST_ATTEMPTS")?,
            blob_attempts: number(&variable, "NACRE_BLOB_ATTEMPTS")?,
            layers_at_once: number(&variable, "NACRE_LAYERS_AT_ONCE")?,
            cache_bytes: number(&variable, "NACRE_CACHE_BYTES")?,
            limits: limits
                .collect::<std::result::Result<_, _>>()
                .map_err(|what| Error::said(format!("NACRE_LIMITS: {what}")))?,
            insecure_registries: words("NACRE_INSECURE_REGISTRIES"),
            certs_dirs: words("NACRE_CERTS_DIRS")
                .into_iter()
                .map(PathBuf::from)
                .collect(),
            mirror: mirrors
                .map(mirror_rule)
                .collect::<std::result::Result<_, _>>()
                .map_err(|what| Error::said(format!("NACRE_MIRRORS: {what}")))?,
            http_proxy: either("HTTP_PROXY"),
            https_proxy: either("HTTPS_PROXY"),
            no_proxy: either("NO_PROXY"),
            keep_archives: variable("NACRE_KEEP_ARCHIVES")
                .filter(|text| !text.is_empty())
                .map(|text| text.parse())
                .transpose()
                .map_err(|_| Error::said("NACRE_KEEP_ARCHIVES: not true or false"))?,
            ..Self::default()
        })
    }
}

/// The number that a variable holds; none where it is not set or empty.
fn number<T: std::str::FromStr>(
    variable: impl Fn(&str) -> Option<String>,
    name: &str,
) -> Result<Option<T>> {
    let text = variable(name).unwrap_or_default();
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    match text.parse() {
        Ok(number) => Ok(Some(number)),
        Err(_) => Err(Error::said(format!("{name}: {text:?} is not a number"))),
    }
}

/// Reads `PREFIX=LOCATION[,LOCATION]`.
pub(crate) fn mirror_rule(text: &str) -> std::result::Result<MirrorRule, String> {
    let bad = || format!("{text:?} is not PREFIX=LOCATION[,LOCATION...]");
    let (prefix, locations) = text.split_once('=').ok_or_else(bad)?;
    let locations: Vec<String> = locations
        .split(',')
        .map(|location| location.trim().to_owned())
        .collect();
    if prefix.trim().is_empty() || locations.iter().any(String::is_empty) {
        return Err(bad());
    }
    Ok(MirrorRule {
        prefix: prefix.trim().to_owned(),
        locations,
    })
}

/// Reads `NAME=NUMBER`.
pub(crate) fn limit(text: &str) -> std::result::Result<(Limit, u64), String> {
    use serde::de::IntoDeserializer;
    use serde::de::value::{Error as Wrong, StrDeserializer};
    let (name, number) = text
        .split_once('=')
        .ok_or_else(|| format!("{text:?} is not NAME=NUMBER"))?;
    let by_name: StrDeserializer<'_, Wrong> = name.into_deserializer();
    let limit = Limit::deserialize(by_name).map_err(|error| error.to_string())?;
    let number = number
        .parse()
        .map_err(|_| format!("{number:?} is not a number"))?;
    Ok((limit, number))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    /// Every key there is.
    const ALL: &str = r#"
root = "/srv/nacre"
host = "unix:///run/n.sock"
idle-seconds = 5
insecure-registries = ["10.0.0.0/8", "r.lan:5000"]
certs-dirs = ["/etc/certs"]
http-proxy = "http://p:1"
https-proxy = "http://p:2"
no-proxy = "a,b"
connect-seconds = 1
stall-seconds = 2
request-attempts = 3
blob-attempts = 4
layers-at-once = 5
keep-archives = false
cache-bytes = 6

[[mirror]]
prefix = "docker.io/library"
locations = ["m:5000/hub", "http://n"]

[limits]
layer-bytes = 1
inflate-ratio = 2
inflate-grace-bytes = 3
entries = 4
extension-bytes = 5
global-bytes = 6
unplaced-bytes = 7
path-depth = 8
xattr-bytes = 9
xattrs-bytes = 10
sparse-extents = 11
manifest-bytes = 12
layers = 13
"#;

    #[test]
    fn every_key_is_read() {
        let all = ServiceOptions::parse(ALL).unwrap();
        assert_eq!(all.root.as_deref(), Some(Path::new("/srv/nacre")));
        assert_eq!(
            all.mirror.first().unwrap().locations,
            ["m:5000/hub", "http://n"]
        );
        assert_eq!(all.keep_archives, Some(false));
        assert_eq!(all.limits.len(), 13);
        for (limit, number) in &all.limits {
            assert!(ALL.contains(&format!("{} = {number}\n", limit.name())));
        }
        assert_eq!(all.limits.get(&Limit::PathDepth), Some(&8));
        // Nothing of it is lost below something that says nothing.
        assert_eq!(all.clone().under(ServiceOptions::default()), all);
        assert_eq!(ServiceOptions::default().under(all.clone()), all);
    }

    #[test]
    fn a_bad_key_or_value_is_named_with_its_line() {
        for (text, line, word) in [
            ("root = \"/a\"\nrot = 1\n", 2, "`rot`"),
            ("\n\n[limits]\nentrys = 1\n", 4, "`entrys`"),
            (
                "[[mirror]]\nprefix = \"a\"\nlocation = []\n",
                3,
                "`location`",
            ),
            ("idle-seconds = \"soon\"\n", 1, "idle-seconds: "),
            ("root = \n", 1, "root: "),
            ("root = \"/a\"\nroot = \"/b\"\n", 2, "root: duplicate"),
        ] {
            let (found, what) = ServiceOptions::parse(text).unwrap_err();
            assert_eq!(found, line, "{text:?}: {what}");
            assert!(what.contains(word), "{text:?}: {what}");
        }
    }

    #[test]
    fn a_named_file_must_exist_and_errors_name_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("n.toml");
        let missing = ServiceOptions::read(Some(&path)).unwrap_err().to_string();
        assert!(missing.contains(path.to_str().unwrap()), "{missing}");
        fs::write(&path, "\nx = 1\n").unwrap();
        let bad = ServiceOptions::read(Some(&path)).unwrap_err().to_string();
        assert!(bad.starts_with(&format!("{}:2: ", path.display())), "{bad}");
        fs::write(&path, "idle-seconds = 3\n").unwrap();
        let read = ServiceOptions::read(Some(&path)).unwrap();
        assert_eq!((read.idle_seconds, read.file), (Some(3), Some(path)));
    }

    #[test]
    fn variables_count_more_than_the_file() {
        let file = ServiceOptions::parse(ALL).unwrap();
        let environment = ServiceOptions::of_environment(|name| {
            let value = match name {
                "NACRE_INSECURE_REGISTRIES" => "a:1, b",
                "NACRE_MIRRORS" => "docker.io=x,y; q.io=z",
                "https_proxy" => "http://small",
                "NO_PROXY" => "",
                "NACRE_IDLE_SECONDS" => "71",
                "NACRE_CONNECT_SECONDS" => "72",
                "NACRE_STALL_SECONDS" => " 73 ",
                "NACRE_REQUEST_ATTEMPTS" => "74",
                "NACRE_BLOB_ATTEMPTS" => "75",
                "NACRE_LAYERS_AT_ONCE" => "",
                "NACRE_LIMITS" => "entries=76, path-depth=77",
                "NACRE_KEEP_ARCHIVES" => "true",
                "NACRE_CACHE_BYTES" => "78",
                _ => return None,
            };
            Some(value.to_owned())
        })
        .unwrap();
        let all = file.under(environment);
        assert_eq!(all.insecure_registries, ["a:1", "b"]);
        assert_eq!(all.certs_dirs, [PathBuf::from("/etc/certs")]);
        assert_eq!(all.mirror.len(), 2);
        assert_eq!(all.https_proxy.as_deref(), Some("http://small"));
        assert_eq!(all.no_proxy.as_deref(), Some("a,b"));
        assert_eq!(
            (all.idle_seconds, all.connect_seconds),
            (Some(71), Some(72))
        );
        assert_eq!(
            (all.stall_seconds, all.request_attempts),
            (Some(73), Some(74))
        );
        assert_eq!((all.blob_attempts, all.layers_at_once), (Some(75), Some(5)));
        assert_eq!(all.limits.get(&Limit::Entries), Some(&76));
        assert_eq!(all.limits.get(&Limit::PathDepth), Some(&77));
        assert_eq!(all.limits.get(&Limit::XattrBytes), Some(&9));
        assert_eq!((all.keep_archives, all.cache_bytes), (Some(true), Some(78)));
    }

    #[test]
    fn a_variable_that_makes_no_sense_is_named() {
        for (set, value) in [
            ("NACRE_STALL_SECONDS", "soon"),
            ("NACRE_BLOB_ATTEMPTS", "-1"),
            ("NACRE_LAYERS_AT_ONCE", "99999999999"),
            ("NACRE_LIMITS", "entries"),
            ("NACRE_LIMITS", "entrys=1"),
            ("NACRE_KEEP_ARCHIVES", "perhaps"),
        ] {
            let read =
                ServiceOptions::of_environment(|name| (name == set).then(|| value.to_owned()));
            let error = read.unwrap_err().to_string();
            assert!(error.starts_with(&format!("{set}: ")), "{error}");
        }
    }

    #[test]
    fn rules_and_limits_are_checked() {
        assert_eq!(limit("entries=7"), Ok((Limit::Entries, 7)));
        for bad in ["entries", "entries=x", "entry=1", "=1"] {
            assert!(limit(bad).is_err(), "{bad}");
        }
        assert_eq!(mirror_rule("a=b,c").unwrap().locations, ["b", "c"]);
        for bad in ["a", "=b", "a=", "a=b,"] {
            assert!(mirror_rule(bad).is_err(), "{bad}");
        }
    }
}

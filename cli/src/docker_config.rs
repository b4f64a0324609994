//! Where docker keeps credentials, for writing: `config.json` and the helpers that it names. All other keys of the file
//! stay as they are.

use std::fs::{self, Permissions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize as _;
use serde_json::ser::{PrettyFormatter, Serializer};
use serde_json::{Map, Value, json};

use crate::error::{Error, Result};

/// The key under which docker keeps docker.io's credentials.
pub(crate) const HUB: &str = "https://index.docker.io/v1/";

/// The name under which helpers keep an identity token (docker-credential-helpers).
const TOKEN_USER: &str = "<token>";

/// docker's configuration file.
pub(crate) struct DockerConfig {
    path: PathBuf,
    content: Map<String, Value>,
}

/// What is kept for one server.
pub(crate) enum Secret<'a> {
    Password {
        username: &'a str,
        password: &'a str,
    },
    IdentityToken {
        username: &'a str,
        token: &'a str,
    },
}

/// Where something was kept.
pub(crate) enum Kept {
    /// In a helper, or in the file as it was before.
    Quietly,
    /// In this file, readable for who can read the file.
    File(PathBuf),
}

impl DockerConfig {
    /// Reads `$DOCKER_CONFIG/config.json`, else `~/.docker/config.json`; it need not exist.
    pub(crate) fn read() -> Result<Self> {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let dir = set("DOCKER_CONFIG").map(PathBuf::from);
        let dir = dir.or_else(|| set("HOME").map(|home| PathBuf::from(home).join(".docker")));
        let dir = dir.ok_or_else(|| {
            Error::said("cannot find docker's config.json: neither DOCKER_CONFIG nor HOME is set")
        })?;
        Self::read_at(dir.join("config.json"))
    }

    fn read_at(path: PathBuf) -> Result<Self> {
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => b"{}".to_vec(),
            Err(error) => return Err(Error::io(path.display().to_string(), error)),
        };
        match serde_json::from_slice(&text) {
            Ok(Value::Object(content)) => Ok(Self { path, content }),
            Ok(_) => Err(Error::said(format!("{} is no JSON object", path.display()))),
            Err(error) => Err(Error::said(format!(
                "cannot read {}: {error}",
                path.display()
            ))),
        }
    }

    /// The helper that keeps the credentials of a server: its own, else the one for all.
    fn helper(&self, server: &str) -> Option<&str> {
        let own = self
            .content
            .get("credHelpers")
            .and_then(|all| all.get(server));
        let helper = own.or_else(|| self.content.get("credsStore"));
        helper?.as_str().filter(|name| !name.is_empty())
    }

    /// Keeps credentials.
    pub(crate) fn store(&mut self, server: &str, secret: &Secret<'_>) -> Result<Kept> {
        if let Some(helper) = self.helper(server) {
            let (username, secret) = match secret {
                Secret::Password { username, password } => (*username, *password),
                Secret::IdentityToken { token, .. } => (TOKEN_USER, *token),
            };
            let document = json!({"ServerURL": server, "Username": username, "Secret": secret});
            ask(helper, "store", &document.to_string())?;
            // As docker does: the file says for which servers the helper has something.
            self.auths()?.insert(server.to_owned(), json!({}));
            self.write()?;
            return Ok(Kept::Quietly);
        }
        let entry = match secret {
            Secret::Password { username, password } => {
                json!({"auth": STANDARD.encode(format!("{username}:{password}"))})
            }
            Secret::IdentityToken { username, token } => {
                json!({"auth": STANDARD.encode(format!("{username}:")), "identitytoken": token})
            }
        };
        if self.auths()?.get(server) == Some(&entry) {
            return Ok(Kept::Quietly);
        }
        self.auths()?.insert(server.to_owned(), entry);
        self.write()?;
        Ok(Kept::File(self.path.clone()))
    }

    /// Forgets what is kept under any of these names for one server.
    pub(crate) fn erase(&mut self, names: &[String]) -> Result<()> {
        let mut found = false;
        for name in names {
            if let Some(helper) = self.helper(name) {
                ask(helper, "erase", name)?;
            }
            if self.content.contains_key("auths") {
                found |= self.auths()?.shift_remove(name).is_some();
            }
        }
        if found { self.write() } else { Ok(()) }
    }

    fn auths(&mut self) -> Result<&mut Map<String, Value>> {
        let path = self.path.display().to_string();
        let auths = self.content.entry("auths").or_insert_with(|| json!({}));
        auths
            .as_object_mut()
            .ok_or_else(|| Error::said(format!("\"auths\" in {path} is no JSON object")))
    }

    /// Puts the file in place whole; where it is a link, what it leads to.
    fn write(&self) -> Result<()> {
        let target = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let failed = |error| Error::io(target.display().to_string(), error);
        let dir = target.parent().unwrap_or(Path::new("/"));
        make_private(dir).map_err(failed)?;
        let mut file = tempfile::NamedTempFile::new_in(dir).map_err(failed)?;
        let mut text = Vec::new();
        let mut writer = Serializer::with_formatter(&mut text, PrettyFormatter::with_indent(b"\t"));
        self.content
            .serialize(&mut writer)
            .map_err(|error| failed(error.into()))?;
        let mode = fs::metadata(&target).map_or(0o600, |meta| meta.permissions().mode() & 0o777);
        file.write_all(&text)
            .and_then(|()| file.as_file().set_permissions(Permissions::from_mode(mode)))
            .and_then(|()| file.as_file().sync_all())
            .map_err(failed)?;
        file.persist(&target).map_err(|error| failed(error.error))?;
        let dir = fs::File::open(dir).map_err(failed)?;
        dir.sync_all().map_err(failed)
    }
}

fn make_private(dir: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
}

/// Asks `docker-credential-NAME` to do something with what is written to it.
fn ask(name: &str, verb: &str, input: &str) -> Result<()> {
    let program = format!("docker-credential-{name}");
    // A path would name a program that no helper is.
    if name.contains('/') {
        return Err(Error::said(format!(
            "{name:?} is no name of a credential helper"
        )));
    }
    let failed = |error| Error::io(format!("credential helper {program}"), error);
    let mut child = Command::new(&program)
        .arg(verb)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A helper that does not read says why by its exit.
        stdin.write_all(input.as_bytes()).unwrap_or_default();
    }
    let output = child.wait_with_output().map_err(failed)?;
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if output.status.success() || verb == "erase" && said.contains("credentials not found") {
        return Ok(());
    }
    let words = match said.is_empty() {
        true => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        false => said,
    };
    Err(Error::said(format!("{program} {verb}: {words}")))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn at(path: &Path) -> DockerConfig {
        DockerConfig::read_at(path.to_owned()).unwrap()
    }

    const ME: Secret<'_> = Secret::Password {
        username: "me",
        password: "p:w",
    };

    #[test]
    fn other_keys_links_and_modes_stay() {
        let dir = tempfile::tempdir().unwrap();
        let (real, link) = (dir.path().join("real.json"), dir.path().join("config.json"));
        fs::write(&real, r#"{"z":1,"auths":{"b":{"auth":"x"}},"a":{"k":[2]}}"#).unwrap();
        fs::set_permissions(&real, Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink("real.json", &link).unwrap();
        at(&link).store("r:5000", &ME).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(
            fs::metadata(&real).unwrap().permissions().mode() & 0o777,
            0o640
        );
        let text = fs::read_to_string(&real).unwrap();
        let expected = "{\n\t\"z\": 1,\n\t\"auths\": {\n\t\t\"b\": {\n\t\t\t\"auth\": \"x\"\n\t\t},\n\t\t\"r:5000\": \
                        {\n\t\t\t\"auth\": \"bWU6cDp3\"\n\t\t}\n\t},\n\t\"a\": {\n\t\t\"k\": [\n\t\t\t2\n\t\t]\n\t}\n}";
        assert_eq!(text, expected);
        at(&link).erase(&["r:5000".to_owned()]).unwrap();
        assert!(!fs::read_to_string(&real).unwrap().contains("r:5000"));
        assert!(fs::read_to_string(&real).unwrap().contains("\"b\""));
    }

    #[test]
    fn a_new_file_is_the_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/config.json");
        let token = Secret::IdentityToken {
            username: "me",
            token: "t",
        };
        at(&path).store("r", &token).unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert!(
            fs::read_to_string(&path)
                .unwrap()
                .contains("\"identitytoken\": \"t\"")
        );
        // Nothing to forget: nothing is written.
        at(&dir.path().join("none.json"))
            .erase(&["r".to_owned()])
            .unwrap();
        assert!(!dir.path().join("none.json").exists());
    }

    #[test]
    fn a_broken_file_is_not_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        for text in ["{", "[]"] {
            fs::write(&path, text).unwrap();
            assert!(DockerConfig::read_at(path.clone()).is_err());
        }
        fs::write(&path, r#"{"auths":1}"#).unwrap();
        assert!(at(&path).store("r", &ME).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), r#"{"auths":1}"#);
    }

    #[test]
    fn the_servers_own_helper_counts_more_than_the_one_for_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        fs::write(&path, r#"{"credsStore":"all","credHelpers":{"r":"own"}}"#).unwrap();
        assert_eq!(at(&path).helper("r"), Some("own"));
        assert_eq!(at(&path).helper("s"), Some("all"));
        let error = ask("../x", "store", "").unwrap_err().to_string();
        assert!(error.contains("no name of a credential helper"), "{error}");
    }
}

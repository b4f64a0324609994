//! Credentials that the user's own files and helpers hold, for reading. Blocks (helpers are processes).

use std::ffi::OsString;
use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;

use docker_credential::{CredentialRetrievalError, DockerCredential};

use crate::api::AuthConfig;
use crate::docker_config::HUB;
use crate::reference::DEFAULT_DOMAIN;

/// What is wrong with the user's configuration.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the credentials for {registry}: {source}")]
pub struct UnusableConfig {
    registry: String,
    #[source]
    source: CredentialRetrievalError,
}

/// Reads the credentials for a registry from docker's config.json (`DOCKER_CONFIG`, else `~/.docker`), its helpers
/// included, then from podman's auth.json (containers-auth.json(5)). None where neither knows the registry.
pub fn credentials(domain: &str) -> Result<Option<AuthConfig>, UnusableConfig> {
    let unusable = |source| UnusableConfig {
        registry: domain.to_owned(),
        source,
    };
    let named = |mut found: AuthConfig| {
        domain.clone_into(&mut found.serveraddress);
        Some(found)
    };
    let key = if domain == DEFAULT_DOMAIN {
        HUB
    } else {
        domain
    };
    if let Some(found) = known(docker_credential::get_credential(key)).map_err(unusable)? {
        return Ok(named(found));
    }
    for path in auth_files(
        |name| std::env::var_os(name),
        rustix::process::getuid().as_raw(),
    ) {
        let Ok(file) = File::open(path) else {
            continue;
        };
        let read = docker_credential::get_credential_from_reader(BufReader::new(file), domain);
        if let Some(found) = known(read).map_err(unusable)? {
            return Ok(named(found));
        }
    }
    Ok(None)
}

/// Where podman keeps credentials, the first one first: the file that is named, alone, or those of the session and of the
/// user.
fn auth_files(variable: impl Fn(&str) -> Option<OsString>, user: u32) -> Vec<PathBuf> {
    let set = |name| {
        let value = variable(name).filter(|value| !value.is_empty());
        value.map(PathBuf::from)
    };
    if let Some(named) = set("REGISTRY_AUTH_FILE") {
        return vec![named];
    }
    let session = set("XDG_RUNTIME_DIR").map(|dir| dir.join("containers"));
    let session = session.unwrap_or_else(|| PathBuf::from(format!("/run/containers/{user}")));
    let config = set("XDG_CONFIG_HOME").or_else(|| Some(set("HOME")?.join(".config")));
    let config = config.map(|dir| dir.join("containers"));
    let folders = [Some(session), config].into_iter().flatten();
    folders.map(|dir| dir.join("auth.json")).collect()
}

/// What a file or a helper has, if it has anything.
fn known(
    read: Result<DockerCredential, CredentialRetrievalError>,
) -> Result<Option<AuthConfig>, CredentialRetrievalError> {
    match read {
        Ok(DockerCredential::IdentityToken(identitytoken)) => Ok(Some(AuthConfig {
            identitytoken,
            ..AuthConfig::default()
        })),
        Ok(DockerCredential::UsernamePassword(username, password)) if !username.is_empty() => {
            Ok(Some(AuthConfig {
                username,
                password,
                ..AuthConfig::default()
            }))
        }
        Ok(DockerCredential::UsernamePassword(..)) => Ok(None),
        Err(error) if means_none(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether the error only says that there are no credentials; a helper says so in words on its output.
fn means_none(error: &CredentialRetrievalError) -> bool {
    match error {
        CredentialRetrievalError::NoCredentialConfigured
        | CredentialRetrievalError::ConfigNotFound
        | CredentialRetrievalError::ConfigReadError => true,
        CredentialRetrievalError::HelperFailure { stdout, stderr, .. } => {
            stdout.contains("credentials not found") || stderr.contains("credentials not found")
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(variables: &[(&str, &str)]) -> Vec<String> {
        let variable = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| OsString::from(value))
        };
        let files = auth_files(variable, 7).into_iter();
        files.map(|path| path.display().to_string()).collect()
    }

    #[test]
    fn podmans_files_are_asked_in_its_order() {
        assert_eq!(
            files(&[("HOME", "/h")]),
            [
                "/run/containers/7/auth.json",
                "/h/.config/containers/auth.json"
            ]
        );
        assert_eq!(
            files(&[
                ("HOME", "/h"),
                ("XDG_RUNTIME_DIR", "/r"),
                ("XDG_CONFIG_HOME", "/c")
            ]),
            ["/r/containers/auth.json", "/c/containers/auth.json"]
        );
        assert_eq!(
            files(&[("REGISTRY_AUTH_FILE", "/a"), ("HOME", "/h")]),
            ["/a"]
        );
    }
}

//! Credentials that the user's own files and helpers hold. Blocks (helpers are processes): never called from async code.

use docker_credential::{CredentialRetrievalError, DockerCredential};

use super::auth::Credentials;
use crate::reference::DEFAULT_DOMAIN;

/// The key under which docker keeps docker.io's credentials.
const DEFAULT_DOMAIN_KEY: &str = "https://index.docker.io/v1/";

/// What is wrong with the user's configuration.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the credentials for {registry}: {source}")]
pub struct UnusableConfig {
    registry: String,
    #[source]
    source: CredentialRetrievalError,
}

/// Reads the credentials for a registry from docker's config.json (`DOCKER_CONFIG`, else `~/.docker`), its helpers
/// included, then from podman's auth.json. Anonymous where neither knows the registry.
pub fn for_registry(domain: &str) -> Result<Credentials, UnusableConfig> {
    let key = if domain == DEFAULT_DOMAIN {
        DEFAULT_DOMAIN_KEY
    } else {
        domain
    };
    let readers = [
        docker_credential::get_credential,
        docker_credential::get_podman_credential,
    ];
    for read in readers {
        match read(key) {
            Ok(DockerCredential::IdentityToken(token)) => {
                return Ok(Credentials::IdentityToken(token));
            }
            Ok(DockerCredential::UsernamePassword(username, password)) if !username.is_empty() => {
                return Ok(Credentials::Basic { username, password });
            }
            Ok(DockerCredential::UsernamePassword(..)) => {}
            Err(error) if means_none(&error) => {}
            Err(source) => {
                return Err(UnusableConfig {
                    registry: domain.to_owned(),
                    source,
                });
            }
        }
    }
    Ok(Credentials::Anonymous)
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

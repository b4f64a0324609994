//! Credentials as docker writes them, and where the user keeps them. Blocks (helpers are processes): never called from async code.

use base64::Engine as _;
use nacre_cli::UnusableConfig;
use nacre_cli::api::AuthConfig;

use super::auth::Credentials;

/// The credentials for a registry where docker or podman keeps them; anonymous where neither knows it.
pub fn for_registry(domain: &str) -> Result<Credentials, UnusableConfig> {
    let found = nacre_cli::credentials(domain)?;
    Ok(found.and_then(of_docker).unwrap_or_default())
}

/// What credentials in docker's form say; `None` if they are garbage.
pub fn of_docker(auth: AuthConfig) -> Option<Credentials> {
    let mut credentials = Credentials::Anonymous;
    if !auth.username.is_empty() {
        credentials = Credentials::Basic {
            username: auth.username,
            password: auth.password,
        };
    } else if !auth.auth.is_empty() {
        let plain = base64::engine::general_purpose::STANDARD
            .decode(&auth.auth)
            .ok()?;
        let plain = String::from_utf8(plain).ok()?;
        let (username, password) = plain.split_once(':')?;
        credentials = Credentials::Basic {
            username: username.to_owned(),
            password: password.to_owned(),
        };
    }
    if !auth.identitytoken.is_empty() {
        credentials = Credentials::IdentityToken(auth.identitytoken);
    }
    if !auth.registrytoken.is_empty() {
        credentials = Credentials::RegistryToken(auth.registrytoken);
    }
    Some(credentials)
}

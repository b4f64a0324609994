//! The user's registry credentials, for the command line: read where docker keeps them.

use nacre_cli::api::AuthConfig;

use crate::registry::{Credentials, credentials};

/// Finds the credentials for a registry; none where there are none, or where they cannot be read.
pub fn find(registry: &str) -> Option<AuthConfig> {
    let found = credentials::for_registry(registry).ok()?;
    let mut auth = AuthConfig {
        serveraddress: registry.to_owned(),
        ..AuthConfig::default()
    };
    match found {
        Credentials::Anonymous => return None,
        Credentials::Basic { username, password } => {
            auth.username = username;
            auth.password = password;
        }
        Credentials::IdentityToken(token) => auth.identitytoken = token,
        Credentials::RegistryToken(token) => auth.registrytoken = token,
    }
    Some(auth)
}

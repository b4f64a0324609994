//! What a command works with: the client, the settings, the hooks.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;

use crate::api::{NacreInfo, REGISTRY_AUTH_HEADER};
use crate::client::{Call, Client, Connector, Route};
use crate::error::{Error, Result};
use crate::settings::{Hooks, Settings};

/// One run of the command line.
pub(crate) struct Session {
    pub(crate) client: Client,
    pub(crate) settings: Settings,
    pub(crate) hooks: Hooks,
}

impl Session {
    pub(crate) fn new(settings: Settings, hooks: Hooks) -> Self {
        Self {
            client: Client::new(Connector::new(settings.clone(), hooks)),
            settings,
            hooks,
        }
    }

    /// Adds the credentials for a registry to a request; without any, the
    /// header says so.
    pub(crate) fn with_credentials(&self, call: Call, registry: &str) -> Result<Call> {
        let auth = (self.hooks.credentials)(registry).unwrap_or_default();
        let json = serde_json::to_vec(&auth).map_err(|source| Error::Answer {
            what: format!("the credentials for {registry}"),
            source,
        })?;
        Ok(call.header(REGISTRY_AUTH_HEADER, URL_SAFE.encode(json)))
    }

    /// Makes sure that the service serves the root that was named, where both
    /// the root and the socket were.
    pub(crate) async fn verify_root(&self) -> Result<()> {
        if !(self.settings.root_given && self.settings.socket_given) {
            return Ok(());
        }
        let info: NacreInfo = match self.client.get(Route::nacre(&["info"])).await {
            Ok(info) => info,
            // Another engine's socket has no such route, and no such root.
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => return Err(error),
        };
        let serves = PathBuf::from(&info.root);
        if same(&serves, &self.settings.root) {
            return Ok(());
        }
        Err(Error::OtherRoot {
            socket: self.settings.socket.clone(),
            serves,
            wanted: self.settings.root.clone(),
        })
    }
}

fn same(a: &Path, b: &Path) -> bool {
    let real = |path: &Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    real(a) == real(b)
}

//! Which store and which socket a command is about, and what it needs of the machine.

mod options;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Child;

use crate::api::AuthConfig;
use crate::credentials::credentials;
use crate::error::{Error, Result};
use crate::service_program;

pub use options::{Limit, MirrorRule, ServiceOptions};
pub(crate) use options::{limit, mirror_rule};

/// The store of root.
pub const ROOT_DEFAULT: &str = "/var/lib/nacre";

/// The socket of the service on [`ROOT_DEFAULT`].
pub const SOCKET_DEFAULT: &str = "/run/nacre/nacre.sock";

/// The name of the socket inside any other root.
const SOCKET_NAME: &str = "nacre.sock";

/// What `sockaddr_un` holds, its closing zero left out.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Where the service of a command is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The store's directory: absolute.
    pub root: PathBuf,
    /// The service's socket: absolute.
    pub socket: PathBuf,
    /// Whether the user asked for more to be said.
    pub debug: bool,
    /// The settings file, if the user named one: absolute.
    pub config: Option<PathBuf>,
    /// Whether the user named the root.
    pub(crate) root_given: bool,
    /// Whether the user named the socket.
    pub(crate) socket_given: bool,
}

impl Settings {
    /// Works out root and socket from what the user gave.
    pub(crate) fn new(root: Option<&Path>, host: Option<&str>, debug: bool) -> Result<Self> {
        let root_given = root.is_some();
        let root = absolute(root.unwrap_or(Path::new(ROOT_DEFAULT)))?;
        let socket_given = host.is_some();
        let socket = match host {
            Some(host) => socket_of_host(host)?,
            None if root == Path::new(ROOT_DEFAULT) => PathBuf::from(SOCKET_DEFAULT),
            None => root.join(SOCKET_NAME),
        };
        let bytes = socket.as_os_str().len();
        if bytes > SOCKET_PATH_BYTES_MAX {
            return Err(Error::said(format!(
                "the socket's path {} has {bytes} bytes; Linux allows {SOCKET_PATH_BYTES_MAX}: \
                 choose a shorter one with -H unix:///PATH",
                socket.display()
            )));
        }
        Ok(Self {
            root,
            socket,
            debug,
            config: None,
            root_given,
            socket_given,
        })
    }

    /// Says whether a service may be started when the socket is silent: not
    /// when the user only named a socket, which then is somebody else's.
    pub(crate) fn may_start(&self) -> bool {
        !self.socket_given || self.root_given
    }
}

fn socket_of_host(host: &str) -> Result<PathBuf> {
    let path = match host.split_once("://") {
        Some(("unix", path)) => path,
        Some((scheme, _)) => {
            return Err(Error::said(format!(
                "cannot reach {host}: {scheme}:// is not supported, only unix:///PATH"
            )));
        }
        None => host,
    };
    if path.is_empty() {
        return Err(Error::said(format!("no path in the host {host:?}")));
    }
    absolute(Path::new(path))
}

/// Makes a path absolute against the working directory, without touching it.
pub(crate) fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|source| Error::io(path.display().to_string(), source))
}

/// A service that has just been started.
#[derive(Debug)]
pub struct Starting {
    /// The process; it may also fork and end with success.
    pub child: Child,
    /// Where it writes what goes wrong; its end is shown if it dies.
    pub log: Option<PathBuf>,
}

/// What a command needs of the machine besides the service. The tests of this crate have their own.
#[derive(Clone, Copy)]
pub struct Hooks {
    /// Starts the service in the background and returns at once.
    pub start_service: fn(&Settings) -> std::result::Result<Starting, String>,
    /// Becomes the service in the foreground, for this command line; says why it could not.
    pub run_service: fn(&[OsString]) -> String,
    /// Finds the credentials for a registry (`docker.io`, `127.0.0.1:5000`) where the user keeps them.
    pub credentials: fn(&str) -> Option<AuthConfig>,
}

impl Default for Hooks {
    fn default() -> Self {
        Self {
            start_service: service_program::start,
            run_service: service_program::run,
            // Where they cannot be read the registry is asked without.
            credentials: |registry| credentials(registry).ok().flatten(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn the_default_root_has_the_socket_in_run() {
        let settings = Settings::new(None, None, false).unwrap();
        assert_eq!(settings.socket, Path::new(SOCKET_DEFAULT));
        assert!(settings.may_start());
    }

    #[test]
    fn another_root_has_its_own_socket() {
        let settings = Settings::new(Some(Path::new("/srv/n")), None, false).unwrap();
        assert_eq!(settings.socket, Path::new("/srv/n/nacre.sock"));
        assert!(settings.may_start());
    }

    #[test]
    fn a_socket_that_was_named_alone_is_never_started() {
        let settings = Settings::new(None, Some("unix:///x.sock"), false).unwrap();
        assert_eq!(settings.socket, Path::new("/x.sock"));
        assert!(!settings.may_start());
        let both = Settings::new(Some(Path::new("/r")), Some("/x.sock"), false).unwrap();
        assert!(both.may_start());
    }

    #[test]
    fn other_schemes_and_long_paths_are_refused() {
        assert!(Settings::new(None, Some("tcp://1.2.3.4:5"), false).is_err());
        assert!(Settings::new(None, Some("unix://"), false).is_err());
        let long = format!("/{}", "x".repeat(SOCKET_PATH_BYTES_MAX));
        assert!(Settings::new(None, Some(&long), false).is_err());
    }
}

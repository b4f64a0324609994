//! The command line alone, for a service that somebody else runs: the program
//! that the tests of this crate run. Not installed.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use nacre_cli::api::AuthConfig;
use nacre_cli::{Hooks, Settings, Starting};

/// A shell command that stands for the service when one is to be started.
const START: &str = "THIN_START";
/// The file that stands for the service's log.
const LOG: &str = "THIN_LOG";

fn main() -> ExitCode {
    nacre_cli::main(Hooks {
        start_service,
        run_service,
        credentials,
    })
}

fn start_service(settings: &Settings) -> Result<Starting, String> {
    let script = std::env::var(START).map_err(|_| format!("{START} is not set"))?;
    let child = Command::new("sh")
        .args(["-c", &script])
        .env("SOCKET", &settings.socket)
        .spawn()
        .map_err(|error| error.to_string())?;
    Ok(Starting {
        child,
        log: std::env::var_os(LOG).map(PathBuf::from),
    })
}

fn run_service(_: &[OsString]) -> String {
    "this program has no service".to_owned()
}

fn credentials(registry: &str) -> Option<AuthConfig> {
    (registry == "127.0.0.1:5000").then(|| AuthConfig {
        username: "me".to_owned(),
        password: "secret".to_owned(),
        ..AuthConfig::default()
    })
}

//! The `nacre` program. Decides which of its faces is asked for; never does the work.

use std::process::ExitCode;

use nacre::{runtime, service};
use nacre_cli::Hooks;

fn main() -> ExitCode {
    // A shim forks: it must be one before any thread exists.
    if let Some(code) = runtime::run_shim_if_asked() {
        return code;
    }
    if let Some(code) = service::lifecycle::run_if_asked() {
        return code;
    }
    nacre_cli::main(Hooks {
        start_service: service::lifecycle::start,
        run_service: service::lifecycle::run,
        credentials: service::credentials::find,
    })
}

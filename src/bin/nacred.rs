//! The `nacred` program: the service, which `nacre` starts; or, where `nacre-shim` is not beside it, a shim.

use std::process::ExitCode;

use nacre::{runtime, service};

fn main() -> ExitCode {
    // A shim forks: it must be one before any thread exists.
    if let Some(code) = runtime::run_shim_if_asked() {
        return code;
    }
    service::lifecycle::main()
}

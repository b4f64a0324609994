//! The `nacre-shim` program: a shim and nothing else.

use std::process::ExitCode;

fn main() -> ExitCode {
    nacre_runtime::run_shim_program()
}

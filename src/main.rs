//! The `nacre` program: the command line, and nothing of the service. A command would wait six milliseconds for a database that it never opens.

use std::process::ExitCode;

fn main() -> ExitCode {
    nacre_cli::main(nacre_cli::Hooks::default())
}

//! Which program a shim runs: `nacre-shim` beside the one that runs now, or else that one itself. It has a database in it, and
//! what belongs to that is made at every start of the program, though no shim needs it: eight milliseconds, and
//! pages that every fork copies.
//!
//! `nacre-shim` must have been built from the same sources, since the two sides speak a language of their own. It is opened once, so that
//! what is installed later does not get among what runs.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::OnceLock;

use crate::shim::SHIM_NAME;

/// The program that runs now.
const OWN: &str = "/proc/self/exe";

/// Asks `nacre-shim` what it was built from.
const BUILD_ASKED: &str = "--build";

/// What this was built from: a word of `build.rs`.
const BUILD: &str = env!("NACRE_RUNTIME_BUILD");

/// The path that runs a shim, for as long as this process lives.
pub(crate) fn path() -> &'static Path {
    static FOUND: OnceLock<(PathBuf, Option<File>)> = OnceLock::new();
    let beside = || Ok(std::fs::read_link(OWN)?.with_file_name(SHIM_NAME));
    let (path, _open) = FOUND.get_or_init(|| match beside().and_then(|beside| opened(&beside)) {
        Ok(file) => (path_of(&file), Some(file)),
        Err(error) => {
            tracing::info!(%error, "shims run the whole program");
            (OWN.into(), None)
        }
    });
    path
}

/// Opens the shim's own program, if it is of the same build.
fn opened(program: &Path) -> io::Result<File> {
    let named = |error: io::Error| {
        let error = format!("{}: {error}", program.display());
        io::Error::other(error)
    };
    let file = File::open(program).map_err(named)?;
    let said = Command::new(path_of(&file))
        .arg(BUILD_ASKED)
        .env_clear()
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .map_err(named)?;
    match said.stdout == BUILD.as_bytes() {
        true => Ok(file),
        false => Err(named(io::Error::other("it is of another build"))),
    }
}

fn path_of(file: &File) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}

/// What `nacre-shim` does.
pub fn run_shim_program() -> ExitCode {
    if let Some(code) = crate::run_shim_if_asked() {
        return code;
    }
    let is_asked = std::env::args_os()
        .nth(1)
        .is_some_and(|arg| arg == BUILD_ASKED);
    if is_asked && io::stdout().write_all(BUILD.as_bytes()).is_ok() {
        return ExitCode::SUCCESS;
    }
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_shim_of_another_build_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join(SHIM_NAME);
        assert!(opened(&program).is_err(), "there is none");
        // It answers with what it was asked.
        std::fs::copy("/bin/echo", &program).unwrap();
        let error = opened(&program).unwrap_err().to_string();
        assert!(error.ends_with("it is of another build"), "{error}");
    }
}

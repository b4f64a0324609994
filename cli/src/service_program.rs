//! The program of the service, which stands beside this one: started in the background, or run in the place of this one. It has
//! the database in it, so that a command that only asks the service need not.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::settings::{Settings, Starting};

/// The file's name.
const FILE_NAME: &str = "nacred";

/// The name by which the program knows that it shall be a service in the background.
pub const BACKGROUND_NAME: &str = "nacre-service";

/// A log file longer than this is begun anew.
const LOG_BYTES_MAX: u64 = 4 << 20;

/// Starts the service in the background, detached from the terminal.
pub(crate) fn start(settings: &Settings) -> Result<Starting, String> {
    let program = path()?;
    let root = &settings.root;
    fs::create_dir_all(root)
        .map_err(|e| format!("cannot make the store's directory {}: {e}", root.display()))?;
    let log = root.join("service.log");
    let output = open_log(&log)
        .map_err(|e| format!("cannot open the service's log {}: {e}", log.display()))?;
    let errors = output
        .try_clone()
        .map_err(|e| format!("cannot open the service's log {}: {e}", log.display()))?;
    let child = Command::new(&program)
        .arg0(BACKGROUND_NAME)
        .args(command_line(settings))
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .spawn()
        .map_err(|e| unusable(&program, &e))?;
    Ok(Starting {
        child,
        log: Some(log),
    })
}

/// Becomes the service in the foreground: the same words, the same process. Says why it could not.
pub(crate) fn run(argv: &[OsString]) -> String {
    let program = match path() {
        Ok(program) => program,
        Err(error) => return error,
    };
    let mut command = Command::new(&program);
    if let Some((name, words)) = argv.split_first() {
        command.arg0(name).args(words);
    }
    unusable(&program, &command.exec())
}

/// Beside the file that this program is, through whatever links it was called.
fn path() -> Result<PathBuf, String> {
    let own = std::env::current_exe()
        .map_err(|e| format!("cannot find the program of the service: {e}"))?;
    Ok(own.with_file_name(FILE_NAME))
}

fn unusable(program: &Path, error: &io::Error) -> String {
    let hint = match error.kind() {
        io::ErrorKind::NotFound => {
            "\nhint: nacre, nacred and nacre-shim belong into one directory; \"make install\" puts them there"
        }
        _ => "",
    };
    format!(
        "cannot start the service {}: {error}{hint}",
        program.display()
    )
}

/// `nacre-service --root … service`: read by the same parser as the foreground service's, with the same variables.
fn command_line(settings: &Settings) -> Vec<OsString> {
    let mut socket = OsString::from("unix://");
    socket.push(&settings.socket);
    let mut line: Vec<OsString> = vec!["--root".into(), settings.root.clone().into()];
    line.extend(["-H".into(), socket]);
    if let Some(config) = &settings.config {
        line.extend(["--config".into(), config.clone().into()]);
    }
    line.extend(settings.debug.then(|| "--debug".into()));
    line.push("service".into());
    line
}

fn open_log(path: &Path) -> io::Result<File> {
    let long = fs::metadata(path).is_ok_and(|meta| meta.len() > LOG_BYTES_MAX);
    OpenOptions::new()
        .create(true)
        .append(!long)
        .write(true)
        .truncate(long)
        .open(path)
}

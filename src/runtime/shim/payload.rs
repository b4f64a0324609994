//! The last steps inside the container, after all mounts and as the user: directory, filter, capabilities, program.
//! libcontainer calls it in the new process. It applies neither filter nor capabilities itself then, because for an exec
//! it forgets the filter, and because for both the program must be looked for with the rights it will have.
//! Never returns to the service but through the report: errors that cross libcontainer are texts without a kind.

use std::cell::OnceCell;
use std::ffi::CString;
use std::io::{self, PipeWriter, Write};
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use libcontainer::capabilities::drop_privileges;
use libcontainer::oci_spec::runtime::{
    Capability, LinuxCapabilities, LinuxCapabilitiesBuilder, Spec,
};
use libcontainer::syscall::syscall::create_syscall;
use libcontainer::workload::{
    Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError,
};

use crate::exec_path;
use crate::oci::Confinement;
use crate::rootfs::{Kind, RootFs, Stat};
use crate::sys;
use crate::wire::{StartError, StartErrorKind};

/// The lowest descriptor that is not one of the program's own three.
const FIRST_OF_LIBRARY: RawFd = 3;

/// What remains to do inside.
#[derive(Clone)]
pub(super) struct Payload {
    /// What the program must not do.
    pub(super) confinement: Confinement,
    /// Where it starts.
    pub(super) cwd: PathBuf,
    /// Its command.
    pub(super) args: Vec<String>,
    /// Its variables, in order; libcontainer would shuffle them.
    pub(super) env: Vec<String>,
    /// Where an error goes, whole.
    pub(super) report: Arc<PipeWriter>,
    /// The program, once found.
    pub(super) program: Rc<OnceCell<PathBuf>>,
}

impl Executor for Payload {
    fn validate(&self, _: &Spec) -> Result<(), ExecutorValidationError> {
        match self.confine().and_then(|()| self.find()) {
            Ok(program) => {
                // Called once in a process's life.
                self.program.set(program).unwrap_or_default();
                Ok(())
            }
            Err(error) => {
                let message = error.message.clone();
                serde_json::to_string(&error)
                    .map_err(io::Error::from)
                    .and_then(|line| writeln!(&*self.report, "{line}"))
                    .unwrap_or_default();
                Err(ExecutorValidationError::ArgValidationError(message))
            }
        }
    }

    fn setup_envs(
        &self,
        _: std::collections::HashMap<String, String>,
    ) -> Result<(), ExecutorSetEnvsError> {
        // They are given to the program itself, below.
        Ok(())
    }

    fn exec(&self, _: &Spec) -> Result<(), ExecutorError> {
        let program = self.program.get().ok_or(ExecutorError::InvalidArg)?;
        let c_strings = |texts: &[String]| -> Result<Vec<CString>, ExecutorError> {
            let one = |text: &String| {
                CString::new(text.as_bytes()).map_err(|_| ExecutorError::InvalidArg)
            };
            texts.iter().map(one).collect()
        };
        let path = CString::new(program.as_os_str().as_encoded_bytes())
            .map_err(|_| ExecutorError::InvalidArg)?;
        let (args, env) = (c_strings(&self.args)?, c_strings(&self.env)?);
        sys::reset_signals();
        let Err(error) = nix::unistd::execve(&path, &args, &env);
        // The process has started as far as anybody knows; docker too says this on its standard error.
        let text = format!(
            "exec {}: {}",
            program.display(),
            error.desc().to_lowercase()
        );
        drop(writeln!(io::stderr(), "{text}"));
        Err(ExecutorError::Other(text))
    }
}

impl Payload {
    /// Directory, filter, capabilities: in this order, each needs the rights that the next takes away.
    fn confine(&self) -> Result<(), StartError> {
        // What libcontainer has open, the root as the host sees it among it, is a way out for a directory or a command that
        // names it. Before the capabilities go: until then nobody in the container may look at what we have open.
        sys::forget_directories(FIRST_OF_LIBRARY).map_err(|error| {
            StartError::other(format!("letting go of the host's directories: {error}"))
        })?;
        self.go_to_directory()?;
        if self.confinement.seals_cgroups {
            sys::make_read_only(c"/sys/fs/cgroup").map_err(|error| {
                StartError::other(format!("making /sys/fs/cgroup read-only: {error}"))
            })?;
        }
        if let Some(filter) = &self.confinement.seccomp {
            sys::filter_calls(filter)
                .map_err(|error| StartError::other(format!("seccomp: {error}")))?;
        }
        let capabilities = self.capabilities()?;
        drop_privileges(&capabilities, create_syscall().as_ref())
            .map_err(|error| StartError::other(format!("unable to apply caps: {error}")))
    }

    /// Nothing moves the process afterwards, so what is found here holds for the program.
    fn go_to_directory(&self) -> Result<(), StartError> {
        let there = std::env::set_current_dir(&self.cwd)
            .and_then(|()| sys::working_directory())
            .map_err(|error| self.no_directory(&error))?;
        if there.is_absolute() {
            return Ok(());
        }
        let outside = io::Error::other("it is outside of the container's root");
        Err(self.no_directory(&outside))
    }

    fn find(&self) -> Result<PathBuf, StartError> {
        let command = self.args.first().map(String::as_str).unwrap_or_default();
        exec_path::resolve(&Inside, command, &self.env, &self.cwd)
    }

    /// For any user but root only the bounding set: running a program would take the others away from them, and the program
    /// must not be found with rights that it will not have.
    fn capabilities(&self) -> Result<LinuxCapabilities, StartError> {
        let all = || {
            self.confinement
                .capabilities
                .iter()
                .copied()
                .collect::<std::collections::HashSet<Capability>>()
        };
        let held = if rustix::process::getuid().is_root() {
            all()
        } else {
            Default::default()
        };
        LinuxCapabilitiesBuilder::default()
            .bounding(all())
            .effective(held.clone())
            .permitted(held)
            .inheritable(std::collections::HashSet::new())
            .ambient(std::collections::HashSet::new())
            .build()
            .map_err(|error| StartError::other(format!("capabilities: {error}")))
    }

    fn no_directory(&self, error: &io::Error) -> StartError {
        let (kind, why) = match error.kind() {
            io::ErrorKind::NotFound => (
                StartErrorKind::NotFound,
                "no such file or directory".to_owned(),
            ),
            io::ErrorKind::NotADirectory => (StartErrorKind::Other, "not a directory".to_owned()),
            io::ErrorKind::PermissionDenied => (
                StartErrorKind::PermissionDenied,
                "permission denied".to_owned(),
            ),
            _ => (StartErrorKind::Other, error.to_string()),
        };
        StartError {
            kind,
            message: format!(
                "chdir to cwd ({:?}) set in config.json failed: {why}",
                self.cwd.display().to_string()
            ),
        }
    }
}

/// The container's root seen by a process in it.
struct Inside;

impl RootFs for Inside {
    fn read(&self, path: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
        let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX);
        let mut content = Vec::new();
        io::Read::read_to_end(
            &mut io::Read::take(std::fs::File::open(path)?, limit),
            &mut content,
        )?;
        Ok(content)
    }

    fn stat(&self, path: &Path) -> io::Result<Stat> {
        let mut stat = Stat::from(&std::fs::metadata(path)?);
        // Bits that are not for this user do not count.
        if stat.kind == Kind::File && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_err()
        {
            stat.mode = 0;
        }
        Ok(stat)
    }
}

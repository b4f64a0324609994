//! Processes in containers: one shim process each, which outlives the service.
//! Never awaits, never opens the store and never reads an image's configuration; the engine says what shall run.
//!
//! ```text
//! spec        what shall run, in our words
//! handle      the service's side: prepare, start, attach, signal, wait, exec, delete
//! wire        what the two sides say to each other
//! shim/       the other side: a single-threaded process that creates the container, holds its streams, reports its exit
//! oci/        our words as an OCI runtime configuration: docker's defaults
//! user        docker's `--user` by the container's own passwd and group
//! exec_path   which program a command names, and docker's words when there is none
//! rootfs      looking into a container's root from outside
//! warm        joining cgroups without a wait
//! program     which program a shim runs
//! boot        which boot this is
//! sys         the system calls that need `unsafe`
//! ```
//!
//! ```no_run
//! # fn f(spec: nacre_runtime::spec::ContainerSpec, mount: std::os::fd::OwnedFd) -> Result<(), Box<dyn std::error::Error>> {
//! use nacre_runtime::{AttachRequest, Launch, Shim};
//! let shim = Shim::prepare(Launch { state_dir: "/run/nacre/c/0af".into(), spec, rootfs: mount, log: None, log_floor: 0, auto_remove: false, program: None })?;
//! let streams = shim.attach(&AttachRequest { stdout: true, ..AttachRequest::default() })?; // before the start: nothing is missed
//! shim.start()?;
//! let exit = shim.wait()?;
//! shim.delete()?;
//! # Ok(()) }
//! ```

mod boot;
pub mod exec_path;
mod handle;
mod oci;
mod program;
pub mod rootfs;
mod shim;
pub mod spec;
mod state_dir;
pub mod sys;
pub mod user;
mod warm;
mod wire;

pub use boot::this_boot;
pub use handle::{Launch, Shim, ShimError};
pub use program::run_shim_program;
pub use shim::run_if_asked as run_shim_if_asked;
pub use warm::Warm;
pub use wire::{AttachRequest, Exit, Phase, StartError, StartErrorKind, State, Whom};

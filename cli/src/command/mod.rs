//! The commands: one file each, its flags beside what it does.

mod archive;
mod attach;
mod commit;
mod container_options;
mod diff;
mod exec;
mod history;
mod image_edit;
mod images;
mod inspect;
mod lifecycle;
mod login;
mod logs;
pub(crate) mod mount;
mod ps;
pub(crate) mod pull;
mod push;
mod run;
pub(crate) mod service;
mod start;
mod system;

use clap::Subcommand;

use crate::error::{Error, Result};
use crate::session::Session;

/// Every command.
#[derive(Subcommand)]
pub(crate) enum Command {
    // What people use every day, in the order of a day.
    /// Download an image from a registry, a directory or an archive
    Pull(pull::Args),
    /// List images
    Images(images::Args),
    /// Show an image as a directory; without arguments, list the mounts
    Mount(mount::Args),
    /// Take mounts away; what was changed in them is kept
    #[command(alias = "unmount")]
    Umount(mount::UnmountArgs),
    /// Create and run a new container from an image
    Run(run::RunArgs),
    /// Run a command in a running container
    Exec(exec::Args),
    /// List containers
    Ps(ps::Args),
    /// List what changed in a container or a mount
    Diff(diff::Args),
    /// Keep the changes of a container or a mount as a new image
    Commit(commit::Args),
    /// Upload an image to a registry
    Push(push::Args),

    /// Attach the terminal to a running container
    Attach(attach::Args),
    /// Create a new container without starting it
    Create(run::CreateArgs),
    /// Show the history of an image
    History(history::Args),
    /// Make an image of a tarball of a root filesystem
    Import(archive::ImportArgs),
    /// Show everything about containers or images, as JSON
    Inspect(inspect::Args),
    /// Kill running containers
    Kill(lifecycle::KillArgs),
    /// Load images from a tar archive
    Load(archive::LoadArgs),
    /// Log in to a registry
    Login(login::Args),
    /// Forget the credentials for a registry
    Logout(login::LogoutArgs),
    /// Show the output of a container
    Logs(logs::Args),
    /// Rename a container
    Rename(lifecycle::RenameArgs),
    /// Restart containers
    Restart(lifecycle::StopArgs),
    /// Remove containers
    Rm(lifecycle::RmArgs),
    /// Remove images
    Rmi(image_edit::RmArgs),
    /// Save images to a tar archive
    Save(archive::SaveArgs),
    /// Start stopped containers
    Start(start::Args),
    /// Stop running containers
    Stop(lifecycle::StopArgs),
    /// Give an image another name
    Tag(image_edit::TagArgs),
    /// Wait until containers stop, then print their exit codes
    Wait(lifecycle::WaitArgs),

    /// Show what the service is and has
    Info(system::InfoArgs),
    /// Show the versions of client and service
    Version(system::VersionArgs),
    /// Manage images
    #[command(subcommand, arg_required_else_help = true)]
    Image(ImageCommand),
    /// Manage containers
    #[command(subcommand, arg_required_else_help = true)]
    Container(ContainerCommand),
    /// Check and describe the store
    #[command(subcommand, arg_required_else_help = true)]
    System(SystemCommand),
    /// Run the service in the foreground, or stop the one that runs
    Service(service::Args),
    /// Print a completion script for a shell
    Completion(service::CompletionArgs),
}

/// The commands about images.
#[derive(Subcommand)]
pub(crate) enum ImageCommand {
    /// Show the history of an image
    History(history::Args),
    /// Make an image of a tarball of a root filesystem
    Import(archive::ImportArgs),
    /// Show everything about images, as JSON
    Inspect(inspect::OneKindArgs),
    /// Load images from a tar archive
    Load(archive::LoadArgs),
    /// List images
    #[command(alias = "list")]
    Ls(images::Args),
    /// Remove images that nothing uses
    Prune(image_edit::PruneArgs),
    /// Download an image from a registry, a directory or an archive
    Pull(pull::Args),
    /// Upload an image to a registry
    Push(push::Args),
    /// Remove images
    #[command(alias = "remove")]
    Rm(image_edit::RmArgs),
    /// Save images to a tar archive
    Save(archive::SaveArgs),
    /// Give an image another name
    Tag(image_edit::TagArgs),
}

/// The commands about containers.
#[derive(Subcommand)]
pub(crate) enum ContainerCommand {
    /// Attach the terminal to a running container
    Attach(attach::Args),
    /// Keep the changes of a container as a new image
    Commit(commit::Args),
    /// Create a new container without starting it
    Create(run::CreateArgs),
    /// List what changed in a container or a mount
    Diff(diff::Args),
    /// Run a command in a running container
    Exec(exec::Args),
    /// Show everything about containers, as JSON
    Inspect(inspect::OneKindArgs),
    /// Kill running containers
    Kill(lifecycle::KillArgs),
    /// Show the output of a container
    Logs(logs::Args),
    /// List containers
    #[command(aliases = ["list", "ps"])]
    Ls(ps::Args),
    /// Rename a container
    Rename(lifecycle::RenameArgs),
    /// Restart containers
    Restart(lifecycle::StopArgs),
    /// Remove containers
    #[command(alias = "remove")]
    Rm(lifecycle::RmArgs),
    /// Create and run a new container from an image
    Run(run::RunArgs),
    /// Start stopped containers
    Start(start::Args),
    /// Stop running containers
    Stop(lifecycle::StopArgs),
    /// Wait until containers stop, then print their exit codes
    Wait(lifecycle::WaitArgs),
}

/// The commands about the store and the service.
#[derive(Subcommand)]
pub(crate) enum SystemCommand {
    /// Check the store: every reference, every count, every byte
    Check(system::CheckArgs),
    /// Show what takes how much space
    Df(system::DfArgs),
    /// Show what the service is and has
    Info(system::InfoArgs),
    /// Give up layers as they were received, for their space
    Reclaim(system::ReclaimArgs),
}

impl Command {
    /// Says whether the command talks to a service that exists or is started
    /// for it.
    pub(crate) fn needs_service(&self) -> bool {
        !matches!(
            self,
            Self::Service(_) | Self::Completion(_) | Self::Logout(_)
        )
    }

    /// The error of a service that cannot be reached, as this command tells it.
    pub(crate) fn unreached(&self, error: Error) -> Error {
        match self {
            Self::Run(_) | Self::Container(ContainerCommand::Run(_)) => {
                run::before_start("run", error)
            }
            _ => error,
        }
    }

    /// Runs the command.
    pub(crate) async fn run(self, session: &Session) -> Result<()> {
        match self {
            Self::Pull(args) => pull::run(session, args).await,
            Self::Images(args) => images::run(session, args, images::Called::Images).await,
            Self::Mount(args) => mount::run(session, args).await,
            Self::Umount(args) => mount::unmount(session, args).await,
            Self::Run(args) => run::run(session, args).await,
            Self::Exec(args) => exec::run(session, args).await,
            Self::Ps(args) => ps::run(session, args).await,
            Self::Diff(args) => diff::run(session, args).await,
            Self::Commit(args) => commit::run(session, args).await,
            Self::Push(args) => push::run(session, args).await,
            Self::Attach(args) => attach::run(session, args).await,
            Self::Create(args) => run::create(session, args).await,
            Self::History(args) => history::run(session, args).await,
            Self::Import(args) => archive::import(session, args).await,
            Self::Inspect(args) => inspect::run(session, args).await,
            Self::Kill(args) => lifecycle::kill(session, args).await,
            Self::Load(args) => archive::load(session, args).await,
            Self::Login(args) => login::run(session, args).await,
            Self::Logout(args) => login::logout(&args),
            Self::Logs(args) => logs::run(session, args).await,
            Self::Rename(args) => lifecycle::rename(session, args).await,
            Self::Restart(args) => lifecycle::restart(session, args).await,
            Self::Rm(args) => lifecycle::rm(session, args).await,
            Self::Rmi(args) => image_edit::rm(session, args).await,
            Self::Save(args) => archive::save(session, args).await,
            Self::Start(args) => start::run(session, args).await,
            Self::Stop(args) => lifecycle::stop(session, args).await,
            Self::Tag(args) => image_edit::tag(session, args).await,
            Self::Wait(args) => lifecycle::wait(session, args).await,
            Self::Info(args) => system::info(session, args).await,
            Self::Version(args) => system::version(session, args).await,
            Self::Image(command) => command.run(session).await,
            Self::Container(command) => command.run(session).await,
            Self::System(command) => command.run(session).await,
            Self::Service(args) => service::run(session, &args).await,
            Self::Completion(args) => service::completion(&args),
        }
    }
}

impl ImageCommand {
    async fn run(self, session: &Session) -> Result<()> {
        match self {
            Self::History(args) => history::run(session, args).await,
            Self::Import(args) => archive::import(session, args).await,
            Self::Inspect(args) => inspect::images(session, args).await,
            Self::Load(args) => archive::load(session, args).await,
            Self::Ls(args) => images::run(session, args, images::Called::ImageLs).await,
            Self::Prune(args) => image_edit::prune(session, args).await,
            Self::Pull(args) => pull::run(session, args).await,
            Self::Push(args) => push::run(session, args).await,
            Self::Rm(args) => image_edit::rm(session, args).await,
            Self::Save(args) => archive::save(session, args).await,
            Self::Tag(args) => image_edit::tag(session, args).await,
        }
    }
}

impl ContainerCommand {
    async fn run(self, session: &Session) -> Result<()> {
        match self {
            Self::Attach(args) => attach::run(session, args).await,
            Self::Commit(args) => commit::run(session, args).await,
            Self::Create(args) => run::create(session, args).await,
            Self::Diff(args) => diff::run(session, args).await,
            Self::Exec(args) => exec::run(session, args).await,
            Self::Inspect(args) => inspect::containers(session, args).await,
            Self::Kill(args) => lifecycle::kill(session, args).await,
            Self::Logs(args) => logs::run(session, args).await,
            Self::Ls(args) => ps::run(session, args).await,
            Self::Rename(args) => lifecycle::rename(session, args).await,
            Self::Restart(args) => lifecycle::restart(session, args).await,
            Self::Rm(args) => lifecycle::rm(session, args).await,
            Self::Run(args) => run::run(session, args).await,
            Self::Start(args) => start::run(session, args).await,
            Self::Stop(args) => lifecycle::stop(session, args).await,
            Self::Wait(args) => lifecycle::wait(session, args).await,
        }
    }
}

impl SystemCommand {
    async fn run(self, session: &Session) -> Result<()> {
        match self {
            Self::Check(args) => system::check(session, args).await,
            Self::Df(args) => system::df(session, args).await,
            Self::Info(args) => system::info(session, args).await,
            Self::Reclaim(args) => system::reclaim(session, args).await,
        }
    }
}

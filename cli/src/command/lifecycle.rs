//! `stop`, `kill`, `restart`, `rm`, `rename`, `wait`: the life of containers.

use crate::api::WaitResponse;
use crate::args::values::int;
use crate::client::{Call, Route};
use crate::draw::{err, out};
use crate::error::{Error, Result, each};
use crate::session::Session;

/// The flags of `stop` and `restart`.
#[derive(clap::Args)]
#[command(
    override_usage = "[OPTIONS] CONTAINER [CONTAINER...]",
    after_help = "Examples:
  nacre stop web                              its stop signal, and after 10 seconds SIGKILL
  nacre stop -t 60 web db"
)]
pub(crate) struct StopArgs {
    /// Send this signal instead of the container's own
    #[arg(short, long, value_name = "SIGNAL")]
    signal: Option<String>,

    /// Wait so many seconds before killing; -1: for ever
    #[arg(
        short = 't', long = "timeout", visible_alias = "time", value_name = "SECONDS",
        value_parser = int, allow_negative_numbers = true
    )]
    seconds: Option<i64>,

    #[arg(required = true, hide = true)]
    containers: Vec<String>,
}

/// Stops containers.
pub(crate) async fn stop(session: &Session, args: StopArgs) -> Result<()> {
    stop_or_restart(session, "stop", args).await
}

/// Restarts containers.
pub(crate) async fn restart(session: &Session, args: StopArgs) -> Result<()> {
    stop_or_restart(session, "restart", args).await
}

async fn stop_or_restart(session: &Session, action: &str, args: StopArgs) -> Result<()> {
    let seconds = args.seconds.map(|seconds| seconds.to_string());
    each(&args.containers, async |name| {
        let route = Route::docker(&["containers", name, action])
            .maybe("signal", args.signal.as_deref())
            .maybe("t", seconds.as_deref());
        session.client.done(Call::post(route)).await?;
        out(&format!("{name}\n"))
    })
    .await
}

/// The flags of `kill`.
#[derive(clap::Args)]
#[command(
    override_usage = "[OPTIONS] CONTAINER [CONTAINER...]",
    after_help = "Examples:
  nacre kill web
  nacre kill -s HUP web"
)]
pub(crate) struct KillArgs {
    /// The signal to send [default: KILL]
    #[arg(short, long, value_name = "SIGNAL")]
    signal: Option<String>,

    #[arg(required = true, hide = true)]
    containers: Vec<String>,
}

/// Sends a signal to containers.
pub(crate) async fn kill(session: &Session, args: KillArgs) -> Result<()> {
    each(&args.containers, async |name| {
        let route =
            Route::docker(&["containers", name, "kill"]).maybe("signal", args.signal.as_deref());
        session.client.done(Call::post(route)).await?;
        out(&format!("{name}\n"))
    })
    .await
}

/// The flags of `rm`.
#[derive(clap::Args)]
#[command(
    override_usage = "[OPTIONS] CONTAINER [CONTAINER...]",
    after_help = "Examples:
  nacre rm web
  nacre rm -f $(nacre ps -aq)
  nacre rm work                               what a mount kept under this name"
)]
pub(crate) struct RmArgs {
    /// Kill it first if it runs; a container that does not exist is no error
    #[arg(short, long)]
    force: bool,

    /// Also remove its anonymous volumes
    #[arg(short, long)]
    volumes: bool,

    #[arg(required = true, hide = true)]
    containers: Vec<String>,
}

/// Removes containers.
pub(crate) async fn rm(session: &Session, args: RmArgs) -> Result<()> {
    each(&args.containers, async |name| {
        let name = name.trim_start_matches('/');
        if name.is_empty() {
            return Err(Error::said("container name cannot be empty"));
        }
        let route = Route::docker(&["containers", name])
            .flag("force", args.force)
            .flag("v", args.volumes);
        match session.client.done(Call::delete(route)).await {
            Ok(_) => out(&format!("{name}\n")),
            Err(error) if args.force && error.is_not_found() => {
                err(&format!("{error}\n"));
                Ok(())
            }
            Err(error) => Err(error),
        }
    })
    .await
}

/// The arguments of `rename`.
#[derive(clap::Args)]
#[command(
    override_usage = "CONTAINER NEW_NAME",
    after_help = "Examples:
  nacre rename web old-web"
)]
pub(crate) struct RenameArgs {
    #[arg(required = true, hide = true)]
    container: String,

    #[arg(required = true, hide = true)]
    name: String,
}

/// Renames a container.
pub(crate) async fn rename(session: &Session, args: RenameArgs) -> Result<()> {
    let (old, new) = (args.container.trim(), args.name.trim());
    if old.is_empty() || new.is_empty() {
        return Err(Error::said("Error: Neither old nor new names may be empty"));
    }
    let route = Route::docker(&["containers", old, "rename"]).with("name", new);
    match session.client.done(Call::post(route)).await {
        Ok(_) => Ok(()),
        Err(error) => Err(Error::Several(vec![
            error,
            Error::said(format!("Error: failed to rename container named {old}")),
        ])),
    }
}

/// The arguments of `wait`.
#[derive(clap::Args)]
#[command(
    override_usage = "CONTAINER [CONTAINER...]",
    after_help = "Examples:
  nacre wait web                              prints its exit code"
)]
pub(crate) struct WaitArgs {
    #[arg(required = true, hide = true)]
    containers: Vec<String>,
}

/// Waits for containers.
pub(crate) async fn wait(session: &Session, args: WaitArgs) -> Result<()> {
    each(&args.containers, async |name| {
        let route = Route::docker(&["containers", name, "wait"]);
        let ended: WaitResponse = session.client.json(Call::post(route)).await?;
        if let Some(error) = ended.error.filter(|error| !error.message.is_empty()) {
            return Err(Error::said(error.message));
        }
        out(&format!("{}\n", ended.status_code))
    })
    .await
}

//! `start`: stopped containers.

use super::run::exit_with;
use crate::api::ContainerInspect;
use crate::args::values::detach_keys;
use crate::attach::{Attachment, DETACH_KEYS_DEFAULT, Ended, Process, check_tty};
use crate::client::{Call, Route};
use crate::draw::{err, out};
use crate::error::{Error, Result};
use crate::session::Session;

/// The flags of `start`.
#[derive(clap::Args)]
#[command(
    override_usage = "[OPTIONS] CONTAINER [CONTAINER...]",
    after_help = "Examples:
  nacre start web
  nacre start -ai shell                       with its terminal"
)]
pub(crate) struct Args {
    /// Attach to its output, and end as it does
    #[arg(short, long)]
    attach: bool,

    /// The keys that leave the container running [default: ctrl-p,ctrl-q]
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<String>,

    /// Attach to its input
    #[arg(short, long)]
    interactive: bool,

    #[arg(required = true, hide = true)]
    containers: Vec<String>,
}

/// Starts containers.
pub(crate) async fn run(session: &Session, args: Args) -> Result<()> {
    if args.attach || args.interactive {
        let [container] = args.containers.as_slice() else {
            return Err(Error::said(
                "you cannot start and attach multiple containers at once",
            ));
        };
        return attached(session, container, &args).await;
    }
    let mut failed = Vec::new();
    for name in &args.containers {
        match start(session, name).await {
            Ok(()) => out(&format!("{name}\n"))?,
            Err(error) => {
                err(&format!("{error}\n"));
                failed.push(name.as_str());
            }
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    Err(Error::said(format!(
        "Error: failed to start containers: {}",
        failed.join(", ")
    )))
}

async fn start(session: &Session, name: &str) -> Result<()> {
    let route = Route::docker(&["containers", name, "start"]);
    session.client.done(Call::post(route)).await.map(|_| ())
}

async fn attached(session: &Session, name: &str, args: &Args) -> Result<()> {
    let route = Route::docker(&["containers", name, "json"]);
    let found: ContainerInspect = session.client.get(route).await?;
    let keys = args.detach_keys.as_deref().unwrap_or(DETACH_KEYS_DEFAULT);
    let keys = detach_keys(keys).map_err(Error::Said)?;
    let stdin = args.interactive && found.config.open_stdin;
    check_tty(found.config.tty, stdin)?;
    let route = Route::docker(&["containers", &found.id, "attach"])
        .flag("stream", true)
        .flag("stdin", stdin)
        .flag("stdout", true)
        .flag("stderr", true);
    let hijacked = session.client.hijack(Call::post(route)).await?;
    let condition = if found.host_config.auto_remove {
        "removed"
    } else {
        "next-exit"
    };
    let wait = Route::docker(&["containers", &found.id, "wait"]).with("condition", condition);
    let waiting = session.client.send(Call::post(wait)).await?;
    start(session, &found.id).await?;
    let attachment = Attachment {
        client: &session.client,
        process: Process::Container(&found.id),
        tty: found.config.tty,
        stdin,
        detach_keys: keys,
        proxies_signals: true,
    };
    match attachment.run(hijacked).await? {
        Ended::Detached => Ok(()),
        Ended::Closed => exit_with(session.client.answer(waiting, "wait").await?),
    }
}

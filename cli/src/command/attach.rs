//! `attach`: the terminal to a running container.

use super::run::exit_with;
use crate::api::ContainerInspect;
use crate::args::values::{boolean, detach_keys};
use crate::attach::{Attachment, DETACH_KEYS_DEFAULT, Ended, Process, check_tty};
use crate::client::{Call, Route};
use crate::error::{Error, Result};
use crate::session::Session;

/// The flags of `attach`.
#[derive(clap::Args)]
#[command(
    override_usage = "[OPTIONS] CONTAINER",
    after_help = "Examples:
  nacre attach web                            ctrl-p ctrl-q leaves it running (with -it)"
)]
pub(crate) struct Args {
    /// The keys that leave the container running [default: ctrl-p,ctrl-q]
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<String>,

    /// Do not pass our input on
    #[arg(long)]
    no_stdin: bool,

    /// Pass signals on to the container [default: true]
    #[arg(
        long, value_name = "BOOL", action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true,
        default_value = "true", default_missing_value = "true", hide_default_value = true,
        value_parser = boolean
    )]
    sig_proxy: bool,

    #[arg(required = true, hide = true)]
    container: String,
}

/// Attaches; ends as the container does.
pub(crate) async fn run(session: &Session, args: Args) -> Result<()> {
    let route = Route::docker(&["containers", &args.container, "json"]);
    let found: ContainerInspect = session.client.get(route).await?;
    if !found.state.running {
        return Err(Error::said(
            "cannot attach to a stopped container, start it first",
        ));
    }
    if found.state.paused {
        return Err(Error::said(
            "cannot attach to a paused container, unpause it first",
        ));
    }
    let keys = args.detach_keys.as_deref().unwrap_or(DETACH_KEYS_DEFAULT);
    let keys = detach_keys(keys).map_err(Error::Said)?;
    let stdin = !args.no_stdin && found.config.open_stdin;
    check_tty(found.config.tty, stdin)?;
    let wait = Route::docker(&["containers", &found.id, "wait"]);
    let waiting = session.client.send(Call::post(wait)).await?;
    let route = Route::docker(&["containers", &found.id, "attach"])
        .flag("stream", true)
        .flag("stdin", stdin)
        .flag("stdout", true)
        .flag("stderr", true)
        .maybe("detachKeys", args.detach_keys.as_deref());
    let hijacked = session.client.hijack(Call::post(route)).await?;
    let attachment = Attachment {
        client: &session.client,
        process: Process::Container(&found.id),
        tty: found.config.tty,
        stdin,
        detach_keys: keys,
        proxies_signals: args.sig_proxy,
    };
    match attachment.run(hijacked).await? {
        Ended::Detached => Ok(()),
        Ended::Closed => exit_with(session.client.answer(waiting, "wait").await?),
    }
}

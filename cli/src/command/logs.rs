//! `logs`: what a container wrote.

use http_body_util::BodyExt;

use crate::api::{ContainerInspect, Demux};
use crate::args::time::timestamp;
use crate::attach::write_output;
use crate::client::{Call, Route, content_type};
use crate::error::{Error, Result};
use crate::session::Session;

/// The flags of `logs`.
#[derive(clap::Args)]
#[command(
    override_usage = "[OPTIONS] CONTAINER",
    after_help = "Examples:
  nacre logs web
  nacre logs -f --tail 20 web                 the last lines, and what comes
  nacre logs --since 10m -t web"
)]
pub(crate) struct Args {
    /// Show the labels and variables that the container logs with
    #[arg(long)]
    details: bool,

    /// Go on until the container ends
    #[arg(short, long)]
    follow: bool,

    /// Only from this time on: 2026-01-02T13:23:37Z, or 42m ago
    #[arg(long, value_name = "TIME")]
    since: Option<String>,

    /// Only the last N lines
    #[arg(
        short = 'n',
        long,
        value_name = "N",
        default_value = "all",
        allow_negative_numbers = true
    )]
    tail: String,

    /// Show when each line was written
    #[arg(short, long)]
    timestamps: bool,

    /// Only up to this time
    #[arg(long, value_name = "TIME")]
    until: Option<String>,

    #[arg(required = true, hide = true)]
    container: String,
}

/// Prints the output of a container.
pub(crate) async fn run(session: &Session, args: Args) -> Result<()> {
    let time = |name: &str, value: Option<&String>| {
        value
            .map(|value| timestamp(value))
            .transpose()
            .map_err(|error| Error::said(format!("invalid value for {name:?}: {error}")))
    };
    let since = time("since", args.since.as_ref())?;
    let until = time("until", args.until.as_ref())?;
    let route = Route::docker(&["containers", &args.container, "json"]);
    let found: ContainerInspect = session.client.get(route).await?;
    let route = Route::docker(&["containers", &found.id, "logs"])
        .flag("stdout", true)
        .flag("stderr", true)
        .flag("follow", args.follow)
        .flag("timestamps", args.timestamps)
        .flag("details", args.details)
        .with("tail", &args.tail)
        .maybe("since", since.as_deref())
        .maybe("until", until.as_deref());
    let response = session.client.send(Call::get(route)).await?;
    let framed = match content_type(&response) {
        crate::api::MULTIPLEXED_STREAM => true,
        crate::api::RAW_STREAM => false,
        _ => !found.config.tty,
    };
    let mut demux = framed.then(Demux::default);
    let mut body = response.into_body();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|source| Error::Connection {
            what: "logs".to_owned(),
            source,
        })?;
        if let Some(data) = frame.data_ref() {
            write_output(demux.as_mut(), data)?;
        }
    }
    Ok(())
}

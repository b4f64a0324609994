//! `service`, `completion`: the service itself, and the shell's help.

use clap_complete::{Shell, generate};

use crate::api::ShutdownRefusal;
use crate::args::{PROGRAM, shown_tree};
use crate::draw::{out, out_bytes};
use crate::error::{Error, Result};
use crate::session::Session;
use crate::settings::ServiceOptions;

/// The flags of `service`.
#[derive(clap::Args)]
#[command(
    override_usage = "[OPTIONS]",
    after_help = "Examples:
  nacre service                               in the foreground, for systemd or for debugging
  nacre --root /srv/nacre service
  nacre service --stop                        unless a mount or a container is in use

Other commands start the service by themselves, and it ends by itself when nothing needs it."
)]
pub(crate) struct Args {
    /// End after so many seconds without use [default: never]
    #[arg(long, value_name = "SECONDS", conflicts_with = "stop")]
    idle: Option<u64>,

    /// Ask the service that runs to stop
    #[arg(long)]
    stop: bool,
}

/// Stops the service.
pub(crate) async fn run(session: &Session, args: &Args) -> Result<()> {
    if !args.stop {
        // The caller runs the foreground service outside of any runtime.
        return Err(Error::said("the service runs in the foreground only"));
    }
    match session.client.shutdown().await? {
        None => out("stopped\n"),
        Some(refusal) => Err(Error::said(in_use(&refusal))),
    }
}

fn in_use(refusal: &ShutdownRefusal) -> String {
    let mut text = format!("Error response from daemon: {}", refusal.message);
    for item in &refusal.in_use {
        text.push_str("\n  ");
        text.push_str(item);
    }
    text
}

/// How the foreground service is to run, if the command asks for it.
pub(crate) fn foreground(args: &Args) -> Option<ServiceOptions> {
    (!args.stop).then_some(ServiceOptions {
        idle_seconds_max: args.idle,
    })
}

/// The arguments of `completion`.
#[derive(clap::Args)]
#[command(
    override_usage = "SHELL",
    after_help = "Examples:
  nacre completion bash > /etc/bash_completion.d/nacre
  nacre completion zsh > \"${fpath[1]}/_nacre\"
  nacre completion fish > ~/.config/fish/completions/nacre.fish"
)]
pub(crate) struct CompletionArgs {
    /// bash, zsh, fish, elvish or powershell
    #[arg(required = true, hide = true, value_enum)]
    shell: Shell,
}

/// Prints a completion script.
pub(crate) fn completion(args: &CompletionArgs) -> Result<()> {
    let mut script = Vec::new();
    generate(args.shell, &mut shown_tree(), PROGRAM, &mut script);
    out_bytes(&script)
}

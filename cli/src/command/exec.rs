//! `exec`: another command in a running container.

use std::path::PathBuf;

use super::run::start_exit_code;
use crate::api::{ContainerInspect, ExecCreateRequest, ExecInspect, ExecStartRequest, IdResponse};
use crate::args::values::{self, detach_keys};
use crate::attach::terminal::size;
use crate::attach::{Attachment, DETACH_KEYS_DEFAULT, Ended, Process, check_tty};
use crate::client::{Call, Route};
use crate::error::{EXIT_FLAG, Error, Result};
use crate::session::Session;

/// The flags of `exec`.
#[derive(clap::Args)]
#[command(
    override_usage = "[OPTIONS] CONTAINER COMMAND [ARG...]",
    after_help = "Examples:
  nacre exec web ls /
  nacre exec -it -u root web bash"
)]
pub(crate) struct Args {
    /// Run in the background
    #[arg(short, long)]
    detach: bool,

    /// The keys that leave the command running [default: ctrl-p,ctrl-q]
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<String>,

    /// Set a variable: NAME=value, or NAME for its value here
    #[arg(short, long, value_name = "NAME[=VALUE]", value_parser = values::env)]
    env: Vec<String>,

    /// Set the variables of a file
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,

    /// Pass our input on
    #[arg(short, long)]
    interactive: bool,

    /// Give it all capabilities
    #[arg(long)]
    privileged: bool,

    /// Give it a terminal
    #[arg(short, long)]
    tty: bool,

    /// The user (and group) that it runs as
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,

    /// The directory that it starts in
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,

    #[arg(required = true, hide = true, num_args = 2.., trailing_var_arg = true)]
    words: Vec<String>,
}

/// Runs a command in a container.
pub(crate) async fn run(session: &Session, args: Args) -> Result<()> {
    let keys = args.detach_keys.as_deref().unwrap_or(DETACH_KEYS_DEFAULT);
    let keys = detach_keys(keys).map_err(Error::Said)?;
    let stdin = args.interactive && !args.detach;
    check_tty(args.tty, stdin)?;
    let Some((container, command)) = args.words.split_first() else {
        return Err(Error::said("no container"));
    };
    // Asked first, so that an unknown container is told before all else.
    let found: ContainerInspect = session
        .client
        .get(Route::docker(&["containers", container, "json"]))
        .await?;
    let mut env = Vec::new();
    for file in &args.env_file {
        env.extend(values::resolved(&values::lines_of(file)?));
    }
    env.extend(values::resolved(&args.env));
    let console_size = size()
        .filter(|_| args.tty)
        .map(|(rows, columns)| [u32::from(rows), u32::from(columns)]);
    let request = ExecCreateRequest {
        user: args.user.unwrap_or_default(),
        privileged: args.privileged,
        tty: args.tty,
        console_size,
        attach_stdin: stdin,
        attach_stdout: !args.detach,
        attach_stderr: !args.detach,
        detach: args.detach,
        detach_keys: args.detach_keys.unwrap_or_default(),
        env: (!env.is_empty()).then_some(env),
        working_dir: args.workdir.unwrap_or_default(),
        cmd: Some(command.to_vec()),
    };
    let route = Route::docker(&["containers", &found.id, "exec"]);
    let made: IdResponse = session
        .client
        .json(Call::post(route).json(&request)?)
        .await?;
    let start = ExecStartRequest {
        detach: args.detach,
        tty: args.tty,
        console_size,
    };
    let call = Call::post(Route::docker(&["exec", &made.id, "start"])).json(&start)?;
    if args.detach {
        return session.client.done(call).await.map(|_| ()).map_err(failed);
    }
    let hijacked = session.client.hijack(call).await.map_err(failed)?;
    let attachment = Attachment {
        client: &session.client,
        process: Process::Exec(&made.id),
        tty: args.tty,
        stdin,
        detach_keys: keys,
        proxies_signals: false,
    };
    match attachment.run(hijacked).await? {
        Ended::Detached => Ok(()),
        Ended::Closed => exit_code(session, &made.id).await,
    }
}

/// A command that could not be started has docker's exit code for why.
fn failed(error: Error) -> Error {
    let message = error.to_string();
    match start_exit_code(&message) {
        EXIT_FLAG => error,
        code => Error::Exit { code, message },
    }
}

async fn exit_code(session: &Session, id: &str) -> Result<()> {
    let ended: ExecInspect = session
        .client
        .get(Route::docker(&["exec", id, "json"]))
        .await?;
    match i32::try_from(ended.exit_code.unwrap_or(0)) {
        Ok(0) => Ok(()),
        Ok(code) => Err(Error::Silent(code)),
        Err(_) => Err(Error::Silent(1)),
    }
}

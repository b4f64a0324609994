//! `run`, `create`: new containers.

use super::container_options::ContainerOptions;
use super::pull::{PullPolicy, fetch, missing};
use crate::api::{ContainerCreateRequest, ContainerCreateResponse, WaitResponse};
use crate::args::values::{boolean, detach_keys};
use crate::attach::{Attachment, DETACH_KEYS_DEFAULT, Ended, Process, check_tty};
use crate::client::{Call, Route};
use crate::draw::{err, out};
use crate::error::{EXIT_FLAG, Error, Result};
use crate::session::Session;

/// The command is there and cannot be run.
const EXIT_CANNOT_RUN: i32 = 126;
/// The command is not there.
const EXIT_NO_COMMAND: i32 = 127;

/// The flags of `run`.
#[derive(clap::Args)]
#[command(
    override_usage = "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    disable_help_flag = true,
    after_help = "Examples:
  nacre run -it --rm debian bash              a shell in a container that goes away with it
  nacre run -d --name web -v ./site:/srv:ro site:v2
  nacre run --rm --network none -e A=b debian env

Flags end at the image: what follows belongs to the command. The exit code is the
command's; 125: nacre failed; 126, 127: the command cannot be run, is not there."
)]
pub(crate) struct RunArgs {
    /// Run in the background and print the container's ID
    #[arg(short, long)]
    detach: bool,

    /// The keys that leave the container running [default: ctrl-p,ctrl-q]
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<String>,

    /// Pass signals on to the command [default: true]
    #[arg(
        long, value_name = "BOOL", action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true,
        default_value = "true", default_missing_value = "true", hide_default_value = true,
        value_parser = boolean
    )]
    sig_proxy: bool,

    #[command(flatten)]
    options: ContainerOptions,

    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,

    #[arg(required = true, hide = true, trailing_var_arg = true)]
    words: Vec<String>,
}

/// The flags of `create`.
#[derive(clap::Args)]
#[command(
    override_usage = "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    disable_help_flag = true,
    after_help = "Examples:
  nacre create --name web site:v2             prints the ID; \"nacre start web\" starts it"
)]
pub(crate) struct CreateArgs {
    #[command(flatten)]
    options: ContainerOptions,

    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,

    #[arg(required = true, hide = true, trailing_var_arg = true)]
    words: Vec<String>,
}

/// Creates a container and prints its ID.
pub(crate) async fn create(session: &Session, args: CreateArgs) -> Result<()> {
    let request = args
        .options
        .request(&args.words, false)
        .map_err(|error| before_start("create", error))?;
    // Unlike run, create leaves the service's errors as they are.
    let id = make(session, &args.options, &request).await?;
    out(&format!("{id}\n"))
}

/// Runs a container.
pub(crate) async fn run(session: &Session, args: RunArgs) -> Result<()> {
    let options = &args.options;
    if args.detach && !options.attach.is_empty() {
        return Err(Error::Exit {
            code: 1,
            message: "conflicting options: cannot specify both --attach and --detach".to_owned(),
        });
    }
    let request = options
        .request(&args.words, args.detach)
        .map_err(|error| before_start("run", error))?;
    let keys = args.detach_keys.as_deref().unwrap_or(DETACH_KEYS_DEFAULT);
    let keys = detach_keys(keys).map_err(|error| before_start("run", Error::said(error)))?;
    check_tty(options.tty, request.config.attach_stdin)?;
    let id = make(session, options, &request)
        .await
        .map_err(|error| before_start("run", error))?;
    let attached =
        request.config.attach_stdin || request.config.attach_stdout || request.config.attach_stderr;
    if !attached {
        out(&format!("{id}\n"))?;
        let start = Route::docker(&["containers", &id, "start"]);
        return match session.client.done(Call::post(start)).await {
            Ok(_) => Ok(()),
            Err(error) => Err(before_start("run", error)),
        };
    }
    let attachment = Attachment {
        client: &session.client,
        process: Process::Container(&id),
        tty: options.tty,
        stdin: request.config.attach_stdin,
        detach_keys: keys,
        proxies_signals: args.sig_proxy,
    };
    attached_run(session, &attachment, &id, &request).await
}

/// Attaches, starts, passes everything on, and ends as the command does.
async fn attached_run(
    session: &Session,
    attachment: &Attachment<'_>,
    id: &str,
    request: &ContainerCreateRequest,
) -> Result<()> {
    let config = &request.config;
    let route = Route::docker(&["containers", id, "attach"])
        .flag("stream", true)
        .flag("stdin", config.attach_stdin)
        .flag("stdout", config.attach_stdout)
        .flag("stderr", config.attach_stderr);
    let hijacked = session
        .client
        .hijack(Call::post(route))
        .await
        .map_err(|error| before_start("run", error))?;
    // Asked before the start: a command may end before we could ask.
    let condition = if request.host_config.auto_remove {
        "removed"
    } else {
        "next-exit"
    };
    let wait = Route::docker(&["containers", id, "wait"]).with("condition", condition);
    let waiting = session
        .client
        .send(Call::post(wait))
        .await
        .map_err(|error| before_start("run", error))?;
    let start = Route::docker(&["containers", id, "start"]);
    if let Err(error) = session.client.done(Call::post(start)).await {
        return Err(before_start("run", error));
    }
    match attachment.run(hijacked).await? {
        Ended::Detached => Ok(()),
        Ended::Closed => exit_with(session.client.answer(waiting, "wait").await?),
    }
}

/// Ends with the exit code of a process.
pub(super) fn exit_with(ended: WaitResponse) -> Result<()> {
    if let Some(error) = ended.error.filter(|error| !error.message.is_empty()) {
        return Err(Error::Exit {
            code: EXIT_FLAG,
            message: error.message,
        });
    }
    match i32::try_from(ended.status_code) {
        Ok(0) => Ok(()),
        Ok(code) => Err(Error::Silent(code)),
        Err(_) => Err(Error::Silent(EXIT_FLAG)),
    }
}

/// Makes the container, and pulls its image if that is missing.
async fn make(
    session: &Session,
    options: &ContainerOptions,
    request: &ContainerCreateRequest,
) -> Result<String> {
    let policy = options.pull_policy()?;
    let image = &request.config.image;
    let platform = options.platform.as_deref();
    if policy == PullPolicy::Always {
        fetch(session, image, platform, options.quiet).await?;
    }
    let created = match post(session, options, request).await {
        // Also an image of another platform is not found.
        Err(error) if policy == PullPolicy::Missing && error.is_not_found() => {
            missing(session, image, platform, options.quiet).await?;
            post(session, options, request).await?
        }
        other => other?,
    };
    for warning in &created.warnings {
        err(&format!("WARNING: {warning}\n"));
    }
    Ok(created.id)
}

async fn post(
    session: &Session,
    options: &ContainerOptions,
    request: &ContainerCreateRequest,
) -> Result<ContainerCreateResponse> {
    let route = Route::docker(&["containers", "create"])
        .maybe("name", options.name.as_deref())
        .maybe("platform", options.platform.as_deref());
    session.client.json(Call::post(route).json(request)?).await
}

/// An error before the command ran: docker's exit codes, and where help is.
pub(super) fn before_start(command: &str, error: Error) -> Error {
    if matches!(error, Error::Exit { .. } | Error::Silent(_)) {
        return error;
    }
    let message = match error.hint() {
        Some(hint) => format!("{error}\nhint: {hint}"),
        None => error.to_string(),
    };
    Error::Exit {
        code: start_exit_code(&message),
        message: format!(
            "{program}: {message}\n\nRun '{program} {command} --help' for more information",
            program = crate::args::PROGRAM,
        ),
    }
}

/// The exit code that an error of starting a command has, by its words: the
/// API has nothing else to tell them apart.
pub(super) fn start_exit_code(message: &str) -> i32 {
    let says = |words: &[&str]| words.iter().any(|word| message.contains(word));
    if !message.starts_with("Error response from daemon") {
        return EXIT_FLAG;
    }
    if says(&[
        "executable file not found",
        "no such file or directory",
        "system cannot find the file specified",
    ]) {
        EXIT_NO_COMMAND
    } else if says(&["permission denied", "is a directory"]) {
        EXIT_CANNOT_RUN
    } else {
        EXIT_FLAG
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_before_the_start_have_dockers_exit_codes() {
        for (message, code) in [
            (
                "Error response from daemon: exec: \"nope\": executable file not found in $PATH",
                127,
            ),
            (
                "Error response from daemon: exec: \"/x\": stat /x: no such file or directory",
                127,
            ),
            (
                "Error response from daemon: exec: \"/etc\": is a directory",
                126,
            ),
            (
                "Error response from daemon: exec: \"/x\": permission denied",
                126,
            ),
            ("Error response from daemon: Conflict.", 125),
            ("open /no/env: no such file or directory", 125),
        ] {
            assert_eq!(start_exit_code(message), code, "{message}");
        }
    }
}

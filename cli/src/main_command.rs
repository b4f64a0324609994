//! The way of one command from its words to its exit code.

use std::error::Error as _;
use std::ffi::OsString;
use std::process::ExitCode;

use crate::args::{Cli, PROGRAM, Parsed, parse};
use crate::command::{Command, service};
use crate::draw::{err, out};
use crate::error::{Error, Result};
use crate::mount_helper::Helper;
use crate::session::Session;
use crate::settings::{Hooks, Settings};

/// Runs the command line of this process.
#[must_use]
pub fn main(hooks: Hooks) -> ExitCode {
    let argv: Vec<OsString> = std::env::args_os().collect();
    run(&argv, hooks)
}

/// Runs a command line, the program's name first.
#[must_use]
pub fn run(argv: &[OsString], hooks: Hooks) -> ExitCode {
    if let Some((program, words)) = argv.split_first()
        && let Some(helper) = Helper::named(program)
    {
        return exit(helper_command(helper, words, hooks), Detail::Brief);
    }
    let mut detail = Detail::Brief;
    let done = match parse(argv) {
        Parsed::Run(cli) => {
            if cli.debug {
                detail = Detail::Causes;
            }
            command(*cli, hooks)
        }
        Parsed::Print(text) => out(&text),
        Parsed::Refuse { message, code } => {
            err(&message);
            Err(Error::Silent(code))
        }
    };
    exit(done, detail)
}

fn exit(done: Result<()>, detail: Detail) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(&error, detail);
            // Exit codes have eight bits; what does not fit is a failure.
            ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(u8::MAX))
        }
    }
}

/// How much is said about an error.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Detail {
    Brief,
    /// With everything that led to it.
    Causes,
}

fn report(error: &Error, detail: Detail) {
    if error.is_silent() {
        return;
    }
    err(&format!("{error}\n"));
    let mut cause = error.source().filter(|_| detail == Detail::Causes);
    while let Some(source) = cause {
        err(&format!("caused by: {source}\n"));
        cause = source.source();
    }
    if let Some(hint) = error.hint() {
        err(&format!("hint: {hint}\n"));
    }
}

fn command(cli: Cli, hooks: Hooks) -> Result<()> {
    // An empty variable is one that is not set.
    let root = cli
        .root
        .as_deref()
        .filter(|root| !root.as_os_str().is_empty());
    let host = cli.host.as_deref().filter(|host| !host.is_empty());
    let settings = Settings::new(root, host, cli.debug)?;
    if let Command::Service(args) = &cli.command
        && let Some(options) = service::foreground(args)
    {
        return (hooks.run_service)(&settings, &options)
            .map_err(|message| Error::said(format!("{PROGRAM}: {message}")));
    }
    with_session(settings, hooks, async |session| {
        if cli.command.needs_service() {
            let verified = session.verify_root().await;
            verified.map_err(|error| cli.command.unreached(error))?;
        }
        cli.command.run(&session).await
    })
}

fn helper_command(helper: Helper, words: &[OsString], hooks: Hooks) -> Result<()> {
    let asked = helper.parse(words)?;
    let settings = asked.settings();
    let done = settings.and_then(|settings| {
        with_session(settings, hooks, async |session| asked.run(&session).await)
    });
    done.map_err(|error| helper.failed(&error))
}

/// Runs a command's conversation with the service.
fn with_session(
    settings: Settings,
    hooks: Hooks,
    command: impl AsyncFnOnce(Session) -> Result<()>,
) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| Error::io("cannot start the event loop", source))?;
    let done = runtime.block_on(command(Session::new(settings, hooks)));
    // A thread may still wait for input that nobody needs any more.
    runtime.shutdown_background();
    done
}

//! The way of one command from its words to its exit code.

use std::ffi::OsString;
use std::process::ExitCode;

use crate::args::{Cli, PROGRAM, Parsed, parse};
use crate::command::{Command, service};
use crate::draw::{err, out};
use crate::error::{Error, Result};
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
    let done = match parse(argv) {
        Parsed::Run(cli) => command(*cli, hooks),
        Parsed::Print(text) => out(&text),
        Parsed::Refuse { message, code } => {
            err(&message);
            Err(Error::Silent(code))
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(&error);
            // Exit codes have eight bits; what does not fit is a failure.
            ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(u8::MAX))
        }
    }
}

fn report(error: &Error) {
    if error.is_silent() {
        return;
    }
    err(&format!("{error}\n"));
    if let Some(hint) = error.hint() {
        err(&format!("hint: {hint}\n"));
    }
}

fn command(cli: Cli, hooks: Hooks) -> Result<()> {
    let settings = Settings::new(cli.root.as_deref(), cli.host.as_deref(), cli.debug)?;
    if let Command::Service(args) = &cli.command
        && let Some(options) = service::foreground(args)
    {
        return (hooks.run_service)(&settings, &options)
            .map_err(|message| Error::said(format!("{PROGRAM}: {message}")));
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| Error::io("cannot start the event loop", source))?;
    let done = runtime.block_on(async {
        let session = Session::new(settings, hooks);
        if cli.command.needs_service() {
            session.verify_root().await?;
        }
        cli.command.run(&session).await
    });
    // A thread may still wait for input that nobody needs any more.
    runtime.shutdown_background();
    done
}

//! The way of one command from its words to its exit code.

use std::error::Error as _;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::args::{Cli, PROGRAM, Parsed, parse};
use crate::command::{Command, service};
use crate::draw::{err, out};
use crate::error::{Error, Result};
use crate::mount_helper::Helper;
use crate::session::Session;
use crate::settings::{Hooks, ServiceOptions, Settings, absolute};

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
            command(*cli, argv, hooks)
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

/// Works out where the service of a command is, and what the settings file says.
fn settings(cli: &Cli) -> Result<(Settings, ServiceOptions)> {
    // An empty variable is one that is not set.
    let path = |given: &Option<PathBuf>| {
        let given = given.clone();
        given.filter(|path| !path.as_os_str().is_empty())
    };
    let config = path(&cli.config);
    let file = ServiceOptions::read(config.as_deref())?;
    let root = path(&cli.root).or_else(|| file.root.clone());
    let host = cli.host.clone().filter(|host| !host.is_empty());
    let host = host.or_else(|| file.host.clone());
    let mut settings = Settings::new(root.as_deref(), host.as_deref(), cli.debug)?;
    settings.config = config.as_deref().map(absolute).transpose()?;
    if cli.host.as_deref().is_none_or(str::is_empty) {
        // What the file says of the socket is said of our own service, which may be started.
        settings.socket_given = false;
    }
    Ok((settings, file))
}

const NOT_A_SERVICE: &str = "not a command line of the service, which \"nacre service\" starts";

/// Reads the command line of a service: `nacre … service …`.
pub fn service_of(argv: &[OsString]) -> std::result::Result<(Settings, ServiceOptions), String> {
    let Parsed::Run(cli) = parse(argv) else {
        return Err(NOT_A_SERVICE.to_owned());
    };
    let said = |error: Error| error.to_string();
    let (settings, file) = settings(&cli).map_err(said)?;
    match &cli.command {
        Command::Service(args) => match service::foreground(args, file).map_err(said)? {
            Some(options) => Ok((settings, options)),
            None => Err(NOT_A_SERVICE.to_owned()),
        },
        _ => Err(NOT_A_SERVICE.to_owned()),
    }
}

fn command(cli: Cli, argv: &[OsString], hooks: Hooks) -> Result<()> {
    let (settings, file) = settings(&cli)?;
    if let Command::Service(args) = &cli.command
        && service::foreground(args, file)?.is_some()
    {
        let failed = (hooks.run_service)(argv);
        return Err(Error::said(format!("{PROGRAM}: {failed}")));
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

//! The command line's grammar: builds clap's tree from the commands, parses,
//! and says what is wrong in docker's words. Runs nothing.

mod refusal;
pub(crate) mod time;
pub(crate) mod values;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::{ArgAction, CommandFactory, FromArgMatches};

use crate::command::Command;

/// How the program is called in usage lines and errors.
pub(crate) const PROGRAM: &str = "nacre";

/// The whole command line.
#[derive(clap::Parser)]
#[command(
    name = PROGRAM,
    about = "Keeps container images as layers, mounts them, runs them, and keeps what changed",
    version,
    disable_version_flag = true,
    override_usage = "[OPTIONS] COMMAND [ARG...]",
    arg_required_else_help = true,
    after_help = "Examples:
  nacre pull debian                     download an image
  nacre mount debian /mnt/a             show it as a directory that you can write to
  nacre run -it --rm debian bash        run a shell in it
  nacre commit web site:v2              keep what changed as a new image

\"nacre COMMAND --help\" says more about a command."
)]
pub(crate) struct Cli {
    /// The directory of the store [default: /var/lib/nacre]
    #[arg(
        long,
        value_name = "DIR",
        env = "NACRE_ROOT",
        hide_env_values = true,
        // An empty variable must not be an error.
        value_parser = OsStringValueParser::new().map(PathBuf::from)
    )]
    pub(crate) root: Option<PathBuf>,

    /// The socket of the service [default: unix:///run/nacre/nacre.sock]
    #[arg(
        short = 'H',
        long,
        value_name = "unix:///PATH",
        env = "NACRE_HOST",
        hide_env_values = true
    )]
    pub(crate) host: Option<String>,

    /// The settings file [default: /etc/nacre/nacre.toml]
    #[arg(
        long,
        value_name = "FILE",
        env = "NACRE_CONFIG",
        hide_env_values = true,
        value_parser = OsStringValueParser::new().map(PathBuf::from)
    )]
    pub(crate) config: Option<PathBuf>,

    /// Say more about what goes wrong
    #[arg(short = 'D', long)]
    pub(crate) debug: bool,

    /// Print the version and quit
    #[arg(short = 'v', long, action = ArgAction::Version)]
    version: Option<bool>,

    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What came of parsing.
pub(crate) enum Parsed {
    /// Run this.
    Run(Box<Cli>),
    /// Print this to standard output and end with success: help, version.
    Print(String),
    /// Print this to standard error and end with this code.
    Refuse { message: String, code: i32 },
}

/// Parses a command line, the program's name first.
pub(crate) fn parse(argv: &[OsString]) -> Parsed {
    let tree = parsing_tree();
    let error = match tree.clone().try_get_matches_from(argv) {
        Ok(matches) => match Cli::from_arg_matches(&matches) {
            Ok(cli) => return Parsed::Run(Box::new(cli)),
            Err(error) => error,
        },
        Err(error) => error,
    };
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            Parsed::Print(help(argv, &error))
        }
        ErrorKind::DisplayVersion => Parsed::Print(error.to_string()),
        _ => refusal::refuse(&tree, argv, &error),
    }
}

/// The tree as it is shown: in help and for completions.
pub(crate) fn shown_tree() -> clap::Command {
    with_paths(Cli::command(), PROGRAM)
}

/// The tree as it is parsed: every switch also takes `=true` and `=false`, as
/// docker's do, which help does not mention.
fn parsing_tree() -> clap::Command {
    with_boolean_values(shown_tree())
}

/// Help is drawn from the tree without the boolean values.
fn help(argv: &[OsString], error: &clap::Error) -> String {
    match shown_tree().try_get_matches_from(argv) {
        Err(shown) if shown.kind() == error.kind() => shown.to_string(),
        _ => error.to_string(),
    }
}

/// Commands give the end of their usage line; the same command stands at
/// several places (`images`, `image ls`).
fn with_paths(command: clap::Command, path: &str) -> clap::Command {
    let mut command = command;
    let rendered = command.render_usage().to_string();
    let tail = rendered.strip_prefix("Usage: ").unwrap_or(&rendered);
    let usage = if command.has_subcommands() && path != PROGRAM {
        format!("{path} COMMAND")
    } else {
        format!("{path} {tail}").trim_end().to_owned()
    };
    command
        .override_usage(usage)
        .disable_help_subcommand(path != PROGRAM)
        .args_override_self(true)
        .mut_subcommands(|sub| {
            let path = format!("{path} {}", sub.get_name());
            with_paths(sub, &path)
        })
}

fn with_boolean_values(command: clap::Command) -> clap::Command {
    command
        .mut_args(|arg| match arg.get_action() {
            ArgAction::SetTrue => arg
                .action(ArgAction::Set)
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("true")
                .default_value("false")
                .value_parser(values::boolean),
            _ => arg,
        })
        .mut_subcommands(with_boolean_values)
}

#[cfg(test)]
mod tests;

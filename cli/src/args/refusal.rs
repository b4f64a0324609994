//! A command line that cannot be parsed: docker's words and exit codes.

use std::error::Error as _;
use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::{PROGRAM, Parsed};
use crate::error::EXIT_FLAG;

/// How many words a command takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Arity {
    least: usize,
    most: usize,
}

const MANY: usize = usize::MAX;

/// Says what is wrong.
pub(super) fn refuse(tree: &clap::Command, argv: &[OsString], error: &clap::Error) -> Parsed {
    let (command, path, word) = locate(tree, argv);
    let usage = command.clone().render_usage().to_string();
    let usage = usage.strip_prefix("Usage: ").unwrap_or(&usage);
    let argument = text(error, ContextKind::InvalidArg);
    let end = format!("Usage:  {usage}\n\nRun '{path} --help' for more information\n");
    let flag_error = |message: String| Parsed::Refuse {
        message: format!("{message}\n\n{end}"),
        code: EXIT_FLAG,
    };
    match error.kind() {
        ErrorKind::InvalidSubcommand => unknown_command(command, &path, word.as_deref()),
        ErrorKind::UnknownArgument => match argument.strip_prefix("--") {
            Some(flag) => flag_error(format!(
                "unknown flag: --{}",
                flag.split_once('=').map_or(flag, |(name, _)| name)
            )),
            None if command.has_subcommands() && !argument.starts_with('-') => {
                unknown_command(command, &path, Some(&argument))
            }
            None => match argument.strip_prefix('-').and_then(|a| a.chars().next()) {
                Some(letter) => flag_error(format!(
                    "unknown shorthand flag: '{letter}' in {}",
                    given_cluster(argv, letter).unwrap_or(argument)
                )),
                None => wrong_count(command, &path, usage),
            },
        },
        ErrorKind::MissingRequiredArgument => match missing_flags(error) {
            Some(names) => flag_error(format!("required flag(s) {names} not set")),
            None => wrong_count(command, &path, usage),
        },
        ErrorKind::TooFewValues | ErrorKind::TooManyValues | ErrorKind::WrongNumberOfValues
            if !argument.starts_with('-') =>
        {
            wrong_count(command, &path, usage)
        }
        // An option without its value.
        ErrorKind::InvalidValue if text(error, ContextKind::InvalidValue).is_empty() => {
            let name = argument.split_whitespace().next().unwrap_or_default();
            flag_error(format!("flag needs an argument: {name}"))
        }
        ErrorKind::InvalidValue | ErrorKind::ValueValidation if argument.starts_with('-') => {
            let value = text(error, ContextKind::InvalidValue);
            let flag = flag_names(command, &argument);
            let reason = reason(error);
            flag_error(format!(
                "invalid argument {value:?} for \"{flag}\" flag: {reason}"
            ))
        }
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            let value = text(error, ContextKind::InvalidValue);
            let reason = reason(error);
            Parsed::Refuse {
                message: format!("{PROGRAM}: invalid argument {value:?}: {reason}\n\n{end}"),
                code: 1,
            }
        }
        _ => flag_error(plain(error)),
    }
}

/// Why a value is refused: what its parser said, or else what it may be.
fn reason(error: &clap::Error) -> String {
    match error.source() {
        Some(source) => source.to_string(),
        None => format!(
            "must be one of {}",
            text(error, ContextKind::ValidValue).replace(", ", "|")
        ),
    }
}

/// The command that argv leads to, its path, and the word after it.
fn locate<'c>(
    tree: &'c clap::Command,
    argv: &[OsString],
) -> (&'c clap::Command, String, Option<String>) {
    let mut command = tree;
    let mut path = PROGRAM.to_owned();
    let mut words = argv.iter().skip(1).map(|word| word.to_string_lossy());
    while let Some(word) = words.next() {
        if !command.has_subcommands() {
            break;
        }
        if word.starts_with('-') {
            let takes_value = command.get_arguments().any(|arg| {
                let long = arg
                    .get_long()
                    .is_some_and(|long| word == format!("--{long}"));
                let short = arg
                    .get_short()
                    .is_some_and(|short| word == format!("-{short}"));
                (long || short) && arg.get_action().takes_values() && !arg.is_require_equals_set()
            });
            if takes_value {
                words.next();
            }
            continue;
        }
        match command.find_subcommand(word.as_ref()) {
            Some(found) => {
                command = found;
                path = format!("{path} {}", found.get_name());
            }
            None => return (command, path, Some(word.into_owned())),
        }
    }
    (command, path, None)
}

fn unknown_command(command: &clap::Command, path: &str, word: Option<&str>) -> Parsed {
    let word = word.unwrap_or_default();
    let usage = if path == PROGRAM {
        String::new()
    } else {
        format!("Usage:  {path}\n\n")
    };
    let near = nearest(command, word)
        .map(|name| format!("Did you mean \"{path} {name}\"?\n\n"))
        .unwrap_or_default();
    Parsed::Refuse {
        message: format!(
            "{PROGRAM}: unknown command: {path} {word}\n\n{usage}{near}Run '{path} --help' for more information\n"
        ),
        code: 1,
    }
}

/// The command that a mistyped word meant, if one is near.
fn nearest(command: &clap::Command, word: &str) -> Option<String> {
    command
        .get_subcommands()
        .filter(|sub| !sub.is_hide_set())
        .map(|sub| (distance(sub.get_name(), word), sub.get_name()))
        .filter(|(distance, name)| *distance <= name.len() / 3)
        .min()
        .map(|(_, name)| name.to_owned())
}

/// How many letters must be changed, added, left out or swapped.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().collect();
    let b: Vec<char> = b.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, letter) in a.iter().enumerate() {
        let mut next = vec![i + 1];
        for (j, other) in b.iter().enumerate() {
            let at = |row: &[usize], index: usize| row.get(index).copied().unwrap_or(MANY - 1);
            let change = at(&row, j) + usize::from(letter != other);
            let mut least = change.min(at(&row, j + 1) + 1).min(at(&next, j) + 1);
            let swapped =
                i > 0 && j > 0 && a.get(i - 1) == Some(other) && b.get(j - 1) == Some(letter);
            if swapped {
                least = least.min(at(&before, j - 1) + 1);
            }
            next.push(least);
        }
        before = std::mem::replace(&mut row, next);
    }
    row.last().copied().unwrap_or(MANY)
}

fn wrong_count(command: &clap::Command, path: &str, usage: &str) -> Parsed {
    let arity = arity(command);
    let (complaint, see) = complaint(arity);
    Parsed::Refuse {
        message: format!(
            "{PROGRAM}: '{path}' {complaint}\n\nUsage:  {usage}\n\n{see} '{path} --help' for more information\n"
        ),
        code: 1,
    }
}

fn arity(command: &clap::Command) -> Arity {
    let mut arity = Arity { least: 0, most: 0 };
    for positional in command.get_positionals() {
        let range = positional.get_num_args().unwrap_or_else(|| 1.into());
        if positional.is_required_set() {
            arity.least += range.min_values().max(1);
        }
        arity.most = arity.most.saturating_add(range.max_values());
    }
    arity
}

/// docker's words, its two ways to point at the help included.
fn complaint(arity: Arity) -> (String, &'static str) {
    let words = |count: usize| {
        let plural = if count == 1 { "" } else { "s" };
        format!("{count} argument{plural}")
    };
    match arity {
        Arity { most: 0, .. } => ("accepts no arguments".to_owned(), "Run"),
        Arity { least, most } if least == most => (format!("requires {}", words(most)), "Run"),
        Arity { least, most: MANY } => (format!("requires at least {}", words(least)), "See"),
        // docker writes "SRun" here, which is not worth keeping.
        Arity { least: 0, most } => (format!("requires at most {}", words(most)), "Run"),
        Arity { least, most } => (
            format!("requires at least {least} and at most {}", words(most)),
            "Run",
        ),
    }
}

/// `-n, --last`, as docker names a flag, from what clap calls it.
fn flag_names(command: &clap::Command, argument: &str) -> String {
    let name = argument.split([' ', '[', '=']).next().unwrap_or(argument);
    let found = command.get_arguments().find(|arg| {
        arg.get_long()
            .is_some_and(|long| name == format!("--{long}"))
            || arg
                .get_short()
                .is_some_and(|short| name == format!("-{short}"))
    });
    match found.map(|arg| (arg.get_short(), arg.get_long())) {
        Some((Some(short), Some(long))) => format!("-{short}, --{long}"),
        _ => name.to_owned(),
    }
}

/// `"username", "server"`: the flags that another one requires. `None` if a word is missing as well, which docker tells first.
fn missing_flags(error: &clap::Error) -> Option<String> {
    let Some(ContextValue::Strings(missing)) = error.get(ContextKind::InvalidArg) else {
        return None;
    };
    let quoted = |argument: &String| {
        let name = argument.strip_prefix('-')?.trim_start_matches('-');
        Some(format!("{:?}", name.split([' ', '[', '=']).next()?))
    };
    let names: Vec<String> = missing.iter().map(quoted).collect::<Option<_>>()?;
    (!names.is_empty()).then(|| names.join(", "))
}

/// The word of argv that an unknown letter stands in: `-itx`.
fn given_cluster(argv: &[OsString], letter: char) -> Option<String> {
    argv.iter()
        .filter_map(|word| word.to_str())
        .find(|word| word.starts_with('-') && !word.starts_with("--") && word.contains(letter))
        .map(str::to_owned)
}

fn text(error: &clap::Error, kind: ContextKind) -> String {
    match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        Some(ContextValue::Strings(texts)) => texts.join(", "),
        _ => String::new(),
    }
}

/// clap's own first line, for what docker has no words for.
fn plain(error: &clap::Error) -> String {
    let text = error.to_string();
    let first = text.lines().next().unwrap_or_default();
    first.strip_prefix("error: ").unwrap_or(first).to_owned()
}

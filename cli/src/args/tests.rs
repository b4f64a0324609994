//! Shapes of arguments: what is accepted, and docker's words for what is not.

use super::*;

fn parsed(words: &[&str]) -> Parsed {
    let argv: Vec<OsString> = std::iter::once(PROGRAM)
        .chain(words.iter().copied())
        .map(OsString::from)
        .collect();
    parse(&argv)
}

fn refused(words: &[&str]) -> (String, i32) {
    match parsed(words) {
        Parsed::Refuse { message, code } => (message, code),
        Parsed::Run(_) => panic!("{words:?} was accepted"),
        Parsed::Print(text) => panic!("{words:?} printed {text}"),
    }
}

#[test]
fn the_tree_is_sound() {
    parsing_tree().debug_assert();
    shown_tree().debug_assert();
}

#[test]
fn wrong_counts_are_told_as_docker_tells_them() {
    for (words, complaint, usage) in [
        (
            &["rm"][..],
            "'nacre rm' requires at least 1 argument",
            "nacre rm [OPTIONS] CONTAINER [CONTAINER...]",
        ),
        (
            &["rename", "a"],
            "'nacre rename' requires 2 arguments",
            "nacre rename CONTAINER NEW_NAME",
        ),
        (
            &["rename", "a", "b", "c"],
            "'nacre rename' requires 2 arguments",
            "nacre rename CONTAINER NEW_NAME",
        ),
        (
            &["ps", "x"],
            "'nacre ps' accepts no arguments",
            "nacre ps [OPTIONS]",
        ),
        (
            &["container", "ls", "x"],
            "'nacre container ls' accepts no arguments",
            "nacre container ls [OPTIONS]",
        ),
        (
            &["images", "a", "b"],
            "'nacre images' requires at most 1 argument",
            "nacre images [OPTIONS] [REPOSITORY[:TAG]]",
        ),
        (
            &["image", "ls", "a", "b"],
            "'nacre image ls' requires at most 1 argument",
            "nacre image ls [OPTIONS] [REPOSITORY[:TAG]]",
        ),
        (
            &["commit"],
            "'nacre commit' requires at least 1 and at most 2 arguments",
            "nacre commit [OPTIONS] CONTAINER|MOUNT [REPOSITORY[:TAG]]",
        ),
        (
            &["exec", "web"],
            "'nacre exec' requires at least 2 arguments",
            "nacre exec [OPTIONS] CONTAINER COMMAND [ARG...]",
        ),
        (
            &["exec"],
            "'nacre exec' requires at least 2 arguments",
            "nacre exec [OPTIONS] CONTAINER COMMAND [ARG...]",
        ),
        (
            &["run"],
            "'nacre run' requires at least 1 argument",
            "nacre run [OPTIONS] IMAGE [COMMAND] [ARG...]",
        ),
        (
            &["history"],
            "'nacre history' requires 1 argument",
            "nacre history [OPTIONS] IMAGE",
        ),
    ] {
        let (message, code) = refused(words);
        assert_eq!(code, 1, "{words:?}");
        assert!(
            message.starts_with(&format!("nacre: {complaint}\n\nUsage:  {usage}\n\n")),
            "{message}"
        );
        assert!(
            message.ends_with("--help' for more information\n"),
            "{message}"
        );
    }
    assert!(refused(&["rm"]).0.contains("\nSee 'nacre rm --help'"));
    assert!(
        refused(&["history"])
            .0
            .contains("\nRun 'nacre history --help'")
    );
}

#[test]
fn bad_flags_are_told_as_docker_tells_them() {
    for (words, complaint) in [
        (&["run", "--bogus", "x"][..], "unknown flag: --bogus"),
        (&["run", "--bogus=1", "x"], "unknown flag: --bogus"),
        (&["run", "-y", "x"], "unknown shorthand flag: 'y' in -y"),
        (&["run", "-ity", "x"], "unknown shorthand flag: 'y' in -ity"),
        (&["--bogus"], "unknown flag: --bogus"),
        (
            &["image", "ls", "-f", "bogus"],
            "invalid argument \"bogus\" for \"-f, --filter\" flag: bad format of filter (expected name=value)",
        ),
        (
            &["ps", "-n", "x"],
            "invalid argument \"x\" for \"-n, --last\" flag: strconv.ParseInt: parsing \"x\": invalid syntax",
        ),
        (
            &["run", "--ulimit", "x=y", "a"],
            "invalid argument \"x=y\" for \"--ulimit\" flag: invalid ulimit type: x",
        ),
        (
            &["run", "-a", "bogus", "a"],
            "invalid argument \"bogus\" for \"-a, --attach\" flag: valid streams are STDIN, STDOUT and STDERR",
        ),
        (
            &["run", "--rm=foo", "a"],
            "invalid argument \"foo\" for \"--rm\" flag: strconv.ParseBool: parsing \"foo\": invalid syntax",
        ),
        (
            &["stop", "-t", "a", "b"],
            "invalid argument \"a\" for \"-t, --timeout\" flag: strconv.ParseInt: parsing \"a\": invalid syntax",
        ),
    ] {
        let (message, code) = refused(words);
        assert_eq!(code, 125, "{words:?}");
        assert!(
            message.starts_with(&format!("{complaint}\n\nUsage:  nacre ")),
            "{message}"
        );
    }
    let (message, code) = refused(&["run", "-e"]);
    assert_eq!(code, 125);
    assert!(message.starts_with("flag needs an argument: "), "{message}");
}

/// Of a tree of its own: no flag of ours requires another in clap's eyes yet.
#[test]
fn flags_that_another_one_requires_are_told_by_name() {
    use clap::Arg;

    let store = clap::Command::new("store").args([
        Arg::new("name").long("name").requires("user"),
        Arg::new("user").short('u').long("user").value_name("NAME"),
        Arg::new("read-only")
            .long("read-only")
            .action(ArgAction::SetTrue),
        Arg::new("both")
            .long("both")
            .requires_all(["read-only", "user"]),
        Arg::new("IMAGE").required(true),
    ]);
    let tree = clap::Command::new(PROGRAM).subcommand(store.override_usage("[OPTIONS] IMAGE"));
    let tree = with_boolean_values(with_paths(tree, PROGRAM));
    let refused = |words: &[&str]| {
        let argv = std::iter::once(&PROGRAM).chain(words).map(OsString::from);
        let argv: Vec<OsString> = argv.collect();
        let Err(error) = tree.clone().try_get_matches_from(&argv) else {
            panic!("{words:?} was accepted");
        };
        match refusal::refuse(&tree, &argv, &error) {
            Parsed::Refuse { message, code } => (message, code),
            _ => panic!("{words:?} was not refused"),
        }
    };
    let end = "\n\nUsage:  nacre store [OPTIONS] IMAGE\n\nRun 'nacre store --help' for more information\n";
    for (words, complaint, code) in [
        (
            &["store", "--name", "a", "x"][..],
            "required flag(s) \"user\" not set",
            125,
        ),
        (
            &["store", "--both", "a", "x"],
            "required flag(s) \"read-only\", \"user\" not set",
            125,
        ),
        // docker counts the words before it looks at flags.
        (
            &["store", "--name", "a"],
            "nacre: 'nacre store' requires 1 argument",
            1,
        ),
    ] {
        assert_eq!(refused(words), (format!("{complaint}{end}"), code));
    }
}

#[test]
fn a_word_that_must_be_one_of_a_few_is_told_which() {
    let (message, code) = refused(&["completion", "tcsh"]);
    assert_eq!(code, 1);
    assert!(
        message.starts_with("nacre: invalid argument \"tcsh\": must be one of bash|"),
        "{message}"
    );
}

#[test]
fn unknown_commands_are_told_with_what_is_near() {
    let (message, code) = refused(&["bogus"]);
    assert_eq!(code, 1);
    assert_eq!(
        message,
        "nacre: unknown command: nacre bogus\n\nRun 'nacre --help' for more information\n"
    );
    let (message, _) = refused(&["image", "bogus"]);
    assert_eq!(
        message,
        "nacre: unknown command: nacre image bogus\n\nUsage:  nacre image\n\nRun 'nacre image --help' for more information\n"
    );
    assert!(
        refused(&["puhs", "x"])
            .0
            .contains("Did you mean \"nacre push\"?")
    );
}

#[test]
fn switches_are_combined_repeated_and_switched_off() {
    for words in [
        &["run", "-itd", "--rm", "a"][..],
        &["run", "--rm=true", "-i=false", "a"],
        &["ps", "-aq", "-a"],
        &["ps", "-n", "-1"],
        &["run", "--name", "a", "--name", "b", "x"],
        &["rm", "web", "-f"],
        &["image", "list"],
        &["container", "ps"],
        &["unmount", "/mnt/a"],
        &["stop", "--time", "3", "a"],
        &["commit", "--pause=false", "a"],
        &["history", "-H=false", "a"],
        &["-H", "unix:///x", "ps"],
        &["--root", "/x", "ps"],
        &["mount"],
        &["load"],
    ] {
        assert!(matches!(parsed(words), Parsed::Run(_)), "{words:?}");
    }
}

#[test]
fn help_is_there_for_every_command_and_teaches() {
    fn visit(command: &clap::Command, path: &[String]) {
        for sub in command.get_subcommands() {
            if sub.get_name() == "help" {
                continue;
            }
            let mut path = path.to_vec();
            path.push(sub.get_name().to_owned());
            if sub.has_subcommands() {
                visit(sub, &path);
                continue;
            }
            let mut words: Vec<&str> = path.iter().map(String::as_str).collect();
            words.push("--help");
            let Parsed::Print(text) = parsed(&words) else {
                panic!("no help for {path:?}");
            };
            assert!(sub.get_about().is_some(), "{path:?} says nothing");
            assert!(
                text.contains("Examples:\n  nacre "),
                "{path:?} has no example"
            );
            assert!(
                text.contains(&format!("Usage: nacre {}", path.join(" "))),
                "{text}"
            );
            let switches = text.lines().filter(|line| line.contains("[=<"));
            for line in switches {
                assert!(line.contains("[default: true]"), "{path:?}: {line}");
            }
        }
    }
    visit(&shown_tree(), &[]);
    assert!(matches!(parsed(&[]), Parsed::Print(_)));
    assert!(matches!(parsed(&["image"]), Parsed::Print(_)));
    assert!(matches!(parsed(&["--version"]), Parsed::Print(text) if text.starts_with("nacre ")));
}

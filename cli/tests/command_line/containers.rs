//! Containers: what is asked in which order, what is printed where, how it
//! ends.

use crate::fake::{Fake, Reply, framed, ok, refusal, stderr, stdout};
use nacre_cli::api::StreamKind;

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn created() -> Reply {
    Reply::Body(201, format!("{{\"Id\":\"{ID}\",\"Warnings\":[]}}"))
}

/// A container that writes, and ends with 3.
fn running(create: Vec<Reply>, output: Vec<u8>, echo: bool) -> Fake {
    let mut routes: Vec<(&'static str, Reply)> = create
        .into_iter()
        .map(|reply| ("POST /containers/create", reply))
        .collect();
    routes.extend([
        (
            "POST /containers/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef/attach",
            Reply::Hijack {
                framed: true,
                output,
                echo,
            },
        ),
        (
            "POST /containers/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef/wait",
            Reply::Later(200, "{\"StatusCode\":3}".to_owned()),
        ),
        (
            "POST /containers/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef/start",
            Reply::Body(204, String::new()),
        ),
        (
            "POST /images/create",
            Reply::Pieces(vec![
                b"{\"status\":\"Pulling from library/x\",\"id\":\"latest\"}\r\n{\"sta".to_vec(),
                b"tus\":\"Status: Downloaded newer image for x:latest\"}\r\n".to_vec(),
            ]),
        ),
    ]);
    Fake::new(routes)
}

#[test]
fn run_attaches_and_waits_before_it_starts_and_ends_as_the_command_does() {
    let output = framed(&[
        (StreamKind::Stdout, "out\n"),
        (StreamKind::Stderr, "err\n"),
        (StreamKind::Stdout, "more\n"),
    ]);
    let fake = running(vec![created()], output, false);
    let done = fake.nacre(&["run", "--rm", "-e", "A=b", "x", "sh", "-c", "exit 3"]);
    assert_eq!(stdout(&done), "out\nmore\n");
    assert_eq!(stderr(&done), "err\n");
    assert_eq!(done.status.code(), Some(3));
    let container = format!("POST /containers/{ID}");
    assert_eq!(
        fake.asked_paths(),
        [
            "POST /containers/create".to_owned(),
            format!("{container}/attach"),
            format!("{container}/wait"),
            format!("{container}/start"),
        ]
    );
    let asked = fake.asked();
    let create = asked.first().unwrap();
    for part in [
        "\"Cmd\":[\"sh\",\"-c\",\"exit 3\"]",
        "\"Env\":[\"A=b\"]",
        "\"AutoRemove\":true",
        "\"Entrypoint\":null",
        "\"AttachStdin\":false",
    ] {
        assert!(create.contains(part), "{part} is not in {create}");
    }
    assert!(asked.get(2).unwrap().contains("condition=removed"));
}

#[test]
fn run_passes_input_on_and_its_end() {
    let fake = running(vec![created()], Vec::new(), true);
    let input = "line\n".repeat(40_000);
    let done = fake.nacre_with(&["run", "-i", "x", "cat"], input.as_bytes());
    assert_eq!(stdout(&done), input);
    assert_eq!(done.status.code(), Some(3));
}

#[test]
fn run_pulls_a_missing_image_once_and_says_so_on_stderr() {
    let missing = refusal(404, "No such image: x:latest");
    let fake = running(vec![missing, created()], Vec::new(), false);
    let done = fake.nacre(&["run", "-d", "x"]);
    assert_eq!(stdout(&done), format!("{ID}\n"), "only the ID is on stdout");
    assert_eq!(
        stderr(&done),
        "Unable to find image 'x:latest' locally\n\
         latest: Pulling from library/x\n\
         Status: Downloaded newer image for x:latest\n"
    );
    assert_eq!(done.status.code(), Some(0));
    assert_eq!(
        fake.asked_paths(),
        [
            "POST /containers/create".to_owned(),
            "POST /images/create".to_owned(),
            "POST /containers/create".to_owned(),
            format!("POST /containers/{ID}/start"),
        ]
    );
}

#[test]
fn run_never_pulls_where_it_may_not() {
    let missing = refusal(404, "No such image: x:latest");
    let fake = running(vec![missing], Vec::new(), false);
    let done = fake.nacre(&["run", "--pull", "never", "x"]);
    assert_eq!(done.status.code(), Some(125));
    assert_eq!(fake.asked().len(), 1);
}

#[test]
fn errors_before_the_command_runs_have_dockers_exit_codes() {
    for (message, code) in [
        ("Conflict. The container name \"/a\" is already in use", 125),
        ("exec: \"nope\": executable file not found in $PATH", 127),
        ("exec: \"/etc\": is a directory", 126),
    ] {
        let fake = running(vec![refusal(409, message)], Vec::new(), false);
        let done = fake.nacre(&["run", "x"]);
        assert_eq!(done.status.code(), Some(code), "{message}");
        assert_eq!(
            stderr(&done),
            format!(
                "nacre: Error response from daemon: {message}\n\n\
                 Run 'nacre run --help' for more information\n"
            )
        );
    }
}

#[test]
fn a_terminal_is_refused_where_input_is_none() {
    let fake = Fake::new(Vec::new());
    let done = fake.nacre(&["run", "-it", "x"]);
    assert_eq!(stderr(&done), "the input device is not a TTY\n");
    assert_eq!(done.status.code(), Some(1));
    assert!(fake.asked().is_empty());
}

#[test]
fn exec_ends_as_its_command_does() {
    let fake = Fake::new(vec![
        ("GET /containers/web/json", ok("{\"Id\":\"c1\"}")),
        (
            "POST /containers/c1/exec",
            Reply::Body(201, "{\"Id\":\"e1\"}".to_owned()),
        ),
        (
            "POST /exec/e1/start",
            Reply::Hijack {
                framed: true,
                output: framed(&[(StreamKind::Stdout, "a\n"), (StreamKind::Stderr, "b\n")]),
                echo: false,
            },
        ),
        ("GET /exec/e1/json", ok("{\"ID\":\"e1\",\"ExitCode\":42}")),
    ]);
    let done = fake.nacre(&["exec", "-u", "me", "web", "ls", "-l"]);
    assert_eq!(stdout(&done), "a\n");
    assert_eq!(stderr(&done), "b\n");
    assert_eq!(done.status.code(), Some(42));
    let asked = fake.asked();
    assert!(asked.get(1).unwrap().contains("\"Cmd\":[\"ls\",\"-l\"]"));
    assert!(asked.get(1).unwrap().contains("\"User\":\"me\""));
}

#[test]
fn exec_in_an_unknown_container_says_so_before_all_else() {
    let fake = Fake::new(vec![(
        "GET /containers/web/json",
        refusal(404, "No such container: web"),
    )]);
    let done = fake.nacre(&["exec", "web", "ls"]);
    assert_eq!(
        stderr(&done),
        "Error response from daemon: No such container: web\n"
    );
    assert_eq!(done.status.code(), Some(1));
}

#[test]
fn several_arguments_are_all_tried_and_all_errors_told() {
    let fake = Fake::new(vec![
        (
            "POST /containers/a/stop",
            refusal(404, "No such container: a"),
        ),
        ("POST /containers/b/stop", Reply::Body(204, String::new())),
        (
            "POST /containers/c/stop",
            refusal(404, "No such container: c"),
        ),
        ("POST /containers/d/stop", Reply::Body(304, String::new())),
    ]);
    let done = fake.nacre(&["stop", "a", "b", "c", "d"]);
    assert_eq!(stdout(&done), "b\nd\n", "stopped already is stopped");
    assert_eq!(
        stderr(&done),
        "Error response from daemon: No such container: a\n\
         Error response from daemon: No such container: c\n"
    );
    assert_eq!(done.status.code(), Some(1));
}

#[test]
fn forced_removal_of_what_is_not_there_is_no_failure() {
    let fake = Fake::new(vec![
        ("DELETE /images/", refusal(404, "No such image: x:latest")),
        ("DELETE /containers/", refusal(404, "No such container: x")),
    ]);
    for (command, code) in [
        (&["rmi", "-f", "x"][..], 0),
        (&["rmi", "x"], 1),
        (&["rm", "-f", "x"], 0),
        (&["rm", "x"], 1),
    ] {
        let done = fake.nacre(command);
        assert_eq!(done.status.code(), Some(code), "{command:?}");
        assert!(stderr(&done).starts_with("Error response from daemon: No such "));
    }
}

#[test]
fn changes_are_sorted_and_may_be_none() {
    let fake = Fake::new(vec![
        (
            "GET /containers/a/changes",
            ok(
                "[{\"Path\":\"/b\",\"Kind\":2},{\"Path\":\"/a/x\",\"Kind\":1},{\"Path\":\"/a\",\"Kind\":0}]",
            ),
        ),
        ("GET /containers/b/changes", ok("null")),
    ]);
    assert_eq!(stdout(&fake.nacre(&["diff", "a"])), "C /a\nA /a/x\nD /b\n");
    assert_eq!(stdout(&fake.nacre(&["diff", "b"])), "");
}

#[test]
fn inspect_of_nothing_prints_an_empty_array() {
    let fake = Fake::new(vec![(
        "GET /containers/a/json",
        ok("{\"Id\":\"1\",\"State\":{\"Pid\":7}}"),
    )]);
    let done = fake.nacre(&["inspect", "nope"]);
    assert_eq!(stdout(&done), "[]\n");
    assert_eq!(stderr(&done), "Error: No such object: nope\n");
    assert_eq!(done.status.code(), Some(1));
    assert_eq!(
        stdout(&fake.nacre(&["inspect", "-f", "{{.State.Pid}}", "a"])),
        "7\n"
    );
    let done = fake.nacre(&["inspect", "-f", "{{.Foo}}", "a"]);
    assert_eq!(stdout(&done), "\n");
    assert!(stderr(&done).contains("map has no entry for key \"Foo\""));
    assert_eq!(done.status.code(), Some(1));
    assert_eq!(
        fake.nacre(&["inspect", "-f", "{{.Foo", "a"]).status.code(),
        Some(64)
    );
}

#[test]
fn logs_of_both_streams_go_where_they_belong() {
    let fake = Fake::new(vec![
        (
            "GET /containers/web/json",
            ok("{\"Id\":\"c1\",\"Config\":{\"Tty\":false}}"),
        ),
        (
            "GET /containers/c1/logs",
            Reply::Pieces(
                framed(&[(StreamKind::Stdout, "out\n"), (StreamKind::Stderr, "err\n")])
                    .chunks(3)
                    .map(<[u8]>::to_vec)
                    .collect(),
            ),
        ),
    ]);
    let done = fake.nacre(&["logs", "--tail", "5", "-t", "web"]);
    assert_eq!(
        (stdout(&done).as_str(), stderr(&done).as_str()),
        ("out\n", "err\n")
    );
    assert_eq!(
        fake.asked().last().unwrap(),
        "GET /containers/c1/logs?stdout=1&stderr=1&timestamps=1&tail=5 "
    );
}

//! What is asked in which order, what is printed where, how it ends.

use std::os::unix::fs::PermissionsExt;

use crate::fake::{Fake, Reply, run, stderr, stdout, thin};
use nacre_cli::api::{StreamKind, frame_header};

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn ok(body: &str) -> Reply {
    Reply::Body(200, body.to_owned())
}

fn refusal(status: u16, message: &str) -> Reply {
    Reply::Body(status, format!("{{\"message\":{message:?}}}"))
}

fn framed(pieces: &[(StreamKind, &str)]) -> Vec<u8> {
    pieces
        .iter()
        .flat_map(|(kind, text)| {
            let mut bytes = frame_header(*kind, u32::try_from(text.len()).unwrap()).to_vec();
            bytes.extend(text.as_bytes());
            bytes
        })
        .collect()
}

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
fn pull_prints_plain_lines_and_the_name_last() {
    let pull = || {
        Fake::new(vec![(
            "POST /images/create",
            Reply::Pieces(
                [
                    "{\"status\":\"Pulling from d\",\"id\":\"1\"}\r\n",
                    "{\"status\":\"Pulling fs layer\",\"progressDetail\":{},\"id\":\"abc\"}\r\n",
                    "{\"status\":\"Downloading\",\"progressDetail\":{\"current\":1,\"total\":2},\"progress\":\"[=> ]\",\"id\":\"abc\"}\r\n",
                    "{\"status\":\"Pull complete\",\"progressDetail\":{},\"id\":\"abc\"}\r\n",
                    "{\"status\":\"Digest: sha256:1\"}\r\n",
                    "{\"status\":\"Status: Image is up to date for 127.0.0.1:5000/d:1\"}\r\n",
                ]
                .map(|line| line.as_bytes().to_vec())
                .to_vec(),
            ),
        )])
    };
    let fake = pull();
    let done = fake.nacre(&["pull", "127.0.0.1:5000/d:1"]);
    let lines = "1: Pulling from d\nabc: Pulling fs layer\nabc: Pull complete\nDigest: sha256:1\n\
                 Status: Image is up to date for 127.0.0.1:5000/d:1\n127.0.0.1:5000/d:1\n";
    assert_eq!(stdout(&done), lines);
    let asked = fake.asked();
    let asked = asked.first().unwrap();
    assert!(
        asked.contains("fromImage=127.0.0.1%3A5000%2Fd&tag=1"),
        "{asked}"
    );
    assert!(
        asked.ends_with("auth=eyJ1c2VybmFtZSI6Im1lIiwicGFzc3dvcmQiOiJzZWNyZXQifQ=="),
        "{asked}"
    );
    if let Some(docker) = pull().docker(&["pull", "127.0.0.1:5000/d:1"]) {
        assert_eq!(stdout(&docker), lines);
    }
    let done = pull().nacre(&["pull", "-q", "127.0.0.1:5000/d:1"]);
    assert_eq!(stdout(&done), "127.0.0.1:5000/d:1\n");
    let fake = pull();
    fake.nacre(&["pull", "d"]);
    assert!(fake.asked().first().unwrap().ends_with(" auth=e30="));
}

#[test]
fn an_error_within_the_stream_fails_the_pull() {
    let fake = Fake::new(vec![(
        "POST /images/create",
        Reply::Pieces(vec![
            b"{\"status\":\"Pulling from d\",\"id\":\"1\"}\r\n".to_vec(),
            b"{\"errorDetail\":{\"message\":\"wrong digest\"},\"error\":\"wrong digest\"}\r\n"
                .to_vec(),
        ]),
    )]);
    let done = fake.nacre(&["pull", "d:1"]);
    assert_eq!(stdout(&done), "1: Pulling from d\n");
    assert_eq!(stderr(&done), "wrong digest\n");
    assert_eq!(done.status.code(), Some(1));
}

#[test]
fn local_sources_are_named_by_absolute_paths() {
    let fake = Fake::new(vec![(
        "POST /nacre/pull",
        ok("{\"progressDetail\":{},\"aux\":{\"Reference\":\"x:1\",\"ID\":\"sha256:1\"}}\r\n"),
    )]);
    let done = fake.nacre(&["pull", "oci:some/dir:v1"]);
    assert_eq!(stdout(&done), "x:1\n", "{}", stderr(&done));
    let here = std::env::current_dir().unwrap();
    let source = format!("oci:{}/some/dir:v1", here.display());
    let escaped = source.replace(':', "%3A").replace('/', "%2F");
    assert!(fake.asked().first().unwrap().contains(&escaped));
}

#[test]
fn a_saved_archive_appears_whole_and_private_or_not_at_all() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("f.tar");
    let name = file.to_str().unwrap();
    let broken = Fake::new(vec![("GET /images/get", Reply::Broken(b"half".to_vec()))]);
    let done = broken.nacre(&["save", "-o", name, "x"]);
    assert_eq!(done.status.code(), Some(1));
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);

    let whole = Fake::new(vec![(
        "GET /images/get",
        Reply::Pieces(vec![b"all ".to_vec(), b"of it".to_vec()]),
    )]);
    let done = whole.nacre(&["save", "-o", name, "x", "y"]);
    assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
    assert_eq!(std::fs::read(&file).unwrap(), b"all of it");
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(whole.asked(), ["GET /images/get?names=x&names=y "]);
    assert_eq!(stdout(&whole.nacre(&["save", "x"])), "all of it");
}

#[test]
fn load_and_import_send_the_archive() {
    let fake = Fake::new(vec![
        (
            "POST /images/load",
            ok("{\"stream\":\"Loaded image: a:1\\n\"}\r\n"),
        ),
        ("POST /images/create", ok("{\"status\":\"sha256:77\"}\r\n")),
    ]);
    let done = fake.nacre_with(&["load"], b"tar bytes");
    assert_eq!(stdout(&done), "Loaded image: a:1\n");
    assert_eq!(fake.asked(), ["POST /images/load?quiet=1 tar bytes"]);
    let done = fake.nacre_with(&["load", "-q"], b"tar bytes");
    assert_eq!(stdout(&done), "a:1\n");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "root").unwrap();
    let done = fake.nacre(&[
        "import",
        "-c",
        "CMD x",
        file.path().to_str().unwrap(),
        "b:1",
    ]);
    assert_eq!(stdout(&done), "sha256:77\n");
    let asked = fake.asked();
    assert_eq!(
        asked.last().unwrap(),
        "POST /images/create?fromSrc=-&repo=b%3A1&changes=CMD%20x root"
    );
}

#[test]
fn mount_tells_what_the_user_did_not_say() {
    let mounted = "{\"Name\":\"calm_pearl\",\"Target\":\"/run/nacre/mnt/1\",\"Image\":\"d\",\"ImageID\":\"sha256:1\",\"ReadOnly\":false}";
    let fake = Fake::new(vec![
        ("GET /images/d/json", ok("{\"Id\":\"sha256:1\"}")),
        ("POST /nacre/mounts", Reply::Body(201, mounted.to_owned())),
        ("GET /nacre/mounts", ok(&format!("[{mounted}]"))),
        ("DELETE /nacre/", Reply::Body(204, String::new())),
    ]);
    assert_eq!(stdout(&fake.nacre(&["mount", "d"])), "/run/nacre/mnt/1\n");
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().to_str().unwrap();
    assert_eq!(stdout(&fake.nacre(&["mount", "d", target])), "calm_pearl\n");
    assert_eq!(
        stdout(&fake.nacre(&["mount", "--name", "w", "d", target])),
        ""
    );
    assert_eq!(
        stdout(&fake.nacre(&["mount"])),
        "NAME         IMAGE     IMAGE ID   MODE      MOUNTED AT\n\
         calm_pearl   d         1          rw        /run/nacre/mnt/1\n"
    );
    assert_eq!(stdout(&fake.nacre(&["mount", "--name", "w", target])), "");
    let asked = fake.asked();
    assert!(
        asked.last().unwrap().contains("\"Image\":\"\""),
        "{asked:?}"
    );
    let done = fake.nacre(&["umount", "--rm", "/run/nacre/mnt/1"]);
    assert_eq!(stdout(&done), "/run/nacre/mnt/1\n", "{}", stderr(&done));
    let asked = fake.asked();
    assert!(asked.contains(&"DELETE /nacre/mounts?target=%2Frun%2Fnacre%2Fmnt%2F1 ".to_owned()));
    assert!(asked.contains(&"DELETE /nacre/uppers/calm_pearl ".to_owned()));
    let done = fake.nacre(&["mount", "d", "/no/such/dir"]);
    assert_eq!(
        stderr(&done),
        "mount point /no/such/dir: No such file or directory (os error 2)\n"
    );
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
fn a_fault_in_the_store_is_an_exit_code() {
    let fake = Fake::new(vec![
        (
            "GET /nacre/check",
            ok("{\"Checked\":[{\"What\":\"blobs\",\"Count\":3}],\"Faults\":[]}"),
        ),
        (
            "GET /nacre/check",
            ok("{\"Checked\":[],\"Faults\":[\"blob 1 is missing\"]}"),
        ),
    ]);
    let done = fake.nacre(&["system", "check"]);
    assert_eq!(stdout(&done), "checked 3 blobs\nthe store is sound\n");
    assert_eq!(done.status.code(), Some(0));
    let done = fake.nacre(&["system", "check", "-q"]);
    assert_eq!(stdout(&done), "fault: blob 1 is missing\n");
    assert_eq!(stderr(&done), "the store has 1 fault\n");
    assert_eq!(done.status.code(), Some(1));
    assert_eq!(fake.asked().last().unwrap(), "GET /nacre/check ");
}

#[test]
fn a_service_in_use_does_not_stop_and_says_what_is_in_use() {
    let fake = Fake::new(vec![(
        "POST /nacre/shutdown",
        Reply::Body(
            409,
            "{\"message\":\"in use\",\"InUse\":[\"container web\"]}".to_owned(),
        ),
    )]);
    let done = fake.nacre(&["service", "--stop"]);
    assert_eq!(
        stderr(&done),
        "Error response from daemon: in use\n  container web\n"
    );
    assert_eq!(done.status.code(), Some(1));
}

#[test]
fn a_socket_that_was_named_is_not_started() {
    let mut command = thin();
    command.args(["-H", "unix:///nowhere/s", "ps"]);
    let done = run(command, b"");
    assert_eq!(done.status.code(), Some(1));
    assert!(stderr(&done).starts_with("cannot connect to the nacre service at /nowhere/s: "));
    assert!(stderr(&done).contains("\nhint: "));
}

#[test]
fn a_service_that_dies_at_the_start_is_quoted() {
    let root = tempfile::tempdir().unwrap();
    let log = root.path().join("log");
    std::fs::write(&log, "one\nthe store is from the future\n").unwrap();
    let mut command = thin();
    command
        .env("THIN_START", "exit 3")
        .env("THIN_LOG", &log)
        .arg("--root")
        .arg(root.path())
        .arg("ps");
    let done = run(command, b"");
    assert_eq!(done.status.code(), Some(1));
    let said = stderr(&done);
    assert!(
        said.starts_with("the nacre service did not start: exit status: 3; "),
        "{said}"
    );
    assert!(said.ends_with("the store is from the future\n"), "{said}");
}

#[test]
fn a_silent_socket_is_waited_for_after_the_start() {
    let fake = Fake::new(vec![("GET /containers/json", ok("[]"))]);
    let root = tempfile::tempdir().unwrap();
    let mut command = thin();
    // The "service" appears where it is expected, later.
    command
        .env("THIN_START", "sleep 0.2; ln -s \"$REAL\" \"$SOCKET\"")
        .env("REAL", &fake.socket)
        .env("PATH", "/usr/bin:/bin")
        .arg("--root")
        .arg(root.path())
        .args(["ps", "-q"]);
    let done = run(command, b"");
    assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
    assert_eq!(fake.asked_paths(), ["GET /containers/json"]);
}

#[test]
fn another_stores_socket_is_refused() {
    let fake = Fake::new(vec![("GET /nacre/info", ok("{\"Root\":\"/srv/other\"}"))]);
    let done = fake.nacre(&["--root", "/srv/mine", "ps"]);
    assert_eq!(done.status.code(), Some(1));
    assert!(stderr(&done).contains("serves the store /srv/other, not /srv/mine"));
    assert_eq!(fake.asked_paths(), ["GET /nacre/info"]);
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

#[test]
fn a_listing_of_a_sub_commands_name_asks_what_was_meant() {
    let fake = Fake::new(vec![("GET /images/json", ok("[]"))]);
    let done = fake.nacre(&["images", "ls"]);
    assert_eq!(
        stderr(&done),
        "\nNo images found matching \"ls\": did you mean \"nacre image ls\"?\n"
    );
    assert_eq!(done.status.code(), Some(0));
    assert_eq!(stderr(&fake.nacre(&["image", "ls", "ls"])), "");
}

//! The service itself: reached, started, asked to stop.

use crate::fake::{Fake, Reply, ok, run, stderr, stdout, thin};

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
fn archives_are_given_up_after_a_yes() {
    let fake = Fake::new(vec![(
        "POST /nacre/reclaim",
        ok("{\"Archives\":3,\"SpaceReclaimed\":1500000}"),
    )]);
    let done = fake.nacre(&["system", "reclaim"]);
    assert!(stdout(&done).ends_with("[y/N] "), "{}", stdout(&done));
    assert!(fake.asked().iter().all(|line| !line.contains("reclaim")));
    let done = fake.nacre(&["system", "reclaim", "-f"]);
    assert_eq!(
        stdout(&done),
        "Removed archives: 3\nTotal reclaimed space: 1.5MB\n"
    );
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
fn an_empty_variable_is_not_set_and_debug_tells_causes() {
    let mut command = thin();
    command
        .env("NACRE_HOST", "")
        .env("NACRE_ROOT", "")
        .args(["-H", "/nowhere/s", "--debug", "ps"]);
    let done = run(command, b"");
    assert_eq!(done.status.code(), Some(1));
    let said = stderr(&done);
    assert!(said.contains("/nowhere/s: "), "{said}");
    assert!(said.contains("\ncaused by: "), "{said}");
}

//! Further processes in a running container.

use nacre::runtime::spec::{ConsoleSize, Stdin};
use nacre::runtime::{ShimError, StartErrorKind, Whom};

use crate::fixture::{Container, everything, finish, process, read_until, until, write};
use std::net::Shutdown;

fn sleeper() -> Container {
    let mut container = Container::new(&["sleep", "1000"])
        .with(|spec| spec.process.env = vec!["OWN=container".into()]);
    container.start();
    container
}

#[test]
fn it_sees_the_container_and_ends_with_its_own_code() {
    let mut container = sleeper();
    let outcome = container.exec(process(&[
        "sh",
        "-c",
        "hostname; tr '\\0' ' ' < /proc/1/cmdline; echo; echo $OWN; exit 3",
    ]));
    assert_eq!(outcome.stdout, "testbox\nsleep 1000 \ncontainer\n");
    assert_eq!((outcome.exit.code, outcome.stderr.as_str()), (3, ""));
    container.delete();
}

#[test]
fn it_is_confined_like_the_container() {
    let mut container = sleeper();
    let status = container
        .exec(process(&["cat", "/proc/self/status"]))
        .stdout;
    let value = |name: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap()
            .trim()
    };
    assert_eq!(
        value("Seccomp:"),
        "2",
        "the filter that libcontainer forgets"
    );
    assert_eq!(value("CapEff:"), "00000000a80425fb");
    assert_eq!(value("CapBnd:"), "00000000a80425fb");
    let unshared = container.exec(process(&["unshare", "-U", "true"]));
    assert!(
        unshared.stderr.contains("Operation not permitted"),
        "{}",
        unshared.stderr
    );
    container.delete();
}

#[test]
fn it_joins_the_containers_cgroups_and_dies_with_it() {
    let mut container = sleeper();
    let shim = container.prepare_exec(process(&["sleep", "1000"]));
    let pid = shim.start().unwrap();
    let members = std::fs::read_to_string(container.cgroups()[0].join("cgroup.procs")).unwrap();
    assert!(
        members.lines().any(|line| line == pid.to_string()),
        "{members}"
    );
    container.shim().signal(9, Whom::Process).unwrap();
    assert_eq!(container.shim().wait().unwrap().code, 137);
    assert_eq!(shim.wait().unwrap().code, 137);
    container.delete();
}

#[test]
fn user_directory_and_variables_are_its_own() {
    let mut container = sleeper();
    let mut wanted = process(&["sh", "-c", "id -u; id -G; pwd; echo $OWN $MORE $HOME"]);
    wanted.user = "web".into();
    wanted.cwd = "/tmp".into();
    wanted.env = vec!["MORE=exec".into(), "OWN=changed".into()];
    assert_eq!(
        container.exec(wanted).stdout,
        "1000\n1001 1002\n/tmp\nchanged exec /home/web\n"
    );
    container.delete();
}

#[test]
fn it_has_a_terminal_if_it_wants_one() {
    let mut container = sleeper();
    let mut wanted = process(&[
        "sh",
        "-c",
        "tty; stty size; read line; echo got $line; exit 6",
    ]);
    wanted.tty = true;
    wanted.stdin = Stdin::Once;
    wanted.console_size = Some(ConsoleSize {
        rows: 21,
        columns: 43,
    });
    let shim = container.prepare_exec(wanted);
    let mut stream = shim.attach(&everything()).unwrap();
    shim.start().unwrap();
    read_until(&mut stream, "/dev/pts/");
    write(&mut stream, "hello\n");
    let outcome = finish(&shim, stream, true);
    assert!(outcome.stdout.contains("got hello"), "{:?}", outcome.stdout);
    assert_eq!(outcome.exit.code, 6);
    shim.delete().unwrap();
    container.delete();
}

#[test]
fn its_input_ends_with_its_client() {
    let mut container = sleeper();
    let mut wanted = process(&["wc", "-c"]);
    wanted.stdin = Stdin::Once;
    let shim = container.prepare_exec(wanted);
    let mut stream = shim.attach(&everything()).unwrap();
    shim.start().unwrap();
    write(&mut stream, "12345");
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(finish(&shim, stream, false).stdout, "5\n");
    shim.delete().unwrap();
    container.delete();
}

#[test]
fn what_cannot_run_is_said_and_the_container_goes_on() {
    let mut container = sleeper();
    let shim = container.prepare_exec(process(&["nope"]));
    let Err(ShimError::Refused(error)) = shim.start() else {
        panic!("it started");
    };
    assert_eq!(error.kind, StartErrorKind::NotFound);
    assert_eq!(
        error.message,
        "OCI runtime exec failed: exec failed: unable to start container process: exec: \"nope\": executable file not found in $PATH: unknown"
    );
    shim.delete().unwrap();
    assert_eq!(container.exec(process(&["true"])).exit.code, 0);
    container.delete();
}

#[test]
fn a_paused_container_takes_none() {
    let mut container = sleeper();
    container.shim().pause().unwrap();
    let shim = container.prepare_exec(process(&["true"]));
    let Err(ShimError::Refused(error)) = shim.start() else {
        panic!("it started");
    };
    assert!(
        error
            .message
            .ends_with(" is paused, unpause the container before exec"),
        "{error}"
    );
    container.shim().resume().unwrap();
    container.delete();
}

#[test]
fn one_that_leaves_a_child_behind_ends_all_the_same() {
    let mut container = sleeper();
    let outcome = container.exec(process(&["sh", "-c", "sleep 1000 & echo gone"]));
    assert_eq!((outcome.exit.code, outcome.stdout.as_str()), (0, "gone\n"));
    container.delete();
}

#[test]
fn many_leave_nothing_in_the_containers_state() {
    let mut container = sleeper();
    let entries = || walk(&container.state_dir()).len();
    let before = entries();
    for _ in 0..3 {
        container.exec(process(&["true"]));
    }
    // But the empty directory that held them.
    until("all is gone", || entries() <= before + 1);
    container.delete();
}

fn walk(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            found.extend(walk(&entry.path()));
        }
        found.push(entry.path());
    }
    found
}

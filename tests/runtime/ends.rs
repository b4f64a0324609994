//! How processes end, how that is known, and what is left.

use std::process::Command;
use std::time::{Duration, Instant};

use nacre::runtime::spec::MountSpec;
use nacre::runtime::spec::{Access, MountSource};
use nacre::runtime::{Launch, Phase, Shim, ShimError, StartErrorKind, Whom};

use crate::fixture::{Container, everything, read_all, until};
use crate::patience;

#[test]
fn exit_codes_come_through() {
    for (words, code) in [
        (vec!["true"], 0),
        (vec!["false"], 1),
        (vec!["sh", "-c", "exit 42"], 42),
    ] {
        let mut container = Container::new(&words);
        let outcome = container.run();
        assert_eq!(outcome.exit.code, code, "{words:?}");
        assert_eq!(outcome.exit.trouble, None);
        assert!(!outcome.exit.oom_killed);
        container.delete();
    }
}

#[test]
fn death_by_a_signal_is_128_and_its_number() {
    for signal in [9, 15, 34] {
        // Process 1 of a namespace takes only signals that it handles; its child takes all.
        let mut container = Container::script(&format!("sh -c 'kill -{signal} $$'; exit $?"));
        assert_eq!(container.run().exit.code, 128 + signal);
        container.delete();
    }
    let mut container = Container::new(&["sleep", "1000"]);
    let shim = container.start();
    assert_eq!(shim.state().unwrap().phase, Phase::Running);
    shim.signal(9, Whom::Process).unwrap();
    assert_eq!(shim.wait().unwrap().code, 137);
    assert_eq!(shim.state().unwrap().phase, Phase::Exited);
    assert!(matches!(
        shim.signal(9, Whom::Process),
        Err(ShimError::Ended(_))
    ));
    container.delete();
}

#[test]
fn a_handled_signal_is_handled() {
    let mut container =
        Container::script("trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done");
    let shim = container.prepare();
    let mut stream = shim.attach(&everything()).unwrap();
    shim.start().unwrap();
    crate::fixture::read_until(&mut stream, "ready");
    shim.signal(15, Whom::Process).unwrap();
    assert_eq!(shim.wait().unwrap().code, 7);
    container.delete();
}

#[test]
fn what_cannot_run_is_told_apart_and_leaves_nothing() {
    use StartErrorKind::{NotFound, PermissionDenied};
    for (word, kind, end) in [
        (
            "nope",
            NotFound,
            r#"exec: "nope": executable file not found in $PATH"#,
        ),
        (
            "/nope",
            NotFound,
            r#"exec: "/nope": stat /nope: no such file or directory"#,
        ),
        (
            "/etc/passwd",
            PermissionDenied,
            r#"exec: "/etc/passwd": permission denied"#,
        ),
        ("/etc", PermissionDenied, r#"exec: "/etc": is a directory"#),
    ] {
        let mut container = Container::new(&[word]);
        let error = container.fail();
        assert_eq!(error.kind, kind, "{}", error.message);
        assert!(error.message.ends_with(end), "{}", error.message);
        let start = "failed to create task for container: failed to create shim task: OCI runtime create failed: ";
        assert!(error.message.starts_with(start), "{}", error.message);
        let code = if kind == NotFound { 127 } else { 126 };
        assert_eq!(container.shim().wait().unwrap().code, code);
        container.delete();
    }
}

#[test]
fn a_program_that_only_its_owner_may_run_is_denied_to_others() {
    let mut container = Container::new(&["/tool"]).with(|spec| spec.process.user = "web".into());
    let tool = container.root().join("tool");
    std::fs::write(&tool, "#!/bin/sh\necho ran\n").unwrap();
    std::fs::set_permissions(&tool, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let error = container.fail();
    assert_eq!(error.kind, StartErrorKind::PermissionDenied);
    container.delete();
}

#[test]
fn a_program_in_a_mount_is_found() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("tool"), "#!/bin/sh\necho from the mount\n").unwrap();
    std::fs::set_permissions(
        dir.path().join("tool"),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    let mut container = Container::new(&["tool"]).with(|spec| {
        spec.process.env.push("PATH=/opt/mounted".into());
        spec.mounts.push(MountSpec {
            target: "/opt/mounted".into(),
            source: MountSource::Bind(dir.path().into()),
            access: Access::ReadOnly,
        });
    });
    assert_eq!(container.run().stdout, "from the mount\n");
    container.delete();
}

#[test]
fn an_unknown_user_is_said_in_dockers_words() {
    let mut container =
        Container::new(&["true"]).with(|spec| spec.process.user = "nobody-here".into());
    let error = container.fail();
    assert_eq!(error.kind, StartErrorKind::BadRequest);
    assert_eq!(
        error.message,
        "unable to find user nobody-here: no matching entries in passwd file"
    );
    container.delete();
}

/// Where the part of a service is played by a process of its own: its directory.
const PLAYED_IN: &str = "NACRE_TEST_SERVICE_DIR";

/// Not a test by itself: the service that `a_container_outlives_a_killed_service…` kills.
#[test]
fn play_the_service() {
    let Some(dir) = std::env::var_os(PLAYED_IN) else {
        return;
    };
    let mut container = Container::script("sleep 0.5; echo late; exit 5");
    std::fs::write(
        std::path::Path::new(&dir).join("state-dir"),
        container.state_dir().to_str().unwrap(),
    )
    .unwrap();
    container.start();
    std::fs::write(std::path::Path::new(&dir).join("started"), "").unwrap();
    std::thread::sleep(Duration::from_secs(60));
}

#[test]
fn a_container_outlives_a_killed_service_and_its_end_is_known_to_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let mut service = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "ends::play_the_service", "--nocapture"])
        .env(PLAYED_IN, dir.path())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    until("it has started", || dir.path().join("started").exists());
    service.kill().unwrap();
    patience::exit(&mut service, "the service that was played");
    let state_dir = std::fs::read_to_string(dir.path().join("state-dir")).unwrap();
    let shim = Shim::open(&state_dir).unwrap();
    assert_eq!(shim.state().unwrap().phase, Phase::Running);
    let stream = shim.attach(&everything()).unwrap();
    assert_eq!(read_all(stream, false).0, "late\n");
    assert_eq!(shim.wait().unwrap().code, 5);
    // And once more after the end.
    let again = Shim::open(&state_dir).unwrap();
    assert_eq!(again.exit().unwrap().unwrap().code, 5);
    let late = again.attach(&everything()).unwrap();
    assert_eq!(read_all(late, false), (String::new(), String::new()));
    again.delete().unwrap();
    // What the killed one could not remove.
    std::fs::remove_dir_all(std::path::Path::new(&state_dir).parent().unwrap()).unwrap();
}

#[test]
fn a_shim_is_nobodys_child_and_has_a_session_of_its_own() {
    let mut container = Container::new(&["sleep", "1000"]);
    let pid = container.start().pid().unwrap().unwrap();
    let fields = |pid: &str| -> Vec<String> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let (_, rest) = stat.rsplit_once(") ").unwrap();
        rest.split(' ').map(str::to_owned).collect()
    };
    let shim = fields(&pid.to_string())[1].clone();
    assert_ne!(fields(&shim)[1], std::process::id().to_string());
    assert_ne!(fields(&shim)[3], fields("self")[3]);
    container.delete();
}

#[test]
fn a_killed_shim_takes_its_container_along() {
    let mut container = Container::new(&["sleep", "1000"]);
    let pid = container.start().pid().unwrap().unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let shim_pid = stat
        .rsplit_once(") ")
        .unwrap()
        .1
        .split(' ')
        .nth(1)
        .unwrap()
        .to_owned();
    assert!(patience::status(Command::new("kill").args(["-9", &shim_pid])).success());
    let exit = container.shim().wait().unwrap();
    assert_eq!(
        (exit.code, exit.trouble.as_deref()),
        (137, Some("its shim was killed"))
    );
    until("the process is gone", || {
        !std::path::Path::new(&format!("/proc/{pid}/root")).exists()
    });
    container.forget();
    assert_eq!(container.reopen().exit().unwrap().unwrap().code, 137);
    container.delete();
}

#[test]
fn a_prepared_shim_leaves_with_its_last_client() {
    let mut container = Container::new(&["true"]);
    container.prepare();
    let socket = container.state_dir().join("shim.sock");
    assert!(socket.exists());
    container.forget();
    until("its socket is gone", || !socket.exists());
    assert!(matches!(
        Shim::open(container.state_dir().join("none")),
        Err(ShimError::Io { .. })
    ));
}

#[test]
fn nothing_is_mounted_here_while_a_container_runs() {
    let mut container = Container::new(&["sleep", "1000"]);
    let before = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let pid = container.start().pid().unwrap().unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let shim_pid = stat
        .rsplit_once(") ")
        .unwrap()
        .1
        .split(' ')
        .nth(1)
        .unwrap()
        .to_owned();
    let namespace = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/mnt")).unwrap();
    assert_eq!(
        namespace(&shim_pid),
        namespace("self"),
        "the shim holds no mounts of its own"
    );
    assert_ne!(namespace(&pid.to_string()), namespace("self"));
    assert_eq!(
        std::fs::read_to_string("/proc/self/mountinfo").unwrap(),
        before
    );
    container.delete();
}

#[test]
fn a_running_container_is_not_deleted() {
    let mut container = Container::new(&["sleep", "1000"]);
    container.start();
    let again = Shim::open(container.state_dir()).unwrap();
    assert!(matches!(again.delete(), Err(ShimError::Running(_))));
    assert_eq!(container.shim().state().unwrap().phase, Phase::Running);
    container.delete();
}

#[test]
fn a_directory_is_used_again_after_the_end_and_not_before() {
    let mut container = Container::script("exit 3");
    assert_eq!(container.run().exit.code, 3);
    container.spec.process.args = vec!["sleep".into(), "1000".into()];
    container.start();
    assert_eq!(container.shim().exit().unwrap(), None);
    let second = Shim::prepare(container.launch());
    assert!(matches!(second, Err(ShimError::Running(_))), "{second:?}");
    container.delete();
}

#[test]
fn a_paused_container_stands_still_and_dies_when_killed() {
    let mut container = Container::script("while :; do echo x >> /tmp/beat; sleep 0.01; done");
    container.start();
    let beat = container.root().join("tmp/beat");
    let length = || {
        std::fs::metadata(&beat)
            .map(|meta| meta.len())
            .unwrap_or_default()
    };
    until("it beats", || length() > 0);
    container.shim().pause().unwrap();
    assert_eq!(container.shim().state().unwrap().phase, Phase::Paused);
    let frozen = length();
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(length(), frozen);
    container.shim().resume().unwrap();
    until("it beats again", || length() > frozen);
    container.shim().pause().unwrap();
    container.shim().signal(9, Whom::Process).unwrap();
    assert_eq!(container.shim().wait().unwrap().code, 137);
    container.delete();
}

#[test]
fn cgroups_are_the_containers_own_and_go_with_it() {
    let mut container = Container::script("cat /proc/self/cgroup; sleep 1000 & sleep 1000");
    container.start();
    assert!(!container.cgroups().is_empty());
    let pid = container.shim().pid().unwrap().unwrap();
    let members = std::fs::read_to_string(container.cgroups()[0].join("cgroup.procs")).unwrap();
    assert!(
        members.lines().any(|line| line == pid.to_string()),
        "{members}"
    );
    assert!(
        !members
            .lines()
            .any(|line| line == std::process::id().to_string())
    );
    container.shim().signal(9, Whom::All).unwrap();
    container.shim().wait().unwrap();
    assert_eq!(container.cgroups(), Vec::<std::path::PathBuf>::new());
    container.delete();
}

#[test]
fn a_shim_that_cannot_be_says_so() {
    let container = Container::new(&["true"]);
    let launch = Launch {
        log: Some("/nowhere/at/all".into()),
        ..container.launch()
    };
    let error = Shim::prepare(launch).unwrap_err();
    assert!(matches!(&error, ShimError::Refused(_)), "{error}");
    let launch = Launch {
        program: Some("/bin/false".into()),
        ..container.launch()
    };
    assert!(matches!(
        Shim::prepare(launch).unwrap_err(),
        ShimError::Io { .. }
    ));
}

#[test]
fn a_program_that_the_kernel_refuses_ends_with_255() {
    let mut container = Container::new(&["/tool"]);
    let tool = container.root().join("tool");
    std::fs::write(&tool, "no interpreter\n").unwrap();
    std::fs::set_permissions(&tool, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let outcome = container.run();
    assert_eq!(
        (outcome.exit.code, outcome.stderr.as_str()),
        (255, "exec /tool: exec format error\n")
    );
    container.delete();
}

/// Not a benchmark: holds that no step waits by accident. The figure is in `make bench`.
#[test]
fn true_takes_no_longer_than_it_must() {
    let mut best = Duration::MAX;
    for _ in 0..10 {
        let mut container = Container::new(&["true"]);
        container.prepare();
        let start = Instant::now();
        container.shim().start().unwrap();
        container.shim().wait().unwrap();
        best = best.min(start.elapsed());
        container.delete();
    }
    assert!(best < Duration::from_millis(100), "{best:?}");
}

/// A machine without cgroups, for the shim and all that comes of it.
const WITHOUT_CGROUPS: &str = "#!/bin/bash
exec unshare --mount --propagation private bash -c \
'umount -l /sys/fs/cgroup; exec -a nacre-shim \"$@\"' - \"$NACRE\" \"$@\"
";

#[test]
fn without_cgroups_containers_run_all_the_same() {
    let mut container = Container::script("echo alive; sleep 1000");
    let wrapper = container.root().with_file_name("wrapper");
    let script = WITHOUT_CGROUPS.replace("$NACRE", env!("CARGO_BIN_EXE_nacred"));
    std::fs::write(&wrapper, script).unwrap();
    std::fs::set_permissions(
        &wrapper,
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    container.program = wrapper;
    let shim = container.prepare();
    let mut stream = shim.attach(&everything()).unwrap();
    shim.start().unwrap();
    crate::fixture::read_until(&mut stream, "alive");
    let error = shim.pause().unwrap_err();
    assert!(error.to_string().contains("no freezer"), "{error}");
    assert_eq!(container.cgroups(), Vec::<std::path::PathBuf>::new());
    let outcome = container.exec(crate::fixture::process(&[
        "sh",
        "-c",
        "ls /sys/fs/cgroup | wc -w; exit 4",
    ]));
    assert_eq!((outcome.exit.code, outcome.stdout.as_str()), (4, "0\n"));
    container.delete();
}

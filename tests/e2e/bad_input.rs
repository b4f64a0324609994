//! What goes wrong says so: docker's exit code, the object's name, and nothing lost or left behind.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::nacre::{Nacre, eventually, oci_source, run_tool, test_image};
use crate::patience;

fn ready() -> Nacre {
    let nacre = Nacre::new();
    nacre.ok(&["pull", "-q", &oci_source("debian-min")]);
    nacre
}

/// Answers every request with one status and body, for as long as the test runs.
fn answering(status: &'static str, body: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || answer(stream, status, body));
        }
    });
    address
}

fn answer(mut stream: TcpStream, status: &str, body: &str) {
    let mut request = [0; 4096];
    while stream.read(&mut request).is_ok_and(|n| n > 0) {
        let reply = format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        if stream.write_all(reply.as_bytes()).is_err() {
            return;
        }
    }
}

#[test]
fn unknown_images_and_containers_are_named() {
    let nacre = ready();
    nacre.fails(
        &["mount", "oci-nope:1", nacre.folder("a").to_str().unwrap()],
        1,
        "oci-nope",
    );
    nacre.fails(&["history", "nope"], 1, "No such image: nope:latest");
    nacre.fails(&["image", "rm", "nope"], 1, "No such image: nope:latest");
    nacre.fails(&["tag", "nope", "x:1"], 1, "No such image: nope:latest");
    nacre.fails(&["diff", "nope"], 1, "No such container: nope");
    nacre.fails(&["commit", "nope", "x:1"], 1, "No such container: nope");
    nacre.fails(&["stop", "nope"], 1, "No such container: nope");
    nacre.fails(&["pull", "Upper/Case"], 1, "must be lowercase");
    nacre.fails(&["pull", "oci:/no/such/dir"], 1, "/no/such/dir");
    nacre.fails(
        &["pull", "docker-archive:/no/such/file"],
        1,
        "/no/such/file",
    );
    nacre.fails(&["umount", "/etc"], 1, "/etc");
    nacre.fails(&["nonsense"], 1, "unknown command");
    nacre.check();
}

#[test]
fn a_registry_that_says_no_is_quoted() {
    let nacre = Nacre::new();
    let denied = answering(
        "401 Unauthorized",
        r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#,
    );
    nacre.fails(
        &["pull", &format!("{denied}/x")],
        1,
        "unauthorized: authentication required",
    );
    let unknown = answering(
        "404 Not Found",
        r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#,
    );
    nacre.fails(&["pull", &format!("{unknown}/x")], 1, "manifest unknown");
    let broken = answering("500 Internal Server Error", "oops");
    nacre.fails(&["pull", &format!("{broken}/x")], 1, "500");
    let absurd = answering(
        "200 OK",
        r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":7}"#,
    );
    nacre.fails(&["pull", &format!("{absurd}/x")], 1, "manifest");
    // a port that was free a moment ago
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let url = format!("Get \"http://{closed}/v2/\"");
    nacre.fails(
        &["pull", &format!("{closed}/x")],
        1,
        &format!("{url}: connect: connection refused\n"),
    );
    assert_eq!(nacre.ok(&["image", "ls", "-q"]), "");
    nacre.check();
}

/// Copies a test image's layout, so that it can be damaged.
fn copy_of(nacre: &Nacre, image: &str) -> std::path::PathBuf {
    let copy = nacre.path("layout");
    run_tool(
        "cp",
        &[
            "-r",
            test_image(image).to_str().unwrap(),
            copy.to_str().unwrap(),
        ],
    );
    copy
}

fn largest_blob(layout: &Path) -> std::path::PathBuf {
    fs::read_dir(layout.join("blobs/sha256"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .max_by_key(|path| fs::metadata(path).unwrap().len())
        .unwrap()
}

/// What the store takes.
fn megabytes(nacre: &Nacre) -> u64 {
    let used = run_tool(
        "du",
        // How long RocksDB's log is, is not what is asked here.
        &[
            "-s",
            "--block-size=1M",
            "--exclude=*.log",
            nacre.root().to_str().unwrap(),
        ],
    );
    used.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn damaged_layers_are_refused_and_leave_no_trace() {
    let nacre = Nacre::new();
    nacre.ok(&["image", "ls"]);
    let empty = megabytes(&nacre);
    let layout = copy_of(&nacre, "debian-min");
    let blob = largest_blob(&layout);
    let whole = fs::read(&blob).unwrap();
    let source = format!("oci:{}", layout.display());

    let mut wrong = whole.clone();
    let middle = wrong.len() / 2;
    wrong[middle] ^= 1;
    fs::write(&blob, &wrong).unwrap();
    let done = nacre.run(&["pull", &source]);
    assert_eq!(done.code, 1, "{done:?}");

    fs::write(&blob, &whole[..middle]).unwrap();
    assert_eq!(nacre.run(&["pull", &source]).code, 1);
    fs::write(&blob, vec![b'x'; whole.len()]).unwrap();
    nacre.fails(&["pull", &source], 1, "sha256:");
    assert_eq!(nacre.ok(&["image", "ls", "-q"]), "");
    nacre.check();
    let left = megabytes(&nacre);
    assert!(
        left <= empty + 5,
        "left behind: {left} MB, {empty} MB before"
    );

    fs::write(&blob, &whole).unwrap();
    nacre.ok(&["pull", &source]);
    nacre.check();
}

#[test]
fn garbage_and_truncated_archives_are_refused() {
    let nacre = Nacre::new();
    let garbage = nacre.run_with_input(&["load"], b"this is no archive at all");
    assert_eq!(garbage.code, 1, "{garbage:?}");
    let empty = nacre.run_with_input(&["load"], b"");
    assert_ne!(empty.code, 0, "{empty:?}");
    let whole = fs::read(
        test_image("debian-min")
            .parent()
            .unwrap()
            .join("rootfs.tar"),
    )
    .unwrap();
    let file = nacre.path("cut.tar");
    fs::write(&file, &whole[..whole.len() / 3 + 77]).unwrap();
    let cut = nacre.run(&["import", file.to_str().unwrap(), "cut:1"]);
    assert_eq!(cut.code, 1, "{cut:?}");
    assert_eq!(nacre.ok(&["image", "ls", "-aq"]), "");
    nacre.check();
}

#[test]
fn a_refused_upload_is_answered_however_long_it_is() {
    let nacre = ready();
    // Refused at its first block, while the client has almost all of it still to send.
    let xz = nacre.path("long.xz");
    fs::write(&xz, b"\xfd7zXZ\0").unwrap();
    run_tool("truncate", &["-s", "200M", xz.to_str().unwrap()]);
    for _ in 0..5 {
        nacre.fails(&["load", "-i", xz.to_str().unwrap()], 1, "from daemon");
        nacre.fails(&["import", xz.to_str().unwrap()], 1, "from daemon");
    }
    // An archive that has ended is not waited for to end again.
    let endless = fs::File::open("/dev/zero").unwrap();
    let status = patience::status(
        Command::new("timeout")
            .args(["20", env!("CARGO_BIN_EXE_nacre"), "load"])
            .env("NACRE_ROOT", nacre.root())
            .env("NACRE_HOST", nacre.host())
            .stdin(endless)
            .stderr(Stdio::null()),
    );
    assert_eq!(status.code(), Some(1));
    nacre.check();
}

#[test]
fn bad_mount_points_are_refused_and_nothing_is_lost() {
    let nacre = ready();
    nacre.fails(
        &["mount", "debian-min", "/no/such/place"],
        1,
        "/no/such/place",
    );
    let file = nacre.path("file");
    fs::write(&file, "x").unwrap();
    nacre.fails(
        &["mount", "debian-min", file.to_str().unwrap()],
        1,
        "not a directory",
    );
    let point = nacre.folder("a");
    let target = point.to_str().unwrap();
    nacre.ok(&["mount", "--name", "busy", "debian-min", target]);
    nacre.fails(&["mount", "debian-min", target], 1, target);
    fs::write(point.join("kept"), "kept").unwrap();
    let mut user = Command::new("sleep")
        .arg("1000")
        .current_dir(&point)
        // What outlives a failed test must not hold the pipe that the tests' output goes into.
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    nacre.fails(&["umount", target], 1, "busy");
    assert_eq!(fs::read_to_string(point.join("kept")).unwrap(), "kept");
    user.kill().unwrap();
    patience::exit(&mut user, "sleep");
    nacre.ok(&["umount", target]);
    // the name is taken by the kept upper, for other images and for containers
    nacre.fails(
        &[
            "run",
            "--name",
            "busy",
            "--network",
            "none",
            "debian-min",
            "true",
        ],
        125,
        "already in use",
    );
    nacre.check();
}

#[test]
fn a_second_service_on_the_same_root_says_who_owns_it() {
    let nacre = ready();
    let pid = nacre.service_pid().unwrap().to_string();
    let other = format!("unix://{}", nacre.path("other.sock").display());
    let root = nacre.root();
    let done = nacre.run(&["-H", &other, "--root", root.to_str().unwrap(), "service"]);
    assert_eq!(done.code, 1, "{done:?}");
    assert!(done.stderr.contains(&pid), "{done:?}");
}

#[test]
fn a_stopped_service_is_gone_and_the_next_command_does_not_wait_for_it() {
    let nacre = ready();
    for _ in 0..5 {
        let pid = nacre.service_pid().unwrap();
        assert_eq!(nacre.ok(&["service", "--stop"]), "stopped");
        // It has ended, if its new parent has not buried it yet.
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        assert!(
            stat.is_empty() || stat.contains(") Z ") || stat.contains(") X "),
            "the service is said to have stopped: {stat}"
        );
        nacre.ok(&["image", "ls"]);
    }
}

#[test]
fn a_service_started_while_another_one_leaves_takes_over() {
    let nacre = ready();
    for _ in 0..5 {
        let pid = nacre.service_pid().unwrap().to_string();
        // Nobody waits for its end.
        run_tool("kill", &["-TERM", &pid]);
        eventually("the socket is gone", || !nacre.path("nacre.sock").exists());
        let start = Instant::now();
        nacre.ok(&["image", "ls"]);
        assert!(start.elapsed() < Duration::from_secs(10));
    }
}

#[test]
fn a_service_holds_nothing_of_the_command_that_started_it() {
    let nacre = Nacre::new();
    // A descriptor that is neither standard nor closed on exec, as flock(1) and make have.
    let script = format!(
        "exec {} image ls 9>&1 >/dev/null",
        env!("CARGO_BIN_EXE_nacre")
    );
    let start = Instant::now();
    let output = patience::output(
        Command::new("sh")
            .args(["-c", &script])
            .env("NACRE_ROOT", nacre.root())
            .env("NACRE_HOST", nacre.host())
            .stdin(Stdio::null()),
    );
    assert!(output.status.success(), "{output:?}");
    // The pipe has ended, and the service has not.
    assert!(start.elapsed() < Duration::from_secs(10));
    let pid = nacre.service_pid().unwrap();
    assert!(Path::new(&format!("/proc/{pid}")).exists());
}

#[test]
fn without_root_one_clear_error() {
    let nacre = Nacre::new();
    let program = nacre.path("nacre");
    fs::copy(env!("CARGO_BIN_EXE_nacre"), &program).unwrap();
    fs::copy(env!("CARGO_BIN_EXE_nacred"), nacre.path("nacred")).unwrap();
    run_tool("chmod", &["-R", "a+rx", nacre.path("").to_str().unwrap()]);
    for args in [
        &["image", "ls"][..],
        &["mount", "x"],
        &["run", "x"],
        &["pull", "x"],
        &["system", "check"],
    ] {
        let output = patience::output(
            Command::new(&program)
                .args(args)
                .env("NACRE_ROOT", nacre.root())
                .env("NACRE_HOST", nacre.host())
                .uid(65_534)
                .gid(65_534)
                .current_dir("/")
                .stdin(Stdio::null()),
        );
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(
            output.status.code(),
            Some(if args[0] == "run" { 125 } else { 1 }),
            "{args:?}: {said}"
        );
        assert!(said.contains("root"), "{args:?}: {said}");
    }

    // A service that may not be asked has not been stopped.
    nacre.ok(&["image", "ls"]);
    let output = patience::output(
        Command::new(&program)
            .args(["service", "--stop"])
            .env("NACRE_ROOT", nacre.root())
            .env("NACRE_HOST", nacre.host())
            .uid(65_534)
            .gid(65_534)
            .current_dir("/")
            .stdin(Stdio::null()),
    );
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("Permission denied"), "{said}");
}

#[test]
fn without_the_program_of_the_service_the_error_names_it() {
    let nacre = Nacre::new();
    let program = nacre.path("nacre");
    fs::copy(env!("CARGO_BIN_EXE_nacre"), &program).unwrap();
    for words in [&["image", "ls"][..], &["service"]] {
        let output = patience::output(
            Command::new(&program)
                .args(words)
                .env("NACRE_ROOT", nacre.root())
                .env("NACRE_HOST", nacre.host())
                .stdin(Stdio::null()),
        );
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{words:?}: {said}");
        assert!(
            said.contains("nacred: No such file or directory") && said.contains("make install"),
            "{words:?}: {said}"
        );
    }
}

#[test]
fn without_dev_fuse_a_mount_says_so() {
    let nacre = ready();
    let point = nacre.folder("a");
    // A service of its own in a mount namespace that has no /dev/fuse.
    run_tool("kill", &["-9", &nacre.service_pid().unwrap().to_string()]);
    let script = format!(
        "mount -t tmpfs none /dev && mknod /dev/null c 1 3 && mknod /dev/urandom c 1 9 && {} mount debian-min {}",
        env!("CARGO_BIN_EXE_nacre"),
        point.display()
    );
    let output = patience::output(
        Command::new("unshare")
            .args(["-m", "sh", "-c", &script])
            .env("NACRE_ROOT", nacre.root())
            .env("NACRE_HOST", nacre.host())
            .stdin(Stdio::null()),
    );
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("/dev/fuse"), "{said}");
}

#[test]
fn a_service_in_use_refuses_to_stop_and_says_what_is_in_use() {
    let nacre = ready();
    let point = nacre.folder("a");
    nacre.ok(&[
        "mount",
        "--name",
        "inuse",
        "debian-min",
        point.to_str().unwrap(),
    ]);
    let output = patience::output(Command::new("curl").args([
        "-s",
        "-X",
        "POST",
        "--unix-socket",
        nacre.path("nacre.sock").to_str().unwrap(),
        "http://nacre/nacre/shutdown",
    ]));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains(point.to_str().unwrap()), "{said}");
    assert!(point.join("etc/passwd").exists());
}

#[test]
fn a_service_killed_while_pulling_leaves_a_whole_store() {
    let nacre = Nacre::new();
    nacre.ok(&["image", "ls"]);
    for milliseconds in [5, 60, 200, 500, 900] {
        let source = oci_source("many-layers");
        let mut pull = Command::new(env!("CARGO_BIN_EXE_nacre"))
            .args(["pull", &source])
            .env("NACRE_ROOT", nacre.root())
            .env("NACRE_HOST", nacre.host())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_millis(milliseconds));
        nacre.kill_service();
        patience::exit(&mut pull, "nacre pull");
        nacre.check();
    }
    nacre.ok(&["pull", "-q", &oci_source("many-layers")]);
    nacre.check();
}

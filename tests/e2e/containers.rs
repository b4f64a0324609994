//! Processes in containers: exit codes, streams, signals, logs, exec, the rules of docker's command line.

use std::fs;
use std::path::{Path, PathBuf};

use crate::nacre::{Nacre, eventually, oci_source};
use crate::patience;

fn ready() -> Nacre {
    let nacre = Nacre::new();
    nacre.ok(&["pull", "-q", &oci_source("debian-min")]);
    nacre
}

const RUN: [&str; 4] = ["run", "--rm", "--network", "none"];

fn run(nacre: &Nacre, args: &[&str]) -> crate::nacre::Done {
    nacre.run(&[&RUN, args].concat())
}

#[test]
fn the_exit_code_is_the_processs_own() {
    let nacre = ready();
    assert_eq!(run(&nacre, &["debian-min", "true"]).code, 0);
    assert_eq!(run(&nacre, &["debian-min", "sh", "-c", "exit 42"]).code, 42);
    // The first process of a PID namespace cannot kill itself; its child can be killed.
    assert_eq!(
        run(
            &nacre,
            &["debian-min", "sh", "-c", "sh -c 'kill -9 $$'; exit $?"]
        )
        .code,
        137
    );
    let missing = run(&nacre, &["debian-min", "nope"]);
    assert_eq!(missing.code, 127, "{missing:?}");
    assert!(
        missing
            .stderr
            .contains("executable file not found in $PATH"),
        "{missing:?}"
    );
    let forbidden = run(&nacre, &["debian-min", "/etc/passwd"]);
    assert_eq!(forbidden.code, 126, "{forbidden:?}");
    assert!(
        forbidden.stderr.contains("permission denied"),
        "{forbidden:?}"
    );
    assert_eq!(run(&nacre, &["--no-such-flag", "debian-min"]).code, 125);
    assert_eq!(nacre.ok(&["ps", "-aq"]), "", "--rm leaves nothing");
    nacre.check();
}

#[test]
fn streams_and_input_are_kept_apart() {
    let nacre = ready();
    let done = nacre.run_with_input(
        &[
            "run",
            "--rm",
            "-i",
            "--network",
            "none",
            "debian-min",
            "sh",
            "-c",
            "cat; echo err >&2",
        ],
        b"line one\nline two\n",
    );
    assert_eq!(
        (done.code, done.stdout.as_str()),
        (0, "line one\nline two\n"),
        "{done:?}"
    );
    assert!(done.stderr.ends_with("err\n"), "{done:?}");
}

#[test]
fn a_terminal_is_a_terminal() {
    let nacre = ready();
    let command = format!(
        "{} -H {} run -it --rm --network none debian-min sh -c 'tty; stty size'",
        env!("CARGO_BIN_EXE_nacre"),
        nacre.host()
    );
    let out = patience::output(
        std::process::Command::new("script")
            .args([
                "-qec",
                &format!("stty rows 33 cols 99; {command}"),
                "/dev/null",
            ])
            .env("NACRE_ROOT", nacre.root())
            .stdin(std::process::Stdio::null()),
    );
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(
        text.contains("/dev/pts/0") && text.contains("33 99"),
        "{text}"
    );
    let refused = nacre.run(&[
        "run",
        "-it",
        "--rm",
        "--network",
        "none",
        "debian-min",
        "true",
    ]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(
        refused.stderr.contains("the input device is not a TTY"),
        "{refused:?}"
    );
}

#[test]
fn what_a_container_is_given() {
    let nacre = ready();
    let volume = nacre.folder("volume");
    std::fs::write(volume.join("from-host"), "shared\n").unwrap();
    let bind = format!("{}:/data", volume.display());
    let out = run(
        &nacre,
        &[
            "-e",
            "GREETING=hello",
            "-w",
            "/tmp",
            "--hostname",
            "pearl",
            "-v",
            &bind,
            "-u",
            "nobody",
            "debian-min",
            "sh",
            "-c",
            "echo $GREETING; pwd; hostname; cat /data/from-host; id -un; cat /proc/self/status | grep -E 'Seccomp:|NoNewPrivs'; ls /proc | grep -c '^[0-9]'",
        ],
    );
    assert_eq!(out.code, 0, "{out:?}");
    let lines: Vec<&str> = out.stdout.lines().collect();
    assert_eq!(
        &lines[..5],
        ["hello", "/tmp", "pearl", "shared", "nobody"],
        "{out:?}"
    );
    assert!(out.stdout.contains("Seccomp:\t2"), "{out:?}");
    assert!(
        lines.last().unwrap().parse::<u32>().unwrap() < 6,
        "the host's processes must not be seen: {out:?}"
    );

    let read_only = run(&nacre, &["--read-only", "debian-min", "touch", "/x"]);
    assert_ne!(read_only.code, 0);
    assert!(
        read_only.stderr.contains("Read-only file system"),
        "{read_only:?}"
    );
    let entry = run(&nacre, &["--entrypoint", "echo", "debian-min", "entered"]);
    assert_eq!(entry.stdout, "entered\n");
}

#[test]
fn with_the_hosts_network_a_container_has_the_hosts_name() {
    let nacre = ready();
    let script = "hostname; cat /etc/hostname; echo $HOSTNAME";
    let args = [
        "run",
        "--rm",
        "--network",
        "host",
        "debian-min",
        "sh",
        "-c",
        script,
    ];
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert_eq!(nacre.ok(&args), name.repeat(3).trim_end());
}

#[test]
fn an_exec_that_cannot_start_ends_as_dockers_does() {
    let nacre = ready();
    nacre.ok(&[
        "run",
        "-d",
        "--name",
        "web",
        "--network",
        "none",
        "debian-min",
        "sleep",
        "1000",
    ]);
    nacre.fails(
        &["exec", "-u", "nosuch", "web", "id"],
        126,
        "unable to find user nosuch",
    );
    nacre.fails(&["exec", "web", "nosuch"], 127, "executable file not found");
    nacre.ok(&["rm", "-f", "web"]);
}

#[test]
fn a_detached_container_lives_from_run_to_rm() {
    let nacre = ready();
    let id = nacre.ok(&[
        "run",
        "--name",
        "web",
        "-d",
        "--network",
        "none",
        "debian-min",
        "sh",
        "-c",
        "echo out; echo err >&2; exec sleep 1000",
    ]);
    assert_eq!(id.len(), 64, "{id}");
    let listed = nacre.ok(&["ps"]);
    assert!(listed.contains("web") && listed.contains("Up "), "{listed}");
    eventually("the log has both lines", || {
        let logs = nacre.run(&["logs", "web"]);
        logs.stdout == "out\n" && logs.stderr == "err\n"
    });
    assert_eq!(
        nacre.ok(&["exec", "web", "ls", "/etc/hostname"]),
        "/etc/hostname"
    );
    assert_eq!(nacre.run(&["exec", "web", "sh", "-c", "exit 7"]).code, 7);
    assert_eq!(nacre.run(&["exec", "web", "nope"]).code, 127);
    nacre.fails(
        &["run", "--name", "web", "-d", "debian-min"],
        125,
        "is already in use by container",
    );
    nacre.fails(
        &["rm", "web"],
        1,
        "container is running: stop the container before removing or force remove",
    );
    nacre.fails(
        &["image", "rm", "debian-min"],
        1,
        "conflict: unable to remove repository reference",
    );
    assert_eq!(
        nacre.ok(&["diff", "web"]),
        "",
        "what the runtime puts in place is no change"
    );
    assert_eq!(nacre.ok(&["stop", "-t", "1", "web"]), "web");
    let listed = nacre.ok(&["ps", "-a"]);
    assert!(listed.contains("Exited (137)"), "{listed}");
    assert_eq!(nacre.ok(&["rm", "web"]), "web");
    assert_eq!(nacre.ok(&["ps", "-aq"]), "");
    nacre.fails(&["logs", "web"], 1, "No such container: web");
    nacre.check();
}

#[test]
fn apt_get_installs_a_package_and_commit_keeps_it() {
    let nacre = ready();
    let updated = patience::output(std::process::Command::new("apt-get").args(["update", "-qq"]));
    if !updated.status.success() {
        eprintln!("skipped: the host's own apt-get update fails, there are no packages to install");
        return;
    }
    let script = "set -e; cp -L /host-ca /tmp/ca.crt; \
        printf 'Dir::Etc \"/host-apt\";\\nAPT::Sandbox::User \"root\";\\nAcquire::https::CAInfo \"/tmp/ca.crt\";\\n' > /tmp/apt.conf; \
        export APT_CONFIG=/tmp/apt.conf DEBIAN_FRONTEND=noninteractive; \
        apt-get update -qq; apt-get install -y -qq --no-install-recommends hello >/dev/null; rm -rf /var/lib/apt/lists/* /tmp/*";
    let apt = nacre.folder("apt");
    crate::nacre::run_tool("cp", &["-aT", "/etc/apt", apt.to_str().unwrap()]);
    let drop_foreign = format!(
        "rm -f {0}/sources.list.d/*nodesource* {0}/sources.list.d/*google*",
        apt.display()
    );
    crate::nacre::run_tool("sh", &["-c", &drop_foreign]);
    let (apt, keys) = (
        format!("{}:/host-apt:ro", apt.display()),
        "/usr/share/keyrings:/usr/share/keyrings:ro",
    );
    let done = nacre.run(&[
        "run",
        "--name",
        "apt",
        "--network",
        "host",
        "-v",
        &apt,
        "-v",
        keys,
        "-v",
        "/etc/ssl/certs/ca-certificates.crt:/host-ca:ro",
        "debian-min",
        "sh",
        "-c",
        script,
    ]);
    assert_eq!(done.code, 0, "{done:?}");
    let diff = nacre.ok(&["diff", "apt"]);
    assert!(
        diff.contains("A /usr/bin/hello") && diff.contains("C /var/lib/dpkg/status"),
        "{diff}"
    );
    assert!(
        !diff.contains("host-apt"),
        "mount points are no change: {diff}"
    );
    nacre.ok(&["commit", "-a", "A <a@b>", "-m", "why", "apt", "site:v2"]);
    let history = nacre.ok(&["history", "site:v2"]);
    assert!(history.contains("why"), "{history}");
    let hello = run(&nacre, &["site:v2", "hello"]);
    assert_eq!(
        (hello.code, hello.stdout.as_str()),
        (0, "Hello, world!\n"),
        "{hello:?}"
    );
    nacre.check();
}

#[test]
fn a_container_and_an_exec_are_held_by_the_small_program_beside_nacre() {
    let shim = Path::new(env!("CARGO_BIN_EXE_nacre")).with_file_name("nacre-shim");
    if !shim.exists() {
        eprintln!("skipped: {} is not built (make build)", shim.display());
        return;
    }
    let nacre = ready();
    nacre.ok(&[
        "run",
        "-d",
        "--name",
        "box",
        "--network",
        "none",
        "debian-min",
        "sleep",
        "100",
    ]);
    nacre.ok(&["exec", "-d", "box", "sleep", "100"]);
    let holders: Vec<PathBuf> = fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter(|process| {
            let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
            let of_ours = format!("nacre-shim\0{}", nacre.root().display());
            line.starts_with(of_ours.as_bytes())
        })
        .map(|process| fs::read_link(process.path().join("exe")).unwrap())
        .collect();
    // CI's target folder is a link.
    let shim = shim.canonicalize().unwrap();
    assert_eq!(holders, [shim.clone(), shim]);
    nacre.ok(&["rm", "-f", "box"]);
}

//! A real terminal (a pty) on both sides of the command line.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcgetattr, tcsetwinsize};

use crate::fake::{Fake, Reply, thin};
use crate::patience;

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

struct Pty {
    master: std::fs::File,
    slave: OwnedFd,
}

fn pty() -> Pty {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    // A program that another test starts meanwhile must not hold it open: reading ends when the last one has closed it.
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let slave = rustix::fs::open(name, flags, Mode::empty()).unwrap();
    let size = Winsize {
        ws_row: 40,
        ws_col: 120,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(&slave, size).unwrap();
    Pty {
        master: std::fs::File::from(master),
        slave,
    }
}

fn container(echo: bool, output: &[u8]) -> Fake {
    Fake::new(vec![
        (
            "POST /containers/create",
            Reply::Body(201, format!("{{\"Id\":\"{ID}\",\"Warnings\":[]}}")),
        ),
        (
            "POST /containers/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef/attach",
            Reply::Hijack {
                framed: false,
                output: output.to_vec(),
                echo,
            },
        ),
        (
            "POST /containers/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef/wait",
            Reply::Later(200, "{\"StatusCode\":7}".to_owned()),
        ),
        (
            "POST /containers/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef/",
            Reply::Body(204, String::new()),
        ),
    ])
}

fn spawn(fake: &Fake, pty: &Pty, words: &[&str]) -> std::process::Child {
    let stdio = || Stdio::from(pty.slave.try_clone().unwrap());
    thin()
        .env("TERM", "xterm")
        .arg("-H")
        .arg(&fake.socket)
        .args(words)
        .stdin(stdio())
        .stdout(stdio())
        .stderr(stdio())
        .spawn()
        .unwrap()
}

/// Waits for a condition that another process brings about.
fn until(mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < Duration::from_secs(20), "it never came");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn is_raw(pty: &Pty) -> bool {
    let modes = tcgetattr(&pty.slave).unwrap().local_modes;
    !modes.contains(rustix::termios::LocalModes::ICANON)
}

#[test]
fn the_detach_keys_leave_and_the_terminal_is_as_it_was() {
    let fake = container(true, b"");
    let mut pty = pty();
    assert!(!is_raw(&pty));
    let mut child = spawn(&fake, &pty, &["run", "-it", "x"]);
    until(|| is_raw(&pty));
    pty.master.write_all(&[b'a', 16, 17]).unwrap();
    let status = patience::exit(&mut child, "nacre-thin");
    assert_eq!(status.code(), Some(0), "leaving is success");
    assert!(!is_raw(&pty), "the terminal is left raw");
    until(|| {
        fake.asked()
            .iter()
            .any(|line| line.contains("/resize?h=40&w=120"))
    });
}

#[test]
fn bytes_reach_the_terminal_as_they_are_and_the_exit_code_too() {
    let fake = container(false, b"raw \x1b[31mbytes\r\n");
    let mut pty = pty();
    let mut child = spawn(&fake, &pty, &["run", "-it", "x"]);
    assert_eq!(patience::exit(&mut child, "nacre-thin").code(), Some(7));
    assert!(!is_raw(&pty));
    let mut seen = [0; 256];
    let count = pty.master.read(&mut seen).unwrap();
    assert_eq!(seen.get(..count).unwrap(), b"raw \x1b[31mbytes\r\n");
}

#[test]
fn a_signal_goes_to_the_process_and_not_to_us() {
    let fake = container(true, b"");
    let mut pty = pty();
    let mut child = spawn(&fake, &pty, &["run", "-it", "x"]);
    until(|| is_raw(&pty));
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    until(|| {
        fake.asked()
            .iter()
            .any(|line| line.contains("/kill?signal=TERM"))
    });
    pty.master.write_all(&[16, 17]).unwrap();
    assert_eq!(patience::exit(&mut child, "nacre-thin").code(), Some(0));
}

#[test]
fn without_a_proxy_a_signal_ends_us_and_restores_the_terminal() {
    let fake = container(true, b"");
    let pty = pty();
    let mut child = spawn(&fake, &pty, &["run", "--sig-proxy=false", "-it", "x"]);
    until(|| is_raw(&pty));
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(
        patience::exit(&mut child, "nacre-thin").code(),
        Some(128 + 15)
    );
    assert!(!is_raw(&pty));
}

#[test]
fn an_archive_is_never_written_to_a_terminal() {
    let fake = container(false, b"");
    let mut pty = pty();
    let mut child = spawn(&fake, &pty, &["save", "x"]);
    assert_eq!(patience::exit(&mut child, "nacre-thin").code(), Some(1));
    let mut seen = [0; 256];
    let count = pty.master.read(&mut seen).unwrap();
    let text = String::from_utf8_lossy(seen.get(..count).unwrap()).into_owned();
    assert!(
        text.starts_with("cowardly refusing to save to a terminal."),
        "{text}"
    );
    assert!(fake.asked().is_empty());
}

#[test]
fn a_login_asks_and_does_not_show_the_password() {
    let fake = Fake::new(vec![(
        "POST /auth",
        Reply::Body(
            200,
            "{\"Status\":\"Login Succeeded\",\"IdentityToken\":\"\"}".to_owned(),
        ),
    )]);
    let mut pty = pty();
    let home = tempfile::tempdir().unwrap();
    let stdio = || Stdio::from(pty.slave.try_clone().unwrap());
    let mut child = thin()
        .arg("-H")
        .arg(&fake.socket)
        .args(["login", "r.test:5000"])
        .env("DOCKER_CONFIG", home.path())
        .stdin(stdio())
        .stdout(stdio())
        .stderr(stdio())
        .spawn()
        .unwrap();
    let echoes = || {
        let modes = tcgetattr(&pty.slave).unwrap().local_modes;
        modes.contains(rustix::termios::LocalModes::ECHO)
    };
    let mut seen = String::new();
    let mut read_until = |master: &mut std::fs::File, words: &str| {
        while !seen.ends_with(words) {
            let mut buffer = [0; 256];
            let count = master.read(&mut buffer).unwrap();
            seen.push_str(&String::from_utf8_lossy(buffer.get(..count).unwrap()));
        }
        seen.clone()
    };
    read_until(&mut pty.master, "Username: ");
    assert!(echoes());
    pty.master.write_all(b"me\n").unwrap();
    read_until(&mut pty.master, "Password: ");
    until(|| !echoes());
    pty.master.write_all(b"hunter2\n").unwrap();
    let seen = read_until(&mut pty.master, "Login Succeeded\r\n");
    assert_eq!(
        patience::exit(&mut child, "nacre-thin").code(),
        Some(0),
        "{seen:?}"
    );
    assert!(!seen.contains("hunter2"), "{seen:?}");
    assert!(
        seen.starts_with("Username: me\r\nPassword: \r\n"),
        "{seen:?}"
    );
    assert!(echoes(), "the terminal is left without echo");
    let kept = std::fs::read_to_string(home.path().join("config.json")).unwrap();
    assert!(kept.contains("r.test:5000"), "{kept}");
}

#[test]
fn layers_have_a_line_each_and_the_end_stands_below() {
    let fake = Fake::new(vec![(
        "POST /images/create",
        Reply::Pieces(
            [
                "{\"status\":\"Pulling from d\",\"id\":\"1\"}\r\n",
                "{\"status\":\"Downloading\",\"progressDetail\":{\"current\":1000,\"total\":2000},\"id\":\"abc\"}\r\n",
                "{\"status\":\"Pull complete\",\"progressDetail\":{},\"id\":\"abc\"}\r\n",
                "{\"status\":\"Digest: sha256:1\"}\r\n",
            ]
            .map(|line| line.as_bytes().to_vec())
            .to_vec(),
        ),
    )]);
    let mut pty = pty();
    let mut child = spawn(&fake, &pty, &["pull", "h.io/d:1"]);
    assert_eq!(patience::exit(&mut child, "nacre-thin").code(), Some(0));
    drop(pty.slave);
    let mut seen = Vec::new();
    // A pty whose other side is closed ends with an error.
    drop(pty.master.read_to_end(&mut seen));
    let text = String::from_utf8_lossy(&seen).into_owned();
    let place = |needle: &str| {
        text.rfind(needle)
            .unwrap_or_else(|| panic!("{needle:?} is not in {text:?}"))
    };
    assert!(place("abc: Pull complete") < place("Digest: sha256:1"));
    assert!(place("Digest: sha256:1") < place("h.io/d:1"));
}

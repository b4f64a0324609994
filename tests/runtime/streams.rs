//! Input, output, terminals, logs, and those who attach.

use std::net::Shutdown;
use std::time::Duration;

use nacre::runtime::AttachRequest;
use nacre::runtime::spec::{ConsoleSize, Stdin};

use crate::fixture::{Container, everything, finish, read_all, read_until, until, write};

#[test]
fn the_two_outputs_are_told_apart() {
    let mut container = Container::script("echo out; echo err >&2; printf unfinished");
    let outcome = container.run();
    assert_eq!(
        (outcome.stdout.as_str(), outcome.stderr.as_str()),
        ("out\nunfinished", "err\n")
    );
    container.delete();
}

#[test]
fn nothing_is_lost_between_start_and_a_quick_end() {
    let mut container = Container::script("seq 1 20000");
    let outcome = container.run();
    assert_eq!(outcome.stdout.lines().count(), 20_000);
    assert!(outcome.stdout.ends_with("\n20000\n"));
    container.delete();
}

#[test]
fn the_end_of_the_clients_input_is_the_end_of_the_processs() {
    let mut container = Container::new(&["cat"]).with(|spec| spec.process.stdin = Stdin::Once);
    let shim = container.prepare();
    let stream = shim.attach(&everything()).unwrap();
    // Before the start, and more than a pipe holds.
    let sent = "0123456789abcdef\n".repeat(20_000);
    let mut writer = stream.try_clone().unwrap();
    let text = sent.clone();
    let feeder = std::thread::spawn(move || {
        write(&mut writer, &text);
        writer.shutdown(Shutdown::Write).unwrap();
    });
    shim.start().unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let outcome = finish(shim, stream.try_clone().unwrap(), false);
    feeder.join().unwrap();
    assert!(
        outcome.stdout == sent,
        "{} of {} bytes",
        outcome.stdout.len(),
        sent.len()
    );
    assert_eq!(outcome.exit.code, 0);
    container.delete();
}

#[test]
fn input_that_stays_open_outlives_its_clients() {
    let mut container = Container::script("read a; read b; echo $a $b")
        .with(|spec| spec.process.stdin = Stdin::Open);
    container.start();
    for line in ["one\n", "two\n"] {
        let mut stream = container.shim().attach(&everything()).unwrap();
        write(&mut stream, line);
        stream.shutdown(Shutdown::Write).unwrap();
    }
    container.shim().wait().unwrap();
    assert!(
        std::fs::read_to_string(container.log())
            .unwrap()
            .contains("one two\\n")
    );
    container.delete();
}

#[test]
fn without_input_a_process_reads_the_end() {
    let mut container = Container::new(&["cat"]);
    assert_eq!(container.run().exit.code, 0);
    container.delete();
}

#[test]
fn a_terminal_has_a_size_and_changes_it() {
    let script = "trap 'stty size; exit 3' WINCH; tty; echo by name > /dev/tty; stty size; echo ready; while :; do sleep 0.02; done";
    let mut container = Container::script(script).with(|spec| {
        spec.process.tty = true;
        spec.process.stdin = Stdin::Open;
        spec.process.console_size = Some(ConsoleSize {
            rows: 11,
            columns: 33,
        });
    });
    let shim = container.prepare();
    let mut stream = shim.attach(&everything()).unwrap();
    shim.start().unwrap();
    let seen = read_until(&mut stream, "ready");
    assert!(
        seen.contains("/dev/pts/0\r\nby name\r\n11 33\r\n"),
        "{seen:?}"
    );
    shim.resize(ConsoleSize {
        rows: 44,
        columns: 55,
    })
    .unwrap();
    let outcome = finish(shim, stream, true);
    assert!(outcome.stdout.contains("44 55\r\n"), "{:?}", outcome.stdout);
    assert_eq!(outcome.exit.code, 3);
    container.delete();
}

#[test]
fn a_size_set_before_the_start_counts_from_the_start() {
    let mut container = Container::new(&["stty", "size"]).with(|spec| spec.process.tty = true);
    let shim = container.prepare();
    shim.resize(ConsoleSize {
        rows: 12,
        columns: 34,
    })
    .unwrap();
    let stream = shim.attach(&everything()).unwrap();
    shim.start().unwrap();
    until("the process has ended", || shim.exit().unwrap().is_some());
    // `stty` may look before the size is set: the container's own console size is what is exact.
    drop(read_all(stream, true));
    container.delete();
}

#[test]
fn a_terminals_shell_echoes_and_ends() {
    let mut container = Container::new(&["sh"]).with(|spec| {
        spec.process.tty = true;
        spec.process.stdin = Stdin::Open;
    });
    let shim = container.prepare();
    let mut stream = shim.attach(&everything()).unwrap();
    shim.start().unwrap();
    write(&mut stream, "echo $((40 + 2)) $TERM\n");
    read_until(&mut stream, "42 xterm\r\n");
    write(&mut stream, "exit 9\n");
    assert_eq!(finish(shim, stream, true).exit.code, 9);
    container.delete();
}

#[test]
fn the_detach_keys_end_the_attach_and_not_the_process() {
    let mut container =
        Container::script("while read line; do echo got $line; done").with(|spec| {
            spec.process.tty = true;
            spec.process.stdin = Stdin::Once;
        });
    let wanted = AttachRequest {
        detach_keys: vec![16, 17],
        ..everything()
    };
    let shim = container.prepare();
    let mut stream = shim.attach(&wanted).unwrap();
    shim.start().unwrap();
    write(&mut stream, "first\n");
    read_until(&mut stream, "got first");
    write(&mut stream, "\x10\x11");
    read_all(stream, true);
    let mut stream = shim.attach(&wanted).unwrap();
    write(&mut stream, "second\n");
    read_until(&mut stream, "got second");
    drop(stream);
    container.delete();
}

#[test]
fn several_clients_see_the_same() {
    let mut container =
        Container::script("read go; seq 1 1000").with(|spec| spec.process.stdin = Stdin::Open);
    let shim = container.prepare();
    let watchers: Vec<_> = (0..3)
        .map(|_| {
            shim.attach(&AttachRequest {
                stdin: false,
                ..everything()
            })
            .unwrap()
        })
        .collect();
    shim.start().unwrap();
    let mut driver = shim
        .attach(&AttachRequest {
            stdin: true,
            ..AttachRequest::default()
        })
        .unwrap();
    write(&mut driver, "go\n");
    for watcher in watchers {
        assert_eq!(read_all(watcher, false).0.lines().count(), 1000);
    }
    assert_eq!(read_all(driver, false).0, "");
    container.delete();
}

#[test]
fn a_client_that_leaves_does_not_stop_the_process() {
    let mut container = Container::script("seq 1 200000; echo done >&2");
    let shim = container.prepare();
    let stream = shim.attach(&everything()).unwrap();
    shim.start().unwrap();
    drop(stream);
    assert_eq!(shim.wait().unwrap().code, 0);
    let log = std::fs::read_to_string(container.log()).unwrap();
    assert_eq!(log.lines().count(), 200_001);
    container.delete();
}

#[test]
fn a_client_that_does_not_read_holds_the_process_up_and_loses_nothing() {
    let mut container = Container::script("seq 1 1000000");
    let shim = container.prepare();
    let stream = shim.attach(&everything()).unwrap();
    shim.start().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    assert!(
        shim.exit().unwrap().is_none(),
        "seven megabytes went nowhere"
    );
    let outcome = finish(shim, stream, false);
    assert!(outcome.stdout.ends_with("\n1000000\n"));
    assert_eq!(outcome.stdout.len(), 6_888_896);
    container.delete();
}

#[test]
fn the_log_is_dockers() {
    let mut container =
        Container::script("echo out; echo '<err>' >&2; head -c 20000 /dev/zero | tr '\\0' x; echo");
    container.run();
    let log = std::fs::read_to_string(container.log()).unwrap();
    let lines: Vec<serde_json::Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let of = |stream: &str| -> Vec<&str> {
        let is_of = |line: &&serde_json::Value| line["stream"] == stream;
        lines
            .iter()
            .filter(is_of)
            .map(|line| line["log"].as_str().unwrap())
            .collect()
    };
    assert_eq!(of("stderr"), ["<err>\n"]);
    let out = of("stdout");
    assert_eq!(out[0], "out\n");
    assert_eq!((out[1].len(), out[2].len()), (16_384, 20_001 - 16_384));
    assert!(out[2].ends_with("x\n") && !out[1].ends_with('\n'));
    assert!(
        lines
            .iter()
            .all(|line| line["time"].as_str().unwrap().ends_with('Z'))
    );
    container.delete();
}

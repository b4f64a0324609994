//! Waits that end. What a test has started is killed when it hangs, and the test fails with its words; a test that hangs by
//! itself ends its program, which says which test it was and where its threads wait. Never makes a test fail for being slow:
//! every bound is many times what the step takes on a machine that is busy with other tests.
#![allow(dead_code, reason = "each test program uses its part")]

use std::fs;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// For one program.
pub(crate) const PROGRAM: Duration = Duration::from_secs(5 * 60);

/// For a suite of somebody else's, which is a test of many.
pub(crate) const SUITE: Duration = Duration::from_secs(15 * 60);

/// For a whole test.
const TEST: Duration = Duration::from_secs(20 * 60);

/// For the output of a program that was killed; another one that it started may hold its pipe.
const AFTER_KILL: Duration = Duration::from_secs(5);

/// Runs a program to its end; returns what it said.
pub(crate) fn output(command: &mut Command) -> Output {
    let what = format!("{command:?}");
    command.stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap_or_else(|e| panic!("{what}: {e}"));
    ended(child, &what, PROGRAM)
}

/// Runs a program that talks to the test's own standard streams.
pub(crate) fn status(command: &mut Command) -> ExitStatus {
    let what = format!("{command:?}");
    let mut child = command.spawn().unwrap_or_else(|e| panic!("{what}: {e}"));
    exit(&mut child, &what)
}

/// Waits for the end of a program, reading what it says.
pub(crate) fn ended(child: Child, what: &str, patience: Duration) -> Output {
    let pid = child.id();
    let (send, done) = channel();
    // Nobody is left to tell when the test has failed.
    std::thread::spawn(move || send.send(child.wait_with_output()).ok());
    match done.recv_timeout(patience) {
        Ok(output) => output.unwrap_or_else(|e| panic!("{what}: {e}")),
        Err(_) => {
            let place = where_it_waits(pid);
            kill(pid);
            let said = match done.recv_timeout(AFTER_KILL) {
                Ok(Ok(output)) => [output.stdout, output.stderr].concat(),
                Ok(Err(_)) | Err(_) => Vec::new(),
            };
            let said = String::from_utf8_lossy(&said).into_owned();
            panic!("{what} hangs, and was killed after {patience:?}\n{place}it had said:\n{said}");
        }
    }
}

/// Waits for the end of a program that is still the caller's.
pub(crate) fn exit(child: &mut Child, what: &str) -> ExitStatus {
    let until = Instant::now() + PROGRAM;
    loop {
        if let Some(status) = child.try_wait().unwrap_or_else(|e| panic!("{what}: {e}")) {
            return status;
        }
        if Instant::now() > until {
            let place = where_it_waits(child.id());
            kill(child.id());
            panic!("{what} hangs, and was killed after {PROGRAM:?}\n{place}");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn kill(pid: u32) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // It is not waited for yet, so the number is its own; and the test fails whatever this does.
        kill_process(pid, Signal::KILL).ok();
    }
}

/// A line for each thread of a process: its name, and what in the kernel it waits for.
fn where_it_waits(pid: u32) -> String {
    let mut lines = String::new();
    let tasks = fs::read_dir(format!("/proc/{pid}/task"));
    for task in tasks.into_iter().flatten().flatten() {
        // One that has just ended has nothing to say.
        let read = |name: &str| fs::read_to_string(task.path().join(name)).unwrap_or_default();
        let (name, waits, call) = (read("comm"), read("wchan"), read("syscall"));
        let call = call.split(' ').next().unwrap_or_default();
        let (name, call) = (name.trim(), call.trim());
        lines += &format!("thread {name} waits in {waits} (system call {call})\n");
    }
    lines
}

/// A test that is under way; when it is not over in time, its program is.
#[derive(Debug)]
pub(crate) struct Watch {
    /// Dropped with this.
    _over: Sender<()>,
}

impl Watch {
    /// Of the test that this thread runs.
    pub(crate) fn new() -> Self {
        let (_over, over) = channel::<()>();
        let name = std::thread::current().name().unwrap_or("?").to_owned();
        // Hundreds of rounds take their time.
        let is_soak = std::env::var_os("NACRE_SOAK_ROUNDS").is_some();
        let began = Instant::now();
        std::thread::spawn(move || {
            if is_soak || over.recv_timeout(TEST) != Err(RecvTimeoutError::Timeout) {
                return;
            }
            let took = began.elapsed();
            let place = where_it_waits(std::process::id());
            #[expect(clippy::print_stderr, reason = "nobody else is left to say it")]
            {
                eprintln!(
                    "test {name} hangs: it is not over after {took:?}, and all others here end with it\n{place}"
                );
            }
            std::process::abort();
        });
        Self { _over }
    }
}

//! One nacre of a test's own: its store, its socket, its temporary directory; all of it gone afterwards, also on panic.

use std::ffi::OsStr;
use std::fs;
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::patience::{self, Watch};

/// What a finished command left.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Done {
    /// All that it said, wherever.
    pub(crate) fn said(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

pub(crate) struct Nacre {
    dir: tempfile::TempDir,
    /// The store, below the test's own directory.
    root: &'static str,
    /// More variables of every command.
    env: Vec<(String, String)>,
    _watch: Watch,
}

impl Nacre {
    pub(crate) fn new() -> Self {
        Self::with_store_in("root")
    }

    /// With its store under another name in the test's own directory.
    pub(crate) fn with_store_in(root: &'static str) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("nacre-test-")
            .tempdir()
            .unwrap();
        Self {
            dir,
            root,
            env: Vec::new(),
            _watch: Watch::new(),
        }
    }

    /// Sets a variable for the commands to come, and for the service that they start: one that runs is stopped.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.unset(name);
        self.env.push((name.to_owned(), value.to_owned()));
    }

    /// Gives the commands to come, and the service that they start, a settings file.
    pub(crate) fn configure(&mut self, text: &str) -> PathBuf {
        let file = self.path("nacre.toml");
        fs::write(&file, text).unwrap();
        self.set("NACRE_CONFIG", file.to_str().unwrap());
        file
    }

    /// Takes a variable back, as [`Nacre::set`] sets it; a service that died is not asked.
    pub(crate) fn unset(&mut self, name: &str) {
        if self.is_served() {
            self.run(&["service", "--stop"]);
        }
        self.env.retain(|(known, _)| known != name);
    }

    /// Whether the service that the lock names is alive.
    pub(crate) fn is_served(&self) -> bool {
        self.service_pid()
            .is_some_and(|pid| Path::new(&format!("/proc/{pid}")).exists())
    }

    /// A path in the test's own directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// An empty directory of the test's own.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.path(self.root)
    }

    pub(crate) fn host(&self) -> String {
        format!("unix://{}", self.path("nacre.sock").display())
    }

    fn command<S: AsRef<OsStr>>(&self, args: &[S]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nacre"));
        command
            .args(args)
            .env("NACRE_ROOT", self.root())
            .env("NACRE_HOST", self.host())
            .env("LC_ALL", "C");
        command
            .env("DOCKER_CONFIG", self.path("docker-config"))
            .envs(self.env.iter().cloned())
            .current_dir("/");
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run<S: AsRef<OsStr>>(&self, args: &[S]) -> Done {
        self.run_with_input(args, b"")
    }

    /// Runs a command with `input` on its standard input.
    pub(crate) fn run_with_input<S: AsRef<OsStr>>(&self, args: &[S], input: &[u8]) -> Done {
        let mut child = self
            .command(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        // A command that does not read its input closes it early: that is no fault of the test.
        let feeder = std::thread::spawn(move || stdin.write_all(&input).is_ok());
        let words: Vec<&OsStr> = args.iter().map(AsRef::as_ref).collect();
        let output = patience::ended(child, &format!("nacre {words:?}"), patience::PROGRAM);
        feeder.join().unwrap();
        Done {
            code: output
                .status
                .code()
                .unwrap_or_else(|| 128 + output.status.signal().unwrap_or(0)),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Runs a command that must succeed; returns its standard output without the last line's end.
    pub(crate) fn ok<S: AsRef<OsStr> + std::fmt::Debug>(&self, args: &[S]) -> String {
        let done = self.run(args);
        assert_eq!(
            done.code, 0,
            "nacre {args:?} failed:\n{}{}",
            done.stdout, done.stderr
        );
        done.stdout.trim_end_matches('\n').to_owned()
    }

    /// Runs a command that must fail with `code` and say `text`.
    pub(crate) fn fails<S: AsRef<OsStr> + std::fmt::Debug>(
        &self,
        args: &[S],
        code: i32,
        text: &str,
    ) -> Done {
        let done = self.run(args);
        let said = done.said();
        assert_eq!(done.code, code, "nacre {args:?} said:\n{said}");
        assert!(
            said.contains(text),
            "nacre {args:?} must say {text:?}, said:\n{said}"
        );
        done
    }

    /// The service's process.
    pub(crate) fn service_pid(&self) -> Option<i32> {
        fs::read_to_string(self.root().join("lock"))
            .ok()?
            .trim()
            .parse()
            .ok()
    }

    /// Kills the service as a power button would kill its process, and waits until it is gone.
    pub(crate) fn kill_service(&self) {
        let pid = self.service_pid().expect("a service must be running");
        run_tool("kill", &["-9", &pid.to_string()]);
        let deadline = Instant::now() + Duration::from_secs(10);
        while Path::new(&format!("/proc/{pid}")).exists() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The store check must be clean.
    pub(crate) fn check(&self) {
        self.ok(&["system", "check"]);
    }

    /// A tar of a folder, beside it.
    pub(crate) fn packed(&self, folder: &Path) -> String {
        let tar = folder.with_extension("tar").display().to_string();
        run_tool("tar", &["-C", folder.to_str().unwrap(), "-cf", &tar, "."]);
        tar
    }

    /// The files that the store keeps in one of its folders.
    pub(crate) fn kept(&self, folder: &str) -> Vec<String> {
        files_below(&self.root().join(folder))
    }

    /// Mount points below the test's directory.
    pub(crate) fn mount_points(&self) -> Vec<PathBuf> {
        let prefix = self.dir.path().to_str().unwrap().to_owned();
        fs::read_to_string("/proc/self/mountinfo")
            .unwrap()
            .lines()
            .filter_map(|line| line.split(' ').nth(4))
            .filter(|point| point.starts_with(&prefix))
            .map(PathBuf::from)
            .collect()
    }
}

impl Drop for Nacre {
    fn drop(&mut self) {
        for point in self.mount_points().iter().rev() {
            quietly("umount", &["-l", point.to_str().unwrap_or_default()]);
        }
        // Whatever names this test's directory on its command line is the service, a shim or what they started.
        let needle = self.dir.path().to_string_lossy().into_owned();
        for pid in processes_naming(&needle) {
            // A container's first process does not name it, and would outlive the shim that is killed here with its service.
            let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
            for child in children.unwrap_or_default().split_whitespace() {
                quietly("kill", &["-9", child]);
            }
            quietly("kill", &["-9", &pid]);
        }
        if let Some(pid) = self.service_pid() {
            let ours = fs::read(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|line| line.windows(5).any(|w| w == b"nacre"));
            if ours {
                quietly("kill", &["-9", &pid.to_string()]);
            }
        }
        for point in self.mount_points().iter().rev() {
            quietly("umount", &["-l", point.to_str().unwrap_or_default()]);
        }
    }
}

fn processes_naming(needle: &str) -> Vec<String> {
    let Ok(processes) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    processes
        .flatten()
        .filter_map(|process| {
            let pid = process.file_name().into_string().ok()?;
            let line = fs::read(process.path().join("cmdline")).ok()?;
            let own = pid == std::process::id().to_string();
            (!own && String::from_utf8_lossy(&line).contains(needle)).then_some(pid)
        })
        .collect()
}

fn quietly(program: &str, args: &[&str]) {
    // Clean-up goes on whatever one step answers; what it leaves shows in the next run.
    let child = Command::new(program)
        .args(args)
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .spawn();
    drop(child.map(|mut child| patience::exit(&mut child, program)));
}

/// Runs a tool of the host that must succeed; returns its standard output.
pub(crate) fn run_tool(program: &str, args: &[&str]) -> String {
    let output = patience::output(Command::new(program).args(args));
    assert!(
        output.status.success(),
        "{program} {args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// How many rounds a test makes: a few, or as many as `make soak` asks for.
pub(crate) fn rounds(few: usize) -> usize {
    std::env::var("NACRE_SOAK_ROUNDS")
        .ok()
        .and_then(|rounds| rounds.parse().ok())
        .unwrap_or(few)
}

/// Waits until `true` or panics with `what`.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Every file below a folder; none where there is no folder.
fn files_below(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    entries
        .flatten()
        .flat_map(|entry| match entry.file_type().unwrap().is_dir() {
            true => files_below(&entry.path()),
            false => vec![entry.path().display().to_string()],
        })
        .collect()
}

/// One of the images of tests/images, as an OCI layout.
pub(crate) fn test_image(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("target/test-images")
        .join(name);
    assert!(
        path.join("index.json").exists(),
        "{} is missing: run `make images`",
        path.display()
    );
    path
}

/// A test's own image source, for `nacre pull`.
pub(crate) fn oci_source(name: &str) -> String {
    format!("oci:{}", test_image(name).display())
}

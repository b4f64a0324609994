//! A container for a test: its directory, its root, and a guard that leaves nothing behind.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nacre::runtime::spec::{
    Access, ContainerId, ContainerSpec, ExecId, ExecSpec, MountSource, MountSpec, Network,
    ProcessSpec, Security, Stdin,
};
use nacre::runtime::{AttachRequest, Exit, Launch, Shim, ShimError, StartError, Whom};
use rustix::mount::{OpenTreeFlags, open_tree};

use crate::patience::Watch;

/// All streams.
pub(crate) fn everything() -> AttachRequest {
    AttachRequest {
        stdin: true,
        stdout: true,
        stderr: true,
        detach_keys: vec![],
    }
}

/// What came out of a process.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) exit: Exit,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A container and all that a test makes around it.
pub(crate) struct Container {
    dir: tempfile::TempDir,
    pub(crate) spec: ContainerSpec,
    /// What is run as its shim.
    pub(crate) program: PathBuf,
    shim: Option<Shim>,
    _watch: Watch,
}

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A process without a terminal and without input.
pub(crate) fn process(args: &[&str]) -> ProcessSpec {
    ProcessSpec {
        args: args.iter().map(ToString::to_string).collect(),
        env: vec![],
        cwd: String::new(),
        user: String::new(),
        groups: vec![],
        tty: false,
        console_size: None,
        stdin: Stdin::Null,
    }
}

impl Container {
    /// A container that shall run these words.
    pub(crate) fn new(args: &[&str]) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("nacre-runtime-")
            .tempdir()
            .unwrap();
        make_root(&dir.path().join("root"));
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let id = ContainerId::new(format!("test-{}-{number}", std::process::id())).unwrap();
        let spec = ContainerSpec {
            id,
            hostname: "testbox".to_owned(),
            process: process(args),
            read_only_root: false,
            mounts: host_programs(),
            network: Network::Host,
            security: Security::default(),
            rlimits: vec![],
            shm_bytes: None,
        };
        Self {
            dir,
            spec,
            program: env!("CARGO_BIN_EXE_nacred").into(),
            shim: None,
            _watch: Watch::new(),
        }
    }

    /// A container that shall run a script.
    pub(crate) fn script(script: &str) -> Self {
        Self::new(&["sh", "-c", script])
    }

    /// Changes what it shall be.
    pub(crate) fn with(mut self, change: impl FnOnce(&mut ContainerSpec)) -> Self {
        change(&mut self.spec);
        self
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    pub(crate) fn state_dir(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.dir.path().join("log.json")
    }

    pub(crate) fn launch(&self) -> Launch {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let rootfs: OwnedFd = open_tree(rustix::fs::CWD, self.root(), flags).unwrap();
        Launch {
            state_dir: self.state_dir(),
            spec: self.spec.clone(),
            rootfs,
            log: Some(self.log()),
            log_floor: 0,
            auto_remove: false,
            program: Some(self.program.clone()),
        }
    }

    /// Its shim, which waits for the start.
    pub(crate) fn prepare(&mut self) -> &Shim {
        let shim = Shim::prepare(self.launch()).unwrap();
        self.shim.insert(shim)
    }

    /// Its shim, with the process running.
    pub(crate) fn start(&mut self) -> &Shim {
        self.prepare().start().unwrap();
        self.shim()
    }

    pub(crate) fn shim(&self) -> &Shim {
        self.shim.as_ref().unwrap()
    }

    /// Forgets its shim, as a service that dies does.
    pub(crate) fn forget(&mut self) {
        self.shim = None;
    }

    pub(crate) fn reopen(&mut self) -> &Shim {
        self.shim.insert(Shim::open(self.state_dir()).unwrap())
    }

    /// Runs it from start to end.
    pub(crate) fn run(&mut self) -> Outcome {
        let tty = self.spec.process.tty;
        let shim = self.prepare();
        let stream = shim
            .attach(&AttachRequest {
                stdin: false,
                ..everything()
            })
            .unwrap();
        shim.start().unwrap();
        finish(shim, stream, tty)
    }

    /// The error of a start that fails.
    pub(crate) fn fail(&mut self) -> StartError {
        match self.prepare().start() {
            Err(ShimError::Refused(error)) => error,
            other => panic!("it did not refuse: {other:?}"),
        }
    }

    /// Runs another process in it.
    pub(crate) fn exec(&self, process: ProcessSpec) -> Outcome {
        let tty = process.tty;
        let shim = self.prepare_exec(process);
        let stream = shim
            .attach(&AttachRequest {
                stdin: false,
                ..everything()
            })
            .unwrap();
        shim.start().unwrap();
        let outcome = finish(&shim, stream, tty);
        shim.delete().unwrap();
        outcome
    }

    pub(crate) fn prepare_exec(&self, process: ProcessSpec) -> Shim {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let id = ExecId::new(format!("exec{number}")).unwrap();
        let privileged = false;
        self.shim()
            .exec(&ExecSpec {
                id,
                process,
                privileged,
            })
            .unwrap()
    }

    /// The cgroups that carry its name.
    pub(crate) fn cgroups(&self) -> Vec<PathBuf> {
        let name = format!("nacre-{}", self.spec.id);
        let hierarchies = fs::read_dir("/sys/fs/cgroup")
            .unwrap()
            .map(|entry| entry.unwrap().path());
        std::iter::once(PathBuf::from("/sys/fs/cgroup"))
            .chain(hierarchies)
            .map(|hierarchy| hierarchy.join(&name))
            .filter(|dir| dir.exists())
            .collect()
    }

    /// Ends it and removes it, and holds that nothing is left.
    pub(crate) fn delete(&mut self) {
        let shim = self.shim.take().unwrap();
        if shim.exit().unwrap().is_none() {
            shim.signal(9, Whom::Process).unwrap();
            shim.wait().unwrap();
        }
        shim.delete().unwrap();
        assert!(!self.state_dir().exists());
        assert_eq!(self.cgroups(), Vec::<PathBuf>::new());
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let Some(shim) = self.shim.take() else { return };
        // After a panic anything may have failed; the rest is still tried.
        if shim.exit().is_ok_and(|exit| exit.is_none()) {
            shim.signal(9, Whom::Process)
                .and_then(|()| shim.wait())
                .map(drop)
                .unwrap_or_default();
        }
        shim.delete().unwrap_or_default();
    }
}

/// Reads all that comes, waits for the end.
pub(crate) fn finish(shim: &Shim, stream: UnixStream, tty: bool) -> Outcome {
    let (stdout, stderr) = read_all(stream, tty);
    let exit = shim.wait().unwrap();
    Outcome {
        exit,
        stdout,
        stderr,
    }
}

/// Reads a stream to its end and takes docker's frames apart.
pub(crate) fn read_all(mut stream: UnixStream, tty: bool) -> (String, String) {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    if tty {
        return (text(bytes), String::new());
    }
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut rest = bytes.as_slice();
    while let Some((header, tail)) = rest.split_at_checked(8) {
        let length = usize::try_from(u32::from_be_bytes(header[4..].try_into().unwrap())).unwrap();
        assert_eq!(header[1..4], [0, 0, 0]);
        let (payload, tail) = tail.split_at(length);
        match header[0] {
            1 => out.extend(payload),
            2 => err.extend(payload),
            other => panic!("frame of stream {other}"),
        }
        rest = tail;
    }
    assert!(rest.is_empty(), "half a frame");
    (text(out), text(err))
}

/// Reads until a text has come.
pub(crate) fn read_until(stream: &mut UnixStream, wanted: &str) -> String {
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let mut seen = Vec::new();
    let mut buffer = [0; 1024];
    while !String::from_utf8_lossy(&seen).contains(wanted) {
        let length = stream.read(&mut buffer).unwrap();
        assert!(
            length > 0,
            "the end came before {wanted:?}: {:?}",
            String::from_utf8_lossy(&seen)
        );
        seen.extend(&buffer[..length]);
    }
    String::from_utf8(seen).unwrap()
}

pub(crate) fn write(stream: &mut UnixStream, text: &str) {
    stream.write_all(text.as_bytes()).unwrap();
}

/// Waits until something is so.
pub(crate) fn until(what: &str, is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "it never came to be that {what}"
        );
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn make_root(root: &Path) {
    for dir in ["etc", "usr", "tmp", "root", "home/web"] {
        fs::create_dir_all(root.join(dir)).unwrap();
    }
    for dir in ["bin", "sbin", "lib", "lib64"] {
        if Path::new("/").join(dir).exists() {
            symlink(format!("usr/{dir}"), root.join(dir)).unwrap();
        }
    }
    let write = |name: &str, text: &str| {
        File::create(root.join(name))
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap()
    };
    write(
        "etc/passwd",
        "root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1001::/home/web:/bin/sh\n",
    );
    write("etc/group", "root:x:0:\nweb:x:1001:\nextra:x:1002:web\n");
}

fn host_programs() -> Vec<MountSpec> {
    vec![MountSpec {
        target: "/usr".to_owned(),
        source: MountSource::Bind("/usr".into()),
        access: Access::ReadOnly,
    }]
}

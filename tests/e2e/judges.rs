//! The judges of others on a writable mount of a real image, as root: pjdfstest, fsx, stress-ng, fio; and writers, renamers
//! and readers at once. After each of them no blob of the image has changed and the store is clean.
//!
//! pjdfstest and fsx are built by `make judges`, the others are packages of `.ci/setup`.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, RenameFlags};

use crate::mount_helper::Host;
use crate::mounts::blobs;
use crate::nacre::{Nacre, oci_source};
use crate::patience;
use crate::trees;

/// A mount that is judged.
struct Judged {
    nacre: Nacre,
    point: PathBuf,
    blobs: Vec<(String, String)>,
}

impl Judged {
    fn new() -> Self {
        let nacre = Nacre::new();
        nacre.ok(&["pull", "-q", &oci_source("debian-min")]);
        Self::of(nacre, "debian-min")
    }

    fn of(nacre: Nacre, image: &str) -> Self {
        let judged = Self {
            blobs: blobs(&nacre),
            point: nacre.folder("m"),
            nacre,
        };
        judged.mount(&[image]);
        judged
    }

    /// Mounts an image, or again what is kept.
    fn mount(&self, image: &[&str]) {
        let point = [self.point.to_str().unwrap()];
        let words = [&["mount", "--name", "judged"], image, &point];
        self.nacre.ok(&words.concat());
    }

    fn unmount(&self) {
        self.nacre.ok(&["umount", self.point.to_str().unwrap()]);
    }

    /// An empty directory in the mount.
    fn folder(&self, name: &str) -> PathBuf {
        let path = self.point.join(name);
        fs::create_dir(&path).unwrap();
        path
    }

    /// The mount is taken away, and what the image holds is what it held.
    fn closes(self) {
        self.unmount();
        assert_eq!(blobs(&self.nacre), self.blobs, "blobs of the image changed");
        self.nacre.check();
    }
}

/// A judge that `make judges` built.
fn judge(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("target/judges/bin")
        .join(name);
    assert!(
        path.exists(),
        "{} is missing: run `make judges`",
        path.display()
    );
    path
}

fn said(output: &Output) -> String {
    let text = [&*output.stdout, &*output.stderr].concat();
    String::from_utf8_lossy(&text).into_owned()
}

/// Runs programs at once; all must succeed.
fn all_succeed(commands: Vec<Command>) {
    let run = |mut command: Command| -> (String, Child) {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let words = format!("{command:?}");
        let child = command.spawn().unwrap_or_else(|e| panic!("{words}: {e}"));
        (words, child)
    };
    let running: Vec<_> = commands.into_iter().map(run).collect();
    for (words, child) in running {
        let output = patience::ended(child, &words, patience::SUITE);
        assert!(output.status.success(), "{words}:\n{}", said(&output));
    }
}

const PJDFSTEST: &str = r#"
[features]
posix_fallocate = {}
rename_ctime = {}
stat_st_birthtime = {}
utime_now = {}
utimensat = {}
[settings]
naptime = 0.01
allow_remount = REMOUNT
[dummy_auth]
entries = [["nobody", "nogroup"], ["daemon", "daemon"]]
"#;

/// The two filesystems, and each twice: once without the cases that remount it read-only, since the cases before leave
/// files open for writing in the judge's own process; once for these alone.
const PJDFSTEST_SCRIPT: &str = r#"
    set -e
    truncate -s 1G $T/disk.img
    mkfs.ext4 -q $T/disk.img
    mkdir -p $T/ext4 $T/other
    mount -o loop $T/disk.img $T/ext4
    mount -t tmpfs none $T/other
    mount -t fuse.nacre debian-min $M -o name=judged
    for place in ext4:$T/ext4/p nacre:$M/opt/p; do
        mkdir -m 755 ${place#*:}
        for how in plain erofs; do
            case $how in plain) only= ;; erofs) only=erofs ;; esac
            echo "== ${place%%:*}"
            $JUDGE -c $T/$how.toml -p ${place#*:} -s $T/other $only || true
        done
    done
    umount $M $T/ext4
"#;

/// The verdict on each case, of each place.
fn verdicts(text: &str) -> BTreeMap<String, BTreeMap<String, String>> {
    let mut found: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    let mut place = String::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match *words.as_slice() {
            ["==", name] => name.clone_into(&mut place),
            [case, verdict @ ("ok" | "FAILED")] => {
                let cases = found.entry(place.clone()).or_default();
                cases.insert(case.to_owned(), verdict.to_owned());
            }
            _ => {}
        }
    }
    found
}

/// The C library knows the limit of links by the type of a filesystem, and of none that is FUSE: the judge skips the
/// case. The limit itself has a test among the rules.
const UNKNOWN_TO_LIBC: &str = "link::link_count_max";

#[test]
fn pjdfstest_passes_every_case_that_ext4_passes() {
    let host = Host::new();
    let before = blobs(&host.nacre);
    for (name, remount) in [("plain", "false"), ("erofs", "true")] {
        let text = PJDFSTEST.replace("REMOUNT", remount);
        fs::write(host.nacre.path(&format!("{name}.toml")), text).unwrap();
    }
    let (judge, folder) = (judge("pjdfstest"), host.nacre.path(""));
    let output = host.script(&format!(
        "export NO_COLOR=1 T={} JUDGE={}\n{PJDFSTEST_SCRIPT}",
        folder.display(),
        judge.display()
    ));
    let text = said(&output);
    assert!(output.status.success(), "{text}");
    let places = verdicts(&text);
    let passed = |place: &str| {
        let cases = places[place].iter().filter(|(_, verdict)| *verdict == "ok");
        cases.map(|(case, _)| case.as_str()).collect::<Vec<_>>()
    };
    let (native, ours) = (passed("ext4"), passed("nacre"));
    eprintln!("pjdfstest: {} on ext4, {} here", native.len(), ours.len());
    let missing: Vec<&&str> = native.iter().filter(|case| !ours.contains(case)).collect();
    assert_eq!(missing, [&UNKNOWN_TO_LIBC], "{text}");
    assert!(
        native.len() >= 398,
        "the judge must find its cases:\n{text}"
    );
    assert!(!text.contains("FAILED"), "{text}");
    assert_eq!(blobs(&host.nacre), before, "blobs of the image changed");
    host.nacre.check();
}

const FSX: &str = "
flen = 1048576
nomsyncafterwrite = UNSYNCED
blockmode = BLOCKMODE
[weights]
close_open = RESIZE
read = 10
write = 10
mapread = MAPPED
mapwrite = MAPPED
invalidate = INVALIDATE
truncate = RESIZE
fsync = 0.1
fdatasync = 0.1
posix_fallocate = RESIZE
punch_hole = 3
sendfile = 3
posix_fadvise = 1
copy_file_range = 3
";

/// One run of fsx.
#[derive(Clone, Copy)]
struct Fsx {
    seed: u64,
    mapped: bool,
    /// Maps are written back when the kernel likes, not at once.
    unsynced: bool,
    place: Place,
}

/// What the file is to nacre.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// New: read and written by the kernel itself (passthrough).
    Upper,
    /// New, with setuid: through the service.
    Served,
    /// Of the image: through the service, copied up piece by piece; its size stays.
    Lower,
}

impl Fsx {
    fn command(self, nacre: &Nacre, root: &Path) -> Command {
        let Self { seed, place, .. } = self;
        let name = format!("{}-{}-{seed}", place as u8, self.mapped);
        let (config, artifacts) = (nacre.path(&name), nacre.folder("artifacts"));
        let fixed = place == Place::Lower;
        let text = FSX
            .replace("UNSYNCED", if self.unsynced { "true" } else { "false" })
            .replace("BLOCKMODE", if fixed { "true" } else { "false" })
            .replace("MAPPED", if self.mapped { "10" } else { "0" })
            .replace("INVALIDATE", if self.mapped { "1" } else { "0" })
            .replace("RESIZE", if fixed { "0" } else { "4" });
        fs::write(&config, text).unwrap();
        let file = match place {
            Place::Upper => root.join("opt").join(&name),
            Place::Served => {
                let path = root.join("opt").join(&name);
                File::create(&path).unwrap();
                let mode = std::os::unix::fs::PermissionsExt::from_mode(0o4755);
                fs::set_permissions(&path, mode).unwrap();
                path
            }
            Place::Lower => root.join("opt").join(format!("lower-{}", self.mapped)),
        };
        let mut command = Command::new(judge("fsx"));
        command.args(["-q", "-N", "20000", "-S", &seed.to_string()]);
        command.args([OsStr::new("-P"), artifacts.as_os_str(), OsStr::new("-f")]);
        command.args([config, file]);
        command
    }
}

#[test]
fn fsx_is_clean_with_and_without_maps_wherever_the_file_is_served() {
    let nacre = Nacre::new();
    nacre.ok(&["pull", "-q", &oci_source("debian-min")]);
    let point = nacre.folder("m");
    let target = point.to_str().unwrap();
    nacre.ok(&["mount", "--name", "base", "debian-min", target]);
    // Longer than what fsx works on: the file never becomes one that lives in the upper alone.
    for mapped in [false, true] {
        let bytes: Vec<u8> = (0..1_u32 << 20).flat_map(u32::to_le_bytes).collect();
        fs::write(point.join("opt").join(format!("lower-{mapped}")), bytes).unwrap();
    }
    nacre.ok(&["commit", "base", "base:fsx"]);
    nacre.ok(&["umount", target]);
    let judged = Judged::of(nacre, "base:fsx");
    let run = |seed, mapped, unsynced, place| Fsx {
        seed,
        mapped,
        unsynced,
        place,
    };
    let runs = [
        run(1, false, false, Place::Upper),
        run(2, false, false, Place::Upper),
        run(3, true, false, Place::Upper),
        run(4, true, true, Place::Upper),
        run(5, true, true, Place::Upper),
        run(6, false, false, Place::Served),
        run(7, true, true, Place::Served),
        run(8, false, false, Place::Lower),
        run(9, true, true, Place::Lower),
    ];
    let commands = runs
        .iter()
        .map(|run| run.command(&judged.nacre, &judged.point));
    all_succeed(commands.collect());
    judged.closes();
}

/// What of stress-ng's filesystem class is no matter of a filesystem, or needs another one.
const STRESS_NOT: &str = "bind-mount,binderfs,eventfd,fanotify,ioprio,procfs,verity";

#[test]
fn stress_ng_finds_no_fault() {
    let judged = Judged::new();
    let folder = judged.folder("stress");
    let mut command = Command::new("stress-ng");
    command
        .args(["--verify", "--oomable", "--timeout", "1s", "--seq", "2"])
        .args(["--class", "filesystem", "--exclude", STRESS_NOT])
        .args([OsStr::new("--temp-path"), folder.as_os_str()]);
    all_succeed(vec![command]);
    let left = fs::read_dir(&folder).unwrap().count();
    assert_eq!(left, 0, "stress-ng must be able to remove what it made");
    judged.closes();
}

#[test]
fn fio_reads_back_what_it_wrote() {
    let judged = Judged::new();
    let folder = judged.folder("fio");
    let job = |name: &str, words: &[&str]| {
        let mut command = Command::new("fio");
        command
            .arg(format!("--name={name}"))
            .arg(format!("--directory={}", folder.display()))
            .args(["--size=24m", "--verify=crc32c", "--verify_state_save=0"])
            .args([
                "--randseed=7",
                "--do_verify=1",
                "--end_fsync=1",
                "--verify_fatal=1",
            ])
            .args(words);
        command
    };
    all_succeed(vec![
        job(
            "psync",
            &["--ioengine=psync", "--rw=randrw", "--bsrange=512-96k"],
        ),
        job("mmap", &["--ioengine=mmap", "--rw=randwrite", "--bs=4k"]),
        job(
            "direct",
            &[
                "--ioengine=libaio",
                "--iodepth=16",
                "--direct=1",
                "--rw=randwrite",
                "--bs=8k",
            ],
        ),
        job(
            "append",
            &[
                "--ioengine=sync",
                "--rw=write",
                "--bs=3000",
                "--numjobs=2",
                "--fsync=200",
            ],
        ),
    ]);
    judged.closes();
}

/// Names that writers replace, renamers move between two directories and readers read.
const FILES: u64 = 24;

/// A version of a file: its name's number and its own, over and over, to a length of its own; so that a piece of another
/// version, or a missing end, shows.
fn version(file: u64, number: u64) -> Vec<u8> {
    let words = 4 + number.wrapping_mul(104_729).wrapping_add(file) % 3000;
    let head = [file, number, words].into_iter();
    let body = (3..words).map(|at| file ^ (number << 20) ^ (at << 40));
    head.chain(body).flat_map(u64::to_le_bytes).collect()
}

/// Whether it is a version of that file, whole.
fn is_version(file: u64, bytes: &[u8]) -> bool {
    let word = |at: usize| {
        bytes
            .get(at * 8..at * 8 + 8)?
            .try_into()
            .ok()
            .map(u64::from_le_bytes)
    };
    word(1).is_some_and(|number| bytes == version(file, number))
}

/// The work of one thread until the time is over; counts what succeeded.
struct Crowd<'a> {
    root: &'a Path,
    over: &'a AtomicBool,
    done: &'a AtomicU64,
}

impl Crowd<'_> {
    fn works(&self, mut step: impl FnMut(u64) -> bool) {
        let mut round = 0;
        while !self.over.load(Ordering::Relaxed) {
            round += 1;
            if step(round) {
                self.done.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn name(&self, side: u64, file: u64) -> PathBuf {
        self.root
            .join(["one", "two"][usize::try_from(side % 2).unwrap()])
            .join(file.to_string())
    }

    /// Writes a version beside and puts it into the place of the one before, wherever that is.
    fn writes(&self, writer: u64) {
        self.works(|round| {
            let file = (round * 5 + writer) % FILES;
            let temporary = self.root.join(format!("temporary-{writer}"));
            let mut new = File::create(&temporary).unwrap();
            new.write_all(&version(file, round * 8 + writer)).unwrap();
            if round % 16 == 0 {
                new.sync_all().unwrap();
            }
            let side = u64::from(!self.name(0, file).exists());
            fs::rename(&temporary, self.name(side, file)).unwrap();
            true
        });
    }

    /// Moves files to the other side, unless that has one already, or lets the two change places.
    fn renames(&self, renamer: u64) {
        self.works(|round| {
            let (file, side) = ((round * 11 + renamer) % FILES, round % 2);
            let (from, to) = (self.name(side, file), self.name(side + 1, file));
            let how = if round % 3 == 0 {
                RenameFlags::EXCHANGE
            } else {
                RenameFlags::NOREPLACE
            };
            match rustix::fs::renameat_with(CWD, &from, CWD, &to, how) {
                Ok(()) => true,
                Err(rustix::io::Errno::NOENT | rustix::io::Errno::EXIST) => false,
                Err(errno) => panic!("rename of {}: {errno}", from.display()),
            }
        });
    }

    fn reads(&self) {
        self.works(|round| {
            let file = round % FILES;
            let Ok(mut open) = File::open(self.name(round / FILES, file)) else {
                return false;
            };
            let mut bytes = Vec::new();
            open.read_to_end(&mut bytes).unwrap();
            assert!(
                is_version(file, &bytes),
                "{file} holds no whole version: {} bytes",
                bytes.len()
            );
            true
        });
    }

    /// Moves a directory of the image about, whose files another thread reads.
    fn moves(&self) {
        let (here, there) = (self.root.join("../usr/share"), self.root.join("share"));
        self.works(|round| {
            let (from, to) = if round % 2 == 1 {
                (&here, &there)
            } else {
                (&there, &here)
            };
            fs::rename(from, to).unwrap();
            true
        });
        if there.exists() {
            fs::rename(&there, &here).unwrap();
        }
    }
}

#[test]
fn writers_renamers_and_readers_at_once_see_whole_files_only() {
    const SECONDS: u64 = 8;
    let judged = Judged::new();
    let root = judged.folder("crowd");
    for side in ["one", "two"] {
        fs::create_dir(root.join(side)).unwrap();
    }
    let share = trees::list(&judged.point.join("usr/share"));
    for file in 0..FILES {
        fs::write(root.join("one").join(file.to_string()), version(file, 0)).unwrap();
    }
    let over = AtomicBool::new(false);
    let counts: [AtomicU64; 4] = Default::default();
    let crowd = |kind: usize| Crowd {
        root: &root,
        over: &over,
        done: &counts[kind],
    };
    let (writers, renamers, readers, mover) = (crowd(0), crowd(1), crowd(2), crowd(3));
    std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for number in 0..2 {
            let (writers, renamers, readers) = (&writers, &renamers, &readers);
            threads.push(scope.spawn(move || writers.writes(number)));
            threads.push(scope.spawn(move || renamers.renames(number)));
            threads.push(scope.spawn(move || readers.reads()));
        }
        threads.push(scope.spawn(|| mover.moves()));
        let until = Instant::now() + Duration::from_secs(SECONDS);
        // A thread that panicked ends it for all.
        while Instant::now() < until && !threads.iter().any(|thread| thread.is_finished()) {
            std::thread::sleep(Duration::from_millis(20));
        }
        over.store(true, Ordering::Relaxed);
    });
    let counts = counts.map(AtomicU64::into_inner);
    eprintln!("writes, renames, reads, moves: {counts:?}");
    assert!(counts.iter().all(|count| *count > 20), "{counts:?}");
    let check = || {
        let mut seen = 0;
        for (side, file) in (0..2).flat_map(|side| (0..FILES).map(move |file| (side, file))) {
            let name = root.join(["one", "two"][side]).join(file.to_string());
            if let Ok(bytes) = fs::read(&name) {
                assert!(is_version(file, &bytes), "{}", name.display());
                seen += 1;
            }
        }
        assert!(seen >= FILES, "{seen} files are left of {FILES}");
        assert_eq!(trees::list(&judged.point.join("usr/share")), share);
        trees::list(&root)
    };
    let last = check();
    judged.unmount();
    judged.mount(&[]);
    assert_eq!(check(), last, "after a remount");
    judged.closes();
}

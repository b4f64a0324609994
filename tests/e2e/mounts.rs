//! Mounts: an image as a directory, read-only or with an upper that outlives the mount and the service.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

use crate::nacre::{Nacre, oci_source, run_tool};
use crate::patience;
use crate::trees;

fn with_image(image: &str) -> Nacre {
    let nacre = Nacre::new();
    nacre.ok(&["pull", "-q", &oci_source(image)]);
    nacre
}

#[test]
fn a_mount_is_a_root_filesystem() {
    let nacre = with_image("debian-min");
    let point = nacre.folder("a");
    let point = point.to_str().unwrap();
    nacre.ok(&["mount", "debian-min", point]);
    assert_eq!(
        run_tool(
            "chroot",
            &[point, "/bin/bash", "-c", "echo hi > /tmp/x && cat /tmp/x"]
        ),
        "hi\n"
    );
    let listed = nacre.ok(&["mount"]);
    assert!(listed.contains(point), "{listed}");
    nacre.ok(&["umount", point]);
    assert!(!nacre.ok(&["mount"]).contains(point));
    assert!(nacre.mount_points().is_empty());
}

#[test]
fn times_before_the_epoch_are_kept_and_the_first_of_all_harms_nobody() {
    let nacre = with_image("debian-min");
    let point = nacre.folder("a");
    nacre.ok(&["mount", "debian-min", point.to_str().unwrap()]);
    // A record alone, and one with a data file.
    let (link, file) = (point.join("opt/link"), point.join("opt/file"));
    std::os::unix::fs::symlink("nowhere", &link).unwrap();
    fs::write(&file, "bytes").unwrap();
    let set = |path: &Path, seconds: i64, nanos: i64| {
        let time = rustix::fs::Timespec {
            tv_sec: seconds,
            tv_nsec: nanos,
        };
        let times = rustix::fs::Timestamps {
            last_access: time,
            last_modification: time,
        };
        let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::utimensat(rustix::fs::CWD, path, &times, flags).unwrap();
        let stat = fs::symlink_metadata(path).unwrap();
        (stat.mtime(), stat.mtime_nsec())
    };
    for path in [&link, &file] {
        for (seconds, nanos) in [(-1, 500_000_000), (-1_000_000_000, 1), (-7, 0)] {
            assert_eq!(set(path, seconds, nanos), (seconds, nanos), "{path:?}");
        }
    }
    assert_eq!(set(&link, i64::MIN, 7), (i64::MIN, 0));
    assert!(
        set(&file, i64::MIN, 7).0 <= -(1 << 31),
        "as the host has it"
    );
    assert_eq!(fs::read(&file).unwrap(), b"bytes");
}

#[test]
fn mount_without_a_directory_picks_one_and_prints_it() {
    let nacre = with_image("debian-min");
    let picked = nacre.ok(&["mount", "--name", "look", "debian-min"]);
    assert!(Path::new(&picked).join("etc/passwd").exists(), "{picked}");
    nacre.ok(&["umount", &picked]);
    assert!(!Path::new(&picked).join("etc/passwd").exists());
}

#[test]
fn a_read_only_mount_refuses_every_change() {
    let nacre = with_image("debian-min");
    let point = nacre.folder("a");
    nacre.ok(&[
        "mount",
        "--read-only",
        "debian-min",
        point.to_str().unwrap(),
    ]);
    for refused in [
        fs::write(point.join("new"), "x"),
        fs::create_dir(point.join("dir")),
        fs::remove_file(point.join("etc/passwd")),
        fs::rename(point.join("etc"), point.join("cte")),
        OpenOptions::new()
            .append(true)
            .open(point.join("etc/passwd"))
            .map(drop),
    ] {
        assert_eq!(
            refused.unwrap_err().kind(),
            std::io::ErrorKind::ReadOnlyFilesystem
        );
    }
}

#[test]
fn an_upper_outlives_its_mount_and_a_killed_service() {
    let nacre = with_image("debian-min");
    let point = nacre.folder("a");
    let target = point.to_str().unwrap();
    nacre.ok(&["mount", "--name", "kept", "debian-min", target]);
    fs::write(point.join("new"), "kept").unwrap();
    fs::remove_file(point.join("etc/passwd")).unwrap();
    fs::rename(point.join("usr/share"), point.join("usr/moved")).unwrap();
    File::open(point.join("new")).unwrap().sync_all().unwrap();
    let before = trees::list(&point);
    let ino = fs::metadata(point.join("usr/moved")).unwrap().ino();
    nacre.ok(&["umount", target]);

    nacre.ok(&["mount", "--name", "kept", "debian-min", target]);
    trees::assert_same("after a remount", &before, &trees::list(&point));
    nacre.kill_service();

    nacre.ok(&["mount", "--name", "kept", "debian-min", target]);
    trees::assert_same("after a kill", &before, &trees::list(&point));
    assert_eq!(fs::metadata(point.join("usr/moved")).unwrap().ino(), ino);
    nacre.ok(&["umount", target]);
    nacre.check();
}

/// The next service takes the mounts away that its predecessor left dead: of its own store alone.
#[test]
fn dead_mounts_are_cleared_by_the_next_service_of_their_own_store() {
    let (one, other) = (with_image("debian-min"), with_image("debian-min"));
    for nacre in [&one, &other] {
        let point = nacre.folder("a");
        nacre.ok(&[
            "mount",
            "--name",
            "kept",
            "debian-min",
            point.to_str().unwrap(),
        ]);
        // One that a user has made of it.
        let copy = nacre.folder("copy");
        run_tool(
            "mount",
            &["--bind", point.to_str().unwrap(), copy.to_str().unwrap()],
        );
    }
    for nacre in [&one, &other] {
        nacre.kill_service();
    }
    one.ok(&["ps"]);
    assert_eq!(one.mount_points(), Vec::<PathBuf>::new());
    assert_eq!(other.mount_points().len(), 2);
    other.ok(&["ps"]);
    assert_eq!(other.mount_points(), Vec::<PathBuf>::new());
}

/// A tree that was unmounted lazily lives as long as a process is in it: who wants it again hears of that soon, and who
/// wants another one does not wait for it.
#[test]
fn a_tree_that_a_process_has_not_left_is_refused_and_nobody_else_waits() {
    let nacre = with_image("debian-min");
    let (point, beside) = (nacre.folder("a"), nacre.folder("b"));
    let target = point.to_str().unwrap();
    nacre.ok(&["mount", "--name", "kept", "debian-min", target]);
    let mut inside = Command::new("sleep")
        .arg("1000")
        .current_dir(&point)
        // What outlives a failed test must not hold the pipe that the tests' output goes into.
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    nacre.ok(&["umount", "-l", target]);
    for command in [
        &["mount", "--name", "kept", "debian-min", target][..],
        &["rm", "kept"],
    ] {
        // Once is enough: if it stood in their way, the others would always come after it.
        let went_first = (0..10).any(|_| {
            std::thread::scope(|scope| {
                let refused = scope.spawn(|| {
                    let begun = Instant::now();
                    let text = "debian-min was unmounted, but a process still uses it";
                    nacre.fails(command, 1, text);
                    assert!(begun.elapsed() < Duration::from_secs(8));
                    Instant::now()
                });
                let beside = beside.to_str().unwrap();
                std::thread::sleep(Duration::from_millis(200));
                nacre.ok(&["mount", "--read-only", "debian-min", beside]);
                nacre.ok(&["umount", beside]);
                let others = Instant::now();
                refused.join().unwrap() > others
            })
        });
        assert!(went_first, "others wait for {command:?}");
    }
    inside.kill().unwrap();
    patience::exit(&mut inside, "sleep");
    nacre.ok(&["mount", "--name", "kept", "debian-min", target]);
    nacre.ok(&["umount", target]);
    nacre.check();
}

#[test]
fn rm_removes_what_a_mount_kept() {
    let nacre = with_image("debian-min");
    let point = nacre.folder("a");
    let target = point.to_str().unwrap();
    nacre.ok(&["mount", "--name", "kept", "debian-min", target]);
    fs::write(point.join("new"), "kept").unwrap();
    nacre.fails(&["rm", "-f", "kept"], 1, "it is mounted on");
    assert_eq!(fs::read_to_string(point.join("new")).unwrap(), "kept");

    nacre.ok(&["umount", target]);
    assert_eq!(nacre.ok(&["rm", "kept"]), "kept");
    nacre.fails(&["rm", "kept"], 1, "No such container: kept");
    nacre.ok(&["mount", "--name", "kept", "debian-min", target]);
    assert!(!point.join("new").exists());
    nacre.ok(&["umount", target]);
    nacre.check();
}

#[test]
fn two_mounts_of_one_upper_are_one_filesystem() {
    let nacre = with_image("debian-min");
    let (a, b) = (nacre.folder("a"), nacre.folder("b"));
    nacre.ok(&["mount", "--name", "both", "debian-min", a.to_str().unwrap()]);
    nacre.ok(&["mount", "--name", "both", "debian-min", b.to_str().unwrap()]);
    fs::write(a.join("seen"), "at once").unwrap();
    assert_eq!(fs::read_to_string(b.join("seen")).unwrap(), "at once");
    assert_eq!(
        fs::metadata(&a).unwrap().dev(),
        fs::metadata(&b).unwrap().dev()
    );
    nacre.ok(&["umount", a.to_str().unwrap()]);
    assert_eq!(fs::read_to_string(b.join("seen")).unwrap(), "at once");
    nacre.ok(&["umount", b.to_str().unwrap()]);
}

#[test]
fn diff_lists_changes_sorted() {
    let nacre = with_image("debian-min");
    let point = nacre.folder("a");
    nacre.ok(&[
        "mount",
        "--name",
        "audit",
        "debian-min",
        point.to_str().unwrap(),
    ]);
    assert_eq!(nacre.ok(&["diff", "audit"]), "");
    fs::write(point.join("etc/zzz"), "new").unwrap();
    fs::remove_file(point.join("etc/passwd")).unwrap();
    fs::create_dir(point.join("etc/dir")).unwrap();
    fs::write(point.join("etc/dir/file"), "new").unwrap();
    OpenOptions::new()
        .append(true)
        .open(point.join("etc/group"))
        .unwrap()
        .write_all(b"x\n")
        .unwrap();
    // A temporary file leaves no trace.
    fs::write(point.join("var/tmp/gone"), "x").unwrap();
    fs::remove_file(point.join("var/tmp/gone")).unwrap();
    assert_eq!(
        nacre.ok(&["diff", "audit"]),
        "C /etc\nA /etc/dir\nA /etc/dir/file\nC /etc/group\nD /etc/passwd\nA /etc/zzz"
    );
}

/// Hashes every file of the store's blobs.
pub(crate) fn blobs(nacre: &Nacre) -> Vec<(String, String)> {
    let mut found: Vec<_> = nacre
        .kept("blobs")
        .into_iter()
        .map(|path| {
            let hash = hex::encode(Sha256::digest(fs::read(&path).unwrap()));
            (path, hash)
        })
        .collect();
    found.sort();
    assert!(!found.is_empty(), "the image must have large files");
    found
}

#[test]
fn lower_blobs_can_never_be_changed_through_a_mount() {
    let nacre = with_image("debian-min");
    let before = blobs(&nacre);
    let point = nacre.folder("a");
    nacre.ok(&["mount", "debian-min", point.to_str().unwrap()]);
    let victim = point.join("usr/bin/perl");
    let victim = if victim.exists() {
        victim
    } else {
        point.join("usr/bin/bash")
    };
    let old = fs::read(&victim).unwrap();
    let held = File::open(&victim).unwrap();
    let map = MappedRead::new(&held, old.len());

    let mut writer = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&victim)
        .unwrap();
    writer.seek(SeekFrom::Start(5000)).unwrap();
    writer.write_all(b"changed").unwrap();
    OpenOptions::new()
        .append(true)
        .open(&victim)
        .unwrap()
        .write_all(b"tail")
        .unwrap();
    rustix::fs::fallocate(
        &writer,
        rustix::fs::FallocateFlags::empty(),
        0,
        (old.len() + 8192) as u64,
    )
    .unwrap();
    rustix::fs::fallocate(
        &writer,
        rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE,
        8192,
        4096,
    )
    .unwrap();
    map.write_through_a_second_mapping(&writer);
    writer.sync_all().unwrap();
    let mut direct = OpenOptions::new()
        .write(true)
        .custom_flags(0o40000)
        .open(&victim)
        .unwrap();
    // O_DIRECT wants alignment of its own on some hosts: refused or done, the blob must not change.
    drop(direct.write(&[7; 4096]));
    writer.set_len(100).unwrap();
    OpenOptions::new()
        .write(true)
        .truncate(true)
        .open(&victim)
        .unwrap()
        .write_all(b"new")
        .unwrap();
    let mut seen = String::new();
    (&held).seek(SeekFrom::Start(0)).unwrap();
    (&held).read_to_string(&mut seen).unwrap();
    assert_eq!(
        seen, "new",
        "a descriptor opened before sees what was written"
    );
    assert_eq!(blobs(&nacre), before);
    nacre.check();

    // The test is able to fail: a byte changed on purpose is seen, here and by the store check.
    let (path, _) = &before[0];
    let mut blob = OpenOptions::new().write(true).open(path).unwrap();
    blob.write_all(b"\xff\xfe\xfd").unwrap();
    drop(blob);
    assert_ne!(blobs(&nacre), before);
    let done = nacre.run(&["system", "check"]);
    assert_ne!(done.code, 0, "{done:?}");
    let hex = Path::new(path).file_name().unwrap().to_str().unwrap();
    assert!(
        format!("{}{}", done.stdout, done.stderr).contains(hex),
        "the damaged blob must be named: {done:?}"
    );
}

/// A shared mapping of a file, by Python: this crate has no unsafe code.
struct MappedRead(std::process::Child);

impl MappedRead {
    /// Maps `file` for reading and holds it.
    fn new(file: &File, len: usize) -> Self {
        use std::os::fd::AsRawFd as _;
        let script = "import mmap, sys, time\nm = mmap.mmap(0, int(sys.argv[1]), prot=mmap.PROT_READ)\nx = m[:]\nprint('mapped', flush=True)\ntime.sleep(600)\n";
        let path = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
        let mut child = Command::new("python3")
            .args(["-c", script, &len.to_string()])
            .stdin(File::open(path).unwrap())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = [0; 6];
        child
            .stdout
            .as_mut()
            .unwrap()
            .read_exact(&mut line)
            .unwrap();
        assert_eq!(&line, b"mapped");
        Self(child)
    }

    /// Writes through a shared writable mapping of the same file.
    fn write_through_a_second_mapping(&self, writer: &File) {
        let script = "import mmap\nm = mmap.mmap(0, 4096)\nm[100:107] = b'mapped!'\nm.flush()\n";
        let status = patience::status(
            Command::new("python3")
                .args(["-c", script])
                .stdin(writer.try_clone().unwrap()),
        );
        assert!(status.success());
    }
}

impl Drop for MappedRead {
    fn drop(&mut self) {
        // Already gone is as good as killed.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn one_byte_into_a_sparse_giant_moves_next_to_nothing() {
    let nacre = with_image("debian-min");
    let point = nacre.folder("a");
    nacre.ok(&[
        "mount",
        "--name",
        "big",
        "debian-min",
        point.to_str().unwrap(),
    ]);
    let giant = File::create(point.join("giant")).unwrap();
    giant.set_len(5 << 30).unwrap();
    drop(giant);
    nacre.ok(&["commit", "big", "big:1"]);
    nacre.ok(&["umount", point.to_str().unwrap()]);
    nacre.ok(&["mount", "--name", "big2", "big:1", point.to_str().unwrap()]);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(point.join("giant"))
        .unwrap();
    assert_eq!(file.metadata().unwrap().len(), 5 << 30);
    file.seek(SeekFrom::Start(3 << 30)).unwrap();
    file.write_all(b"x").unwrap();
    file.sync_all().unwrap();
    assert!(
        file.metadata().unwrap().blocks() * 512 < 1 << 20,
        "one byte took {} blocks",
        file.metadata().unwrap().blocks()
    );
    nacre.check();
}

/// The host tells of bytes that its disk did not take once, to whoever syncs first: a timer, or one of several programs.
#[test]
fn a_sync_that_failed_fails_for_all_who_have_the_file_open() {
    let mut nacre = Nacre::new();
    nacre.ok(&["pull", "-q", &oci_source("debian-min")]);
    nacre.set("NACRE_FAILPOINT", "sync.data-file=eio");
    let point = nacre.folder("m");
    nacre.ok(&["mount", "debian-min", point.to_str().unwrap()]);
    let path = point.join("root/new");
    fs::write(&path, "content").unwrap();
    let (one, other) = (File::open(&path).unwrap(), File::open(&path).unwrap());
    for file in [&one, &other, &one] {
        let error = file.sync_all().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EIO));
    }
    drop((one, other));
    // The kernel tells of a close when it likes.
    let began = Instant::now();
    while let Err(error) = File::open(&path).unwrap().sync_all() {
        assert!(began.elapsed() < Duration::from_secs(20), "{error}");
    }
    nacre.ok(&["umount", point.to_str().unwrap()]);
}

/// The kernel reads the blob itself: there is one copy in memory, the host's, and none of the mount's.
#[test]
fn a_read_only_mount_with_passthrough_shows_the_same_and_keeps_no_pages_of_large_files() {
    let nacre = with_image("debian-min");
    let (plain, given) = (nacre.folder("plain"), nacre.folder("given"));
    nacre.ok(&[
        "mount",
        "--read-only",
        "debian-min",
        plain.to_str().unwrap(),
    ]);
    let command = ["mount", "--read-only", "--passthrough", "debian-min"];
    nacre.ok(&[&command[..], &[given.to_str().unwrap()]].concat());
    assert_eq!(trees::list(&plain), trees::list(&given));
    let (path, _) = trees::list(&given)
        .into_iter()
        .find(|(path, _)| fs::metadata(given.join(path)).is_ok_and(|meta| meta.len() > 1 << 20))
        .unwrap();
    let pages = |mount: &Path| {
        let file = mount.join(&path);
        let args = ["--noheadings", "--output", "PAGES", file.to_str().unwrap()];
        run_tool("fincore", &args).trim().parse::<u64>().unwrap()
    };
    let digest = hex::encode(Sha256::digest(fs::read(given.join(&path)).unwrap()));
    let blob = nacre.root().join("blobs").join(&digest[..2]).join(&digest);
    // Drops what the host has of it.
    let read = format!("if={}", blob.display());
    run_tool("dd", &[&read, "iflag=nocache", "count=0", "status=none"]);
    assert!(pages(&plain) > 200, "a copy of its own");
    assert_eq!(pages(&given), 0, "the host's alone");
    for point in [&plain, &given] {
        nacre.ok(&["umount", point.to_str().unwrap()]);
    }
    let why = "passthrough is for read-only mounts";
    nacre.fails(&["mount", "--passthrough", "debian-min"], 1, why);
}

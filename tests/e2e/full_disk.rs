//! A full disk: what grows fails and says why, what is there is whole, and everything can be removed. On a small ext4 of the
//! test's own, in a file below its temporary directory: it goes with the directory, also on panic.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::fs::FallocateFlags;

use crate::nacre::{Done, Nacre, oci_source, run_tool};
use crate::registry::Registry;
use crate::trees;

/// Room for debian-min with its archive, a committed layer and little more.
const DISK_BYTES: u64 = 512 << 20;

/// Left above nothing: below the floor of such a disk, which is a sixteenth of it.
const LITTLE: u64 = 12 << 20;

/// What a pull that failed may keep of such a disk once it is pruned: RocksDB's log and its files of small contents, half
/// as large as usual on this disk (32 MiB each at most), whose deleted keys wait for a compaction.
const KEPT_BYTES_MAX: u64 = 64 << 20;

/// What every refusal says.
const REFUSAL: &str = "no space left in the store";

/// A nacre whose store has a disk to itself, and to the test's filler.
struct Disk {
    nacre: Nacre,
    at: PathBuf,
}

impl Disk {
    fn new() -> Self {
        let nacre = Nacre::with_store_in("disk/root");
        let (image, at) = (nacre.path("disk.img"), nacre.folder("disk"));
        File::create(&image).unwrap().set_len(DISK_BYTES).unwrap();
        let (image, point) = (image.to_str().unwrap(), at.to_str().unwrap());
        run_tool("mkfs.ext4", &["-q", "-m", "0", image]);
        run_tool("mount", &["-o", "loop", image, point]);
        Self { nacre, at }
    }

    fn free(&self) -> u64 {
        let host = rustix::fs::statvfs(&self.at).unwrap();
        host.f_bavail * host.f_frsize
    }

    fn filler(&self) -> PathBuf {
        self.at.join("filler")
    }

    /// Fills from outside of nacre until `left` bytes are free.
    fn fill(&self, left: u64) {
        let filler = File::options()
            .create(true)
            .append(true)
            .open(self.filler())
            .unwrap();
        while self.free() > left {
            let end = filler.metadata().unwrap().len();
            let len = (self.free() - left).max(4096);
            if rustix::fs::fallocate(&filler, FallocateFlags::empty(), end, len).is_err() {
                break;
            }
        }
        filler.sync_all().unwrap();
    }

    /// To the last block that a program can get.
    fn fill_up(&self) {
        self.fill(0);
        let mut filler = File::options().append(true).open(self.filler()).unwrap();
        for piece in [1 << 20, 4096] {
            while filler.write_all(&vec![1; piece]).is_ok() && filler.sync_data().is_ok() {}
        }
        assert!(self.free() < 64 << 10, "{} bytes are free", self.free());
    }

    fn empty(&self) {
        fs::remove_file(self.filler()).unwrap();
        run_tool("sync", &["-f", self.at.to_str().unwrap()]);
    }

    fn refuses(&self, args: &[&str]) -> Done {
        let done = self.nacre.run(args);
        let said = format!("{}{}", done.stdout, done.stderr);
        assert_ne!(done.code, 0, "nacre {args:?} said:\n{said}");
        for part in [REFUSAL, "are kept for removals", "nacre image prune"] {
            assert!(said.contains(part), "nacre {args:?} said:\n{said}");
        }
        done
    }

    fn mount(&self, name: &str, image: &str) -> PathBuf {
        let point = self.nacre.folder(name);
        let target = point.to_str().unwrap();
        self.nacre.ok(&["mount", "--name", name, image, target]);
        point
    }
}

fn no_space<T: std::fmt::Debug>(what: &str, result: io::Result<T>) {
    let error = result.expect_err(what);
    assert_eq!(error.kind(), io::ErrorKind::StorageFull, "{what}: {error}");
}

/// A file of the tree that nobody needs, and a directory full.
fn victims(point: &Path) -> (PathBuf, PathBuf) {
    (point.join("etc/issue"), point.join("usr/share/doc"))
}

#[test]
fn on_a_full_disk_growth_is_refused_and_everything_can_be_removed() {
    let disk = Disk::new();
    let nacre = &disk.nacre;
    let registry = Registry::start();
    let other = registry.serve("many-layers");
    let saved = nacre.path("saved.tar");
    let saved = saved.to_str().unwrap();
    nacre.ok(&["pull", "-q", &oci_source("debian-min")]);
    nacre.ok(&["save", "-o", saved, "debian-min"]);
    let point = disk.mount("work", "debian-min");
    fs::write(point.join("opt/own"), vec![7; 3 << 20]).unwrap();
    fs::write(point.join("opt/kept"), "kept").unwrap();
    nacre.ok(&[
        "run",
        "-d",
        "--name",
        "web",
        "debian-min",
        "bash",
        "-c",
        "while sleep 0.2; do echo a line of the log; done",
    ]);
    nacre.ok(&["create", "--name", "idle", "debian-min", "true"]);
    let service = nacre.service_pid().unwrap();

    // Little is left: nothing grows, and each refusal says why and what to do.
    disk.fill(LITTLE);
    let before = nacre.ok(&["image", "ls", "-a", "--no-trunc"]);
    disk.refuses(&["pull", &other]);
    disk.refuses(&["pull", &oci_source("many-layers")]);
    disk.refuses(&["load", "-i", saved]);
    disk.refuses(&["import", saved, "imported:1"]);
    disk.refuses(&["commit", "work", "committed:1"]);
    disk.refuses(&["commit", "web", "committed:2"]);
    disk.refuses(&["tag", "debian-min", "again:1"]);
    disk.refuses(&["create", "debian-min", "true"]);
    disk.refuses(&["run", "--rm", "debian-min", "true"]);
    disk.refuses(&["start", "idle"]);
    disk.refuses(&["mount", "debian-min", nacre.folder("b").to_str().unwrap()]);
    assert_eq!(nacre.ok(&["image", "ls", "-a", "--no-trunc"]), before);
    assert_eq!(nacre.ok(&["ps", "-aq"]).lines().count(), 2, "web and idle");
    no_space("a new file", File::create(point.join("opt/new")));
    no_space("a new directory", fs::create_dir(point.join("opt/d")));
    no_space("an own file", append(&point.join("opt/own"), 1 << 20));
    no_space("a lower file", append(&point.join("etc/passwd"), 100));
    no_space(
        "a link",
        fs::hard_link(point.join("opt/own"), point.join("opt/link")),
    );
    assert_eq!(fs::read(point.join("opt/kept")).unwrap(), b"kept");
    nacre.check();

    // Nothing at all is left.
    disk.fill_up();
    no_space("a new file at 100 %", File::create(point.join("opt/new")));
    disk.refuses(&["pull", &other]);
    let (file, directory) = victims(&point);
    fs::remove_file(&file).unwrap();
    fs::remove_dir_all(&directory).unwrap();
    assert!(!file.exists() && !directory.exists());
    nacre.check();
    disk.fill_up();
    nacre.ok(&["stop", "-t", "1", "web"]);
    assert!(
        nacre.ok(&["ps", "-a"]).contains("Exited ("),
        "the end is noted"
    );
    disk.fill_up();
    nacre.ok(&["rm", "web"]);
    nacre.ok(&["rm", "idle"]);
    nacre.ok(&["umount", point.to_str().unwrap()]);
    nacre.ok(&["rm", "work"]);
    disk.fill_up();
    nacre.ok(&["image", "rm", "debian-min"]);
    assert!(disk.free() > 100 << 20, "removal must give space back");
    nacre.check();

    // With room again all is as before, in the same service.
    disk.empty();
    nacre.ok(&["pull", "-q", &other]);
    nacre.ok(&["load", "-i", saved]);
    assert_eq!(
        nacre.ok(&["run", "--rm", "debian-min", "echo", "works"]),
        "works"
    );
    let point = disk.mount("work", "debian-min");
    fs::write(point.join("opt/new"), "new").unwrap();
    nacre.ok(&["commit", "work", "committed:1"]);
    assert_eq!(
        nacre.service_pid(),
        Some(service),
        "the service was not restarted"
    );
    nacre.check();
}

fn append(path: &Path, bytes: usize) -> io::Result<()> {
    let mut file = File::options().append(true).open(path)?;
    file.write_all(&vec![b'x'; bytes])?;
    file.sync_all()
}

/// An image of as many empty files below `names/`, [`PER_FOLDER`] in each folder, as a tar.
fn tar_of_names(path: &Path, names: usize) {
    let mut tar = tar::Builder::new(io::BufWriter::new(File::create(path).unwrap()));
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o644);
    header.set_size(0);
    for n in 0..names {
        let name = format!("names/{}/{n}", n / PER_FOLDER);
        tar.append_data(&mut header, name, io::empty()).unwrap();
    }
    tar.into_inner().unwrap().into_inner().unwrap();
}

const PER_FOLDER: usize = 1000;
const LOWER_NAMES: usize = 45_000;
const OWN_NAMES: usize = 15_000;

/// So many that the database's log comes round many times: a new log once took what the reserve gave, the tables that free
/// the old ones found no room, and the database turned read-only. What is removed hides names of the image, which takes
/// room and frees none, or is of the writable layer.
#[test]
fn sixty_thousand_names_can_be_removed_on_a_full_disk_and_then_all_the_rest() {
    let disk = Disk::new();
    let nacre = &disk.nacre;
    let tar = nacre.path("names.tar");
    tar_of_names(&tar, LOWER_NAMES);
    nacre.ok(&["import", tar.to_str().unwrap(), "names:1"]);
    let point = disk.mount("work", "names:1");
    let target = "t".repeat(200);
    fs::create_dir(point.join("own")).unwrap();
    for n in 0..OWN_NAMES {
        let folder = point.join(format!("own/{}", n / PER_FOLDER));
        if n % PER_FOLDER == 0 {
            fs::create_dir(&folder).unwrap();
        }
        std::os::unix::fs::symlink(&target, folder.join(n.to_string())).unwrap();
    }
    let service = nacre.service_pid();
    disk.fill_up();

    let begun = Instant::now();
    std::thread::scope(|both| {
        for part in ["names", "own"] {
            let part = point.join(part);
            both.spawn(move || {
                for folder in fs::read_dir(&part).unwrap() {
                    fs::remove_dir_all(folder.unwrap().path()).unwrap();
                }
                fs::remove_dir(part).unwrap();
            });
        }
    });
    eprintln!(
        "full_disk: {} names removed at 100 % in {:.1} s, {} bytes are free",
        LOWER_NAMES + OWN_NAMES,
        begun.elapsed().as_secs_f64(),
        disk.free()
    );
    assert_eq!(fs::read_dir(&point).unwrap().count(), 0);
    disk.fill_up();
    no_space("a new file", File::create(point.join("new")));
    nacre.ok(&["umount", point.to_str().unwrap()]);
    disk.fill_up();
    nacre.ok(&["rm", "work"]);
    disk.fill_up();
    nacre.ok(&["image", "rm", "names:1"]);
    nacre.check();
    assert_eq!(nacre.ok(&["image", "ls", "-aq"]), "");
    assert_eq!(nacre.service_pid(), service, "it was not restarted");
    disk.empty();
    nacre.ok(&["import", tar.to_str().unwrap(), "names:1"]);
    nacre.check();
}

#[test]
fn a_pull_that_outgrows_the_disk_leaves_the_store_as_it_was() {
    let disk = Disk::new();
    let nacre = &disk.nacre;
    let registry = Registry::start();
    let other = registry.serve("debian-min");
    nacre.ok(&["image", "ls"]);
    // It begins above the floor, and would end far below nothing.
    disk.fill(112 << 20);
    let free = disk.free();
    disk.refuses(&["pull", &other]);
    disk.refuses(&["pull", &oci_source("debian-min")]);
    assert_eq!(nacre.ok(&["image", "ls", "-aq"]), "");
    nacre.check();
    nacre.ok(&["image", "prune", "-f"]);
    eprintln!("full_disk: {free} free before, {} after", disk.free());
    assert!(
        disk.free() + KEPT_BYTES_MAX > free,
        "the failed pulls keep {} bytes",
        free - disk.free()
    );
    disk.empty();
    nacre.ok(&["pull", "-q", &other]);
    nacre.check();
}

#[test]
fn a_program_that_fills_the_disk_is_told_and_the_store_opens_again() {
    let disk = Disk::new();
    let nacre = &disk.nacre;
    nacre.ok(&["pull", "-q", &oci_source("debian-min")]);
    let point = disk.mount("work", "debian-min");
    let tree = trees::list(&point.join("etc"));
    let mut file = File::create(point.join("opt/fill")).unwrap();
    let piece = vec![3; 1 << 20];
    let error = loop {
        if let Err(error) = file.write_all(&piece) {
            break error;
        }
    };
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    drop(file);
    // The service dies on a disk that has nothing left, and the next one must open its store there.
    disk.fill_up();
    nacre.kill_service();
    disk.fill_up();
    assert!(nacre.ok(&["image", "ls"]).contains("debian-min"));
    nacre.check();
    disk.empty();
    let point = disk.mount("work", "");
    trees::assert_same(
        "the tree is as it was",
        &tree,
        &trees::list(&point.join("etc")),
    );
    assert!(fs::metadata(point.join("opt/fill")).unwrap().len() > 100 << 20);
    fs::remove_file(point.join("opt/fill")).unwrap();
    nacre.check();
}

//! Power loss: the store on a disk of its own, copied without a sync while the service is stopped. Whatever was acknowledged
//! before must be on the copy. The disk's own cache is taken to be honest: what the kernel wrote to it is there.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::nacre::{Nacre, eventually, oci_source, rounds, run_tool};
use crate::trees;

const VARIABLE: &str = "NACRE_FAILPOINT";
const DISK_BYTES: u64 = 1 << 30;

/// A nacre whose store is on an ext4 of its own, which writes nothing that nobody synced: its journal's timer is an hour.
struct Machine {
    nacre: Nacre,
    disk: PathBuf,
}

fn insert_disk(nacre: &Nacre, disk: &Path) {
    fs::create_dir_all(nacre.root()).unwrap();
    let (disk, root) = (disk.to_str().unwrap(), nacre.root());
    let root = root.to_str().unwrap();
    run_tool("mount", &["-o", "loop,commit=3600", disk, root]);
}

impl Machine {
    fn new() -> Self {
        let nacre = Nacre::new();
        let disk = nacre.path("disk.img");
        File::create(&disk).unwrap().set_len(DISK_BYTES).unwrap();
        run_tool(
            "mkfs.ext4",
            &[
                "-q",
                "-E",
                "lazy_itable_init=0,lazy_journal_init=0",
                disk.to_str().unwrap(),
            ],
        );
        insert_disk(&nacre, &disk);
        fs::remove_dir(nacre.root().join("lost+found")).unwrap();
        // The making of the filesystem is not what is interrupted.
        rustix::fs::syncfs(File::open(nacre.root()).unwrap().as_fd()).unwrap();
        Self { nacre, disk }
    }

    /// What another machine finds on the disk that is pulled out now.
    fn loses_power(&self) -> Nacre {
        let pid = self
            .nacre
            .service_pid()
            .expect("a service runs")
            .to_string();
        run_tool("kill", &["-STOP", &pid]);
        let after = Nacre::new();
        let copy = after.path("disk.img");
        run_tool(
            "cp",
            &[
                "--sparse=always",
                self.disk.to_str().unwrap(),
                copy.to_str().unwrap(),
            ],
        );
        run_tool("kill", &["-CONT", &pid]);
        insert_disk(&after, &copy);
        after
    }
}

fn mount(nacre: &Nacre, args: &[&str]) -> PathBuf {
    let point = nacre.folder("m");
    let mut words = vec!["mount"];
    words.extend(args);
    words.push(point.to_str().unwrap());
    nacre.ok(&words);
    point
}

/// Mounts the layer called "work" as the loss of power left it.
fn mount_work(after: &Nacre) -> PathBuf {
    mount(after, &["--name", "work"])
}

fn is_whole(
    nacre: &Nacre,
    image: &str,
    expected: &std::collections::BTreeMap<PathBuf, String>,
) -> Result<(), String> {
    let check = nacre.run(&["system", "check"]);
    if check.code != 0 {
        return Err(format!("check: {}{}", check.stdout, check.stderr));
    }
    let point = nacre.folder("m");
    let mounted = nacre.run(&["mount", "--read-only", image, point.to_str().unwrap()]);
    if mounted.code != 0 {
        return Err(mounted.stderr);
    }
    let listing = trees::list(&point);
    nacre.ok(&["umount", point.to_str().unwrap()]);
    if listing == *expected {
        Ok(())
    } else {
        Err("the tree is another one".to_owned())
    }
}

fn tree_of(nacre: &Nacre, image: &str) -> std::collections::BTreeMap<PathBuf, String> {
    let point = mount(nacre, &["--read-only", image]);
    let listing = trees::list(&point);
    nacre.ok(&["umount", point.to_str().unwrap()]);
    listing
}

fn pulled(machine: &Machine) -> String {
    machine.nacre.ok(&["pull", "-q", &oci_source("debian-min")])
}

#[test]
fn an_acknowledged_pull_and_commit_survive_power_loss() {
    for round in 0..rounds(2) {
        let machine = Machine::new();
        let image = pulled(&machine);
        let after_pull = machine.loses_power();
        let tree = tree_of(&machine.nacre, &image);
        assert_eq!(
            is_whole(&after_pull, &image, &tree),
            Ok(()),
            "round {round}"
        );
        drop(after_pull);

        let point = mount(&machine.nacre, &["--name", "work", &image]);
        fs::write(
            point.join("root/new"),
            vec![u8::try_from(round % 251).unwrap(); 200 << 10],
        )
        .unwrap();
        fs::rename(point.join("usr/share/doc"), point.join("usr/share/docs")).unwrap();
        machine.nacre.ok(&["commit", "work", "made:1"]);
        let after_commit = machine.loses_power();
        machine.nacre.ok(&["umount", point.to_str().unwrap()]);
        let tree = tree_of(&machine.nacre, "made:1");
        assert_eq!(
            is_whole(&after_commit, "made:1", &tree),
            Ok(()),
            "round {round}"
        );
    }
}

#[test]
fn what_was_fsynced_in_a_mount_survives_power_loss() {
    for round in 0..rounds(2) {
        let (after, contents) = synced_before_power_loss(&Machine::new(), round);
        after.check();
        let point = mount_work(&after);
        for (path, content) in contents {
            assert_eq!(
                fs::read(point.join(&path)).unwrap(),
                content,
                "round {round}: {}",
                path.display()
            );
        }
        assert!(
            !point.join("root/before").exists(),
            "a synced rename leaves no old name"
        );
    }
}

/// What is found after files of a mount were synced and the power went, and what must be in them.
fn synced_before_power_loss(machine: &Machine, round: usize) -> (Nacre, Vec<(PathBuf, Vec<u8>)>) {
    let image = pulled(machine);
    let point = mount(&machine.nacre, &["--name", "work", &image]);
    let contents = synced_files(&point, round);
    (machine.loses_power(), contents)
}

/// A new file, one of the image's that is written in place, and one that came by rename: all synced.
fn synced_files(point: &Path, round: usize) -> Vec<(PathBuf, Vec<u8>)> {
    let fill = u8::try_from(round % 251).unwrap();
    let mut contents = Vec::new();
    for (name, size) in [("root/small", 100), ("root/large", 3 << 20)] {
        let content = vec![fill; size];
        fs::write(point.join(name), &content).unwrap();
        File::open(point.join(name)).unwrap().sync_all().unwrap();
        contents.push((PathBuf::from(name), content));
    }
    let lower = PathBuf::from("etc/debian_version");
    let content = format!("round {round}\n").into_bytes();
    fs::write(point.join(&lower), &content).unwrap();
    File::open(point.join(&lower)).unwrap().sync_all().unwrap();
    contents.push((lower, content));
    let appended = PathBuf::from("etc/passwd");
    let mut content = fs::read(point.join(&appended)).unwrap();
    content.extend(b"more");
    let mut file = append_to(&point.join(&appended));
    file.write_all(b"more").unwrap();
    file.sync_all().unwrap();
    contents.push((appended, content));
    fs::write(point.join("root/before"), "renamed").unwrap();
    File::open(point.join("root/before"))
        .unwrap()
        .sync_all()
        .unwrap();
    fs::rename(point.join("root/before"), point.join("root/after")).unwrap();
    File::open(point.join("root")).unwrap().sync_all().unwrap();
    contents.push((PathBuf::from("root/after"), b"renamed".to_vec()));
    contents
}

fn append_to(path: &Path) -> File {
    OpenOptions::new().append(true).open(path).unwrap()
}

/// A file of the image with all that it held, one after another.
struct Written {
    path: PathBuf,
    held: Vec<Vec<u8>>,
}

const MORE: &[u8] = b"more";
const PATCH: &[u8] = &[0xA5; 300];
const PATCH_AT: usize = 100_000;

/// Appends to small files of the image and writes into a large one; syncs none of them, but something else, so that the
/// log with their records is on disk.
fn unsynced_files(point: &Path) -> Vec<Written> {
    let mut all = Vec::new();
    for path in trees::list(point).into_keys() {
        let before = match fs::symlink_metadata(point.join(&path)) {
            Ok(meta) if meta.is_file() && meta.nlink() == 1 => fs::read(point.join(&path)).unwrap(),
            _ => continue,
        };
        let mut held = vec![before.clone()];
        let mut after = before.clone();
        if (1 << 10..64 << 10).contains(&before.len()) {
            // The first is in the record of a small file, the second makes a data file of it.
            let mut file = append_to(&point.join(&path));
            let times = 1 + all.len() % 3;
            for _ in 0..times {
                file.write_all(MORE).unwrap();
                after.extend(MORE);
                held.push(after.clone());
            }
        } else if before.len() > 1 << 20 {
            let file = OpenOptions::new().write(true).open(point.join(&path));
            file.unwrap().write_all_at(PATCH, PATCH_AT as u64).unwrap();
            after[PATCH_AT..][..PATCH.len()].copy_from_slice(PATCH);
            held.push(after);
        } else {
            continue;
        }
        all.push(Written { path, held });
        if all.len() == 60 {
            break;
        }
    }
    assert!(all.iter().any(|file| file.held[0].len() > 1 << 20));
    assert!(all.iter().any(|file| file.held[0].len() < 1 << 20));
    fs::write(point.join("root/other"), "synced").unwrap();
    File::open(point.join("root/other"))
        .unwrap()
        .sync_all()
        .unwrap();
    all
}

/// The files that are nothing that they ever were.
fn torn(point: &Path, files: &[Written]) -> Vec<PathBuf> {
    let is_torn = |file: &&Written| {
        let found = fs::read(point.join(&file.path)).unwrap_or_default();
        !file.held.contains(&found)
    };
    files
        .iter()
        .filter(is_torn)
        .map(|file| file.path.clone())
        .collect()
}

#[test]
fn files_of_the_image_that_were_written_and_not_synced_are_whole_after_power_loss() {
    for round in 0..rounds(2) {
        let machine = Machine::new();
        let image = pulled(&machine);
        let point = mount(&machine.nacre, &["--name", "work", &image]);
        let files = unsynced_files(&point);
        let after = machine.loses_power();
        after.check();
        let point = mount_work(&after);
        assert_eq!(
            fs::read(point.join("root/other")).unwrap(),
            b"synced",
            "round {round}: the records were on disk"
        );
        assert_eq!(torn(&point, &files), [] as [PathBuf; 0], "round {round}");
        after.ok(&["umount", point.to_str().unwrap()]);
        after.check();
    }
}

#[test]
fn without_their_undo_records_files_of_the_image_are_torn() {
    let mut machine = Machine::new();
    let image = pulled(&machine);
    machine.nacre.set(VARIABLE, "sync.undo=skip");
    let point = mount(&machine.nacre, &["--name", "work", &image]);
    let files = unsynced_files(&point);
    let after = machine.loses_power();
    let point = mount_work(&after);
    assert_ne!(torn(&point, &files), [] as [PathBuf; 0]);
}

const CHUNK: usize = 64 << 10;

/// A file of the image that is copied in part only, and what is in it.
fn large_file(point: &Path) -> (PathBuf, Vec<u8>) {
    let paths = trees::list(point).into_keys();
    let mut large = paths.filter(|path| {
        let meta = fs::symlink_metadata(point.join(path)).unwrap();
        meta.is_file() && meta.len() > 1 << 20
    });
    let path = large.next().expect("the image has a large file");
    let content = fs::read(point.join(&path)).unwrap();
    (path, content)
}

fn open_to_write(path: &Path) -> File {
    OpenOptions::new().write(true).open(path).unwrap()
}

/// Brings the log with all records to disk, and no other file.
fn sync_the_log(point: &Path) {
    fs::write(point.join("root/other"), "synced").unwrap();
    let other = File::open(point.join("root/other")).unwrap();
    other.sync_all().unwrap();
}

/// A large file of the image whose first byte was changed and synced; what it holds since.
fn partly_copied_file(point: &Path) -> (PathBuf, Vec<u8>) {
    let (path, mut content) = large_file(point);
    let file = open_to_write(&point.join(&path));
    content[0] ^= 0xff;
    file.write_all_at(&content[..1], 0).unwrap();
    file.sync_all().unwrap();
    (path, content)
}

#[test]
fn a_chunk_that_was_overwritten_whole_and_not_synced_is_whole_after_power_loss() {
    for round in 0..rounds(1) {
        let machine = Machine::new();
        let image = pulled(&machine);
        let point = mount(&machine.nacre, &["--name", "work", &image]);
        let (path, before) = partly_copied_file(&point);
        let mut after = before.clone();
        after[3 * CHUNK..4 * CHUNK].fill(0x5a);
        let file = open_to_write(&point.join(&path));
        file.write_all_at(&after[3 * CHUNK..4 * CHUNK], 3 * CHUNK as u64)
            .unwrap();
        sync_the_log(&point);
        let machine = machine.loses_power();
        let point = mount_work(&machine);
        let found = fs::read(point.join(&path)).unwrap();
        assert!(found == before || found == after, "round {round}: torn");
    }
}

/// Nobody syncs it, and what syncs others does not make the service forget it.
#[test]
fn what_is_written_for_long_is_kept_though_nobody_syncs_it() {
    let machine = Machine::new();
    let image = pulled(&machine);
    let point = mount(&machine.nacre, &["--name", "work", &image]);
    let mut log = append_to(&point.join("etc/passwd"));
    let before = fs::read(point.join("etc/passwd")).unwrap();
    // Twice: the first is in the record of so small a file.
    log.write_all(MORE).unwrap();
    log.write_all(MORE).unwrap();
    sync_the_log(&point);
    let began = Instant::now();
    loop {
        let after = machine.loses_power();
        let point = mount_work(&after);
        let found = fs::read(point.join("etc/passwd")).unwrap();
        if found == [&before[..], MORE, MORE].concat() {
            return;
        }
        assert_eq!(found, [&before[..], MORE].concat(), "torn");
        assert!(began.elapsed() < Duration::from_secs(60), "never kept");
        std::thread::sleep(Duration::from_secs(1));
    }
}

#[test]
fn what_was_cut_off_does_not_come_back_after_power_loss() {
    for round in 0..rounds(1) {
        let machine = Machine::new();
        let image = pulled(&machine);
        let point = mount(&machine.nacre, &["--name", "work", &image]);
        let (path, before) = partly_copied_file(&point);
        // Cut to nothing and written anew, as by a shell's `>`: old bytes must not show in the new length.
        let new = vec![0x77; CHUNK / 2];
        fs::write(point.join(&path), &new).unwrap();
        sync_the_log(&point);
        let machine = machine.loses_power();
        let point = mount_work(&machine);
        let found = fs::read(point.join(&path)).unwrap();
        let is_new = found.len() <= new.len() && new.starts_with(&found);
        assert!(
            found == before || is_new,
            "round {round}: {} bytes",
            found.len()
        );
        let grown = open_to_write(&point.join(&path));
        grown.set_len(before.len() as u64).unwrap();
        let mut expected = found;
        expected.resize(before.len(), 0);
        assert!(
            fs::read(point.join(&path)).unwrap() == expected,
            "round {round}: the image's bytes show behind a cut"
        );
    }
}

/// A service that is in use does not leave when it is asked to. Who asked kills it next, or the machine goes down.
#[test]
fn what_nobody_synced_is_durable_when_the_service_was_told_to_end() {
    let machine = Machine::new();
    let image = pulled(&machine);
    let point = mount(&machine.nacre, &["--name", "work", &image]);
    let content = vec![7; 3 << 20];
    fs::write(point.join("root/large"), &content).unwrap();
    fs::rename(point.join("usr/share/doc"), point.join("usr/share/docs")).unwrap();
    let pid = machine.nacre.service_pid().unwrap().to_string();
    run_tool("kill", &["-TERM", &pid]);
    let log = machine.nacre.root().join("service.log");
    eventually("the service says that all is durable", || {
        let log = fs::read_to_string(&log).unwrap();
        log.contains("what is in use is durable")
    });
    let after = machine.loses_power();
    after.check();
    let point = mount_work(&after);
    assert_eq!(fs::read(point.join("root/large")).unwrap(), content);
    assert!(point.join("usr/share/docs").exists());
    assert!(!point.join("usr/share/doc").exists());
}

/// The tests above would notice: each with one sync taken out.
#[test]
fn without_its_sync_a_pull_is_lost() {
    let mut machine = Machine::new();
    // The pull's own: a service that ends makes everything durable.
    machine.nacre.ok(&["image", "ls"]);
    let reference = Machine::new();
    let image = pulled(&reference);
    let tree = tree_of(&reference.nacre, &image);
    machine.nacre.set(VARIABLE, "sync.publish=skip");
    assert_eq!(pulled(&machine), image);
    let after = machine.loses_power();
    assert_ne!(is_whole(&after, &image, &tree), Ok(()));
}

#[test]
fn without_its_sync_a_large_content_is_lost() {
    let reference = Machine::new();
    let image = pulled(&reference);
    let tree = tree_of(&reference.nacre, &image);
    let mut machine = Machine::new();
    machine.nacre.set(VARIABLE, "sync.blob-files=skip");
    assert_eq!(pulled(&machine), image);
    let after = machine.loses_power();
    assert_ne!(is_whole(&after, &image, &tree), Ok(()));
}

#[test]
fn without_its_sync_a_file_of_a_mount_is_lost() {
    let mut machine = Machine::new();
    machine.nacre.set(VARIABLE, "sync.data-file=skip");
    let (after, contents) = synced_before_power_loss(&machine, 1);
    let point = mount_work(&after);
    let is_there = |(path, content): &(PathBuf, Vec<u8>)| {
        fs::read(point.join(path)).is_ok_and(|found| found == *content)
    };
    assert!(!contents.iter().all(is_there), "nothing was lost");
}

/// A new data file's name is asked to be synced with its content. What leaving it out loses cannot be shown here: ext4, xfs
/// and btrfs bring the name of a new file along with its fsync, which POSIX does not promise.
#[test]
fn the_name_of_a_new_data_file_is_synced_with_it() {
    let mut nacre = Nacre::new();
    nacre.ok(&["pull", "-q", &oci_source("debian-min")]);
    nacre.set(VARIABLE, "sync.data-names=trace");
    let point = mount(&nacre, &["--name", "work", "debian-min"]);
    let passed = || {
        let log = fs::read_to_string(nacre.root().join("service.log")).unwrap();
        log.matches("passed sync.data-names").count()
    };
    let path = point.join("root/large");
    let before = passed();
    fs::write(&path, vec![1; 3 << 20]).unwrap();
    let file = File::options().write(true).open(&path).unwrap();
    file.sync_all().unwrap();
    assert_eq!(passed(), before + 1);
    // Once is enough.
    file.set_len(1 << 20).unwrap();
    file.sync_all().unwrap();
    assert_eq!(passed(), before + 1);
    drop(file);
    nacre.ok(&["umount", point.to_str().unwrap()]);
}

//! The service killed at named points of every verb, and at random ones under a write load: what was acknowledged is there,
//! nothing half-done is seen, nothing is left over.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::nacre::{Nacre, eventually, oci_source, rounds};
use crate::patience;
use crate::trees;

const VARIABLE: &str = "NACRE_FAILPOINT";

/// What a layer archive passes on its way into the store, in `store/src/failpoint.rs`'s words.
const UNPACK: &[&str] = &[
    "unpack.marked",
    "blob.small-written",
    "blob.file-renamed",
    "unpack.verified",
    "unpack.contents-synced",
    "unpack.ready",
    "unpack.recorded",
];
/// What an image passes on its way into sight.
const PUBLISH: &[&str] = &[
    "publish.marked",
    "publish.applied",
    "publish.ready",
    "publish.synced",
];
const REMOVE: &[&str] = &[
    "remove.ready",
    "remove.unlisted",
    "remove.contents-gone",
    "remove.records-gone",
    "remove.layers-gone",
];

/// A small image of a store's own, as docker's archive, and the listing of its tree.
struct Small {
    archive: String,
    tree: std::collections::BTreeMap<std::path::PathBuf, String>,
}

fn small(nacre: &Nacre) -> Small {
    let tree = nacre.folder("tree");
    for n in 0..40 {
        fs::write(tree.join(format!("small-{n}")), format!("small {n}")).unwrap();
    }
    fs::write(tree.join("large"), vec![7; 300 << 10]).unwrap();
    std::os::unix::fs::symlink("large", tree.join("link")).unwrap();
    let tar = nacre.packed(&tree);
    nacre.ok(&["import", &tar, "small:1"]);
    let archive = nacre.path("small.tar").to_str().unwrap().to_owned();
    nacre.ok(&["save", "-o", &archive, "small:1"]);
    let listing = listed(nacre, "small:1");
    nacre.ok(&["image", "rm", "small:1"]);
    Small {
        archive,
        tree: listing,
    }
}

fn listed(nacre: &Nacre, image: &str) -> std::collections::BTreeMap<std::path::PathBuf, String> {
    let point = nacre.folder("look");
    let point = point.to_str().unwrap();
    nacre.ok(&["mount", "--read-only", image, point]);
    let listing = trees::list(Path::new(point));
    nacre.ok(&["umount", point]);
    listing
}

/// Runs a command whose service dies at a point; the next command finds another service.
fn killed(nacre: &mut Nacre, point: &str, args: &[&str]) {
    nacre.set(VARIABLE, &format!("{point}=kill"));
    let done = nacre.run(args);
    assert_ne!(
        done.code, 0,
        "{args:?} does not pass {point}: {}",
        done.stdout
    );
    let said = format!(
        "{args:?} failed at {point}, and its service ends: {}",
        done.stderr
    );
    eventually(&said, || !nacre.is_served());
    nacre.unset(VARIABLE);
}

fn has(nacre: &Nacre, image: &str) -> bool {
    nacre
        .ok(&["image", "ls", "--format", "{{.Repository}}:{{.Tag}}"])
        .lines()
        .any(|line| line == image)
}

/// Nothing but the store's own bookkeeping is left when no image and no upper is.
fn is_swept(nacre: &Nacre) {
    // A removal that is broken off between the name and the image leaves an image without a name, as docker does.
    nacre.ok(&["image", "prune", "-f"]);
    nacre.check();
    for folder in ["blobs", "archives", "uppers"] {
        assert_eq!(nacre.kept(folder), Vec::<String>::new(), "left in {folder}");
    }
}

#[test]
fn a_load_killed_at_any_point_is_there_whole_or_not_at_all() {
    let mut nacre = Nacre::new();
    let small = small(&nacre);
    for point in UNPACK.iter().chain(PUBLISH) {
        killed(&mut nacre, point, &["load", "-i", &small.archive]);
        nacre.check();
        if has(&nacre, "small:1") {
            assert_eq!(listed(&nacre, "small:1"), small.tree, "{point}");
        } else {
            assert_ne!(*point, "publish.synced", "what is synced is visible");
            nacre.ok(&["load", "-i", &small.archive]);
            assert_eq!(listed(&nacre, "small:1"), small.tree, "{point}");
        }
        nacre.ok(&["image", "rm", "small:1"]);
        is_swept(&nacre);
    }
}

#[test]
fn a_pull_killed_at_any_point_is_there_whole_or_not_at_all_and_keeps_its_complete_layers() {
    let mut nacre = Nacre::new();
    let source = oci_source("many-layers");
    for point in ["unpack.archive-renamed", "unpack.recorded", "publish.ready"] {
        killed(&mut nacre, point, &["pull", "-q", &source]);
        nacre.check();
        assert_eq!(nacre.ok(&["image", "ls", "-q"]), "", "{point}");
    }
    // The layers that were complete are taken as they are: the archive's bytes are not read again.
    nacre.set(VARIABLE, "unpack.marked=kill");
    nacre.ok(&["pull", "-q", &source]);
    nacre.unset(VARIABLE);
    nacre.check();
    let image = nacre.ok(&["image", "ls", "-q"]);
    nacre.ok(&["image", "rm", &image]);
    is_swept(&nacre);
}

#[test]
fn a_commit_killed_at_any_point_loses_neither_the_image_nor_the_changes() {
    let mut nacre = Nacre::new();
    let small = small(&nacre);
    nacre.ok(&["load", "-i", &small.archive]);
    let point = nacre.folder("work");
    let mount = [
        "mount",
        "--name",
        "work",
        "small:1",
        point.to_str().unwrap(),
    ];
    nacre.ok(&mount);
    fs::write(point.join("new"), vec![9; 100 << 10]).unwrap();
    fs::remove_file(point.join("small-3")).unwrap();
    nacre.ok(&["umount", point.to_str().unwrap()]);
    let diff = nacre.ok(&["diff", "work"]);
    for at in UNPACK.iter().chain(PUBLISH) {
        killed(&mut nacre, at, &["commit", "work", "small:2"]);
        nacre.check();
        assert_eq!(nacre.ok(&["diff", "work"]), diff, "{at}");
        assert_eq!(listed(&nacre, "small:1"), small.tree, "{at}");
        if has(&nacre, "small:2") {
            let made = listed(&nacre, "small:2");
            assert!(
                made.contains_key(Path::new("new")) && !made.contains_key(Path::new("small-3"))
            );
            nacre.ok(&["image", "rm", "small:2"]);
        }
    }
    nacre.ok(&["rm", "work"]);
    nacre.ok(&["image", "rm", "small:1"]);
    is_swept(&nacre);
}

#[test]
fn a_removal_killed_at_any_point_is_finished_by_the_next_service() {
    let mut nacre = Nacre::new();
    let small = small(&nacre);
    for point in REMOVE {
        nacre.ok(&["load", "-i", &small.archive]);
        killed(&mut nacre, point, &["image", "rm", "small:1"]);
        if has(&nacre, "small:1") {
            assert_eq!(
                *point, "remove.ready",
                "what is out of the catalog is not visible"
            );
            assert_eq!(listed(&nacre, "small:1"), small.tree);
            nacre.ok(&["image", "rm", "small:1"]);
        }
        is_swept(&nacre);
    }
    nacre.ok(&["load", "-i", &small.archive]);
    for point in ["upper.unlisted", "upper.data-gone"] {
        nacre.ok(&["create", "--name", "box", "small:1", "/large"]);
        killed(&mut nacre, point, &["rm", "box"]);
        // Its document goes last: the removal is finished now or asked for again.
        nacre.run(&["rm", "box"]);
        assert_eq!(nacre.ok(&["ps", "-aq"]), "", "{point}");
        nacre.check();
    }
    for point in ["upper.dir-made", "upper.made"] {
        killed(
            &mut nacre,
            point,
            &["create", "--name", "box", "small:1", "/large"],
        );
        assert_eq!(nacre.ok(&["ps", "-aq"]), "", "{point}");
        nacre.check();
    }
    nacre.ok(&["image", "rm", "small:1"]);
    is_swept(&nacre);
}

/// Writes files one after the other, each synced, then given its name by a rename whose directory is synced; says the number
/// of each that is done. Bash and coreutils: nothing of ours.
const WRITER: &str = r#"
n=0
while :; do
  n=$((n + 1))
  echo "content of $n" > "$1/part" || exit 0
  sync "$1/part" || exit 0
  mv "$1/part" "$1/file-$n" || exit 0
  sync "$1" || exit 0
  echo $n
done
"#;

#[test]
fn what_was_synced_in_a_mount_survives_a_killed_service() {
    let nacre = Nacre::new();
    let small = small(&nacre);
    nacre.ok(&["load", "-i", &small.archive]);
    let point = nacre.folder("work");
    let mount = [
        "mount",
        "--name",
        "work",
        "small:1",
        point.to_str().unwrap(),
    ];
    let mut acknowledged = 0;
    for round in 0..rounds(4) {
        nacre.ok(&mount);
        let folder = point.join(format!("round-{round}"));
        fs::create_dir(&folder).unwrap();
        let mut writer = Command::new("bash")
            .args(["-c", WRITER, "writer", folder.to_str().unwrap()])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let out = BufReader::new(writer.stdout.take().unwrap());
        // Kills come at another moment of the load in each round.
        let killer = Duration::from_millis(150 + 37 * u64::try_from(round % 11).unwrap());
        std::thread::sleep(killer);
        nacre.kill_service();
        let last = out.lines().map_while(Result::ok).last();
        patience::exit(&mut writer, "the writer");
        let last: usize = last.map_or(0, |line| line.trim().parse().unwrap());
        acknowledged += last;
        take_away(&point);
        nacre.ok(&mount);
        for n in 1..=last {
            let content = fs::read_to_string(folder.join(format!("file-{n}"))).unwrap();
            assert_eq!(content, format!("content of {n}\n"), "round {round}");
        }
        nacre.ok(&["umount", point.to_str().unwrap()]);
        nacre.check();
    }
    assert!(
        acknowledged > 0,
        "the writer must come to something before it is interrupted"
    );
}

/// Takes a dead mount away. The next service may have done it before.
fn take_away(point: &Path) {
    patience::status(Command::new("umount").arg("-l").arg(point));
}

#[test]
fn a_file_without_a_name_goes_with_the_service_that_is_killed() {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    const TMPFILE: i32 = 0o20_200_000;
    let nacre = Nacre::new();
    let small = small(&nacre);
    nacre.ok(&["load", "-i", &small.archive]);
    let point = nacre.folder("work");
    let target = point.to_str().unwrap();
    nacre.ok(&["mount", "--name", "work", "small:1", target]);
    let before = nacre.kept("uppers");
    let mut options = fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .custom_flags(TMPFILE)
        .open(&point)
        .unwrap();
    file.write_all(&[7; 200_000]).unwrap();
    file.sync_all().unwrap();
    // There may be more: data files are made ahead.
    let bytes = |file: &String| fs::metadata(file).map_or(0, |file| file.len());
    let kept = nacre.kept("uppers");
    assert!(
        kept.iter().any(|file| bytes(file) == 200_000),
        "its bytes are there"
    );
    nacre.kill_service();
    drop(file);
    take_away(&point);
    nacre.ok(&["mount", "--name", "work", target]);
    assert_eq!(nacre.kept("uppers"), before);
    nacre.ok(&["umount", target]);
    nacre.check();
}

/// A service that lists directories ahead of who walks them waits for answers of its own; killed meanwhile, it must not wait for
/// ever. (Were the thread that lists to share the service's descriptors, one round in three would hang.)
#[test]
fn a_service_that_is_killed_while_a_tree_is_walked_is_gone() {
    use std::os::unix::fs::MetadataExt as _;
    const DIRS: usize = 3000;
    let nacre = Nacre::new();
    let tree = nacre.folder("tree");
    for n in 0..DIRS {
        fs::create_dir_all(tree.join(format!("d{}/e{}/f{n}", n % 30, n % 300))).unwrap();
    }
    nacre.ok(&["import", &nacre.packed(&tree), "walked:1"]);
    let point = nacre.folder("view");
    let target = point.to_str().unwrap();
    for round in 0..rounds(12) {
        nacre.ok(&["mount", "--read-only", "walked:1", target]);
        let pid = nacre.service_pid().expect("a service must be running");
        let connection = rustix::fs::minor(fs::metadata(&point).unwrap().dev());
        let mut find = Command::new("find");
        let find = find.arg(&point).stdout(Stdio::null()).stderr(Stdio::null());
        let mut find = find.spawn().unwrap();
        std::thread::sleep(Duration::from_millis(2 + 5 * (round as u64 % 12)));
        nacre.kill_service();
        if Path::new(&format!("/proc/{pid}")).exists() {
            // Only the administrator can end it now.
            fs::write(format!("/sys/fs/fuse/connections/{connection}/abort"), "1").ok();
            panic!("round {round}: the service that was killed is still there");
        }
        find.wait().unwrap();
        take_away(&point);
    }
    nacre.check();
}

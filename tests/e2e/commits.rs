//! Commit: commit → push → another store → pull gives the identical tree, and other tools accept the image.

use std::fs::{self, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::nacre::{Nacre, oci_source, run_tool};
use crate::registry::Registry;
use crate::trees;

/// Changes of every kind that a layer can carry.
fn change_everything(root: &Path) {
    let at = |name: &str| root.join(name);
    fs::rename(at("usr/share/doc"), at("usr/share/papers")).unwrap();
    fs::rename(at("etc/cron.daily"), at("opt/daily")).unwrap();
    fs::write(at("opt/daily/added"), "in a renamed directory").unwrap();
    // types replaced
    fs::remove_file(at("etc/issue")).unwrap();
    fs::create_dir(at("etc/issue")).unwrap();
    fs::write(at("etc/issue/inside"), "a directory now").unwrap();
    fs::remove_dir_all(at("etc/skel")).unwrap();
    fs::write(at("etc/skel"), "a file now").unwrap();
    fs::remove_file(at("etc/hostname")).unwrap();
    symlink("/etc/issue/inside", at("etc/hostname")).unwrap();
    // links
    fs::hard_link(at("etc/passwd"), at("etc/passwd.link")).unwrap();
    fs::hard_link(at("usr/bin/env"), at("opt/env")).unwrap();
    OpenOptions::new()
        .append(true)
        .open(at("opt/env"))
        .unwrap()
        .write_all(b"tail")
        .unwrap();
    fs::write(at("opt/one"), "two names").unwrap();
    fs::hard_link(at("opt/one"), at("opt/two")).unwrap();
    // attributes
    rustix::fs::setxattr(
        at("etc/group"),
        "user.note",
        b"bin\0ary\n=",
        rustix::fs::XattrFlags::empty(),
    )
    .unwrap();
    rustix::fs::setxattr(
        at("opt"),
        "trusted.dir",
        b"x",
        rustix::fs::XattrFlags::empty(),
    )
    .unwrap();
    fs::set_permissions(at("etc/shadow"), fs::Permissions::from_mode(0o4711)).unwrap();
    std::os::unix::fs::chown(at("etc/fstab"), Some(3_000_000), Some(70_000)).unwrap();
    // removed and made again
    fs::remove_dir_all(at("usr/share/zoneinfo")).ok();
    fs::remove_dir_all(at("var/log")).unwrap();
    fs::create_dir(at("var/log")).unwrap();
    fs::write(at("var/log/only"), "opaque").unwrap();
    fs::remove_dir_all(at("usr/share/bash-completion")).unwrap();
    // shapes
    let sparse = fs::File::create(at("opt/sparse")).unwrap();
    sparse.set_len(300 << 20).unwrap();
    (&sparse).write_all(b"start").unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        at("opt/null"),
        rustix::fs::FileType::CharacterDevice,
        rustix::fs::Mode::from_raw_mode(0o640),
        rustix::fs::makedev(1, 3),
    )
    .unwrap();
    fs::write(at(&format!("opt/{}", "n".repeat(255))), "a long name").unwrap();
    run_tool(
        "touch",
        &[
            "-h",
            "-d",
            "1965-03-04 05:06:07.123456789",
            at("opt/one").to_str().unwrap(),
        ],
    );
}

#[test]
fn commit_push_wipe_pull_gives_the_identical_tree() {
    let (nacre, registry) = (Nacre::new(), Registry::start());
    nacre.ok(&["pull", "-q", &oci_source("debian-min")]);
    let point = nacre.folder("a");
    nacre.ok(&[
        "mount",
        "--name",
        "work",
        "debian-min",
        point.to_str().unwrap(),
    ]);
    change_everything(&point);
    let tree = trees::list(&point);
    let id = nacre.ok(&["commit", "-a", "A <a@b>", "-m", "why", "work", "site:v2"]);
    assert!(id.starts_with("sha256:") && id.len() == 71, "{id}");
    trees::assert_same("the mount goes on", &tree, &trees::list(&point));
    nacre.check();

    let here = nacre.folder("here");
    nacre.ok(&["mount", "--read-only", "site:v2", here.to_str().unwrap()]);
    trees::assert_same("the committed image", &tree, &trees::list(&here));

    let target = registry.name("site:v2");
    nacre.ok(&["tag", "site:v2", &target]);
    nacre.ok(&["push", &target]);
    drop(nacre);

    let other = Nacre::new();
    other.ok(&["pull", &target]);
    let there = other.folder("there");
    other.ok(&["mount", "--read-only", "site:v2", there.to_str().unwrap()]);
    trees::assert_same("pulled on another store", &tree, &trees::list(&there));
    other.check();

    let layout = other.path("layout");
    let copy = format!("oci:{}:latest", layout.display());
    run_tool(
        "skopeo",
        &[
            "--insecure-policy",
            "copy",
            "-q",
            "--src-tls-verify=false",
            &format!("docker://{target}"),
            &copy,
        ],
    );
    let bundle = other.path("bundle");
    run_tool(
        "umoci",
        &[
            "unpack",
            "--image",
            &format!("{}:latest", layout.display()),
            bundle.to_str().unwrap(),
        ],
    );
    trees::assert_same(
        "umoci's tree of the commit",
        &tree,
        &trees::list(&bundle.join("rootfs")),
    );
}

/// A process that has stored bytes in shared mappings of its standard input and output, and told nobody.
struct Storing(Child);

impl Storing {
    fn in_files(lower: &Path, new: &Path) -> Self {
        let script = "import mmap, sys, time\nfor fd in 0, 1:\n m = mmap.mmap(fd, 4096)\n m[100:107] = b'stored!'\n globals()[f'm{fd}'] = m\nsys.stderr.write('stored')\nsys.stderr.flush()\ntime.sleep(600)\n";
        let open = |path| {
            OpenOptions::new()
                .read(true)
                .write(true)
                .open(path)
                .unwrap()
        };
        let mut child = Command::new("python3")
            .args(["-c", script])
            .stdin(open(lower))
            .stdout(open(new))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = [0; 6];
        child
            .stderr
            .as_mut()
            .unwrap()
            .read_exact(&mut line)
            .unwrap();
        assert_eq!(&line, b"stored");
        Self(child)
    }
}

impl Drop for Storing {
    fn drop(&mut self) {
        // Already gone is as good as killed.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn commit_has_what_a_running_process_stored_in_mappings() {
    let nacre = Nacre::new();
    nacre.ok(&["pull", "-q", &oci_source("debian-min")]);
    let point = nacre.folder("a");
    nacre.ok(&[
        "mount",
        "--name",
        "work",
        "debian-min",
        point.to_str().unwrap(),
    ]);
    fs::write(point.join("opt/new"), vec![b'.'; 8192]).unwrap();
    let storing = Storing::in_files(&point.join("usr/bin/env"), &point.join("opt/new"));
    let diff = nacre.ok(&["diff", "work"]);
    assert!(diff.lines().any(|line| line == "C /usr/bin/env"), "{diff}");
    nacre.ok(&["commit", "work", "site:stored"]);
    drop(storing);
    let here = nacre.folder("here");
    nacre.ok(&[
        "mount",
        "--read-only",
        "site:stored",
        here.to_str().unwrap(),
    ]);
    for file in ["usr/bin/env", "opt/new"] {
        let bytes = fs::read(here.join(file)).unwrap();
        assert_eq!(&bytes[100..107], b"stored!", "{file}");
        assert_eq!(bytes, fs::read(point.join(file)).unwrap(), "{file}");
    }
}

#[test]
fn diff_of_a_renamed_directory_is_its_removal_and_its_subtree() {
    let nacre = Nacre::new();
    nacre.ok(&["pull", "-q", &oci_source("debian-min")]);
    let point = nacre.folder("a");
    nacre.ok(&[
        "mount",
        "--name",
        "work",
        "debian-min",
        point.to_str().unwrap(),
    ]);
    let inside = fs::read_dir(point.join("etc/cron.daily")).unwrap().count();
    fs::rename(point.join("etc/cron.daily"), point.join("opt/daily")).unwrap();
    let diff = nacre.ok(&["diff", "work"]);
    let lines: Vec<&str> = diff.lines().collect();
    assert_eq!(
        &lines[..4],
        ["C /etc", "D /etc/cron.daily", "C /opt", "A /opt/daily"],
        "{diff}"
    );
    assert_eq!(lines.len(), 4 + inside, "{diff}");
}

#[test]
fn commit_of_a_container_keeps_its_configuration_and_applies_changes() {
    let nacre = Nacre::new();
    nacre.ok(&["pull", "-q", &oci_source("debian-min")]);
    nacre.ok(&[
        "run",
        "--name",
        "box",
        "--network",
        "none",
        "-e",
        "KEPT=1",
        "debian-min",
        "sh",
        "-c",
        "echo made > /made",
    ]);
    nacre.ok(&[
        "commit",
        "-c",
        "ENV ADDED=2",
        "-c",
        "CMD [\"sh\", \"-c\", \"echo $KEPT $ADDED; cat /made\"]",
        "box",
        "site:v3",
    ]);
    let done = nacre.run(&["run", "--rm", "--network", "none", "site:v3"]);
    assert_eq!(
        (done.code, done.stdout.as_str()),
        (0, "1 2\nmade\n"),
        "{done:?}"
    );
    nacre.fails(
        &["commit", "-c", "RUN echo", "box", "no:1"],
        1,
        "run is not a valid change command",
    );
    nacre.check();
}

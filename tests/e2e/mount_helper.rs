//! `mount -t fuse.nacre`: the helpers of mount(8) and umount(8), called by those programs themselves.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::nacre::{Nacre, oci_source};
use crate::patience;

/// A store with an image, and a mount namespace in which `/sbin` has the helpers.
pub(crate) struct Host {
    pub(crate) nacre: Nacre,
    helpers: PathBuf,
}

impl Host {
    pub(crate) fn new() -> Self {
        let nacre = Nacre::new();
        nacre.ok(&["pull", "-q", &oci_source("debian-min")]);
        let helpers = nacre.folder("helpers");
        for name in ["mount.fuse.nacre", "umount.fuse.nacre"] {
            std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_nacre"), helpers.join(name)).unwrap();
        }
        Self { nacre, helpers }
    }

    /// Runs a script as root of a machine on which nacre is installed; `$M` is a directory to mount on.
    pub(crate) fn script(&self, script: &str) -> Output {
        let point = self.nacre.folder("m");
        let setup = "set -e; mount -t overlay -o lowerdir=$HELPERS:$(realpath /sbin) none $(realpath /sbin);";
        let mut command = Command::new("unshare");
        command
            .args(["-m", "sh", "-c", &format!("{setup}{script}")])
            .env("HELPERS", &self.helpers)
            .env("M", point)
            .env("NACRE_ROOT", self.nacre.root())
            .env("NACRE_HOST", self.nacre.host());
        command.output().unwrap()
    }

    fn says(&self, script: &str) -> String {
        let output = self.script(script);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{script}\n{errors}");
        assert_eq!(errors, "", "{script}");
        String::from_utf8(output.stdout).unwrap()
    }
}

#[test]
fn an_image_is_mounted_by_mount_8_and_the_table_shows_source_type_and_options() {
    let host = Host::new();
    let said = host.says(
        "mount -t fuse.nacre debian-min $M -o ro,noatime,nosuid,nofail,x-test,allow_other,default_permissions
         grep \" $M \" /proc/self/mounts
         cat $M/etc/debian_version > /dev/null
         umount $M
         grep -c \" $M \" /proc/self/mounts || true",
    );
    let mut lines = said.lines();
    let fields: Vec<&str> = lines.next().unwrap().split(' ').collect();
    assert_eq!((fields[0], fields[2]), ("debian-min", "fuse.nacre"));
    for option in ["ro", "noatime", "nosuid"] {
        assert!(
            fields[3].split(',').any(|word| word == option),
            "{fields:?}"
        );
    }
    assert!(!fields[3].contains("nodev"));
    assert_eq!(lines.next(), Some("0"));
    assert!(host.nacre.mount_points().is_empty());
}

#[test]
fn changes_are_kept_under_the_name_and_remount_changes_the_mode() {
    let host = Host::new();
    let said = host.says(
        "mount -t fuse.nacre debian-min $M -o name=work
         echo one > $M/root/file
         mount -o remount,ro $M
         (echo two > $M/root/file) 2>/dev/null && echo WRITTEN
         grep \" $M \" /proc/self/mounts | cut -d' ' -f4 | cut -d, -f1
         mount -o remount,rw $M
         echo three >> $M/root/file
         umount $M
         mount -t fuse.nacre debian-min $M -o name=work,ro
         cat $M/root/file
         (echo four > $M/root/file) 2>/dev/null && echo WRITTEN
         umount $M",
    );
    assert_eq!(said, "ro\none\nthree\n");
    assert_eq!(host.nacre.ok(&["diff", "work"]), "C /root\nA /root/file");
}

#[test]
fn a_file_open_for_writing_forbids_remounting_read_only_and_a_view_stays_one() {
    let host = Host::new();
    let said = host.says(
        "mount -t fuse.nacre debian-min $M -o name=work
         exec 5> $M/root/file
         mount -o remount,ro $M 2>/dev/null || echo busy
         exec 5>&-
         mount -o remount,ro $M && umount $M
         mount -t fuse.nacre debian-min $M -o ro
         mount -o remount,rw $M 2>/dev/null || echo view
         umount $M",
    );
    assert_eq!(said, "busy\nview\n");
}

#[test]
fn devices_and_setuid_work_unless_they_are_forbidden() {
    let host = Host::new();
    let said = host.says(
        "mount -t fuse.nacre debian-min $M -o name=work
         mknod $M/root/null c 1 3
         echo x > $M/root/null && echo device
         mount -o remount,nodev $M
         (echo x > $M/root/null) 2>/dev/null || echo nodev
         umount $M",
    );
    assert_eq!(said, "device\nnodev\n");
}

#[test]
fn what_is_wrong_is_said_and_mount_8_fails() {
    let host = Host::new();
    for (script, said, code) in [
        (
            "mount -t fuse.nacre debian-min $M -o bogus",
            "unknown option \"bogus\"",
            1,
        ),
        ("mount -t fuse.nacre debian-min $M/nowhere", "nowhere", 32),
        ("mount -t fuse.nacre 127.0.0.1:1/none $M", "127.0.0.1:1", 32),
    ] {
        let output = host.script(script);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(errors.contains(said), "{script}: {errors}");
        assert_eq!(output.status.code(), Some(code), "{script}: {errors}");
    }
    assert!(host.nacre.mount_points().is_empty());
}

#[test]
fn fstab_mounts_and_umount_takes_the_source() {
    let host = Host::new();
    let said = host.says(
        "printf 'debian-min %s fuse.nacre rw,name=boot,nofail,noauto 0 0\\n' $M > $HELPERS/fstab
         mount --fstab $HELPERS/fstab $M
         test -x $M/bin/sh && echo mounted
         umount debian-min
         mountpoint -q $M || echo gone",
    );
    assert_eq!(said, "mounted\ngone\n");
}

/// The root of a container and a mount of it elsewhere are one filesystem, whoever of the two goes first.
#[test]
fn a_containers_root_is_mounted_elsewhere_and_is_the_same_filesystem() {
    let host = Host::new();
    let Host { nacre, .. } = &host;
    nacre.ok(&["run", "-d", "--name", "web", "debian-min", "sleep", "1000"]);
    let said = host.says(
        "mount -t fuse.nacre web $M
         grep \" $M \" /proc/self/mounts | cut -d' ' -f1
         echo outside > $M/root/from
         umount $M",
    );
    assert_eq!(said, "web\n");
    assert_eq!(nacre.ok(&["exec", "web", "cat", "/root/from"]), "outside");

    let point = nacre.folder("n");
    let helper = |name: &str, args: &[&str]| {
        let done = patience::output(
            Command::new(host.helpers.join(name))
                .args(args)
                .env("NACRE_ROOT", nacre.root())
                .env("NACRE_HOST", nacre.host()),
        );
        assert!(
            done.status.success(),
            "{}",
            String::from_utf8_lossy(&done.stderr)
        );
    };
    helper("mount.fuse.nacre", &["web", point.to_str().unwrap()]);
    let before = device(&point);
    let mut open = OpenOptions::new()
        .append(true)
        .open(point.join("root/from"))
        .unwrap();
    open.write_all(b"more\n").unwrap();
    assert_eq!(
        nacre.ok(&["exec", "web", "cat", "/root/from"]),
        "outside\nmore"
    );
    nacre.ok(&["kill", "web"]);
    nacre.ok(&["wait", "web"]);
    assert_eq!(device(&point), before, "it is served on");
    open.write_all(b"after\n").unwrap();
    drop(open);
    let refused = nacre.fails(&["rm", "web"], 1, "mounted on");
    drop(refused);
    assert_eq!(
        fs::read(point.join("root/from")).unwrap(),
        b"outside\nmore\nafter\n"
    );
    helper("umount.fuse.nacre", &[point.to_str().unwrap()]);
    nacre.ok(&["rm", "web"]);
    assert!(nacre.mount_points().is_empty());
    nacre.check();
}

fn device(path: &Path) -> u64 {
    fs::metadata(path).unwrap().dev()
}

//! Images and sockets that are not what they seem: nothing of the host is ever changed on their account.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::nacre::{Nacre, run_tool};

/// A store with an image made of busybox and what `add` puts into its tree.
pub(crate) fn image(name: &str, add: impl FnOnce(&Path)) -> Nacre {
    let nacre = Nacre::new();
    let rootfs = nacre.folder("rootfs");
    fs::create_dir(rootfs.join("bin")).unwrap();
    fs::copy("/bin/busybox", rootfs.join("bin/busybox")).unwrap();
    symlink("busybox", rootfs.join("bin/sh")).unwrap();
    symlink("busybox", rootfs.join("bin/touch")).unwrap();
    add(&rootfs);
    let (tar, rootfs) = (nacre.path("rootfs.tar"), rootfs.display().to_string());
    run_tool("tar", &["-cf", tar.to_str().unwrap(), "-C", &rootfs, "."]);
    nacre.ok(&["import", tar.to_str().unwrap(), name]);
    nacre
}

pub(crate) fn entries(dir: &Path) -> usize {
    fs::read_dir(dir).unwrap().count()
}

const RUN: [&str; 4] = ["run", "--rm", "--network", "none"];

#[test]
fn a_link_in_place_of_dev_or_proc_reaches_nothing_of_the_host() {
    let victim = tempfile::tempdir().unwrap();
    for path in ["dev", "proc", "sys"] {
        let nacre = image("evil:1", |rootfs| {
            symlink(victim.path(), rootfs.join(path)).unwrap();
        });
        let args = [&RUN[..], &["evil:1", "sh", "-c", "exit 0"]].concat();
        let said = format!("/{path} of its image evil:1 is a symbolic link");
        nacre.fails(&args, 125, &said);
        assert_eq!(entries(victim.path()), 0, "{path}");
        assert_eq!(nacre.ok(&["ps", "-aq"]), "");
    }
}

#[test]
fn nothing_is_mounted_over_dev_not_even_by_a_link_of_the_image() {
    let nacre = image("links:1", |rootfs| {
        symlink("/dev", rootfs.join("data")).unwrap();
        symlink("/", rootfs.join("top")).unwrap();
    });
    let shared = nacre.folder("shared");
    for target in ["/dev", "/data", "/top", "/proc"] {
        let bind = format!("{}:{target}", shared.display());
        let args = [&RUN[..], &["-v", &bind, "links:1", "sh", "-c", "exit 0"]].concat();
        nacre.fails(&args, 125, "nothing can be mounted over");
        assert_eq!(entries(&shared), 0, "{target}");
    }
}

#[test]
fn a_working_directory_behind_a_link_is_made_within_the_root() {
    let victim = tempfile::tempdir().unwrap();
    let inside = victim.path().join("made").display().to_string();
    let nacre = image("work:1", |rootfs| {
        symlink(&inside, rootfs.join("work")).unwrap();
        symlink("loop", rootfs.join("loop")).unwrap();
    });
    let args = [&RUN[..], &["-w", "/work/here", "work:1", "touch", "x"]].concat();
    nacre.ok(&args);
    assert_eq!(entries(victim.path()), 0);
    let args = [&RUN[..], &["-w", "/loop", "work:1", "touch", "x"]].concat();
    nacre.fails(&args, 125, "cannot make /loop");
}

#[test]
fn a_file_in_place_of_the_socket_is_kept() {
    let nacre = Nacre::new();
    let socket = nacre.path("nacre.sock");
    fs::write(&socket, "precious").unwrap();
    nacre.fails(&["ps"], 1, "something else than a socket");
    assert_eq!(fs::read_to_string(&socket).unwrap(), "precious");
}

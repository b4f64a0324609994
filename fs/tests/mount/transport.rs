//! What our own transport of the FUSE protocol brings: the kernel's word on privileges, times of birth, clean refusals,
//! signals, several clients at once.

use std::fs::File;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, StatxFlags};

use crate::patience;
use crate::support::{Layer, mounted, noise};

/// The mode of a setuid program after a shell's command on it, as root with these capabilities taken away.
fn mode_after(command: &str, less: &str) -> Option<u32> {
    let layer = Layer::new()
        .file("f", b"bytes")
        .but(|entry| entry.mode = 0o6777);
    let (_store, mount) = mounted(layer)?;
    let status = patience::status(
        Command::new("setpriv")
            .args([&format!("--bounding-set={less}"), "sh", "-c", command])
            .current_dir(&mount.root),
    );
    assert!(status.success(), "{command}");
    Some(std::fs::metadata(mount.path("f")).unwrap().mode() & 0o7777)
}

#[test]
fn truncation_takes_privileges_unless_the_caller_has_cap_fsetid() {
    for command in [": > f", "truncate -s 2 f", "echo x >> f"] {
        let Some(without) = mode_after(command, "-fsetid") else {
            return;
        };
        assert_eq!(without, 0o777, "{command}, as root without CAP_FSETID");
        let with = mode_after(command, "-syslog");
        assert_eq!(with, Some(0o6777), "{command}, as root with CAP_FSETID");
    }
}

#[test]
fn a_new_file_shows_when_it_was_born() {
    let Some((_store, mount)) = mounted(Layer::new()) else {
        return;
    };
    let path = mount.path("new");
    std::fs::write(&path, b"x").unwrap();
    let first = rustix::fs::statx(CWD, &path, AtFlags::empty(), StatxFlags::ALL).unwrap();
    assert_ne!(first.stx_mask & StatxFlags::BTIME.bits(), 0, "has one");
    assert!(first.stx_btime.tv_sec >= first.stx_mtime.tv_sec.saturating_sub(2));
    thread::sleep(Duration::from_millis(20));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let then = rustix::fs::statx(CWD, &path, AtFlags::empty(), StatxFlags::ALL).unwrap();
    let nanos = |time: rustix::fs::StatxTimestamp| (time.tv_sec, time.tv_nsec);
    assert_eq!(nanos(then.stx_btime), nanos(first.stx_btime), "never moves");
    assert!(
        nanos(then.stx_ctime) > nanos(then.stx_btime),
        "a chmod later"
    );
    // The kernel may have answered from its cache: asked without it, too.
    let kept = mount.vfs.attr(nacre_store::Ino(then.stx_ino)).unwrap();
    let kept = (kept.btime.seconds, kept.btime.nanos);
    assert_eq!(kept, nanos(first.stx_btime), "in the record");
    let metadata = path.metadata().unwrap();
    assert_eq!(then.stx_size, metadata.size(), "and the rest is stat's");
    assert_eq!(u32::from(then.stx_mode), metadata.mode());
    assert_eq!(then.stx_ino, metadata.ino());
}

#[test]
fn flags_of_files_are_refused_as_where_there_are_none() {
    let Some((_store, mount)) = mounted(Layer::new().file("f", b"x")) else {
        return;
    };
    let file = File::open(mount.path("f")).unwrap();
    let errno = rustix::fs::ioctl_getflags(&file).unwrap_err();
    assert_eq!(errno, rustix::io::Errno::NOTTY);
}

#[test]
fn a_process_that_is_killed_in_a_request_is_gone_and_the_mount_goes_on() {
    let Some((_store, mount)) = mounted(Layer::new()) else {
        return;
    };
    let started = Instant::now();
    for round in 0..20 {
        let mut child = Command::new("dd")
            .args(["if=/dev/zero", "of=f", "bs=1M", "count=4096", "conv=fsync"])
            .stderr(std::process::Stdio::null())
            .current_dir(&mount.root)
            .spawn()
            .unwrap();
        thread::sleep(Duration::from_millis(5 + round));
        child.kill().unwrap();
        patience::exit(&mut child, "dd");
        std::fs::remove_file(mount.path("f")).ok();
    }
    assert!(started.elapsed() < Duration::from_secs(60));
    std::fs::write(mount.path("after"), b"alive").unwrap();
    assert_eq!(std::fs::read(mount.path("after")).unwrap(), b"alive");
}

#[test]
fn clients_in_parallel_see_their_own_files_whole() {
    let Some((_store, mount)) = mounted(Layer::new().file("lower", &noise(300_000, 1))) else {
        return;
    };
    thread::scope(|scope| {
        for client in 0..4_u64 {
            let mount = &mount;
            scope.spawn(move || {
                for round in 0..100 {
                    let (path, to) = (
                        mount.path(&format!("{client}-{round}")),
                        mount.path(&format!("{client}-{round}-moved")),
                    );
                    let bytes = noise(1 + 997 * round, client);
                    std::fs::write(&path, &bytes).unwrap();
                    std::fs::rename(&path, &to).unwrap();
                    assert_eq!(std::fs::read(&to).unwrap(), bytes);
                    assert_eq!(
                        std::fs::read(mount.path("lower")).unwrap(),
                        noise(300_000, 1)
                    );
                    if round % 2 == 0 {
                        std::fs::remove_file(&to).unwrap();
                    }
                }
            });
        }
    });
    let left = std::fs::read_dir(&mount.root).unwrap().count();
    assert_eq!(left, 1 + 4 * 50);
}

#[test]
fn an_acl_set_by_a_member_keeps_setgid_and_one_set_by_a_stranger_takes_it() {
    for (groups, expected) in [("--groups=1000,50", 0o2775), ("--groups=1000", 0o775)] {
        let layer = Layer::new().file("f", b"x").but(|entry| {
            (entry.mode, entry.uid, entry.gid) = (0o2755, 1000, 50);
        });
        let Some((_store, mount)) = mounted(layer) else {
            return;
        };
        let status = patience::status(
            Command::new("setpriv")
                .args(["--reuid=1000", "--regid=1000", groups, "--inh-caps=-all"])
                .args(["setfacl", "-m", "u:7:rwx", "f"])
                .current_dir(&mount.root),
        );
        assert!(status.success());
        let mode = std::fs::metadata(mount.path("f")).unwrap().mode() & 0o7777;
        assert_eq!(mode, expected, "with {groups}");
    }
}

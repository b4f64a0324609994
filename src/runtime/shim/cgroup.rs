//! A container's cgroups, by their path in every hierarchy of the machine; and how to do without.
//! libcontainer makes them and puts processes in; here they are looked at, frozen and removed.
//! Never touches a cgroup whose name is not the container's own.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::oci::cgroups_path;
use crate::spec::ContainerId;
use crate::sys;

/// Where cgroups are mounted; libcontainer looks nowhere else.
const ROOT: &str = "/sys/fs/cgroup";

/// How often, and with what pause, something is tried that the kernel finishes in the background.
const TRIES: u32 = 200;
const PAUSE: Duration = Duration::from_millis(5);

/// Deepest nesting that is looked into; a container that may make cgroups can nest them at will.
const DEPTH_MAX: u32 = 32;

/// Whether a container's cgroups are there or can be made: tries, because nothing else tells.
pub(super) fn make(id: &ContainerId) -> bool {
    let hierarchies = hierarchies();
    let made = |(index, dir): (usize, &PathBuf)| match fs::create_dir(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            // Take back what was made before.
            for made in own(id).iter().take(index) {
                remove_tree(made, DEPTH_MAX).unwrap_or_default();
            }
            false
        }
        _ => true,
    };
    !hierarchies.is_empty() && own(id).iter().enumerate().all(made)
}

/// Whether a container has cgroups.
pub(super) fn exist(id: &ContainerId) -> bool {
    own(id).iter().any(|dir| dir.is_dir())
}

/// Puts an empty file system where cgroups are mounted, in this process's own mount namespace: libcontainer then finds a
/// machine without controllers. Only by unmounting, because it also finds mounts that are covered.
pub(super) fn hide() -> io::Result<()> {
    match unmount(ROOT, UnmountFlags::DETACH) {
        // Nothing mounted there, or nothing there at all: as wanted.
        Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    mount(
        "tmpfs",
        ROOT,
        "tmpfs",
        MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC,
        None,
    )?;
    Ok(())
}

/// Removes a container's cgroups and what it made in them, with every process that is left there.
pub(crate) fn remove(id: &ContainerId) -> io::Result<()> {
    if !exist(id) {
        return Ok(());
    }
    // Frozen processes do not die on the first version.
    freeze(id, Freezer::Thawed).unwrap_or_default();
    let mut outcome = Ok(());
    for dir in own(id) {
        let mut tries = 0;
        outcome = loop {
            match remove_tree(&dir, DEPTH_MAX) {
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy && tries < TRIES => {
                    signal_in(&dir, libc::SIGKILL);
                    std::thread::sleep(PAUSE);
                    tries = tries.saturating_add(1);
                }
                done => break outcome.and(done),
            }
        };
    }
    outcome
}

/// Sends a signal to every process of the container.
pub(super) fn signal_all(id: &ContainerId, signal: i32) -> bool {
    let own = own(id);
    // One hierarchy has them all; on a mixed machine the first that has any.
    own.iter().any(|dir| signal_in(dir, signal) > 0)
}

/// Whether the container moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Freezer {
    /// It does not.
    Frozen,
    /// It does.
    Thawed,
}

/// Whether the container is frozen; a process that joins it then stands still before it can say so.
pub(super) fn is_frozen(id: &ContainerId) -> bool {
    own(id).iter().any(|dir| {
        let first = fs::read_to_string(dir.join("freezer.state"))
            .is_ok_and(|state| state.trim() != "THAWED");
        first
            || fs::read_to_string(dir.join("cgroup.freeze")).is_ok_and(|state| state.trim() == "1")
    })
}

/// Freezes or thaws a container and waits until it is so.
pub(super) fn freeze(id: &ContainerId, wanted: Freezer) -> io::Result<()> {
    let own = own(id);
    let first = own.iter().find(|dir| dir.join("freezer.state").exists());
    let second = own.iter().find(|dir| dir.join("cgroup.freeze").exists());
    let (file, word, state, reached) = match (first, second, wanted) {
        (Some(dir), _, Freezer::Frozen) => (
            dir.join("freezer.state"),
            "FROZEN",
            dir.join("freezer.state"),
            "FROZEN",
        ),
        (Some(dir), _, Freezer::Thawed) => (
            dir.join("freezer.state"),
            "THAWED",
            dir.join("freezer.state"),
            "THAWED",
        ),
        (None, Some(dir), Freezer::Frozen) => (
            dir.join("cgroup.freeze"),
            "1",
            dir.join("cgroup.events"),
            "frozen 1",
        ),
        (None, Some(dir), Freezer::Thawed) => (
            dir.join("cgroup.freeze"),
            "0",
            dir.join("cgroup.events"),
            "frozen 0",
        ),
        (None, None, _) => {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "this machine has no freezer cgroup",
            ));
        }
    };
    for _ in 0..TRIES {
        // Written again each time: the first version can get stuck half frozen otherwise.
        fs::write(&file, word)?;
        if fs::read_to_string(&state)?
            .lines()
            .any(|line| line.trim() == reached)
        {
            return Ok(());
        }
        std::thread::sleep(PAUSE);
    }
    if wanted == Freezer::Frozen {
        // Half frozen is the worst of all.
        freeze(id, Freezer::Thawed)?;
    }
    Err(io::Error::new(
        io::ErrorKind::TimedOut,
        format!("the container did not become {wanted:?}"),
    ))
}

/// Whether the kernel killed a process of the container for lack of memory.
pub(super) fn oom_killed(id: &ContainerId) -> bool {
    own(id)
        .iter()
        .flat_map(|dir| [dir.join("memory.oom_control"), dir.join("memory.events")])
        .filter_map(|file| fs::read_to_string(file).ok())
        .flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>())
        .filter_map(|line| {
            line.strip_prefix("oom_kill ")
                .and_then(|count| count.trim().parse::<u64>().ok())
        })
        .any(|count| count > 0)
}

/// The container's directory in every hierarchy, whether it is there or not.
fn own(id: &ContainerId) -> Vec<PathBuf> {
    let path = cgroups_path(id);
    let name = path.strip_prefix("/").unwrap_or(&path);
    hierarchies()
        .iter()
        .map(|hierarchy| hierarchy.join(name))
        .collect()
}

/// Where hierarchies are mounted. Beside a first version's controllers the second version holds nothing and is left alone.
fn hierarchies() -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    in_table(&table)
}

fn in_table(table: &str) -> Vec<PathBuf> {
    let mounted = |kind: &str| -> Vec<PathBuf> {
        table
            .lines()
            .filter_map(|line| {
                let (mount, source) = line.split_once(" - ")?;
                let place = mount.split(' ').nth(4)?;
                let mut source = source.split(' ');
                let is_kind = source.next()? == kind && Path::new(place).starts_with(ROOT);
                // A named hierarchy has no controller; it is systemd's, and libcontainer leaves it alone too.
                let is_named = source
                    .next_back()?
                    .split(',')
                    .any(|option| option.starts_with("name="));
                (is_kind && !is_named).then(|| PathBuf::from(place))
            })
            .collect()
    };
    let first = mounted("cgroup");
    if first.is_empty() {
        mounted("cgroup2")
    } else {
        first
    }
}

/// Removes a directory of cgroups, the inner ones first. Their files are no files and go with them.
fn remove_tree(dir: &Path, depth: u32) -> io::Result<()> {
    match fs::remove_dir(dir) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) if depth == 0 => return Err(error),
        Err(_) => {}
    }
    for inner in children(dir) {
        remove_tree(&inner, depth.saturating_sub(1))?;
    }
    match fs::remove_dir(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn signal_in(dir: &Path, signal: i32) -> usize {
    let mut sent = 0usize;
    let mut todo = vec![(dir.to_owned(), DEPTH_MAX)];
    while let Some((dir, depth)) = todo.pop() {
        let members = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
        for pid in members.lines().filter_map(|line| line.parse().ok()) {
            // One that has just ended needs no signal.
            if sys::signal_number(pid, signal).is_ok() {
                sent = sent.saturating_add(1);
            }
        }
        if depth > 0 {
            todo.extend(
                children(&dir)
                    .into_iter()
                    .map(|inner| (inner, depth.saturating_sub(1))),
            );
        }
    }
    sent
}

fn children(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_version_goes_before_the_second() {
        let mixed = "30 20 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
                     31 30 0:27 / /sys/fs/cgroup/cpu rw,relatime shared:1 - cgroup cgroup rw,cpu\n\
                     32 30 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
                     34 30 0:29 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
                     33 30 0:28 / /elsewhere rw - cgroup cgroup rw,pids\n";
        assert_eq!(in_table(mixed), [PathBuf::from("/sys/fs/cgroup/cpu")]);
        let second = "30 20 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        assert_eq!(in_table(second), [PathBuf::from("/sys/fs/cgroup")]);
        assert!(in_table("garbage\n").is_empty());
    }
}

//! The kernel's table of mounts: what is mounted where, in our mount namespace or another. Reads only.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, setns, unshare};

use super::marks::Device;

/// One line of mountinfo (proc_pid_mountinfo(5)), as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The superblock's device number, major and minor.
    pub device: Device,
    /// Where it is mounted.
    pub target: PathBuf,
    /// Its type.
    pub kind: String,
}

/// A mount namespace that is not the service's own. Holding it keeps it alive.
#[derive(Debug)]
pub(crate) struct Namespace(File);

impl Namespace {
    /// The namespace of a process; none if it is ours.
    pub(crate) fn of(pid: i32) -> io::Result<Option<Namespace>> {
        use std::os::unix::fs::MetadataExt;
        let theirs = File::open(format!("/proc/{pid}/ns/mnt"))?;
        let ours = std::fs::metadata("/proc/self/ns/mnt")?;
        let meta = theirs.metadata()?;
        let same = (meta.dev(), meta.ino()) == (ours.dev(), ours.ino());
        Ok((!same).then_some(Namespace(theirs)))
    }

    pub(crate) fn descriptor(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Does something in it, in a thread of its own: a thread cannot come back.
    fn enter<T: Send>(&self, what: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        std::thread::scope(|scope| {
            let entered = scope.spawn(|| {
                unshare(CloneFlags::CLONE_FS)?;
                setns(&self.0, CloneFlags::CLONE_NEWNS)?;
                what()
            });
            entered.join().unwrap_or_else(|_| {
                Err(io::Error::other(
                    "a thread in another mount namespace failed",
                ))
            })
        })
    }
}

/// Does something in a namespace, or here.
pub(crate) fn within<T: Send>(
    namespace: Option<&Namespace>,
    what: impl FnOnce() -> io::Result<T> + Send,
) -> io::Result<T> {
    match namespace {
        Some(namespace) => namespace.enter(what),
        None => what(),
    }
}

/// Everything that is mounted in a namespace, or in ours.
pub(crate) fn read(namespace: Option<&Namespace>) -> io::Result<Vec<Entry>> {
    let text = within(namespace, || {
        let mut text = Vec::new();
        File::open("/proc/thread-self/mountinfo")?.read_to_end(&mut text)?;
        Ok(text)
    })?;
    Ok(text.split(|b| *b == b'\n').filter_map(parse).collect())
}

fn parse(line: &[u8]) -> Option<Entry> {
    let fields: Vec<&[u8]> = line.split(|b| *b == b' ').collect();
    let (major, minor) = std::str::from_utf8(fields.get(2)?).ok()?.split_once(':')?;
    let dash = fields.iter().position(|field| *field == b"-")?;
    let kind = fields.get(dash.checked_add(1)?)?;
    Some(Entry {
        device: (major.parse().ok()?, minor.parse().ok()?),
        target: PathBuf::from(std::ffi::OsString::from_vec(unescape(fields.get(4)?))),
        kind: String::from_utf8_lossy(kind).into_owned(),
    })
}

/// The kernel writes blanks, tabs, line ends and backslashes as three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let digits = (*first == b'\\').then(|| after.get(..3)).flatten();
        let value =
            digits.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        match value {
            Some(value) => {
                out.push(value);
                rest = after.get(3..).unwrap_or_default();
            }
            None => {
                out.push(*first);
                rest = after;
            }
        }
    }
    out
}

/// Takes away what a service that died left mounted in our namespace of these superblocks: nobody can use it.
pub(crate) fn clear_dead(devices: &[Device]) {
    if devices.is_empty() {
        return;
    }
    for entry in read(None).unwrap_or_default() {
        let dead = || {
            let status = rustix::fs::statfs(&entry.target);
            status.is_err_and(|errno| errno == rustix::io::Errno::NOTCONN)
        };
        let ours = entry.kind == "fuse.nacre" && devices.contains(&entry.device);
        // In this order: another's server may be one that does not answer.
        if ours && dead() {
            let gone = rustix::mount::unmount(&entry.target, rustix::mount::UnmountFlags::DETACH);
            if let Err(error) = gone {
                tracing::warn!(target = %entry.target.display(), %error, "cannot take a dead mount away");
            }
        }
    }
}

/// Says why `target` cannot be a mount point, if it cannot.
pub(crate) fn objection(namespace: Option<&Namespace>, target: &Path) -> Option<String> {
    let shown = target.display();
    let looked = within(namespace, || {
        let meta = std::fs::metadata(target)?;
        let real = std::fs::canonicalize(target)?;
        Ok((meta.is_dir(), real))
    });
    match looked {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Some(format!("mount point {shown} does not exist"))
        }
        Err(error) => Some(format!("cannot mount on {shown}: {error}")),
        Ok((false, _)) => Some(format!("mount point {shown} is not a directory")),
        Ok((true, real)) => {
            let busy = read(namespace)
                .unwrap_or_default()
                .iter()
                .any(|entry| entry.target == real);
            busy.then(|| format!("mount point {shown} is busy: something is mounted there"))
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn lines_are_read_with_their_escapes() {
        let line =
            br"36 35 98:0 /mnt1 /mnt\0402/a\134b rw,noatime master:1 - fuse.nacre nacre:x rw";
        let entry = parse(line).unwrap();
        assert_eq!(entry.device, (98, 0));
        assert_eq!(entry.target, PathBuf::from("/mnt 2/a\\b"));
        assert_eq!(entry.kind, "fuse.nacre");
    }

    #[test]
    fn our_own_table_has_proc() {
        assert!(
            read(None)
                .unwrap()
                .iter()
                .any(|entry| entry.target == Path::new("/proc"))
        );
    }

    #[test]
    fn mount_points_are_checked() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, b"").unwrap();
        assert_eq!(objection(None, dir.path()), None);
        assert!(
            objection(None, &file)
                .unwrap()
                .ends_with("is not a directory")
        );
        assert!(
            objection(None, &dir.path().join("no"))
                .unwrap()
                .ends_with("does not exist")
        );
        assert!(
            objection(None, Path::new("/proc"))
                .unwrap()
                .contains("is busy")
        );
    }
}

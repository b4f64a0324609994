//! What a container's root needs before its process starts: mount points for what is mounted over it, and its working
//! directory. The mount points are the runtime's (`init`): neither in diff nor in commit.

use nacre_fs::errno::Errno;
use nacre_fs::vfs::{Caller, Node, Vfs};
use nacre_store::Ino;

use super::container::Container;
use super::error::{Error, Result};
use super::words;
use crate::runtime::spec::{MountSource, MountSpec};

/// Directories that every container has, and their modes.
const DIRS: [(&str, u16); 3] = [("/dev", 0o755), ("/proc", 0o755), ("/sys", 0o755)];
/// Files that every container has: docker's own, over which its versions are bound, and docker's mark.
const FILES: [(&str, u16); 4] = [
    ("/etc/hosts", 0o644),
    ("/etc/hostname", 0o644),
    ("/etc/resolv.conf", 0o644),
    ("/.dockerenv", 0o755),
];

/// Puts everything in place; what is there already stays as it is.
pub(crate) fn prepare(vfs: &Vfs, document: &Container) -> Result<()> {
    let fail = |path: &str| {
        let path = path.to_owned();
        move |errno: Errno| {
            let source = std::io::Error::from(errno);
            Error::broken(format!(
                "cannot make {path} in container {}: {source}",
                document.short_id()
            ))
        }
    };
    for (path, mode) in DIRS {
        vfs.make_init_dir(path.as_bytes(), mode)
            .map_err(fail(path))?;
    }
    for (path, mode) in FILES {
        vfs.make_init_file(path.as_bytes(), mode, None)
            .map_err(fail(path))?;
    }
    vfs.make_init_symlink(b"/etc/mtab", b"/proc/mounts")
        .map_err(fail("/etc/mtab"))?;
    for mount in &document.host.mounts {
        mount_point(vfs, mount).map_err(fail(&mount.target))?;
    }
    let workdir = words::clean_path(&document.config.working_dir);
    working_dir(vfs, &workdir).map_err(fail(&workdir))
}

/// docker makes a missing working directory as root, and it is the container's own: diff shows it.
fn working_dir(vfs: &Vfs, path: &str) -> std::result::Result<(), Errno> {
    let mut at = String::new();
    for part in path.split('/').filter(|part| !part.is_empty()) {
        let (parent, _) = vfs.resolve(at.as_bytes(), true)?;
        at = format!("{at}/{part}");
        match vfs.resolve(at.as_bytes(), true) {
            Ok(_) => {}
            Err(Errno::NOENT) => make_dir(vfs, parent, part)?,
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

fn make_dir(vfs: &Vfs, parent: Ino, name: &str) -> std::result::Result<(), Errno> {
    let made = vfs.make(
        &Caller::user(0, 0, 0),
        parent,
        name.as_bytes(),
        0o755,
        Node::Dir,
    )?;
    // It counted as a kernel's lookup, and no kernel will ever forget it.
    vfs.forget(&[(made.ino, 1)]);
    Ok(())
}

/// A file for what is no directory, else a directory.
fn mount_point(vfs: &Vfs, mount: &MountSpec) -> std::result::Result<(), Errno> {
    let target = mount.target.as_bytes();
    let is_dir = match &mount.source {
        MountSource::Bind(source) => source.is_dir(),
        MountSource::Tmpfs(_) => true,
    };
    if is_dir {
        vfs.make_init_dir(target, 0o755)
    } else {
        vfs.make_init_file(target, 0o755, None)
    }
    .map(drop)
}

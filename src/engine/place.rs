//! What a container's root needs before its process starts: mount points for what is mounted over it, and its working
//! directory. The mount points are the runtime's (`init`): neither in diff nor in commit.

use nacre_fs::errno::Errno;
use nacre_fs::vfs::{Caller, Node, Vfs};
use nacre_store::{Content, Ino};

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

/// Links that one working directory may lead over, as many as the kernel follows.
const LINKS_MAX: usize = 40;

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
        no_link(vfs, path, document)?;
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
        let place = mount_point(vfs, mount).map_err(fail(&mount.target))?;
        not_over_the_base(vfs, mount, place)?;
    }
    let workdir = words::clean_path(&document.config.working_dir);
    working_dir(vfs, &workdir, LINKS_MAX).map_err(fail(&workdir))
}

/// The runtime puts links and devices below `ROOT/dev` by its path as the host sees it: were the image's `/dev` a link,
/// they would be made where it leads on the host.
fn no_link(vfs: &Vfs, path: &str, document: &Container) -> Result<()> {
    match vfs.resolve(path.as_bytes(), false) {
        Ok((_, inode)) if matches!(inode.content, Content::Symlink(_)) => {
            Err(Error::invalid(format!(
                "cannot start container {}: {path} of its image {} is a symbolic link, and must be a directory",
                document.short_id(),
                document.config.image,
            )))
        }
        _ => Ok(()),
    }
}

/// What is mounted over the root, or over `/dev` with links and devices put into it, would have them made in the
/// host's directory; over `/proc`, nothing can be started. Compared as resolved, for an image can lead there by a link.
fn not_over_the_base(vfs: &Vfs, mount: &MountSpec, place: Ino) -> Result<()> {
    for base in ["/", "/dev", "/proc"] {
        let found = vfs.resolve(base.as_bytes(), true);
        if found.is_ok_and(|(ino, _)| ino == place) {
            return Err(Error::invalid(format!(
                "invalid mount at {}: nothing can be mounted over {base} of a container",
                mount.target
            )));
        }
    }
    Ok(())
}

/// docker makes a missing working directory as root, and it is the container's own: diff shows it. A link that leads
/// to nothing yet gets what it names, within the root.
fn working_dir(vfs: &Vfs, path: &str, links: usize) -> std::result::Result<(), Errno> {
    let mut at = String::new();
    for part in path.split('/').filter(|part| !part.is_empty()) {
        let above = at.clone();
        let (parent, _) = vfs.resolve(above.as_bytes(), true)?;
        at = format!("{above}/{part}");
        match vfs.resolve(at.as_bytes(), true) {
            Ok(_) => {}
            Err(Errno::NOENT) => match link_at(vfs, &at)? {
                None => make_dir(vfs, parent, part)?,
                Some(target) => {
                    let left = links.checked_sub(1).ok_or(Errno::LOOP)?;
                    let to = if target.starts_with('/') {
                        target
                    } else {
                        format!("{above}/{target}")
                    };
                    working_dir(vfs, &to, left)?;
                }
            },
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// What the link at a path names; `None` if there is none.
fn link_at(vfs: &Vfs, path: &str) -> std::result::Result<Option<String>, Errno> {
    match vfs.resolve(path.as_bytes(), false) {
        Ok((_, inode)) => match &inode.content {
            Content::Symlink(target) => String::from_utf8(target.to_vec())
                .map(Some)
                .map_err(|_| Errno::INVAL),
            _ => Ok(None),
        },
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
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
fn mount_point(vfs: &Vfs, mount: &MountSpec) -> std::result::Result<Ino, Errno> {
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
}

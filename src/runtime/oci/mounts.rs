//! What is mounted in a container: docker's default mounts, then what was asked for, outer before inner.

use std::path::Path;

use libcontainer::oci_spec::OciSpecError;
use libcontainer::oci_spec::runtime::{Mount, MountBuilder};

use super::Host;
use crate::spec::{Access, ContainerSpec, MountSource, MountSpec};

/// docker's size of `/dev/shm`.
const SHM_BYTES_DEFAULT: u64 = 64 << 20;

pub(super) fn of(spec: &ContainerSpec, host: &Host) -> Result<Vec<Mount>, OciSpecError> {
    let mut asked: Vec<&MountSpec> = spec.mounts.iter().collect();
    // Stable: of two at one depth the later one is on top, as given.
    asked.sort_by_key(|mount| Path::new(&mount.target).components().count());
    let mut mounts = Vec::new();
    for (target, typ, source, options) in defaults(spec, host) {
        // What was asked for takes a default's place.
        if !asked
            .iter()
            .any(|mount| Path::new(&mount.target) == Path::new(target))
        {
            mounts.push(mount(target, typ, Path::new(source), options)?);
        }
    }
    for wanted in asked {
        mounts.push(user_mount(wanted)?);
    }
    Ok(mounts)
}

type Default = (&'static str, &'static str, &'static str, Vec<String>);

fn defaults(spec: &ContainerSpec, host: &Host) -> Vec<Default> {
    let words = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<_>>();
    let system = if spec.security.privileged { "rw" } else { "ro" };
    let shm_bytes = spec.shm_bytes.unwrap_or(SHM_BYTES_DEFAULT);
    let mut mounts = vec![
        ("/proc", "proc", "proc", words("nosuid,noexec,nodev")),
        (
            "/dev",
            "tmpfs",
            "tmpfs",
            words("nosuid,strictatime,mode=755,size=65536k"),
        ),
        (
            "/dev/pts",
            "devpts",
            "devpts",
            words("nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5"),
        ),
        (
            "/sys",
            "sysfs",
            "sysfs",
            words(&format!("nosuid,noexec,nodev,{system}")),
        ),
    ];
    if host.has_cgroups {
        mounts.push((
            "/sys/fs/cgroup",
            "cgroup",
            "cgroup",
            words(&format!("nosuid,noexec,nodev,{system}")),
        ));
    }
    mounts.push((
        "/dev/mqueue",
        "mqueue",
        "mqueue",
        words("nosuid,noexec,nodev"),
    ));
    let shm = words(&format!("nosuid,noexec,nodev,mode=1777,size={shm_bytes}"));
    mounts.push(("/dev/shm", "tmpfs", "shm", shm));
    mounts
}

fn user_mount(wanted: &MountSpec) -> Result<Mount, OciSpecError> {
    let access = match wanted.access {
        Access::ReadOnly => "ro",
        Access::ReadWrite => "rw",
    };
    match &wanted.source {
        MountSource::Bind(source) => {
            let options = ["rbind", "rprivate", access].map(str::to_owned).to_vec();
            mount(&wanted.target, "bind", source, options)
        }
        MountSource::Tmpfs(asked) => {
            let mut options = ["nosuid", "nodev", "noexec", access]
                .map(str::to_owned)
                .to_vec();
            options.extend(asked.iter().cloned());
            mount(&wanted.target, "tmpfs", Path::new("tmpfs"), options)
        }
    }
}

fn mount(
    target: &str,
    typ: &str,
    source: &Path,
    options: Vec<String>,
) -> Result<Mount, OciSpecError> {
    MountBuilder::default()
        .destination(target)
        .typ(typ)
        .source(source)
        .options(options)
        .build()
}

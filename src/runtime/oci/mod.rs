//! Our words as an OCI runtime configuration: docker's defaults, and what may differ from them.
//! Pure: what it must know of the machine comes in as [`Host`].
//!
//! The configuration never names a seccomp filter nor capabilities for libcontainer to apply: its way of joining a
//! container forgets the filter, so for both ways in `shim::payload` applies both, from [`Confinement`].

pub(crate) mod capabilities;
mod mounts;
mod seccomp;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use libcontainer::oci_spec::OciSpecError;
use libcontainer::oci_spec::runtime::{
    BoxBuilder, Capability, Linux, LinuxBuilder, LinuxDeviceCgroup, LinuxDeviceCgroupBuilder,
    LinuxDeviceType, LinuxNamespace, LinuxNamespaceBuilder, LinuxNamespaceType,
    LinuxResourcesBuilder, PosixRlimit, PosixRlimitBuilder, PosixRlimitType, Process,
    ProcessBuilder, RootBuilder, Spec, SpecBuilder, UserBuilder,
};

use super::exec_path::DEFAULT_PATH;
use super::spec::{
    ContainerId, ContainerSpec, Network, ProcessSpec, Rlimit, Seccomp, Security, SystemPaths,
};
use super::user::Identity;
use super::wire::{StartError, StartErrorKind};

/// What a configuration must know of the machine.
pub(crate) struct Host {
    /// The capabilities that we can give at all, by name without `CAP_`.
    pub(crate) capabilities: Vec<Capability>,
    /// Our own hard limits; beyond them a limit cannot be set without a capability that we may not have.
    pub(crate) hard_limit: fn(PosixRlimitType) -> u64,
    /// Whether cgroups can be made; without them there is neither a device list nor a cgroup mount.
    pub(crate) has_cgroups: bool,
    /// The network namespace with nothing but `lo`, if one is wanted.
    pub(crate) lone_network: Option<PathBuf>,
}

/// What a process must not do; put on by `shim::payload` as the last thing before the program runs.
#[derive(Clone, Debug)]
pub(crate) struct Confinement {
    /// Bounding, effective and permitted set.
    pub(crate) capabilities: Vec<Capability>,
    /// The filter, if any.
    pub(crate) seccomp: Option<Vec<libc::sock_filter>>,
    /// Whether the cgroup mount shall be made read-only: libcontainer leaves those of the first version writable, and who
    /// writes there opens all devices to himself.
    pub(crate) seals_cgroups: bool,
}

/// The path of a container's cgroup.
///
/// Absolute, so that no systemd is asked. Never empty: libcontainer would take our own cgroup for the container's, and
/// kill everything in it when the container goes (`ContainerId` cannot be empty, and the prefix is there in any case).
/// One level, because libcontainer removes no parents, and removing a shared one would race with the next start.
pub(crate) fn cgroups_path(id: &ContainerId) -> PathBuf {
    PathBuf::from(format!("/nacre-{id}"))
}

/// Says what a process of this container may do.
pub(crate) fn confinement(security: &Security, host: &Host) -> Result<Confinement, StartError> {
    let capabilities = capabilities::granted(security, &host.capabilities).map_err(bad_request)?;
    let seccomp = match security.seccomp {
        Seccomp::Default if !security.privileged => Some(seccomp::filter(&capabilities)),
        _ => None,
    };
    Ok(Confinement {
        capabilities,
        seccomp,
        seals_cgroups: false,
    })
}

/// Makes the configuration of a container.
pub(crate) fn container(
    spec: &ContainerSpec,
    who: &Identity,
    host: &Host,
) -> Result<Spec, StartError> {
    let process = process(
        &spec.process,
        &spec.hostname,
        who,
        &spec.security,
        &rlimits(&spec.rlimits, host)?,
    )?;
    let built = RootBuilder::default()
        .path("rootfs")
        .readonly(spec.read_only_root)
        .build()
        .and_then(|root| {
            let mut oci = SpecBuilder::default()
                .version("1.0.2")
                .root(root)
                .hostname(spec.hostname.clone())
                .process(process)
                .mounts(mounts::of(spec, host)?)
                .linux(linux(spec, host)?)
                .build()?;
            oci.set_annotations(None);
            Ok(oci)
        });
    built.map_err(invalid)
}

/// Makes the process part, of a container or of an exec.
pub(crate) fn process(
    spec: &ProcessSpec,
    hostname: &str,
    who: &Identity,
    security: &Security,
    rlimits: &[PosixRlimit],
) -> Result<Process, StartError> {
    if spec.args.is_empty() {
        return Err(bad_request("no command specified".to_owned()));
    }
    let user = UserBuilder::default()
        .uid(who.uid)
        .gid(who.gid)
        .additional_gids(who.groups.clone())
        .build()
        .map_err(invalid)?;
    let mut process = ProcessBuilder::default()
        .terminal(spec.tty)
        .user(user)
        .args(spec.args.clone())
        .env(environment(spec, hostname, who))
        // Ours is `working_directory`; the program is put there after the mounts, with docker's text if it is not there.
        .cwd("/")
        .rlimits(rlimits.to_vec())
        .build()
        .map_err(invalid)?;
    process.set_capabilities(None);
    // None, not false: false makes libcontainer treat it as set.
    process.set_no_new_privileges(security.no_new_privileges.then_some(true));
    if let Some(size) = spec.console_size {
        let console = BoxBuilder::default()
            .height(size.rows)
            .width(size.columns)
            .build()
            .map_err(invalid)?;
        process.set_console_size(Some(console));
    }
    Ok(process)
}

/// Where a process starts.
pub(crate) fn working_directory(spec: &ProcessSpec) -> PathBuf {
    // `join` keeps an absolute one as it is, and an empty one is the root.
    Path::new("/").join(&spec.cwd)
}

/// docker's variables first, each unless the process's own has it, then the process's own; the last of a name counts.
fn environment(spec: &ProcessSpec, hostname: &str, who: &Identity) -> Vec<String> {
    // Of a million variables each is looked at twice, not a million times.
    let places = spec.env.iter().enumerate();
    let last: HashMap<&str, usize> = places
        .map(|(place, variable)| (variable.split('=').next().unwrap_or_default(), place))
        .collect();
    let has = |name: &str| last.contains_key(name);
    let mut env = Vec::new();
    for (name, value) in [
        ("PATH", DEFAULT_PATH),
        ("HOSTNAME", hostname),
        ("TERM", "xterm"),
    ] {
        if !has(name) && (name != "TERM" || spec.tty) {
            env.push(format!("{name}={value}"));
        }
    }
    for (place, variable) in spec.env.iter().enumerate() {
        // A variable without a value is docker's way to take one away.
        if variable
            .split_once('=')
            .and_then(|(name, _)| last.get(name))
            == Some(&place)
        {
            env.push(variable.clone());
        }
    }
    if !has("HOME") {
        env.push(format!("HOME={}", who.home));
    }
    env
}

fn linux(spec: &ContainerSpec, host: &Host) -> Result<Linux, OciSpecError> {
    let (masked, read_only) = system_paths(&spec.security);
    let mut linux = LinuxBuilder::default()
        .namespaces(namespaces(host)?)
        .cgroups_path(cgroups_path(&spec.id))
        .masked_paths(masked)
        .readonly_paths(read_only)
        .build()?;
    linux.set_seccomp(None);
    linux.set_resources(None);
    if host.has_cgroups {
        let resources = LinuxResourcesBuilder::default()
            .devices(devices(&spec.security)?)
            .build()?;
        linux.set_resources(Some(resources));
    }
    Ok(linux)
}

/// The host's network is what is left when no network namespace is named.
fn namespaces(host: &Host) -> Result<Vec<LinuxNamespace>, OciSpecError> {
    use LinuxNamespaceType as Type;
    let mut types = vec![Type::Mount, Type::Pid, Type::Ipc, Type::Uts];
    if host.has_cgroups {
        types.push(Type::Cgroup);
    }
    let mut namespaces = types
        .into_iter()
        .map(|typ| LinuxNamespaceBuilder::default().typ(typ).build())
        .collect::<Result<Vec<_>, _>>()?;
    if let Some(path) = &host.lone_network {
        let network = LinuxNamespaceBuilder::default()
            .typ(Type::Network)
            .path(path.clone());
        namespaces.push(network.build()?);
    }
    Ok(namespaces)
}

/// Whether this container needs a network namespace of its own.
pub(crate) fn wants_lone_network(spec: &ContainerSpec) -> bool {
    spec.network == Network::None
}

/// docker's lists: what in `/proc` and `/sys` tells or changes the host.
fn system_paths(security: &Security) -> (Vec<String>, Vec<String>) {
    const MASKED: [&str; 12] = [
        "/proc/acpi",
        "/proc/asound",
        "/proc/interrupts",
        "/proc/kcore",
        "/proc/keys",
        "/proc/latency_stats",
        "/proc/sched_debug",
        "/proc/scsi",
        "/proc/timer_list",
        "/proc/timer_stats",
        "/sys/devices/virtual/powercap",
        "/sys/firmware",
    ];
    const READ_ONLY: [&str; 5] = [
        "/proc/bus",
        "/proc/fs",
        "/proc/irq",
        "/proc/sys",
        "/proc/sysrq-trigger",
    ];
    let owned = |list: &[&str]| list.iter().map(ToString::to_string).collect();
    match &security.system_paths {
        SystemPaths::Exactly { masked, read_only } => (masked.clone(), read_only.clone()),
        SystemPaths::Default if security.privileged => (Vec::new(), Vec::new()),
        SystemPaths::Default => (owned(&MASKED), owned(&READ_ONLY)),
    }
}

/// Which devices may be opened: docker's list, of which libcontainer adds all but the first by itself.
fn devices(security: &Security) -> Result<Vec<LinuxDeviceCgroup>, OciSpecError> {
    let all = |allow| {
        LinuxDeviceCgroupBuilder::default()
            .allow(allow)
            .typ(LinuxDeviceType::A)
            .access("rwm")
            .build()
    };
    Ok(vec![all(security.privileged)?])
}

/// Lowers limits to what we can give.
fn rlimits(wanted: &[Rlimit], host: &Host) -> Result<Vec<PosixRlimit>, StartError> {
    let one = |limit: &Rlimit| {
        let typ = rlimit_type(&limit.name)
            .ok_or_else(|| bad_request(format!("invalid ulimit type: {}", limit.name)))?;
        let hard = limit.hard.min((host.hard_limit)(typ));
        PosixRlimitBuilder::default()
            .typ(typ)
            .hard(hard)
            .soft(limit.soft.min(hard))
            .build()
            .map_err(invalid)
    };
    wanted.iter().map(one).collect()
}

fn rlimit_type(name: &str) -> Option<PosixRlimitType> {
    use PosixRlimitType as Type;
    Some(match name.to_ascii_lowercase().as_str() {
        "cpu" => Type::RlimitCpu,
        "fsize" => Type::RlimitFsize,
        "data" => Type::RlimitData,
        "stack" => Type::RlimitStack,
        "core" => Type::RlimitCore,
        "rss" => Type::RlimitRss,
        "nproc" => Type::RlimitNproc,
        "nofile" => Type::RlimitNofile,
        "memlock" => Type::RlimitMemlock,
        "as" => Type::RlimitAs,
        "locks" => Type::RlimitLocks,
        "sigpending" => Type::RlimitSigpending,
        "msgqueue" => Type::RlimitMsgqueue,
        "nice" => Type::RlimitNice,
        "rtprio" => Type::RlimitRtprio,
        "rttime" => Type::RlimitRttime,
        _ => return None,
    })
}

fn bad_request(message: String) -> StartError {
    StartError {
        kind: StartErrorKind::BadRequest,
        message,
    }
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the shape that map_err wants"
)]
fn invalid(error: OciSpecError) -> StartError {
    StartError::other(format!("container configuration: {error}"))
}

#[cfg(test)]
mod tests;

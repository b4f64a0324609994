//! What of the machine a container's configuration depends on: cgroups, our capabilities, our limits, a lone network.

use std::fs;

use libcontainer::oci_spec::runtime::{Capability, PosixRlimitType};
use rustix::process::{Resource, getrlimit};

use super::start::because;
use super::{cgroup, network};
use crate::oci::{self, Host};
use crate::spec::ContainerSpec;
use crate::wire::StartError;

/// Looks at the machine, and makes ready what the container needs of it.
pub(super) fn host(spec: &ContainerSpec) -> Result<Host, StartError> {
    let has_cgroups = cgroup::make(&spec.id);
    if !has_cgroups {
        cgroup::hide().map_err(because("doing without cgroups"))?;
    }
    let lone_network = if oci::wants_lone_network(spec) {
        Some(network::make_lone().map_err(because("making a network namespace"))?)
    } else {
        None
    };
    Ok(Host {
        capabilities: our_capabilities()?,
        hard_limit,
        has_cgroups,
        lone_network,
    })
}

/// The bounding set: what we cannot give, nobody in the container gets.
pub(super) fn our_capabilities() -> Result<Vec<Capability>, StartError> {
    let status =
        fs::read_to_string("/proc/self/status").map_err(because("reading our capabilities"))?;
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("CapBnd:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .ok_or_else(|| StartError::other("/proc/self/status has no CapBnd"))?;
    Ok(oci::capabilities::in_mask(mask))
}

pub(super) fn hard_limit(limit: PosixRlimitType) -> u64 {
    use PosixRlimitType as Type;
    let resource = match limit {
        Type::RlimitCpu => Resource::Cpu,
        Type::RlimitFsize => Resource::Fsize,
        Type::RlimitData => Resource::Data,
        Type::RlimitStack => Resource::Stack,
        Type::RlimitCore => Resource::Core,
        Type::RlimitRss => Resource::Rss,
        Type::RlimitNproc => Resource::Nproc,
        Type::RlimitNofile => Resource::Nofile,
        Type::RlimitMemlock => Resource::Memlock,
        Type::RlimitAs => Resource::As,
        Type::RlimitLocks => Resource::Locks,
        Type::RlimitSigpending => Resource::Sigpending,
        Type::RlimitMsgqueue => Resource::Msgqueue,
        Type::RlimitNice => Resource::Nice,
        Type::RlimitRtprio => Resource::Rtprio,
        Type::RlimitRttime => Resource::Rttime,
    };
    getrlimit(resource).maximum.unwrap_or(u64::MAX)
}

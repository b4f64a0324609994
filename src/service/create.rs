//! The create route: docker's request, made what the engine understands. What nacre does not do: `not_done`.

use std::path::{Path, PathBuf};

use axum::http::StatusCode;
use nacre_cli::api::{self, HostConfig};

use super::answer::{self, Outcome};
use super::call::Call;
use super::images::reshape;
use super::not_done;
use crate::engine::{Create, Error, Host, clean_path};
use crate::registry::Platform;
use crate::runtime::spec::{
    Access, MountSource, MountSpec, Network, Rlimit, Seccomp, Security, SystemPaths,
};

pub(crate) async fn create(mut call: Call) -> Outcome {
    let name = call.params.some("name").map(str::to_owned);
    let platform = match call.params.some("platform") {
        Some(text) => Some(Platform::parse(text).map_err(|e| Error::invalid(e.to_string()))?),
        None => None,
    };
    let request: api::ContainerCreateRequest = call.json().await?;
    let mut warnings = Vec::new();
    let mut host_config = request.host_config;
    not_done::check_config(&request.config, &mut warnings)?;
    let host = host(&mut host_config, &mut warnings)?;
    let config = reshape(&request.config)?;
    for bind in host_config.binds.iter().flatten() {
        make_source(&parse_bind(bind)?)?;
    }
    let as_asked = serde_json::to_value(&host_config);
    let host_config =
        as_asked.map_err(|e| Error::broken(format!("cannot keep the host configuration: {e}")))?;
    let create = Create {
        name,
        config,
        host,
        host_config,
        platform,
    };
    let (id, foreign) = call
        .work(move |engine| engine.create_container(create))
        .await?;
    warnings.extend(foreign);
    answer::json_with(
        StatusCode::CREATED,
        &api::ContainerCreateResponse {
            id: id.to_string(),
            warnings,
        },
    )
}

/// Reads what nacre acts on, and changes nothing of the host. The defaults that docker shows in an inspection are filled in.
pub(super) fn host(asked: &mut HostConfig, warnings: &mut Vec<String>) -> Result<Host, Error> {
    not_done::check_host(asked, warnings)?;
    let network = network(asked, warnings)?;
    let mut mounts = Vec::new();
    for bind in asked.binds.iter().flatten() {
        mounts.push(parse_bind(bind)?);
    }
    for mount in asked.mounts.iter().flatten() {
        mounts.push(parse_mount(mount)?);
    }
    for (target, options) in asked.tmpfs.iter().flatten() {
        let options = options
            .split(',')
            .filter(|option| !option.is_empty())
            .map(str::to_owned)
            .collect();
        mounts.push(MountSpec {
            target: absolute(target)?,
            source: MountSource::Tmpfs(options),
            access: Access::ReadWrite,
        });
    }
    if asked.log_config.driver.is_empty() {
        "json-file".clone_into(&mut asked.log_config.driver);
    }
    if asked.restart_policy.name.is_empty() {
        "no".clone_into(&mut asked.restart_policy.name);
    }
    let [rows, columns] = asked
        .console_size
        .map(|n| u16::try_from(n).unwrap_or(u16::MAX));
    Ok(Host {
        network,
        mounts,
        read_only_root: asked.readonly_rootfs,
        auto_remove: asked.auto_remove,
        security: security(asked)?,
        rlimits: rlimits(asked)?,
        shm_bytes: u64::try_from(asked.shm_size)
            .ok()
            .filter(|bytes| *bytes > 0),
        groups: asked.group_add.clone().unwrap_or_default(),
        extra_hosts: asked.extra_hosts.clone().unwrap_or_default(),
        dns: asked.dns.clone().unwrap_or_default(),
        dns_search: asked.dns_search.clone().unwrap_or_default(),
        dns_options: asked.dns_options.clone().unwrap_or_default(),
        console_size: (rows > 0 && columns > 0).then_some((rows, columns)),
    })
}

/// The host's network is the default of this version, and every container says so once.
fn network(asked: &mut HostConfig, warnings: &mut Vec<String>) -> Result<Network, Error> {
    let network = match asked.network_mode.as_str() {
        "none" => Network::None,
        "host" => Network::Host,
        "" | "default" | "bridge" => {
            warnings.push(
                "nacre has no bridge network yet: the container uses the host's network".to_owned(),
            );
            "host".clone_into(&mut asked.network_mode);
            Network::Host
        }
        other => {
            // Not 404: docker's client would take that for a missing image, and pull.
            return Err(Error::invalid(format!(
                "network {other} not found: nacre knows \"host\" and \"none\""
            )));
        }
    };
    if asked.publish_all_ports || !asked.port_bindings.is_empty() {
        warnings.push("Published ports are discarded when using host network mode".to_owned());
    }
    Ok(network)
}

/// `SOURCE:TARGET[:OPTIONS]`.
fn parse_bind(bind: &str) -> Result<MountSpec, Error> {
    let parts: Vec<&str> = bind.split(':').collect();
    let (source, target, options) = match parts.as_slice() {
        [source, target] => (*source, *target, ""),
        [source, target, options] => (*source, *target, *options),
        [_] => {
            return Err(Error::invalid(format!(
                "invalid volume specification: '{bind}'"
            )));
        }
        _ => {
            return Err(Error::invalid(format!(
                "invalid spec: {bind}: too many colons"
            )));
        }
    };
    if !source.starts_with('/') {
        return Err(Error::unsupported(format!(
            "nacre has no named volumes yet: {source:?} must be an absolute path of the host"
        )));
    }
    let mut access = Access::ReadWrite;
    for option in options.split(',') {
        match option {
            "ro" => access = Access::ReadOnly,
            "" | "rw" | "z" | "Z" | "nocopy" | "rprivate" | "private" | "cached" | "delegated"
            | "consistent" => {}
            _ => return Err(Error::invalid(format!("invalid mode: {options}"))),
        }
    }
    Ok(MountSpec {
        target: target_path(target)?,
        source: MountSource::Bind(PathBuf::from(source)),
        access,
    })
}

/// docker makes a missing source of -v, and only of -v.
fn make_source(bind: &MountSpec) -> Result<(), Error> {
    let MountSource::Bind(source) = &bind.source else {
        return Ok(());
    };
    match std::fs::create_dir_all(source) {
        Err(error) if !source.exists() => Err(Error::invalid(format!(
            "error while creating mount source path '{}': {error}",
            source.display()
        ))),
        _ => Ok(()),
    }
}

/// One `--mount`.
fn parse_mount(mount: &api::MountSpec) -> Result<MountSpec, Error> {
    let access = if mount.read_only {
        Access::ReadOnly
    } else {
        Access::ReadWrite
    };
    let target = target_path(&mount.target)?;
    not_done::check_mount(mount)?;
    let source = match mount.kind.as_str() {
        "bind" => {
            let source = Path::new(&mount.source);
            if !source.is_absolute() {
                return Err(Error::invalid(format!(
                    "invalid mount config for type \"bind\": invalid mount path: '{}' mount path must be absolute",
                    mount.source
                )));
            }
            if !source.exists() {
                return Err(Error::invalid(format!(
                    "invalid mount config for type \"bind\": bind source path does not exist: {}",
                    mount.source
                )));
            }
            MountSource::Bind(source.to_owned())
        }
        "tmpfs" => {
            let options = mount.tmpfs_options.as_ref();
            let number = |key: &str| options.and_then(|options| options.get(key)?.as_u64());
            let size = number("SizeBytes")
                .filter(|size| *size > 0)
                .map(|size| format!("size={size}"));
            let mode = number("Mode")
                .filter(|mode| *mode > 0)
                .map(|mode| format!("mode={mode:o}"));
            MountSource::Tmpfs(size.into_iter().chain(mode).collect())
        }
        other => {
            return Err(Error::unsupported(format!(
                "nacre has no mounts of type {other:?} yet"
            )));
        }
    };
    Ok(MountSpec {
        target,
        source,
        access,
    })
}

fn absolute(target: &str) -> Result<String, Error> {
    if target.starts_with('/') {
        return Ok(clean_path(target));
    }
    Err(Error::invalid(format!(
        "invalid mount path: '{target}' mount path must be absolute"
    )))
}

fn target_path(target: &str) -> Result<String, Error> {
    let clean = absolute(target)?;
    if clean == "/" {
        return Err(Error::invalid(
            "invalid specification: destination can't be '/'",
        ));
    }
    Ok(clean)
}

fn security(asked: &HostConfig) -> Result<Security, Error> {
    let mut security = Security {
        privileged: asked.privileged,
        cap_add: asked.cap_add.clone().unwrap_or_default(),
        cap_drop: asked.cap_drop.clone().unwrap_or_default(),
        ..Security::default()
    };
    for option in asked.security_opt.iter().flatten() {
        match option.split_once(['=', ':']).unwrap_or((option, "")) {
            ("no-new-privileges", "" | "true") => security.no_new_privileges = true,
            ("no-new-privileges", "false") => security.no_new_privileges = false,
            ("seccomp", "unconfined") => security.seccomp = Seccomp::Unconfined,
            ("seccomp", "builtin") => security.seccomp = Seccomp::Default,
            ("seccomp", _) => {
                return Err(Error::unsupported(
                    "nacre takes no seccomp profiles yet: unconfined or builtin",
                ));
            }
            // Neither is set up by nacre, so that nothing confines the container anyway.
            ("apparmor" | "label" | "systempaths", _) => {}
            _ => {
                return Err(Error::invalid(format!(
                    "invalid --security-opt 2: {option:?}"
                )));
            }
        }
    }
    if asked.masked_paths.is_some() || asked.readonly_paths.is_some() {
        security.system_paths = SystemPaths::Exactly {
            masked: asked.masked_paths.clone().unwrap_or_default(),
            read_only: asked.readonly_paths.clone().unwrap_or_default(),
        };
    }
    Ok(security)
}

fn rlimits(asked: &HostConfig) -> Result<Vec<Rlimit>, Error> {
    let value = |number: i64| {
        if number == -1 {
            Some(u64::MAX)
        } else {
            u64::try_from(number).ok()
        }
    };
    let rlimit = |limit: &api::Ulimit| {
        let bad = || {
            Error::invalid(format!(
                "invalid ulimit {}: {}:{}",
                limit.name, limit.soft, limit.hard
            ))
        };
        let (soft, hard) = (
            value(limit.soft).ok_or_else(bad)?,
            value(limit.hard).ok_or_else(bad)?,
        );
        if soft > hard {
            return Err(Error::invalid(format!(
                "ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"
            )));
        }
        Ok(Rlimit {
            name: limit.name.clone(),
            soft,
            hard,
        })
    };
    asked.ulimits.iter().flatten().map(rlimit).collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn binds_have_a_source_a_target_and_options() {
        let bind = parse_bind("/tmp:/data/./x:ro").unwrap();
        assert_eq!(
            (bind.target.as_str(), bind.access),
            ("/data/x", Access::ReadOnly)
        );
        for (bad, why) in [
            ("/tmp", "invalid volume specification: '/tmp'"),
            ("/a:/b:c:d", "invalid spec: /a:/b:c:d: too many colons"),
            ("/tmp:/", "invalid specification: destination can't be '/'"),
            ("/tmp:/x:bogus", "invalid mode: bogus"),
            (
                "/tmp:x",
                "invalid mount path: 'x' mount path must be absolute",
            ),
        ] {
            assert_eq!(parse_bind(bad).unwrap_err().to_string(), why, "{bad}");
        }
        assert!(
            parse_bind("vol:/x")
                .unwrap_err()
                .to_string()
                .contains("no named volumes")
        );
    }

    #[test]
    fn the_default_network_is_the_hosts_and_says_so() {
        let mut warnings = Vec::new();
        let host = host(&mut HostConfig::default(), &mut warnings).unwrap();
        assert_eq!(host.network, Network::Host);
        assert_eq!(warnings.len(), 1);
        let mut asked = HostConfig {
            network_mode: "none".into(),
            ..HostConfig::default()
        };
        warnings.clear();
        assert_eq!(
            super::host(&mut asked, &mut warnings).unwrap().network,
            Network::None
        );
        assert!(warnings.is_empty());
    }

    #[test]
    fn empty_lists_of_hidden_paths_hide_nothing_and_none_means_the_default() {
        let mut asked = HostConfig {
            masked_paths: Some(vec![]),
            ..HostConfig::default()
        };
        let wanted = SystemPaths::Exactly {
            masked: vec![],
            read_only: vec![],
        };
        assert_eq!(security(&asked).unwrap().system_paths, wanted);
        asked.masked_paths = None;
        assert_eq!(security(&asked).unwrap().system_paths, SystemPaths::Default);
    }
}

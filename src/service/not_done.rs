//! What of docker's request for a container nacre does not do. It is told as a warning if the container is right without it,
//! and refused if not; nothing is passed over in silence.

use nacre_cli::api::{ContainerConfig, HostConfig, MountSpec};
use serde_json::Value;

use crate::engine::Error;

/// Whether something was asked for, and its name.
type Asked = (bool, &'static str);

/// The part that an image may have too.
pub(super) fn check_config(
    asked: &ContainerConfig,
    warnings: &mut Vec<String>,
) -> Result<(), Error> {
    let test = asked.healthcheck.as_ref();
    let test = test.and_then(|check| check.test.as_deref()?.first());
    tell(
        &[
            (test.is_some_and(|kind| kind != "NONE"), "health checks"),
            (!asked.domainname.is_empty(), "--domainname"),
        ],
        warnings,
    );
    refuse(&[
        (!asked.mac_address.is_empty(), "hardware addresses"),
        (
            asked.network_disabled,
            "\"NetworkDisabled\" (but the network \"none\")",
        ),
    ])
}

/// The host's part.
pub(super) fn check_host(asked: &HostConfig, warnings: &mut Vec<String>) -> Result<(), Error> {
    tell(&limits(asked), warnings);
    tell(
        &[
            (asked.init == Some(true), "--init"),
            (has(asked.sysctls.as_ref().map(|all| all.len())), "--sysctl"),
            (
                !matches!(asked.restart_policy.name.as_str(), "" | "no"),
                "restart policies",
            ),
            (
                !matches!(asked.log_config.driver.as_str(), "" | "json-file"),
                "log drivers other than json-file",
            ),
            (!asked.log_config.config.is_empty(), "--log-opt"),
        ],
        warnings,
    );
    let shared = |mode: &String| !matches!(mode.as_str(), "" | "private" | "shareable" | "default");
    refuse(&[
        (has(count(&asked.devices)), "devices"),
        (
            has(count(&asked.device_requests)),
            "devices of a driver (--gpus)",
        ),
        (
            has(count(&asked.device_cgroup_rules)),
            "--device-cgroup-rule",
        ),
        (
            has(count(&asked.volumes_from)),
            "volumes of other containers",
        ),
        (!asked.volume_driver.is_empty(), "volume drivers"),
        (has(count(&asked.links)), "links between containers"),
        (
            has(asked.storage_opt.as_ref().map(|all| all.len())),
            "--storage-opt",
        ),
        (!asked.cgroup_parent.is_empty(), "--cgroup-parent"),
        (
            !matches!(asked.runtime.as_str(), "" | "runc"),
            "runtimes other than its own",
        ),
        (
            !matches!(asked.isolation.as_str(), "" | "default"),
            "--isolation",
        ),
        (shared(&asked.pid_mode), "shared process namespaces"),
        (shared(&asked.ipc_mode), "shared IPC namespaces"),
        (shared(&asked.uts_mode), "shared host names"),
        (
            shared(&asked.cgroupns_mode) || !asked.cgroup.is_empty(),
            "shared cgroup namespaces",
        ),
        (
            !matches!(asked.userns_mode.as_str(), "" | "host"),
            "user namespaces",
        ),
    ])
}

/// One `--mount`.
pub(super) fn check_mount(mount: &MountSpec) -> Result<(), Error> {
    let of_bind = |key: &str| mount.bind_options.as_ref().and_then(|all| all.get(key));
    let propagation = of_bind("Propagation").and_then(Value::as_str);
    let is_set = |key| of_bind(key).and_then(Value::as_bool).unwrap_or_default();
    let image_path = mount.image_options.as_ref();
    refuse(&[
        (
            !matches!(propagation, None | Some("" | "private" | "rprivate")),
            "the propagation of mounts",
        ),
        (is_set("NonRecursive"), "bind-recursive=disabled"),
        (is_set("ReadOnlyForceRecursive"), "bind-recursive=readonly"),
        (image_path.is_some(), "mounts of images in containers"),
    ])
}

/// A limit that is not applied would be a promise.
fn limits(asked: &HostConfig) -> [Asked; 7] {
    let block = [
        &asked.blkio_weight_device,
        &asked.blkio_device_read_bps,
        &asked.blkio_device_write_bps,
        &asked.blkio_device_read_iops,
        &asked.blkio_device_write_iops,
    ];
    [
        (
            asked.memory > 0
                || asked.memory_swap > 0
                || asked.memory_reservation > 0
                || asked.memory_swappiness.is_some_and(|much| much >= 0)
                || asked.oom_kill_disable == Some(true),
            "memory limits",
        ),
        (
            asked.nano_cpus > 0
                || asked.cpu_quota > 0
                || asked.cpu_period > 0
                || asked.cpu_shares > 0
                || asked.cpu_realtime_period > 0
                || asked.cpu_realtime_runtime > 0
                || asked.cpu_count > 0
                || asked.cpu_percent > 0,
            "processor limits",
        ),
        (
            !asked.cpuset_cpus.is_empty() || !asked.cpuset_mems.is_empty(),
            "processor sets",
        ),
        (
            asked.pids_limit.is_some_and(|limit| limit > 0),
            "process limits",
        ),
        (
            asked.blkio_weight > 0 || block.into_iter().any(|list| has(count(list))),
            "block device limits",
        ),
        (
            asked.io_maximum_iops > 0 || asked.io_maximum_bandwidth > 0,
            "disk limits",
        ),
        (asked.oom_score_adj != 0, "--oom-score-adj"),
    ]
}

fn count<T>(list: &Option<Vec<T>>) -> Option<usize> {
    list.as_ref().map(Vec::len)
}

fn has(count: Option<usize>) -> bool {
    count.is_some_and(|count| count > 0)
}

fn tell(asked: &[Asked], warnings: &mut Vec<String>) {
    let asked = asked.iter().filter(|(is_asked, _)| *is_asked);
    warnings.extend(asked.map(|(_, what)| format!("nacre does not apply {what} yet: ignored")));
}

fn refuse(asked: &[Asked]) -> Result<(), Error> {
    match asked.iter().find(|(is_asked, _)| *is_asked) {
        Some((_, what)) => Err(Error::unsupported(format!(
            "nacre does not support {what} yet"
        ))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use serde_json::json;

    use super::*;

    /// What is said to a request with this in it: warnings, or the error.
    fn said(host: Value) -> Vec<String> {
        let asked = serde_json::from_value(host).unwrap();
        let mut warnings = Vec::new();
        match check_host(&asked, &mut warnings) {
            Ok(()) => warnings,
            Err(error) => vec![error.to_string()],
        }
    }

    #[test]
    fn what_dockers_client_sends_by_default_asks_for_nothing() {
        let plain = json!({
            "CgroupnsMode": "", "IpcMode": "", "Isolation": "", "MemorySwappiness": -1, "OomKillDisable": false,
            "PidsLimit": 0, "Devices": [], "BlkioWeightDevice": [], "DeviceRequests": null, "RestartPolicy": {"Name": "no"},
            "LogConfig": {"Type": "", "Config": {}},
        });
        assert_eq!(said(plain), [] as [String; 0]);
        let own = json!({"CgroupnsMode": "private", "IpcMode": "shareable", "Runtime": "runc", "Isolation": "default"});
        assert_eq!(said(own), [] as [String; 0]);
    }

    #[test]
    fn a_limit_that_is_not_applied_is_told() {
        for (asked, what) in [
            (json!({"MemorySwappiness": 0}), "memory limits"),
            (json!({"OomKillDisable": true}), "memory limits"),
            (json!({"CpuPeriod": 1}), "processor limits"),
            (json!({"BlkioDeviceReadBps": [{}]}), "block device limits"),
            (
                json!({"LogConfig": {"Config": {"max-size": "1m"}}}),
                "--log-opt",
            ),
        ] {
            let words = format!("nacre does not apply {what} yet: ignored");
            assert_eq!(said(asked), [words]);
        }
    }

    #[test]
    fn what_would_make_it_another_container_is_refused() {
        for (asked, what) in [
            (
                json!({"DeviceRequests": [{}]}),
                "devices of a driver (--gpus)",
            ),
            (
                json!({"DeviceCgroupRules": ["c 1:3 mr"]}),
                "--device-cgroup-rule",
            ),
            (json!({"StorageOpt": {"size": "1G"}}), "--storage-opt"),
            (json!({"CgroupParent": "/x"}), "--cgroup-parent"),
            (json!({"CgroupnsMode": "host"}), "shared cgroup namespaces"),
            (json!({"Runtime": "runsc"}), "runtimes other than its own"),
            (json!({"VolumeDriver": "nfs"}), "volume drivers"),
        ] {
            assert_eq!(said(asked), [format!("nacre does not support {what} yet")]);
        }
        let mount = json!({"Type": "bind", "Source": "/", "Target": "/x", "BindOptions": {"Propagation": "rshared"}});
        let refused = check_mount(&serde_json::from_value(mount).unwrap());
        assert!(refused.unwrap_err().to_string().contains("propagation"));
        let config = json!({"NetworkDisabled": true});
        let config = serde_json::from_value(config).unwrap();
        assert!(check_config(&config, &mut Vec::new()).is_err());
    }
}

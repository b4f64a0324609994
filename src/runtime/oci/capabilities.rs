//! Which capabilities a container has: docker's fourteen, what was added and dropped, and never more than we have.

use std::str::FromStr;

use libcontainer::oci_spec::runtime::Capability;

use crate::spec::Security;

/// What docker gives every container.
const DEFAULT: [Capability; 14] = [
    Capability::AuditWrite,
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::Mknod,
    Capability::NetBindService,
    Capability::NetRaw,
    Capability::Setfcap,
    Capability::Setgid,
    Capability::Setpcap,
    Capability::Setuid,
    Capability::SysChroot,
];

/// By the kernel's numbers, from 0.
const BY_NUMBER: [Capability; 41] = {
    use Capability as C;
    [
        C::Chown,
        C::DacOverride,
        C::DacReadSearch,
        C::Fowner,
        C::Fsetid,
        C::Kill,
        C::Setgid,
        C::Setuid,
        C::Setpcap,
        C::LinuxImmutable,
        C::NetBindService,
        C::NetBroadcast,
        C::NetAdmin,
        C::NetRaw,
        C::IpcLock,
        C::IpcOwner,
        C::SysModule,
        C::SysRawio,
        C::SysChroot,
        C::SysPtrace,
        C::SysPacct,
        C::SysAdmin,
        C::SysBoot,
        C::SysNice,
        C::SysResource,
        C::SysTime,
        C::SysTtyConfig,
        C::Mknod,
        C::Lease,
        C::AuditWrite,
        C::AuditControl,
        C::Setfcap,
        C::MacOverride,
        C::MacAdmin,
        C::Syslog,
        C::WakeAlarm,
        C::BlockSuspend,
        C::AuditRead,
        C::Perfmon,
        C::Bpf,
        C::CheckpointRestore,
    ]
};

/// Reads a mask as it stands in `/proc/PID/status`.
pub(crate) fn in_mask(mask: u64) -> Vec<Capability> {
    let is_set =
        |(number, capability): (u32, &Capability)| (mask >> number & 1 == 1).then_some(*capability);
    (0..).zip(&BY_NUMBER).filter_map(is_set).collect()
}

/// Works out a container's capabilities; the error is docker's text for a name that is none.
pub(super) fn granted(security: &Security, ours: &[Capability]) -> Result<Vec<Capability>, String> {
    if security.privileged {
        return Ok(ours.to_vec());
    }
    let (add_all, add) = named("CapAdd", &security.cap_add)?;
    let (drop_all, drop) = named("CapDrop", &security.cap_drop)?;
    let base: &[Capability] = match (add_all, drop_all) {
        (true, _) => ours,
        (false, true) => &[],
        (false, false) => &DEFAULT,
    };
    // An added one wins over a dropped one, as in docker, but not over a drop from ALL.
    let kept = |capability: &Capability| !drop.contains(capability);
    let added =
        |capability: &Capability| add.contains(capability) && (!add_all || kept(capability));
    Ok(ours
        .iter()
        .copied()
        .filter(|capability| (base.contains(capability) && kept(capability)) || added(capability))
        .collect())
}

fn named(option: &str, names: &[String]) -> Result<(bool, Vec<Capability>), String> {
    let mut all = false;
    let mut capabilities = Vec::new();
    for name in names {
        let upper = name.to_ascii_uppercase();
        if upper == "ALL" {
            all = true;
            continue;
        }
        let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
        match Capability::from_str(bare) {
            Ok(capability) => capabilities.push(capability),
            Err(_) => {
                return Err(format!(
                    "invalid {option}: unknown capability: \"CAP_{bare}\""
                ));
            }
        }
    }
    Ok((all, capabilities))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn with(add: &[&str], drop: &[&str]) -> Vec<Capability> {
        let mut ours = DEFAULT.to_vec();
        ours.extend([Capability::NetAdmin, Capability::SysAdmin]);
        let owned = |list: &[&str]| list.iter().map(ToString::to_string).collect();
        let security = Security {
            cap_add: owned(add),
            cap_drop: owned(drop),
            ..Security::default()
        };
        granted(&security, &ours).unwrap()
    }

    #[test]
    fn dockers_rules_of_adding_and_dropping() {
        assert_eq!(with(&[], &[]), DEFAULT);
        // What docker's containers show in /proc/self/status.
        assert_eq!(in_mask(0xa804_25fb).len(), 14);
        assert!(
            in_mask(0xa804_25fb)
                .iter()
                .all(|capability| DEFAULT.contains(capability))
        );
        assert_eq!(with(&["net_admin"], &[]).len(), 15);
        assert_eq!(
            with(&["CAP_SYS_TIME"], &[]),
            DEFAULT,
            "what we have not we cannot give"
        );
        assert_eq!(with(&[], &["ALL"]), []);
        assert_eq!(with(&["CHOWN"], &["all"]), [Capability::Chown]);
        assert_eq!(with(&["ALL"], &["CHOWN"]).len(), 15);
        assert_eq!(with(&[], &["CAP_MKNOD"]).len(), 13);
    }

    #[test]
    fn an_unknown_name_is_named() {
        let security = Security {
            cap_drop: vec!["cap_nope".into()],
            ..Security::default()
        };
        let error = granted(&security, &DEFAULT).unwrap_err();
        assert_eq!(error, "invalid CapDrop: unknown capability: \"CAP_NOPE\"");
    }
}

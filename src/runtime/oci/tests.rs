//! What a container's configuration must hold.
#![expect(clippy::unwrap_used, reason = "tests")]
use super::*;
use crate::spec::{Access, MountSource, MountSpec, Stdin};

fn host() -> Host {
    Host {
        capabilities: vec![Capability::Chown, Capability::SysAdmin],
        hard_limit: |typ| {
            if typ == PosixRlimitType::RlimitNofile {
                4096
            } else {
                u64::MAX
            }
        },
        has_cgroups: true,
        lone_network: None,
    }
}

fn root() -> Identity {
    Identity {
        uid: 0,
        gid: 0,
        groups: vec![0],
        home: "/root".into(),
    }
}

fn spec() -> ContainerSpec {
    ContainerSpec {
        id: ContainerId::new("0af").unwrap(),
        hostname: "box".into(),
        process: ProcessSpec {
            args: vec!["true".into()],
            env: vec![],
            cwd: String::new(),
            user: String::new(),
            groups: vec![],
            tty: false,
            console_size: None,
            stdin: Stdin::Null,
        },
        read_only_root: false,
        mounts: vec![],
        network: Network::Host,
        security: Security::default(),
        rlimits: vec![],
        shm_bytes: None,
    }
}

fn env_of(env: &[&str], tty: bool) -> Vec<String> {
    let mut process = spec().process;
    process.env = env.iter().map(ToString::to_string).collect();
    process.tty = tty;
    environment(&process, "box", &root())
}

#[test]
fn the_cgroup_path_is_never_empty_nor_relative_nor_shared() {
    let paths: Vec<_> = ["a", "0", &"f".repeat(64)]
        .map(|id| {
            container(
                &ContainerSpec {
                    id: ContainerId::new(id).unwrap(),
                    ..spec()
                },
                &root(),
                &host(),
            )
            .unwrap()
        })
        .iter()
        .map(|oci| {
            oci.linux()
                .as_ref()
                .unwrap()
                .cgroups_path()
                .clone()
                .unwrap()
        })
        .collect();
    for path in &paths {
        assert!(path.is_absolute());
        assert!(
            path.components().count() > 1,
            "{} is the root cgroup",
            path.display()
        );
    }
    assert!(paths[0] != paths[1] && paths[1] != paths[2]);
    assert!(ContainerId::new("").is_err());
}

#[test]
fn very_many_variables_are_no_more_work_each() {
    let mut process = spec().process;
    process.env = (0..600_000)
        .map(|n| format!("V{}=x", n % 400_000))
        .collect();
    let start = std::time::Instant::now();
    assert_eq!(environment(&process, "box", &root()).len(), 400_000 + 3);
    assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
}

#[test]
fn the_environment_has_dockers_variables_first_and_no_name_twice() {
    let path = format!("PATH={DEFAULT_PATH}");
    assert_eq!(
        env_of(&[], false),
        [path.as_str(), "HOSTNAME=box", "HOME=/root"]
    );
    assert_eq!(
        env_of(&["A=1", "TERM=vt", "A=2=3", "GONE", "HOME=/h"], true),
        [path.as_str(), "HOSTNAME=box", "TERM=vt", "A=2=3", "HOME=/h"]
    );
    assert_eq!(
        env_of(&["PATH=/p"], true),
        ["HOSTNAME=box", "TERM=xterm", "PATH=/p", "HOME=/root"]
    );
}

#[test]
fn limits_are_lowered_to_ours() {
    let limit = |name: &str, soft, hard| Rlimit {
        name: name.into(),
        soft,
        hard,
    };
    let lowered = rlimits(
        &[
            limit("nofile", 1 << 20, 1 << 20),
            limit("core", 0, u64::MAX),
        ],
        &host(),
    )
    .unwrap();
    assert_eq!((lowered[0].soft(), lowered[0].hard()), (4096, 4096));
    assert_eq!((lowered[1].soft(), lowered[1].hard()), (0, u64::MAX));
    let error = rlimits(&[limit("nope", 0, 0)], &host()).unwrap_err();
    assert_eq!(error.kind, StartErrorKind::BadRequest);
}

#[test]
fn mounts_go_outer_before_inner_and_replace_defaults() {
    let bind = |target: &str| MountSpec {
        target: target.into(),
        source: MountSource::Bind("/tmp".into()),
        access: Access::ReadOnly,
    };
    let wanted = ContainerSpec {
        mounts: vec![bind("/a/b/c"), bind("/dev/shm"), bind("/a")],
        ..spec()
    };
    let oci = container(&wanted, &root(), &host()).unwrap();
    let targets: Vec<_> = oci
        .mounts()
        .as_ref()
        .unwrap()
        .iter()
        .map(|m| m.destination().to_str().unwrap())
        .collect();
    assert_eq!(
        targets,
        [
            "/proc",
            "/dev",
            "/dev/pts",
            "/sys",
            "/sys/fs/cgroup",
            "/dev/mqueue",
            "/a",
            "/dev/shm",
            "/a/b/c"
        ]
    );
}

#[test]
fn without_cgroups_nothing_asks_for_them() {
    let bare = Host {
        has_cgroups: false,
        ..host()
    };
    let oci = container(&spec(), &root(), &bare).unwrap();
    let linux = oci.linux().as_ref().unwrap();
    assert!(linux.resources().is_none());
    let text = serde_json::to_string(&oci).unwrap();
    assert!(!text.contains("\"cgroup\""), "{text}");
}

#[test]
fn libcontainer_is_given_neither_filter_nor_capabilities() {
    let oci = container(&spec(), &root(), &host()).unwrap();
    assert!(oci.linux().as_ref().unwrap().seccomp().is_none());
    assert!(oci.process().as_ref().unwrap().capabilities().is_none());
    assert!(
        oci.process()
            .as_ref()
            .unwrap()
            .no_new_privileges()
            .is_none()
    );
    let confined = confinement(&spec().security, &host()).unwrap();
    assert_eq!(confined.capabilities, [Capability::Chown]);
    assert!(confined.seccomp.is_some());
    let privileged = Security {
        privileged: true,
        ..Security::default()
    };
    let free = confinement(&privileged, &host()).unwrap();
    assert!(free.seccomp.is_none() && free.capabilities.len() == 2);
}

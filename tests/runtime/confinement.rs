//! What a container sees and may do.

use nacre::runtime::spec::{Access, MountSource, MountSpec, Network, Rlimit, Seccomp, Security};

use crate::fixture::{Container, Outcome};

fn output(script: &str) -> String {
    ran(Container::script(script))
}

fn ran(mut container: Container) -> String {
    let Outcome {
        exit,
        stdout,
        stderr,
    } = container.run();
    assert_eq!((exit.code, stderr.as_str()), (0, ""), "{stdout}");
    container.delete();
    stdout
}

#[test]
fn it_is_alone_in_its_namespaces() {
    let seen = output(
        "echo $$; hostname; ls -d /proc/[0-9]* | wc -l; for n in pid mnt ipc uts cgroup; do readlink /proc/self/ns/$n; done",
    );
    let lines: Vec<&str> = seen.lines().collect();
    assert_eq!(&lines[..2], ["1", "testbox"]);
    assert!(lines[2].trim().parse::<u32>().unwrap() <= 3, "{seen}");
    for (kind, inside) in ["pid", "mnt", "ipc", "uts", "cgroup"]
        .iter()
        .zip(&lines[3..])
    {
        let outside = std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
        assert_ne!(outside.to_str().unwrap(), *inside);
    }
}

#[test]
fn the_environment_and_directory_are_what_was_asked() {
    let container = Container::script("env | sort; pwd").with(|spec| {
        spec.process.env = vec!["B=2 2".into(), "A=1".into()];
        spec.process.cwd = "/work/new".into();
        spec.process.user = "web".into();
    });
    let seen = ran(container);
    assert_eq!(
        seen,
        "A=1\nB=2 2\nHOME=/home/web\nHOSTNAME=testbox\n\
         PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nPWD=/work/new\n/work/new\n"
    );
}

#[test]
fn variables_keep_their_order() {
    let container = Container::new(&["env"])
        .with(|spec| spec.process.env = (0..30).map(|n| format!("V{n}={n}")).collect());
    let seen = ran(container);
    let places: Vec<usize> = (0..30)
        .map(|n| seen.find(&format!("\nV{n}={n}\n")).unwrap())
        .collect();
    assert!(places.is_sorted(), "{seen}");
}

#[test]
fn a_missing_directory_of_a_mount_is_said() {
    let mut container =
        Container::new(&["true"]).with(|spec| spec.process.cwd = "/usr/none/here".into());
    let error = container.fail();
    assert!(error.message.ends_with(r#"chdir to cwd ("/usr/none/here") set in config.json failed: no such file or directory"#), "{}", error.message);
    container.delete();
}

#[test]
fn users_and_groups_are_the_containers() {
    let who = |user: &str, groups: &[&str]| {
        let container = Container::script("id -u; id -g; id -G").with(|spec| {
            spec.process.user = user.into();
            spec.process.groups = groups.iter().map(ToString::to_string).collect();
        });
        ran(container)
            .lines()
            .map(str::to_owned)
            .collect::<Vec<_>>()
            .join("/")
    };
    assert_eq!(who("", &[]), "0/0/0");
    assert_eq!(who("web", &[]), "1000/1001/1001 1002");
    assert_eq!(who("1234:77", &["extra", "99"]), "1234/77/77 99 1002");
}

#[test]
fn capabilities_are_dockers_fourteen() {
    let caps = |container: Container| {
        let status = ran(container);
        ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"].map(|name| {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap();
            u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap()
        })
    };
    let status = || Container::new(&["cat", "/proc/self/status"]);
    let docker = 0xa804_25fb;
    assert_eq!(caps(status()), [0, docker, docker, docker, 0]);
    let user = status().with(|spec| spec.process.user = "web".into());
    assert_eq!(caps(user), [0, 0, 0, docker, 0]);
    let dropped = status().with(|spec| {
        spec.security.cap_drop = vec!["ALL".into()];
        spec.security.cap_add = vec!["CHOWN".into(), "CAP_KILL".into()];
    });
    assert_eq!(caps(dropped), [0, 0x21, 0x21, 0x21, 0]);
}

#[test]
fn seccomp_filters_by_default_and_not_when_unconfined() {
    let mode = |security: Security| {
        let status = ran(
            Container::new(&["cat", "/proc/self/status"]).with(|spec| spec.security = security)
        );
        let value = |name: &str| {
            status
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .unwrap()
                .trim()
                .to_owned()
        };
        (value("Seccomp:"), value("NoNewPrivs:"))
    };
    assert_eq!(mode(Security::default()), ("2".into(), "0".into()));
    let unconfined = Security {
        seccomp: Seccomp::Unconfined,
        ..Security::default()
    };
    assert_eq!(mode(unconfined), ("0".into(), "0".into()));
    let no_new = Security {
        no_new_privileges: true,
        ..Security::default()
    };
    assert_eq!(mode(no_new), ("2".into(), "1".into()));
}

#[test]
fn the_filter_forbids_new_namespaces_and_allows_processes() {
    let mut container = Container::script(
        "unshare -U true; (echo child; exit 0) | cat; python3 -c 'import os; os.memfd_create(\"x\")' 2>/dev/null; true",
    );
    let outcome = container.run();
    assert_eq!(outcome.stdout, "child\n");
    assert!(
        outcome.stderr.contains("Operation not permitted"),
        "{}",
        outcome.stderr
    );
    container.delete();
}

#[test]
fn system_paths_are_masked_and_read_only() {
    let script = "for f in /proc/kcore /proc/keys /proc/timer_list /proc/interrupts; do \
                  if [ -e $f ]; then wc -c < $f; else echo 0; fi; done; \
                  for d in /proc/scsi /proc/acpi /sys/firmware; do ls $d 2>/dev/null | wc -w; done; \
                  (echo 1 > /proc/sys/kernel/printk) 2>/dev/null || echo sys kept; \
                  (echo b > /proc/sysrq-trigger) 2>/dev/null || echo sysrq kept";
    assert_eq!(
        output(script),
        "0\n0\n0\n0\n0\n0\n0\nsys kept\nsysrq kept\n"
    );
}

#[test]
fn cgroups_can_be_read_and_not_changed() {
    let script = "cd /sys/fs/cgroup; find . -name cgroup.procs | grep -q . && echo seen; \
                  for d in . *; do [ -d $d ] && mkdir $d/x 2>/dev/null && echo made $d/x; done; \
                  find . -name devices.allow -exec sh -c 'echo a > {} && echo opened {}' ';' 2>/dev/null; true";
    assert_eq!(output(script), "seen\n");
}

#[test]
fn default_mounts_and_devices_are_there() {
    let script = "ls /dev | tr '\\n' ' '; echo; stat -f -c %T /dev/shm /dev/mqueue /proc /sys; df --output=size -m /dev/shm | tail -1 | tr -d ' '; echo hi > /dev/null; head -c 4 /dev/urandom | wc -c";
    let seen = output(script);
    for device in [
        "full", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty",
        "urandom", "zero", "mqueue", "fd",
    ] {
        assert!(
            seen.lines()
                .next()
                .unwrap()
                .split(' ')
                .any(|name| name == device),
            "{device}: {seen}"
        );
    }
    assert!(
        seen.ends_with("tmpfs\nmqueue\nproc\nsysfs\n64\n4\n") || seen.contains("\n64\n4\n"),
        "{seen}"
    );
}

#[test]
fn a_read_only_root_is_read_only_but_for_its_mounts() {
    let script = "(touch /x) 2>/dev/null || echo kept; touch /scratch/x && echo written; (touch /ro/x) 2>/dev/null || echo bound read-only";
    let dir = tempfile::tempdir().unwrap();
    let mount = |target: &str, source: MountSource, access| MountSpec {
        target: target.into(),
        source,
        access,
    };
    let container = Container::script(script).with(|spec| {
        spec.read_only_root = true;
        spec.mounts.push(mount(
            "/scratch",
            MountSource::Tmpfs(vec!["size=1m".into()]),
            Access::ReadWrite,
        ));
        spec.mounts.push(mount(
            "/ro",
            MountSource::Bind(dir.path().into()),
            Access::ReadOnly,
        ));
    });
    assert_eq!(ran(container), "kept\nwritten\nbound read-only\n");
}

#[test]
fn limits_beyond_ours_are_lowered_and_not_refused() {
    let container = Container::script("ulimit -n; ulimit -Hn; ulimit -c").with(|spec| {
        spec.rlimits = vec![
            Rlimit {
                name: "nofile".into(),
                soft: 100,
                hard: 1 << 40,
            },
            Rlimit {
                name: "core".into(),
                soft: 0,
                hard: 0,
            },
        ];
    });
    let seen = ran(container);
    let lines: Vec<&str> = seen.lines().collect();
    assert_eq!((lines[0], lines[2]), ("100", "0"));
    assert!(lines[1].parse::<u64>().unwrap() < 1 << 40, "{seen}");
}

#[test]
fn without_network_there_is_a_loopback_that_is_up() {
    let container = Container::script(
        "ls /sys/class/net; cat /sys/class/net/lo/flags /sys/class/net/lo/operstate",
    )
    .with(|spec| spec.network = Network::None);
    assert_eq!(ran(container), "lo\n0x9\nunknown\n");
}

#[test]
fn signals_are_at_their_defaults() {
    let seen = output("grep -E 'Sig(Ign|Blk)' /proc/self/status");
    for line in seen.lines() {
        let mask = u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap();
        assert_eq!(mask, 0, "{line}");
    }
}

#[test]
fn no_descriptor_of_ours_is_inside() {
    // 3 is the directory that `ls` reads.
    assert_eq!(output("ls /proc/self/fd | tr '\\n' ' '"), "0 1 2 3 ");
}

#[test]
fn a_mount_of_nothing_is_named() {
    let mut container = Container::new(&["true"]).with(|spec| {
        spec.mounts.push(MountSpec {
            target: "/data".into(),
            source: MountSource::Bind("/nowhere/at/all".into()),
            access: Access::ReadOnly,
        });
    });
    let error = container.fail();
    assert_eq!(
        error.message,
        "invalid mount config for type \"bind\": bind source path does not exist: /nowhere/at/all"
    );
    container.delete();
}

#[test]
fn a_mount_that_cannot_be_is_named() {
    let mut container = Container::new(&["true"]).with(|spec| {
        spec.mounts.push(MountSpec {
            target: "/etc/passwd/x".into(),
            source: MountSource::Bind("/tmp".into()),
            access: Access::ReadOnly,
        });
    });
    let error = container.fail();
    assert!(error.message.contains("/etc/passwd/x"), "{}", error.message);
    container.delete();
}

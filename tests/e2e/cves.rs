//! The advisories about running images and about registries that others needed: each test names its own and asserts what
//! must (not) happen here. Those about layer archives: `store/src/tests/cves.rs`.
//!
//! Tested elsewhere, or read and not tested, with the reason:
//!
//! | advisory | where, or why |
//! |---|---|
//! | CVE-2019-19921, CVE-2023-28642 (runc: a link in place of /proc) | `hostile::a_link_in_place_of_dev_or_proc_reaches_nothing_of_the_host` |
//! | CVE-2021-30465 (runc: a mount's target behind a link) | `hostile::nothing_is_mounted_over_dev_not_even_by_a_link_of_the_image` |
//! | CVE-2026-55686 (podman: a working directory behind a link) | `hostile::a_working_directory_behind_a_link_is_made_within_the_root` |
//! | CVE-2026-47262 (containerd: a huge group file) | `src/runtime/user.rs` |
//! | CVE-2021-41190 (a manifest that is an index too) | here, and the fuzz target `documents` |
//! | CVE-2020-15157 (containerd: credentials for a layer's foreign URL) | here |
//! | CVE-2024-24557 (moby: a build cache that can be poisoned) | nothing is built |
//! | CVE-2024-45310 (runc: empty files made outside by a race of volumes) | here |
//! | CVE-2025-52881 (runc: writes to /proc that a mount diverts) | no labels of a security module are written; /proc is one of our own |
//! | CVE-2026-53488 (containerd: a label that starts a logger), -53492 (devices by annotation), -50195 (a tag that is another's) | labels start nothing, no such devices, a name is set by the pull that asked for it |

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::hostile::{entries, image};
use crate::nacre::{Nacre, eventually};
use crate::patience;

const RUN: [&str; 4] = ["run", "--rm", "--network", "none"];

fn run(nacre: &Nacre, args: &[&str]) -> crate::nacre::Done {
    nacre.run(&[&RUN[..], args].concat())
}

#[test]
fn cve_2024_21626_no_descriptor_is_a_working_directory_or_leads_to_a_program() {
    let nacre = image("work:1", |_| {});
    let secret = nacre.path("secret");
    fs::write(&secret, "of the host").unwrap();
    let program = nacre.path("program");
    fs::copy("/bin/busybox", &program).unwrap();
    // From a directory of the host's, up to its root and down again.
    let up = |path: &Path| format!("../../../../../../../..{}", path.display());
    let (secret, program) = (up(&secret), up(&program));
    nacre.ok(&[
        "run",
        "-d",
        "--name",
        "box",
        "--network",
        "none",
        "work:1",
        "busybox",
        "sleep",
        "1000",
    ]);
    for fd in 0..16 {
        for at in ["/proc/self/fd", "/proc/1/fd", "/dev/fd"] {
            let cwd = format!("{at}/{fd}");
            let command = [&cwd, "work:1", "busybox", "cat", &secret];
            let started = run(&nacre, &[&["-w"][..], &command].concat());
            assert_ne!(started.code, 0, "{cwd}: {started:?}");
            assert!(started.said().contains("chdir to cwd"), "{started:?}");
            // `exec` was the other way in.
            let joined = nacre.run(&["exec", "-w", &cwd, "box", "busybox", "cat", &secret]);
            assert_ne!(joined.code, 0, "{cwd}: {joined:?}");
            assert!(joined.said().contains("chdir to cwd"), "{joined:?}");
            // The host's program would be there to be overwritten, by /proc/self/exe of the process that it became.
            let found = format!("{cwd}/{program}");
            let started = run(&nacre, &["work:1", &found, "true"]);
            assert_eq!(started.code, 127, "{found}: {started:?}");
            let joined = nacre.run(&["exec", "box", &found, "true"]);
            assert_eq!(joined.code, 127, "{found}: {joined:?}");
        }
    }
    let fds = nacre.ok(&["exec", "box", "sh", "-c", "busybox ls /proc/self/fd"]);
    assert_eq!(
        fds.split_whitespace().collect::<Vec<_>>(),
        ["0", "1", "2", "3"]
    );
    nacre.ok(&["rm", "-f", "box"]);
}

/// The hard case of the one above, held open: a directory of the host that is the container's very root in another mount.
/// What looks for its name by inode numbers, as the C library does, takes it for the root.
#[test]
fn cve_2024_21626_the_root_in_another_mount_is_outside_of_the_root() {
    let nacre = image("work:1", |_| {});
    let seen = nacre.folder("seen");
    fs::write(nacre.path("secret"), "of the host").unwrap();
    nacre.ok(&[
        "run",
        "-d",
        "--name",
        "box",
        "--network",
        "none",
        "work:1",
        "busybox",
        "sleep",
        "1000",
    ]);
    let helper = nacre.path("mount.fuse.nacre");
    symlink(env!("CARGO_BIN_EXE_nacre"), &helper).unwrap();
    let mounted = patience::output(
        Command::new(&helper)
            .arg("box")
            .arg(&seen)
            .env("NACRE_ROOT", nacre.root())
            .env("NACRE_HOST", nacre.host()),
    );
    assert!(mounted.status.success(), "{mounted:?}");
    let pid = nacre.ok(&["inspect", "-f", "{{.State.Pid}}", "box"]);
    // A process of the host, at that directory, which those in the container see.
    let mut outside = Command::new("nsenter")
        .args(["-t", &pid, "-p", "busybox", "sleep", "987"])
        .current_dir(&seen)
        // What outlives a failed test must not hold the pipe that the tests' output goes into.
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // nsenter's child is the one; its number in the container is the last of those that it has.
    let children = format!("/proc/{0}/task/{0}/children", outside.id());
    let mut inside = String::new();
    eventually("the process is at its place", || {
        let child = fs::read_to_string(&children).unwrap_or_default();
        let status = fs::read_to_string(format!("/proc/{}/status", child.trim()));
        let status = status.unwrap_or_default();
        let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
        let own = numbers.and_then(|all| all.split_whitespace().next_back());
        inside = own.unwrap_or_default().to_owned();
        status.starts_with("Name:\tbusybox") && !inside.is_empty()
    });
    let cwd = format!("/proc/{inside}/cwd");
    let done = nacre.run(&["exec", "-w", &cwd, "box", "busybox", "cat", "../secret"]);
    assert_eq!(done.code, 126, "{done:?}");
    assert!(
        done.said().contains("outside of the container's root"),
        "{done:?}"
    );
    nacre.ok(&["exec", "box", "busybox", "kill", &inside]);
    patience::exit(&mut outside, "nsenter");
    nacre.ok(&["umount", seen.to_str().unwrap()]);
    nacre.ok(&["rm", "-f", "box"]);
}

#[test]
fn cve_2019_5736_the_program_of_the_host_cannot_be_written_through_proc() {
    let program = Path::new(env!("CARGO_BIN_EXE_nacre"));
    // Where there is no shim beside it, the service's is one.
    let hash = || {
        ["nacre", "nacred", "nacre-shim"].map(|name| {
            let program = fs::read(program.with_file_name(name));
            program.ok().map(Sha256::digest)
        })
    };
    let before = hash();
    let nacre = image("evil:1", |rootfs| {
        symlink("/proc/self/exe", rootfs.join("self")).unwrap();
        fs::write(rootfs.join("script"), "#!/proc/self/exe\n").unwrap();
        fs::set_permissions(
            rootfs.join("script"),
            std::os::unix::fs::PermissionsExt::from_mode(0o755),
        )
        .unwrap();
    });
    // What runs as the container's first process is of the container, or is not run.
    for command in ["/proc/self/exe", "/self", "/script", "/proc/1/exe"] {
        let done = run(&nacre, &["evil:1", command, "--version"]);
        assert_ne!(done.code, 0, "{command}: {done:?}");
    }
    let overwrite = "for pid in 1 self; do (echo x > /proc/$pid/exe) 2>/dev/null && echo written; done; busybox true";
    nacre.ok(&[
        "run",
        "-d",
        "--name",
        "box",
        "--network",
        "none",
        "evil:1",
        "busybox",
        "sleep",
        "100",
    ]);
    for _ in 0..5 {
        // The moment of the attack: what joins the container is still ours.
        let grab = "for n in 1 2 3 4 5 6 7 8 9; do for p in /proc/[0-9]*; do (echo x > $p/exe) 2>/dev/null && echo written $p; done; done; true";
        assert_eq!(nacre.ok(&["exec", "box", "sh", "-c", grab]), "");
        assert_eq!(nacre.ok(&["exec", "box", "sh", "-c", overwrite]), "");
        let done = nacre.run(&["exec", "box", "/self"]);
        assert_ne!(done.code, 0, "{done:?}");
    }
    nacre.ok(&["rm", "-f", "box"]);
    assert_eq!(hash(), before, "the program was changed");
}

#[test]
fn cve_2025_31133_what_masks_a_path_is_no_link_of_the_image() {
    // Also CVE-2025-52565, the same by /dev/console and /dev/pts/0.
    let nacre = image("masks:1", |rootfs| {
        fs::create_dir(rootfs.join("dev")).unwrap();
        fs::create_dir(rootfs.join("dev/pts")).unwrap();
        for name in ["null", "console", "pts/0", "ptmx", "zero"] {
            symlink(
                "/proc/sys/kernel/core_pattern",
                rootfs.join("dev").join(name),
            )
            .unwrap();
        }
    });
    let pattern = fs::read("/proc/sys/kernel/core_pattern").unwrap();
    let script = "for f in null zero; do busybox stat -c '%F' /dev/$f; done; if [ -e /proc/kcore ]; then busybox wc -c < /proc/kcore; else echo 0; fi; \
                  (echo '|/evil' > /proc/sys/kernel/core_pattern) 2>/dev/null || echo kept; echo x > /dev/null; \
                  (echo '|/evil' > /dev/console) 2>/dev/null; busybox true";
    let done = run(&nacre, &["masks:1", "sh", "-c", script]);
    assert_eq!(
        done.stdout, "character special file\ncharacter special file\n0\nkept\n",
        "{done:?}"
    );
    let done = run(&nacre, &["-t", "masks:1", "sh", "-c", script]);
    assert!(done.stdout.contains("kept"), "{done:?}");
    assert_eq!(fs::read("/proc/sys/kernel/core_pattern").unwrap(), pattern);
}

#[test]
fn cve_2023_25173_a_user_has_no_groups_but_his_own() {
    // Also CVE-2024-40635: no number of a user wraps around to root's.
    let nacre = image("groups:1", |rootfs| {
        fs::create_dir(rootfs.join("etc")).unwrap();
        fs::write(
            rootfs.join("etc/passwd"),
            "root:x:0:0::/:/bin/sh\nu:x:1000:1000::/:/bin/sh\n",
        )
        .unwrap();
        fs::write(
            rootfs.join("etc/group"),
            "root:x:0:\nu:x:1000:\nextra:x:2000:u\n",
        )
        .unwrap();
    });
    let groups = "busybox grep ^Groups: /proc/self/status";
    let done = run(&nacre, &["-u", "u", "groups:1", "sh", "-c", groups]);
    assert_eq!(
        done.stdout.split_whitespace().collect::<Vec<_>>(),
        ["Groups:", "1000", "2000"]
    );
    let done = run(&nacre, &["-u", "1234:1234", "groups:1", "sh", "-c", groups]);
    assert_eq!(
        done.stdout.split_whitespace().collect::<Vec<_>>(),
        ["Groups:", "1234"]
    );
    for user in [
        "4294967296",
        "4294967295",
        "-1",
        "18446744073709551616",
        "0x0",
        "1000:4294967296",
    ] {
        let done = run(
            &nacre,
            &["-u", user, "groups:1", "sh", "-c", "busybox id -u"],
        );
        assert_ne!(done.code, 0, "{user}: {done:?}");
        assert_eq!(done.stdout, "", "{user}");
    }
}

#[test]
fn cve_2021_41089_a_pull_and_a_container_change_no_mode_of_the_host() {
    let victim = tempfile::tempdir().unwrap();
    fs::set_permissions(
        victim.path(),
        std::os::unix::fs::PermissionsExt::from_mode(0o711),
    )
    .unwrap();
    let nacre = image("modes:1", |rootfs| {
        symlink(victim.path(), rootfs.join("data")).unwrap()
    });
    let shared = nacre.folder("shared");
    run(
        &nacre,
        &[
            "-v",
            &format!("{}:/data/x", shared.display()),
            "modes:1",
            "sh",
            "-c",
            "exit 0",
        ],
    );
    assert_eq!(entries(victim.path()), 0);
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(
            &fs::metadata(victim.path()).unwrap().permissions()
        ) & 0o7777,
        0o711
    );
    // CVE-2021-41091: nobody else walks the store.
    for dir in ["blobs", "archives", "uppers", "db"] {
        let mode = fs::metadata(nacre.root().join(dir)).unwrap().permissions();
        let mode = std::os::unix::fs::PermissionsExt::mode(&mode) & 0o077;
        assert_eq!(mode, 0, "{dir}: {mode:o}");
    }
}

/// A registry that has one manifest and asks for a password; what it was asked is kept.
struct Fixed {
    address: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Fixed {
    fn start(blobs: Vec<(String, &'static str, Vec<u8>)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (kept, blobs) = (asked.clone(), Arc::new(blobs));
        // It ends with the test's process.
        std::thread::spawn(move || {
            for mut client in listener.incoming().flatten() {
                let (asked, blobs) = (kept.clone(), blobs.clone());
                std::thread::spawn(move || {
                    let mut request = vec![0; 16384];
                    let Ok(got) = client.read(&mut request) else {
                        return;
                    };
                    let text = String::from_utf8_lossy(&request[..got]).into_owned();
                    asked.lock().unwrap().push(text.clone());
                    let path = text.split(' ').nth(1).unwrap_or_default();
                    let found = blobs.iter().find(|(end, ..)| path.ends_with(end.as_str()));
                    let has_password = text.to_lowercase().contains("authorization: basic");
                    let (status, kind, body) = match found {
                        _ if !has_password => (
                            "401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"",
                            "text/plain",
                            &b""[..],
                        ),
                        Some((_, kind, body)) => ("200 OK", *kind, body.as_slice()),
                        None if path == "/v2/" => ("200 OK", "text/plain", &b""[..]),
                        None => ("404 Not Found", "text/plain", &b""[..]),
                    };
                    let head = format!(
                        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                        body.len()
                    );
                    let body = if text.starts_with("HEAD") {
                        &b""[..]
                    } else {
                        body
                    };
                    // A client that went away has seen enough.
                    drop(
                        client
                            .write_all(head.as_bytes())
                            .and_then(|()| client.write_all(body)),
                    );
                });
            }
        });
        Self { address, asked }
    }
}

/// Logs in by the file that docker would have written.
fn with_password(nacre: &Nacre, address: &str) {
    let folder = nacre.folder("docker-config");
    let config = json!({"auths": {address: {"auth": "dXNlcjpzZWNyZXQ="}}});
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
}

const OCI: &str = "application/vnd.oci.image.manifest.v1+json";

#[test]
fn cve_2020_15157_a_foreign_url_gets_no_password_and_is_not_asked_for_an_ordinary_layer() {
    let asked = Arc::new(Mutex::new(String::new()));
    let foreign_host = TcpListener::bind("127.0.0.1:0").unwrap();
    let foreign = foreign_host.local_addr().unwrap();
    let keeps = asked.clone();
    std::thread::spawn(move || {
        for mut client in foreign_host.incoming().flatten() {
            let mut request = [0; 4096];
            let len = client.read(&mut request).unwrap_or(0);
            *keeps.lock().unwrap() += &String::from_utf8_lossy(&request[..len]);
            // What asks for a password is what the advisory is about.
            let refusal = "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            client.write_all(refusal.as_bytes()).ok();
        }
    });
    for (kind, is_foreign) in [
        ("application/vnd.oci.image.layer.v1.tar+gzip", false),
        (
            "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
            true,
        ),
        (
            "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
            true,
        ),
    ] {
        let hash = |bytes: &[u8]| format!("sha256:{}", hex::encode(Sha256::digest(bytes)));
        let layer = hash(b"elsewhere");
        let config = json!({"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": [layer]}}).to_string();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": OCI,
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": hash(config.as_bytes()), "size": config.len()},
            "layers": [{"mediaType": kind, "digest": layer, "size": 9, "urls": [format!("http://{foreign}/layer")]}],
        })
        .to_string();
        let registry = Fixed::start(vec![
            ("manifests/latest".to_owned(), OCI, manifest.into_bytes()),
            (
                hash(config.as_bytes()),
                "application/octet-stream",
                config.into_bytes(),
            ),
        ]);
        let nacre = Nacre::new();
        with_password(&nacre, &registry.address);
        let done = nacre.run(&["pull", &format!("{}/x", registry.address)]);
        assert_eq!(done.code, 1, "{done:?}");
        let of_registry = registry.asked.lock().unwrap().join("\n");
        assert!(
            of_registry.contains(&layer),
            "the layer must have been asked for: {of_registry}"
        );
        let of_foreign = std::mem::take(&mut *asked.lock().unwrap()).to_lowercase();
        assert_eq!(of_foreign.contains("get /layer"), is_foreign, "{kind}");
        assert!(!of_foreign.contains("authorization"), "{of_foreign}");
        assert_eq!(nacre.ok(&["image", "ls", "-aq"]), "");
        nacre.check();
    }
}

#[test]
fn cve_2021_41190_what_can_be_read_in_two_ways_is_refused() {
    let index = "application/vnd.oci.image.index.v1+json";
    let descriptor =
        json!({"mediaType": OCI, "digest": format!("sha256:{}", "0".repeat(64)), "size": 1});
    let both =
        json!({"schemaVersion": 2, "config": descriptor, "layers": [], "manifests": [descriptor]});
    let typed = |kind: &str| {
        let mut typed = both.clone();
        typed["mediaType"] = json!(kind);
        typed
    };
    let image = json!({"schemaVersion": 2, "mediaType": OCI, "config": descriptor, "layers": []});
    for (what, kind, document) in [
        ("both, an image by its head", OCI, both.clone()),
        ("both, an index by its head", index, both.clone()),
        ("both, an image by itself", OCI, typed(OCI)),
        ("an image that is sent as an index", index, image),
        (
            "an index that is sent as an image",
            OCI,
            json!({"schemaVersion": 2, "mediaType": index, "manifests": []}),
        ),
    ] {
        let registry = Fixed::start(vec![(
            "manifests/latest".to_owned(),
            kind,
            document.to_string().into_bytes(),
        )]);
        let nacre = Nacre::new();
        with_password(&nacre, &registry.address);
        let done = nacre.run(&["pull", &format!("{}/x", registry.address)]);
        assert_eq!(done.code, 1, "{what}: {done:?}");
        assert!(done.stderr.contains("manifest"), "{what}: {done:?}");
        let asked = registry.asked.lock().unwrap().join("\n");
        assert!(!asked.contains("/blobs/"), "{what}: went on with {asked}");
        assert_eq!(nacre.ok(&["image", "ls", "-aq"]), "");
    }
}

/// What makes a mount's target makes it in a directory that others can change meanwhile: a volume that another container has
/// too. Wherever it ends up, it is in the container's own root.
#[test]
fn cve_2024_45310_a_volume_that_changes_meanwhile_leads_nowhere_outside() {
    let nacre = image("race:1", |_| {});
    let (shared, other, outside) = (
        nacre.folder("shared"),
        nacre.folder("other"),
        nacre.folder("outside"),
    );
    // Two names that change places all the time: a directory, and a link to one of the host's.
    let (name, link) = (shared.join("a"), shared.join("b"));
    fs::create_dir(&name).unwrap();
    symlink(&outside, &link).unwrap();
    let over = std::sync::atomic::AtomicBool::new(false);
    let exchange = rustix::fs::RenameFlags::EXCHANGE;
    let (volume, mut started) = (format!("{}:/v", shared.display()), 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let relaxed = std::sync::atomic::Ordering::Relaxed;
            while !over.load(relaxed) {
                rustix::fs::renameat_with(rustix::fs::CWD, &name, rustix::fs::CWD, &link, exchange)
                    .unwrap();
            }
        });
        for round in 0..crate::nacre::rounds(15) {
            let inner = format!("{}:/v/a/made{round}/here", other.display());
            let done = run(
                &nacre,
                &["-v", &volume, "-v", &inner, "race:1", "busybox", "true"],
            );
            started += u32::from(done.code == 0);
        }
        over.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert!(started > 0, "no round came as far as the target");
    let made: Vec<_> = fs::read_dir(&outside).unwrap().collect();
    assert!(made.is_empty(), "{made:?}");
    let made: Vec<_> = fs::read_dir(&other).unwrap().collect();
    assert!(made.is_empty(), "{made:?}");
}

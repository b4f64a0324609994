//! Images in and out: registry, OCI layouts, archives, names, history, removal.

use std::fs;
use std::path::Path;

use crate::nacre::{Nacre, oci_source, run_tool, test_image};
use crate::registry::Registry;
use crate::trees;

#[test]
fn pull_from_a_registry_prints_dockers_lines_and_the_name_last() {
    let (nacre, registry) = (Nacre::new(), Registry::start());
    let name = registry.serve("debian-min");
    let out = nacre.ok(&["pull", &name]);
    assert!(out.contains("Using default tag: latest"), "{out}");
    assert!(out.contains("latest: Pulling from debian-min"), "{out}");
    assert!(out.contains(": Pull complete"), "{out}");
    assert!(
        out.contains(&format!("Digest: {}", registry.digest("debian-min"))),
        "{out}"
    );
    assert!(
        out.contains(&format!("Status: Downloaded newer image for {name}:latest")),
        "{out}"
    );
    assert_eq!(out.lines().last(), Some(format!("{name}:latest").as_str()));

    let again = nacre.ok(&["pull", &name]);
    assert!(
        again.contains(&format!("Status: Image is up to date for {name}:latest")),
        "{again}"
    );
    assert_eq!(nacre.ok(&["pull", "-q", &name]), format!("{name}:latest"));

    let listed = nacre.ok(&["image", "ls"]);
    assert!(listed.starts_with("REPOSITORY "), "{listed}");
    assert!(listed.contains(&name), "{listed}");
    nacre.check();
}

#[test]
fn what_was_pulled_is_pushed_with_the_same_digest() {
    let (nacre, registry) = (Nacre::new(), Registry::start());
    let name = registry.serve("many-layers");
    nacre.ok(&["pull", "-q", &name]);
    let target = registry.name("copy/of:v1");
    nacre.ok(&["tag", "many-layers", &target]);
    let out = nacre.ok(&["push", &target]);
    assert!(
        out.contains(&format!(
            "v1: digest: {} size: ",
            registry.digest("many-layers")
        )),
        "{out}"
    );
    assert_eq!(
        registry.digest("copy/of:v1"),
        registry.digest("many-layers")
    );
    assert_eq!(
        registry.manifest("copy/of:v1"),
        registry.manifest("many-layers")
    );
    nacre.check();
}

#[test]
fn what_was_given_up_is_pushed_and_saved_rebuilt_and_pulled_anew_to_the_same_image() {
    let (mut nacre, registry) = (Nacre::new(), Registry::start());
    let name = registry.serve("many-layers");
    nacre.ok(&["pull", "-q", &name]);
    let id = nacre.ok(&["image", "ls", "-q", "--no-trunc"]);
    let before = used_bytes(&nacre);
    let said = nacre.ok(&["system", "reclaim", "-f"]);
    assert!(said.starts_with("Removed archives: "), "{said}");
    assert!(!said.starts_with("Removed archives: 0"), "{said}");
    assert_eq!(
        fs::read_dir(nacre.root().join("archives")).unwrap().count(),
        0
    );
    assert!(used_bytes(&nacre) < before);
    nacre.check();

    // The same configuration and files, compressed anew: an ID is what stays.
    let target = registry.name("copy/of:v1");
    nacre.ok(&["tag", "many-layers", &target]);
    nacre.ok(&["push", &target]);
    assert_ne!(
        registry.digest("copy/of:v1"),
        registry.digest("many-layers")
    );
    let saved = nacre.path("saved.tar");
    nacre.ok(&["save", "-o", saved.to_str().unwrap(), "many-layers"]);
    // What is in the store is not fetched again for its wrapping.
    nacre.ok(&["pull", "-q", &name]);
    let other = Nacre::new();
    other.ok(&["pull", "-q", &target]);
    assert_eq!(other.ok(&["image", "ls", "-q", "--no-trunc"]), id);
    other.ok(&["load", "-i", saved.to_str().unwrap()]);
    other.check();

    // A store that was told to keeps none.
    let third = nacre.path("third");
    nacre.set("NACRE_ROOT", third.to_str().unwrap());
    nacre.set("NACRE_KEEP_ARCHIVES", "false");
    nacre.ok(&["pull", "-q", &name]);
    assert_eq!(nacre.ok(&["image", "ls", "-q", "--no-trunc"]), id);
    assert_eq!(fs::read_dir(third.join("archives")).unwrap().count(), 0);
    assert!(nacre.ok(&["info"]).contains("keep-archives: false"));
    nacre.ok(&["service", "--stop"]);
}

#[test]
fn what_was_pulled_is_saved_with_the_same_blobs_and_loads_elsewhere() {
    let (nacre, other) = (Nacre::new(), Nacre::new());
    nacre.ok(&["pull", "-q", &oci_source("many-layers")]);
    nacre.ok(&["tag", "many-layers", "kept:1"]);
    let file = nacre.path("kept.tar");
    nacre.ok(&["save", "-o", file.to_str().unwrap(), "kept:1"]);

    let saved = nacre.folder("saved");
    run_tool(
        "tar",
        &["-xf", file.to_str().unwrap(), "-C", saved.to_str().unwrap()],
    );
    let blobs = |root: &Path| {
        let mut names: Vec<_> = fs::read_dir(root.join("blobs/sha256"))
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        names.sort();
        names
    };
    let (original, saved) = (blobs(&test_image("many-layers")), blobs(&saved));
    for blob in &original {
        assert!(
            saved.contains(blob),
            "{blob:?} must be saved under its digest"
        );
    }

    let out = other.ok(&["load", "-i", file.to_str().unwrap()]);
    assert!(out.contains("Loaded image: kept:1"), "{out}");
    assert_eq!(out.lines().last(), Some("kept:1"));
    let id = |nacre: &Nacre| nacre.ok(&["image", "ls", "-q", "--no-trunc", "kept:1"]);
    assert_eq!(id(&nacre), id(&other));
    run_tool(
        "skopeo",
        &[
            "--insecure-policy",
            "inspect",
            &format!("docker-archive:{}:kept:1", file.display()),
        ],
    );
    other.check();
}

#[test]
fn load_reads_a_docker_archive_from_a_pipe() {
    let nacre = Nacre::new();
    let file = nacre.path("skopeo.tar");
    let source = format!("oci:{}:latest", test_image("many-layers").display());
    run_tool(
        "skopeo",
        &[
            "--insecure-policy",
            "copy",
            "-q",
            &source,
            &format!("docker-archive:{}:piped:2", file.display()),
        ],
    );
    let done = nacre.run_with_input(&["load"], &fs::read(&file).unwrap());
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(done.stdout.lines().last(), Some("piped:2"));
    let by_name = nacre.ok(&["pull", &format!("docker-archive:{}", file.display())]);
    assert!(
        by_name.lines().last().unwrap().contains("piped:2"),
        "{by_name}"
    );
    nacre.check();
}

#[test]
fn import_makes_an_image_of_a_root_filesystem() {
    let nacre = Nacre::new();
    let rootfs = nacre.folder("rootfs");
    fs::create_dir(rootfs.join("bin")).unwrap();
    fs::copy("/bin/busybox", rootfs.join("bin/busybox")).unwrap();
    let file = nacre.path("rootfs.tar");
    run_tool(
        "tar",
        &[
            "-cf",
            file.to_str().unwrap(),
            "-C",
            rootfs.to_str().unwrap(),
            ".",
        ],
    );
    let out = nacre.ok(&[
        "import",
        "-c",
        "CMD [\"/bin/busybox\", \"echo\", \"imported\"]",
        file.to_str().unwrap(),
        "base:1",
    ]);
    assert!(out.lines().last().unwrap().starts_with("sha256:"), "{out}");
    let done = nacre.run(&["run", "--rm", "--network", "none", "base:1"]);
    assert_eq!(
        (done.code, done.stdout.as_str()),
        (0, "imported\n"),
        "{}",
        done.stderr
    );
    assert!(nacre.ok(&["history", "base:1"]).contains("Imported from -"));
}

#[test]
fn image_rm_frees_what_nothing_else_needs() {
    let nacre = Nacre::new();
    nacre.ok(&["pull", "-q", &oci_source("debian-min")]);
    let one = used_bytes(&nacre);
    nacre.ok(&["pull", "-q", &oci_source("many-layers")]);
    let out = nacre.ok(&["image", "rm", "many-layers"]);
    assert_eq!(
        out.lines()
            .filter(|line| line.starts_with("Untagged: "))
            .count(),
        2,
        "the tag and the digest: {out}"
    );
    // The image and its 30 layers; the one below belongs to debian-min too.
    assert_eq!(
        out.lines()
            .filter(|line| line.starts_with("Deleted: sha256:"))
            .count(),
        31,
        "{out}"
    );
    nacre.check();
    let out = nacre.ok(&["rmi", "debian-min"]);
    assert_eq!(
        out.lines()
            .filter(|line| line.starts_with("Deleted: sha256:"))
            .count(),
        2,
        "{out}"
    );
    nacre.check();
    let left = used_bytes(&nacre);
    assert!(
        left < one / 4,
        "after removing everything {left} of {one} bytes are left"
    );
}

fn used_bytes(nacre: &Nacre) -> u64 {
    let out = run_tool(
        "du",
        &["-s", "--block-size=1", nacre.root().to_str().unwrap()],
    );
    out.split_whitespace().next().unwrap().parse().unwrap()
}

/// Both say the same of what tells its age: ours is asked between two of docker's that are alike.
fn said_alike(docker: &dyn Fn(&[&str]) -> String, nacre: &Nacre, args: &[&str]) {
    for _ in 0..50 {
        let (before, ours, after) = (docker(args), nacre.ok(args), docker(args));
        if before == after {
            return assert_eq!(before.trim_end_matches('\n'), ours);
        }
    }
    panic!("docker {args:?} says something else each time");
}

#[test]
fn docker_the_client_reads_what_the_service_says() {
    if !Path::new("/usr/local/bin/docker").exists() && !Path::new("/usr/bin/docker").exists() {
        eprintln!("skipped: no docker client on this machine");
        return;
    }
    let nacre = Nacre::new();
    nacre.ok(&["pull", "-q", &oci_source("debian-min")]);
    let host = nacre.host();
    let docker = |args: &[&str]| run_tool("docker", &[&["-H", &host], args].concat());
    assert_eq!(
        docker(&["images"]).trim_end_matches('\n'),
        nacre.ok(&["images"])
    );
    assert_eq!(
        docker(&[
            "run",
            "--rm",
            "--network",
            "host",
            "debian-min",
            "echo",
            "from docker"
        ]),
        "from docker\n"
    );
    docker(&[
        "run",
        "-d",
        "--network",
        "host",
        "--name",
        "web",
        "debian-min",
        "sh",
        "-c",
        "echo log; echo x > /new; sleep 1000",
    ]);
    assert_eq!(docker(&["logs", "web"]), "log\n");
    assert_eq!(docker(&["exec", "web", "cat", "/new"]), "x\n");
    assert_eq!(docker(&["diff", "web"]), "A /new\n");
    assert_eq!(
        docker(&["diff", "web"]).trim_end_matches('\n'),
        nacre.ok(&["diff", "web"])
    );
    assert!(docker(&["commit", "web", "site:2"]).starts_with("sha256:"));
    said_alike(&docker, &nacre, &["ps", "-a"]);
    said_alike(&docker, &nacre, &["history", "site:2"]);
    docker(&["rm", "-f", "web"]);
}

#[test]
fn a_saved_image_unpacks_with_umoci_to_the_mounted_tree() {
    let nacre = Nacre::new();
    nacre.ok(&["pull", "-q", &oci_source("many-layers")]);
    nacre.ok(&["tag", "many-layers", "kept:1"]);
    let (file, layout) = (nacre.path("kept.tar"), nacre.folder("layout"));
    nacre.ok(&["save", "-o", file.to_str().unwrap(), "kept:1"]);
    run_tool(
        "tar",
        &[
            "-xf",
            file.to_str().unwrap(),
            "-C",
            layout.to_str().unwrap(),
        ],
    );
    let copy = format!("oci:{}:latest", nacre.path("copy").display());
    run_tool(
        "skopeo",
        &[
            "--insecure-policy",
            "copy",
            "-q",
            &format!("docker-archive:{}:kept:1", file.display()),
            &copy,
        ],
    );
    let bundle = nacre.path("bundle");
    run_tool(
        "umoci",
        &[
            "unpack",
            "--image",
            &format!("{}:latest", nacre.path("copy").display()),
            bundle.to_str().unwrap(),
        ],
    );
    let point = nacre.folder("view");
    nacre.ok(&["mount", "--read-only", "kept:1", point.to_str().unwrap()]);
    trees::assert_same(
        "saved and unpacked",
        &trees::list(&bundle.join("rootfs")),
        &trees::list(&point),
    );
}

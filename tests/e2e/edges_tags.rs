//! All tags of a repository, one platform of it, and what a registry has under a name: as docker says it.

use std::fs;

use crate::nacre::{Nacre, run_tool};
use crate::registry::Registry;

/// Three tags of two images, in the store under the registry's name for `app`.
fn tagged(nacre: &Nacre, registry: &Registry) -> String {
    let name = registry.name("app");
    for (image, tags) in [("one", &["1", "latest"][..]), ("two", &["2"])] {
        let folder = nacre.folder(image);
        fs::write(folder.join(image), image).unwrap();
        let tar = nacre.packed(&folder);
        let id = nacre.ok(&["import", &tar]);
        for tag in tags {
            nacre.ok(&["tag", &id, &format!("{name}:{tag}")]);
        }
    }
    name
}

#[test]
fn all_tags_go_out_and_come_in_as_docker_tells_it() {
    let (nacre, registry) = (Nacre::new(), Registry::start());
    let name = tagged(&nacre, &registry);
    let said = nacre.ok(&["push", "-a", &name]);
    let refers = format!("The push refers to repository [{name}]");
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.first(), Some(&refers.as_str()), "{said}");
    assert_eq!(said.matches("The push refers to").count(), 1, "{said}");
    let digests: Vec<String> = ["1", "2", "latest"]
        .map(|tag| registry.digest(&format!("app:{tag}")))
        .into();
    let ends: Vec<&&str> = lines
        .iter()
        .filter(|line| line.contains(": digest: "))
        .collect();
    assert_eq!(ends.len(), 3, "{said}");
    for (line, (tag, digest)) in ends.iter().zip(["1", "2", "latest"].iter().zip(&digests)) {
        let start = format!("{tag}: digest: {digest} size: ");
        assert!(line.starts_with(&start), "{said}");
    }
    // What docker's clients read beside the words.
    assert_eq!(nacre.ok(&["push", "-q", "-a", &name]), name);
    nacre.fails(
        &["push", "-a", &format!("{name}:1")],
        1,
        "tag can't be used with --all-tags/-a",
    );
    nacre.fails(
        &["pull", "-a", &format!("{name}:1")],
        1,
        "tag can't be used with --all-tags/-a",
    );

    let other = Nacre::new();
    let said = other.ok(&["pull", "-a", &name]);
    // In the registry's order, which is any.
    let first = said.lines().next().unwrap_or_default();
    assert!(first.ends_with(": Pulling from app"), "{said}");
    for (tag, digest) in ["1", "2", "latest"].iter().zip(&digests) {
        assert!(
            said.contains(&format!("{tag}: Pulling from app\n")),
            "{said}"
        );
        assert!(said.contains(&format!("Digest: {digest}\n")), "{said}");
    }
    let end = format!("Status: Downloaded newer image for {name}\n{name}");
    assert!(said.ends_with(&end), "{said}");
    assert_eq!(said.matches("Status: ").count(), 1, "{said}");
    let again = other.ok(&["pull", "-a", &name]);
    let end = format!("Status: Image is up to date for {name}\n{name}");
    assert!(again.ends_with(&end), "{again}");
    let format = "{{.Repository}}:{{.Tag}}";
    let mut named: Vec<String> = other
        .ok(&["images", "--format", format])
        .lines()
        .map(str::to_owned)
        .collect();
    named.sort();
    assert_eq!(
        named,
        ["1", "2", "latest"].map(|tag| format!("{name}:{tag}"))
    );
    other.check();
}

#[test]
fn what_is_not_there_is_not_pushed_and_a_platform_must_fit() {
    let (nacre, registry) = (Nacre::new(), Registry::start());
    let name = tagged(&nacre, &registry);
    for (args, words) in [
        (
            ["push", registry.name("none").as_str()],
            format!(
                "An image does not exist locally with the tag: {}",
                registry.name("none")
            ),
        ),
        (
            ["push", format!("{name}:9").as_str()],
            format!("tag does not exist: {name}:9"),
        ),
    ] {
        let failed = nacre.fails(&args, 1, &words);
        assert!(
            failed.stdout.contains("The push refers to repository ["),
            "{failed:?}"
        );
    }
    let one = format!("{name}:1");
    let words = format!("image with reference {one} was found but its platform (linux/");
    let failed = nacre.fails(&["push", "--platform", "linux/s390x", &one], 1, &words);
    let end = "does not match the specified platform (linux/s390x)";
    assert!(failed.stderr.contains(end), "{failed:?}");
    let own = nacre.ok(&["inspect", "-f", "{{.Os}}/{{.Architecture}}", &one]);
    nacre.ok(&["push", "--platform", &own, &one]);
    nacre.check();
}

#[test]
fn a_registry_is_asked_what_it_has_without_a_pull() {
    let (nacre, registry) = (Nacre::new(), Registry::start());
    let name = tagged(&nacre, &registry);
    nacre.ok(&["push", "-a", &name]);
    let socket = nacre.path("nacre.sock").display().to_string();
    let inspect = |name: &str| -> serde_json::Value {
        let url = format!("http://nacre/v1.50/distribution/{name}/json");
        let said = run_tool("curl", &["-s", "--unix-socket", &socket, &url]);
        serde_json::from_str(&said).unwrap()
    };
    let (found, digest) = (inspect(&format!("{name}:1")), registry.digest("app:1"));
    assert_eq!(found["Descriptor"]["digest"], digest);
    let manifest = "application/vnd.docker.distribution.manifest.v2+json";
    assert_eq!(found["Descriptor"]["mediaType"], manifest);
    assert!(
        found["Descriptor"]["size"].as_u64().unwrap() > 100,
        "{found}"
    );
    let own = nacre.ok(&["inspect", "-f", "{{.Architecture}}", &format!("{name}:1")]);
    assert_eq!(
        found["Platforms"],
        serde_json::json!([{"architecture": own, "os": "linux"}])
    );
    assert_eq!(
        inspect(&format!("{name}@{digest}"))["Descriptor"],
        found["Descriptor"]
    );
    let missing = inspect(&format!("{name}:9"));
    let words = format!("manifest for {name}:9 not found: manifest unknown: manifest unknown");
    assert_eq!(missing["message"], words);

    // An index, with what no image of ours is for.
    let index = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [
            {"mediaType": manifest, "digest": digest, "size": found["Descriptor"]["size"],
             "platform": {"architecture": "arm64", "os": "linux", "variant": "v8"}},
            {"mediaType": manifest, "digest": digest, "size": found["Descriptor"]["size"],
             "platform": {"architecture": "amd64", "os": "windows", "os.version": "10.0"}},
        ],
    });
    let media_type = index["mediaType"].as_str().unwrap();
    registry.put_manifest("app", "all", media_type, &index.to_string());
    let found = inspect(&format!("{name}:all"));
    assert_eq!(found["Descriptor"]["mediaType"], media_type);
    let platforms = serde_json::json!([
        {"architecture": "arm64", "os": "linux", "variant": "v8"},
        {"architecture": "amd64", "os": "windows", "os.version": "10.0"},
    ]);
    assert_eq!(found["Platforms"], platforms);
}

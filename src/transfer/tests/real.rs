//! Against a real registry and other people's tools: the images of build-images.sh, docker-registry, skopeo, umoci.
//! Ignored, because they need what a machine may not have; `cargo test -- --ignored real` runs them.

#![expect(clippy::print_stderr, reason = "a manual check, run for its figures")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use super::*;
use crate::reference::Reference;
use crate::registry::{Client, Credentials, Settings};

const REGISTRY: &str = "127.0.0.1:5000";
const IMAGES: &str = "/work/bench/images";

fn client() -> Client {
    Client::new(REGISTRY, Credentials::Anonymous, Settings::default()).unwrap()
}

fn run(program: &str, args: &[&str]) -> String {
    let out = Command::new(program).args(args).output().unwrap();
    assert!(
        out.status.success(),
        "{program} {args:?}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    String::from_utf8(out.stdout).unwrap()
}

/// The manifest's digest and the layers' as skopeo sees them.
fn inspected(name: &str) -> (String, Vec<String>) {
    let text = run("skopeo", &["inspect", "--tls-verify=false", name]);
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    let layers = value["Layers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|layer| layer.as_str().unwrap().to_owned());
    (
        value["Digest"].as_str().unwrap_or_default().to_owned(),
        layers.collect(),
    )
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a registry on 127.0.0.1:5000, skopeo and umoci"]
async fn real_images_go_round_unchanged() {
    for name in ["debian-min", "many-layers", "python-app"] {
        let (store, told, scratch) = (
            TempStore::new(),
            Told::default(),
            tempfile::tempdir().unwrap(),
        );
        let from = Reference::parse(&format!("{REGISTRY}/{name}")).unwrap();
        let began = Instant::now();
        let pulled = pull(
            &store.store,
            &client(),
            &from,
            None,
            &Downloads::default(),
            told.arc(),
        )
        .await
        .unwrap();
        eprintln!("pull {name}: {:?}", began.elapsed());
        store.assert_whole();

        let to = Reference::parse(&format!("{REGISTRY}/round/{name}:x")).unwrap();
        store.store.tag(&to.to_string(), &pulled.image).unwrap();
        let pushed = push(&store.store, &client(), &to, None, told.arc())
            .await
            .unwrap();
        assert_eq!(pushed.digest, pulled.digest);
        let was = inspected(&format!("docker://{REGISTRY}/{name}"));
        assert_eq!(
            inspected(&format!("docker://{REGISTRY}/round/{name}:x")),
            was
        );

        let archive = scratch.path().join("saved.tar");
        let saved = ToSave {
            image: pulled.image,
            names: vec![to.clone()],
        };
        save(
            &store.store,
            &[saved],
            std::fs::File::create(&archive).unwrap(),
        )
        .unwrap();
        let archive = archive.to_str().unwrap();
        assert_eq!(inspected(&format!("oci-archive:{archive}")), was);
        let docker = inspected(&format!("docker-archive:{archive}"));
        assert_eq!(docker.1.len(), was.1.len());
        let layout = scratch.path().join("layout");
        std::fs::create_dir(&layout).unwrap();
        run("tar", &["-xf", archive, "-C", layout.to_str().unwrap()]);
        run(
            "umoci",
            &[
                "stat",
                "--image",
                &format!("{}:x", layout.to_str().unwrap()),
            ],
        );

        let other = TempStore::new();
        let loaded = load(
            &other.store,
            std::fs::File::open(archive).unwrap(),
            None,
            &told,
        )
        .unwrap();
        assert_eq!(loaded[0].image, pulled.image);
        let manifest = other.store.image(&pulled.image).unwrap().unwrap().manifest;
        assert_eq!(manifest, Some(pulled.digest));
        let layout =
            pull_oci_layout(&TempStore::new().store, &layout, Some("x"), None, &told).unwrap();
        assert_eq!(layout.image, pulled.image);
    }
}

#[test]
#[ignore = "needs the images of build-images.sh"]
fn real_docker_archives_load_through_a_pipe() {
    for name in ["debian-min", "many-layers", "python-app"] {
        let store = TempStore::new();
        let path: PathBuf = Path::new(IMAGES).join(format!("{name}.docker.tar"));
        let mut cat = Command::new("cat")
            .arg(path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let began = Instant::now();
        let loaded = load(
            &store.store,
            cat.stdout.take().unwrap(),
            None,
            &Told::default(),
        )
        .unwrap();
        eprintln!("load {name}: {:?} {:?}", began.elapsed(), loaded[0].lines());
        assert!(cat.wait().unwrap().success());
        store.assert_whole();
        let layout = pull_oci_layout(
            &store.store,
            &Path::new(IMAGES).join(name),
            None,
            None,
            &Told::default(),
        )
        .unwrap();
        eprintln!("layout {name}: {:?}", layout.reference);
        store.assert_whole();
    }
}

//! Save, load and layouts.

use std::path::Path;

use nacre_store::{ImageId, NewImage, RawManifest, RefUpdate};

use super::*;
use crate::reference::Reference;
use crate::registry::{Platform, media};

/// An image of two layers, in all the forms that archives have.
struct Sample {
    plain: Vec<u8>,
    packed: Vec<u8>,
    config: Vec<u8>,
    manifest: Vec<u8>,
}

impl Sample {
    fn new() -> Sample {
        let (plain, top) = (tar(&[("a", b"1")]), big_tar(9));
        let packed = gzip(&top);
        let config = format!(
            r#"{{"os":"linux","architecture":"{}","rootfs":{{"type":"layers","diff_ids":["{}","{}"]}}}}"#,
            Platform::host().architecture,
            Digest::of(&plain),
            Digest::of(&top)
        );
        let of = |media_type: &str, bytes: &[u8]| {
            format!(
                r#"{{"mediaType":"{media_type}","digest":"{}","size":{}}}"#,
                Digest::of(bytes),
                bytes.len()
            )
        };
        let manifest = format!(
            "{{\"schemaVersion\":2, \"mediaType\":\"{}\",\n\"config\":{},\"layers\":[{},{}]}}",
            media::OCI_MANIFEST,
            of(media::OCI_CONFIG, config.as_bytes()),
            of(media::OCI_LAYER, &plain),
            of(media::OCI_LAYER_GZIP, &packed)
        );
        Sample {
            plain,
            packed,
            config: config.into_bytes(),
            manifest: manifest.into_bytes(),
        }
    }

    fn id(&self) -> ImageId {
        ImageId(Digest::of(&self.config))
    }

    fn index(&self, annotations: &str) -> Vec<u8> {
        let digest = Digest::of(&self.manifest);
        let size = self.manifest.len();
        let entry = format!(
            r#"{{"mediaType":"{}","digest":"{digest}","size":{size},"annotations":{{{annotations}}}}}"#,
            media::OCI_MANIFEST
        );
        format!(r#"{{"schemaVersion":2,"manifests":[{entry}]}}"#).into_bytes()
    }

    /// Puts it into a store, under a name.
    fn publish(&self, to: &TempStore, name: &str) {
        let layers = [&self.plain, &self.packed]
            .map(|layer| import_rootfs(&to.store, layer.as_slice()).unwrap());
        let manifest = RawManifest {
            media_type: media::OCI_MANIFEST.to_owned(),
            bytes: self.manifest.clone(),
        };
        let new = NewImage {
            config: self.config.clone(),
            manifest: Some(manifest),
            layers: layers.into(),
            refs: vec![RefUpdate {
                name: name.to_owned(),
            }],
            parent: None,
        };
        to.store.publish(new, &|_| ()).unwrap();
    }

    fn blobs(&self) -> Vec<(String, Vec<u8>)> {
        [&self.plain, &self.packed, &self.config, &self.manifest]
            .map(|blob| {
                (
                    format!("blobs/sha256/{}", Digest::of(blob).hex()),
                    blob.clone(),
                )
            })
            .into()
    }
}

fn reference(text: &str) -> Reference {
    Reference::parse(text).unwrap()
}

fn load_bytes(to: &TempStore, archive: &[u8]) -> Result<Vec<Loaded>> {
    load(&to.store, OneByOne(archive), None, &Told::default())
}

/// A pipe that gives little at a time.
struct OneByOne<'a>(&'a [u8]);

impl Read for OneByOne<'_> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let count = buf.len().min(1000);
        self.0.read(&mut buf[..count])
    }
}

fn files(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let files: Vec<(&str, &[u8])> = files
        .iter()
        .map(|(path, content)| (path.as_str(), content.as_slice()))
        .collect();
    tar(&files)
}

#[test]
fn what_was_saved_is_loaded_with_its_digests() {
    let (from, to, sample) = (TempStore::new(), TempStore::new(), Sample::new());
    sample.publish(&from, "docker.io/library/app:1");
    let names = vec![reference("app:1"), reference("example.com/app:2")];
    let mut archive = Vec::new();
    save(
        &from.store,
        &[ToSave {
            image: sample.id(),
            names: names.clone(),
        }],
        &mut archive,
    )
    .unwrap();
    let mut again = Vec::new();
    save(
        &from.store,
        &[ToSave {
            image: sample.id(),
            names: names.clone(),
        }],
        &mut again,
    )
    .unwrap();
    assert!(archive == again, "the same images give the same archive");

    let loaded = load_bytes(&to, &archive).unwrap();
    assert_eq!(loaded.len(), 1);
    assert_eq!(loaded[0].image, sample.id());
    assert_eq!(
        loaded[0].lines(),
        ["Loaded image: app:1", "Loaded image: example.com/app:2"]
    );
    let image = to.store.image(&sample.id()).unwrap().unwrap();
    assert_eq!(
        to.store
            .manifest(&image.manifest.unwrap())
            .unwrap()
            .unwrap()
            .bytes,
        sample.manifest
    );
    let archives: Vec<Digest> = image
        .layers
        .iter()
        .map(|layer| layer.archive.unwrap().0.0)
        .collect();
    assert_eq!(
        archives,
        [Digest::of(&sample.plain), Digest::of(&sample.packed)]
    );
    let digested = format!("docker.io/library/app@{}", Digest::of(&sample.manifest));
    assert!(to.names().contains(&digested), "{:?}", to.names());
    to.assert_whole();
}

#[test]
fn images_made_here_are_saved_and_loaded() {
    let (from, to) = (TempStore::new(), TempStore::new());
    let rootfs = gzip(&big_tar(11));
    let layer = import_rootfs(&from.store, rootfs.as_slice()).unwrap();
    let config = format!(
        r#"{{"os":"linux","rootfs":{{"diff_ids":["{}"]}}}}"#,
        layer.diff
    )
    .into_bytes();
    let image = ImageId(Digest::of(&config));
    let new = NewImage {
        config,
        manifest: None,
        layers: vec![layer],
        refs: Vec::new(),
        parent: None,
    };
    from.store.publish(new, &|_| ()).unwrap();
    let mut archive = Vec::new();
    save(
        &from.store,
        &[ToSave {
            image,
            names: Vec::new(),
        }],
        &mut archive,
    )
    .unwrap();
    let loaded = load_bytes(&to, &archive).unwrap();
    assert_eq!(loaded[0].lines(), [format!("Loaded image ID: {image}")]);
}

#[test]
fn dockers_old_layout_loads_whatever_comes_first() {
    let sample = Sample::new();
    let config = format!("{}.json", sample.id().0.hex());
    let manifest = format!(
        r#"[{{"Config":"{config}","RepoTags":["old/app:1"],"Layers":["one/layer.tar","two/layer.tar"]}}]"#
    );
    let mut entries = vec![
        ("two/VERSION".to_owned(), b"1.0".to_vec()),
        ("two/json".to_owned(), b"{}".to_vec()),
        ("top.tar".to_owned(), big_tar(9)),
        ("one/layer.tar".to_owned(), sample.plain.clone()),
        (config, sample.config.clone()),
        ("manifest.json".to_owned(), manifest.into_bytes()),
        ("repositories".to_owned(), b"{}".to_vec()),
    ];
    for turn in 0..2 {
        let to = TempStore::new();
        let mut writer = Writer::new(files_writer(&entries));
        writer
            .append(
                &entry(
                    "two/layer.tar",
                    EntryKind::Symlink(Box::from(*b"../top.tar")),
                ),
                std::io::empty(),
            )
            .unwrap();
        let archive = writer.finish().unwrap();
        let loaded = load_bytes(&to, &archive).unwrap();
        assert_eq!(
            loaded[0].lines(),
            ["Loaded image: old/app:1"],
            "turn {turn}"
        );
        assert_eq!(loaded[0].image, sample.id());
        to.assert_whole();
        entries.reverse();
    }
}

/// The entries of a tar without its end, to be gone on with.
fn files_writer(entries: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut archive = files(entries);
    archive.truncate(archive.len() - 1024);
    archive
}

#[test]
fn archives_may_be_compressed_as_a_whole() {
    let (from, sample) = (TempStore::new(), Sample::new());
    sample.publish(&from, "docker.io/library/app:1");
    let mut archive = Vec::new();
    save(
        &from.store,
        &[ToSave {
            image: sample.id(),
            names: vec![reference("app:1")],
        }],
        &mut archive,
    )
    .unwrap();
    for packed in [
        gzip(&archive),
        zstd::encode_all(archive.as_slice(), 1).unwrap(),
    ] {
        let to = TempStore::new();
        assert_eq!(load_bytes(&to, &packed).unwrap()[0].image, sample.id());
    }
}

#[test]
fn an_oci_archive_loads_under_the_name_that_its_index_says() {
    let sample = Sample::new();
    let table = [
        (
            r#""io.containerd.image.name":"docker.io/library/x:1","org.opencontainers.image.ref.name":"1""#,
            "Loaded image: x:1",
        ),
        (
            r#""org.opencontainers.image.ref.name":"x:2""#,
            "Loaded image: x:2",
        ),
    ];
    for (annotations, line) in table {
        let to = TempStore::new();
        let mut entries = sample.blobs();
        entries.push(("index.json".to_owned(), sample.index(annotations)));
        entries.push(("oci-layout".to_owned(), b"{}".to_vec()));
        let loaded = load_bytes(&to, &files(&entries)).unwrap();
        assert_eq!(loaded[0].lines(), [line]);
    }
    let to = TempStore::new();
    let mut entries = sample.blobs();
    entries.push((
        "index.json".to_owned(),
        sample.index(r#""org.opencontainers.image.ref.name":"latest""#),
    ));
    let loaded = load_bytes(&to, &files(&entries)).unwrap();
    assert_eq!(
        loaded[0].lines(),
        [format!("Loaded image ID: {}", sample.id())]
    );
}

#[test]
fn a_name_that_moves_is_told_of() {
    let (to, sample) = (TempStore::new(), Sample::new());
    let layer = import_rootfs(&to.store, tar(&[]).as_slice()).unwrap();
    let config = format!(
        r#"{{"os":"linux","rootfs":{{"diff_ids":["{}"]}}}}"#,
        layer.diff
    )
    .into_bytes();
    let old = ImageId(Digest::of(&config));
    let refs = vec![RefUpdate {
        name: "docker.io/library/x:2".to_owned(),
    }];
    to.store
        .publish(
            NewImage {
                config,
                manifest: None,
                layers: vec![layer],
                refs,
                parent: None,
            },
            &|_| (),
        )
        .unwrap();
    let mut entries = sample.blobs();
    entries.push((
        "index.json".to_owned(),
        sample.index(r#""org.opencontainers.image.ref.name":"x:2""#),
    ));
    let lines = load_bytes(&to, &files(&entries)).unwrap()[0].lines();
    let moved =
        format!("The image x:2 already exists, renaming the old one with ID {old} to empty string");
    assert_eq!(lines, [moved, "Loaded image: x:2".to_owned()]);
}

#[test]
fn bad_archives_are_refused_and_leave_nothing() {
    let sample = Sample::new();
    let with_index = |mut entries: Vec<(String, Vec<u8>)>| {
        entries.push(("index.json".to_owned(), sample.index("")));
        files(&entries)
    };
    let whole = with_index(sample.blobs());
    let without_layer = with_index(sample.blobs().into_iter().skip(1).collect());
    let without_config = with_index(
        sample
            .blobs()
            .into_iter()
            .enumerate()
            .filter(|(n, _)| *n != 2)
            .map(|(_, b)| b)
            .collect(),
    );
    let mut swapped = sample.blobs();
    swapped[0].1 = tar(&[("evil", b"2")]);
    let item = r#"[{"Config":"c.json","RepoTags":["Bad:1"],"Layers":[]}]"#;
    let scratch = br#"{"rootfs":{"diff_ids":[]}}"#;
    let bad_tag = files(&[
        ("c.json".to_owned(), scratch.to_vec()),
        ("manifest.json".to_owned(), item.into()),
    ]);
    let table = [
        ("nothing", Vec::new(), "image archive"),
        (
            "garbage",
            b"this is no archive".repeat(100),
            "image archive",
        ),
        (
            "an empty tar",
            tar(&[]),
            "neither a manifest.json nor an index.json",
        ),
        (
            "a root filesystem",
            tar(&[("etc/passwd", b"root")]),
            "neither a manifest.json nor an index.json",
        ),
        ("cut", whole[..whole.len() / 2].to_vec(), "image archive"),
        ("no layer", without_layer, "which is not in it"),
        ("no config", without_config, "is not in it"),
        ("another layer", with_index(swapped), "digest mismatch"),
        ("a bad tag", bad_tag, "must be lowercase"),
        (
            "no item",
            files(&[("manifest.json".to_owned(), b"[]".to_vec())]),
            "no image",
        ),
        (
            "a lying item",
            files(&[("manifest.json".to_owned(), b"{}".to_vec())]),
            "manifest.json",
        ),
    ];
    for (what, archive, words) in table {
        let to = TempStore::new();
        let error = load_bytes(&to, &archive).unwrap_err();
        assert!(error.to_string().contains(words), "{what}: {error}");
        to.assert_empty();
    }
}

/// An archive can have hundreds of files: an error says which one it is about.
#[test]
fn an_error_about_an_archive_names_the_file() {
    let sample = Sample::new();
    let blobs = sample.blobs();
    let index = ("index.json".to_owned(), sample.index(""));
    // Each file in turn has another content than its name says.
    for (at, (path, content)) in blobs.iter().enumerate() {
        let mut entries = blobs.clone();
        entries[at].1 = [content.as_slice(), b" "].concat();
        entries.push(index.clone());
        let to = TempStore::new();
        let error = load_bytes(&to, &files(&entries)).unwrap_err();
        let start = format!("invalid image archive: {path}: ");
        assert!(error.to_string().starts_with(&start), "{error}");
        assert_eq!(error.status(), 400);
        to.assert_empty();
    }

    // Files in the names of older archives, which promise nothing: damaged, not the image's, and refused on what is below.
    let twice = tar(&[("b", b"2")]);
    let mut orphan = Writer::new(Vec::new());
    let target = EntryKind::HardLink(vec![FileName::new(b"nothing").unwrap()]);
    orphan
        .append(&entry("link", target), std::io::empty())
        .unwrap();
    let orphan = orphan.finish().unwrap();
    let table = [
        (
            "damaged",
            sample.packed[..sample.packed.len() - 20].to_vec(),
            "gzip",
        ),
        ("another", twice, "layer digest mismatch: expected sha256:"),
        ("orphan", orphan.clone(), "layer entry \"/link\" of sha256:"),
    ];
    for (what, top, words) in table {
        let diff = if what == "orphan" {
            Digest::of(&orphan)
        } else {
            Digest::of(&big_tar(9))
        };
        let config = format!(
            r#"{{"os":"linux","rootfs":{{"diff_ids":["{}","{diff}"]}}}}"#,
            Digest::of(&sample.plain)
        );
        let manifest = r#"[{"Config":"c.json","Layers":["one/layer.tar","two/layer.tar"]}]"#;
        let to = TempStore::new();
        let archive = files(&[
            ("one/layer.tar".to_owned(), sample.plain.clone()),
            ("two/layer.tar".to_owned(), top),
            ("c.json".to_owned(), config.into_bytes()),
            ("manifest.json".to_owned(), manifest.into()),
        ]);
        let error = load_bytes(&to, &archive).unwrap_err();
        let start = "invalid image archive: two/layer.tar: ";
        assert!(error.to_string().starts_with(start), "{what}: {error}");
        assert!(error.to_string().contains(words), "{what}: {error}");
        assert_eq!(error.status(), 400);
        to.assert_empty();
    }

    // The pipe's own damage, in the middle of a file.
    let archive = files(&[("two/layer.tar".to_owned(), sample.packed)]);
    let packed = gzip(&archive);
    for cut in [&packed[..packed.len() / 2], &archive[..archive.len() / 2]] {
        let error = load_bytes(&TempStore::new(), cut).unwrap_err();
        assert!(error.to_string().contains("two/layer.tar"), "{error}");
    }
}

fn layout(dir: &Path, sample: &Sample, annotations: &str) {
    std::fs::create_dir_all(dir.join("blobs/sha256")).unwrap();
    for (path, content) in sample.blobs() {
        std::fs::write(dir.join(path), content).unwrap();
    }
    std::fs::write(dir.join("index.json"), sample.index(annotations)).unwrap();
}

#[test]
fn a_layout_is_pulled_and_named_after_its_directory() {
    let (to, sample, dir, told) = (
        TempStore::new(),
        Sample::new(),
        tempfile::tempdir().unwrap(),
        Told::default(),
    );
    let dir = dir.path().join("my-image");
    layout(
        &dir,
        &sample,
        r#""org.opencontainers.image.ref.name":"1.2""#,
    );
    let pulled = pull_oci_layout(&to.store, &dir, Some("1.2"), None, &told).unwrap();
    assert_eq!(pulled.reference.unwrap().familiar(), "my-image:1.2");
    assert_eq!(pulled.image, sample.id());
    assert_eq!(to.names()[0], "docker.io/library/my-image:1.2");
    assert!(
        told.has(&format!("{}: Pull complete", short(&sample.packed))),
        "{:?}",
        told.lines()
    );
    to.assert_whole();

    let error = pull_oci_layout(&to.store, &dir, Some("2"), None, &told).unwrap_err();
    assert!(
        error.to_string().ends_with("no image \"2\"; it has 1.2"),
        "{error}"
    );
    let error = pull_oci_layout(&to.store, &dir.join("nowhere"), None, None, &told).unwrap_err();
    assert_eq!(error.status(), 404, "{error}");
}

#[test]
fn a_damaged_layout_leaves_nothing() {
    let (sample, told) = (Sample::new(), Told::default());
    for (index, (path, content)) in sample.blobs().into_iter().enumerate() {
        let (to, dir) = (TempStore::new(), tempfile::tempdir().unwrap());
        layout(dir.path(), &sample, "");
        let mut damaged = content.clone();
        damaged[20] ^= 1;
        std::fs::write(dir.path().join(&path), damaged).unwrap();
        let error = pull_oci_layout(&to.store, dir.path(), None, None, &told).unwrap_err();
        assert!(
            error.to_string().contains("mismatch"),
            "blob {index}: {error}"
        );
        std::fs::remove_file(dir.path().join(&path)).unwrap();
        assert!(
            pull_oci_layout(&to.store, dir.path(), None, None, &told).is_err(),
            "blob {index}"
        );
        to.assert_empty();
    }
}

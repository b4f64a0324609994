//! Layers of real and of crafted images: read, rebuilt bit for bit, and read as the `tar` crate reads them.

use std::path::{Path, PathBuf};
use std::time::Instant;

use super::*;
use crate::archive::inflate;

fn json(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The files of the layers of an OCI layout with one image, bottom first.
fn layers(layout: &Path) -> Vec<PathBuf> {
    let blob = |descriptor: &serde_json::Value| {
        layout.join("blobs/sha256").join(
            descriptor["digest"]
                .as_str()
                .unwrap()
                .trim_start_matches("sha256:"),
        )
    };
    let manifest = json(&blob(&json(&layout.join("index.json"))["manifests"][0]));
    manifest["layers"]
        .as_array()
        .unwrap()
        .iter()
        .map(blob)
        .collect()
}

fn inflated(layer: &Path) -> Vec<u8> {
    let mut archive = Vec::new();
    let source = std::fs::File::open(layer).unwrap();
    inflate(source, &Limits::default())
        .unwrap()
        .read_to_end(&mut archive)
        .unwrap();
    archive
}

#[test]
fn layers_of_all_cases_are_read_and_rebuilt() {
    let Some(cases) = oci_cases() else { return };
    let mut count = 0;
    for case in std::fs::read_dir(cases).unwrap() {
        for layer in layers(&case.unwrap().path().join("oci")) {
            read(&inflated(&layer));
            count += 1;
        }
    }
    assert!(count >= 58, "{count} layers");
}

/// The entries of each layer of a case, in few words.
fn case(name: &str) -> Option<Vec<Vec<String>>> {
    let layout = oci_cases()?.join(name).join("oci");
    let brief = |(entry, content): &Member| {
        let (name, content) = (spell(entry), String::from_utf8_lossy(content).into_owned());
        let kind = match &entry.kind {
            EntryKind::File {
                size,
                extents: None,
            } => format!("{size} {content}"),
            EntryKind::File {
                size,
                extents: Some(runs),
            } => format!("{size} in {} runs", runs.len()),
            EntryKind::HardLink(target) => {
                format!(
                    "= {}",
                    target
                        .iter()
                        .map(ToString::to_string)
                        .collect::<Vec<_>>()
                        .join("/")
                )
            }
            other => format!("{other:?}"),
        };
        format!("{name}: {kind}")
    };
    Some(
        layers(&layout)
            .iter()
            .map(|layer| read(&inflated(layer)).iter().map(brief).collect())
            .collect(),
    )
}

#[test]
fn cases_say_what_their_documents_say() {
    let last = |name: &str| case(name).map(|layers| layers.last().unwrap().clone());
    let Some(aufs) = last("aufs-metadata") else {
        return;
    };
    assert_eq!(aufs, [".wh..wh.plnk/1.2: 1 p", "real: 1 1"]);
    assert_eq!(last("contiguous-type7").unwrap(), ["c7: 1 7", "c0: 1 0"]);
    assert_eq!(last("wh-double-prefix").unwrap(), [".foo: Whiteout"]);
    assert_eq!(last("opaque-root").unwrap()[0], ": Opaque");
    assert_eq!(last("dotdot-inside").unwrap(), ["a: Dir", "b: 1 1"]);
    assert_eq!(last("hardlink-abs").unwrap()[1..], ["b: = a", "c: = a"]);
    assert_eq!(last("sparse-gnu").unwrap(), ["sp: 2097152 in 2 runs"]);
    assert_eq!(last("sparse-pax").unwrap().len(), 1);
    assert!(case("empty-layer").unwrap().contains(&Vec::new()));
    assert_eq!(last("pax-global").unwrap().len(), 1);
}

/// Reads the same archive with the `tar` crate and compares what both say of each entry.
fn compare_with_tar_crate(archive: &[u8], members: &[Member]) {
    let mut other = tar::Archive::new(archive);
    let mut count = 0;
    for (theirs, (ours, content)) in other.entries().unwrap().zip(members) {
        let mut theirs = theirs.unwrap();
        count += 1;
        let name = String::from_utf8_lossy(&theirs.path_bytes()).into_owned();
        let clean = name.trim_start_matches("./").trim_matches('/').to_owned();
        match &ours.kind {
            EntryKind::Whiteout => assert_eq!(clean.replace(".wh.", ""), spell(ours)),
            EntryKind::Opaque => assert!(clean.ends_with(".wh..wh..opq"), "{clean}"),
            _ => assert_eq!(clean, spell(ours)),
        }
        let header = theirs.header();
        assert_eq!(
            header.mode().unwrap() & 0o7777,
            u32::from(ours.mode),
            "{clean}"
        );
        assert_eq!(
            (header.uid().unwrap(), header.gid().unwrap()),
            (ours.uid.into(), ours.gid.into()),
            "{clean}"
        );
        assert_eq!(
            header.mtime().unwrap(),
            u64::try_from(ours.mtime.seconds).unwrap(),
            "{clean}"
        );
        if let EntryKind::File { .. } = ours.kind {
            let mut bytes = Vec::new();
            theirs.read_to_end(&mut bytes).unwrap();
            assert!(bytes == *content, "{clean}");
        }
    }
    assert_eq!(count, members.len());
}

/// Takes minutes and the images of the benchmark (`build-images.sh`): run by hand, with `NACRE_BENCH_IMAGES`.
#[test]
#[ignore = "needs the benchmark's images; prints figures"]
fn layers_of_real_images_are_read_and_rebuilt() {
    let Some(images) = std::env::var_os("NACRE_BENCH_IMAGES") else {
        return eprintln!("skipped: NACRE_BENCH_IMAGES names no directory");
    };
    for image in std::fs::read_dir(images).unwrap() {
        let layout = image.unwrap().path();
        if !layout.join("index.json").is_file() {
            continue;
        }
        for layer in layers(&layout) {
            let start = Instant::now();
            let archive = inflated(&layer);
            let inflate = start.elapsed();
            let start = Instant::now();
            let mut reader = Reader::new(archive.as_slice(), io::sink(), Limits::default());
            let mut buf = vec![0; 128 << 10];
            let mut entries = 0;
            while reader.next_entry().unwrap().is_some() {
                entries += 1;
                while reader.read_content(&mut buf).unwrap() > 0 {}
            }
            let parse = start.elapsed();
            let bytes = u32::try_from(archive.len()).unwrap();
            eprintln!(
                "{}: {entries} entries, {} MB, inflate {:.2} GB/s, parse {:.2} GB/s",
                layout.file_name().unwrap().display(),
                bytes / 1_000_000,
                f64::from(bytes) / inflate.as_secs_f64() / 1e9,
                f64::from(bytes) / parse.as_secs_f64() / 1e9,
            );
            compare_with_tar_crate(&archive, &read(&archive));
        }
    }
}

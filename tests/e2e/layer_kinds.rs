//! Layers in every form that registries hold: zstd:chunked and eStargz are read as the ordinary layers that they are, and a
//! media type that lies about the compression is not believed.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::nacre::{Nacre, run_tool};
use crate::registry::Registry;
use crate::trees;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
const PLAIN: &str = "application/vnd.oci.image.layer.v1.tar";
const DOCKER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";

/// A tar with small and large files, links, modes and times.
fn tar(nacre: &Nacre) -> Vec<u8> {
    let folder = nacre.folder("tree");
    fs::create_dir(folder.join("etc")).unwrap();
    for n in 0..50 {
        fs::write(
            folder.join(format!("etc/{n}")),
            format!("file {n}\n").repeat(n),
        )
        .unwrap();
    }
    let large: Vec<u8> = (0..3_000_000_u32).flat_map(|n| n.to_le_bytes()).collect();
    fs::write(folder.join("large"), large).unwrap();
    fs::hard_link(folder.join("large"), folder.join("etc/again")).unwrap();
    std::os::unix::fs::symlink("etc/7", folder.join("link")).unwrap();
    fs::read(nacre.packed(&folder)).unwrap()
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut out = GzEncoder::new(Vec::new(), Compression::default());
    out.write_all(content).unwrap();
    out.finish().unwrap()
}

/// The form of containers/storage: a frame for each chunk, then what tells where they are in frames that every other reader
/// skips, the last of them of a fixed length.
fn zstd_chunked(tar: &[u8]) -> Vec<u8> {
    let mut layer = Vec::new();
    for chunk in tar.chunks(64 << 10) {
        layer.extend(zstd::encode_all(chunk, 3).unwrap());
    }
    let toc = zstd::encode_all(&br#"{"version":1,"entries":[]}"#[..], 3).unwrap();
    let at = layer.len() as u64 + 8;
    let mut skipped = |content: &[u8]| {
        layer.extend(0x184D_2A50_u32.to_le_bytes());
        layer.extend(u32::try_from(content.len()).unwrap().to_le_bytes());
        layer.extend(content);
    };
    skipped(&toc);
    let mut footer = Vec::new();
    for number in [at, toc.len() as u64, 26, 1, 0, 0, 0] {
        footer.extend(number.to_le_bytes());
    }
    footer.extend(b"GNUlInUx");
    skipped(&footer);
    layer
}

/// The form of stargz-snapshotter: a gzip member for every few bytes, then a tar entry with the table of contents in a member
/// of its own, and an empty member of 51 bytes whose extra field says where that is. Returns the tar that it holds as well.
fn estargz(tar: &[u8]) -> (Vec<u8>, Vec<u8>) {
    // The entries without the zeros at the end, which come after the table.
    let end = tar.len() - tar.iter().rev().take_while(|byte| **byte == 0).count();
    let end = end.div_ceil(512) * 512;
    let mut plain = tar[..end].to_vec();
    let mut layer: Vec<u8> = plain.chunks(100_000).flat_map(gzip).collect();
    let at = layer.len();
    let toc = br#"{"version":1,"entries":[]}"#;
    let mut table = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_path("stargz.index.json").unwrap();
    header.set_size(toc.len() as u64);
    header.set_mode(0o444);
    header.set_cksum();
    table.append(&header, &toc[..]).unwrap();
    let table = table.into_inner().unwrap();
    plain.extend(&table);
    layer.extend(gzip(&table));
    let extra = format!("SG\x16\x00{at:016x}STARGZ");
    let mut footer = vec![0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 255, 26, 0];
    footer.extend(extra.as_bytes());
    footer.extend([1, 0, 0, 0xff, 0xff]);
    footer.extend([0; 8]);
    assert_eq!(footer.len(), 51);
    layer.extend(footer);
    (layer, plain)
}

/// Puts an image of one layer into a registry.
fn serve(registry: &Registry, name: &str, media_type: &str, layer: &[u8], plain: &[u8]) {
    let diff = nacre_store::Digest::of(plain);
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","config":{{}},"rootfs":{{"type":"layers","diff_ids":["{diff}"]}}}}"#
    );
    let id = registry.put_blob(name, config.as_bytes());
    let digest = registry.put_blob(name, layer);
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": id, "size": config.len()},
        "layers": [{
            "mediaType": media_type, "digest": digest, "size": layer.len(),
            "annotations": {"io.github.containers.zstd-chunked.manifest-position": "1:2:3:1"},
        }],
    });
    registry.put_manifest(name, "1", MANIFEST, &manifest.to_string());
}

/// What the host's tar makes of a plain archive.
fn unpacked(nacre: &Nacre, plain: &[u8]) -> std::path::PathBuf {
    let (file, folder) = (nacre.path("plain.tar"), nacre.path("expected"));
    if folder.exists() {
        fs::remove_dir_all(&folder).unwrap();
    }
    fs::create_dir(&folder).unwrap();
    fs::write(&file, plain).unwrap();
    let folder_text = folder.to_str().unwrap();
    run_tool(
        "tar",
        &[
            "-C",
            folder_text,
            "--same-owner",
            "-xpf",
            file.to_str().unwrap(),
        ],
    );
    folder
}

fn mounted(nacre: &Nacre, image: &str) -> std::collections::BTreeMap<std::path::PathBuf, String> {
    let point = nacre.folder("look");
    let text = point.to_str().unwrap();
    nacre.ok(&["mount", "--read-only", image, text]);
    let listing = trees::list(Path::new(text));
    nacre.ok(&["umount", text]);
    listing
}

#[test]
fn every_form_of_a_layer_gives_its_tree_and_goes_out_as_it_came() {
    let (nacre, registry, other) = (Nacre::new(), Registry::start(), Registry::start());
    let tar = tar(&nacre);
    let (stargz, with_table) = estargz(&tar);
    let zstd = zstd::encode_all(&tar[..], 3).unwrap();
    for (name, media_type, layer, plain) in [
        ("chunked", ZSTD, zstd_chunked(&tar), &tar),
        ("estargz", GZIP, stargz, &with_table),
        ("zstd", ZSTD, zstd.clone(), &tar),
        ("plain", PLAIN, tar.clone(), &tar),
        ("zstd-as-gzip", GZIP, zstd.clone(), &tar),
        ("zstd-as-dockers", DOCKER_GZIP, zstd, &tar),
        ("gzip-as-zstd", ZSTD, gzip(&tar), &tar),
        ("gzip-as-plain", PLAIN, gzip(&tar), &tar),
        ("plain-as-gzip", GZIP, tar.clone(), &tar),
    ] {
        serve(&registry, name, media_type, &layer, plain);
        let (from, to) = (registry.name(name) + ":1", other.name(name) + ":1");
        nacre.ok(&["pull", "-q", "--platform", "linux/amd64", &from]);
        let expected = trees::list(&unpacked(&nacre, plain));
        assert_eq!(mounted(&nacre, &from), expected, "{name}");
        nacre.ok(&["tag", &from, &to]);
        nacre.ok(&["push", &to]);
        let image = format!("{name}:1");
        assert_eq!(other.digest(&image), registry.digest(&image), "{name}");
        nacre.ok(&["rmi", &from, &to]);
        // Nothing of it is here any more: it must come from where it was pushed to.
        nacre.ok(&["pull", "-q", "--platform", "linux/amd64", &to]);
        assert_eq!(mounted(&nacre, &to), expected, "{name} again");
        nacre.ok(&["rmi", &to]);
        nacre.check();
    }
}

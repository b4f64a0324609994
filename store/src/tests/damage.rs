//! Damage of every kind is found by the check, and named.

use super::support::{TempStore, chain, image, layer};
use crate::blobs::count_key;
use crate::db::{Batch, Durability, Family};
use crate::{BlobId, Digest, Ino};

fn prepared() -> (TempStore, Vec<Vec<u8>>) {
    let store = TempStore::new();
    let large = format!("f large {}", "x".repeat(100_000));
    let tars = vec![layer(&["d etc", "f etc/a small", &large])];
    image(&store, &tars, "x:1").unwrap();
    assert_eq!(store.check().unwrap().faults, Vec::<String>::new());
    (store, tars)
}

/// Says whether some fault has all words.
fn finds(store: &TempStore, words: &[&str]) -> bool {
    let faults = store.check().unwrap().faults;
    faults
        .iter()
        .any(|fault| words.iter().all(|word| fault.contains(word)))
}

fn change(store: &TempStore, change: impl FnOnce(&mut Batch<'_>)) {
    let mut batch = store.inner.db.batch();
    change(&mut batch);
    batch.write(Durability::Synced).unwrap();
}

fn large_blob() -> BlobId {
    BlobId(Digest::of("x".repeat(100_000).as_bytes()))
}

#[test]
fn changed_and_missing_files_are_found() {
    let (store, _) = prepared();
    let path = store.inner.blobs.path(&large_blob());
    let content = std::fs::read(&path).unwrap();
    let mut changed = content.clone();
    changed[500] ^= 1;
    std::fs::write(&path, changed).unwrap();
    assert!(finds(
        &store,
        &["blob", &large_blob().to_string(), "another content"]
    ));
    std::fs::remove_file(&path).unwrap();
    assert!(finds(
        &store,
        &["blob", &large_blob().to_string(), "cannot open"]
    ));
    std::fs::write(&path, content).unwrap();
    std::fs::write(store.root().join("archives/stray"), "x").unwrap();
    assert!(finds(&store, &["archives/stray", "belongs to nothing"]));
}

#[test]
fn changed_small_content_is_found() {
    let (store, tars) = prepared();
    let small = BlobId(Digest::of(b"small"));
    let key = store
        .inventory()
        .into_iter()
        .filter(|k| k.starts_with("small "))
        .count();
    assert_eq!(key, 1);
    let mut keys = Vec::new();
    let mut scan = store.inner.db.scan(Family::Small, b"").unwrap();
    while let Some((key, _)) = scan.next().unwrap() {
        keys.push(key.to_vec());
    }
    drop(scan);
    change(&store, |batch| {
        batch.put(Family::Small, &keys[0], b"smalL").unwrap()
    });
    assert!(finds(
        &store,
        &["blob", &small.to_string(), "another digest"]
    ));
    assert!(finds(
        &store,
        &[
            "record",
            &Digest::of(&tars[0]).to_string(),
            "cannot be rebuilt"
        ]
    ));
}

#[test]
fn wrong_counts_are_found() {
    let (store, _) = prepared();
    change(&store, |batch| {
        batch
            .add(Family::Blobs, &count_key(&large_blob()), 2)
            .unwrap()
    });
    assert!(finds(
        &store,
        &[&large_blob().to_string(), "count is 3", "holders are 1"]
    ));
}

#[test]
fn missing_and_surplus_records_are_found() {
    let (store, tars) = prepared();
    let top = chain(&tars).unwrap();
    let tree = store.tree(Some(&top)).unwrap();
    let layer = tree.layers()[0];
    let etc = tree.dir(Ino::ROOT).unwrap().unwrap().entries[0].ino;
    drop(tree);
    let key = crate::tree::version_key(etc, layer);
    let value = store.inner.db.get(Family::Inodes, &key).unwrap().unwrap();
    let fresh = TempStore::new();
    drop(fresh);
    change(&store, |batch| {
        batch
            .put(
                Family::Inodes,
                &crate::tree::version_key(Ino(9999), layer),
                &value,
            )
            .unwrap()
    });
    assert!(finds(&store, &["layer number", "not in its changes"]));
    change(&store, |batch| {
        batch.put(Family::Inodes, &key, b"\x01garbage").unwrap()
    });
    assert!(finds(
        &store,
        &[
            &format!("inode {} of layer {}", etc.0, layer.0),
            "does not parse"
        ]
    ));
    change(&store, |batch| batch.delete_layer(&top).unwrap());
    assert!(finds(&store, &["image", &top.to_string(), "is not there"]));
    assert!(finds(&store, &["inode", "its layer is not there"]));
}

#[test]
fn names_and_manifests_without_images_are_found() {
    let (store, _) = prepared();
    let nobody = crate::ImageId(Digest::of(b"nobody"));
    change(&store, |batch| batch.put_name("lost:1", &nobody).unwrap());
    assert!(finds(&store, &["name lost:1", &nobody.to_string()]));
    let manifest = crate::RawManifest {
        media_type: "x".to_owned(),
        bytes: b"{}".to_vec(),
    };
    change(&store, |batch| {
        batch
            .put_manifest(&crate::ManifestId(Digest::of(b"{}")), &manifest)
            .unwrap()
    });
    assert!(finds(&store, &["manifest", "belongs to no image"]));
}

#[test]
fn damaged_records_are_errors_and_never_panic() {
    let (store, tars) = prepared();
    let diff = crate::DiffId(Digest::of(&tars[0]));
    let mut keys = Vec::new();
    let mut scan = store.inner.db.scan(Family::Records, b"").unwrap();
    while let Some((key, value)) = scan.next().unwrap() {
        keys.push((key.to_vec(), value.to_vec()));
    }
    drop(scan);
    for (key, value) in keys {
        let mut changed = value.clone();
        let last = changed.len() - 1;
        changed[last] ^= 0xff;
        change(&store, |batch| {
            batch.put(Family::Records, &key, &changed).unwrap()
        });
        assert!(finds(&store, &["record", &diff.to_string()]));
        change(&store, |batch| {
            batch.put(Family::Records, &key, &value).unwrap()
        });
    }
    assert_eq!(store.check().unwrap().faults, Vec::<String>::new());
}

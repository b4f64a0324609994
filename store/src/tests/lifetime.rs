//! What comes and goes: removal, sharing, holds, owners, formats.

use super::listing::summary;
use super::support::{TempStore, chain, image, layer};
use crate::{Error, Expected, Options, Store};

fn large(seed: &str) -> String {
    format!("f large {}", seed.repeat(100_000))
}

#[test]
fn removed_images_leave_an_empty_store() {
    let store = TempStore::new();
    let base = layer(&["d etc", "f etc/a 1", "f etc/b 1", &large("a")]);
    let one = image(&store, &[base.clone(), layer(&["f x 1", "w etc"])], "one:1").unwrap();
    let two = image(
        &store,
        &[base.clone(), layer(&["f x 2", &large("b")])],
        "two:1",
    )
    .unwrap();
    let shared = chain(&[base]).unwrap();
    let in_use = store.remove_image(&one);
    assert!(matches!(in_use, Err(Error::InUse { .. })), "{in_use:?}");
    store.untag("one:1").unwrap();
    let removed = store.remove_image(&one).unwrap();
    assert_eq!(removed.chains.len(), 1);
    assert!(
        !removed.chains.contains(&shared),
        "a shared layer was removed"
    );
    assert_eq!(removed.content_bytes, 1);
    assert_eq!(store.check().unwrap().faults, Vec::<String>::new());
    assert_eq!(
        summary(&store, &store.tree(Some(&shared)).unwrap()).len(),
        5
    );
    store.untag("two:1").unwrap();
    let removed = store.remove_image(&two).unwrap();
    assert_eq!(removed.chains.last(), Some(&shared), "top first");
    assert_eq!(store.inventory(), Vec::<String>::new());
    assert!(matches!(
        store.remove_image(&two),
        Err(Error::NotFound { .. })
    ));
}

#[test]
fn space_of_removed_small_files_goes_back_to_the_host() {
    let store = TempStore::new();
    let used = || {
        let files = std::fs::read_dir(store.root().join("db")).unwrap();
        files
            .map(|f| f.unwrap().metadata().unwrap().len())
            .sum::<u64>()
    };
    // Bytes that do not compress, in two images whose contents lie side by side.
    let noise = |seed: u64| {
        let mut state = seed;
        let mut lines = Vec::new();
        for i in 0..300 {
            let mut text = String::new();
            while text.len() < 30_000 {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                text.push_str(&hex::encode(state.to_be_bytes()));
            }
            lines.push(format!("f file-{i} {text}"));
        }
        layer(&lines.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let keep = image(&store, &[noise(1)], "keep:1").unwrap();
    let go = image(&store, &[noise(2)], "go:1").unwrap();
    store.flush().unwrap();
    let before = used();
    store.untag("go:1").unwrap();
    store.remove_image(&go).unwrap();
    let after = used();
    assert!(before > 10 << 20, "{before}");
    assert!(
        after < before * 6 / 10,
        "{before} bytes before, {after} after"
    );
    assert!(store.image(&keep).unwrap().is_some());
    assert_eq!(store.check().unwrap().faults, Vec::<String>::new());
}

#[test]
fn unpacked_layers_survive_until_swept() {
    let mut store = TempStore::new();
    let tar = layer(&["f a 1", &large("c")]);
    let unpacked = store
        .unpack(tar.as_slice(), &Expected::default(), &|_| {})
        .unwrap();
    let (archive, diff) = (unpacked.archive, unpacked.diff);
    store.sweep().unwrap();
    assert!(
        store.unpacked_by_diff(&diff).unwrap().is_some(),
        "swept while in use"
    );
    drop(unpacked);
    store.reopen();
    assert!(
        store.unpacked_by_archive(&archive).unwrap().is_some(),
        "a later pull would fetch it again"
    );
    store.sweep().unwrap();
    assert!(store.unpacked_by_archive(&archive).unwrap().is_none());
    assert_eq!(store.inventory(), Vec::<String>::new());
}

#[test]
fn trees_and_uppers_hold_their_layers() {
    let store = TempStore::new();
    let tars = [layer(&["f a 1"]), layer(&["f b 2"])];
    let id = image(&store, &tars, "x:1").unwrap();
    let (bottom, top) = (chain(&tars[..1]), chain(&tars));
    let tree = store.tree(top.as_ref()).unwrap();
    store.untag("x:1").unwrap();
    assert_eq!(store.remove_image(&id).unwrap().chains, []);
    assert_eq!(summary(&store, &tree), ["d .", "f a 1", "f b 2"]);
    let upper = store.create_upper(bottom.as_ref()).unwrap();
    drop(tree);
    assert_eq!(store.sweep().unwrap().chains, Vec::from_iter(top));
    let upper_id = upper.id();
    drop(upper);
    assert_eq!(store.sweep().unwrap().chains, []);
    assert_eq!(store.check().unwrap().faults, Vec::<String>::new());
    store.remove_upper(upper_id).unwrap();
    assert_eq!(store.sweep().unwrap().chains, Vec::from_iter(bottom));
    assert_eq!(store.inventory(), Vec::<String>::new());
}

#[test]
fn second_owner_is_told_who_the_first_is() {
    let store = TempStore::new();
    match Store::open(&store.root(), Options::default()) {
        Err(Error::Owned { pid, .. }) => assert_eq!(pid, std::process::id()),
        other => panic!("{:?}", other.err()),
    }
}

#[test]
fn other_formats_are_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    drop(Store::open(dir.path(), Options::default()).unwrap());
    for other in ["0", "3", "17"] {
        std::fs::write(dir.path().join("format"), other).unwrap();
        match Store::open(dir.path(), Options::default()) {
            Err(
                error @ Error::Format {
                    found, supported, ..
                },
            ) => {
                assert_eq!((found.to_string().as_str(), supported), (other, 2));
                assert!(
                    error.to_string().contains("this program reads format 2"),
                    "{error}"
                );
            }
            other => panic!("{:?}", other.err()),
        }
        assert_eq!(
            std::fs::read_to_string(dir.path().join("format")).unwrap(),
            other
        );
    }
    // What an older program wrote is read, and then no older program's any more.
    let format = dir.path().join("format");
    std::fs::write(&format, "1\n").unwrap();
    drop(Store::open(dir.path(), Options::default()).unwrap());
    assert_eq!(std::fs::read_to_string(&format).unwrap(), "2\n");
    std::fs::remove_file(&format).unwrap();
    assert!(matches!(
        Store::open(dir.path(), Options::default()),
        Err(Error::Corrupt { .. })
    ));
}

#[test]
fn documents_are_kept_by_kind_and_key() {
    use crate::DocumentKind::{Container, Mount};
    let mut store = TempStore::new();
    store.put_document(Container, "b", b"2").unwrap();
    store.put_document(Container, "a", b"1").unwrap();
    store.put_document(Mount, "a", b"m").unwrap();
    store.put_document(Container, "a", b"3").unwrap();
    store.reopen();
    let all = |kind| store.documents(kind).unwrap();
    assert_eq!(
        all(Container),
        [
            ("a".to_owned(), b"3".to_vec()),
            ("b".to_owned(), b"2".to_vec())
        ]
    );
    assert_eq!(all(Mount), [("a".to_owned(), b"m".to_vec())]);
    store.remove_document(Container, "a").unwrap();
    assert_eq!(all(Container), [("b".to_owned(), b"2".to_vec())]);
}

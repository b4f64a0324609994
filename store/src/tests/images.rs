//! Images and names.

use super::support::{TempStore, config, image, layer};
use crate::{Digest, Error, Expected, ImageId, NewImage, RawManifest, RefUpdate};

#[test]
fn image_comes_back_as_it_was_published() {
    let mut store = TempStore::new();
    let tars = [layer(&["f a 1"]), layer(&["f b 22"]), layer(&["f a 1"])];
    let layers: Vec<_> = tars
        .iter()
        .map(|t| {
            store
                .unpack(t.as_slice(), &Expected::default(), &|_| {})
                .unwrap()
        })
        .collect();
    let diffs: Vec<_> = layers.iter().map(|l| l.diff).collect();
    let manifest = RawManifest {
        media_type: "application/x".to_owned(),
        bytes: b"{ \"odd\" :1}".to_vec(),
    };
    let new = NewImage {
        config: config(&diffs, "one"),
        manifest: Some(manifest.clone()),
        layers,
        refs: ["b:1", "a:1"]
            .map(|name| RefUpdate {
                name: name.to_owned(),
            })
            .into(),
        parent: None,
    };
    let config = new.config.clone();
    let applied = std::cell::RefCell::new(Vec::new());
    let id = store
        .publish(new, &|i| applied.borrow_mut().push(i))
        .unwrap();
    assert_eq!(applied.into_inner(), [0, 1, 2]);
    assert_eq!(id, ImageId(Digest::of(&config)));
    store.reopen();
    let image = store.image(&id).unwrap().unwrap();
    assert_eq!(image.config, config);
    assert_eq!(image.refs, ["a:1", "b:1"]);
    assert_eq!(
        image.layers.iter().map(|l| l.diff).collect::<Vec<_>>(),
        diffs
    );
    assert_eq!(
        image
            .layers
            .iter()
            .map(|l| l.content_bytes)
            .collect::<Vec<_>>(),
        [1, 2, 1]
    );
    assert_eq!(image.chain, image.layers.last().map(|l| l.chain));
    assert_eq!(
        store.manifest(&image.manifest.unwrap()).unwrap(),
        Some(manifest)
    );
    assert!(image.tagged_at > 1_600_000_000_000_000_000);
    assert_eq!(store.check().unwrap().faults, Vec::<String>::new());
}

#[test]
fn image_without_layers_is_legal() {
    let store = TempStore::new();
    let id = image(&store, &[], "empty:1").unwrap();
    let image = store.image(&id).unwrap().unwrap();
    assert_eq!((image.chain, image.layers.len()), (None, 0));
}

#[test]
fn names_move_and_go() {
    let store = TempStore::new();
    let one = image(&store, &[layer(&["f a 1"])], "x:1").unwrap();
    let two = image(&store, &[layer(&["f a 2"])], "x:2").unwrap();
    assert_eq!(store.tag("x:1", &two).unwrap(), Some(one));
    assert_eq!(store.tag("x:3", &two).unwrap(), None);
    assert_eq!(store.resolve("x:1").unwrap(), Some(two));
    assert_eq!(
        store.image(&one).unwrap().unwrap().refs,
        Vec::<String>::new()
    );
    assert_eq!(
        store.image(&two).unwrap().unwrap().refs,
        ["x:1", "x:2", "x:3"]
    );
    assert_eq!(store.untag("x:2").unwrap(), Some(two));
    assert_eq!(store.untag("x:2").unwrap(), None);
    assert_eq!(store.resolve("x:2").unwrap(), None);
    let nobody = ImageId(Digest::of(b""));
    assert!(matches!(
        store.tag("x:4", &nobody),
        Err(Error::NotFound { .. })
    ));
    for name in ["", "a\nb", &"x".repeat(2000)] {
        assert!(
            matches!(store.tag(name, &one), Err(Error::Invalid { .. })),
            "{name:?}"
        );
    }
}

#[test]
fn images_are_listed_newest_first() {
    let store = TempStore::new();
    for (created, comment) in [
        ("2020-01-01T00:00:00Z", "old"),
        ("2024-01-01T00:00:00+01:00", "new"),
        ("?", "odd"),
    ] {
        let config = serde_json::json!({ "created": created, "comment": comment, "rootfs": { "diff_ids": [] } });
        let config = serde_json::to_vec(&config).unwrap();
        let new = NewImage {
            config,
            manifest: None,
            layers: vec![],
            refs: vec![],
            parent: None,
        };
        store.publish(new, &|_| {}).unwrap();
    }
    let comments: Vec<String> = store
        .images()
        .unwrap()
        .iter()
        .map(|i| {
            serde_json::from_slice::<serde_json::Value>(&i.config).unwrap()["comment"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    assert_eq!(comments, ["new", "old", "odd"]);
}

#[test]
fn configurations_that_do_not_fit_are_refused() {
    let store = TempStore::new();
    let unpack = |tar: &[u8]| store.unpack(tar, &Expected::default(), &|_| {}).unwrap();
    let (one, two) = (layer(&["f a 1"]), layer(&["f a 2"]));
    let (one_diff, two_diff) = (unpack(&one).diff, unpack(&two).diff);
    let before = store.inventory();
    let publish = |config: Vec<u8>, layers| {
        store.publish(
            NewImage {
                config,
                manifest: None,
                layers,
                refs: vec![],
                parent: None,
            },
            &|_| {},
        )
    };
    let refused = publish(config(&[one_diff, two_diff], "few"), vec![unpack(&one)]);
    assert!(matches!(refused, Err(Error::Invalid { .. })), "{refused:?}");
    let refused = publish(
        config(&[two_diff, one_diff], "order"),
        vec![unpack(&one), unpack(&two)],
    );
    assert!(
        matches!(refused, Err(Error::DigestMismatch { .. })),
        "{refused:?}"
    );
    let refused = publish(b"{}".to_vec(), vec![]);
    assert!(matches!(refused, Err(Error::Invalid { .. })), "{refused:?}");
    let refused = publish(vec![b' '; 5 << 20], vec![]);
    assert!(matches!(refused, Err(Error::Invalid { .. })), "{refused:?}");
    assert_eq!(store.inventory(), before);
}

#[test]
fn layer_that_cannot_be_applied_leaves_no_trace_of_those_below() {
    let store = TempStore::new();
    let unpack = |tar: &[u8]| store.unpack(tar, &Expected::default(), &|_| {}).unwrap();
    let layers = vec![
        unpack(&layer(&["d d", "f d/a 1"])),
        unpack(&layer(&["h b gone"])),
    ];
    let diffs: Vec<_> = layers.iter().map(|l| l.diff).collect();
    let before = store.inventory();
    let refs = vec![RefUpdate {
        name: "x:1".to_owned(),
    }];
    let new = NewImage {
        config: config(&diffs, "x"),
        manifest: None,
        layers,
        refs,
        parent: None,
    };
    assert!(matches!(
        store.publish(new, &|_| {}),
        Err(Error::Refused { .. })
    ));
    assert_eq!(store.inventory(), before);
    assert_eq!(store.sweep().unwrap().chains, []);
    assert_eq!(store.inventory(), Vec::<String>::new());
}

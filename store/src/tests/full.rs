//! A disk below the floor: nothing grows, everything that is there can be read and removed, and room makes it whole again.

use std::io::Read;

use super::support::{TempStore, chain, config, image, layer};
use crate::{
    Content, DocumentKind, Error, Expected, FileName, Ino, Kind, NewImage, Override, RefUpdate,
    UpperId, UpperOp,
};

fn refused<T>(what: &str, result: crate::Result<T>) {
    match result {
        Err(error @ Error::NoSpace { .. }) => {
            let said = error.to_string();
            assert!(said.contains("(hint: nacre image prune)"), "{what}: {said}");
        }
        Err(error) => panic!("{what}: {error}"),
        Ok(_) => panic!("{what} grew"),
    }
}

fn new_file(upper: &crate::Upper, name: &str) -> [UpperOp; 2] {
    let mut inode = crate::tree::bare_dir(crate::LayerNo(0));
    (inode.kind, inode.content) = (Kind::File, Content::None);
    let ino = upper.new_ino().unwrap();
    let entry = Override::Entry {
        ino,
        kind: Kind::File,
        seq: 1,
    };
    let name = FileName::new(name.as_bytes()).unwrap();
    [
        UpperOp::SetInode(ino, Box::new(inode)),
        UpperOp::SetEntry(Ino::ROOT, name, entry),
    ]
}

#[test]
fn below_the_floor_nothing_grows_and_everything_can_go() {
    let mut store = TempStore::new();
    let empty = store.inventory();
    let tars = [layer(&["f a 1", "d d", "f d/b 2"])];
    let id = image(&store, &tars, "x:1").unwrap();
    let upper = store.create_upper(chain(&tars).as_ref()).unwrap();
    let upper_id: UpperId = upper.id();
    upper.write(&new_file(&upper, "new")).unwrap();
    drop(upper);
    store
        .put_document(DocumentKind::Mount, "work", b"{}")
        .unwrap();

    store.reopen_with_floor(u64::MAX);
    let before = store.inventory();
    let tar = layer(&["f other 3"]);
    let unpack = |tar: &[u8]| store.unpack(tar, &Expected::default(), &|_| {});
    refused("unpack", unpack(&tar));
    refused("put_blob", store.put_blob(b"x".as_slice(), 1));
    refused("create_upper", store.create_upper(chain(&tars).as_ref()));
    refused("tag", store.tag("y:1", &id));
    let layers = vec![
        store
            .unpacked_by_diff(&crate::DiffId(crate::Digest::of(&tars[0])))
            .unwrap()
            .unwrap(),
    ];
    let diffs: Vec<_> = layers.iter().map(|layer| layer.diff).collect();
    let again = NewImage {
        config: config(&diffs, "another"),
        manifest: None,
        layers,
        refs: vec![RefUpdate {
            name: "z:1".to_owned(),
        }],
        parent: None,
    };
    refused("publish", store.publish(again, &|_| {}));
    assert_eq!(store.inventory(), before, "a refusal leaves nothing");

    // What is there is read, noted and removed.
    let upper = store.open_upper(upper_id).unwrap();
    let fresh = new_file(&upper, "more");
    refused("a new name", upper.write(&fresh));
    let (name, found) = upper.dir(Ino::ROOT).unwrap().remove(0);
    let Override::Entry { ino, .. } = found else {
        panic!("{found:?}");
    };
    upper
        .write(&[
            UpperOp::DropEntry(Ino::ROOT, name),
            UpperOp::DropInode(ino),
            UpperOp::SetEntry(Ino::ROOT, FileName::new(b"a").unwrap(), Override::Whiteout),
        ])
        .unwrap();
    assert!(upper.inodes().unwrap().is_empty());
    drop(upper);
    store
        .put_document(DocumentKind::Mount, "work", b"{\"ended\":true}")
        .unwrap();
    assert_eq!(store.check().unwrap().faults, Vec::<String>::new());
    store.remove_upper(upper_id).unwrap();
    store.remove_document(DocumentKind::Mount, "work").unwrap();
    store.untag("x:1").unwrap();
    store.remove_image(&id).unwrap();
    assert_eq!(store.inventory(), empty);

    // With room everything grows again.
    store.reopen();
    image(&store, &tars, "x:1").unwrap();
}

#[test]
fn a_layer_that_outgrows_the_disk_leaves_nothing() {
    // The room ends in the middle: between what is free now and 96 MB less.
    let mut store = TempStore::new();
    let host = store.room().host().unwrap();
    let free = host.f_bavail * host.f_frsize;
    store.reopen_with_floor(free - (96 << 20));
    let empty = store.inventory();
    // Far more than ends it, whatever others give back to this disk meanwhile.
    let size = 7 << 30;
    let mut header = tar::Header::new_gnu();
    header.set_path("big").unwrap();
    header.set_size(size);
    header.set_mode(0o644);
    header.set_cksum();
    let tar = header
        .as_bytes()
        .as_slice()
        .chain(std::io::repeat(7).take(size));
    refused(
        "a large layer",
        store.unpack(tar, &Expected::default(), &|_| {}),
    );
    assert_eq!(store.inventory(), empty);
}

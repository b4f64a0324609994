//! Writable layers: batches, counts, files, reopening.

use std::io::{Read, Seek, Write};

use super::support::{TempStore, chain, image, layer};
use crate::{BlobId, Content, FileName, Ino, Inode, Kind, Override, Upper, UpperOp};

fn name(text: &str) -> FileName {
    FileName::new(text.as_bytes()).unwrap()
}

fn file(content: Content) -> Box<Inode> {
    let mut inode = crate::tree::bare_dir(crate::LayerNo(0));
    (inode.kind, inode.content) = (Kind::File, content);
    Box::new(inode)
}

fn entry(ino: Ino, seq: u64) -> Override {
    Override::Entry {
        ino,
        kind: Kind::File,
        seq,
    }
}

fn count(upper: &Upper, blob: &BlobId) -> i64 {
    upper.store().inner.blobs.count(blob).unwrap()
}

#[test]
fn overrides_survive_and_go_with_their_upper() {
    let mut store = TempStore::new();
    let tars = [layer(&["f a 1"])];
    image(&store, &tars, "x:1").unwrap();
    let clean = store.inventory();
    let upper = store.create_upper(chain(&tars).as_ref()).unwrap();
    let id = upper.id();
    let (one, two) = (upper.new_ino().unwrap(), upper.new_ino().unwrap());
    assert_ne!(one, two);
    let data = file(Content::Data);
    upper
        .write(&[
            UpperOp::SetInode(one, data.clone()),
            UpperOp::SetEntry(Ino::ROOT, name("new"), entry(one, 7)),
            UpperOp::SetEntry(Ino::ROOT, name("a"), Override::Whiteout),
            UpperOp::SetEntry(Ino::ROOT, name("gone"), entry(two, 8)),
            UpperOp::DropEntry(Ino::ROOT, name("gone")),
            UpperOp::SetOrphan(two),
            UpperOp::SetOrphan(one),
            UpperOp::DropOrphan(one),
        ])
        .unwrap();
    upper
        .data_file(one, true)
        .unwrap()
        .write_all(b"data")
        .unwrap();
    upper.sync().unwrap();
    drop(upper);
    store.reopen();
    let upper = store.open_upper(id).unwrap();
    assert_eq!(upper.inode(one).unwrap().as_ref(), Some(&*data));
    assert_eq!(upper.inodes().unwrap(), [(one, *data)]);
    // One inode, two names, one orphan, the sequence number.
    let has_at_most = |records, bytes| upper.has_at_most(records, bytes).unwrap();
    assert!(has_at_most(5, 100_000) && !has_at_most(4, 100_000) && !has_at_most(5, 20));
    assert_eq!(
        upper.dir(Ino::ROOT).unwrap(),
        [
            (name("a"), Override::Whiteout),
            (name("new"), entry(one, 7))
        ]
    );
    assert_eq!(upper.dir(Ino(99)).unwrap(), []);
    assert_eq!(upper.entries().unwrap().len(), 2);
    assert_eq!(upper.orphans().unwrap(), [two]);
    // Never lower again, though the entry that had it is gone: readdir positions are for ever.
    assert_eq!(upper.last_seq().unwrap(), 8);
    assert!(upper.new_ino().unwrap() > two);
    let mut text = String::new();
    upper
        .data_file(one, false)
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!(text, "data");
    assert_eq!(store.check().unwrap().faults, Vec::<String>::new());
    drop(upper);
    store.remove_upper(id).unwrap();
    assert_eq!(store.inventory(), clean);
    assert!(store.open_upper(id).is_err());
}

#[test]
fn blobs_are_counted_as_records_name_them() {
    let store = TempStore::new();
    let upper = store.create_upper(None).unwrap();
    let (blob, _, pin) = store.put_blob(&b"content"[..], 7).unwrap();
    let (large, _, large_pin) = store
        .put_blob(vec![1; 1 << 20].as_slice(), 1 << 20)
        .unwrap();
    let (one, two) = (upper.new_ino().unwrap(), upper.new_ino().unwrap());
    let set = |ino, content| UpperOp::SetInode(ino, file(content));
    let chunked = Content::Chunked {
        base: Box::new(Content::Blob(large)),
        base_len: 5,
        present: vec![],
    };
    upper
        .write(&[
            set(one, Content::Blob(blob)),
            set(two, Content::Blob(blob)),
            set(two, chunked),
        ])
        .unwrap();
    drop((pin, large_pin));
    assert_eq!((count(&upper, &blob), count(&upper, &large)), (1, 1));
    assert_eq!(store.check().unwrap().faults, Vec::<String>::new());
    upper
        .write(&[set(one, Content::None), UpperOp::DropInode(two)])
        .unwrap();
    assert_eq!((count(&upper, &blob), count(&upper, &large)), (0, 0));
    assert!(
        store.blob(&blob).is_err() && store.blob(&large).is_err(),
        "a blob outlived its last record"
    );
    assert_eq!(store.check().unwrap().faults, Vec::<String>::new());
}

#[test]
fn removed_upper_gives_up_its_blobs() {
    let store = TempStore::new();
    let upper = store.create_upper(None).unwrap();
    let (blob, _, pin) = store.put_blob(&b"content"[..], 7).unwrap();
    let ino = upper.new_ino().unwrap();
    upper
        .write(&[UpperOp::SetInode(ino, file(Content::Blob(blob)))])
        .unwrap();
    drop(pin);
    let id = upper.id();
    drop(upper);
    assert!(store.blob(&blob).is_ok());
    store.remove_upper(id).unwrap();
    assert!(store.blob(&blob).is_err());
    assert_eq!(store.inventory(), Vec::<String>::new());
}

#[test]
fn data_file_goes_with_the_record_that_has_it() {
    let store = TempStore::new();
    let upper = store.create_upper(None).unwrap();
    let ino = upper.new_ino().unwrap();
    let set = |content| UpperOp::SetInode(ino, file(content));
    upper.write(&[set(Content::Data)]).unwrap();
    let mut open = upper.data_file(ino, true).unwrap();
    open.write_all(b"x").unwrap();
    upper
        .write(&[set(Content::None), set(Content::Data)])
        .unwrap();
    assert!(upper.data_path(ino).exists(), "it has its data file still");
    upper.write(&[UpperOp::DropInode(ino)]).unwrap();
    assert!(!upper.data_path(ino).exists());
    open.rewind().unwrap();
    let mut text = String::new();
    open.read_to_string(&mut text).unwrap();
    assert_eq!(text, "x");
    assert!(upper.data_file(ino, false).is_err());
}

/// What an unclean end left beside the data files of records goes when its layer is opened, or in the background, and not
/// before; who ends before that leaves the mark for the next.
#[test]
fn data_files_without_a_record_go_before_their_layer_is_used() {
    let mut store = TempStore::new();
    let mut made = Vec::new();
    for _ in 0..3 {
        let upper = store.create_upper(None).unwrap();
        let (held, stray) = (upper.new_ino().unwrap(), upper.new_ino().unwrap());
        for ino in [held, stray] {
            upper.data_file(ino, true).unwrap();
        }
        upper
            .write(&[UpperOp::SetInode(held, file(Content::Data))])
            .unwrap();
        let odd = upper.data_path(stray).with_file_name("odd");
        std::fs::write(&odd, "").unwrap();
        let paths = [held, stray].map(|ino| upper.data_path(ino));
        made.push((upper.id(), paths, odd));
    }
    let gone = |at: usize| {
        let (_, [held, stray], odd) = &made[at];
        assert!(held.exists());
        assert_eq!(stray.exists(), odd.exists());
        !stray.exists()
    };
    store.reopen_unclean();
    assert!(!gone(0) && !gone(1) && !gone(2));
    drop(store.open_upper(made[0].0).unwrap());
    assert!(gone(0) && !gone(1) && !gone(2));

    // It ends before all are done: the next one still knows.
    store.reopen();
    drop(store.open_upper(made[1].0).unwrap());
    assert!(gone(1) && !gone(2));
    store.sweep_uppers().unwrap();
    assert!(gone(2));
    let faults = store.check().unwrap().faults;
    assert_eq!(faults, Vec::<String>::new());
    // After a clean end nobody looks.
    store.reopen();
    let (id, [_, stray], _) = &made[0];
    std::fs::write(stray, "").unwrap();
    drop(store.open_upper(*id).unwrap());
    store.sweep_uppers().unwrap();
    assert!(stray.exists());

    // One that is removed first is forgotten.
    store.reopen_unclean();
    for (id, ..) in &made {
        store.remove_upper(*id).unwrap();
    }
    store.sweep_uppers().unwrap();
    assert_eq!(store.inventory(), Vec::<String>::new());
}

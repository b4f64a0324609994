//! What single layers do to a tree: the rules that a reader looks up.

use super::listing::summary;
use super::support::{TempStore, chain, entry, image, layer};
use crate::archive::{EntryKind, Writer};
use crate::db::{Durability, Family};
use crate::{Content, Error, Ino, Kind, Result};

/// Applies layers and lists the tree.
fn tree(layers: &[&[&str]]) -> Result<Vec<String>> {
    let store = TempStore::new();
    let tars: Vec<Vec<u8>> = layers.iter().map(|lines| layer(lines)).collect();
    image(&store, &tars, "test:1")?;
    let tree = store.tree(chain(&tars).as_ref())?;
    let list = summary(&store, &tree);
    drop(tree);
    assert_eq!(store.check()?.faults, Vec::<String>::new());
    Ok(list)
}

#[test]
fn whiteout_hides_lower_names_alone() {
    let list = tree(&[
        &["d a", "f a/x 1", "f a/y 2"],
        &["f a/x new", "w a/x", "w a/y", "w a/never"],
    ])
    .unwrap();
    assert_eq!(list, ["d .", "d a", "f a/x new"]);
}

#[test]
fn opaque_mark_counts_wherever_it_stands() {
    for layer in [
        ["o a", "f a/new n", "d a/sub"],
        ["f a/new n", "d a/sub", "o a"],
    ] {
        let list = tree(&[&["d a", "f a/x 1", "d a/sub", "f a/sub/z 1"], &layer]).unwrap();
        assert_eq!(list, ["d .", "d a", "f a/new n", "d a/sub"]);
    }
}

#[test]
fn removed_link_leaves_the_other_names_with_one_less() {
    let list = tree(&[
        &["f a x", "h b a", "h c a", "d d", "h d/e a"],
        &["w a", "w d"],
    ])
    .unwrap();
    assert_eq!(list, ["d .", "f b x = b", "f c x = b"]);
    let list = tree(&[&["f a x", "h b a"], &["w a"], &["h c b"]]).unwrap();
    assert_eq!(list, ["d .", "f b x = b", "f c x = b"]);
}

#[test]
fn replaced_link_leaves_the_old_file_to_its_other_names() {
    let list = tree(&[&["f a old", "h b a"], &["f a new"]]).unwrap();
    assert_eq!(list, ["d .", "f a new", "f b old"]);
}

#[test]
fn hard_link_to_a_lower_file_adds_a_name_to_it() {
    let list = tree(&[&["d a", "f a/x 1"], &["h y a/x"], &["h z a/x", "w y"]]).unwrap();
    assert_eq!(list, ["d .", "d a", "f a/x 1 = a/x", "f z 1 = a/x"]);
}

#[test]
fn hard_link_before_its_target_waits_for_it() {
    let list = tree(&[&["h c b", "h b a", "f a 1"]]).unwrap();
    assert_eq!(list, ["d .", "f a 1 = a", "f b 1 = a", "f c 1 = a"]);
}

#[test]
fn impossible_hard_links_are_refused() {
    for lines in [
        &["h b gone"][..],
        &["h a a"],
        &["h a b", "h b a"],
        &["d d", "h x d"],
        &["f a 1", "h a/b a"],
        &["f a 1", "w a", "h a/b/c a/b"],
    ] {
        let refused = tree(&[lines]);
        assert!(
            matches!(refused, Err(Error::Refused { .. })),
            "{lines:?}: {refused:?}"
        );
    }
}

#[test]
fn types_replace_each_other_with_all_below() {
    let list = tree(&[
        &["d a", "f a/x 1", "f b 2"],
        &["f a 3", "d b", "f b/y 4"],
        &["d a"],
    ])
    .unwrap();
    assert_eq!(list, ["d .", "d a", "d b", "f b/y 4"]);
}

#[test]
fn entries_go_through_links_but_never_out_of_the_tree() {
    let list = tree(&[
        &["d etc", "l ln etc", "l up ../../..", "l abs /etc"],
        &["f ln/x 1", "f up/y 2", "f abs/z 3"],
    ]);
    let expected = [
        "d .",
        "l abs /etc",
        "d etc",
        "f etc/x 1",
        "f etc/z 3",
        "l ln etc",
        "l up ../../..",
        "f y 2",
    ];
    assert_eq!(list.unwrap(), expected);
    let looped = tree(&[&["l a b", "l b a"], &["f a/x 1"]]);
    assert!(matches!(looped, Err(Error::Refused { .. })), "{looped:?}");
}

#[test]
fn whiteout_in_a_directory_that_replaces_a_link_hides_nothing_behind_the_link() {
    let list = tree(&[&["d etc", "f etc/x 1", "l ln etc"], &["d ln", "w ln/x"]]).unwrap();
    assert_eq!(list, ["d .", "d etc", "f etc/x 1", "d ln"]);
    let list = tree(&[&["d etc", "f etc/x 1", "l ln etc"], &["w ln/x"]]).unwrap();
    assert_eq!(list, ["d .", "d etc", "l ln etc"]);
}

#[test]
fn missing_parents_are_plain_and_known_ones_keep_their_attributes() {
    let store = TempStore::new();
    let mut out = Writer::new(Vec::new());
    let mut private = entry("private", EntryKind::Dir);
    (private.mode, private.uid) = (0o700, 9);
    out.append(&private, &b""[..]).unwrap();
    let tars = [
        out.finish().unwrap(),
        layer(&["f private/x 1", "f made/up/x 2"]),
    ];
    image(&store, &tars, "test:1").unwrap();
    let tree = store.tree(chain(&tars).as_ref()).unwrap();
    let root = tree.dir(Ino::ROOT).unwrap().unwrap();
    let find = |name: &str| {
        let entry = root
            .entries
            .iter()
            .find(|e| e.name.as_bytes() == name.as_bytes())
            .unwrap();
        tree.inode(entry.ino).unwrap().unwrap()
    };
    assert_eq!((find("private").mode, find("private").uid), (0o700, 9));
    assert_eq!(
        (
            find("made").mode,
            find("made").uid,
            find("made").mtime.seconds
        ),
        (0o755, 0, 0)
    );
}

#[test]
fn attributes_of_a_directory_do_not_rewrite_its_pages() {
    let store = TempStore::new();
    let tars = [layer(&["d a", "f a/x 1"]), layer(&["d a"])];
    image(&store, &tars, "test:1").unwrap();
    let tree = store.tree(chain(&tars).as_ref()).unwrap();
    let layers = tree.layers().to_vec();
    let a = tree.dir(Ino::ROOT).unwrap().unwrap().entries[0].ino;
    let content = tree.inode(a).unwrap().unwrap().content.clone();
    assert_eq!(
        content,
        Content::Dir {
            pages: layers[0],
            subdirs: 0
        }
    );
}

#[test]
fn directories_larger_than_a_page_come_back_whole() {
    let store = TempStore::new();
    let lines: Vec<String> = (0..5000)
        .map(|i| format!("f dir/some-longer-name-{i:05} {i}"))
        .collect();
    let tars = [
        layer(&lines.iter().map(String::as_str).collect::<Vec<_>>()),
        layer(&["w dir/some-longer-name-04000"]),
    ];
    image(&store, &tars, "test:1").unwrap();
    let tree = store.tree(chain(&tars).as_ref()).unwrap();
    let dir = tree.dir(Ino::ROOT).unwrap().unwrap().entries[0].ino;
    let list = tree.dir(dir).unwrap().unwrap();
    assert_eq!(list.entries.len(), 4999);
    assert!(list.entries.is_sorted_by(|a, b| a.name < b.name));
    let lower = store.tree(chain(&tars[..1]).as_ref()).unwrap();
    assert_eq!(lower.dir(dir).unwrap().unwrap().entries.len(), 5000);
    drop((tree, lower));
    assert_eq!(store.check().unwrap().faults, Vec::<String>::new());
}

#[test]
fn tree_without_layers_is_an_empty_root() {
    let store = TempStore::new();
    let tree = store.tree(None).unwrap();
    let root = tree.inode(Ino::ROOT).unwrap().unwrap();
    assert_eq!((root.kind, root.mode), (Kind::Dir, 0o755));
    assert_eq!(tree.dir(Ino::ROOT).unwrap().unwrap().entries, []);
    assert_eq!(tree.inode(Ino(2)).unwrap(), None);
}

#[test]
fn reads_find_the_newest_version_among_hundreds_of_layers() {
    let store = TempStore::new();
    // Every image versions the root, and the last chain is long: more versions than a read steps over.
    let mut tars = vec![layer(&["d a", "f a/first 1"])];
    for i in 0..60 {
        image(
            &store,
            &[layer(&[&format!("f other-{i} x")])],
            &format!("other:{i}"),
        )
        .unwrap();
        tars.push(layer(&[&format!("f number-{i} {i}")]));
    }
    image(&store, &tars, "long:1").unwrap();
    for i in 60..100 {
        image(
            &store,
            &[layer(&[&format!("f other-{i} x")])],
            &format!("other:{i}"),
        )
        .unwrap();
    }
    let tree = store.tree(chain(&tars).as_ref()).unwrap();
    assert_eq!(tree.dir(Ino::ROOT).unwrap().unwrap().entries.len(), 61);
    let first = store.tree(chain(&tars[..1]).as_ref()).unwrap();
    assert_eq!(first.dir(Ino::ROOT).unwrap().unwrap().entries.len(), 1);
}

#[test]
fn inodes_read_with_their_neighbours_are_what_they_are_alone() {
    const FILES: usize = 300;
    let mut store = TempStore::new();
    let lines: Vec<String> = (0..FILES).map(|n| format!("f n{n:03} old")).collect();
    let bottom = layer(&lines.iter().map(String::as_str).collect::<Vec<_>>());
    // Each layer above replaces a file; of some there are more layers than are asked one by one.
    let above = (0..12).map(|n| {
        layer(&[
            &format!("f n{:03} new{n}", 5 * n),
            &format!("w n{:03}", 5 * n + 1),
        ])
    });
    let tars: Vec<Vec<u8>> = std::iter::once(bottom).chain(above).collect();
    image(&store, &tars, "test:1").unwrap();
    for height in [1, 3, tars.len()] {
        let chain = chain(&tars[..height]);
        let tree = store.tree(chain.as_ref()).unwrap();
        let names = tree.dir(Ino::ROOT).unwrap().unwrap();
        let inos: Vec<Ino> = names.entries.iter().map(|entry| entry.ino).collect();
        assert_eq!(inos.len(), FILES + 1 - height);
        let (layers, mut alone) = (tree.layers().to_vec(), Vec::new());
        for ino in &inos {
            let newest = layers.iter().rev().find_map(|layer| {
                let key = crate::tree::version_key(*ino, *layer);
                store.inner.db.get(Family::Inodes, &key).unwrap()
            });
            alone.push(crate::codec::decode_inode(&newest.unwrap()).unwrap());
        }
        drop((tree, names));
        for step in [1, 7, FILES] {
            store.reopen();
            let tree = store.tree(chain.as_ref()).unwrap();
            let mut order: Vec<usize> = (0..inos.len()).collect();
            order.sort_by_key(|n| n * step % inos.len());
            for n in order {
                let together = tree.inode(inos[n]).unwrap().unwrap();
                assert_eq!(*together, alone[n], "{n} of {height} layers");
            }
            assert_eq!(tree.inode(Ino(inos[0].0 + 5000)).unwrap(), None);
        }
    }
}

#[test]
fn a_damaged_inode_is_an_error_for_who_asks_for_it_alone() {
    let mut store = TempStore::new();
    let tars = [layer(&["f a 1", "f b 2", "f c 3", "f d 4"])];
    image(&store, &tars, "test:1").unwrap();
    let tree = store.tree(chain(&tars).as_ref()).unwrap();
    let names = tree.dir(Ino::ROOT).unwrap().unwrap();
    let inos: Vec<Ino> = names.entries.iter().map(|entry| entry.ino).collect();
    let key = crate::tree::version_key(inos[1], tree.layers()[0]);
    drop((tree, names));
    let mut batch = store.inner.db.batch();
    batch.put(Family::Inodes, &key, b"\x01garbage").unwrap();
    batch.write(Durability::Synced).unwrap();
    store.reopen();
    let tree = store.tree(chain(&tars).as_ref()).unwrap();
    for ino in [0, 2, 3] {
        assert!(tree.inode(inos[ino]).unwrap().is_some());
    }
    let error = tree.inode(inos[1]).unwrap_err().to_string();
    assert!(error.contains(&inos[1].0.to_string()), "{error}");
}

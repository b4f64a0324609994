//! What an upper changed, as a list: against a naive comparison by path.
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::memory::Memory;
use common::model::Model;
use common::ops::{Target as _, print};
use common::{apply, config, generate, lines};
use nacre_fs::diff;
use nacre_store::{Ino, Kind};
use proptest::prelude::*;

/// Docker's comparison, written the slow way: two lists of paths.
fn naive_changes(union: &Memory) -> Vec<String> {
    let before = union.without_upper();
    let old: BTreeMap<String, Ino> = before.paths().into_iter().collect();
    let new: BTreeMap<String, Ino> = union.paths().into_iter().collect();
    let parent = |path: &str| {
        path.rsplit_once('/')
            .map_or(String::new(), |(parent, _)| parent.to_owned())
    };
    let is_dir_now = |path: &str| {
        new.get(path)
            .is_some_and(|ino| union.inode(*ino).kind == Kind::Dir)
    };
    let mut letters: BTreeMap<String, char> = BTreeMap::new();
    for path in old.keys().filter(|path| !new.contains_key(*path)) {
        if is_dir_now(&parent(path)) {
            letters.insert(path.clone(), 'D');
        }
    }
    for (path, ino) in &new {
        let letter = match old.get(path) {
            None => 'A',
            Some(was) => {
                let (was, is) = (before.settled(*was), union.settled(*ino));
                let attributes = |inode: &nacre_store::Inode| {
                    (
                        inode.kind,
                        inode.mode,
                        inode.uid,
                        inode.gid,
                        inode.rdev,
                        inode.xattrs.clone(),
                    )
                };
                let content =
                    |inode: &nacre_store::Inode| (inode.size, inode.mtime, inode.content.clone());
                let same = attributes(&was) == attributes(&is)
                    && (is.kind == Kind::Dir || content(&was) == content(&is));
                if same { continue } else { 'C' }
            }
        };
        letters.insert(path.clone(), letter);
    }
    for path in letters.keys().cloned().collect::<Vec<String>>() {
        let mut above = parent(&path);
        while !above.is_empty() {
            letters.entry(above.clone()).or_insert('C');
            above = parent(&above);
        }
    }
    letters.remove("");
    letters
        .into_iter()
        .map(|(path, letter)| format!("{letter} /{path}"))
        .collect()
}

proptest! {
    #![proptest_config(config(600))]

    #[test]
    fn changes_are_what_docker_would_list(base in generate::base(), list in generate::ops()) {
        let mut model = Model::new();
        for op in &base {
            model.apply(op).unwrap_or_default();
        }
        let mut union = Memory::over(&model);
        apply(&mut union, &list);
        let tree = union.base();
        let snapshot = union.snapshot(&tree);
        let changes = snapshot.changes().unwrap();
        let sorted: Vec<Vec<u8>> = changes.iter().map(|change| change.path.clone()).collect();
        prop_assert!(sorted.is_sorted());
        let listed: BTreeSet<String> = lines(&changes).into_iter().collect();
        let expected: BTreeSet<String> = naive_changes(&union).into_iter().collect();
        prop_assert_eq!(&listed, &expected, "base:\n{}then:\n{}", print(&base), print(&list));
        // The comparison of whole trees finds the same without knowing what was touched.
        let all: BTreeSet<String> = lines(&diff::between(&tree, &snapshot).unwrap()).into_iter().collect();
        prop_assert_eq!(&all, &expected);
    }
}

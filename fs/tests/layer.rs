//! What an upper changed: as a list against a naive comparison by path, as a layer against a store that applies it.
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;

use common::generate;
use common::memory::Memory;
use common::model::Model;
use common::ops::{Op, Picture, Target as _, differences, parse, print};
use nacre_fs::diff::{self, Change, ChangeKind};
use nacre_fs::layer::{self, LayerError};
use nacre_store::{BlobId, ChainId, Expected, Ino, Kind, NewImage, Options, Store, Tree};
use proptest::prelude::*;

/// `PROPTEST_CASES` multiplies: its default of 256 means what the tests say.
fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases: cases.saturating_mul(ProptestConfig::default().cases) / 256,
        failure_persistence: None,
        max_shrink_iters: 2_000,
        ..ProptestConfig::default()
    }
}

/// The changes as docker prints them.
fn lines(changes: &[Change]) -> Vec<String> {
    let letter = |kind| match kind {
        ChangeKind::Modified => 'C',
        ChangeKind::Added => 'A',
        ChangeKind::Deleted => 'D',
    };
    let line = |change: &Change| {
        format!(
            "{} {}",
            letter(change.kind),
            String::from_utf8_lossy(&change.path)
        )
    };
    changes.iter().map(line).collect()
}

/// Applies what can be applied.
fn apply(union: &mut Memory, ops: &[Op]) {
    for op in ops {
        union.apply(op).unwrap_or_default();
    }
}

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

/// A store of its own, gone with the guard.
struct Scratch {
    store: Store,
    _root: tempfile::TempDir,
}

impl Scratch {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(&root.path().join("store"), Options::default()).unwrap();
        Self { store, _root: root }
    }

    /// Publishes a stack of layers.
    fn tree(&self, layers: &[Vec<u8>]) -> Tree {
        let mut unpacked = Vec::new();
        for tar in layers {
            unpacked.push(
                self.store
                    .unpack(tar.as_slice(), &Expected::default(), &|_| {})
                    .unwrap(),
            );
        }
        let diffs: Vec<String> = unpacked
            .iter()
            .map(|layer| format!("\"{}\"", layer.diff))
            .collect();
        let mut chain: Option<ChainId> = None;
        for layer in &unpacked {
            chain = Some(ChainId::extend(chain.as_ref(), &layer.diff));
        }
        let config = format!(
            r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#,
            diffs.join(",")
        );
        let image = NewImage {
            config: config.into_bytes(),
            manifest: None,
            layers: unpacked,
            refs: Vec::new(),
            parent: None,
        };
        self.store.publish(image, &|_| {}).unwrap();
        self.store.tree(chain.as_ref()).unwrap()
    }

    fn read(&self, id: &BlobId) -> Vec<u8> {
        let blob = self.store.blob(id).unwrap();
        let mut bytes = vec![0; usize::try_from(blob.size()).unwrap()];
        let mut at = 0;
        while at < bytes.len() {
            let offset = u64::try_from(at).unwrap();
            let got = blob.read_at(&mut bytes[at..], offset).unwrap();
            assert_ne!(got, 0, "blob {id} ends early");
            at += got;
        }
        bytes
    }

    fn memory(&self, tree: &Tree, now: i64) -> Memory {
        Memory::over_tree(tree, &|id| self.read(id), now)
    }
}

/// Writes what the upper changed as a layer.
fn layer_of(union: &Memory) -> Result<Vec<u8>, LayerError> {
    let base = union.base();
    let snapshot = union.snapshot(&base);
    let mut tar = Vec::new();
    layer::write(&snapshot, union, &mut tar)?;
    Ok(tar)
}

/// A tree without what no archive holds: sockets, change times, and with them what stat derives.
fn archivable(picture: Picture) -> Picture {
    let kept = picture
        .into_iter()
        .filter(|(path, seen)| seen.kind != 's' && path != common::ops::HELD);
    kept.map(|(path, mut seen)| {
        seen.ctime = (0, 0);
        (path, seen)
    })
    .collect()
}

/// Commits `base`, then `list` on top of it, and compares the tree of both layers with what the upper showed.
fn round_trip(scratch: &Scratch, base: &[Op], list: &[Op]) {
    let mut first = scratch.memory(&scratch.store.tree(None).unwrap(), 1_000);
    apply(&mut first, base);
    let lower = layer_of(&first).unwrap();
    let lower_tree = scratch.tree(&[lower.clone()]);
    let mut union = scratch.memory(&lower_tree, first.now());
    let context = || format!("base:\n{}then:\n{}", print(base), print(list));
    assert_same(&first, &union, &context());

    apply(&mut union, list);
    let upper = layer_of(&union).unwrap();
    let both = scratch.tree(&[lower, upper]);
    let committed = scratch.memory(&both, union.now());
    assert_same(&union, &committed, &context());
    assert!(
        layer_of(&committed).unwrap().iter().all(|byte| *byte == 0),
        "an empty upper gives an empty archive"
    );
}

fn assert_same(shown: &Memory, stored: &Memory, context: &str) {
    stored.check();
    let (shown, stored) = (archivable(shown.picture()), archivable(stored.picture()));
    assert_eq!(
        differences(&shown, &stored),
        Vec::<String>::new(),
        "{context}"
    );
    let mtimes = |picture: &Picture| -> Vec<_> {
        picture
            .iter()
            .map(|(path, seen)| (path.clone(), seen.mtime))
            .collect()
    };
    assert_eq!(mtimes(&shown), mtimes(&stored), "{context}");
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

#[test]
fn a_layer_applied_to_the_base_gives_the_tree_that_was_shown() {
    let scratch = Scratch::new();
    let cases = (generate::base(), generate::ops());
    proptest::test_runner::TestRunner::new(config(150))
        .run(&cases, |(base, list)| {
            round_trip(&scratch, &base, &list);
            Ok(())
        })
        .unwrap();
}

/// The base that the examples change.
const BASE: &str = "
    mkdir etc 755
    create etc/passwd 644
    write etc/passwd 0 10 65
    create etc/hosts 644
    mkdir usr 755
    mkdir usr/bin 755
    create usr/bin/perl 755
    write usr/bin/perl 0 100 66
    link usr/bin/perl usr/bin/perl5
    mkdir usr/lib 755
    create usr/lib/one 644
    create usr/lib/two 644
    symlink usr/lib lib
    mkdir empty 755
";

/// Applies operations to [`BASE`] and returns what diff lists and what the layer holds.
fn example(text: &str) -> (Vec<String>, Vec<String>) {
    let scratch = Scratch::new();
    let mut first = Memory::over(&Model::new());
    for op in parse(BASE) {
        first.apply(&op).unwrap();
    }
    let tree = scratch.tree(&[layer_of(&first).unwrap()]);
    let mut union = scratch.memory(&tree, first.now());
    for op in parse(text) {
        union.apply(&op).unwrap();
    }
    let base = union.base();
    let changes = lines(&union.snapshot(&base).changes().unwrap());
    let names = names(&layer_of(&union).unwrap());
    round_trip(&scratch, &parse(BASE), &parse(text));
    (changes, names)
}

/// Lists a tar: names, with `=> TARGET` for hard links.
fn names(tar: &[u8]) -> Vec<String> {
    use nacre_store::archive::{EntryKind, Limits, Reader};
    let mut reader = Reader::new(tar, std::io::sink(), Limits::default());
    let mut names = Vec::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        let join = |path: &[nacre_store::FileName]| -> String {
            path.iter().map(|name| format!("/{name}")).collect()
        };
        let path = join(&entry.path);
        names.push(match &entry.kind {
            EntryKind::HardLink(target) => format!("{path} => {}", join(target)),
            EntryKind::Whiteout => format!("-{path}"),
            EntryKind::Opaque => format!("!{path}"),
            EntryKind::Dir => format!("{path}/"),
            _ => path,
        });
    }
    names
}

#[test]
fn a_renamed_directory_is_gone_and_new() {
    let (changes, names) = example("rename usr/lib usr/lib64 replace");
    let expected = [
        "C /usr",
        "D /usr/lib",
        "A /usr/lib64",
        "A /usr/lib64/one",
        "A /usr/lib64/two",
    ];
    assert_eq!(changes, expected);
    assert_eq!(
        names,
        [
            "/usr/",
            "-/usr/lib",
            "/usr/lib64/",
            "/usr/lib64/one",
            "/usr/lib64/two"
        ]
    );
}

#[test]
fn a_removed_directory_is_one_deletion() {
    let (changes, names) = example("unlink usr/lib/one\nunlink usr/lib/two\nrmdir usr/lib");
    assert_eq!(changes, ["C /usr", "D /usr/lib"]);
    assert_eq!(names, ["/usr/", "-/usr/lib"]);
}

#[test]
fn a_directory_made_anew_is_opaque() {
    let (changes, names) =
        example("rename usr/lib gone replace\nmkdir usr/lib 755\ncreate usr/lib/one 600");
    let expected = [
        "A /gone",
        "A /gone/one",
        "A /gone/two",
        "C /usr",
        "C /usr/lib",
        "C /usr/lib/one",
        "D /usr/lib/two",
    ];
    assert_eq!(changes, expected);
    assert_eq!(
        names,
        [
            "/",
            "/gone/",
            "/gone/one",
            "/gone/two",
            "/usr/",
            "/usr/lib/",
            "!/usr/lib",
            "/usr/lib/one"
        ]
    );
}

#[test]
fn an_empty_directory_made_anew_needs_no_opaque_mark() {
    let (changes, names) = example("rmdir empty\nmkdir empty 700");
    assert_eq!(changes, ["C /empty"]);
    assert_eq!(names, ["/", "/empty/"]);
}

#[test]
fn a_new_link_to_a_lower_file_brings_no_content() {
    let (changes, names) = example("link etc/passwd etc/backup");
    assert_eq!(changes, ["C /etc", "A /etc/backup"]);
    assert_eq!(names, ["/etc/", "/etc/backup => /etc/passwd"]);
}

#[test]
fn a_link_to_a_file_that_moved_brings_its_content() {
    let (changes, names) = example("link etc/passwd etc/backup\nunlink etc/passwd");
    assert_eq!(changes, ["C /etc", "A /etc/backup", "D /etc/passwd"]);
    assert_eq!(names, ["/etc/", "-/etc/passwd", "/etc/backup"]);
}

#[test]
fn a_changed_file_is_changed_under_all_its_names() {
    let (changes, names) = example("chmod usr/bin/perl5 700");
    assert_eq!(
        changes,
        [
            "C /usr",
            "C /usr/bin",
            "C /usr/bin/perl",
            "C /usr/bin/perl5"
        ]
    );
    assert_eq!(
        names,
        [
            "/usr/",
            "/usr/bin/",
            "/usr/bin/perl",
            "/usr/bin/perl5 => /usr/bin/perl"
        ]
    );
}

#[test]
fn times_of_directories_are_no_change_but_are_kept() {
    let (changes, names) = example("create etc/tmp 644\nunlink etc/tmp");
    assert_eq!(changes, Vec::<String>::new());
    assert_eq!(names, ["/etc/"]);
}

#[test]
fn replaced_kinds_are_changes_without_deletions_below() {
    let (changes, names) = example(
        "rename usr/lib x replace\nunlink etc/hosts\nmkdir etc/hosts 755\ncreate usr/lib 644",
    );
    let expected = [
        "C /etc",
        "C /etc/hosts",
        "C /usr",
        "C /usr/lib",
        "A /x",
        "A /x/one",
        "A /x/two",
    ];
    assert_eq!(changes, expected);
    assert_eq!(
        names,
        [
            "/",
            "/etc/",
            "/etc/hosts/",
            "/usr/",
            "/usr/lib",
            "/x/",
            "/x/one",
            "/x/two"
        ]
    );
}

#[test]
fn a_socket_is_listed_but_not_archived() {
    let (changes, names) =
        example("unlink etc/hosts\nmknod etc/hosts socket 644 0\nmknod etc/new socket 644 0");
    assert_eq!(changes, ["C /etc", "C /etc/hosts", "A /etc/new"]);
    assert_eq!(names, ["/etc/", "-/etc/hosts"]);
}

#[test]
fn a_name_that_means_a_whiteout_is_refused_by_name() {
    let mut union = Memory::over(&Model::new());
    apply(&mut union, &parse("mkdir d 755\ncreate d/.wh.x 644"));
    let error = layer_of(&union).unwrap_err();
    assert_eq!(
        error.to_string(),
        "/d/.wh.x: a layer archive cannot hold names that begin with \".wh.\""
    );
}

#[test]
fn what_the_runtime_made_is_no_change_until_a_user_changes_it() {
    let mut union = Memory::over(&Model::new());
    union.origin = nacre_fs::union::Origin::Runtime;
    apply(
        &mut union,
        &parse("mkdir dev 755\nmkdir dev/pts 755\ncreate hosts 644\ncreate resolv 644"),
    );
    let base = union.base();
    assert_eq!(
        lines(&union.snapshot(&base).changes().unwrap()),
        Vec::<String>::new()
    );
    assert!(layer_of(&union).unwrap().iter().all(|byte| *byte == 0));

    union.origin = nacre_fs::union::Origin::User;
    apply(
        &mut union,
        &parse("write hosts 0 1 65\ncreate dev/pts/x 644"),
    );
    let base = union.base();
    let changes = lines(&union.snapshot(&base).changes().unwrap());
    assert_eq!(
        changes,
        ["A /dev", "A /dev/pts", "A /dev/pts/x", "A /hosts"]
    );
}

#[test]
fn an_archive_is_read_to_its_end_by_tar() {
    let mut union = Memory::over(&Model::new());
    apply(&mut union, &parse(BASE));
    let mut list = std::process::Command::new("tar")
        .args(["--list", "--file", "-"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut list.stdin.take().unwrap(), &layer_of(&union).unwrap()).unwrap();
    let mut out = String::new();
    list.stdout
        .take()
        .unwrap()
        .read_to_string(&mut out)
        .unwrap();
    assert!(list.wait().unwrap().success());
    assert!(out.lines().any(|line| line == "usr/bin/perl5"), "{out}");
}

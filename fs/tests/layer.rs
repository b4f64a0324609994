//! What an upper changed, as a layer: a store applies it to the base and must get the tree that the upper showed.
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::io::Read as _;

use common::memory::Memory;
use common::model::Model;
use common::ops::{Op, Picture, Target as _, differences, parse, print};
use common::scratch::Scratch;
use common::{apply, config, generate, lines};
use nacre_fs::layer::{self, LayerError};

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
    let lower_tree = scratch.tree(std::slice::from_ref(&lower));
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

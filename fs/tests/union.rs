//! The union's rules against the reference model, and the model against a real directory, by lists of operations.
#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "tests")]

mod common;

use std::collections::BTreeSet;

use common::directory::Directory;
use common::memory::Memory;
use common::model::Model;
use common::ops::{
    Op, Outcome, Picture, Rename, Stamp, Target as _, differences, moved_times, parse, print,
};
use common::{config, generate};
use nacre_store::Ino;
use proptest::prelude::*;

/// Lets the model and the rules do the same on the same base, and compares all that can be seen after every step.
fn compare_with_model(base: &[Op], list: &[Op]) {
    let mut model = Model::new();
    for op in base {
        model.apply(op).unwrap_or_default(); // what does not fit makes no base; the rest does
    }
    let mut union = Memory::over(&model);
    union.check();
    assert_eq!(
        differences(&model.picture(), &union.picture()),
        Vec::<String>::new(),
        "the base"
    );
    for (at, op) in list.iter().enumerate() {
        let (expected, got) = (model.apply(op), union.apply(op));
        let context = || format!("base:\n{}then:\n{}", print(base), print(&list[..=at]));
        assert_eq!(expected, got, "model and union answer {op}\n{}", context());
        let (expected, got) = (model.picture(), union.picture());
        assert_eq!(
            differences(&expected, &got),
            Vec::<String>::new(),
            "after {op}\n{}",
            context()
        );
        let times = |picture: &Picture| -> Vec<(String, Stamp, Stamp)> {
            picture
                .iter()
                .map(|(path, seen)| (path.clone(), seen.mtime, seen.ctime))
                .collect()
        };
        assert_eq!(
            times(&expected),
            times(&got),
            "times after {op}\n{}",
            context()
        );
        union.check();
    }
}

/// Lets the model and a directory of the host do the same; the times that an operation moves are compared as such.
fn compare_with_directory(list: &[Op]) {
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path().join("root");
    std::fs::create_dir(&root).unwrap();
    let mut model = Model::new();
    let mut directory = Directory::new(&root);
    std::fs::set_permissions(&root, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    for (at, op) in list.iter().enumerate() {
        let before = (model.picture(), directory.picture());
        let (expected, got) = (model.apply(op), directory.apply(op));
        let context = || format!("after:\n{}", print(&list[..=at]));
        assert_eq!(
            expected,
            got,
            "model and directory answer {op}\n{}",
            context()
        );
        let after = (model.picture(), directory.picture());
        assert_eq!(
            differences(&after.0, &after.1),
            Vec::<String>::new(),
            "{op}\n{}",
            context()
        );
        if keeps_exact_times(op, got) {
            assert_eq!(
                moved_times(&before.0, &after.0),
                moved_times(&before.1, &after.1),
                "{op}\n{}",
                context()
            );
        }
    }
}

/// Whether ext4 moves exactly the times that POSIX asks for. It spares itself the change where an attribute stays the same,
/// and a rename that fails after its whiteout was made has touched the directory.
fn keeps_exact_times(op: &Op, outcome: Outcome) -> bool {
    match op {
        Op::Rename {
            how: Rename::Whiteout | Rename::NoReplaceWhiteout,
            ..
        } => outcome.is_ok(),
        Op::SetXattr { .. }
        | Op::RemoveXattr { .. }
        | Op::SetAcl { .. }
        | Op::Allocate { .. }
        | Op::Mtime { .. } => false,
        _ => true,
    }
}

proptest! {
    #![proptest_config(config(600))]

    #[test]
    fn rules_equal_the_model(base in generate::base(), list in generate::ops()) {
        compare_with_model(&base, &list);
    }
}

proptest! {
    #![proptest_config(config(60))]

    #[test]
    fn model_equals_a_real_directory(base in generate::base(), list in generate::ops()) {
        if !rustix::process::geteuid().is_root() {
            eprintln!("not root: the model is not compared with a real directory (it needs chown, mknod, trusted xattrs)");
            return Ok(());
        }
        compare_with_directory(&[base, list].concat());
    }

    #[test]
    fn operations_have_a_text_form(list in generate::ops()) {
        prop_assert_eq!(parse(&print(&list)), list);
    }
}

proptest! {
    #![proptest_config(config(300))]

    /// A reader takes one entry after every operation; what is there throughout it sees exactly once.
    #[test]
    fn a_cookie_holds_whatever_comes_and_goes(base in generate::base(), list in generate::ops()) {
        let mut model = Model::new();
        for op in &base {
            model.apply(op).unwrap_or_default();
        }
        let mut union = Memory::over(&model);
        let names = |union: &Memory| -> BTreeSet<String> {
            union.list(Ino::ROOT, 0).into_iter().map(|item| item.0).collect()
        };
        let (mut cookie, mut seen) = (0, Vec::new());
        let (mut throughout, mut ever_absent) = (names(&union), BTreeSet::new());
        for op in &list {
            if let Some((name, _, _, next)) = union.list(Ino::ROOT, cookie).into_iter().next() {
                seen.push(name);
                cookie = next;
            }
            let before = names(&union);
            union.apply(op).unwrap_or_default();
            let after = names(&union);
            throughout.retain(|name| after.contains(name));
            ever_absent.extend(before.difference(&after).cloned());
        }
        seen.extend(union.list(Ino::ROOT, cookie).into_iter().map(|item| item.0));
        for name in &throughout {
            prop_assert_eq!(seen.iter().filter(|other| *other == name).count(), 1, "{} in {:?}", name, seen);
        }
        for name in &seen {
            let times = seen.iter().filter(|other| *other == name).count();
            prop_assert!(times == 1 || ever_absent.contains(name), "{} in {:?}", name, seen);
        }
    }
}

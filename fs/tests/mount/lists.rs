//! The lists of operations that judge the rules, on a writable mount against a plain directory of the host.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use proptest::prelude::*;

use crate::common::directory::Directory;
use crate::common::generate;
use crate::common::ops::{Node, Op, Target as _, differences, moved_times, parse, print};
use crate::support::{Layer, Mounted, TempStore, can_mount};

/// No archive holds a socket, and ours take no `trusted.` attributes from one.
fn fits_in_an_image(op: &Op) -> bool {
    match op {
        Op::Mknod { node, .. } => *node != Node::Socket,
        Op::SetXattr { name, .. } => !name.starts_with("trusted."),
        _ => true,
    }
}

/// More than a tick of the coarse clock: what happens within one has the same time.
const TICK: Duration = Duration::from_millis(5);

/// Makes the base in a directory and in an image; lets a mount of that and the directory do the same, and compares.
fn compare(store: &TempStore, base: &[Op], list: &[Op]) {
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path().join("root");
    std::fs::create_dir(&root).unwrap();
    std::fs::set_permissions(&root, PermissionsExt::from_mode(0o755)).unwrap();
    let mut directory = Directory::new(&root);
    for op in base.iter().filter(|op| fits_in_an_image(op)) {
        directory.apply(op).unwrap_or_default();
    }
    let chain = store.image(&[Layer::of_picture(&directory.picture())]);
    let mount = Mounted::writable(store.upper(chain));
    let mut union = Directory::new(&mount.root);
    let context = |at: usize| format!("base:\n{}then:\n{}", print(base), print(&list[..at]));
    assert_eq!(
        differences(&directory.picture(), &union.picture()),
        Vec::<String>::new(),
        "{}",
        context(0)
    );
    for (at, op) in list.iter().enumerate() {
        let before = (directory.picture(), union.picture());
        std::thread::sleep(TICK);
        let (expected, got) = (directory.apply(op), union.apply(op));
        assert_eq!(
            expected,
            got,
            "directory and mount answer {op}\n{}",
            context(at + 1)
        );
        let after = (directory.picture(), union.picture());
        assert_eq!(
            differences(&after.0, &after.1),
            Vec::<String>::new(),
            "after {op}\n{}",
            context(at + 1)
        );
        if !matches!(
            op,
            Op::SetXattr { .. }
                | Op::RemoveXattr { .. }
                | Op::SetAcl { .. }
                | Op::Allocate { .. }
                | Op::Mtime { .. }
                | Op::Rename { .. }
        ) {
            assert_eq!(
                moved_times(&before.0, &after.0),
                moved_times(&before.1, &after.1),
                "times after {op}\n{}",
                context(at + 1)
            );
        }
    }
    union.apply(&Op::Release).unwrap();
    let last = union.picture();
    // What was seen is what is found after everything was forgotten.
    let upper = mount.vfs.upper().unwrap().id();
    mount.unmount();
    let again = Mounted::writable(store.get().open_upper(upper).unwrap());
    let found = Directory::new(&again.root).picture();
    assert_eq!(
        differences(&last, &found),
        Vec::<String>::new(),
        "after a remount\n{}",
        context(list.len())
    );
    for (path, seen) in &last {
        assert_eq!(
            seen.ino,
            found[path].ino,
            "inode number of {path} after a remount\n{}",
            context(list.len())
        );
        assert_eq!(
            seen.mtime,
            found[path].mtime,
            "mtime of {path} after a remount\n{}",
            context(list.len())
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 40 * ProptestConfig::default().cases / 256,
        failure_persistence: None,
        max_shrink_iters: 200,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_writable_mount_does_what_a_plain_directory_does(base in generate::base(), list in generate::ops()) {
        if can_mount() {
            compare(&TempStore::new(), &base, &list);
        }
    }
}

#[test]
fn all_of_a_rename_works_on_directories_of_the_image() {
    if !can_mount() {
        return;
    }
    let base =
        parse("mkdir a 755\nmkdir a/b 755\ncreate a/b/c 644\nwrite a/b/c 0 10 1\nmkdir b 700\n");
    let list = "\
rename a c replace
rename c b exchange
rename b/b c replace
create b/x 644
rename b/x b/y whiteout
rename c/c b/x replace
rmdir c
";
    compare(&TempStore::new(), &base, &parse(list));
}

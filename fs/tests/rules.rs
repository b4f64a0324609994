//! What the union's rules promise beyond what lists of operations by root can show: privileges, limits, costs.
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::ops::ControlFlow;

use common::memory::Memory;
use common::model::{Model, UMASK};
use common::ops::{AclSpec, Target as _, WhichAcl, parse};
use nacre_fs::union::create::{self, Purpose};
use nacre_fs::union::setattr::{self, Change, Kill};
use nacre_fs::union::{At, Context, Errno, Layers, Origin};
use nacre_fs::union::{fallocate, getattr, link, lookup, readdir, rename, unlink, write, xattr};
use nacre_store::{FileName, Ino, Inode, Link, Override, Time, UpperOp};

fn name(text: &str) -> FileName {
    FileName::new(text.as_bytes()).unwrap()
}

fn context(uid: u32) -> Context {
    Context {
        now: Time {
            seconds: 5_000,
            nanos: 7,
        },
        uid,
        gid: uid,
        umask: UMASK,
        seq: 77,
        origin: Origin::User,
    }
}

/// A base made by operations, with an empty upper.
fn base(text: &str) -> Memory {
    let mut model = Model::new();
    for op in parse(text) {
        model.apply(&op).unwrap();
    }
    Memory::over(&model)
}

/// Changes a record of the base.
fn edit(memory: &mut Memory, path: &str, change: impl FnOnce(&mut Inode)) -> Ino {
    let ino = memory.find(path).unwrap();
    let mut inode = (*memory.inode(ino)).clone();
    change(&mut inode);
    memory.base_inodes.insert(ino, inode.into());
    ino
}

/// The record that a plan sets.
fn record(ops: &[UpperOp], ino: Ino) -> &Inode {
    let set = ops.iter().find_map(|op| match op {
        UpperOp::SetInode(of, inode) if *of == ino => Some(&**inode),
        _ => None,
    });
    set.unwrap_or_else(|| panic!("no record of {ino:?} in {ops:?}"))
}

fn privileged(memory: &mut Memory) -> Ino {
    edit(memory, "f", |inode| {
        inode.mode = 0o6755;
        inode.xattrs.insert(
            b"security.capability".as_slice().into(),
            b"caps".as_slice().into(),
        );
    })
}

const FILE: &str = "create f 755\nwrite f 0 100 65";

#[test]
fn a_write_by_a_stranger_takes_setuid_setgid_and_capabilities() {
    let mut memory = base(FILE);
    let ino = privileged(&mut memory);
    let plan = write::plan(&memory, &context(1000), ino, 0..1, Kill::All).unwrap();
    let inode = record(&plan.ops, ino);
    assert_eq!((inode.mode, inode.xattrs.len()), (0o755, 0));
}

#[test]
fn a_data_file_does_not_spare_a_file_its_privileges() {
    let mut memory = base(FILE);
    privileged(&mut memory);
    let ino = edit(&mut memory, "f", |inode| {
        inode.content = nacre_store::Content::Data
    });
    let plan = write::plan(&memory, &context(1000), ino, 0..1, Kill::All).unwrap();
    let inode = record(&plan.ops, ino);
    assert_eq!((inode.mode, inode.xattrs.len()), (0o755, 0));
}

#[test]
fn a_write_with_cap_fsetid_takes_capabilities_alone() {
    let mut memory = base(FILE);
    let ino = privileged(&mut memory);
    let plan = write::plan(&memory, &context(0), ino, 0..1, Kill::Capability).unwrap();
    let inode = record(&plan.ops, ino);
    assert_eq!((inode.mode, inode.xattrs.len()), (0o6755, 0));
}

#[test]
fn setgid_of_a_file_that_no_group_may_execute_goes_when_a_stranger_writes_and_stays_when_a_member_does()
 {
    let mut memory = base(FILE);
    for (group, left) in [(1000, 0o2745), (7, 0o745)] {
        let ino = edit(&mut memory, "f", |inode| {
            inode.mode = 0o2745;
            inode.gid = group;
        });
        let plan = write::plan(&memory, &context(1000), ino, 0..1, Kill::All).unwrap();
        assert_eq!(record(&plan.ops, ino).mode, left, "group {group}");
    }
}

#[test]
fn truncation_and_allocation_take_privileges_like_a_write() {
    let mut memory = base(FILE);
    let ino = privileged(&mut memory);
    let change = Change {
        size: Some(5),
        ..Change::default()
    };
    let plan = setattr::plan(&memory, &context(1000), ino, &change, Kill::All).unwrap();
    assert_eq!(
        (plan.answer.inode.mode, plan.answer.inode.xattrs.len()),
        (0o755, 0)
    );
    let plan = fallocate::plan(
        &memory,
        &context(1000),
        ino,
        fallocate::How::Punch,
        0..9,
        100,
        Kill::All,
    )
    .unwrap();
    let inode = record(&plan.ops, ino);
    assert_eq!((inode.mode, inode.xattrs.len()), (0o755, 0));
}

#[test]
fn chown_takes_privileges_from_files_whoever_asks_but_not_from_directories() {
    let mut memory = base("create f 755\nmkdir d 755");
    let file = privileged(&mut memory);
    let dir = edit(&mut memory, "d", |inode| inode.mode = 0o6755);
    let change = Change {
        uid: Some(7),
        ..Change::default()
    };
    let changed = |ino| {
        setattr::plan(&memory, &context(0), ino, &change, Kill::Capability)
            .unwrap()
            .answer
            .inode
    };
    assert_eq!(
        (
            changed(file).mode,
            changed(file).uid,
            changed(file).xattrs.len()
        ),
        (0o755, 7, 0)
    );
    assert_eq!(changed(dir).mode, 0o6755);
}

#[test]
fn an_acl_set_from_outside_the_group_takes_setgid() {
    let mut memory = base(FILE);
    let ino = edit(&mut memory, "f", |inode| {
        (inode.mode, inode.gid, inode.uid) = (0o2755, 50, 1000)
    });
    let acl = AclSpec("u7,g5,o5".to_owned()).to_bytes();
    let set = |how| {
        let name = WhichAcl::Access.name().as_bytes();
        let plan = xattr::set(&memory, &context(1000), ino, name, &acl, how);
        record(&plan.unwrap().ops, ino).mode
    };
    assert_eq!(
        (set(xattr::How::ByStranger), set(xattr::How::Either)),
        (0o755, 0o2755)
    );
}

#[test]
fn trusted_attributes_are_listed_for_root_alone() {
    let mut memory = base(FILE);
    let ino = edit(&mut memory, "f", |inode| {
        for key in [b"trusted.a".as_slice(), b"user.b", b"odd"] {
            inode.xattrs.insert(key.into(), b"".as_slice().into());
        }
    });
    assert_eq!(
        xattr::list(&memory, &context(0), ino).unwrap(),
        b"odd\0trusted.a\0user.b\0"
    );
    assert_eq!(
        xattr::list(&memory, &context(1), ino).unwrap(),
        b"odd\0user.b\0"
    );
    // What an image brought is shown, even where a name like it could not be set.
    assert_eq!(&*xattr::get(&memory, ino, b"odd").unwrap(), b"");
    assert_eq!(xattr::get(&memory, ino, b"even"), Err(Errno::NotSup));
}

#[test]
fn attributes_have_linux_limits() {
    let memory = base(FILE);
    let ino = memory.find("f").unwrap();
    let set = |name: &[u8], value: &[u8]| {
        xattr::set(&memory, &context(0), ino, name, value, xattr::How::Either).map(drop)
    };
    let long = [b"user.".as_slice(), &[b'x'; 250]].concat();
    assert_eq!(set(&long, &vec![0; 64 << 10]), Ok(()));
    assert_eq!(set(&long, &vec![0; (64 << 10) + 1]), Err(Errno::TooBig));
    assert_eq!(
        set(&[long.as_slice(), b"x"].concat(), b""),
        Err(Errno::Range)
    );
    assert_eq!(set(b"", b""), Err(Errno::Range));
}

#[test]
fn an_inode_holds_a_megabyte_of_attributes() {
    let mut memory = base(FILE);
    let ino = edit(&mut memory, "f", |inode| {
        for number in 0..16 {
            inode.xattrs.insert(
                format!("user.{number}").into_bytes().into(),
                vec![0; 64 << 10].into(),
            );
        }
    });
    let set = |name: &[u8], value: &[u8]| {
        xattr::set(&memory, &context(0), ino, name, value, xattr::How::Either).map(drop)
    };
    assert_eq!(set(b"user.more", b""), Ok(()));
    assert_eq!(set(b"user.more", b"x"), Err(Errno::NoSpc));
}

#[test]
fn a_file_has_65000_names_at_most() {
    let mut memory = base(FILE);
    let links = |count: usize| {
        (0..count).map(|n| Link {
            parent: Ino::ROOT,
            name: name(&format!("n{n}")),
        })
    };
    let ino = edit(&mut memory, "f", |inode| {
        inode.links = links(link::LINK_MAX - 1).collect()
    });
    let to = name("new");
    let at = At {
        dir: Ino::ROOT,
        name: &to,
    };
    let answer = link::plan(&memory, &context(0), ino, at).unwrap().answer;
    assert_eq!(getattr::nlink(ino, &answer), 65_000);
    memory.base_inodes.insert(ino, answer.into());
    assert_eq!(link::plan(&memory, &context(0), ino, at), Err(Errno::MLink));
}

#[test]
fn an_open_file_without_a_name_gets_none_again() {
    let mut memory = base(FILE);
    let ino = edit(&mut memory, "f", |inode| inode.links.clear());
    let to = name("new");
    assert_eq!(
        link::plan(
            &memory,
            &context(0),
            ino,
            At {
                dir: Ino::ROOT,
                name: &to
            }
        ),
        Err(Errno::NoEnt)
    );
}

#[test]
fn a_file_made_without_a_name_is_an_orphan_until_it_gets_one() {
    let mut memory = base("mkdir d 755");
    let dir = edit(&mut memory, "d", |inode| {
        (inode.mode, inode.gid) = (0o2775, 50);
    });
    let before = memory.inode(dir);
    let ctx = context(7);
    let plan = create::unnamed(&memory, &ctx, dir, Ino(99), 0o666, Purpose::Empty).unwrap();
    let made = &plan.answer.inode;
    assert_eq!((made.mode, made.uid, made.gid), (0o644, 7, 50));
    assert_eq!(getattr::nlink(Ino(99), made), 0);
    assert_eq!(plan.ops[0], UpperOp::SetOrphan(Ino(99)));
    assert_eq!(plan.ops.len(), 2, "the directory stays as it is");
    memory
        .inodes
        .insert(Ino(99), std::sync::Arc::new(made.clone()));

    let to = name("new");
    let at = At { dir, name: &to };
    assert_eq!(link::plan(&memory, &ctx, Ino(99), at), Err(Errno::NoEnt));
    let plan = link::first(&memory, &ctx, Ino(99), at).unwrap();
    assert!(plan.ops.contains(&UpperOp::DropOrphan(Ino(99))));
    assert_eq!(getattr::nlink(Ino(99), record(&plan.ops, Ino(99))), 1);
    assert_eq!(record(&plan.ops, dir).mtime, ctx.now);
    assert_ne!(before.mtime, ctx.now);
    edit(&mut memory, "d", |inode| inode.links.clear());
    assert_eq!(link::first(&memory, &ctx, Ino(99), at), Err(Errno::NoEnt));
    assert_eq!(
        create::unnamed(&memory, &ctx, dir, Ino(98), 0o666, Purpose::Empty),
        Err(Errno::NoEnt)
    );
}

#[test]
fn moving_a_directory_of_the_image_touches_it_and_its_parents_alone() {
    let memory = base(
        "mkdir a 755\nmkdir a/big 755\nmkdir a/big/sub 755\ncreate a/big/one 644\ncreate a/big/two 644\nmkdir b 755",
    );
    let (a, b) = (memory.find("a").unwrap(), memory.find("b").unwrap());
    let (from, to) = (name("big"), name("moved"));
    let plan = rename::plan(
        &memory,
        &context(0),
        At {
            dir: a,
            name: &from,
        },
        At { dir: b, name: &to },
        rename::How::Replace,
    );
    let plan = plan.unwrap();
    assert_eq!(plan.ops.len(), 5, "{:?}", plan.ops);
    assert_eq!(getattr::nlink(a, record(&plan.ops, a)), 2);
    assert_eq!(getattr::nlink(b, record(&plan.ops, b)), 3);
}

#[test]
fn a_name_that_comes_home_leaves_nothing_behind() {
    let mut memory = base("create f 644");
    for op in parse("rename f g replace\nrename g f replace") {
        memory.apply(&op).unwrap();
    }
    assert!(
        memory.dirs.values().all(|entries| entries.is_empty()),
        "{:?}",
        memory.dirs
    );
}

#[test]
fn a_name_of_the_upper_alone_goes_without_a_whiteout() {
    let mut memory = base("mkdir d 755");
    for op in parse("create d/f 644\nunlink d/f") {
        memory.apply(&op).unwrap();
    }
    assert!(
        memory.dirs.values().all(|entries| entries.is_empty()),
        "{:?}",
        memory.dirs
    );
    assert!(memory.orphans.is_empty());
}

#[test]
fn a_directory_of_whiteouts_is_empty_and_its_whiteouts_go_with_it() {
    let mut memory = base("mkdir d 755\ncreate d/f 644");
    let dir = memory.find("d").unwrap();
    for op in parse("unlink d/f\nrmdir d\nmkdir d 755") {
        memory.apply(&op).unwrap();
    }
    assert!(
        memory
            .dirs
            .get(&dir)
            .is_none_or(|entries| entries.is_empty())
    );
    assert_eq!(
        memory.list(memory.find("d").unwrap(), 0).len(),
        2,
        "the new directory shows nothing of the old one"
    );
}

#[test]
fn nothing_can_be_made_or_seen_in_a_removed_directory() {
    let mut memory = base("mkdir d 755\ncreate d/f 644");
    let dir = edit(&mut memory, "d", |inode| inode.links.clear());
    let (there, new) = (name("f"), name("g"));
    let at = At { dir, name: &new };
    assert_eq!(lookup::child(&memory, dir, &there), Err(Errno::NoEnt));
    assert_eq!(
        create::dir(&memory, &context(0), at, Ino(9), 0o755),
        Err(Errno::NoEnt)
    );
    assert_eq!(
        readdir::visit(&memory, dir, 0, &mut |_| ControlFlow::Continue(())),
        Err(Errno::NoEnt)
    );
    assert_eq!(getattr::nlink(dir, &memory.inode(dir)), 0);
}

#[test]
fn names_in_what_is_no_directory_are_refused() {
    let memory = base(FILE);
    let ino = memory.find("f").unwrap();
    let new = name("x");
    let at = At {
        dir: ino,
        name: &new,
    };
    assert_eq!(lookup::child(&memory, ino, &new), Err(Errno::NotDir));
    assert_eq!(unlink::file(&memory, &context(0), at), Err(Errno::NotDir));
    assert_eq!(
        create::file(&memory, &context(0), at, Ino(9), 0o644, Purpose::Empty),
        Err(Errno::NotDir)
    );
}

#[test]
fn targets_of_symbolic_links_are_4095_bytes_at_most() {
    let memory = base("");
    let new = name("l");
    let make = |target: &[u8]| {
        create::symlink(
            &memory,
            &context(0),
            At {
                dir: Ino::ROOT,
                name: &new,
            },
            Ino(9),
            target,
        )
        .map(|plan| plan.answer.inode.size)
    };
    assert_eq!(make(&[b'x'; 4095]), Ok(4095));
    assert_eq!(make(&[b'x'; 4096]), Err(Errno::NameTooLong));
    assert_eq!(make(b""), Err(Errno::NoEnt));
}

#[test]
fn a_damaged_default_acl_of_an_image_counts_as_none() {
    let mut memory = base("mkdir d 755");
    let dir = edit(&mut memory, "d", |inode| {
        inode.xattrs.insert(
            b"system.posix_acl_default".as_slice().into(),
            b"\x02\0\0\0garbage!".as_slice().into(),
        );
    });
    let new = name("f");
    let plan = create::file(
        &memory,
        &context(0),
        At { dir, name: &new },
        Ino(9),
        0o666,
        Purpose::Empty,
    )
    .unwrap();
    assert_eq!(
        (plan.answer.inode.mode, plan.answer.inode.xattrs.len()),
        (0o644, 0)
    );
}

#[test]
fn a_reader_that_takes_a_page_gets_the_lowest_sequences_first() {
    let mut memory = base("");
    let names: Vec<FileName> = (0..5_000).map(|n| name(&format!("n{n:04}"))).collect();
    let entries = names.iter().zip(1_u64..).map(|(name, n)| {
        // Sequences that do not follow the names.
        let seq = n * 7_919 % 5_003;
        (
            name.clone(),
            Override::Entry {
                ino: Ino(n + 10),
                kind: nacre_store::Kind::File,
                seq,
            },
        )
    });
    memory
        .dirs
        .insert(Ino::ROOT, std::sync::Arc::new(entries.collect()));
    let (mut seen, mut cookie) = (Vec::new(), 0);
    loop {
        let before = seen.len();
        let visited = readdir::visit(&memory, Ino::ROOT, cookie, &mut |item| {
            if seen.len() == before + 700 {
                return ControlFlow::Break(());
            }
            seen.push((item.cookie, item.name.to_vec()));
            cookie = item.cookie;
            ControlFlow::Continue(())
        });
        visited.unwrap();
        if seen.len() == before {
            break;
        }
    }
    assert_eq!(seen.len(), 5_002);
    assert!(seen.is_sorted());
}

#[test]
fn the_layers_errors_are_answered() {
    struct Broken;
    impl Layers for Broken {
        fn base_inode(&self, _: Ino) -> Result<Option<std::sync::Arc<Inode>>, Errno> {
            Err(Errno::Io)
        }
        fn base_dir(&self, _: Ino) -> Result<Option<std::sync::Arc<nacre_store::DirList>>, Errno> {
            Err(Errno::Io)
        }
        fn upper_inode(&self, _: Ino) -> Result<Option<std::sync::Arc<Inode>>, Errno> {
            Ok(None)
        }
        fn upper_dir(
            &self,
            _: Ino,
        ) -> Result<std::sync::Arc<std::collections::BTreeMap<FileName, Override>>, Errno> {
            Err(Errno::Io)
        }
    }
    assert_eq!(
        lookup::child(&Broken, Ino::ROOT, &name("x")),
        Err(Errno::Io)
    );
    assert_eq!(getattr::inode(&base(""), Ino(12_345)), Err(Errno::Stale));
}

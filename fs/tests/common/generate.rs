//! Lists of operations by chance: few names, so that they meet often.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::ops::{AclSpec, Allocate, Node, Op, Rename, SetXattr, WhichAcl};

/// Paths of one to three components out of three names.
pub fn path() -> impl Strategy<Value = String> {
    vec(select(vec!["a", "b", "c"]), 1..=3).prop_map(|names| names.join("/"))
}

fn mode() -> impl Strategy<Value = u16> {
    prop_oneof![
        4 => select(vec![0o644, 0o755, 0o777, 0o600]),
        1 => select(vec![0o4755, 0o2755, 0o6777, 0o2644, 0o1777]),
    ]
}

fn acl() -> impl Strategy<Value = AclSpec> {
    select(vec![
        "u7,g5,o4",
        "u7,u1000=7,g5,m5,o0",
        "u6,g4,g50=6,m6,o4",
        "u7,g5,m4,o1",
        "-",
        "u7,o1",
        "u7,u5=3,g5,o4",
    ])
    .prop_map(|text| AclSpec(text.to_owned()))
}

fn how<T: Copy + std::fmt::Debug + 'static>(all: &'static [T]) -> impl Strategy<Value = T> {
    select(all)
}

/// Offsets and lengths around small files, now and then beyond a chunk.
fn span() -> impl Strategy<Value = (u64, u64)> {
    prop_oneof![4 => (0_u64..200, 0_u64..200), 1 => (0_u64..70_000, 0_u64..70_000)]
}

/// What makes a tree: the base's operations are these.
fn making() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (path(), mode()).prop_map(|(path, mode)| Op::Create { path, mode }),
        6 => (path(), mode()).prop_map(|(path, mode)| Op::Mkdir { path, mode }),
        1 => (path(), how(Node::ALL), mode(), select(vec![0_u64, 259, 0x10_3405]))
            .prop_map(|(path, node, mode, rdev)| Op::Mknod { path, node, mode, rdev }),
        1 => path().prop_map(|path| Op::Symlink { target: "nowhere".to_owned(), path }),
        3 => (path(), path()).prop_map(|(from, to)| Op::Link { from, to }),
        3 => (path(), span(), any::<u8>()).prop_map(|(path, (offset, len), fill)| Op::Write { path, offset, len, fill }),
        1 => (path(), select(vec![-5_i64, 0, 1 << 34])).prop_map(|(path, seconds)| Op::Mtime { path, seconds }),
        1 => (path(), xattr_name(), select(vec!["x", "yy"])).prop_map(|(path, name, value)| Op::SetXattr {
            path,
            name,
            value: value.to_owned(),
            how: SetXattr::Either,
        }),
        1 => (path(), how(WhichAcl::ALL), acl()).prop_map(|(path, which, acl)| Op::SetAcl { path, which, acl }),
        1 => (path(), mode()).prop_map(|(path, mode)| Op::Chmod { path, mode }),
        1 => (path(), 0_u32..3, 0_u32..3).prop_map(|(path, uid, gid)| Op::Chown { path, uid, gid }),
    ]
}

fn xattr_name() -> impl Strategy<Value = String> {
    select(vec![
        "user.one",
        "user.two",
        "trusted.three",
        "user.",
        "odd",
    ])
    .prop_map(str::to_owned)
}

/// What takes a tree apart.
fn unmaking() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => path().prop_map(|path| Op::Unlink { path }),
        4 => path().prop_map(|path| Op::Rmdir { path }),
        8 => (path(), path(), how(Rename::ALL)).prop_map(|(from, to, how)| Op::Rename { from, to, how }),
        8 => (path(), path()).prop_map(|(from, to)| Op::Rename { from, to, how: Rename::Replace }),
        2 => (path(), 0_u64..300).prop_map(|(path, size)| Op::Truncate { path, size }),
        1 => (path(), span(), how(Allocate::ALL))
            .prop_map(|(path, (offset, len), how)| Op::Allocate { path, offset, len, how }),
        1 => (path(), xattr_name(), how(SetXattr::ALL)).prop_map(|(path, name, how)| Op::SetXattr {
            path,
            name,
            value: "new".to_owned(),
            how,
        }),
        1 => (path(), xattr_name()).prop_map(|(path, name)| Op::RemoveXattr { path, name }),
        1 => (path(), how(WhichAcl::ALL))
            .prop_map(|(path, which)| Op::RemoveXattr { path, name: which.name().to_owned() }),
        2 => path().prop_map(|path| Op::Hold { path }),
        2 => (span(), any::<u8>()).prop_map(|((offset, len), fill)| Op::HeldWrite { offset, len, fill }),
        1 => (0_u64..300).prop_map(|size| Op::HeldTruncate { size }),
        1 => mode().prop_map(|mode| Op::HeldChmod { mode }),
        1 => Just(Op::Release),
    ]
}

/// Operations that make a base tree.
pub fn base() -> impl Strategy<Value = Vec<Op>> {
    vec(making(), 0..40)
}

/// Operations on it.
pub fn ops() -> impl Strategy<Value = Vec<Op>> {
    vec(prop_oneof![making(), unmaking()], 1..40)
}

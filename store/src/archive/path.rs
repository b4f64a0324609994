//! Names of entries: cleaned to components, whiteouts told apart. Never touches a file system.

use super::error::shown;
use crate::FileName;

const WHITEOUT_PREFIX: &[u8] = b".wh.";
/// aufs' own files, and the opaque mark, which OCI took over from it.
const AUFS_PREFIX: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// What an entry's name says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Name {
    /// The entry itself.
    Plain(Vec<FileName>),
    /// The path that is to be hidden.
    Whiteout(Vec<FileName>),
    /// The directory whose lower content is to be hidden.
    Opaque(Vec<FileName>),
    /// A file that aufs kept for itself (`.wh..wh.plnk` and the like): means nothing.
    Leftover,
}

/// Why a name is none.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Fault {
    /// No usable name.
    Name {
        /// The name, or the component at fault.
        name: String,
        /// Why.
        reason: String,
    },
    /// A whiteout of nothing that can be.
    Whiteout(&'static str),
    /// Too many components.
    TooDeep,
}

impl Fault {
    fn name(name: &[u8], reason: impl ToString) -> Self {
        Self::Name {
            name: shown(name),
            reason: reason.to_string(),
        }
    }
}

/// Splits a name into components: empty ones and `.` vanish, `..` takes the one before along and stops at the root.
fn components(raw: &[u8], depth_max: usize) -> Result<Vec<&[u8]>, Fault> {
    if raw.is_empty() {
        return Err(Fault::name(raw, "empty name"));
    }
    if raw.contains(&0) {
        return Err(Fault::name(raw, "NUL byte in name"));
    }
    // Most paths have fewer.
    let mut path = Vec::with_capacity(8);
    for component in raw.split(|b| *b == b'/') {
        match component {
            b"" | b"." => {}
            b".." => {
                path.pop();
            }
            _ if path.len() == depth_max => return Err(Fault::TooDeep),
            _ => path.push(component),
        }
    }
    Ok(path)
}

fn file_names(components: &[&[u8]]) -> Result<Vec<FileName>, Fault> {
    components
        .iter()
        .map(|c| FileName::new(c).map_err(|reason| Fault::name(c, reason)))
        .collect()
}

/// Cleans a path without looking for whiteouts: a hard link's target.
pub(super) fn clean(raw: &[u8], depth_max: usize) -> Result<Vec<FileName>, Fault> {
    file_names(&components(raw, depth_max)?)
}

/// Reads an entry's name.
pub(super) fn read(raw: &[u8], depth_max: usize) -> Result<Name, Fault> {
    let mut path = components(raw, depth_max)?;
    let Some(last) = path.last_mut() else {
        return Ok(Name::Plain(Vec::new()));
    };
    let Some(hidden) = last.strip_prefix(WHITEOUT_PREFIX) else {
        return Ok(Name::Plain(file_names(&path)?));
    };
    if *last == OPAQUE {
        path.pop();
        return Ok(Name::Opaque(file_names(&path)?));
    }
    if last.starts_with(AUFS_PREFIX) {
        return Ok(Name::Leftover);
    }
    match hidden {
        // Some unpackers join this to the parent's path and delete the parent.
        b"" => Err(Fault::Whiteout("nothing behind .wh.")),
        b"." => Err(Fault::Whiteout("\".\" names no entry")),
        b".." => Err(Fault::Whiteout("\"..\" names no entry")),
        _ => {
            *last = hidden;
            Ok(Name::Whiteout(file_names(&path)?))
        }
    }
}

/// Spells a path as a tar does, without a leading slash, and `suffix` behind it.
pub(super) fn spell(path: &[FileName], suffix: &[u8]) -> Vec<u8> {
    let mut name = Vec::with_capacity(
        path.iter().map(|c| c.as_bytes().len() + 1).sum::<usize>() + suffix.len(),
    );
    for component in path {
        if !name.is_empty() {
            name.push(b'/');
        }
        name.extend_from_slice(component.as_bytes());
    }
    name.extend_from_slice(suffix);
    name
}

/// Spells the marker that hides `path`; `None` if nothing can hide it: the root, or a name that would read as aufs' own.
pub(super) fn spell_whiteout(path: &[FileName]) -> Option<Vec<u8>> {
    let (last, parent) = path.split_last()?;
    if is_reserved(last) {
        return None;
    }
    let mut name = spell(parent, if parent.is_empty() { b"" } else { b"/" });
    name.extend_from_slice(WHITEOUT_PREFIX);
    name.extend_from_slice(last.as_bytes());
    Some(name)
}

/// Spells the marker that makes `path` opaque.
pub(super) fn spell_opaque(path: &[FileName]) -> Vec<u8> {
    let mut name = spell(path, if path.is_empty() { b"" } else { b"/" });
    name.extend_from_slice(OPAQUE);
    name
}

/// Tells whether a layer cannot hold an entry of this name, because it would read as a marker.
pub(super) fn is_reserved(name: &FileName) -> bool {
    name.as_bytes().starts_with(WHITEOUT_PREFIX)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use proptest::prelude::*;

    fn names(path: &str) -> Vec<FileName> {
        path.split('/')
            .filter(|c| !c.is_empty())
            .map(|c| FileName::new(c.as_bytes()).unwrap())
            .collect()
    }

    #[test]
    fn names_are_cleaned_within_the_root() {
        let cases = [
            ("a/b", "a/b"),
            ("./a", "a"),
            ("/a", "a"),
            ("//a///b//", "a/b"),
            ("a/", "a"),
            ("a/./b/.", "a/b"),
            ("a/../b", "b"),
            ("../../b", "b"),
            ("a/../../../b/..", ""),
            (".", ""),
            ("./", ""),
            ("/", ""),
            ("...", "..."),
            (".hidden/..dots", ".hidden/..dots"),
            ("wh.x", "wh.x"),
            ("x.wh.y", "x.wh.y"),
            (".wh..wh.plnk/1.2", ".wh..wh.plnk/1.2"),
            (".wh.x/../y", "y"),
        ];
        for (raw, clean) in cases {
            assert_eq!(
                read(raw.as_bytes(), 10),
                Ok(Name::Plain(names(clean))),
                "{raw:?}"
            );
        }
    }

    #[test]
    fn markers_are_told_apart() {
        let cases = [
            (".wh.x", Name::Whiteout(names("x"))),
            ("./a/.wh.x/", Name::Whiteout(names("a/x"))),
            (".wh..foo", Name::Whiteout(names(".foo"))),
            (".wh....", Name::Whiteout(names("..."))),
            (".wh..wh..opq", Name::Opaque(names(""))),
            ("a/b/.wh..wh..opq", Name::Opaque(names("a/b"))),
            (".wh..wh.plnk/", Name::Leftover),
            ("a/.wh..wh.aufs", Name::Leftover),
            (".wh..wh.", Name::Leftover),
            (".wh..wh..opqx", Name::Leftover),
        ];
        for (raw, name) in cases {
            assert_eq!(read(raw.as_bytes(), 10), Ok(name), "{raw:?}");
        }
    }

    #[test]
    fn a_whiteout_of_the_longest_name_is_read() {
        let raw = [b".wh.".as_slice(), &[b'n'; 255]].concat();
        assert_eq!(
            read(&raw, 10),
            Ok(Name::Whiteout(vec![FileName::new(&[b'n'; 255]).unwrap()]))
        );
    }

    #[test]
    fn what_is_no_name_is_refused_and_named() {
        for raw in [".wh.", "a/.wh.", ".wh..", ".wh...", "./.wh.."] {
            assert!(
                matches!(read(raw.as_bytes(), 10), Err(Fault::Whiteout(_))),
                "{raw:?}"
            );
        }
        let long = "n".repeat(256);
        for (raw, named) in [
            ("", ""),
            ("a\0b", "a\0b"),
            (long.as_str(), &*shown(long.as_bytes())),
        ] {
            match read(raw.as_bytes(), 10) {
                Err(Fault::Name { name, .. }) => assert_eq!(name, named),
                other => panic!("{raw:?}: {other:?}"),
            }
        }
        assert_eq!(read(b"a/b/c", 2), Err(Fault::TooDeep));
        assert_eq!(clean(b"a/b/../c", 2), Ok(names("a/c")));
    }

    #[test]
    fn markers_are_spelled_as_they_are_read() {
        for path in ["x", "a/b/x", ".foo", "..."] {
            let raw = spell_whiteout(&names(path)).unwrap();
            assert_eq!(read(&raw, 10), Ok(Name::Whiteout(names(path))));
        }
        for path in ["", "a", "a/b"] {
            assert_eq!(
                read(&spell_opaque(&names(path)), 10),
                Ok(Name::Opaque(names(path)))
            );
        }
        assert_eq!(spell_whiteout(&[]), None);
        assert_eq!(spell_whiteout(&names("a/.wh.x")), None);
    }

    proptest! {
        #[test]
        fn a_clean_path_reads_as_itself(parts in proptest::collection::vec("[a-z.]{1,6}", 0..6), raw in any::<Vec<u8>>()) {
            let path: Vec<_> = parts.iter().filter_map(|p| FileName::new(p.as_bytes()).ok()).collect();
            prop_assert_eq!(clean(&spell(&path, b"/"), 10), Ok(path));
            if let Ok(clean_path) = clean(&raw, 10) {
                prop_assert!(clean_path.len() <= 10);
            }
        }
    }
}

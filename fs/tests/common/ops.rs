//! The language of the tests: operations, what they answer, and what a tree looks like. Knows no judge.
//!
//! An operation has a text form, one a line, so that a failure that was shrunk can stay as a test:
//!
//! ```text
//! mkdir d 755
//! create d/f 644
//! rename d e exchange
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use rustix::io::Errno;

/// What an operation answers.
pub type Outcome = Result<(), Errno>;

/// One operation. Paths are relative to the tree's root; the last component is never followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// `open(O_CREAT | O_EXCL | O_WRONLY)`, closed at once.
    Create {
        path: String,
        mode: u16,
    },
    Mkdir {
        path: String,
        mode: u16,
    },
    Mknod {
        path: String,
        node: Node,
        mode: u16,
        rdev: u64,
    },
    Symlink {
        target: String,
        path: String,
    },
    Link {
        from: String,
        to: String,
    },
    Unlink {
        path: String,
    },
    Rmdir {
        path: String,
    },
    Rename {
        from: String,
        to: String,
        how: Rename,
    },
    Chmod {
        path: String,
        mode: u16,
    },
    /// `lchown`
    Chown {
        path: String,
        uid: u32,
        gid: u32,
    },
    Truncate {
        path: String,
        size: u64,
    },
    /// `open(O_WRONLY)`, `pwrite` of `len` bytes `fill`.
    Write {
        path: String,
        offset: u64,
        len: u64,
        fill: u8,
    },
    Allocate {
        path: String,
        offset: u64,
        len: u64,
        how: Allocate,
    },
    /// `utimensat` of the modification time.
    Mtime {
        path: String,
        seconds: i64,
    },
    /// `lsetxattr`
    SetXattr {
        path: String,
        name: String,
        value: String,
        how: SetXattr,
    },
    RemoveXattr {
        path: String,
        name: String,
    },
    SetAcl {
        path: String,
        which: WhichAcl,
        acl: AclSpec,
    },
    /// `open(O_RDWR)`, kept until `Release`.
    Hold {
        path: String,
    },
    HeldWrite {
        offset: u64,
        len: u64,
        fill: u8,
    },
    HeldTruncate {
        size: u64,
    },
    HeldChmod {
        mode: u16,
    },
    Release,
}

/// Words of the text form, each for a variant.
macro_rules! words {
    ($($(#[$doc:meta])* $name:ident { $($variant:ident = $word:literal,)* })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $($variant,)* }

        impl $name {
            pub const ALL: &[Self] = &[$(Self::$variant,)*];
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$variant => $word,)* })
            }
        }

        impl FromStr for $name {
            type Err = String;

            fn from_str(word: &str) -> Result<Self, String> {
                match word {
                    $($word => Ok(Self::$variant),)*
                    _ => Err(format!("{}: no {}", word, stringify!($name))),
                }
            }
        }
    )*};
}

words! {
    /// What `mknod` makes.
    Node { File = "file", Char = "char", Block = "block", Fifo = "fifo", Socket = "socket", }
    /// Flags of `renameat2`.
    Rename {
        Replace = "replace",
        NoReplace = "noreplace",
        Exchange = "exchange",
        Whiteout = "whiteout",
        NoReplaceWhiteout = "noreplace-whiteout",
    }
    /// Modes of `fallocate`.
    Allocate { Grow = "grow", KeepSize = "keep", Punch = "punch", ZeroGrow = "zero", ZeroKeepSize = "zero-keep", }
    /// Flags of `setxattr`.
    SetXattr { Either = "either", Create = "create", Replace = "replace", }
    /// Which ACL.
    WhichAcl { Access = "access", Default = "default", }
}

/// An ACL as text: entries `u7`, `u1000=5`, `g5`, `g50=4`, `m5`, `o0`, with commas between; `-` has no entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AclSpec(pub String);

impl AclSpec {
    /// Returns its xattr form.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![2, 0, 0, 0];
        for entry in self.0.split(',').filter(|entry| *entry != "-") {
            let (who, rest) = entry.split_at(1);
            let (id, perm) = match rest.split_once('=') {
                Some((id, perm)) => (id.parse().unwrap(), perm),
                None => (u32::MAX, rest),
            };
            let tag: u16 = match (who, id) {
                ("u", u32::MAX) => 1,
                ("u", _) => 2,
                ("g", u32::MAX) => 4,
                ("g", _) => 8,
                ("m", _) => 16,
                _ => 32,
            };
            bytes.extend(tag.to_le_bytes());
            bytes.extend(perm.parse::<u16>().unwrap().to_le_bytes());
            bytes.extend(id.to_le_bytes());
        }
        bytes
    }
}

impl WhichAcl {
    /// The attribute's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Access => "system.posix_acl_access",
            Self::Default => "system.posix_acl_default",
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Op::Create { path, mode } => write!(f, "create {path} {mode:o}"),
            Op::Mkdir { path, mode } => write!(f, "mkdir {path} {mode:o}"),
            Op::Mknod {
                path,
                node,
                mode,
                rdev,
            } => write!(f, "mknod {path} {node} {mode:o} {rdev}"),
            Op::Symlink { target, path } => write!(f, "symlink {target} {path}"),
            Op::Link { from, to } => write!(f, "link {from} {to}"),
            Op::Unlink { path } => write!(f, "unlink {path}"),
            Op::Rmdir { path } => write!(f, "rmdir {path}"),
            Op::Rename { from, to, how } => write!(f, "rename {from} {to} {how}"),
            Op::Chmod { path, mode } => write!(f, "chmod {path} {mode:o}"),
            Op::Chown { path, uid, gid } => write!(f, "chown {path} {uid} {gid}"),
            Op::Truncate { path, size } => write!(f, "truncate {path} {size}"),
            Op::Write {
                path,
                offset,
                len,
                fill,
            } => write!(f, "write {path} {offset} {len} {fill}"),
            Op::Allocate {
                path,
                offset,
                len,
                how,
            } => write!(f, "allocate {path} {offset} {len} {how}"),
            Op::Mtime { path, seconds } => write!(f, "mtime {path} {seconds}"),
            Op::SetXattr {
                path,
                name,
                value,
                how,
            } => write!(f, "setxattr {path} {name} {value} {how}"),
            Op::RemoveXattr { path, name } => write!(f, "removexattr {path} {name}"),
            Op::SetAcl { path, which, acl } => write!(f, "setacl {path} {which} {}", acl.0),
            Op::Hold { path } => write!(f, "hold {path}"),
            Op::HeldWrite { offset, len, fill } => write!(f, "held-write {offset} {len} {fill}"),
            Op::HeldTruncate { size } => write!(f, "held-truncate {size}"),
            Op::HeldChmod { mode } => write!(f, "held-chmod {mode:o}"),
            Op::Release => write!(f, "release"),
        }
    }
}

/// The words of one line.
struct Words<'a>(std::str::SplitWhitespace<'a>);

impl Words<'_> {
    fn text(&mut self) -> Result<String, String> {
        self.0
            .next()
            .map(str::to_owned)
            .ok_or_else(|| "a word is missing".to_owned())
    }

    fn get<T: FromStr>(&mut self) -> Result<T, String> {
        let word = self.text()?;
        word.parse().map_err(|_| format!("{word}: not understood"))
    }

    fn mode(&mut self) -> Result<u16, String> {
        let word = self.text()?;
        u16::from_str_radix(&word, 8).map_err(|_| format!("{word}: no mode"))
    }
}

impl FromStr for Op {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let mut words = Words(line.split_whitespace());
        let verb = words.text()?;
        let w = &mut words;
        Ok(match verb.as_str() {
            "create" => Op::Create {
                path: w.text()?,
                mode: w.mode()?,
            },
            "mkdir" => Op::Mkdir {
                path: w.text()?,
                mode: w.mode()?,
            },
            "mknod" => Op::Mknod {
                path: w.text()?,
                node: w.get()?,
                mode: w.mode()?,
                rdev: w.get()?,
            },
            "symlink" => Op::Symlink {
                target: w.text()?,
                path: w.text()?,
            },
            "link" => Op::Link {
                from: w.text()?,
                to: w.text()?,
            },
            "unlink" => Op::Unlink { path: w.text()? },
            "rmdir" => Op::Rmdir { path: w.text()? },
            "rename" => Op::Rename {
                from: w.text()?,
                to: w.text()?,
                how: w.get()?,
            },
            "chmod" => Op::Chmod {
                path: w.text()?,
                mode: w.mode()?,
            },
            "chown" => Op::Chown {
                path: w.text()?,
                uid: w.get()?,
                gid: w.get()?,
            },
            "truncate" => Op::Truncate {
                path: w.text()?,
                size: w.get()?,
            },
            "write" => Op::Write {
                path: w.text()?,
                offset: w.get()?,
                len: w.get()?,
                fill: w.get()?,
            },
            "allocate" => Op::Allocate {
                path: w.text()?,
                offset: w.get()?,
                len: w.get()?,
                how: w.get()?,
            },
            "mtime" => Op::Mtime {
                path: w.text()?,
                seconds: w.get()?,
            },
            "setxattr" => Op::SetXattr {
                path: w.text()?,
                name: w.text()?,
                value: w.text()?,
                how: w.get()?,
            },
            "removexattr" => Op::RemoveXattr {
                path: w.text()?,
                name: w.text()?,
            },
            "setacl" => Op::SetAcl {
                path: w.text()?,
                which: w.get()?,
                acl: AclSpec(w.text()?),
            },
            "hold" => Op::Hold { path: w.text()? },
            "held-write" => Op::HeldWrite {
                offset: w.get()?,
                len: w.get()?,
                fill: w.get()?,
            },
            "held-truncate" => Op::HeldTruncate { size: w.get()? },
            "held-chmod" => Op::HeldChmod { mode: w.mode()? },
            "release" => Op::Release,
            _ => return Err(format!("{verb}: no operation")),
        })
    }
}

/// Reads a list of operations, one a line.
pub fn parse(text: &str) -> Vec<Op> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines
        .map(|line| {
            line.parse()
                .unwrap_or_else(|error| panic!("{line}: {error}"))
        })
        .collect()
}

/// Writes a list of operations, one a line.
pub fn print(ops: &[Op]) -> String {
    ops.iter().map(|op| format!("{op}\n")).collect()
}

/// A time, as a pair that sorts.
pub type Stamp = (i64, i64);

/// All that is seen of one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// `f d l c b p s`
    pub kind: char,
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
    pub nlink: u64,
    /// Of a directory 0.
    pub size: u64,
    pub rdev: u64,
    /// A symbolic link's target.
    pub target: String,
    /// A file's content.
    pub bytes: Vec<u8>,
    pub xattrs: BTreeMap<String, Vec<u8>>,
    /// The first path of the same inode.
    pub same_as: String,
    pub mtime: Stamp,
    pub ctime: Stamp,
    /// The judge's own number of the inode; means nothing to another judge.
    pub ino: u64,
}

/// A whole tree by path; the root is `""`, what `Hold` holds is `"(held)"`.
pub type Picture = BTreeMap<String, Seen>;

/// The path under which a picture shows what `Hold` holds.
pub const HELD: &str = "(held)";

/// Somebody who can do the operations.
pub trait Target {
    /// Does one.
    fn apply(&mut self, op: &Op) -> Outcome;

    /// Returns the tree as it is now.
    fn picture(&self) -> Picture;
}

/// Returns what differs between two pictures, times and numbers apart; empty when nothing does.
pub fn differences(one: &Picture, other: &Picture) -> Vec<String> {
    let timeless = |seen: &Seen| Seen {
        mtime: (0, 0),
        ctime: (0, 0),
        ino: 0,
        ..seen.clone()
    };
    let mut lines = Vec::new();
    let paths: std::collections::BTreeSet<&String> = one.keys().chain(other.keys()).collect();
    for path in paths {
        let (one, other) = (one.get(path).map(timeless), other.get(path).map(timeless));
        if one != other {
            lines.push(format!("{path:?}:\n  {one:?}\n  {other:?}"));
        }
    }
    lines
}

/// Returns the paths whose mtime and ctime an operation moved, as `m PATH` and `c PATH`; of paths that lead where they led.
pub fn moved_times(before: &Picture, after: &Picture) -> Vec<String> {
    let mut lines = Vec::new();
    for (path, seen) in after {
        let Some(old) = before.get(path).filter(|old| old.ino == seen.ino) else {
            continue;
        };
        if old.mtime != seen.mtime {
            lines.push(format!("m {path}"));
        }
        if old.ctime != seen.ctime {
            lines.push(format!("c {path}"));
        }
    }
    lines
}

//! Whole archives, through the public interface only: written, read, rebuilt, broken.
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "tests; a skipped one says why"
)]

mod damaged;
mod dialects;
mod generated;
mod hostile;
mod images;
mod limits;

use std::collections::BTreeMap;
use std::io::{self, Read};

use super::{ArchiveError, Entry, EntryKind, Limits, Reader, Writer};
use crate::{FileName, Time};

/// An entry and its stored content.
type Member = (Entry, Vec<u8>);

/// An archive taken apart, as a store keeps it.
struct Parts {
    headers: Vec<u8>,
    /// Each with where its content stands in the headers.
    members: Vec<(u64, Member)>,
}

impl Parts {
    fn members(&self) -> Vec<Member> {
        self.members
            .iter()
            .map(|(_, member)| member.clone())
            .collect()
    }

    /// Puts the archive together again: the contents of files at their places between the headers.
    fn rebuild(&self) -> Vec<u8> {
        let mut archive = Vec::new();
        let mut done = 0;
        for (place, (_, content)) in &self.members {
            let place = usize::try_from(*place).unwrap();
            archive.extend_from_slice(&self.headers[done..place]);
            archive.extend_from_slice(content);
            done = place;
        }
        archive.extend_from_slice(&self.headers[done..]);
        archive
    }
}

/// Takes an archive apart, reading content in pieces of `piece` bytes.
fn take_apart(archive: impl Read, limits: &Limits, piece: usize) -> Result<Parts, ArchiveError> {
    let mut headers = Vec::new();
    let mut members = Vec::new();
    let mut reader = Reader::new(archive, &mut headers, limits.clone());
    let mut buf = vec![0; piece];
    while let Some(entry) = reader.next_entry()? {
        let place = reader.header_bytes();
        let mut content = Vec::new();
        loop {
            match reader.read_content(&mut buf)? {
                0 => break,
                got => content.extend_from_slice(&buf[..got]),
            }
        }
        assert_eq!(
            u64::try_from(content.len()).unwrap(),
            entry.kind.stored_bytes()
        );
        members.push((place, (entry, content)));
    }
    assert!(
        matches!(reader.next_entry(), Ok(None)),
        "the end is the end"
    );
    Ok(Parts { headers, members })
}

/// Reads an archive and checks that it can be rebuilt.
fn read(archive: &[u8]) -> Vec<Member> {
    let parts = take_apart(archive, &Limits::default(), 100_000).unwrap();
    assert!(parts.rebuild() == archive, "the rebuilt archive differs");
    parts.members()
}

fn refuse(archive: &[u8]) -> ArchiveError {
    refuse_within(archive, &Limits::default())
}

fn refuse_within(archive: &[u8], limits: &Limits) -> ArchiveError {
    match take_apart(archive, limits, 4096) {
        Ok(parts) => panic!("accepted: {:?}", parts.members()),
        Err(error) => error,
    }
}

fn write(members: &[Member]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (entry, content) in members {
        writer.append(entry, content.as_slice()).unwrap();
    }
    writer.finish().unwrap()
}

/// What an archive holds, by name.
fn kinds(archive: &[u8]) -> Vec<(String, EntryKind)> {
    read(archive)
        .into_iter()
        .map(|(entry, _)| (spell(&entry), entry.kind))
        .collect()
}

fn plain(size: u64) -> EntryKind {
    EntryKind::File {
        size,
        extents: None,
    }
}

fn path(text: &str) -> Vec<FileName> {
    text.split('/')
        .filter(|c| !c.is_empty())
        .map(|c| FileName::new(c.as_bytes()).unwrap())
        .collect()
}

fn entry(at: &str, kind: EntryKind) -> Entry {
    let mtime = Time {
        seconds: 1_600_000_000,
        nanos: 0,
    };
    Entry {
        path: path(at),
        kind,
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime,
        xattrs: BTreeMap::new(),
    }
}

fn file(at: &str, content: &[u8]) -> Member {
    let size = u64::try_from(content.len()).unwrap();
    (
        entry(
            at,
            EntryKind::File {
                size,
                extents: None,
            },
        ),
        content.to_vec(),
    )
}

fn spell(entry: &Entry) -> String {
    entry
        .path
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("/")
}

/// The content of a file with its holes filled.
fn expand(entry: &Entry, stored: &[u8]) -> Vec<u8> {
    let EntryKind::File {
        size,
        extents: Some(runs),
    } = &entry.kind
    else {
        return stored.to_vec();
    };
    let mut content = vec![0; usize::try_from(*size).unwrap()];
    let mut rest = stored;
    for run in runs {
        let (offset, len) = (
            usize::try_from(run.offset).unwrap(),
            usize::try_from(run.len).unwrap(),
        );
        let (piece, more) = rest.split_at(len);
        content[offset..offset + len].copy_from_slice(piece);
        rest = more;
    }
    content
}

/// A block as another tar's author would write it: for archives that our writer refuses to make.
pub(crate) struct Raw(pub(crate) Vec<u8>);

impl Raw {
    pub(crate) fn new() -> Self {
        Self(Vec::new())
    }

    pub(crate) fn member(self, kind: u8, name: &[u8], data: &[u8]) -> Self {
        self.header(kind, name, b"", data.len()).data(data)
    }

    pub(crate) fn link(self, kind: u8, name: &[u8], target: &[u8]) -> Self {
        self.header(kind, name, target, 0)
    }

    pub(crate) fn header(self, kind: u8, name: &[u8], target: &[u8], size: usize) -> Self {
        self.edited(kind, name, target, size, |_| {})
    }

    pub(crate) fn edited(
        mut self,
        kind: u8,
        name: &[u8],
        target: &[u8],
        size: usize,
        edit: impl FnOnce(&mut [u8; 512]),
    ) -> Self {
        let mut block = [0; 512];
        block[..name.len()].copy_from_slice(name);
        block[100..108].copy_from_slice(b"0000644\0");
        block[108..116].copy_from_slice(b"0000000\0");
        block[116..124].copy_from_slice(b"0000000\0");
        block[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
        block[136..148].copy_from_slice(b"13727410000\0");
        block[156] = kind;
        block[157..157 + target.len()].copy_from_slice(target);
        block[257..265].copy_from_slice(b"ustar\x0000");
        edit(&mut block);
        block[148..156].copy_from_slice(b"        ");
        let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0.extend_from_slice(&block);
        self
    }

    pub(crate) fn data(mut self, data: &[u8]) -> Self {
        self.0.extend_from_slice(data);
        let whole = self.0.len().next_multiple_of(512);
        self.0.resize(whole, 0);
        self
    }

    pub(crate) fn pax(self, kind: u8, records: &[(&str, &[u8])]) -> Self {
        let mut body = Vec::new();
        for (keyword, value) in records {
            let bare = keyword.len() + value.len() + 3;
            let mut len = bare + 1;
            while len != bare + len.to_string().len() {
                len = bare + len.to_string().len();
            }
            body.extend_from_slice(format!("{len} {keyword}=").as_bytes());
            body.extend_from_slice(value);
            body.push(b'\n');
        }
        self.member(kind, b"pax", &body)
    }

    pub(crate) fn end(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0; 1024]);
        self.0
    }
}

/// The directory of the cases with known answers, if it is here.
fn oci_cases() -> Option<std::path::PathBuf> {
    let named = std::env::var_os("NACRE_OCI_CASES").map(Into::into);
    let beside = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/oci-cases");
    let dir: std::path::PathBuf = named.unwrap_or(beside);
    if dir.join("cases").is_dir() {
        return Some(dir.join("cases"));
    }
    eprintln!(
        "skipped: no cases at {}; NACRE_OCI_CASES can name them",
        dir.display()
    );
    None
}

/// Tells whether a program is installed.
fn installed(program: &str) -> bool {
    let found = std::process::Command::new(program)
        .arg("--version")
        .output()
        .is_ok();
    if !found {
        eprintln!("skipped: {program} is not installed");
    }
    found
}

fn run(program: &str, args: &[&str], stdin: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    use std::process::{Command, Stdio};
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pipe = child.stdin.take().unwrap();
    let output = std::thread::scope(|scope| {
        // A program that does not read to the end breaks the pipe; its exit code is what counts.
        scope.spawn(move || {
            pipe.write_all(stdin).or_else(|e| {
                if e.kind() == io::ErrorKind::BrokenPipe {
                    Ok(())
                } else {
                    Err(e)
                }
            })
        });
        child.wait_with_output().unwrap()
    });
    assert!(
        output.status.success(),
        "{program} {args:?}: {}",
        output.status
    );
    output.stdout
}

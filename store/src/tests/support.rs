//! Stores that clean up after themselves, and layers written down in words.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::archive::{Entry, EntryKind, Writer};
use crate::db::Family;
use crate::{
    ChainId, DiffId, Digest, Expected, FileName, ImageId, NewImage, Options, RefUpdate, Store, Time,
};

/// A store in a directory of its own, removed when dropped.
pub(crate) struct TempStore {
    store: Option<Store>,
    dir: tempfile::TempDir,
}

impl TempStore {
    pub(crate) fn new() -> TempStore {
        let dir = tempfile::Builder::new()
            .prefix("nacre-store-")
            .tempdir()
            .unwrap();
        let store = Store::open(&dir.path().join("root"), Options::default()).unwrap();
        TempStore {
            store: Some(store),
            dir,
        }
    }

    pub(crate) fn root(&self) -> std::path::PathBuf {
        self.dir.path().join("root")
    }

    /// What [`inventory`] lists.
    pub(crate) fn inventory(&self) -> Vec<String> {
        inventory(self)
    }

    /// Ends it cleanly and opens it again, as on a disk of which so much is kept free.
    pub(crate) fn reopen_with_floor(&mut self, bytes: u64) {
        self.reopen_with(Options {
            floor_bytes: Some(bytes),
            ..Options::default()
        });
    }

    /// Ends it cleanly and opens it again by other options.
    pub(crate) fn reopen_with(&mut self, options: Options) {
        self.store = None;
        self.store = Some(Store::open(&self.root(), options).unwrap());
    }

    /// Opens it again as after a kill.
    pub(crate) fn reopen_unclean(&mut self) {
        self.store = None;
        std::fs::write(self.root().join("lock"), "1\n").unwrap();
        self.store = Some(Store::open(&self.root(), Options::default()).unwrap());
    }

    /// Ends it cleanly and opens it again; returns how long each took.
    pub(crate) fn reopen(&mut self) -> (Duration, Duration) {
        let start = Instant::now();
        self.store = None;
        let closed = start.elapsed();
        self.store = Some(Store::open(&self.root(), Options::default()).unwrap());
        (closed, start.elapsed() - closed)
    }
}

impl std::ops::Deref for TempStore {
    type Target = Store;

    fn deref(&self) -> &Store {
        self.store.as_ref().unwrap()
    }
}

/// Every key of every family but counters, and every file of blobs, archives and uppers.
pub(crate) fn inventory(store: &Store) -> Vec<String> {
    let mut all = Vec::new();
    for family in Family::ALL {
        let mut scan = store.inner.db.scan(family, b"").unwrap();
        while let Some((key, _)) = scan.next().unwrap() {
            if !(family == Family::Catalog && key.starts_with(b"#")) {
                all.push(format!("{} {}", family.name(), key.escape_ascii()));
            }
        }
    }
    let mut todo: Vec<_> = ["blobs", "archives", "uppers"]
        .map(|name| store.root().join(name))
        .into();
    while let Some(dir) = todo.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                todo.push(path);
            } else {
                all.push(path.display().to_string());
            }
        }
    }
    all
}

pub(crate) fn path(text: &str) -> Vec<FileName> {
    text.split('/')
        .filter(|part| !part.is_empty())
        .map(|part| FileName::new(part.as_bytes()).unwrap())
        .collect()
}

/// An entry of a kind, 0644, of 2020-09-13.
pub(crate) fn entry(at: &str, kind: EntryKind) -> Entry {
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

/// Writes a layer from lines: `f PATH CONTENT`, `d PATH`, `l PATH TARGET` (symbolic), `h PATH TARGET` (hard),
/// `w PATH` (whiteout), `o PATH` (opaque).
pub(crate) fn layer(lines: &[&str]) -> Vec<u8> {
    let mut out = Writer::new(Vec::new());
    for line in lines {
        let mut words = line.splitn(3, ' ');
        let (kind, at, rest) = (
            words.next().unwrap(),
            words.next().unwrap(),
            words.next().unwrap_or(""),
        );
        let kind = match kind {
            "f" => EntryKind::File {
                size: rest.len() as u64,
                extents: None,
            },
            "d" => EntryKind::Dir,
            "l" => EntryKind::Symlink(rest.as_bytes().into()),
            "h" => EntryKind::HardLink(path(rest)),
            "w" => EntryKind::Whiteout,
            "o" => EntryKind::Opaque,
            other => panic!("no such kind of line: {other}"),
        };
        let content = if matches!(kind, EntryKind::File { .. }) {
            rest.as_bytes()
        } else {
            b""
        };
        out.append(&entry(at, kind), content).unwrap();
    }
    out.finish().unwrap()
}

/// A configuration that names layers.
pub(crate) fn config(diffs: &[DiffId], comment: &str) -> Vec<u8> {
    let diffs: Vec<String> = diffs.iter().map(ToString::to_string).collect();
    let config = serde_json::json!({
        "created": "2020-09-13T12:26:40Z", "architecture": "amd64", "os": "linux", "comment": comment,
        "rootfs": { "type": "layers", "diff_ids": diffs },
    });
    serde_json::to_vec(&config).unwrap()
}

/// Unpacks tars as layers and publishes them as an image under a name.
pub(crate) fn image(store: &Store, tars: &[Vec<u8>], name: &str) -> crate::Result<ImageId> {
    let mut layers = Vec::new();
    for tar in tars {
        layers.push(store.unpack(tar.as_slice(), &Expected::default(), &|_| {})?);
    }
    let diffs: Vec<DiffId> = layers.iter().map(|l| l.diff).collect();
    let refs = vec![RefUpdate {
        name: name.to_owned(),
    }];
    let new = NewImage {
        config: config(&diffs, name),
        manifest: None,
        layers,
        refs,
        parent: None,
    };
    store.publish(new, &|_| {})
}

/// The chain of tars as layers.
pub(crate) fn chain(tars: &[Vec<u8>]) -> Option<ChainId> {
    let mut chain = None;
    for tar in tars {
        chain = Some(ChainId::extend(chain.as_ref(), &DiffId(Digest::of(tar))));
    }
    chain
}

//! Images between real stores, and registries and archives of the tests' own making.
#![expect(clippy::unwrap_used, reason = "tests")]

mod archives;
mod foreign;
mod real;
mod registries;
mod sharing;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::Arc;

use nacre_store::archive::{Entry, EntryKind, Writer};
use nacre_store::{Digest, FileName, Options, Store, Time};
use parking_lot::Mutex;
use tempfile::TempDir;

use super::*;

/// A store of its own, gone with the test.
struct TempStore {
    store: Store,
    _dir: TempDir,
}

impl TempStore {
    fn new() -> TempStore {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store"), Options::default()).unwrap();
        TempStore { store, _dir: dir }
    }

    /// Nothing is to be seen, and nothing is left behind.
    fn assert_empty(&self) {
        assert!(self.store.images().unwrap().is_empty());
        self.assert_whole();
    }

    fn assert_whole(&self) {
        assert_eq!(self.store.check().unwrap().faults, Vec::<String>::new());
    }

    fn names(&self) -> Vec<String> {
        let images = self.store.images().unwrap();
        images.into_iter().flat_map(|image| image.refs).collect()
    }
}

/// A tar of files, each path with its content.
fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (path, content) in files {
        let kind = EntryKind::File {
            size: content.len() as u64,
            extents: None,
        };
        writer.append(&entry(path, kind), *content).unwrap();
    }
    writer.finish().unwrap()
}

fn entry(path: &str, kind: EntryKind) -> Entry {
    Entry {
        path: path
            .split('/')
            .map(|name| FileName::new(name.as_bytes()).unwrap())
            .collect(),
        kind,
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime: Time::default(),
        xattrs: BTreeMap::new(),
    }
}

/// A layer that is large enough to come in several pieces, and does not compress away.
fn big_tar(seed: u64) -> Vec<u8> {
    let mut state = seed;
    let noise: Vec<u8> = (0..600_000)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            state.to_le_bytes()[7]
        })
        .collect();
    tar(&[("etc/name", b"big"), ("noise", &noise)])
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

/// Keeps what a transfer told.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<Event>>>);

impl Progress for Told {
    fn event(&self, event: Event) {
        self.0.lock().push(event);
    }
}

impl Told {
    /// The lines that docker prints where there is no terminal.
    fn lines(&self) -> Vec<String> {
        let told = self.0.lock();
        let lines = told
            .iter()
            .filter(|event| event.status.moved().is_none())
            .map(|event| match &event.id {
                Some(id) => format!("{id}: {}", event.status),
                None => event.status.to_string(),
            });
        lines.collect()
    }

    fn has(&self, line: &str) -> bool {
        self.lines().iter().any(|told| told == line)
    }

    fn arc(&self) -> Arc<dyn Progress> {
        Arc::new(self.clone())
    }
}

fn short(content: &[u8]) -> String {
    progress::short(&Digest::of(content))
}

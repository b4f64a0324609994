//! Stores, images and mounts that clean up after themselves, also when a test panics.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nacre_fs::flags::MountFlags;
use nacre_fs::mount::{MountError, Profile, ServeOptions, Served};
use nacre_fs::vfs::Vfs;
use nacre_store::archive::{Entry, EntryKind, Writer};
use nacre_store::{
    ChainId, DiffId, Expected, Extent, FileName, NewImage, Options, RefUpdate, Store, Time, Upper,
};
use tempfile::TempDir;

use crate::common::ops::Picture;
use crate::patience::{self, Watch};

/// Whether mounts can be made here; says why not.
pub(crate) fn can_mount() -> bool {
    let root = rustix::process::geteuid().is_root();
    let device = Path::new("/dev/fuse").exists();
    if !root || !device {
        #[expect(clippy::print_stderr, reason = "a test that cannot run says why")]
        {
            eprintln!("skipped: needs root (have it: {root}) and /dev/fuse (have it: {device})");
        }
    }
    root && device
}

/// Waits until something holds; a bound ends it that only a fault reaches.
pub(crate) fn wait_for(what: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !what() {
        assert!(Instant::now() < until, "waited in vain");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A store in a directory of its own.
pub(crate) struct TempStore {
    store: Option<Store>,
    dir: TempDir,
    _watch: Watch,
}

impl TempStore {
    pub(crate) fn new() -> Self {
        Self::with_floor(None)
    }

    /// One that leaves so many bytes of its disk free.
    pub(crate) fn with_floor(floor_bytes: Option<u64>) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("nacre-fs-")
            .tempdir()
            .unwrap();
        let options = Options {
            floor_bytes,
            ..Options::default()
        };
        let store = Store::open(&dir.path().join("store"), options).unwrap();
        Self {
            store: Some(store),
            dir,
            _watch: Watch::new(),
        }
    }

    /// The same store, opened again by somebody who leaves so many bytes free.
    pub(crate) fn reopened_with_floor(mut self, floor_bytes: u64) -> Self {
        self.store = None;
        let options = Options {
            floor_bytes: Some(floor_bytes),
            ..Options::default()
        };
        self.store = Some(Store::open(&self.dir.path().join("store"), options).unwrap());
        self
    }

    pub(crate) fn get(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Makes an image of layers, and returns its chain.
    pub(crate) fn image(&self, layers: &[Layer]) -> ChainId {
        let store = self.get();
        let layers: Vec<_> = layers
            .iter()
            .map(|layer| {
                store
                    .unpack(layer.tar().as_slice(), &Expected::default(), &|_| {})
                    .unwrap()
            })
            .collect();
        let diffs: Vec<DiffId> = layers.iter().map(|layer| layer.diff).collect();
        let quoted: Vec<String> = diffs.iter().map(|diff| format!("\"{diff}\"")).collect();
        let config = format!(
            "{{\"architecture\":\"amd64\",\"os\":\"linux\",\"rootfs\":{{\"type\":\"layers\",\"diff_ids\":[{}]}}}}",
            quoted.join(",")
        );
        let image = NewImage {
            config: config.into_bytes(),
            manifest: None,
            layers,
            refs: vec![RefUpdate {
                name: "test:latest".to_owned(),
            }],
            parent: None,
        };
        store.publish(image, &|_| {}).unwrap();
        let chain = diffs.iter().fold(None, |chain, diff| {
            Some(ChainId::extend(chain.as_ref(), diff))
        });
        chain.unwrap()
    }

    pub(crate) fn upper(&self, chain: ChainId) -> Upper {
        self.get().create_upper(Some(&chain)).unwrap()
    }
}

/// What a kill of the server would leave: the store's files as the host has them now.
pub(crate) fn as_killed(store: &TempStore) -> (TempDir, Store) {
    let copy = tempfile::tempdir().unwrap();
    let done = patience::status(
        Command::new("cp")
            .arg("-a")
            .arg(store.path().join("store"))
            .arg(copy.path()),
    );
    assert!(done.success());
    let opened = Store::open(&copy.path().join("store"), Options::default());
    (copy, opened.unwrap())
}

/// A layer in the making.
#[derive(Default)]
pub(crate) struct Layer(Vec<(Entry, Vec<u8>)>);

pub(crate) fn components(path: &str) -> Vec<FileName> {
    let parts = path.split('/').filter(|part| !part.is_empty());
    parts
        .map(|part| FileName::new(part.as_bytes()).unwrap())
        .collect()
}

impl Layer {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn entry(mut self, path: &str, mode: u16, kind: EntryKind, content: &[u8]) -> Self {
        let entry = Entry {
            path: components(path),
            kind,
            mode,
            uid: 0,
            gid: 0,
            mtime: Time {
                seconds: 1_600_000_000,
                nanos: 123_456_789,
            },
            xattrs: BTreeMap::new(),
        };
        self.0.push((entry, content.to_vec()));
        self
    }

    pub(crate) fn dir(self, path: &str) -> Self {
        self.entry(path, 0o755, EntryKind::Dir, b"")
    }

    pub(crate) fn file(self, path: &str, content: &[u8]) -> Self {
        let kind = EntryKind::File {
            size: content.len() as u64,
            extents: None,
        };
        self.entry(path, 0o644, kind, content)
    }

    pub(crate) fn sparse(self, path: &str, size: u64, runs: &[(u64, &[u8])]) -> Self {
        let extents = runs.iter().map(|(offset, bytes)| Extent {
            offset: *offset,
            len: bytes.len() as u64,
        });
        let kind = EntryKind::File {
            size,
            extents: Some(extents.collect()),
        };
        let content: Vec<u8> = runs.iter().flat_map(|(_, bytes)| bytes.to_vec()).collect();
        self.entry(path, 0o644, kind, &content)
    }

    pub(crate) fn symlink(self, path: &str, target: &str) -> Self {
        self.entry(
            path,
            0o777,
            EntryKind::Symlink(target.as_bytes().into()),
            b"",
        )
    }

    pub(crate) fn hard_link(self, path: &str, to: &str) -> Self {
        self.entry(path, 0o644, EntryKind::HardLink(components(to)), b"")
    }

    /// Changes the entry added last.
    pub(crate) fn but(mut self, change: impl FnOnce(&mut Entry)) -> Self {
        change(&mut self.0.last_mut().unwrap().0);
        self
    }

    /// The tree in a picture of a real directory.
    pub(crate) fn of_picture(picture: &Picture) -> Self {
        let mut layer = Self::new();
        for (path, seen) in picture {
            let kind = match seen.kind {
                _ if seen.same_as != *path => EntryKind::HardLink(components(&seen.same_as)),
                'd' => EntryKind::Dir,
                'l' => EntryKind::Symlink(seen.target.as_bytes().into()),
                'c' => EntryKind::Char(seen.rdev),
                'b' => EntryKind::Block(seen.rdev),
                'p' => EntryKind::Fifo,
                'f' => EntryKind::File {
                    size: seen.bytes.len() as u64,
                    extents: None,
                },
                // A tar has no sockets.
                _ => continue,
            };
            let content = if matches!(kind, EntryKind::File { .. }) {
                seen.bytes.as_slice()
            } else {
                b""
            };
            layer = layer.entry(path, seen.mode, kind, content).but(|entry| {
                entry.uid = seen.uid;
                entry.gid = seen.gid;
                entry.mtime = Time {
                    seconds: seen.mtime.0,
                    nanos: u32::try_from(seen.mtime.1).unwrap(),
                };
                let xattrs = seen.xattrs.iter();
                entry.xattrs = xattrs
                    .map(|(name, value)| (name.as_bytes().into(), value.as_slice().into()))
                    .collect();
            });
        }
        layer
    }

    pub(crate) fn tar(&self) -> Vec<u8> {
        let mut tar = Writer::new(Vec::new());
        for (entry, content) in &self.0 {
            tar.append(entry, content.as_slice()).unwrap();
        }
        tar.finish().unwrap()
    }
}

/// A tree that is mounted for as long as this lives.
pub(crate) struct Mounted {
    pub(crate) vfs: Arc<Vfs>,
    pub(crate) served: Served,
    pub(crate) root: PathBuf,
    _dir: TempDir,
}

impl Mounted {
    pub(crate) fn new(vfs: Vfs, profile: Profile) -> Self {
        let vfs = Arc::new(vfs);
        let dir = tempfile::Builder::new()
            .prefix("nacre-mnt-")
            .tempdir()
            .unwrap();
        let root = dir.path().join("m");
        std::fs::create_dir(&root).unwrap();
        let options = ServeOptions {
            source: "nacre:test".to_owned(),
            profile,
        };
        let served = Served::start(vfs.clone(), options).unwrap();
        served.attach(&root, None, MountFlags::default()).unwrap();
        Self {
            vfs,
            served,
            root,
            _dir: dir,
        }
    }

    pub(crate) fn read_only(store: &TempStore, chain: ChainId) -> Self {
        let tree = store.get().tree(Some(&chain)).unwrap();
        Self::new(Vfs::read_only(store.get().clone(), tree), Profile::ReadOnly)
    }

    pub(crate) fn writable(upper: Upper) -> Self {
        Self::new(Vfs::writable(upper).unwrap(), Profile::Writable)
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// Takes it away and waits until all is durable.
    pub(crate) fn unmount(self) {
        // A program that another test starts holds copies of our open files between its fork and its exec.
        let until = Instant::now() + Duration::from_secs(5);
        while let Err(error) = self.served.detach(&self.root, None, false) {
            let busy = matches!(error, MountError::Busy { .. });
            assert!(busy && Instant::now() < until, "{error}");
            std::thread::sleep(Duration::from_millis(5));
        }
        self.served.shutdown(Duration::from_secs(10)).unwrap();
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // After a clean unmount there is nothing left to take away; after a panic, what can be done is done.
        self.served.detach(&self.root, None, true).ok();
        self.served.shutdown(Duration::from_secs(10)).ok();
    }
}

/// A store with an image of one layer, and a writable layer over it, mounted; none where mounts cannot be made.
pub(crate) fn mounted(layer: Layer) -> Option<(TempStore, Mounted)> {
    can_mount().then(|| {
        let store = TempStore::new();
        let chain = store.image(&[layer]);
        let mount = Mounted::writable(store.upper(chain));
        (store, mount)
    })
}

/// Bytes that are all different for a while, so that a piece in the wrong place shows.
pub(crate) fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

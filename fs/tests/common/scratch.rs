//! A real store for tests: layers in, trees out.

use nacre_store::{BlobId, ChainId, Expected, NewImage, Options, Store, Tree};

use super::memory::Memory;

/// A store of its own, gone with the guard.
pub struct Scratch {
    pub store: Store,
    _root: tempfile::TempDir,
}

impl Scratch {
    pub fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(&root.path().join("store"), Options::default()).unwrap();
        Self { store, _root: root }
    }

    /// Publishes a stack of layers.
    pub fn tree(&self, layers: &[Vec<u8>]) -> Tree {
        let mut unpacked = Vec::new();
        for tar in layers {
            unpacked.push(
                self.store
                    .unpack(tar.as_slice(), &Expected::default(), &|_| {})
                    .unwrap(),
            );
        }
        let diffs: Vec<String> = unpacked
            .iter()
            .map(|layer| format!("\"{}\"", layer.diff))
            .collect();
        let mut chain: Option<ChainId> = None;
        for layer in &unpacked {
            chain = Some(ChainId::extend(chain.as_ref(), &layer.diff));
        }
        let config = format!(
            r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#,
            diffs.join(",")
        );
        let image = NewImage {
            config: config.into_bytes(),
            manifest: None,
            layers: unpacked,
            refs: Vec::new(),
            parent: None,
        };
        self.store.publish(image, &|_| {}).unwrap();
        self.store.tree(chain.as_ref()).unwrap()
    }

    pub fn read(&self, id: &BlobId) -> Vec<u8> {
        let blob = self.store.blob(id).unwrap();
        let mut bytes = vec![0; usize::try_from(blob.size()).unwrap()];
        let mut at = 0;
        while at < bytes.len() {
            let offset = u64::try_from(at).unwrap();
            let got = blob.read_at(&mut bytes[at..], offset).unwrap();
            assert_ne!(got, 0, "blob {id} ends early");
            at += got;
        }
        bytes
    }

    pub fn memory(&self, tree: &Tree, now: i64) -> Memory {
        Memory::over_tree(tree, &|id| self.read(id), now)
    }
}

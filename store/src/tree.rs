//! Trees: what a chain of layers shows. Reads only; writing one is `apply.rs`.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::cache::Cache;
use crate::codec::{self, Encoder};
use crate::db::{Batch, Family};
use crate::pins::Pin;
use crate::store::Inner;
use crate::{ChainId, Content, Error, FileName, Ino, Inode, Kind, LayerNo, Result, Store, Time};

/// Up to how many layers it is cheaper to ask for each one's version (0.5 µs where there is none) than to open an iterator.
const POINT_GETS_MAX: usize = 8;

/// How many versions of an inode a read steps over before it asks for each layer of the chain instead: the root has a
/// version for nearly every layer of the store.
const STEPS_MAX: usize = 16;

/// Inodes whose numbers differ in the last bits alone are read together once two of them were asked for: archives number the
/// files of a directory one after another, and to step to the next record takes a tenth of finding it.
const NEIGHBOURS: u64 = 64;

/// Versions that are stepped over for them; if there are more, the one that is wanted is asked for alone.
const NEIGHBOUR_STEPS_MAX: usize = 2048;

/// How many neighbourhoods are remembered for that: as many programs as may look at different places at once.
const PLACES: usize = 64;

/// Bytes of a directory's page, roughly.
const PAGE_BYTES: usize = 32 << 10;

/// Inodes of a tree are cached under its top layer, directories under the layer that wrote them.
pub(crate) struct Caches {
    inodes: Cache<(LayerNo, Ino), Arc<Inode>>,
    dirs: Cache<(LayerNo, Ino), Arc<DirList>>,
    places: Mutex<Places>,
}

impl Caches {
    /// Together they take `bytes`.
    pub(crate) fn new(bytes: usize) -> Caches {
        Caches {
            inodes: Cache::new(bytes / 2),
            dirs: Cache::new(bytes / 2),
            places: Mutex::new(Places::default()),
        }
    }
}

/// Where inodes were read lately: neighbourhoods of trees, by their top layers.
#[derive(Default)]
struct Places {
    latest: VecDeque<(LayerNo, u64)>,
}

impl Places {
    /// Notes a place; returns whether it was there already, and takes it out then: what was read there is cached from now on.
    fn is_known(&mut self, top: LayerNo, ino: Ino) -> bool {
        let place = (top, ino.0 / NEIGHBOURS);
        if let Some(index) = self.latest.iter().position(|known| *known == place) {
            self.latest.remove(index);
            return true;
        }
        self.latest.truncate(PLACES.saturating_sub(1));
        self.latest.push_front(place);
        false
    }
}

/// One immutable tree: a chain of layers. Cheap to clone. Reads touch RocksDB once a directory and once an inode;
/// both are cached within a bound.
#[derive(Clone)]
pub struct Tree(Arc<Shared>);

struct Shared {
    store: Arc<Inner>,
    chain: Option<ChainId>,
    /// Bottom first: ascending, because a layer is applied after the one below it.
    layers: Vec<LayerNo>,
    /// Keeps the layers from being removed.
    _hold: Option<Pin<ChainId>>,
}

/// A directory's entries, sorted by name; an entry's index is its place in readdir for ever.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DirList {
    /// Sorted by name.
    pub entries: Vec<DirEntry>,
}

impl DirList {
    /// Finds a name and its index.
    pub fn find(&self, name: &FileName) -> Option<(usize, &DirEntry)> {
        let index = self.entries.binary_search_by(|e| e.name.cmp(name)).ok()?;
        self.entries.get(index).map(|e| (index, e))
    }
}

/// A name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// The name.
    pub name: FileName,
    /// The inode.
    pub ino: Ino,
    /// Its kind.
    pub kind: Kind,
}

impl Store {
    /// The tree of a chain; of `None` an empty root directory.
    pub fn tree(&self, chain: Option<&ChainId>) -> Result<Tree> {
        let Some(chain) = chain else {
            return Ok(Tree::of_layers(&self.inner, Vec::new()));
        };
        // Pinned first: a removal either sees the pin or is seen by the look-up.
        let hold = self.inner.chains.pin(*chain);
        let layers = self.inner.chain_layers(chain)?;
        let layers = layers.ok_or_else(|| Error::not_found("layer", chain))?;
        let store = Arc::clone(&self.inner);
        Ok(Tree(Arc::new(Shared {
            store,
            chain: Some(*chain),
            layers,
            _hold: Some(hold),
        })))
    }
}

impl Inner {
    /// The numbers of a chain's layers, bottom first; `None` if it is not there.
    pub(crate) fn chain_layers(&self, chain: &ChainId) -> Result<Option<Vec<LayerNo>>> {
        let mut layers = Vec::new();
        let mut next = Some(*chain);
        while let Some(chain) = next {
            let head = match self.db.layer(&chain)? {
                Some(head) => head,
                None if layers.is_empty() => return Ok(None),
                None => return Err(Error::corrupt("layer", chain)),
            };
            // Numbers fall on the way down, so that a damaged parent cannot make a circle.
            if layers.last().is_some_and(|above| *above <= head.no) {
                return Err(Error::corrupt("layer", chain));
            }
            layers.push(head.no);
            next = head.parent;
        }
        layers.reverse();
        Ok(Some(layers))
    }
}

/// The start of the keys of an inode or a directory, and the version of a layer: newest first.
pub(crate) fn version_key(ino: Ino, layer: LayerNo) -> [u8; 12] {
    let mut key = [0; 12];
    key[..8].copy_from_slice(&ino.0.to_be_bytes());
    key[8..].copy_from_slice(&(!layer.0).to_be_bytes());
    key
}

/// The inode and the layer of such a key.
pub(crate) fn parse_version_key(key: &[u8]) -> Option<(Ino, LayerNo)> {
    let ino = u64::from_be_bytes(key.get(..8)?.try_into().ok()?);
    let layer = u32::from_be_bytes(key.get(8..12)?.try_into().ok()?);
    Some((Ino(ino), LayerNo(!layer)))
}

/// The root of a tree without layers.
pub(crate) fn bare_dir(pages: LayerNo) -> Inode {
    let time = Time::default();
    Inode {
        kind: Kind::Dir,
        mode: 0o755,
        uid: 0,
        gid: 0,
        rdev: 0,
        size: 0,
        atime: time,
        mtime: time,
        ctime: time,
        btime: time,
        content: Content::Dir { pages, subdirs: 0 },
        xattrs: BTreeMap::new(),
        links: Vec::new(),
        init: false,
    }
}

fn inode_weight(inode: &Arc<Inode>) -> usize {
    let xattrs: usize = inode
        .xattrs
        .iter()
        .map(|(n, v)| n.len() + v.len() + 64)
        .sum();
    320 + inode.links.len() * 64 + xattrs
}

fn dir_weight(dir: &Arc<DirList>) -> usize {
    128 + dir.entries.len() * 64
}

impl Tree {
    /// The tree of layers that need no hold: none, or those of a publication under way.
    pub(crate) fn of_layers(store: &Arc<Inner>, layers: Vec<LayerNo>) -> Tree {
        Tree(Arc::new(Shared {
            store: Arc::clone(store),
            chain: None,
            layers,
            _hold: None,
        }))
    }

    /// The chain that this is the tree of; `None` of a tree without layers.
    pub fn chain(&self) -> Option<&ChainId> {
        self.0.chain.as_ref()
    }

    /// The numbers of its layers, bottom first.
    pub fn layers(&self) -> &[LayerNo] {
        &self.0.layers
    }

    /// The newest version of `ino` in the chain. Also of an inode whose last name a layer above removed: what a tree
    /// shows is what names lead to, and no name leads there.
    pub fn inode(&self, ino: Ino) -> Result<Option<Arc<Inode>>> {
        let Some(top) = self.0.layers.last() else {
            return Ok((ino == Ino::ROOT).then(|| Arc::new(bare_dir(LayerNo(0)))));
        };
        let cache = &self.0.store.caches.inodes;
        if let Some(inode) = cache.get(&(*top, ino), inode_weight) {
            return Ok(Some(inode));
        }
        let is_known = self.0.store.caches.places.lock().is_known(*top, ino);
        if is_known {
            return self.read_neighbours(ino, *top);
        }
        let Some(inode) = self.read_inode(ino, *top)? else {
            return Ok(None);
        };
        Ok(Some(self.keep(ino, *top, inode)))
    }

    fn keep(&self, ino: Ino, top: LayerNo, inode: Inode) -> Arc<Inode> {
        let inode = Arc::new(inode);
        let weight = inode_weight(&inode);
        let cache = &self.0.store.caches.inodes;
        cache.insert((top, ino), Arc::clone(&inode), weight);
        inode
    }

    /// Reads all inodes of a neighbourhood, and returns one of them. Of damaged records only that one's is an error.
    fn read_neighbours(&self, wanted: Ino, top: LayerNo) -> Result<Option<Arc<Inode>>> {
        let first = wanted.0 / NEIGHBOURS * NEIGHBOURS;
        let newest = LayerNo(u32::MAX);
        let start = version_key(Ino(first), newest);
        let end = version_key(Ino(first.saturating_add(NEIGHBOURS)), newest);
        let db = &self.0.store.db;
        let mut scan = db.scan_between(Family::Inodes, &start, &end)?;
        let (mut found, mut done) = (None, None);
        let mut steps = 0;
        // Damage of the others is told to who asks for them.
        while let Ok(Some((key, value))) = scan.next() {
            let Some((ino, layer)) = parse_version_key(key) else {
                break;
            };
            steps += 1;
            if steps > NEIGHBOUR_STEPS_MAX {
                break;
            }
            if done == Some(ino) || self.0.layers.binary_search(&layer).is_err() {
                continue;
            }
            done = Some(ino);
            match decoded_inode(ino, layer, value) {
                Ok(inode) if ino == wanted => found = Some(self.keep(ino, top, inode)),
                Ok(inode) => drop(self.keep(ino, top, inode)),
                Err(error) if ino == wanted => return Err(error),
                Err(_) => {}
            }
        }
        if found.is_some() {
            return Ok(found);
        }
        let inode = self.read_inode(wanted, top)?;
        Ok(inode.map(|inode| self.keep(wanted, top, inode)))
    }

    fn read_inode(&self, ino: Ino, top: LayerNo) -> Result<Option<Inode>> {
        if self.0.layers.len() <= POINT_GETS_MAX {
            return self.get_inode(ino, &self.0.layers);
        }
        // Versions of layers newer than the whole chain sort before this key.
        let start = version_key(ino, top);
        let mut scan = self
            .0
            .store
            .db
            .scan_from(Family::Inodes, &ino.0.to_be_bytes(), &start)?;
        for _ in 0..STEPS_MAX {
            let Some((key, value)) = scan.next()? else {
                return Ok(None);
            };
            let (_, layer) =
                parse_version_key(key).ok_or_else(|| Error::corrupt("inode", ino.0))?;
            if self.0.layers.binary_search(&layer).is_ok() {
                return decoded_inode(ino, layer, value).map(Some);
            }
        }
        self.get_inode(ino, &self.0.layers)
    }

    fn get_inode(&self, ino: Ino, layers: &[LayerNo]) -> Result<Option<Inode>> {
        for layer in layers.iter().rev() {
            let read = |value: &[u8]| decoded_inode(ino, *layer, value);
            if let Some(inode) =
                self.0
                    .store
                    .db
                    .with(Family::Inodes, &version_key(ino, *layer), read)?
            {
                return inode.map(Some);
            }
        }
        Ok(None)
    }

    /// A directory's entries, sorted by name; `None` if `ino` is no directory of the tree.
    pub fn dir(&self, ino: Ino) -> Result<Option<Arc<DirList>>> {
        let Some(inode) = self.inode(ino)? else {
            return Ok(None);
        };
        let Content::Dir { pages, .. } = inode.content else {
            return Ok(None);
        };
        let cache = &self.0.store.caches.dirs;
        if let Some(dir) = cache.get(&(pages, ino), dir_weight) {
            return Ok(Some(dir));
        }
        let dir = Arc::new(self.0.store.read_dir(ino, pages)?);
        cache.insert((pages, ino), Arc::clone(&dir), dir_weight(&dir));
        Ok(Some(dir))
    }
}

fn decoded_inode(ino: Ino, layer: LayerNo, value: &[u8]) -> Result<Inode> {
    codec::decode_inode(value)
        .ok_or_else(|| Error::corrupt("inode", format!("{} of layer {}", ino.0, layer.0)))
}

impl Inner {
    /// Reads the pages of a directory that a layer wrote.
    pub(crate) fn read_dir(&self, ino: Ino, pages: LayerNo) -> Result<DirList> {
        let mut entries = Vec::new();
        let mut scan = self.db.scan(Family::Dirs, &version_key(ino, pages))?;
        while let Some((_, value)) = scan.next()? {
            codec::decode_dir_page(value, &mut entries).ok_or_else(|| {
                Error::corrupt("directory", format!("{} of layer {}", ino.0, pages.0))
            })?;
        }
        Ok(DirList { entries })
    }
}

/// Writes the pages of a directory.
pub(crate) fn put_dir(
    batch: &mut Batch<'_>,
    ino: Ino,
    layer: LayerNo,
    entries: impl Iterator<Item = DirEntry>,
) -> Result<()> {
    let prefix = version_key(ino, layer);
    let mut page: Option<(Vec<u8>, Encoder)> = None;
    let mut before = Vec::new();
    for entry in entries {
        let (_, out) = page.get_or_insert_with(|| {
            before.clear();
            ([&prefix, entry.name.as_bytes()].concat(), Encoder::new())
        });
        codec::encode_dir_entry(out, &before, &entry);
        before.clear();
        before.extend_from_slice(entry.name.as_bytes());
        if out.len() >= PAGE_BYTES
            && let Some((key, mut out)) = page.take()
        {
            batch.put(Family::Dirs, &key, &out.finish())?;
        }
    }
    if let Some((key, mut out)) = page {
        batch.put(Family::Dirs, &key, &out.finish())?;
    }
    Ok(())
}

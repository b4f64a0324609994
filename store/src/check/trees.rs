//! The check of what layers have written, and of the trees that they make together.

use std::collections::{HashMap, HashSet};

use super::Check;
use crate::db::Family;
use crate::tree::parse_version_key;
use crate::{ChainId, Content, DirEntry, Error, Ino, Inode, Kind, LayerNo, Result, codec};

impl Check<'_> {
    /// Every version of an inode, every page of a directory, every mark of a change: each belongs to a layer, and to
    /// the others of its kind.
    pub(super) fn versions(&mut self) -> Result<()> {
        let mut seen: HashMap<LayerNo, u64> = HashMap::new();
        let mut pages: HashSet<(Ino, LayerNo)> = HashSet::new();
        let mut count = 0;
        let inner = self.inner;
        let mut scan = inner.db.scan(Family::Inodes, b"")?;
        while let Some((key, value)) = scan.next()? {
            count += 1;
            let Some((ino, layer)) = parse_version_key(key).filter(|_| key.len() == 12) else {
                self.fault(
                    format!("inode key {}", key.escape_ascii()),
                    "does not parse",
                );
                continue;
            };
            *seen.entry(layer).or_default() += 1;
            let object = format!("inode {} of layer {}", ino.0, layer.0);
            if !self.is_layer(layer) {
                self.fault(&object, "its layer is not there");
                continue;
            }
            match codec::decode_inode(value) {
                None => self.fault(&object, "does not parse"),
                Some(inode) => {
                    if matches!(inode.content, Content::Dir { pages, .. } if pages == layer) {
                        pages.insert((ino, layer));
                    }
                    self.version(&object, &inode);
                }
            }
        }
        self.checked("inode versions", count);
        self.changes(seen)?;
        self.pages(&pages)
    }

    fn is_layer(&self, layer: LayerNo) -> bool {
        self.layers.contains(&layer) || self.doomed_layers.contains(&layer)
    }

    fn version(&mut self, object: &str, inode: &Inode) {
        let fits = match (&inode.content, inode.kind) {
            (Content::Dir { .. }, kind) => kind == Kind::Dir,
            (Content::Symlink(_), kind) => kind == Kind::Symlink,
            (Content::Blob(_) | Content::Sparse { .. }, kind) => kind == Kind::File,
            (Content::None, kind) => !matches!(kind, Kind::Dir | Kind::Symlink),
            (Content::Inline(_) | Content::Data | Content::Chunked { .. }, _) => false,
        };
        if !fits || inode.content.has_data_file() {
            self.fault(object, "its content does not fit its kind");
        }
        if let Some(blob) = inode.content.blob()
            && !self.held.contains_key(&blob)
        {
            self.fault(
                object,
                format!("its content, blob {blob}, is held by no record"),
            );
        }
    }

    fn changes(&mut self, mut seen: HashMap<LayerNo, u64>) -> Result<()> {
        let inner = self.inner;
        let mut scan = inner.db.scan(Family::Changed, b"")?;
        while let Some((key, _)) = scan.next()? {
            let layer = key
                .get(..4)
                .and_then(|k| k.try_into().ok())
                .map(u32::from_be_bytes)
                .map(LayerNo);
            let ino = key
                .get(4..)
                .and_then(|k| k.try_into().ok())
                .map(u64::from_be_bytes)
                .map(Ino);
            let there = match (layer, ino) {
                (Some(layer), Some(ino)) => {
                    let left = seen.entry(layer).or_default();
                    *left = left.saturating_sub(1);
                    inner
                        .db
                        .has(Family::Inodes, &crate::tree::version_key(ino, layer))?
                }
                _ => false,
            };
            if !there {
                self.fault(format!("change {}", key.escape_ascii()), "has no inode");
            }
        }
        for (layer, left) in seen {
            if left > 0 && self.layers.contains(&layer) {
                self.fault(
                    format!("layer number {}", layer.0),
                    format!("{left} inodes are not in its changes"),
                );
            }
        }
        Ok(())
    }

    fn pages(&mut self, owners: &HashSet<(Ino, LayerNo)>) -> Result<()> {
        let mut count = 0;
        let inner = self.inner;
        let mut scan = inner.db.scan(Family::Dirs, b"")?;
        while let Some((key, value)) = scan.next()? {
            count += 1;
            let object = format!("directory page {}", key.escape_ascii());
            match parse_version_key(key) {
                Some((ino, layer))
                    if self.doomed_layers.contains(&layer) || owners.contains(&(ino, layer)) =>
                {
                    let mut entries = Vec::new();
                    let parsed = codec::decode_dir_page(value, &mut entries);
                    let first = entries.first().map(|e| e.name.as_bytes());
                    if parsed.is_none() || first != key.get(12..) {
                        self.fault(&object, "does not parse");
                    }
                }
                _ => self.fault(&object, "belongs to no directory"),
            }
        }
        self.checked("directory pages", count);
        Ok(())
    }

    /// Every tree from its root: names lead to inodes that know them, and counts are right.
    pub(super) fn trees(&mut self) -> Result<()> {
        let tops: Vec<ChainId> = self.tops.iter().copied().collect();
        self.checked("trees", tops.len());
        for top in tops {
            let object = format!("tree {top}");
            let walked = self.tree(&top);
            self.noted(&object, walked);
        }
        Ok(())
    }

    fn tree(&mut self, top: &ChainId) -> Result<()> {
        let tree = self.store.tree(Some(top))?;
        let mut names: HashMap<Ino, usize> = HashMap::new();
        let mut todo = vec![Ino::ROOT];
        while let Some(ino) = todo.pop() {
            let damaged = || Error::corrupt("directory", format!("{} of tree {top}", ino.0));
            let inode = tree.inode(ino)?.ok_or_else(damaged)?;
            let list = tree.dir(ino)?.ok_or_else(damaged)?;
            let object = format!("directory {} of tree {top}", ino.0);
            let dirs = list.entries.iter().filter(|e| e.kind == Kind::Dir).count();
            if !matches!(inode.content, Content::Dir { subdirs, .. } if u64::from(subdirs) == dirs as u64)
            {
                self.fault(&object, "its count of directories is wrong");
            }
            if !list.entries.is_sorted_by(|a, b| a.name < b.name) {
                self.fault(&object, "its names are not sorted");
            }
            for entry in &list.entries {
                let Some(child) = tree.inode(entry.ino)? else {
                    self.fault(&object, format!("its entry {} leads nowhere", entry.name));
                    continue;
                };
                self.entry(&object, ino, entry, &child);
                let known = names.entry(entry.ino).or_default();
                *known += 1;
                match child.kind {
                    Kind::Dir if *known == 1 => todo.push(entry.ino),
                    Kind::Dir => self.fault(
                        &object,
                        format!("directory {} has a second name", entry.name),
                    ),
                    _ => {}
                }
            }
        }
        for (ino, count) in names {
            if tree
                .inode(ino)?
                .is_some_and(|inode| inode.links.len() != count)
            {
                self.fault(
                    format!("inode {} of tree {top}", ino.0),
                    "its links are not its names",
                );
            }
        }
        Ok(())
    }

    fn entry(&mut self, object: &str, dir: Ino, entry: &DirEntry, child: &Inode) {
        if child.kind != entry.kind {
            self.fault(
                object,
                format!("its entry {} is of another kind", entry.name),
            );
        }
        if !child
            .links
            .iter()
            .any(|link| link.parent == dir && link.name == entry.name)
        {
            self.fault(
                object,
                format!(
                    "its entry {} is unknown to inode {}",
                    entry.name, entry.ino.0
                ),
            );
        }
    }
}

//! What must hold of the two layers, whatever happens.

use std::collections::{BTreeMap, BTreeSet};

use nacre_fs::union::lookup;
use nacre_store::{FileName, Ino, Kind, Override};

use super::{Memory, name};

impl Memory {
    /// Checks all that must be true of the two layers.
    pub fn check(&self) {
        let mut links: BTreeMap<Ino, BTreeSet<(Ino, Vec<u8>)>> =
            BTreeMap::from([(Ino::ROOT, BTreeSet::new())]);
        let mut dirs = vec![(Ino::ROOT, Ino::ROOT)];
        while let Some((dir, parent)) = dirs.pop() {
            self.check_dir(dir, parent, &mut links, &mut dirs);
        }
        for (ino, names) in &links {
            let inode = self.inode(*ino);
            let known: BTreeSet<_> = inode
                .links
                .iter()
                .map(|link| (link.parent, link.name.as_bytes().to_vec()))
                .collect();
            assert_eq!(known.len(), inode.links.len(), "{ino:?} has a link twice");
            assert_eq!(
                &known, names,
                "{ino:?} has not the links that the directories say"
            );
            assert!(
                !self.orphans.contains(ino),
                "{ino:?} has names and is an orphan"
            );
        }
        for (ino, inode) in &self.inodes {
            assert!(
                links.contains_key(ino) || self.orphans.contains(ino),
                "{ino:?} is nowhere"
            );
            assert!(
                !self.orphans.contains(ino) || inode.links.is_empty(),
                "orphan {ino:?} has links"
            );
            assert!(
                !inode.init,
                "{ino:?} belongs to the runtime, after a user's operation"
            );
        }
        for (dir, entries) in &self.dirs {
            assert!(
                entries.is_empty() || links.contains_key(dir),
                "{dir:?} is gone and has overrides"
            );
            self.check_overrides(*dir, entries);
        }
        for (ino, inode) in &self.inodes {
            assert_eq!(
                Self::has_data(inode),
                self.data.contains_key(ino),
                "{ino:?}: {:?}",
                inode.content
            );
        }
    }

    fn check_dir(
        &self,
        dir: Ino,
        parent: Ino,
        links: &mut BTreeMap<Ino, BTreeSet<(Ino, Vec<u8>)>>,
        dirs: &mut Vec<(Ino, Ino)>,
    ) {
        let items = self.list(dir, 0);
        let cookies: Vec<u64> = items.iter().map(|item| item.3).collect();
        assert!(
            cookies.is_sorted_by(|one, next| one < next),
            "cookies {cookies:?} of {dir:?}"
        );
        assert_eq!(items[0], (".".to_owned(), dir, Kind::Dir, cookies[0]));
        assert_eq!(items[1], ("..".to_owned(), parent, Kind::Dir, cookies[1]));
        for (child_name, ino, kind, cookie) in &items[2..] {
            let child = lookup::child(self, dir, &name(child_name))
                .unwrap()
                .unwrap();
            assert_eq!(
                (child.ino, child.kind),
                (*ino, *kind),
                "readdir and lookup of {child_name}"
            );
            assert_eq!(self.inode(*ino).kind, *kind, "kind of {child_name}");
            assert!(*cookie < 1 << 31, "cookie {cookie}");
            assert!(
                links
                    .entry(*ino)
                    .or_default()
                    .insert((dir, child_name.as_bytes().to_vec())),
                "{child_name} twice"
            );
            if *kind == Kind::Dir {
                assert_eq!(links[ino].len(), 1, "a directory with two names");
                dirs.push((*ino, dir));
            }
        }
    }

    fn check_overrides(&self, dir: Ino, entries: &BTreeMap<FileName, Override>) {
        let mut seqs = BTreeSet::new();
        for (entry_name, over) in entries {
            let base = self
                .base_dirs
                .get(&dir)
                .and_then(|list| list.find(entry_name))
                .map(|(_, entry)| entry);
            match over {
                Override::Whiteout => assert!(
                    base.is_some(),
                    "whiteout of {entry_name}, which the base has not"
                ),
                Override::Entry { ino, seq, .. } => {
                    assert_eq!(*seq == 0, base.is_some(), "sequence of {entry_name}");
                    assert!(
                        base.is_none_or(|entry| entry.ino != *ino),
                        "{entry_name} leads where the base leads"
                    );
                    assert!(*seq == 0 || seqs.insert(*seq), "sequence {seq} twice");
                }
            }
        }
    }
}

//! What the kernel holds of a tree: open files, looked-up inodes, and names that are gone while somebody still uses the inode.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};

use nacre_store::{Ino, UpperOp};
use parking_lot::Mutex;

use super::files::Access;

/// Whether files may be given to the kernel to read and write by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passthrough {
    /// The kernel refused (or was never asked): everything goes through us.
    No,
    /// As root, where the kernel has it.
    Yes,
}

/// How an inode is open: all its open files have one way, or the kernel answers EIO.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// Through the page cache of the mount.
    Cached,
    /// By passthrough.
    Backed,
}

/// Open files of one inode.
#[derive(Debug)]
struct Opens {
    count: u64,
    way: Way,
    /// One of them is for writing: a mapping of it may have bytes that only the kernel knows.
    written: bool,
    /// The file's record was given new bytes since the first of them.
    in_record: bool,
}

/// What is held. One lock, a leaf of rank 3.
pub(crate) struct Held {
    counting: bool,
    passthrough: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    opens: HashMap<Ino, Opens>,
    lookups: HashMap<Ino, u64>,
    /// Inodes whose bytes the kernel was given at an opening. Until it forgets the inode it asks for them itself.
    given: HashSet<Ino>,
    /// Programs that run, each with how many times it was opened for that.
    programs: HashMap<Ino, u64>,
    orphans: HashSet<Ino>,
    /// Those of the orphans that were made without a name and may get one.
    unnamed: HashSet<Ino>,
}

impl Held {
    /// `counting`: in a tree that cannot change, nothing depends on what is held.
    pub(crate) fn new(counting: bool) -> Self {
        Self {
            counting,
            passthrough: AtomicBool::new(false),
            state: Mutex::new(State::default()),
        }
    }

    pub(crate) fn set_passthrough(&self, passthrough: Passthrough) {
        self.passthrough
            .store(passthrough == Passthrough::Yes, Ordering::Release);
    }

    pub(crate) fn has_passthrough(&self) -> bool {
        self.passthrough.load(Ordering::Acquire)
    }

    /// Counts answers that gave the kernel an inode.
    pub(crate) fn looked_up(&self, inos: &[Ino]) {
        if !self.counting || inos.is_empty() {
            return;
        }
        let mut state = self.state.lock();
        for ino in inos {
            let count = state.lookups.entry(*ino).or_insert(0);
            *count = count.saturating_add(1);
        }
    }

    /// Counts them back; returns those orphans that nobody holds any more.
    pub(crate) fn forgotten(&self, forgets: &[(Ino, u64)]) -> Vec<Ino> {
        let mut state = self.state.lock();
        if !state.given.is_empty() {
            for (ino, _) in forgets {
                state.given.remove(ino);
            }
        }
        if !self.counting {
            return Vec::new();
        }
        for (ino, lookups) in forgets {
            if let Some(count) = state.lookups.get_mut(ino) {
                *count = count.saturating_sub(*lookups);
                if *count == 0 {
                    state.lookups.remove(ino);
                }
            }
        }
        let gone = forgets.iter().map(|(ino, _)| *ino);
        gone.filter(|ino| state.is_reclaimable(*ino)).collect()
    }

    /// Counts an open file; returns its way: that of the others if there are any, else what `first` says.
    pub(crate) fn opened(&self, ino: Ino, first: Way, access: Access) -> Way {
        let mut state = self.state.lock();
        let opens = state.opens.entry(ino).or_insert(Opens {
            count: 0,
            way: first,
            written: false,
            in_record: false,
        });
        opens.written |= access != Access::Read;
        opens.count = opens.count.saturating_add(1);
        opens.way
    }

    /// Whether bytes may be written into the record of an open file: the first time.
    pub(crate) fn may_write_to_record(&self, ino: Ino) -> bool {
        let mut state = self.state.lock();
        let opens = state.opens.get_mut(&ino);
        opens.is_some_and(|opens| !std::mem::replace(&mut opens.in_record, true))
    }

    /// The inode was opened to be executed.
    pub(crate) fn executes(&self, ino: Ino) {
        let mut state = self.state.lock();
        let count = state.programs.entry(ino).or_insert(0);
        *count = count.saturating_add(1);
    }

    /// Counts it back.
    pub(crate) fn executed(&self, ino: Ino) {
        let mut state = self.state.lock();
        if let Some(count) = state.programs.get_mut(&ino) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                state.programs.remove(&ino);
            }
        }
    }

    /// Whether somebody executes it.
    pub(crate) fn is_executed(&self, ino: Ino) -> bool {
        self.state.lock().programs.contains_key(&ino)
    }

    /// Whether the kernel was given the inode's bytes.
    pub(crate) fn is_given(&self, ino: Ino) -> bool {
        self.state.lock().given.contains(&ino)
    }

    /// Whether the kernel is to be given the inode's bytes: it is open once only, and has not been given them.
    pub(crate) fn may_give(&self, ino: Ino) -> bool {
        let mut state = self.state.lock();
        state.opens.get(&ino).is_some_and(|opens| opens.count == 1) && state.given.insert(ino)
    }

    /// The kernel refused to back this open file.
    pub(crate) fn not_backed(&self, ino: Ino) {
        if let Some(opens) = self.state.lock().opens.get_mut(&ino) {
            opens.way = Way::Cached;
        }
    }

    /// Counts it back; returns whether it was the last one, and whether the inode is to be reclaimed now.
    pub(crate) fn released(&self, ino: Ino) -> (bool, bool) {
        let mut state = self.state.lock();
        let Some(opens) = state.opens.get_mut(&ino) else {
            return (false, false);
        };
        opens.count = opens.count.saturating_sub(1);
        if opens.count != 0 {
            return (false, false);
        }
        state.opens.remove(&ino);
        (true, state.is_reclaimable(ino))
    }

    /// Files that are open for writing through the mount's page cache, where mappings keep bytes to themselves. The
    /// kernel hands them over when a mapping goes, which is before the file is released.
    pub(crate) fn written_in_cache(&self) -> Vec<Ino> {
        let state = self.state.lock();
        let written = |opens: &Opens| opens.written && opens.way == Way::Cached;
        let opens = state.opens.iter();
        opens
            .filter(|(_, opens)| written(opens))
            .map(|(ino, _)| *ino)
            .collect()
    }

    /// Whether the kernel writes the inode by itself: what is stored through a mapping moves its times, and nobody is told.
    pub(crate) fn is_written_by_kernel(&self, ino: Ino) -> bool {
        let state = self.state.lock();
        let opens = state.opens.get(&ino);
        opens.is_some_and(|opens| opens.written && opens.way == Way::Backed)
    }

    /// Whether any file of the inode is open.
    pub(crate) fn is_open(&self, ino: Ino) -> bool {
        self.state.lock().opens.contains_key(&ino)
    }

    /// Whether an inode without names is held by nobody.
    pub(crate) fn is_reclaimable(&self, ino: Ino) -> bool {
        self.state.lock().is_reclaimable(ino)
    }

    /// Follows a batch: what became an orphan, what is one no more.
    pub(crate) fn follow(&self, ops: &[UpperOp]) {
        for op in ops {
            match op {
                UpperOp::SetOrphan(ino) => {
                    self.state.lock().orphans.insert(*ino);
                }
                UpperOp::DropOrphan(ino) => {
                    let mut state = self.state.lock();
                    state.orphans.remove(ino);
                    state.unnamed.remove(ino);
                }
                UpperOp::SetInode(..)
                | UpperOp::DropInode(_)
                | UpperOp::SetEntry(..)
                | UpperOp::DropEntry(..)
                | UpperOp::SetUndo(..)
                | UpperOp::DropUndo(_) => {}
            }
        }
    }

    /// A file was made without a name, and may get one as long as it is held.
    pub(crate) fn may_get_a_name(&self, ino: Ino) {
        self.state.lock().unnamed.insert(ino);
    }

    /// Whether it was made without a name and may get one.
    pub(crate) fn is_unnamed(&self, ino: Ino) -> bool {
        self.state.lock().unnamed.contains(&ino)
    }

    /// The connection ended: nothing is held any more. Returns the orphans.
    pub(crate) fn end(&self) -> Vec<Ino> {
        let mut state = self.state.lock();
        state.opens.clear();
        state.lookups.clear();
        state.given.clear();
        state.programs.clear();
        state.unnamed.clear();
        state.orphans.iter().copied().collect()
    }
}

impl State {
    fn is_reclaimable(&self, ino: Ino) -> bool {
        self.orphans.contains(&ino)
            && !self.opens.contains_key(&ino)
            && !self.lookups.contains_key(&ino)
    }
}

#[cfg(test)]
mod tests {
    use nacre_store::{Ino, UpperOp};

    use super::{Access, Held, Way};

    const INO: Ino = Ino(7);

    #[test]
    fn an_orphan_is_reclaimed_after_the_last_forget_and_the_last_release() {
        let held = Held::new(true);
        held.looked_up(&[INO, INO]);
        held.opened(INO, Way::Cached, Access::Read);
        held.follow(&[UpperOp::SetOrphan(INO)]);
        assert_eq!(held.released(INO), (true, false), "still looked up");
        assert!(held.forgotten(&[(INO, 1)]).is_empty(), "one lookup is left");
        assert_eq!(held.forgotten(&[(INO, 1)]), [INO]);
    }

    #[test]
    fn the_order_of_forget_and_release_does_not_matter() {
        let held = Held::new(true);
        held.looked_up(&[INO]);
        held.opened(INO, Way::Cached, Access::Read);
        held.follow(&[UpperOp::SetOrphan(INO)]);
        assert!(held.forgotten(&[(INO, 1)]).is_empty(), "still open");
        assert_eq!(held.released(INO), (true, true));
    }

    #[test]
    fn what_has_a_name_is_never_reclaimed() {
        let held = Held::new(true);
        held.looked_up(&[INO]);
        assert!(held.forgotten(&[(INO, 1)]).is_empty());
        held.follow(&[UpperOp::SetOrphan(INO), UpperOp::DropOrphan(INO)]);
        assert!(!held.is_reclaimable(INO));
    }

    #[test]
    fn all_open_files_of_an_inode_share_the_way_of_the_first() {
        let held = Held::new(true);
        assert_eq!(held.opened(INO, Way::Cached, Access::Read), Way::Cached);
        assert_eq!(held.opened(INO, Way::Backed, Access::Read), Way::Cached);
        assert_eq!(held.released(INO), (false, false));
        assert_eq!(held.released(INO), (true, false));
        assert_eq!(held.opened(INO, Way::Backed, Access::Read), Way::Backed);
    }

    #[test]
    fn a_record_takes_one_write_for_each_time_that_its_file_is_open() {
        let held = Held::new(true);
        assert!(!held.may_write_to_record(INO), "not open");
        for _ in 0..2 {
            held.opened(INO, Way::Cached, Access::Write);
            assert!(held.may_write_to_record(INO));
            held.opened(INO, Way::Cached, Access::Write);
            assert!(!held.may_write_to_record(INO));
            held.released(INO);
            held.released(INO);
        }
    }

    #[test]
    fn bytes_are_given_once_and_only_to_who_is_alone() {
        for counting in [true, false] {
            let held = Held::new(counting);
            held.looked_up(&[INO]);
            assert!(!held.may_give(INO), "not open");
            held.opened(INO, Way::Cached, Access::Read);
            held.opened(INO, Way::Cached, Access::Write);
            assert!(!held.may_give(INO), "somebody else has it open");
            held.released(INO);
            assert!(held.may_give(INO));
            assert!(!held.may_give(INO), "given already");
            assert!(held.forgotten(&[(INO, 1)]).is_empty());
            assert!(held.may_give(INO), "forgotten, with its pages");
        }
    }

    #[test]
    fn the_kernel_writes_what_is_open_for_writing_by_passthrough_until_the_last_release() {
        let held = Held::new(true);
        held.opened(INO, Way::Backed, Access::Read);
        assert!(!held.is_written_by_kernel(INO));
        held.opened(INO, Way::Backed, Access::Write);
        held.released(INO);
        assert!(held.is_written_by_kernel(INO));
        held.released(INO);
        assert!(!held.is_written_by_kernel(INO));
        held.opened(INO, Way::Cached, Access::Write);
        assert!(!held.is_written_by_kernel(INO));
    }

    #[test]
    fn only_what_is_open_for_writing_in_the_cache_may_have_unknown_bytes() {
        let held = Held::new(true);
        held.opened(Ino(1), Way::Cached, Access::Read);
        held.opened(Ino(2), Way::Backed, Access::Write);
        held.opened(Ino(3), Way::Cached, Access::Write);
        held.opened(Ino(3), Way::Cached, Access::Read);
        assert_eq!(held.written_in_cache(), [Ino(3)]);
        held.released(Ino(3));
        held.released(Ino(3));
        assert!(held.written_in_cache().is_empty());
    }
}

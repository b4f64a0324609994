//! Which directory is listed next. Pure: knows the tree by what [`Tree`] says, and time by what it is told.
//!
//! Programs walk a tree in the order of its listings, a directory before what is in it. So what comes next is a stack, and who is
//! seen to walk gets a *credit* of directories, twice as much each time that the walk is seen to go on: what is listed
//! ahead needs no request any more, so programs are seen again only where the credit ended.

use std::time::{Duration, Instant};

use nacre_store::Ino;

use crate::vfs::Recent;

/// The first credit, and the largest.
const CREDIT_MIN: u32 = 4;
const CREDIT_MAX: u32 = 1024;

/// A directory costs a credit, and one more for each so many entries.
const ENTRIES_A_CREDIT: usize = 64;

/// A walk that was not seen for so long is over.
const WALK: Duration = Duration::from_secs(1);

/// Directories that are remembered.
const DIRS_MAX: usize = 4096;

/// Directories that wait to be listed, at most.
const STACK_MAX: usize = 16 << 10;

/// What is asked of a tree.
pub(super) trait Tree {
    /// The directory that holds a directory; none of the root.
    fn parent(&self, dir: Ino) -> Option<Ino>;
    /// The directories in a directory, in the order of its listing.
    fn subdirs(&self, dir: Ino) -> Vec<Ino>;
    /// How many names it has, about.
    fn entries(&self, dir: Ino) -> usize;
}

/// What comes next, and why.
pub(super) struct Plan {
    /// Directories that were listed, by a program or by us.
    listed: Recent<Ino, ()>,
    /// Directories to be listed, the next one last.
    stack: Vec<Ino>,
    /// What may be listed until programs are seen to go on.
    credit: u32,
    /// What they get then.
    grant: u32,
    last: Option<Instant>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            listed: Recent::new(DIRS_MAX),
            stack: Vec::new(),
            credit: 0,
            grant: CREDIT_MIN,
            last: None,
        }
    }
}

impl Plan {
    /// A program began to list a directory. It walks if it came here from the directory above: what is in this one comes next,
    /// and then what is beside it.
    pub(super) fn listed(&mut self, tree: &dyn Tree, dir: Ino, now: Instant) {
        self.listed.insert(dir, (), 1);
        let Some(parent) = tree.parent(dir).filter(|parent| self.is_listed(*parent)) else {
            return;
        };
        self.goes_on(now);
        match self.stack.iter().rposition(|other| *other == dir) {
            // What was to come before it was done without us.
            Some(index) => self.stack.truncate(index),
            None => {
                let beside = tree.subdirs(parent);
                let index = beside.iter().position(|other| *other == dir);
                let behind = index.map_or(0, |index| index.saturating_add(1));
                self.push(beside.get(behind..).unwrap_or_default());
            }
        }
        self.push(&tree.subdirs(dir));
    }

    fn is_listed(&mut self, dir: Ino) -> bool {
        self.listed.get(&dir).is_some()
    }

    /// A walk is seen.
    fn goes_on(&mut self, now: Instant) {
        let is_over = |last: Instant| now.saturating_duration_since(last) > WALK;
        if self.last.is_some_and(is_over) {
            self.stack.clear();
            self.grant = CREDIT_MIN;
        }
        self.last = Some(now);
        self.credit = self.grant;
        self.grant = self.grant.saturating_mul(2).min(CREDIT_MAX);
    }

    /// The first of `dirs` comes next.
    fn push(&mut self, dirs: &[Ino]) {
        if self.stack.len().saturating_add(dirs.len()) > STACK_MAX {
            self.stack.clear();
        }
        let first = dirs.get(..STACK_MAX).unwrap_or(dirs);
        self.stack.extend(first.iter().rev());
    }

    /// Whether there may be something to list.
    pub(super) fn has_next(&self) -> bool {
        self.credit != 0 && !self.stack.is_empty()
    }

    /// The directory to be listed now.
    pub(super) fn next(&mut self, tree: &dyn Tree) -> Option<Ino> {
        while self.credit != 0 {
            let dir = self.stack.pop()?;
            if self.is_listed(dir) {
                continue;
            }
            let more = u32::try_from(tree.entries(dir) / ENTRIES_A_CREDIT).unwrap_or(u32::MAX);
            let Some(left) = self.credit.checked_sub(more.saturating_add(1)) else {
                // Who comes there is seen, and gets twice as much.
                continue;
            };
            self.credit = left;
            self.listed.insert(dir, (), 1);
            self.push(&tree.subdirs(dir));
            return Some(dir);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use nacre_store::Ino;

    use super::{CREDIT_MAX, CREDIT_MIN, Plan, STACK_MAX, Tree, WALK};

    /// The root (1) holds directories 10, 20, … 10 × `WIDE`; each holds nine, 11 to 19, which hold only files.
    struct Wide;

    const WIDE: u64 = 500;
    const FILES: usize = 20;

    impl Tree for Wide {
        fn parent(&self, dir: Ino) -> Option<Ino> {
            match dir.0 {
                1 => None,
                n if n % 10 == 0 => Some(Ino(1)),
                n => Some(Ino(n / 10 * 10)),
            }
        }

        fn subdirs(&self, dir: Ino) -> Vec<Ino> {
            match dir.0 {
                1 => (1..=WIDE).map(|n| Ino(10 * n)).collect(),
                n if n % 10 == 0 => (1..10).map(|m| Ino(n + m)).collect(),
                _ => Vec::new(),
            }
        }

        fn entries(&self, _: Ino) -> usize {
            FILES
        }
    }

    /// All directories in the order of a walk.
    fn walk() -> impl Iterator<Item = Ino> {
        let of = |n: u64| (0..10).map(move |m| Ino(10 * n + m));
        std::iter::once(Ino(1)).chain((1..=WIDE).flat_map(of))
    }

    fn all_of(plan: &mut Plan) -> Vec<Ino> {
        std::iter::from_fn(|| plan.next(&Wide)).collect()
    }

    #[test]
    fn one_listing_is_no_walk() {
        let mut plan = Plan::default();
        plan.listed(&Wide, Ino(1), Instant::now());
        assert_eq!(all_of(&mut plan), []);
        plan.listed(&Wide, Ino(31), Instant::now());
        assert_eq!(
            all_of(&mut plan),
            [],
            "it did not come from the directory above"
        );
    }

    #[test]
    fn a_walk_is_seen_a_few_times_only_and_nothing_is_listed_twice() {
        let now = Instant::now();
        let (mut plan, mut ahead) = (Plan::default(), Vec::new());
        let mut seen = 0;
        for dir in walk() {
            if !ahead.contains(&dir) {
                seen += 1;
                plan.listed(&Wide, dir, now);
                ahead.extend(all_of(&mut plan));
            }
        }
        assert!(seen < 16, "{seen} requests of {}", walk().count());
        let mut once = ahead.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), ahead.len());
    }

    #[test]
    fn what_is_listed_ahead_is_bounded_by_what_was_seen() {
        let now = Instant::now();
        let mut plan = Plan::default();
        plan.listed(&Wide, Ino(1), now);
        plan.listed(&Wide, Ino(10), now);
        let first = all_of(&mut plan);
        assert_eq!(first, [11, 12, 13, 14].map(Ino), "in the order of the walk");
        assert_eq!(first.len(), CREDIT_MIN as usize);
        plan.listed(&Wide, Ino(15), now);
        let second = all_of(&mut plan);
        let expected = [16, 17, 18, 19, 20, 21, 22, 23].map(Ino);
        assert_eq!(second, expected, "twice as many");
    }

    #[test]
    fn a_walk_that_stopped_begins_anew() {
        let now = Instant::now();
        let mut plan = Plan::default();
        for dir in [1, 10, 20, 30, 40] {
            plan.listed(&Wide, Ino(dir), now);
        }
        assert!(plan.grant > CREDIT_MIN);
        plan.listed(&Wide, Ino(50), now + WALK + Duration::from_millis(1));
        assert_eq!(all_of(&mut plan), [51, 52, 53, 54].map(Ino));
    }

    #[test]
    fn the_credit_stops_growing() {
        let now = Instant::now();
        let mut plan = Plan::default();
        for dir in walk() {
            plan.listed(&Wide, dir, now);
        }
        assert_eq!(plan.grant, CREDIT_MAX);
    }

    /// The root holds directory 2, and that more directories than wait at once.
    struct Crowd;

    impl Tree for Crowd {
        fn parent(&self, dir: Ino) -> Option<Ino> {
            match dir.0 {
                1 => None,
                2 => Some(Ino(1)),
                _ => Some(Ino(2)),
            }
        }

        fn subdirs(&self, dir: Ino) -> Vec<Ino> {
            match dir.0 {
                1 => vec![Ino(2)],
                2 => (3..).map(Ino).take(2 * STACK_MAX).collect(),
                _ => Vec::new(),
            }
        }

        fn entries(&self, _: Ino) -> usize {
            0
        }
    }

    #[test]
    fn of_more_directories_than_may_wait_the_first_do() {
        let now = Instant::now();
        let mut plan = Plan::default();
        plan.listed(&Crowd, Ino(1), now);
        plan.listed(&Crowd, Ino(2), now);
        assert_eq!(plan.stack.len(), STACK_MAX);
        let first: Vec<Ino> = std::iter::from_fn(|| plan.next(&Crowd)).collect();
        assert_eq!(first, [3, 4, 5, 6].map(Ino));
    }
}

//! A directory's entries in an order that never changes, each with a cookie that holds for ever.
//!
//! `.`, `..`, then the base's names by their index in its immutable list (a replaced name keeps its place, a removed one
//! is skipped), then the names that only the upper has, by sequence. An entry that is there throughout a reading is
//! seen exactly once, whatever comes and goes beside it.

use std::ops::ControlFlow;

use nacre_store::{Ino, Kind, Override};

use super::{Errno, Layers, lookup};

/// The cookie of `.`; 0 is the start.
const COOKIE_DOT: u64 = 1;
/// The cookie of `..`.
const COOKIE_DOTDOT: u64 = 2;
/// The cookie of the base's first name.
const COOKIE_BASE: u64 = 3;
/// The cookie of sequence number 0. A base directory is never that long, and cookies stay below 2^31
/// for programs of 32 bits until an upper has made a thousand million names.
const COOKIE_UPPER: u64 = 1 << 30;
/// Upper-only names sorted at once; a reader that takes a page of a long list does not pay for sorting all of it.
const SORTED_AT_ONCE: usize = 1024;

/// One entry as readdir answers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Item<'a> {
    /// The name; `.` and `..` are among them.
    pub name: &'a [u8],
    /// The inode.
    pub ino: Ino,
    /// Its kind.
    pub kind: Kind,
    /// Where the next call goes on after this entry.
    pub cookie: u64,
}

/// Shows the entries of `dir` behind `after` (0: from the start), until `visit` breaks.
pub fn visit(
    layers: &dyn Layers,
    dir: Ino,
    after: u64,
    visit: &mut dyn FnMut(Item<'_>) -> ControlFlow<()>,
) -> Result<(), Errno> {
    let parent = lookup::parent(layers, dir)?;
    let dots: [(&[u8], Ino, u64); 2] = [(b".", dir, COOKIE_DOT), (b"..", parent, COOKIE_DOTDOT)];
    for (name, ino, cookie) in dots {
        let item = Item {
            name,
            ino,
            kind: Kind::Dir,
            cookie,
        };
        if cookie > after && visit(item).is_break() {
            return Ok(());
        }
    }
    if after < COOKIE_UPPER && visit_base(layers, dir, after, visit)?.is_break() {
        return Ok(());
    }
    visit_upper(layers, dir, after, visit)
}

/// Shows the base's names, as the upper has them.
fn visit_base(
    layers: &dyn Layers,
    dir: Ino,
    after: u64,
    visit: &mut dyn FnMut(Item<'_>) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, Errno> {
    let Some(base) = layers.base_dir(dir)? else {
        return Ok(ControlFlow::Continue(()));
    };
    let upper = layers.upper_dir(dir)?;
    let first = after.saturating_sub(COOKIE_DOTDOT);
    let skipped = usize::try_from(first).unwrap_or(usize::MAX);
    for (cookie, entry) in
        (COOKIE_BASE.saturating_add(first)..).zip(base.entries.iter().skip(skipped))
    {
        let (ino, kind) = match upper.get(&entry.name) {
            Some(Override::Whiteout) => continue,
            Some(Override::Entry { ino, kind, .. }) => (*ino, *kind),
            None => (entry.ino, entry.kind),
        };
        let item = Item {
            name: entry.name.as_bytes(),
            ino,
            kind,
            cookie,
        };
        if visit(item).is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// Shows the names that the base has not.
fn visit_upper(
    layers: &dyn Layers,
    dir: Ino,
    after: u64,
    visit: &mut dyn FnMut(Item<'_>) -> ControlFlow<()>,
) -> Result<(), Errno> {
    let upper = layers.upper_dir(dir)?;
    let own = upper.iter().filter_map(|(name, over)| match over {
        Override::Entry { ino, kind, seq } if *seq != 0 => Some(Item {
            name: name.as_bytes(),
            ino: *ino,
            kind: *kind,
            cookie: COOKIE_UPPER.saturating_add(*seq),
        }),
        Override::Entry { .. } | Override::Whiteout => None,
    });
    let mut items: Vec<Item<'_>> = own.filter(|item| item.cookie > after).collect();
    let mut rest = items.as_mut_slice();
    while !rest.is_empty() {
        let some = rest.len().min(SORTED_AT_ONCE);
        if some < rest.len() {
            rest.select_nth_unstable_by_key(some, |item| item.cookie);
        }
        let (head, tail) = rest.split_at_mut(some);
        head.sort_unstable_by_key(|item| item.cookie);
        for item in head {
            if visit(*item).is_break() {
                return Ok(());
            }
        }
        rest = tail;
    }
    Ok(())
}

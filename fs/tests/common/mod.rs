//! One list of operations, several judges: the model, the rules over layers in memory, a real directory, a mount.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "shared by test binaries, each of which uses its part"
)]
#![expect(clippy::unwrap_used, reason = "tests")]

pub mod directory;
pub mod generate;
pub mod memory;
pub mod model;
pub mod ops;
pub mod scratch;

use nacre_fs::diff::{Change, ChangeKind};
use proptest::test_runner::Config;

use memory::Memory;
use ops::{Op, Target as _};

/// `PROPTEST_CASES` multiplies: its default of 256 means what the tests say.
pub fn config(cases: u32) -> Config {
    Config {
        cases: cases.saturating_mul(Config::default().cases) / 256,
        failure_persistence: None,
        max_shrink_iters: 2_000,
        ..Config::default()
    }
}

/// The changes as docker prints them.
pub fn lines(changes: &[Change]) -> Vec<String> {
    let letter = |kind| match kind {
        ChangeKind::Modified => 'C',
        ChangeKind::Added => 'A',
        ChangeKind::Deleted => 'D',
    };
    let line = |change: &Change| {
        format!(
            "{} {}",
            letter(change.kind),
            String::from_utf8_lossy(&change.path)
        )
    };
    changes.iter().map(line).collect()
}

/// Applies what can be applied.
pub fn apply(union: &mut Memory, ops: &[Op]) {
    for op in ops {
        union.apply(op).unwrap_or_default();
    }
}

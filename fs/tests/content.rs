//! Bytes of large files: what is copied when, and that what is read is what was written.
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::ops::Range;

use common::config;
use common::memory::Memory;
use common::model::{Model, UMASK};
use common::ops::{Allocate, Op, Target as _, print};
use nacre_fs::union::content::{DataStep, Source, pieces, taken_back};
use nacre_fs::union::setattr::{self, Change, Kill};
use nacre_fs::union::{Context, Origin, write};
use nacre_store::{BlobId, CHUNK_BYTES, Content, Digest, Extent, Ino, Inode, Time};
use proptest::prelude::*;
use proptest::sample::select;

const LARGE: u64 = (1 << 20) + 3 * CHUNK_BYTES + 1_234;

fn context() -> Context {
    Context {
        now: Time {
            seconds: 9,
            nanos: 0,
        },
        uid: 0,
        gid: 0,
        umask: UMASK,
        seq: 1,
        origin: Origin::User,
    }
}

/// A base with one file `f`, which has this content.
fn base(content: Content, size: u64) -> (Memory, Ino) {
    let mut model = Model::new();
    model.apply(&"create f 644".parse().unwrap()).unwrap();
    let mut memory = Memory::over(&model);
    let ino = memory.find("f").unwrap();
    let inode = Inode {
        content,
        size,
        ..(*memory.inode(ino)).clone()
    };
    memory.base_inodes.insert(ino, inode.into());
    (memory, ino)
}

fn blob() -> BlobId {
    BlobId(Digest::of(b"some content"))
}

fn steps_of_write(content: Content, size: u64, range: Range<u64>) -> (Vec<DataStep>, Content) {
    let (memory, ino) = base(content, size);
    let plan = write::plan(&memory, &context(), ino, range, Kill::Capability).unwrap();
    let [nacre_store::UpperOp::SetInode(_, inode)] = plan.ops.as_slice() else {
        panic!("one record: {:?}", plan.ops);
    };
    (plan.answer, inode.content.clone())
}

fn copied(steps: &[DataStep]) -> Vec<(u64, u64)> {
    let ranges = steps.iter().filter_map(|step| match step {
        DataStep::Copy { range, .. } => Some((range.start, range.end)),
        _ => None,
    });
    ranges.collect()
}

/// A file as its record says.
fn record(content: Content, size: u64) -> Inode {
    let (memory, ino) = base(content, size);
    (*memory.inode(ino)).clone()
}

fn chunked(base_len: u64, present: &[u8]) -> Content {
    Content::Chunked {
        base: Box::new(Content::Blob(blob())),
        base_len,
        present: present.to_vec(),
    }
}

#[test]
fn a_loss_of_power_takes_a_copied_file_back_to_the_image_s_but_not_what_records_alone_say() {
    let before = record(Content::Blob(blob()), 1_000);
    let mut now = record(Content::Data, 1_004);
    now.mode = 0o600;
    now.uid = 7;
    let back = taken_back(&now, &before, 0).unwrap();
    assert_eq!((&back.content, back.size), (&before.content, 1_000));
    assert_eq!((back.mode, back.uid), (0o600, 7));
}

#[test]
fn a_loss_of_power_takes_back_chunks_that_were_not_synced() {
    let before = record(chunked(LARGE, &[0b01]), LARGE);
    let now = record(chunked(LARGE, &[0b11]), LARGE);
    let back = taken_back(&now, &before, LARGE + 5).unwrap();
    assert_eq!((&back.content, back.size), (&before.content, LARGE + 5));
    // The data file is shorter: a truncation reached the disk, and what it cut off must not show again.
    let back = taken_back(&now, &before, CHUNK_BYTES + 1).unwrap();
    assert_eq!(back.size, CHUNK_BYTES + 1);
    let Content::Chunked { base_len, .. } = back.content else {
        panic!("still partly the image's: {:?}", back.content);
    };
    assert_eq!(base_len, CHUNK_BYTES + 1);
}

#[test]
fn a_file_without_a_data_file_lost_nothing() {
    let before = record(Content::Blob(blob()), 1_000);
    assert_eq!(taken_back(&record(Content::None, 0), &before, 0), None);
}

#[test]
fn one_byte_into_a_large_file_moves_one_chunk() {
    let size = 5 << 30;
    let at = 3 * CHUNK_BYTES + 17;
    let (steps, content) = steps_of_write(Content::Blob(blob()), size, at..at + 1);
    assert_eq!(copied(&steps), [(3 * CHUNK_BYTES, 4 * CHUNK_BYTES)]);
    assert_eq!(steps[..2], [DataStep::Create, DataStep::SetLen(size)]);
    let base = Box::new(Content::Blob(blob()));
    assert_eq!(
        content,
        Content::Chunked {
            base,
            base_len: size,
            present: vec![0b1000]
        }
    );
}

#[test]
fn a_chunk_that_is_overwritten_whole_is_not_copied() {
    let (steps, _) = steps_of_write(Content::Blob(blob()), 5 << 30, 10..3 * CHUNK_BYTES + 1);
    assert_eq!(
        copied(&steps),
        [(0, CHUNK_BYTES), (3 * CHUNK_BYTES, 4 * CHUNK_BYTES)]
    );
}

#[test]
fn a_small_file_is_copied_whole() {
    let (steps, content) = steps_of_write(Content::Blob(blob()), 1 << 20, 5..6);
    assert_eq!(
        (copied(&steps), content),
        (vec![(0, 1 << 20)], Content::Data)
    );
}

#[test]
fn holes_of_a_sparse_file_are_not_copied() {
    let extents = [
        Extent { offset: 10, len: 5 },
        Extent {
            offset: 1 << 40,
            len: 3,
        },
    ];
    let sparse = Content::Sparse {
        blob: blob(),
        extents: extents.into(),
    };
    let (steps, content) = steps_of_write(sparse, 1 << 41, 0..1);
    assert_eq!(
        (copied(&steps), content),
        (vec![(10, 15), (1 << 40, (1 << 40) + 3)], Content::Data)
    );
    assert_eq!(steps[1], DataStep::SetLen(1 << 41));
}

#[test]
fn a_sparse_file_too_long_for_a_bitmap_is_copied_whole() {
    let extents = [
        Extent {
            offset: 0,
            len: 8 << 20,
        },
        Extent {
            offset: 1 << 50,
            len: 3,
        },
    ];
    let sparse = Content::Sparse {
        blob: blob(),
        extents: extents.into(),
    };
    let (steps, content) = steps_of_write(sparse, 1 << 51, (1 << 49)..(1 << 49) + 1);
    assert_eq!(
        (copied(&steps), content),
        (vec![(0, 8 << 20), (1 << 50, (1 << 50) + 3)], Content::Data)
    );
}

#[test]
fn a_write_far_behind_a_large_file_needs_no_bit_for_it() {
    let (steps, content) = steps_of_write(Content::Blob(blob()), LARGE, (1 << 60)..(1 << 60) + 1);
    assert_eq!(copied(&steps), []);
    let Content::Chunked { present, .. } = content else {
        panic!("{content:?}");
    };
    assert_eq!(present, Vec::<u8>::new());
}

#[test]
fn truncation_copies_nothing_of_a_large_file_and_nothing_at_all_to_zero() {
    let (memory, ino) = base(Content::Blob(blob()), LARGE);
    let truncate = |size| {
        let change = Change {
            size: Some(size),
            ..Change::default()
        };
        setattr::plan(&memory, &context(), ino, &change, Kill::Capability)
            .unwrap()
            .answer
    };
    let cut = truncate(LARGE - 5);
    assert_eq!(cut.steps, [DataStep::Create, DataStep::SetLen(LARGE - 5)]);
    let emptied = truncate(0);
    assert_eq!(
        (emptied.steps, emptied.inode.content, emptied.inode.size),
        (vec![], Content::None, 0)
    );
}

#[test]
fn completing_copies_what_is_still_missing() {
    let base_content = Box::new(Content::Blob(blob()));
    let chunked = Content::Chunked {
        base: base_content,
        base_len: LARGE,
        present: vec![0b0000_0110],
    };
    let (memory, ino) = base(chunked, LARGE);
    let plan = write::whole(&memory, &context(), ino).unwrap();
    assert_eq!(
        copied(&plan.answer),
        [(0, CHUNK_BYTES), (3 * CHUNK_BYTES, LARGE)]
    );
    let again = base(Content::Data, LARGE);
    assert_eq!(write::whole(&again.0, &context(), again.1).unwrap().ops, []);
}

#[test]
fn a_written_data_file_needs_no_record() {
    let (memory, ino) = base(Content::Data, 100);
    let plan = write::plan(&memory, &context(), ino, 0..1_000, Kill::Capability).unwrap();
    assert_eq!((plan.ops, plan.answer), (vec![], vec![]));
}

#[test]
fn pieces_say_where_bytes_come_from() {
    let extents = [
        Extent { offset: 10, len: 5 },
        Extent {
            offset: CHUNK_BYTES + 5,
            len: 10,
        },
    ];
    let sparse = Content::Sparse {
        blob: blob(),
        extents: extents.into(),
    };
    assert_eq!(
        pieces(&sparse, 12..CHUNK_BYTES + 6),
        [
            (12..15, Source::Base),
            (15..CHUNK_BYTES + 5, Source::Zeros),
            (CHUNK_BYTES + 5..CHUNK_BYTES + 6, Source::Base)
        ]
    );
    let chunked = Content::Chunked {
        base: Box::new(sparse),
        base_len: 3 * CHUNK_BYTES - 1,
        present: vec![0b1],
    };
    assert_eq!(
        pieces(&chunked, 0..4 * CHUNK_BYTES),
        [
            (0..CHUNK_BYTES, Source::Data),
            (CHUNK_BYTES..CHUNK_BYTES + 5, Source::Zeros),
            (CHUNK_BYTES + 5..CHUNK_BYTES + 15, Source::Base),
            (CHUNK_BYTES + 15..3 * CHUNK_BYTES, Source::Zeros),
            (3 * CHUNK_BYTES..4 * CHUNK_BYTES, Source::Data),
        ]
    );
}

/// Offsets around the ends of chunks and of the file.
fn offset() -> impl Strategy<Value = u64> {
    let edges = select(vec![
        0,
        CHUNK_BYTES,
        2 * CHUNK_BYTES,
        16 * CHUNK_BYTES,
        LARGE,
        LARGE + CHUNK_BYTES,
    ]);
    (edges, 0_u64..3, any::<bool>()).prop_map(|(edge, by, below)| {
        if below {
            edge.saturating_sub(by)
        } else {
            edge + by
        }
    })
}

fn op() -> impl Strategy<Value = Op> {
    let path = || "f".to_owned();
    let span = || {
        (
            offset(),
            select(vec![1, 100, CHUNK_BYTES, 2 * CHUNK_BYTES, 20 * CHUNK_BYTES]),
        )
    };
    prop_oneof![
        3 => (span(), 1_u8..).prop_map(move |((offset, len), fill)| Op::Write { path: path(), offset, len, fill }),
        2 => offset().prop_map(move |size| Op::Truncate { path: path(), size }),
        1 => (span(), select(Allocate::ALL))
            .prop_map(move |((offset, len), how)| Op::Allocate { path: path(), offset, len, how }),
    ]
}

proptest! {
    #![proptest_config(config(60))]

    #[test]
    fn a_large_file_reads_as_it_was_written(
        runs in proptest::collection::vec((offset(), 1_u64..2 * CHUNK_BYTES), 0..4),
        whole in any::<bool>(),
        sparse in any::<bool>(),
        list in proptest::collection::vec(op(), 1..8),
    ) {
        let mut model = Model::new();
        let mut make: Vec<Op> = Vec::new();
        if !sparse {
            make.push("create other 644".parse().unwrap()); // of two places the base stores the first as runs
        }
        make.push("create f 644".parse().unwrap());
        if whole {
            make.push(Op::Write { path: "f".to_owned(), offset: 0, len: LARGE, fill: 1 });
        }
        for (offset, len) in runs {
            make.push(Op::Write { path: "f".to_owned(), offset, len, fill: 2 });
        }
        for op in &make {
            model.apply(op).unwrap();
        }
        let mut union = Memory::over(&model);
        for op in &list {
            prop_assert_eq!(model.apply(op), union.apply(op));
            let (expected, got) = (model.picture(), union.picture());
            prop_assert!(expected["f"].bytes == got["f"].bytes, "{}then:\n{}", print(&make), print(&list));
            prop_assert_eq!(expected["f"].mtime, got["f"].mtime);
            union.check();
        }
    }
}

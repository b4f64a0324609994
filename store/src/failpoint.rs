//! Fail points: named places in the write paths where a test stops the process, makes a step fail or leaves a sync out.
//! Armed by one variable of the service's own environment, read once at its start; one atomic load otherwise.

use std::io;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::process::{Signal, getpid, kill_process};

use crate::db::Durability;
use crate::{Error, Result};

/// The variable: `NAME=ACTION[@N]`, several with commas between; `*` is every name.
pub const VARIABLE: &str = "NACRE_FAILPOINT";

macro_rules! points {
    ($($(#[doc = $doc:literal])+ $point:ident = $name:literal,)+) => {
        /// A place in the code. Those that are called `sync.…` are syncs that can be left out.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Point { $($(#[doc = $doc])+ $point,)+ }

        impl Point {
            /// All of them, in the order of the write paths in `store/README.md`.
            pub const ALL: &[Point] = &[$(Point::$point,)+];

            /// The name that arms it.
            pub const fn name(self) -> &'static str {
                match self { $(Point::$point => $name,)+ }
            }
        }
    };
}

points! {
    /// The database is open, its log replayed; nothing is swept.
    OpenReplayed = "open.replayed",
    /// What was doomed is deleted; blobs and files of an unclean end are not swept.
    OpenRemovalsFinished = "open.removals-finished",
    /// The owner's mark of the store.
    SyncLock = "sync.lock",
    /// The high-water mark of numbers.
    SyncNumbers = "sync.numbers",
    /// A high-water mark is on disk, none of its numbers is used.
    NumbersReserved = "numbers.reserved",

    /// A record's number is marked as doomed, nothing stands under it.
    UnpackMarked = "unpack.marked",
    /// Small contents are written, not where they are.
    BlobSmallWritten = "blob.small-written",
    /// A large content has its name, the database does not know it.
    BlobFileRenamed = "blob.file-renamed",
    /// The archive is read and its digests are verified; nothing is synced.
    UnpackVerified = "unpack.verified",
    /// The flush of small contents that bypassed the log.
    SyncSmall = "sync.small",
    /// Large contents.
    SyncBlobFiles = "sync.blob-files",
    /// The directories of large contents.
    SyncBlobDirs = "sync.blob-dirs",
    /// Contents are on disk, the archive is not.
    UnpackContentsSynced = "unpack.contents-synced",
    /// The archive as received.
    SyncArchive = "sync.archive",
    /// The archive has its name, no record names it.
    UnpackArchiveRenamed = "unpack.archive-renamed",
    /// The directory of archives.
    SyncArchivesDir = "sync.archives-dir",
    /// All that the record names is on disk, the record is not written.
    UnpackReady = "unpack.ready",
    /// The record.
    SyncRecord = "sync.record",
    /// The record is on disk, nobody was told.
    UnpackRecorded = "unpack.recorded",

    /// A new layer's number is marked as doomed, nothing stands under it.
    PublishMarked = "publish.marked",
    /// A part of a layer's tree is written.
    PublishHalfApplied = "publish.half-applied",
    /// A layer's tree is written, not published.
    PublishApplied = "publish.applied",
    /// All trees are written, the image is not visible.
    PublishReady = "publish.ready",
    /// The image, its names and its layers.
    SyncPublish = "sync.publish",
    /// The image is visible, nobody was told.
    PublishSynced = "publish.synced",

    /// A name set.
    SyncTag = "sync.tag",
    /// A name points elsewhere, nobody was told.
    TagSynced = "tag.synced",
    /// A name taken away.
    SyncUntag = "sync.untag",
    /// A name is gone, nobody was told; its image is there.
    UntagSynced = "untag.synced",
    /// A document.
    SyncDocument = "sync.document",
    /// A document is on disk, nobody was told.
    DocumentSynced = "document.synced",

    /// Archives given up, out of their records.
    SyncReclaim = "sync.reclaim",
    /// Out of their records, their files are there.
    ReclaimUnlisted = "reclaim.unlisted",
    /// What is to go is known, nothing is written.
    RemoveReady = "remove.ready",
    /// What goes, out of the catalog.
    SyncRemove = "sync.remove",
    /// Out of the catalog, its archives, contents and versions are there.
    RemoveUnlisted = "remove.unlisted",
    /// Archives are gone, contents and versions are there.
    RemoveArchivesGone = "remove.archives-gone",
    /// Small contents and the records of large ones are gone, the files are there.
    BlobsUnlisted = "remove.blobs-unlisted",
    /// The records of large contents whose files are about to go.
    SyncBlobsUnlisted = "sync.blobs-unlisted",
    /// A record's contents are gone, its chunks are there.
    RemoveContentsGone = "remove.contents-gone",
    /// Contents and records are gone, versions of layers are there.
    RemoveRecordsGone = "remove.records-gone",
    /// All is gone, its space is not given back.
    RemoveLayersGone = "remove.layers-gone",

    /// A writable layer's directory is made, the layer is not.
    UpperDirMade = "upper.dir-made",
    /// A writable layer.
    SyncUpper = "sync.upper",
    /// A writable layer is there, nothing names it.
    UpperMade = "upper.made",
    /// A batch of changes is logged, what it replaced is there.
    UpperWritten = "upper.written",
    /// A batch of changes whose data files are about to go, or that was synced by `fsync`.
    SyncUpperLog = "sync.upper-log",
    /// What a file was before copied bytes that are not on disk: it stands for their sync.
    SyncUndo = "sync.undo",
    /// The bytes of a file in a writable layer.
    SyncDataFile = "sync.data-file",
    /// The names of data files.
    SyncDataNames = "sync.data-names",
    /// A writable layer, out of the catalog.
    SyncUpperRemove = "sync.upper-remove",
    /// A writable layer is out of the catalog, its data and overrides are there.
    UpperUnlisted = "upper.unlisted",
    /// Its data files are gone, its overrides are there.
    UpperDataGone = "upper.data-gone",
}

/// What an armed point does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Action {
    /// Ends the process as `kill -9` does.
    Kill,
    /// Makes the step fail with this error of the host's.
    Fail(rustix::io::Errno),
    /// Leaves a sync out, every time from the N-th on.
    Skip,
    /// Says in the log that the point was passed.
    Trace,
}

/// One point armed.
struct Armed {
    point: Point,
    action: Action,
    /// The passing that counts, from 1.
    at: u64,
    passed: AtomicU64,
}

static ANY: AtomicBool = AtomicBool::new(false);
static ARMED: OnceLock<Vec<Armed>> = OnceLock::new();

/// Arms what the process's environment names. A value that says nothing is an error: a test that arms nothing would pass.
pub fn arm_from_environment() -> std::result::Result<(), String> {
    let Some(text) = std::env::var_os(VARIABLE) else {
        return Ok(());
    };
    let text = text.to_string_lossy();
    let armed = parse(&text).ok_or_else(|| {
        format!("{VARIABLE}={text:?}: expected NAME=kill|enospc|eio|skip|trace[@N], with commas between; see store/src/failpoint.rs")
    })?;
    tracing::warn!(points = %text, "fail points are armed");
    if ARMED.set(armed).is_ok() {
        ANY.store(true, Ordering::Release);
    }
    Ok(())
}

fn parse(text: &str) -> Option<Vec<Armed>> {
    let mut all = Vec::new();
    for part in text.split(',') {
        let (name, action) = part.split_once('=')?;
        let (action, at) = match action.split_once('@') {
            Some((action, at)) => (action, at.parse().ok().filter(|at| *at > 0)?),
            None => (action, 1),
        };
        let action = match action {
            "kill" => Action::Kill,
            "enospc" => Action::Fail(rustix::io::Errno::NOSPC),
            "eio" => Action::Fail(rustix::io::Errno::IO),
            "skip" => Action::Skip,
            "trace" => Action::Trace,
            _ => return None,
        };
        let before = all.len();
        let named = Point::ALL
            .iter()
            .filter(|p| name == "*" || p.name() == name);
        // What is no sync cannot be left out.
        let able = named.filter(|p| action != Action::Skip || p.name().starts_with("sync."));
        all.extend(able.map(|point| Armed {
            point: *point,
            action,
            at,
            passed: AtomicU64::new(0),
        }));
        if all.len() == before {
            return None;
        }
    }
    Some(all)
}

/// What the point is to do now, if it is armed.
#[cold]
fn armed_action(point: Point) -> Option<Action> {
    let mut due = None;
    for armed in ARMED.get()?.iter().filter(|armed| armed.point == point) {
        let passed = armed.passed.fetch_add(1, Ordering::SeqCst) + 1;
        match armed.action {
            Action::Trace => tracing::info!("passed {}", point.name()),
            Action::Skip if passed >= armed.at => due = Some(Action::Skip),
            action if passed == armed.at => due = Some(action),
            _ => {}
        }
    }
    if due == Some(Action::Kill) {
        // Whatever this answers, nothing may happen after it.
        while kill_process(getpid(), Signal::KILL).is_ok() {
            std::thread::yield_now();
        }
        std::process::abort();
    }
    due
}

fn action(point: Point) -> Option<Action> {
    if ANY.load(Ordering::Relaxed) {
        armed_action(point)
    } else {
        None
    }
}

/// Passes a step.
pub(crate) fn pass(point: Point) -> Result<()> {
    match action(point) {
        Some(Action::Fail(errno)) => Err(Error::io("fail point", Path::new(point.name()))(
            io::Error::from(errno),
        )),
        _ => Ok(()),
    }
}

/// Passes a sync that may fail; `false` if it is to be left out.
pub fn sync(point: Point) -> io::Result<bool> {
    match action(point) {
        Some(Action::Fail(errno)) => Err(errno.into()),
        other => Ok(other != Some(Action::Skip)),
    }
}

/// Passes a sync; `false` if it is to be left out.
pub fn is_synced(point: Point) -> bool {
    action(point) != Some(Action::Skip)
}

/// The durability of a synced write, unless its sync is to be left out.
pub(crate) fn synced(point: Point) -> Durability {
    if is_synced(point) {
        Durability::Synced
    } else {
        Durability::Logged
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_list_arms_its_points_and_nothing_else() {
        let armed = parse("publish.ready=kill@3,sync.publish=skip,unpack.ready=enospc").unwrap();
        let seen: Vec<_> = armed.iter().map(|a| (a.point, a.action, a.at)).collect();
        assert_eq!(
            seen,
            [
                (Point::PublishReady, Action::Kill, 3),
                (Point::SyncPublish, Action::Skip, 1),
                (
                    Point::UnpackReady,
                    Action::Fail(rustix::io::Errno::NOSPC),
                    1
                ),
            ]
        );
        assert_eq!(parse("*=trace").unwrap().len(), Point::ALL.len());
    }

    #[test]
    fn what_says_nothing_is_refused() {
        for bad in [
            "",
            "publish.ready",
            "publish.ready=",
            "publish.ready=kill@0",
            "no.such=kill",
            "publish.ready=skip",
            "publish.ready=kill,",
        ] {
            assert!(parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn names_are_unique() {
        let names: std::collections::BTreeSet<_> = Point::ALL.iter().map(|p| p.name()).collect();
        assert_eq!(names.len(), Point::ALL.len());
    }

    /// Each point stands in exactly the code that it names a place of; a point that nothing passes cannot be tested.
    #[test]
    fn every_point_is_passed_in_the_code() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut code = String::new();
        let mut folders = vec![
            root.join("src"),
            root.join("../fs/src"),
            root.join("../src"),
        ];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if !path.ends_with("failpoint.rs") {
                    code.push_str(&std::fs::read_to_string(path).unwrap());
                }
            }
        }
        for point in Point::ALL {
            let used = format!("Point::{point:?}");
            assert!(code.contains(&used), "{used} is passed nowhere");
        }
    }
}

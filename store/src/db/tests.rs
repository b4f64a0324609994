//! RocksDB on a disk that is full to the last byte: a small filesystem of the test's own.
#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "tests")]

use std::fs::File;

use rustix::fs::FallocateFlags;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::*;

/// Gone with the test, also on panic. Declared before what is in it, or else it is busy then.
struct Disk(tempfile::TempDir);

impl Disk {
    fn new() -> Option<Disk> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: only root can mount a filesystem");
            assert!(std::env::var_os("CI").is_none(), "must not be skipped here");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let size = c"size=128m";
        mount(
            "tmpfs",
            dir.path(),
            "tmpfs",
            MountFlags::empty(),
            Some(size),
        )
        .unwrap();
        Some(Disk(dir))
    }

    /// Others take all that is free.
    fn fill(&self) {
        let filler = File::options()
            .create(true)
            .append(true)
            .open(self.0.path().join("filler"))
            .unwrap();
        let host = rustix::fs::fstatvfs(&filler).unwrap();
        let (end, free) = (
            filler.metadata().unwrap().len(),
            host.f_bavail * host.f_frsize,
        );
        rustix::fs::fallocate(&filler, FallocateFlags::empty(), end, free).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // A test that failed may have left it busy; then it goes with its last user.
        unmount(self.0.path(), UnmountFlags::DETACH).unwrap();
    }
}

fn put(db: &Db, key: &[u8], durability: Durability) -> Result<()> {
    let mut batch = db.batch();
    batch.put(Family::Small, key, &vec![7; 1 << 20])?;
    batch.write(durability)
}

#[test]
fn a_database_that_met_a_full_disk_goes_on_with_the_reserve_and_says_so_without() {
    let Some(disk) = Disk::new() else { return };
    let room = Arc::new(Room::open(disk.0.path(), None).unwrap());
    let db = Db::open(&disk.0.path().join("db"), &room, 1 << 20).unwrap();
    put(&db, b"before", Durability::Unlogged).unwrap();
    disk.fill();

    // A flush that nobody made room for, as RocksDB begins them by itself.
    let met = db.flush(Family::Small);
    assert!(matches!(met, Err(Error::DbFull(_))), "{met:?}");
    let mut synced = WriteOptions::default();
    synced.set_sync(true);
    let refused = db.inner.write_opt(WriteBatch::default(), &synced);
    assert!(refused.is_err(), "it went on without being helped");
    assert!(db.recovers());
    db.inner.write_opt(WriteBatch::default(), &synced).unwrap();
    put(&db, b"after", Durability::Unlogged).unwrap();
    for key in [b"before".as_slice(), b"after"] {
        assert_eq!(db.get(Family::Small, key).unwrap().unwrap().len(), 1 << 20);
    }

    // Others take that too: it is not waited for what cannot come.
    disk.fill();
    let met = db.flush(Family::Small);
    assert!(matches!(met, Err(Error::DbFull(_))), "{met:?}");
    let begun = Instant::now();
    assert!(!db.recovers());
    assert!(begun.elapsed() < RECOVERY / 2);
    assert_eq!(
        db.get(Family::Small, b"before").unwrap().unwrap().len(),
        1 << 20
    );
}

//! What a kill of the server leaves.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use nacre_fs::vfs::Vfs;

use crate::support::{Layer, as_killed, mounted};

fn until(what: &str, holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_kill_of_the_server_loses_no_change() {
    let Some((store, mount)) = mounted(Layer::new()) else {
        return;
    };
    let id = mount.vfs.upper().unwrap().id();
    for round in 0..3 {
        let name = format!("new{round}");
        File::create(mount.path(&name)).unwrap();
        let (_copy, killed) = as_killed(&store);
        let beside = Vfs::writable(killed.open_upper(id).unwrap()).unwrap();
        assert!(
            beside.resolve(format!("/{name}").as_bytes(), true).is_ok(),
            "{name} is lost"
        );
    }
}

#[test]
fn data_files_that_were_made_ahead_are_gone_after_the_mount_and_after_a_kill() {
    let Some((store, mount)) = mounted(Layer::new()) else {
        return;
    };
    for number in 0..100 {
        std::fs::write(mount.path(&format!("new{number}")), b"content").unwrap();
    }
    let upper = mount.vfs.upper().unwrap().clone();
    let files = |dir: &Path| {
        let shards = std::fs::read_dir(dir)
            .unwrap()
            .map(|shard| shard.unwrap().path());
        shards
            .map(|shard| std::fs::read_dir(shard).unwrap().count())
            .sum::<usize>()
    };
    // Some are ready beside those in use.
    until("files are made ahead", || files(upper.data_dir()) > 100);
    let (copy, killed) = as_killed(&store);
    let id = upper.id();
    drop(killed.open_upper(id).unwrap());
    let left = upper.data_dir().strip_prefix(store.path()).unwrap();
    assert_eq!(files(&copy.path().join(left)), 100, "after a kill");
    mount.unmount();
    assert_eq!(files(upper.data_dir()), 100, "after the mount");
}

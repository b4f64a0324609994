//! Killed at any moment, the store opens again, whole, with everything that was acknowledged.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::listing::summary;
use super::support::{chain, image, layer};
use crate::{Options, Store};

const ROUNDS: usize = 12;

fn tars(round: usize) -> Vec<Vec<u8>> {
    let lines = |from: usize| -> Vec<String> {
        let mut lines: Vec<String> = (from..from + 300)
            .map(|i| format!("f dir-{}/file-{i} {}", i % 7, "text ".repeat(i % 50)))
            .collect();
        lines.push(format!(
            "f large-{from} {}",
            format!("{round} {from} ").repeat(20_000)
        ));
        lines
    };
    let tar = |lines: Vec<String>| layer(&lines.iter().map(String::as_str).collect::<Vec<_>>());
    vec![tar(lines(0)), tar(lines(round * 1000 + 1000))]
}

/// What the killed process does: publishes images, acknowledging each, removes every third again.
#[test]
#[ignore = "the process that killed_at_any_moment_the_store_is_whole kills"]
fn work_until_killed() {
    let root = std::env::var_os("NACRE_CRASH_ROOT").unwrap();
    let start: usize = std::env::var("NACRE_CRASH_START").unwrap().parse().unwrap();
    let store = Store::open(Path::new(&root), Options::default()).unwrap();
    for round in start.. {
        let name = format!("crash:{round}");
        let id = image(&store, &tars(round), &name).unwrap();
        std::fs::write(Path::new(&root).with_file_name(format!("done-{round}")), "").unwrap();
        if round % 3 == 2 {
            std::fs::remove_file(Path::new(&root).with_file_name(format!("done-{round}"))).unwrap();
            store.untag(&name).unwrap();
            store.remove_image(&id).unwrap();
        }
    }
}

#[test]
fn killed_at_any_moment_the_store_is_whole() {
    let dir = tempfile::Builder::new()
        .prefix("nacre-crash-")
        .tempdir()
        .unwrap();
    let root = dir.path().join("root");
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "tests::crash::work_until_killed"])
            .env("NACRE_CRASH_ROOT", &root)
            .env("NACRE_CRASH_START", (round * 100).to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Long enough to be in the middle of something, each time of something else.
        let until = Instant::now() + Duration::from_millis(150 + 97 * round as u64);
        while Instant::now() < until {
            assert!(
                child.try_wait().unwrap().is_none(),
                "the worker failed by itself"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let store = Store::open(&root, Options::default()).unwrap();
        assert_eq!(
            store.check().unwrap().faults,
            Vec::<String>::new(),
            "after kill {round}"
        );
        for file in std::fs::read_dir(dir.path()).unwrap() {
            let file = file.unwrap().file_name().into_string().unwrap();
            let Some(done) = file.strip_prefix("done-") else {
                continue;
            };
            assert!(
                store.resolve(&format!("crash:{done}")).unwrap().is_some(),
                "acknowledged image {done} is lost"
            );
            let tree = store
                .tree(chain(&tars(done.parse().unwrap())).as_ref())
                .unwrap();
            assert!(summary(&store, &tree).len() > 600);
        }
    }
}

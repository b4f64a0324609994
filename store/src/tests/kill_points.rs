//! Killed at every fail point of the store, one after another: nothing acknowledged is lost, nothing half-done is
//! visible, nothing is left over.

use std::collections::BTreeSet;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};

use super::listing::summary;
use super::patience;
use super::support::{chain, image, inventory, layer};
use crate::failpoint::{self, Point};
use crate::{ChainId, DocumentKind, FileName, Ino, Options, Override, Store, UpperOp};

/// What the killed process does, in this order; each is acknowledged when it has returned.
const STEPS: [&str; 10] = [
    "publish",
    "tag",
    "untag",
    "document",
    "upper",
    "write",
    "remove-upper",
    "remove-document",
    "untag-last",
    "remove-image",
];

/// Passed by a mount only.
const OF_MOUNTS: [Point; 3] = [Point::SyncUndo, Point::SyncDataFile, Point::SyncDataNames];

/// A layer that passes every step: files for several batches of a tree, small contents enough to bypass the log, and a
/// large content.
fn tars() -> Vec<Vec<u8>> {
    let long = "n".repeat(120);
    let mut lines: Vec<String> = (0..9000)
        .map(|i| format!("f d{}/{long}{i} x", i % 9))
        .collect();
    lines.extend((0..90).map(|i| format!("f small{i} {}", format!("{i:8}").repeat(7500))));
    lines.push(format!("f large {}", "large".repeat(30_000)));
    vec![layer(&lines.iter().map(String::as_str).collect::<Vec<_>>())]
}

fn compressed(tar: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(tar).unwrap();
    out.finish().unwrap()
}

#[test]
#[ignore = "the process that killed_at_every_point_the_store_is_whole kills"]
fn work_to_the_point() {
    failpoint::arm_from_environment().unwrap();
    let root = std::env::var_os("NACRE_CRASH_ROOT").unwrap();
    let root = Path::new(&root);
    let acknowledge = |step: &str| std::fs::write(root.with_file_name(step), "").unwrap();
    let store = Store::open(root, Options::default()).unwrap();
    let tars = tars();
    let id = image(&store, &[compressed(&tars[0])], "kill:a").unwrap();
    acknowledge("publish");
    store.tag("kill:b", &id).unwrap();
    acknowledge("tag");
    store.untag("kill:b").unwrap();
    acknowledge("untag");
    store
        .put_document(DocumentKind::Mount, "m", b"text")
        .unwrap();
    acknowledge("document");
    assert_eq!(store.reclaim_archives().unwrap().archives, 1);
    let upper = store.create_upper(chain(&tars).as_ref()).unwrap();
    acknowledge("upper");
    let hidden = FileName::new(b"large").unwrap();
    // A data file is made before its record: this one never gets one.
    upper.data_file(upper.new_ino().unwrap(), true).unwrap();
    upper
        .write(&[UpperOp::SetEntry(Ino::ROOT, hidden, Override::Whiteout)])
        .unwrap();
    upper.sync().unwrap();
    acknowledge("write");
    let upper_id = upper.id();
    drop(upper);
    store.remove_upper(upper_id).unwrap();
    acknowledge("remove-upper");
    store.remove_document(DocumentKind::Mount, "m").unwrap();
    acknowledge("remove-document");
    store.untag("kill:a").unwrap();
    acknowledge("untag-last");
    store.remove_image(&id).unwrap();
    acknowledge("remove-image");
}

/// What was acknowledged must be so, and what comes next may be so or not.
fn assert_promises(
    store: &Store,
    done: usize,
    whole: &[String],
    top: Option<ChainId>,
    point: &str,
) {
    let image = store.resolve("kill:a").unwrap();
    if (1..9).contains(&done) {
        assert!(image.is_some(), "{point}: the published image is lost");
    } else if done > 9 {
        assert_eq!(
            store.images().unwrap().len(),
            0,
            "{point}: a removed image is back"
        );
    }
    if image.is_some() {
        let tree = store.tree(top.as_ref()).unwrap();
        assert_eq!(summary(store, &tree), whole, "{point}: the tree is another");
    }
    let tagged = store.resolve("kill:b").unwrap().is_some();
    assert!(done < 3 || !tagged, "{point}: a name is back");
    let document = !store.documents(DocumentKind::Mount).unwrap().is_empty();
    assert!(
        !(4..7).contains(&done) || document,
        "{point}: a document is lost"
    );
    assert!(done < 8 || !document, "{point}: a document is back");
    let uppers = store.uppers().unwrap();
    if done == 5 {
        assert_eq!(uppers.len(), 1, "{point}: a writable layer is lost");
    }
    if done == 6
        && let Some((id, _)) = uppers.first()
    {
        let entries = store.open_upper(*id).unwrap().entries().unwrap();
        assert_eq!(entries.len(), 1, "{point}: a synced change is lost");
    }
    assert!(
        done < 7 || uppers.is_empty(),
        "{point}: a writable layer is back"
    );
}

fn remove_everything(store: &Store) {
    for (id, _) in store.uppers().unwrap() {
        store.remove_upper(id).unwrap();
    }
    for (key, _) in store.documents(DocumentKind::Mount).unwrap() {
        store.remove_document(DocumentKind::Mount, &key).unwrap();
    }
    for image in store.images().unwrap() {
        for name in &image.refs {
            store.untag(name).unwrap();
        }
        store.remove_image(&image.id).unwrap();
    }
    store.sweep().unwrap();
}

#[test]
fn killed_at_every_point_the_store_is_whole() {
    let tars = tars();
    let top = chain(&tars);
    let whole = {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("root"), Options::default()).unwrap();
        image(&store, &tars, "kill:a").unwrap();
        summary(&store, &store.tree(top.as_ref()).unwrap())
    };
    assert!(whole.len() > 9000);
    let mut seen = BTreeSet::new();
    for point in Point::ALL.iter().filter(|p| !OF_MOUNTS.contains(p)) {
        let point = point.name();
        let dir = tempfile::Builder::new()
            .prefix("nacre-kill-")
            .tempdir()
            .unwrap();
        let root = dir.path().join("root");
        let status = patience::status(
            Command::new(std::env::current_exe().unwrap())
                .args([
                    "--ignored",
                    "--exact",
                    "tests::kill_points::work_to_the_point",
                ])
                .env("NACRE_CRASH_ROOT", &root)
                .env(failpoint::VARIABLE, format!("{point}=kill"))
                .stdout(Stdio::null())
                .stderr(Stdio::null()),
        );
        assert_eq!(
            status.signal(),
            Some(9),
            "{point}: the process must be killed there"
        );
        let done = STEPS
            .iter()
            .take_while(|step| dir.path().join(step).exists())
            .count();
        seen.insert(done);
        let store = Store::open(&root, Options::default()).unwrap();
        let faults = store.check().unwrap().faults;
        assert_eq!(faults, Vec::<String>::new(), "{point}: after {done} steps");
        assert_promises(&store, done, &whole, top, point);
        remove_everything(&store);
        assert_eq!(
            inventory(&store),
            Vec::<String>::new(),
            "{point}: left over"
        );
    }
    assert!(
        seen.len() > 7,
        "the points must be spread over the steps, met {seen:?}"
    );
}

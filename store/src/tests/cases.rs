//! The shared layer archives with a known answer: every one must come out as at least one right peer has it.

use std::path::PathBuf;
use std::process::Command;

use super::layout::Layout;
use super::listing::{lines, list};
use super::patience;
use super::support::TempStore;

/// Where the shared folder is, if it is here.
fn cases_dir() -> Option<PathBuf> {
    let shared = std::env::var_os("NACRE_SHARED").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared"),
        PathBuf::from,
    );
    let dir = shared.join("oci-cases");
    dir.join("check.py").exists().then_some(dir)
}

#[test]
fn every_shared_case_unpacks_to_a_peers_tree() {
    let Some(dir) = cases_dir() else {
        eprintln!("skipped: no oci-cases in $NACRE_SHARED or ../shared");
        return;
    };
    let store = TempStore::new();
    let listing = tempfile::NamedTempFile::new().unwrap();
    let (mut count, mut failures) = (0, Vec::new());
    let mut cases: Vec<_> = std::fs::read_dir(dir.join("cases"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    cases.sort();
    for case in cases {
        count += 1;
        let name = case.file_name().unwrap().to_string_lossy().into_owned();
        let layout = Layout::open(&case.join("oci"));
        let refused = match layout.import(&store, &format!("case/{name}:latest")) {
            Ok(id) => {
                let image = store.image(&id).unwrap().unwrap();
                let tree = store.tree(image.chain.as_ref()).unwrap();
                std::fs::write(listing.path(), lines(&list(&store, &tree))).unwrap();
                None
            }
            Err(error) => Some(error),
        };
        let answer = match &refused {
            None => listing.path().as_os_str().to_owned(),
            Some(_) => "--error".into(),
        };
        let check = patience::output(
            Command::new("python3")
                .arg(dir.join("check.py"))
                .arg(&case)
                .arg(answer),
        );
        if !check.status.success() {
            let why = String::from_utf8_lossy(&check.stdout).into_owned()
                + &String::from_utf8_lossy(&check.stderr);
            failures.push(format!(
                "{why} {}",
                refused.map(|e| e.to_string()).unwrap_or_default()
            ));
        }
    }
    assert!(count > 50, "only {count} cases");
    assert!(
        failures.is_empty(),
        "{} of {count} fail:\n{}",
        failures.len(),
        failures.join("\n")
    );
    assert_eq!(store.check().unwrap().faults, Vec::<String>::new());
}

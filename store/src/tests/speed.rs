//! Measurements on real images, run by hand: `NACRE_LAYOUT=DIR cargo test --release -p nacre-store speed -- --ignored --nocapture`.

use std::path::Path;
use std::time::Instant;

use crate::{Options, Store};

use super::layout::Layout;
use super::listing::list;
use super::support::TempStore;

#[test]
#[ignore = "measures an image named by NACRE_LAYOUT"]
fn speed_of_an_import() {
    let layout = Layout::open(Path::new(&std::env::var_os("NACRE_LAYOUT").unwrap()));
    let mut store = TempStore::new();
    let start = Instant::now();
    let results: Vec<_> = std::thread::scope(|scope| {
        let (layout, store) = (&layout, &*store);
        let threads: Vec<_> = (0..layout.layer_count())
            .map(|i| scope.spawn(move || layout.unpack(store, i).unwrap()))
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    eprintln!("unpack  {:?}", start.elapsed());
    let start = Instant::now();
    let id = layout.publish(&store, results, "speed:1").unwrap();
    eprintln!("publish {:?}", start.elapsed());
    let (close, open) = store.reopen();
    eprintln!("close   {close:?}");
    eprintln!("open    {open:?}");
    let start = Instant::now();
    let image = store.image(&id).unwrap().unwrap();
    let tree = store.tree(image.chain.as_ref()).unwrap();
    let entries = list(&store, &tree).len();
    eprintln!(
        "list    {:?} ({entries} entries, contents read and hashed)",
        start.elapsed()
    );
    let start = Instant::now();
    let report = store.check().unwrap();
    eprintln!("check   {:?} {:?}", start.elapsed(), report.checked);
    assert_eq!(report.faults, Vec::<String>::new());
    drop(tree);
    let du = || {
        let out = std::process::Command::new("du")
            .arg("-sm")
            .arg(store.root())
            .output()
            .unwrap();
        String::from_utf8_lossy(&out.stdout)
            .split_whitespace()
            .next()
            .unwrap()
            .to_owned()
    };
    eprintln!("du      {} MB", du());
    store.untag("speed:1").unwrap();
    let start = Instant::now();
    let removed = store.remove_image(&id).unwrap();
    eprintln!(
        "remove  {:?} ({} layers, {} bytes)",
        start.elapsed(),
        removed.chains.len(),
        removed.content_bytes
    );
    eprintln!("du      {} MB", du());
    let mut empty = TempStore::new();
    let start = Instant::now();
    drop(Store::open(&empty.root().with_file_name("new"), Options::default()).unwrap());
    eprintln!("make    {:?} (and close)", start.elapsed());
    eprintln!("empty   {:?} (close, open)", empty.reopen());
}

//! Measurements on real images, run by hand: `NACRE_LAYOUT=DIR cargo test --release -p nacre-store speed -- --ignored --nocapture`,
//! and by tests/bench/choices.py, which reads what it prints. `NACRE_AT_ONCE` is how many layers are unpacked at once.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
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
    let at_once = std::env::var("NACRE_AT_ONCE").map_or(usize::MAX, |text| text.parse().unwrap());
    let next = AtomicUsize::new(0);
    let mut results: Vec<_> = std::thread::scope(|scope| {
        let (layout, store, next) = (&layout, &*store, &next);
        let work = move || {
            let mine = std::iter::repeat_with(|| next.fetch_add(1, Ordering::Relaxed));
            mine.take_while(|index| *index < layout.layer_count())
                .map(|index| (index, layout.unpack(store, index).unwrap()))
                .collect::<Vec<_>>()
        };
        let threads: Vec<_> = (0..at_once.min(layout.layer_count()))
            .map(|_| scope.spawn(work))
            .collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    });
    results.sort_by_key(|(index, _)| *index);
    let results = results.into_iter().map(|(_, layer)| layer).collect();
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

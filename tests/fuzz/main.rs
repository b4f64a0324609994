//! The kept inputs of the fuzz targets, played back: a check of seconds where fuzzing takes hours.
//!
//! `corpus/` is what fuzzing starts from (`seeds.py` makes it), `regressions/` what once broke something.

pub mod targets;

use std::fs;
use std::panic;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// No input may keep a target busy for longer, on a machine that is busy with other tests.
const RUN_TIME_MAX: Duration = Duration::from_secs(10);

fn folder(kind: &str, target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fuzz")
        .join(kind)
        .join(target)
}

/// The files of a folder; none where the folder is not there.
fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut files: Vec<_> = entries
        .map(|entry| entry.expect("the folder can be listed").path())
        .collect();
    files.sort();
    files
}

/// Runs one input; says what went wrong.
fn fault(run: fn(&[u8]), input: &Path) -> Option<String> {
    let data = fs::read(input).expect("the input can be read");
    let start = Instant::now();
    if panic::catch_unwind(|| run(&data)).is_err() {
        return Some(format!("{}: it panicked, as shown above", input.display()));
    }
    let took = start.elapsed();
    (took > RUN_TIME_MAX).then(|| format!("{}: it took {took:?}", input.display()))
}

#[test]
fn kept_inputs_break_no_promise() {
    let mut faults = Vec::new();
    for (name, run) in targets::ALL {
        let corpus = files(&folder("corpus", name));
        assert!(corpus.len() > 5, "{name} has {} inputs", corpus.len());
        let regressions = files(&folder("regressions", name));
        let inputs = corpus.iter().chain(&regressions);
        faults.extend(inputs.filter_map(|input| fault(*run, input)));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn every_folder_of_inputs_has_a_target() {
    for kind in ["corpus", "regressions"] {
        for folder in files(&folder(kind, "")) {
            let name = folder.file_name().unwrap_or_default();
            let known = targets::ALL.iter().any(|(target, _)| name == *target);
            assert!(known, "{}: no such target", folder.display());
        }
    }
}

/// Inputs that nobody kept: each corpus input cut off at many places, and with single bytes changed.
#[test]
fn kept_inputs_that_are_damaged_break_no_promise() {
    let mut faults = Vec::new();
    for (name, run) in targets::ALL {
        for input in files(&folder("corpus", name)) {
            let whole = fs::read(&input).expect("the input can be read");
            let step = (whole.len() / 40).max(1);
            for at in (0..whole.len()).step_by(step) {
                let cut = whole[..at].to_vec();
                let mut changed = whole.clone();
                changed[at] ^= 1 << (at % 8);
                for (what, data) in [("cut off", cut), ("changed", changed)] {
                    if panic::catch_unwind(|| run(&data)).is_err() {
                        faults.push(format!("{} {what} at byte {at}", input.display()));
                    }
                }
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

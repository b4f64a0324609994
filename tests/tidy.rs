//! The architecture as a test: arrows between crates, one door for each foreign library, homes of `unsafe`.
#![expect(clippy::unwrap_used, reason = "a test panics on what it cannot read")]

use std::fs;
use std::path::{Path, PathBuf};

/// What the house allows: a word, the folders or files where it may stand, and why.
const DOORS: &[(&str, &[&str], &str)] = &[
    (
        "fuse::wire",
        &["fs/src/fuse"],
        "the FUSE protocol stays behind fs/src/fuse",
    ),
    (
        "FUSE_",
        &["fs/src/fuse"],
        "the FUSE protocol stays behind fs/src/fuse",
    ),
    (
        "sys::backing_",
        &["fs/src/fuse"],
        "the FUSE device is asked by fs/src/fuse alone",
    ),
    (
        "fuser::",
        &[],
        "the transport of the FUSE protocol is our own",
    ),
    (
        "rocksdb::",
        &["store/src/db"],
        "RocksDB stays behind store/src/db",
    ),
    ("clap::", &["cli/src"], "only the command line knows clap"),
    ("axum::", &["src/service"], "only the service speaks axum"),
    (
        "reqwest::",
        &["src/registry"],
        "only the registry client speaks reqwest",
    ),
    (
        "libcontainer::",
        &["src/runtime"],
        "libcontainer stays behind src/runtime",
    ),
    (
        "unsafe {",
        &["src/runtime/sys", "fs/src/sys"],
        "unsafe lives in sys",
    ),
    (
        "unsafe fn",
        &["src/runtime/sys", "fs/src/sys"],
        "unsafe lives in sys",
    ),
    (
        ".await",
        &[
            "src/service",
            "src/registry",
            "src/transfer",
            "src/engine/fetch.rs",
            "cli/src",
        ],
        "sync inside, async at the sockets",
    ),
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = ["src", "store", "fs", "cli", "tests"]
        .iter()
        .map(|d| root().join(d))
        .collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }
    assert!(
        found.len() > 50,
        "the walk must find the sources, found {}",
        found.len()
    );
    found
}

fn relative(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().display().to_string()
}

/// Code without comments and strings' worth of false alarms: whole-line comments are dropped.
fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .map(|(n, line)| (n + 1, line))
}

#[test]
fn foreign_types_stop_at_their_door() {
    let mut faults = Vec::new();
    for path in sources() {
        let name = relative(&path);
        if name.starts_with("tests/") || name.contains("/tests/") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        for (line, code) in code_lines(&text) {
            for (word, homes, reason) in DOORS {
                if code.contains(word) && !homes.iter().any(|home| name.starts_with(home)) {
                    faults.push(format!("{name}:{line}: {word} ({reason})"));
                }
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn every_file_says_what_it_owns() {
    let silent: Vec<String> = sources()
        .into_iter()
        .filter(|path| !fs::read_to_string(path).unwrap().starts_with("//!"))
        .map(|path| relative(&path))
        .collect();
    assert!(silent.is_empty(), "without a first //! line: {silent:?}");
}

#[test]
fn arrows_point_down() {
    let depends = |manifest: &str, on: &str| {
        let text = fs::read_to_string(root().join(manifest)).unwrap();
        text.lines().any(|line| line.starts_with(on))
    };
    for (manifest, forbidden) in [
        ("store/Cargo.toml", &["nacre-fs", "nacre-cli", "clap"][..]),
        (
            "fs/Cargo.toml",
            &["nacre-cli", "rocksdb", "clap", "tokio"][..],
        ),
        (
            "cli/Cargo.toml",
            &["nacre-store", "nacre-fs", "rocksdb"][..],
        ),
        (
            "src/runtime/Cargo.toml",
            &[
                "nacre-store",
                "nacre-fs",
                "nacre-cli",
                "rocksdb",
                "tokio",
                "clap",
            ][..],
        ),
    ] {
        for name in forbidden {
            assert!(
                !depends(manifest, name),
                "{manifest} must not depend on {name}"
            );
        }
    }
    assert!(
        depends("fs/Cargo.toml", "nacre-store"),
        "the check must see a dependency that is there"
    );
}

#[test]
fn commands_of_the_readme_exist() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let mut seen = 0;
    // Every second piece between fences is code.
    let code = readme.split("```").skip(1).step_by(2);
    for line in code
        .flat_map(str::lines)
        .filter_map(|line| line.strip_prefix("nacre "))
    {
        let words: Vec<&str> = line
            .split_whitespace()
            .take_while(|w| w.bytes().all(|b| b.is_ascii_lowercase()))
            .collect();
        let groups = ["image", "system", "container"];
        let take = if words.first().is_some_and(|w| groups.contains(w)) {
            2
        } else {
            1
        };
        let command: Vec<&str> = words.into_iter().take(take).collect();
        if command.is_empty() {
            continue;
        }
        let status = std::process::Command::new(env!("CARGO_BIN_EXE_nacre"))
            .args(&command)
            .arg("--help")
            .output()
            .unwrap();
        assert!(
            status.status.success(),
            "README: nacre {} does not exist",
            command.join(" ")
        );
        seen += 1;
    }
    assert!(
        seen > 10,
        "the README's tour must be found, saw {seen} commands"
    );
}

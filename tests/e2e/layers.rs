//! Layers become trees: equal to what umoci unpacks, and to the known answers of the OCI cases.

use std::path::Path;
use std::process::Command;

use crate::nacre::{Nacre, oci_source, run_tool, test_image};
use crate::patience;
use crate::trees;

fn equals_umoci(image: &str) {
    let nacre = Nacre::new();
    let bundle = nacre.path("bundle");
    let source = format!("{}:latest", test_image(image).display());
    run_tool(
        "umoci",
        &["unpack", "--image", &source, bundle.to_str().unwrap()],
    );
    nacre.ok(&["pull", "-q", &oci_source(image)]);
    let point = nacre.folder("view");
    nacre.ok(&["mount", "--read-only", image, point.to_str().unwrap()]);
    trees::assert_same(
        image,
        &trees::list(&bundle.join("rootfs")),
        &trees::list(&point),
    );
    nacre.check();
}

#[test]
fn debian_min_equals_umocis_tree() {
    equals_umoci("debian-min");
}

#[test]
fn many_layers_equals_umocis_tree() {
    equals_umoci("many-layers");
}

/// `../shared/oci-cases`: images whose right tree is known from four peers.
#[test]
fn oci_cases_have_the_known_answer() {
    let cases = match std::env::var_os("NACRE_OCI_CASES") {
        Some(path) => path.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/oci-cases"),
    };
    if !cases.join("check.py").exists() {
        eprintln!(
            "skipped: no OCI cases at {} (set NACRE_OCI_CASES)",
            cases.display()
        );
        return;
    }
    let nacre = Nacre::new();
    let mut faults = Vec::new();
    let mut seen = 0;
    let mut folders: Vec<_> = std::fs::read_dir(cases.join("cases"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    folders.sort();
    for case in folders {
        seen += 1;
        let name = case.file_name().unwrap().to_str().unwrap().to_owned();
        let check = |argument: &Path| {
            let output = patience::output(
                Command::new("python3")
                    .arg(cases.join("check.py"))
                    .arg(&case)
                    .arg(argument),
            );
            (!output.status.success()).then(|| String::from_utf8_lossy(&output.stdout).into_owned())
        };
        let pulled = nacre.run(&[
            "pull",
            "-q",
            &format!("oci:{}:latest", case.join("oci").display()),
        ]);
        if pulled.code != 0 {
            assert!(
                pulled.stderr.len() > 10,
                "{name}: an error must say something"
            );
            faults.extend(
                check(Path::new("--error"))
                    .map(|fault| format!("{fault} ({})", pulled.stderr.trim())),
            );
            continue;
        }
        let image = pulled.stdout.trim().to_owned();
        let point = nacre.folder(&name);
        nacre.ok(&["mount", "--read-only", &image, point.to_str().unwrap()]);
        let listing = nacre.path(&format!("{name}.jsonl"));
        let walk = patience::output(
            Command::new("python3")
                .arg(cases.join("walk.py"))
                .arg(&point),
        );
        assert!(
            walk.status.success(),
            "{name}: {}",
            String::from_utf8_lossy(&walk.stderr)
        );
        std::fs::write(&listing, walk.stdout).unwrap();
        faults.extend(check(&listing));
        nacre.ok(&["umount", point.to_str().unwrap()]);
    }
    assert!(seen > 50, "only {seen} cases found");
    assert!(
        faults.is_empty(),
        "{} of {seen} cases differ:\n{}",
        faults.len(),
        faults.join("")
    );
    nacre.check();
}

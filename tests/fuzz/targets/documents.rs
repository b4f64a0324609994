//! What registries and images say: manifests, indexes, configurations, layouts, challenges, passwd and group.
//!
//! The first byte chooses, so that one corpus serves all; parts of an input are separated by a line of `---`.

use std::io;
use std::path::Path;

use nacre::fuzzing;
use nacre::registry::{Descriptor, LAYERS_MAX, Manifest, Platform, media};
use nacre::runtime::rootfs::{RootFs, Stat};
use nacre::runtime::user;
use nacre_store::RawManifest;

const TYPES: [&str; 6] = [
    "",
    media::OCI_MANIFEST,
    media::OCI_INDEX,
    media::DOCKER_MANIFEST,
    media::DOCKER_LIST,
    "text/plain",
];

/// Takes one input.
pub fn run(data: &[u8]) {
    let Some((choice, rest)) = data.split_first() else {
        return;
    };
    match choice {
        b'0'..=b'5' => manifest(TYPES[usize::from(choice - b'0')], rest),
        b'c' => {
            fuzzing::config(rest);
            if let Some(layers) = fuzzing::image(rest) {
                assert!(layers <= LAYERS_MAX);
            }
        }
        b'l' => {
            let parts = parts(rest);
            if let Some((index, documents)) = parts.split_first() {
                fuzzing::layout(index, documents);
            }
        }
        b'r' => {
            let parts = parts(rest);
            let part = |n: usize| parts.get(n).copied().unwrap_or_default();
            fuzzing::answer(part(0), &String::from_utf8_lossy(part(1)), part(2));
        }
        b'u' => users(&parts(rest)),
        b'p' => platform(&String::from_utf8_lossy(rest)),
        _ => {}
    }
}

fn parts(mut rest: &[u8]) -> Vec<&[u8]> {
    const BETWEEN: &[u8] = b"\n---\n";
    let mut found = Vec::new();
    while let Some(at) = rest
        .windows(BETWEEN.len())
        .position(|bytes| bytes == BETWEEN)
    {
        found.push(&rest[..at]);
        rest = &rest[at + BETWEEN.len()..];
    }
    found.push(rest);
    found
}

/// Read the same twice, within its limits, and of one kind whoever asks.
fn manifest(media_type: &str, bytes: &[u8]) {
    let raw = RawManifest {
        media_type: media_type.to_owned(),
        bytes: bytes.to_vec(),
    };
    let Ok(manifest) = Manifest::parse(&raw) else {
        return;
    };
    let kept = manifest.media_type(&raw).to_owned();
    let again = RawManifest {
        media_type: kept.clone(),
        bytes: bytes.to_vec(),
    };
    // CVE-2021-41190: what is kept and sent on must not mean something else to the next who reads it.
    assert_eq!(Manifest::parse(&again).as_ref(), Ok(&manifest), "as {kept}");
    match &manifest {
        Manifest::Image(image) => assert!(image.layers.len() <= LAYERS_MAX),
        Manifest::Index(entries) => drop(Descriptor::select(entries, &Platform::host())),
    }
}

fn platform(text: &str) {
    if let Ok(platform) = Platform::parse(text) {
        let shown = platform.to_string();
        assert_eq!(Platform::parse(&shown).as_ref(), Ok(&platform), "{shown}");
        assert_eq!(platform.distance(&platform), Some(0));
    }
}

/// A root that holds passwd and group alone.
struct Files<'a>(&'a [u8], &'a [u8]);

impl RootFs for Files<'_> {
    fn read(&self, path: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
        let content = if path.ends_with("passwd") {
            self.0
        } else {
            self.1
        };
        if content.len() > bytes_max {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(content.to_vec())
    }
    fn stat(&self, _: &Path) -> io::Result<Stat> {
        Err(io::ErrorKind::NotFound.into())
    }
}

/// passwd, group, the user that is asked for, and further groups by line.
fn users(parts: &[&[u8]]) {
    let part = |n: usize| parts.get(n).copied().unwrap_or_default();
    let files = Files(part(0), part(1));
    let extra = String::from_utf8_lossy(part(3)).into_owned();
    let extra: Vec<String> = extra.lines().map(str::to_owned).collect();
    let Ok(who) = user::resolve(&files, &String::from_utf8_lossy(part(2)), &extra) else {
        return;
    };
    // CVE-2024-40635: no number wraps around to root's, or to one that docker refuses.
    let fits = |id: u32| i32::try_from(id).is_ok();
    assert!(fits(who.uid) && fits(who.gid) && who.groups.iter().all(|group| fits(*group)));
    assert_eq!(who.groups.first(), Some(&who.gid));
}

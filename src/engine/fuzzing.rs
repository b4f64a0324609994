//! Doors for tests/fuzz: configurations of images, and the small words of requests. Pure.

use nacre_store::{Digest, ImageId};

use super::variables::Variables;
use super::{
    Config, ImageConfig, change, clean_path, glob, merge, names, signal, when, words as line,
};

/// Reads an image's configuration, and makes a container's and a new image's of it.
pub fn config(bytes: &[u8]) -> bool {
    let id = ImageId(Digest::of(bytes));
    let Ok(mut image) = ImageConfig::parse(&id, bytes) else {
        return false;
    };
    let _made = when::parse(image.text("created"));
    let history = image.history();
    let diffs = image.diff_ids();
    let inherited = image.config();
    run(&mut Config::default(), &inherited);
    image.set_config(&inherited);
    let step = history.first().cloned().unwrap_or_default();
    image.push(&step, diffs.first());
    let written = image.to_bytes();
    let id = ImageId(Digest::of(&written));
    assert!(
        ImageConfig::parse(&id, &written).is_ok(),
        "our own configuration does not parse"
    );
    true
}

/// What a container of `own` on an image of `inherited` would run.
pub(crate) fn run(own: &mut Config, inherited: &Config) {
    merge::inherit(own, inherited);
    drop(merge::command(own));
    let environment = merge::environment(own, "host");
    let mut names: Vec<&str> = environment
        .iter()
        .filter_map(|entry| entry.split('=').next())
        .collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), environment.len(), "a variable twice");
}

/// Reads one text as everything that a word of a request may be.
pub fn words(text: &str) {
    let mut config = Config::default();
    // Errors are right answers here: what is looked for is a panic or no end.
    drop(change::apply(&mut config, &[text.to_owned()]));
    drop(line::split(text));
    drop(line::expand(
        text,
        &Variables::new(["A=b".to_owned()]),
        1 << 20,
    ));
    let clean = clean_path(text);
    assert_eq!(clean_path(&clean), clean, "a clean path is clean");
    assert!(
        !clean.split('/').any(|part| part == ".."),
        "a way up: {clean}"
    );
    drop(names::check(text));
    drop(signal::parse(text));
    let _point = when::point(text, 0);
    if let Some(time) = when::parse(text) {
        assert_eq!(when::parse(&when::rfc3339(time)), Some(time), "{text}");
    }
    if let Some((pattern, text)) = text.split_once('\n') {
        let _fits = glob::matches(pattern, text);
    }
}

//! `--format`: any template over any value ends, and without a panic. The first line is the value in JSON.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nacre_cli::fuzzing;

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let (json, template) = text.split_once('\n').unwrap_or(("null", &text));
    let value = serde_json::from_str(json).unwrap_or_default();
    fuzzing::template(template, &value);
});

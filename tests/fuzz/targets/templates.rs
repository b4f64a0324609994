//! `--format`: any template over any value ends, and without a panic. The first line is the value in JSON.

use nacre_cli::fuzzing;

/// Takes one input.
pub fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (json, template) = text.split_once('\n').unwrap_or(("null", &text));
    let value = serde_json::from_str(json).unwrap_or_default();
    fuzzing::template(template, &value);
}

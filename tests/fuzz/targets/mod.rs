//! What strangers send, through the code that reads it: each target takes one input, and panics where a promise is broken.
//!
//! libFuzzer drives them from `bins/`, and `main.rs` plays the kept inputs back in the ordinary tests.

pub mod archive;
pub mod documents;
pub mod inflate;
pub mod references;
pub mod requests;
pub mod templates;

/// A target: its name, and what takes an input.
pub type Target = (&'static str, fn(&[u8]));

/// All of them; `corpus/` and `regressions/` have a folder for each.
pub const ALL: &[Target] = &[
    ("archive", archive::run),
    ("documents", documents::run),
    ("inflate", inflate::run),
    ("references", references::run),
    ("requests", requests::run),
    ("templates", templates::run),
];

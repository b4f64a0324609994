//! The command line against a pretended service.
#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "../../../tests/common/patience.rs"]
mod patience;

mod containers;
mod fake;
mod images;
mod oracle;
mod service;
mod terminal;

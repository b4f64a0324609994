//! The command line against a pretended service.
#![expect(clippy::unwrap_used, reason = "tests")]

mod containers;
mod fake;
mod images;
mod oracle;
mod service;
mod terminal;

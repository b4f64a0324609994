//! The command line against a pretended service.
#![expect(clippy::unwrap_used, reason = "tests")]

mod fake;
mod flows;
mod oracle;
mod terminal;

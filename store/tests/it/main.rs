//! The store from outside, by its public interface alone.
#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "tests")]

mod cases;
mod layout;
mod lifetime;
mod listing;
mod speed;
mod support;

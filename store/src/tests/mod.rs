//! The store as a whole, from archives to removal.
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::cast_possible_truncation,
    reason = "tests"
)]

#[path = "../../../tests/common/patience.rs"]
mod patience;

mod cases;
mod crash;
mod cves;
mod damage;
mod full;
mod images;
mod kill_points;
mod layers;
mod layout;
mod lifetime;
mod listing;
mod model;
mod speed;
mod support;
mod unpack;
mod uppers;

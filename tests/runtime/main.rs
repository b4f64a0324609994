//! Real containers, as root: what runs in them, what they may not do, how they end and what they leave.
//! The root is an empty tree with this machine's own programs bound in, so that nothing has to be downloaded.
#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "../common/patience.rs"]
mod patience;

mod confinement;
mod ends;
mod exec;
mod fixture;
mod streams;

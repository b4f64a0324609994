//! What the product promises, end to end: the real program, a real service, real mounts and containers.
//!
//! These tests need root, /dev/fuse and the packages of `.ci/setup`; without them they fail, they do not skip.
#![expect(clippy::unwrap_used, reason = "a test panics on what it cannot do")]
#![expect(clippy::print_stderr, reason = "a test that cannot run says why")]

#[path = "../common/patience.rs"]
mod patience;

mod bad_input;
mod bombs;
mod commits;
mod containers;
mod cves;
mod edges_auth;
mod edges_tags;
mod edges_tokens;
mod faulty_proxy;
mod faulty_registry;
mod full_disk;
mod hostile;
mod images;
mod judges;
mod kill;
mod layer_kinds;
mod layers;
mod mount_helper;
mod mounts;
mod nacre;
mod power;
mod registry;
mod stress;
mod token_server;
mod trees;

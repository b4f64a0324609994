//! nacre, the product: what the `nacred` program does, as a library. Never parses a command line and never draws; that is `nacre-cli`,
//! which `nacre` has alone.
//!
//! ```text
//! service/    HTTP on a Unix socket: docker's Engine API and nacre's own routes; the only wire types beside the client's
//! engine/     the verbs: pull, mount, run, diff, commit, remove …; owns the state
//! registry/   the distribution protocol: manifests and blobs in and out
//! transfer/   images between the store and registries, layouts and archives
//! runtime/    one shim process per container: namespaces, terminals, logs, exits; a crate, so that a shim has no database in it
//! reference   image names: their grammar, their complete and their familiar form
//! fuzzing     doors for tests/fuzz
//! ```

pub mod engine;
#[doc(hidden)]
pub mod fuzzing;
pub mod reference;
pub mod registry;
pub mod service;
pub mod transfer;

pub use nacre_runtime as runtime;

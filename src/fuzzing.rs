//! Doors for tests/fuzz: bytes of strangers, through the code that reads them. Nothing else uses them.
//!
//! What is read is dropped: only a panic, endless work or a broken promise is looked for, and the promises are asserted
//! where they are made visible, in tests/fuzz. None of the doors changes anything of the host.

pub use crate::engine::fuzzing::{config, words};
pub use crate::registry::fuzzing::answer;
pub use crate::service::fuzzing::{body, head};
pub use crate::transfer::fuzzing::{image, layout};

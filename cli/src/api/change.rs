//! What changed in a container or a writable mount, and the answer to commit.

use serde::{Deserialize, Serialize};

/// [`Change::kind`] of a path whose attributes or content differ.
pub const KIND_CHANGED: u8 = 0;
/// [`Change::kind`] of a path that the image does not have.
pub const KIND_ADDED: u8 = 1;
/// [`Change::kind`] of a path that only the image has.
pub const KIND_DELETED: u8 = 2;

/// One changed path: an item of `GET /containers/{name}/changes`. The answer
/// is `null` if there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Change {
    pub kind: u8,
    pub path: String,
}

/// The answer of `POST /commit`: the new image's ID.
pub type CommitResponse = super::IdResponse;

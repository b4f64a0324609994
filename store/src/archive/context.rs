//! The entry that is being read, and the limits it is held to: what an error has to name. Never reads a byte.

use super::error::{ArchiveError, Place, shown};
use super::input::count;
use super::limits::Limits;
use super::{header, input, path, pax, sparse};

/// Where the reader is. Turns the parsers' faults, which know their own bytes only, into errors.
pub(super) struct Context {
    pub(super) limits: Limits,
    /// The entry's name as the archive spells it; empty between entries.
    pub(super) name: Vec<u8>,
    /// Where its last header starts.
    pub(super) at: u64,
}

impl Context {
    pub(super) fn place(&self) -> Place {
        Place::new(&self.name, self.at)
    }

    pub(super) fn input_error(&self, fault: input::Fault, what: &'static str) -> ArchiveError {
        let at = self.place();
        match fault {
            input::Fault::Source(error) => ArchiveError::from_source(error, || at),
            input::Fault::Headers(source) => ArchiveError::Headers { at, source },
            input::Fault::Ended => ArchiveError::Truncated { at, what },
            input::Fault::TooLong => self.limit_error(
                "layer_bytes_max",
                "bytes of the uncompressed layer",
                self.limits.layer_bytes_max,
            ),
        }
    }

    pub(super) fn field_error(&self, field: header::BadField) -> ArchiveError {
        ArchiveError::BadField {
            at: self.place(),
            field: field.0,
        }
    }

    pub(super) fn limit_error(
        &self,
        limit: &'static str,
        what: &'static str,
        max: u64,
    ) -> ArchiveError {
        ArchiveError::LimitExceeded {
            at: self.place(),
            limit,
            what,
            max,
        }
    }

    pub(super) fn name_error(&self, name: &[u8], reason: &str) -> ArchiveError {
        ArchiveError::BadName {
            at: self.place(),
            name: shown(name),
            reason: reason.to_owned(),
        }
    }

    pub(super) fn path_error(&self, fault: path::Fault) -> ArchiveError {
        let at = self.place();
        match fault {
            path::Fault::Name { name, reason } => ArchiveError::BadName { at, name, reason },
            path::Fault::Whiteout(reason) => ArchiveError::BadWhiteout { at, reason },
            path::Fault::TooDeep => {
                self.limit_error("depth_max", "path components", count(self.limits.depth_max))
            }
        }
    }

    pub(super) fn pax_error(&self, fault: pax::Fault) -> ArchiveError {
        match fault {
            pax::Fault::Record { keyword, reason } => ArchiveError::BadPax {
                at: self.place(),
                record: shown(&keyword),
                reason,
            },
            pax::Fault::Limit { limit, what, max } => self.limit_error(limit, what, count(max)),
        }
    }

    pub(super) fn sparse_error(&self, fault: sparse::Fault) -> ArchiveError {
        match fault {
            sparse::Fault::Map(reason) => ArchiveError::BadSparse {
                at: self.place(),
                reason,
            },
            sparse::Fault::TooMany => self.limit_error(
                "extents_max",
                "runs of a sparse file",
                count(self.limits.extents_max),
            ),
        }
    }
}

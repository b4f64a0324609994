//! The system calls that need `unsafe`, behind owned and safe types; the only `unsafe` of this crate.

mod attributes;
mod descriptors;
mod device;

pub(crate) use attributes::set_mount_attributes;
pub(crate) use descriptors::keep_descriptors_below;
pub(crate) use device::{backing_close, backing_open};

//! The system calls that need `unsafe`, behind owned and safe types.

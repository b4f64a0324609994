//! A plan in the making.

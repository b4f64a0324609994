//! The `nacre` program. Decides which of its two faces is asked for; never does the work.

fn main() {}

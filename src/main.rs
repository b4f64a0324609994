//! nacre
fn main() {}

//! nacre
fn main(){}

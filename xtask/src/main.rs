//! `cargo xtask`: set-up, build, tests, lab and demo.
fn main() {}

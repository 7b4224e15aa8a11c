//! The `insession` command.
fn main() {}

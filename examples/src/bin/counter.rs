//! The replicated counter.
fn main() {}

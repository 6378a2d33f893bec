//! What the larger examples are made of, for their binaries, tests and the simulator.

pub mod kv;

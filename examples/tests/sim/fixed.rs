//! The fixed set of seeds that a plain run goes through.

/// What runs the simulator.
pub(crate) const COMMAND: &str = "cargo test --release -p ringleader-examples --test sim --";

/// Where this stands.
pub(crate) const FILE: &str = "examples/tests/sim/fixed.rs";

/// How many there are: about 30 s of one core in the debug profile.
pub(crate) const SEEDS: u64 = 25;

/// Hashes of traces. They are others after every change of what the engine, the simulator or the store
/// does; then `--hashes` prints the new ones. What must never happen is that two machines print
/// different ones.
pub(crate) const KNOWN: &[(u64, u64)] = &[(0, 0x5087c20b2ff8d1d8)];

/// What has to happen somewhere in the fixed set of seeds, or they no longer show what they are meant
/// to show.
pub(crate) const SOMETIMES: &[&str] = &[
    "groups founded from a state",
    "groups reset",
    "keys seen that will expire",
    "leaderships transferred",
    "locks given",
    "locks lost before they were renewed",
    "locks refused",
    "logs truncated",
    "members changed",
    "nodes wiped",
    "numbers given out",
    "outcomes unknown",
    "power failures",
    "reads served",
    "reads served under a lease",
    "sequences that were never deleted",
    "shards that panicked",
    "snapshots installed",
    "snapshots taken",
    "starts from a snapshot",
];

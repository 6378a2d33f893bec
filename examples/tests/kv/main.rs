//! The key-value server as real processes, with the clients that people have.

mod bad_input;
#[path = "../children/mod.rs"]
mod children;
mod command_line;
mod crashes;
mod expiry;
mod faults;
mod http;
mod joining;
#[allow(dead_code, reason = "the simulator uses all of it")]
#[path = "../../../engine/tests/linearizability/mod.rs"]
mod linearizability;
#[allow(dead_code, unreachable_pub, reason = "the engine's tests use all of it")]
#[path = "../../../engine/tests/processes/network.rs"]
mod network;
mod nodes;
mod operator;
#[cfg(feature = "namespaces")]
mod partitions;
mod python;
mod redis_tools;
mod resp;
mod routing;
mod rust_client;
mod workload;

//! The driver of production: carries a shard's effects out with glommio and feeds completions
//! back. Files, sockets, clocks and threads are touched here, in the log's disk driver and in the
//! network's connections, and nowhere else.
//!
//! Each shard is one thread with one glommio executor. Its main task runs the turns
//! ([`driver`]); disk operations and connections are tasks of their own that raise the main
//! task's [`Notify`] when something completed. Other threads ring the inbox's
//! doorbell, and one of them beats the [`pulse`].

mod carry_out;
mod clients;
mod data_dir;
mod doorbell;
mod doze;
mod driver;
mod founding;
mod guests;
mod hook_clock;
mod journal;
mod kernel;
mod meter;
mod network;
mod notify;
mod peer_file;
mod pulse;
mod shard_thread;
mod sleepers;
mod stage_clock;
mod wreck;

pub(crate) use data_dir::DataDir;
pub(crate) use doorbell::{Bell, Doorbell};
pub use founding::found_group;
pub(crate) use guests::Guests;
pub(crate) use kernel::{check_cores, check_kernel};
pub(crate) use network::bind;
pub(crate) use notify::Notify;
pub(crate) use pulse::{Pulse, Wrist};
pub(crate) use shard_thread::{ShardSeat, ShardThread, SharedFactory};
pub(crate) use sleepers::Sleepers;

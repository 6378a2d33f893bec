//! What a shard counts about its clients. Its own thread writes, others read.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that one thread changes.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, more: u64) {
        self.0.store(self.get().wrapping_add(more), Ordering::Relaxed);
    }

    pub(crate) fn sub(&self, less: u64) {
        self.0.store(self.get().wrapping_sub(less), Ordering::Relaxed);
    }

    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! stats {
    ($($(#[doc = $help:literal])+ $name:ident: $kind:ident,)+) => {
        /// A shard's counters.
        #[derive(Debug, Default)]
        pub(crate) struct Stats {
            $($(#[doc = $help])+ pub(crate) $name: Counter,)+
        }

        impl Stats {
            /// Each counter's name, whether it only grows, what it is, and its value.
            pub(crate) fn all(&self) -> Vec<(&'static str, Kind, &'static str, u64)> {
                vec![$((stringify!($name), Kind::$kind, concat!($($help),+).trim_ascii(), self.$name.get()),)+]
            }
        }
    };
}

/// Whether a number only grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Counter,
    Gauge,
}

stats! {
    /// Clients that are connected
    clients: Gauge,
    /// Clients that were connected since the start
    connections: Counter,
    /// Connections refused because there were too many
    connections_refused: Counter,
    /// Clients disconnected because they did not take their replies
    clients_stalled: Counter,
    /// Clients disconnected because they took the most memory of too much
    clients_evicted: Counter,
    /// Requests that made no sense, and whose connections were closed
    protocol_errors: Counter,
    /// Commands
    commands: Counter,
    /// Commands that went through the log
    logged: Counter,
    /// Reads that went through no log
    reads: Counter,
    /// Commands forwarded to another shard or node
    forwarded: Counter,
    /// Commands answered with where to go
    moved: Counter,
    /// Commands refused because the memory limit was reached
    out_of_memory: Counter,
    /// Writes whose outcome is unknown
    unknown: Counter,
    /// Bytes received
    bytes_in: Counter,
    /// Bytes sent
    bytes_out: Counter,
    /// Keys
    keys: Gauge,
    /// Bytes of keys and values, with what it takes to keep them
    memory: Gauge,
}

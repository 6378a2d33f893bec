//! A node's process, as the test sees it.

use std::collections::BTreeSet;
use std::fs::File;
use std::ops::Deref;
use std::sync::Arc;

use ringleader::NodeId;
use serde::{Deserialize, Serialize};

use super::ledger::Ledger;
use super::network;
use super::node::Place;
use super::process::{Before, Process};

/// What a node says of itself.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Status {
    pub leads: bool,
    pub leader: Option<NodeId>,
    pub term: u64,
    pub last: u64,
    pub applied: u64,
    pub rests: bool,
}

/// A running node.
pub struct Child(Process);

impl Deref for Child {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.0
    }
}

impl Child {
    /// Starts a node, in the network namespace that this file stands for.
    pub fn spawn(place: &Place, namespace: Option<File>, ledger: Arc<Ledger>) -> Self {
        let keeps = move |line: &str| match line.strip_prefix("acked ") {
            Some(acked) => {
                ledger.ack(numbers(acked).into_iter());
                true
            }
            None => false,
        };
        let before = namespace.map(|file| -> Before { Box::new(move || network::enter(&file)) });
        Self(Process::spawn(place, before, keeps))
    }

    /// Ends its load, and waits for what it has in flight.
    pub fn quiet(&self) {
        self.ask("quiet", "");
    }

    pub fn status(&self) -> Status {
        serde_json::from_str(&self.ask("status", "")).expect("a status")
    }

    /// Whether it made these the voters.
    pub fn change(&self, voters: &BTreeSet<NodeId>) -> bool {
        let voters: Vec<String> = voters.iter().map(|node| node.0.to_string()).collect();
        self.ask("change", &voters.join(",")) == "done"
    }

    /// What it applied, in order.
    pub fn dump(&self) -> Vec<u64> {
        numbers(&self.ask("dump", ""))
    }

    /// What it reads back from its log, in order.
    pub fn log(&self) -> Vec<u64> {
        numbers(&self.ask("log", ""))
    }

    pub fn signal_kill(&mut self) {
        self.0.signal_kill();
    }

    /// SIGKILL; the acknowledgements that it got out before count.
    pub fn kill(self) {
        self.0.kill();
    }

    /// Has it end in order; what its machine was told of leaders.
    pub fn stop(self) -> String {
        let last = self.0.stop();
        let told = last.iter().find_map(|line| line.strip_prefix("told "));
        told.expect("it says so at its end").to_owned()
    }
}

fn numbers(list: &str) -> Vec<u64> {
    list.split(',').filter(|n| !n.is_empty()).map(|n| n.parse().expect("a number")).collect()
}

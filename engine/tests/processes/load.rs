//! The load that a node puts on itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ringleader::{Handle, ProposeError, Queue};

use crate::nodes::GROUP;

/// Operations that a node has in flight.
const IN_FLIGHT: usize = 8;

pub fn list(numbers: &[u64]) -> String {
    numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(",")
}

/// Proposes rising numbers, several at once, and tells of each that was applied.
pub struct Load {
    queue: Queue,
    next: u64,
    /// Certainly not in the log: they are proposed again.
    refused: Vec<u64>,
}

impl Load {
    /// Proposes numbers after `first` on a thread of its own, as long as `goes_on` says so. It says
    /// `quiet` when nothing is in flight any more.
    pub fn start(handle: &Handle, first: u64, goes_on: &Arc<AtomicBool>) {
        goes_on.store(true, Ordering::Relaxed);
        let load = Self { queue: handle.queue(0, IN_FLIGHT), next: first, refused: Vec::new() };
        let goes_on = Arc::clone(goes_on);
        std::thread::spawn(move || load.run(&goes_on));
    }

    fn run(mut self, goes_on: &AtomicBool) {
        loop {
            if goes_on.load(Ordering::Relaxed) {
                self.push();
            } else if self.queue.outstanding() == 0 {
                break;
            }
            if self.queue.submit().is_err() {
                return;
            }
            self.queue.wait(Duration::from_secs(1));
            self.drain();
            if !self.refused.is_empty() {
                // The pace at which a node that does not lead tries again.
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        println!("quiet");
    }

    fn push(&mut self) {
        while self.queue.outstanding() < IN_FLIGHT {
            let number = self.refused.pop().unwrap_or_else(|| {
                self.next += 1;
                self.next
            });
            self.queue.push(GROUP, number, &number.to_le_bytes()).expect("there is room");
        }
    }

    fn drain(&mut self) {
        let mut acked = Vec::new();
        self.queue.drain(|completion| match completion.result {
            Ok(_) => acked.push(completion.user_data),
            Err(ProposeError::Unknown(_)) => {}
            Err(_) => self.refused.push(completion.user_data),
        });
        if !acked.is_empty() {
            println!("acked {}", list(&acked));
        }
    }
}

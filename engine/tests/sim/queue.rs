//! What happens next: events ordered by time, and then by the order of scheduling.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::world::Event;

/// Events lie beside the heap, which moves only what it compares.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    heap: BinaryHeap<Reverse<(u64, u64, usize)>>,
    events: Vec<Option<Event>>,
    free: Vec<usize>,
    scheduled: u64,
}

impl Queue {
    pub(crate) fn push(&mut self, at: u64, event: Event) {
        let place = self.free.pop().unwrap_or_else(|| {
            self.events.push(None);
            self.events.len() - 1
        });
        self.events[place] = Some(event);
        self.scheduled += 1;
        self.heap.push(Reverse((at, self.scheduled, place)));
    }

    /// Takes the next event if it comes before a moment.
    pub(crate) fn pop_before(&mut self, end: u64) -> Option<(u64, Event)> {
        let Reverse((at, _, place)) = *self.heap.peek()?;
        if at >= end {
            return None;
        }
        self.heap.pop();
        self.free.push(place);
        Some((at, self.events[place].take().expect("what is scheduled is there")))
    }
}

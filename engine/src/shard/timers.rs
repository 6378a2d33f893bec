//! When each group wants its next tick. A group's deadline moves later with every message that it
//! gets, so the heap is lazy: an entry that comes up early is put back, and the cost is one heap
//! operation per group and timeout, not per message.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::time::Time;

#[derive(Debug, Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<(Time, u32)>>,
    /// The one entry of the heap that counts, per group; `NEVER` if there is none. Others of that
    /// group are leftovers.
    scheduled: Vec<Time>,
}

impl Timers {
    /// Makes room for one group more.
    pub(super) fn add(&mut self) {
        self.scheduled.push(Time::NEVER);
    }

    /// Makes sure that `slot` comes up at `deadline` or before.
    pub(super) fn schedule(&mut self, slot: u32, deadline: Time) {
        let scheduled = &mut self.scheduled[slot as usize];
        if deadline < *scheduled {
            *scheduled = deadline;
            self.heap.push(Reverse((deadline, slot)));
        }
    }

    /// Nobody is due before.
    pub(super) fn next(&self) -> Time {
        self.heap.peek().map_or(Time::NEVER, |Reverse((at, _))| *at)
    }

    /// Takes a group that may be due at `now`; the caller ticks it if it is, and schedules it
    /// again in any case.
    pub(super) fn pop(&mut self, now: Time) -> Option<u32> {
        while let Some(&Reverse((at, slot))) = self.heap.peek() {
            if at > now {
                return None;
            }
            self.heap.pop();
            if self.scheduled[slot as usize] == at {
                self.scheduled[slot as usize] = Time::NEVER;
                return Some(slot);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_earlier_deadline_replaces_a_later_one_and_each_group_comes_up_once() {
        let mut timers = Timers::default();
        (0..2).for_each(|_| timers.add());
        timers.schedule(0, Time(100));
        timers.schedule(1, Time(50));
        timers.schedule(0, Time(20));
        timers.schedule(1, Time(70));
        assert_eq!(timers.pop(Time(10)), None);
        assert_eq!(timers.pop(Time(200)), Some(0));
        assert_eq!(timers.pop(Time(200)), Some(1));
        assert_eq!(timers.pop(Time(200)), None);
        timers.schedule(0, Time(300));
        assert_eq!(timers.pop(Time(300)), Some(0));
    }
}

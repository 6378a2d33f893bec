//! What is replicated: a number, and the operations on it.

use ringleader::{Entries, Replies, StateMachine, Term};
use tracing::info;

/// An operation on the counter, as it stands in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Add(i64),
    /// Changes nothing. It goes through the log all the same, and that makes its answer
    /// linearizable: it comes after every operation that was answered before it was asked. Reads
    /// that cost no log entry (ReadIndex) come to the engine later.
    Get,
}

impl Operation {
    pub(crate) fn encode(self) -> Vec<u8> {
        match self {
            Self::Add(amount) => [&b"a"[..], &amount.to_le_bytes()].concat(),
            Self::Get => b"g".to_vec(),
        }
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [b'a', amount @ ..] => Some(Self::Add(i64::from_le_bytes(amount.try_into().ok()?))),
            b"g" => Some(Self::Get),
            _ => None,
        }
    }
}

/// The counter on one node. Every node applies the same operations in the same order, so it must
/// depend on nothing else.
#[derive(Default)]
pub(crate) struct CounterMachine {
    value: i64,
}

impl CounterMachine {
    /// The new value; `None` where the operation is refused, which must happen on every node
    /// alike: a panic here would stop all of them, and again after each restart.
    fn apply_one(&mut self, operation: &[u8]) -> Option<i64> {
        if let Operation::Add(amount) = Operation::decode(operation)? {
            self.value = self.value.checked_add(amount)?;
        }
        Some(self.value)
    }
}

impl StateMachine for CounterMachine {
    fn apply(&mut self, entries: &Entries<'_>, replies: &mut Replies) {
        entries.iter().for_each(|entry| {
            // An entry without a reply is answered with an empty one: refused.
            if let Some(value) = self.apply_one(entry.payload) {
                replies.push(entry.index, &value.to_le_bytes());
            }
        });
    }

    fn leader_start(&mut self, term: Term) {
        info!(%term, "this server leads");
    }

    fn leader_stop(&mut self, term: Term) {
        info!(%term, "this server leads no longer");
    }
}

/// Reads a reply of the state machine; `None` if the operation was refused.
pub(crate) fn decode_reply(reply: &[u8]) -> Option<i64> {
    reply.try_into().ok().map(i64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_survive_the_log() {
        for operation in [Operation::Add(5), Operation::Add(i64::MIN), Operation::Get] {
            assert_eq!(Operation::decode(&operation.encode()), Some(operation));
        }
        for garbage in [&b""[..], b"a", b"a1234567", b"a123456789", b"g!", b"x"] {
            assert_eq!(Operation::decode(garbage), None);
        }
    }

    #[test]
    fn a_sum_out_of_range_is_refused_and_changes_nothing() {
        let mut machine = CounterMachine::default();
        assert_eq!(machine.apply_one(&Operation::Add(i64::MAX).encode()), Some(i64::MAX));
        assert_eq!(machine.apply_one(&Operation::Add(1).encode()), None);
        assert_eq!(machine.apply_one(&Operation::Get.encode()), Some(i64::MAX));
    }
}

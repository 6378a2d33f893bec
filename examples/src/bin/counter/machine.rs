//! What is replicated: a number, and what is added to it.

use bytes::Bytes;
use ringleader::{Entries, MachineError, Replies, SnapshotSource, StateMachine, Term};
use tracing::info;

/// The one operation, as it stands in the log. Reading takes none: see
/// [`CounterMachine::value`].
pub(crate) fn encode_add(amount: i64) -> Vec<u8> {
    [&b"a"[..], &amount.to_le_bytes()].concat()
}

fn decode_add(bytes: &[u8]) -> Option<i64> {
    let amount = bytes.strip_prefix(b"a")?;
    Some(i64::from_le_bytes(amount.try_into().ok()?))
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
        self.value = self.value.checked_add(decode_add(operation)?)?;
        Some(self.value)
    }

    /// What clients read, through [`Handle::read`](ringleader::Handle::read).
    pub(crate) fn value(&self) -> i64 {
        self.value
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

    /// Without snapshots the log would grow for ever, and each start would apply all of it again.
    fn snapshot(&mut self) -> Option<Box<dyn SnapshotSource>> {
        Some(Box::new(View(Some(self.value))))
    }

    fn restore(&mut self, chunk: &[u8]) -> Result<(), MachineError> {
        let bytes = chunk.try_into();
        let bytes = bytes.map_err(|_| MachineError("a snapshot is a number of 8 bytes".into()))?;
        self.value = i64::from_le_bytes(bytes);
        Ok(())
    }

    fn leader_start(&mut self, term: Term) {
        info!(%term, "this server leads");
    }

    fn leader_stop(&mut self, term: Term) {
        info!(%term, "this server leads no longer");
    }
}

/// The value at one moment, which is written out later. A larger state comes in many chunks, and
/// must not change meanwhile: it is copied, or shared and copied on the next write.
struct View(Option<i64>);

impl SnapshotSource for View {
    fn next_chunk(&mut self, _max_bytes: usize) -> Result<Option<Bytes>, MachineError> {
        Ok(self.0.take().map(|value| Bytes::copy_from_slice(&value.to_le_bytes())))
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
        for amount in [5, 0, -1, i64::MIN] {
            assert_eq!(decode_add(&encode_add(amount)), Some(amount));
        }
        for garbage in [&b""[..], b"a", b"a1234567", b"a123456789", b"g", b"x"] {
            assert_eq!(decode_add(garbage), None);
        }
    }

    #[test]
    fn a_sum_out_of_range_is_refused_and_changes_nothing() {
        let mut machine = CounterMachine::default();
        assert_eq!(machine.apply_one(&encode_add(i64::MAX)), Some(i64::MAX));
        assert_eq!(machine.apply_one(&encode_add(1)), None);
        assert_eq!(machine.value(), i64::MAX);
    }

    #[test]
    fn a_snapshot_is_the_value_of_its_moment() {
        let mut machine = CounterMachine { value: -7 };
        let mut view = machine.snapshot().expect("it takes snapshots");
        assert_eq!(machine.apply_one(&encode_add(1)), Some(-6));
        let mut other = CounterMachine::default();
        while let Some(chunk) = view.next_chunk(8).expect("it can't fail") {
            other.restore(&chunk).expect("it is one of ours");
        }
        assert_eq!(other.value(), -7);
        assert!(other.restore(b"seven").is_err());
    }
}

//! A register that is put, got, compared and swapped, and appended to.

use super::Model;

/// What a register holds: zero is nothing, and what it holds at first.
pub(crate) type Value = u64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    Get,
    Put(Value),
    /// Puts `to` where `from` is.
    Swap {
        from: Value,
        to: Value,
    },
    /// Adds to the end of everything before: the value after it tells all of what was appended
    /// since the last put, and in which order.
    Append(Value),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// What a get found, or what an append made.
    Value(Value),
    Done,
    Swapped(bool),
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Register;

impl Model for Register {
    type State = Value;
    type Input = Input;
    type Output = Output;

    fn apply(state: &Value, input: &Input) -> (Value, Output) {
        match *input {
            Input::Get => (*state, Output::Value(*state)),
            Input::Put(value) => (value, Output::Done),
            Input::Swap { from, to } if from == *state => (to, Output::Swapped(true)),
            Input::Swap { .. } => (*state, Output::Swapped(false)),
            Input::Append(value) => {
                let all = appended(*state, value);
                (all, Output::Value(all))
            }
        }
    }
}

/// A list stands as the hash of its items, chained.
pub(crate) fn appended(list: Value, item: Value) -> Value {
    let mut z = (list.rotate_left(23) ^ item).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (z ^ (z >> 32)).max(1)
}

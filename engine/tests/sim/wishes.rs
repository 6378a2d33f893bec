//! What callers ask registers for.

use std::collections::BTreeMap;

use ringleader::GroupId;

use crate::clients::Load;
use crate::linearizability::register::Value;
use crate::machine::{Command, Input, Output};
use crate::rng::Rng;

/// What callers want, and what they know that it may depend on.
#[derive(Debug)]
pub(crate) struct Wishes {
    /// Registers of a group.
    keys: u64,
    /// Parts of a million of the operations that only read.
    gets_ppm: u32,
    /// What a register was last known to hold.
    seen: BTreeMap<(GroupId, u8), Value>,
}

impl Wishes {
    pub(crate) fn new(load: &Load) -> Self {
        Self { keys: load.keys, gets_ppm: load.gets_ppm, seen: BTreeMap::new() }
    }

    /// The next operation through the log. `number` is that of no other operation.
    pub(crate) fn draw(&self, group: GroupId, _caller: u32, number: u64, rng: &mut Rng) -> Command {
        let key = rng.below(self.keys) as u8;
        // Every write of a value is told from all others.
        let value = number + 1;
        let from = self.seen.get(&(group, key)).copied().unwrap_or_default();
        let input = match rng.below(4) {
            _ if rng.chance(self.gets_ppm) => Input::Get,
            0 | 1 => Input::Append(value),
            2 => Input::Put(value),
            _ => Input::Swap { from, to: value },
        };
        Command { key, input }
    }

    /// The next read that does not go through it.
    pub(crate) fn draw_read(&self, rng: &mut Rng) -> Command {
        Command { key: rng.below(self.keys) as u8, input: Input::Get }
    }

    /// A caller was told something.
    pub(crate) fn learn(&mut self, group: GroupId, command: &Command, output: Output) {
        let holds = match (command.input, output) {
            (Input::Put(value), _) => Some(value),
            (Input::Swap { to, .. }, Output::Swapped(true)) => Some(to),
            (_, Output::Value(value)) => Some(value),
            _ => None,
        };
        self.seen.extend(holds.map(|value| ((group, command.key), value)));
    }
}

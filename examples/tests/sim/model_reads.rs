//! The reads.

use super::{Entry, Outcome, State};
use crate::answer::Output;
use crate::command::{KINDS, Key, Span, Wish, key_bytes, owner_bytes};

impl State {
    pub(super) fn read(&self, wish: &Wish) -> Outcome {
        let name = |key: Key| Output::bytes(&key_bytes(key));
        Ok(match *wish {
            Wish::Get(key) => Output::optional(self.text(key)?),
            Wish::Length(key) => Output::Number(self.text(key)?.map_or(0, <[u8]>::len) as i64),
            Wish::GetRange(key, start, end) => {
                Output::bytes(part(self.text(key)?.unwrap_or_default(), start, end))
            }
            Wish::Exists(keys) => {
                let there = keys.iter().filter(|key| self.keys.contains_key(key)).count();
                Output::Number(there as i64)
            }
            Wish::GetMany(keys) => {
                let get = |key| Output::optional(self.text(key).unwrap_or_default());
                Output::list(&keys.iter().map(get).collect::<Vec<_>>())
            }
            Wish::TimeToLive { key, seconds } => {
                let left = self.keys.get(&key).map_or(-2, |entry| self.left(entry));
                // To the nearest second.
                let rounded = (left + 500).div_euclid(1000);
                Output::Number(if seconds && left > 0 { rounded } else { left })
            }
            Wish::Type(key) => Output::word(self.keys.get(&key).map_or("none", Entry::kind)),
            Wish::Range { span, reverse, values } => self.range(span, reverse, values),
            Wish::Scan(kind) => {
                let wanted = |entry: &Entry| kind == 0 || entry.kind() == KINDS[kind];
                let found = self.keys.iter().filter(|(_, entry)| wanted(entry));
                let found: Vec<Output> = found.map(|(key, _)| name(*key)).collect();
                // One step is enough for all: there is no next place.
                Output::set(&[Output::bytes(b"0"), Output::set(&found)])
            }
            Wish::Count => Output::Number(self.keys.len() as i64),
            Wish::LockState(key) => match self.holder(key)? {
                None => Output::None,
                Some((owner, token)) => Output::list(&[
                    Output::bytes(&owner_bytes(owner)),
                    Output::Number(token as i64),
                    Output::Number(self.left(&self.keys[&key])),
                ]),
            },
            Wish::SequenceState(key) => {
                Output::Number(self.sequence(key)?.map_or(0, |next| next as i64 - 1))
            }
            _ => unreachable!("{wish:?} is no read"),
        })
    }

    /// Milliseconds until a key goes, -1 if it never does.
    fn left(&self, entry: &Entry) -> i64 {
        if entry.deadline == 0 { -1 } else { (entry.deadline - self.clock) as i64 }
    }

    fn range(&self, span: Span, reverse: bool, values: bool) -> Output {
        let limit = usize::from(span.limit);
        let mut found = self.within(Span { limit: u8::MAX, ..span });
        if reverse {
            found.reverse();
        }
        found.truncate(limit);
        let mut items = Vec::new();
        for key in found {
            items.push(Output::bytes(&key_bytes(key)));
            items.extend(values.then(|| self.keys[&key].shown()));
        }
        Output::list(&items)
    }
}

/// From `start` to `end`, both included; what is negative counts from behind the last byte.
fn part(bytes: &[u8], start: i64, end: i64) -> &[u8] {
    let length = bytes.len() as i64;
    let place = |at: i64| if at < 0 { length + at } else { at };
    let (start, end) = (place(start).max(0), (place(end) + 1).min(length));
    let nothing = start >= end;
    if nothing { &[] } else { &bytes[start as usize..end as usize] }
}

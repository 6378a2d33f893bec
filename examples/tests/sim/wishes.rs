//! What callers ask the store for.

use std::collections::BTreeMap;

use ringleader::GroupId;
use ringleader_examples::kv::operation::{ExpireCondition, Expiry};

use crate::answer::Output;
use crate::clients::Load;
use crate::command::{Command, If, KINDS, Key, Keys, Span, Value, Wish};
use crate::rng::{Rng, SURE, mix};

/// The first lock, and the first sequence; all before are strings.
pub(crate) const LOCKS: Key = 200;
pub(crate) const SEQUENCES: Key = 220;

/// What callers know of a key.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    value: Option<Value>,
    /// Of a lock, the last that was given to anybody.
    token: Option<u64>,
}

/// What callers want, and what they know that it may depend on.
#[derive(Debug)]
pub(crate) struct Wishes {
    /// Strings of a group.
    keys: u64,
    /// Locks, and sequences.
    services: u64,
    /// Keys are cleared and deleted that are locks or sequences.
    vandals: bool,
    /// Parts of a million of the operations that only read.
    gets_ppm: u32,
    /// The longest that a key lives, if it does not live for ever.
    longest: u64,
    seen: BTreeMap<(GroupId, Key), Seen>,
}

impl Wishes {
    pub(crate) fn new(load: &Load) -> Self {
        let mut rng = Rng::new(mix(load.pause ^ load.timeout));
        // Some groups take more than a page.
        let keys = if rng.chance(SURE / 8) { 150 } else { 3 * load.keys + 1 };
        Self {
            keys,
            services: rng.between(1, 3),
            vandals: rng.coin(),
            gets_ppm: load.gets_ppm,
            longest: rng.magnitude(50, 30_000),
            seen: BTreeMap::new(),
        }
    }

    /// The next operation through the log. `number` is that of no other operation.
    pub(crate) fn draw(&self, group: GroupId, caller: u32, number: u64, rng: &mut Rng) -> Command {
        if rng.chance(self.gets_ppm) {
            return self.draw_read(rng);
        }
        // Every write of a value is told from all others.
        let value = number + 1;
        Command::of(match rng.below(20) {
            0..11 => self.write(group, value, rng),
            11..13 => self.write_many(group, value, rng),
            13..17 => self.lock(group, caller, rng),
            17..19 => Wish::Next { key: self.sequence(rng), count: rng.between(1, 4) },
            _ if self.vandals && rng.chance(SURE / 4) => Wish::Clear,
            _ => Wish::Tick,
        })
    }

    /// The next read that does not go through it.
    pub(crate) fn draw_read(&self, rng: &mut Rng) -> Command {
        let key = self.any(rng);
        Command::of(match rng.below(20) {
            0..5 => Wish::Get(key),
            5 => Wish::Length(key),
            6 => {
                let mut place = || rng.between(0, 24) as i64 - 12;
                Wish::GetRange(key, place(), place())
            }
            7 => Wish::Exists(self.several(rng)),
            8 => Wish::GetMany(self.several(rng)),
            9..11 => Wish::TimeToLive { key, seconds: rng.coin() },
            11 => Wish::Type(key),
            12..14 => {
                let (reverse, values) = (rng.coin(), rng.coin());
                Wish::Range { span: self.span(rng), reverse, values }
            }
            // Many keys may wait for their removal, and are counted.
            16 | 17 if self.keys <= 32 => Wish::Count,
            14..18 => Wish::Scan(rng.below(KINDS.len() as u64) as usize),
            18 => Wish::LockState(self.lock_key(rng)),
            _ => Wish::SequenceState(self.sequence(rng)),
        })
    }

    fn string(&self, rng: &mut Rng) -> Key {
        rng.below(self.keys) as Key
    }

    fn lock_key(&self, rng: &mut Rng) -> Key {
        LOCKS + rng.below(self.services) as Key
    }

    fn sequence(&self, rng: &mut Rng) -> Key {
        SEQUENCES + rng.below(self.services) as Key
    }

    /// A string as a rule, and now and then what is none.
    fn any(&self, rng: &mut Rng) -> Key {
        match rng.below(20) {
            0 => self.lock_key(rng),
            1 => self.sequence(rng),
            _ => self.string(rng),
        }
    }

    fn several(&self, rng: &mut Rng) -> Keys {
        Keys { first: self.any(rng), count: rng.between(1, 4) as u8 }
    }

    fn span(&self, rng: &mut Rng) -> Span {
        let start = if rng.coin() { 0 } else { self.string(rng) };
        let end = rng.coin().then(|| self.any(rng));
        let limit = if rng.coin() { u8::MAX } else { rng.between(1, 6) as u8 };
        Span { odd: rng.coin(), start, end, limit }
    }

    fn lifetime(&self, rng: &mut Rng) -> u64 {
        if rng.coin() { rng.magnitude(1, self.longest) } else { rng.between(1, self.longest) }
    }

    fn expiry(&self, rng: &mut Rng) -> Expiry {
        match rng.below(4) {
            0 => Expiry::Keep,
            1 => Expiry::Never,
            _ => Expiry::In(self.lifetime(rng)),
        }
    }

    fn known(&self, group: GroupId, key: Key) -> Seen {
        self.seen.get(&(group, key)).copied().unwrap_or_default()
    }

    fn write(&self, group: GroupId, value: Value, rng: &mut Rng) -> Wish {
        let key = self.any(rng);
        let known = self.known(group, key).value.unwrap_or(value);
        match rng.below(20) {
            0..7 => {
                let condition =
                    rng.pick(&[If::Always, If::Always, If::Absent, If::Present, If::Equal(known)]);
                let expiry = self.expiry(rng);
                Wish::Set { key, value, condition, expiry, get: rng.coin() }
            }
            7..9 => Wish::SetIfAbsent(key, value),
            9 => Wish::GetDelete(key),
            10..12 => {
                let expiry = if rng.coin() { Expiry::Never } else { self.expiry(rng) };
                Wish::GetExpire(key, expiry)
            }
            12..14 => Wish::Append(key, value),
            14..16 => Wish::Add(key, rng.between(0, 200) as i64 - 100),
            16 => Wish::DeleteIfEqual(key, known),
            17..19 => self.expire(rng),
            _ => Wish::Persist(key),
        }
    }

    fn expire(&self, rng: &mut Rng) -> Wish {
        use ExpireCondition::{Always, Later, Mortal};
        let some = [Always, Always, Mortal(false), Mortal(true), Later(false), Later(true)];
        let key = if self.vandals { self.any(rng) } else { self.string(rng) };
        let condition = rng.pick(&some);
        let lifetime = self.lifetime(rng) as i64;
        let millis = if rng.chance(SURE / 10) { -lifetime } else { lifetime };
        Wish::Expire { key, millis, condition }
    }

    fn write_many(&self, group: GroupId, value: Value, rng: &mut Rng) -> Wish {
        let keys = self.several(rng);
        let strings = Keys { first: self.string(rng), ..keys };
        let expected = self.known(group, keys.first).value.unwrap_or(value);
        match rng.below(8) {
            0..3 => Wish::SetMany { keys, value, absent: rng.coin() },
            3..5 => Wish::CompareAndSet { keys, expected, value },
            5..7 => Wish::Delete(if self.vandals { keys } else { strings }),
            _ if self.vandals || rng.coin() => Wish::DeleteRange(self.strings(rng)),
            _ => Wish::Tick,
        }
    }

    /// A span that ends before the locks, but for vandals.
    fn strings(&self, rng: &mut Rng) -> Span {
        let span = self.span(rng);
        let end = if self.vandals { span.end } else { span.end.or(Some(LOCKS)) };
        Span { end, ..span }
    }

    fn lock(&self, group: GroupId, caller: u32, rng: &mut Rng) -> Wish {
        let key = if rng.chance(SURE / 20) { self.any(rng) } else { self.lock_key(rng) };
        let last = self.known(group, key).token.unwrap_or_default();
        let token = if rng.chance(SURE / 5) { last.saturating_sub(1) } else { last };
        let lease = self.lifetime(rng);
        match rng.below(8) {
            0..4 => Wish::Acquire { key, owner: caller, lease },
            4..6 => Wish::Renew { key, token, lease },
            _ => Wish::Release { key, token },
        }
    }

    /// A caller was told something.
    pub(crate) fn learn(&mut self, group: GroupId, command: &Command, output: Output) {
        let mut note = |key, seen| {
            self.seen.insert((group, key), seen);
        };
        let value = |value| Seen { value: Some(value), token: None };
        match (command.input.wish, output) {
            (Wish::Set { key, value: set, get: false, .. }, Output::Ok) => note(key, value(set)),
            (Wish::SetIfAbsent(key, set), Output::Number(1)) => note(key, value(set)),
            (Wish::SetMany { keys, value: set, .. }, Output::Ok | Output::Number(1))
            | (Wish::CompareAndSet { keys, value: set, .. }, Output::Number(1)) => {
                keys.iter().for_each(|key| note(key, value(set)));
            }
            (Wish::Acquire { key, .. }, Output::Number(token)) => {
                note(key, Seen { value: None, token: Some(token as u64) });
            }
            _ => {}
        }
    }
}

//! What a group of the store should do, written anew from what is documented of it, and as plainly as
//! can be: all keys in one map, nothing is kept that nobody could see.

use std::collections::BTreeMap;
use std::rc::Rc;

use ringleader_examples::kv::operation::{ExpireCondition, Expiry};

use crate::answer::{Failure, Output};
use crate::command::{If, Input, Key, Keys, Span, Value, Wish, value_bytes};
use crate::image::founding;
use crate::linearizability::Model;

#[path = "model_reads.rs"]
mod model_reads;

/// What is under a key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Content {
    Text(Rc<[u8]>),
    /// The next number.
    Sequence(u64),
    Lock {
        owner: u32,
        token: u64,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Entry {
    content: Content,
    /// Zero is never.
    deadline: u64,
}

/// A group's keys, and what goes with them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct State {
    clock: u64,
    token: u64,
    keys: BTreeMap<Key, Entry>,
}

/// See the [module](self).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Store;

type Outcome = Result<Output, Failure>;

impl Model for Store {
    type State = State;
    type Input = Input;
    type Output = Output;

    fn apply(state: &State, input: &Input) -> (State, Output) {
        let mut next = state.clone();
        next.advance(input.now);
        // What fails, fails before it has changed anything.
        let output = next.act(&input.wish).unwrap_or_else(Output::Failed);
        (next, output)
    }
}

impl Entry {
    fn kind(&self) -> &'static str {
        match self.content {
            Content::Text(_) => "string",
            Content::Lock { .. } => "lock",
            Content::Sequence(_) => "sequence",
        }
    }

    fn shown(&self) -> Output {
        match &self.content {
            Content::Text(bytes) => Output::bytes(bytes),
            Content::Sequence(number) | Content::Lock { token: number, .. } => {
                Output::Number(*number as i64)
            }
        }
    }
}

impl State {
    fn advance(&mut self, now: u64) {
        self.clock = self.clock.max(now);
        let clock = self.clock;
        self.keys.retain(|_, entry| entry.deadline == 0 || entry.deadline > clock);
    }

    fn act(&mut self, wish: &Wish) -> Outcome {
        match *wish {
            Wish::Set { key, value, condition, expiry, get } => {
                self.set(key, value, condition, expiry, get)
            }
            Wish::SetIfAbsent(key, value) => {
                let absent = !self.keys.contains_key(&key);
                if absent {
                    self.put(key, value, 0);
                }
                Ok(Output::flag(absent))
            }
            Wish::SetMany { keys, value, absent } => self.set_many(keys, value, absent),
            Wish::CompareAndSet { keys, expected, value } => {
                self.compare_and_set(keys, expected, value)
            }
            Wish::GetDelete(key) => {
                let found = Output::optional(self.text(key)?);
                self.keys.remove(&key);
                Ok(found)
            }
            Wish::GetExpire(key, expiry) => {
                let found = Output::optional(self.text(key)?);
                let deadline = self.deadline(key, expiry);
                self.keys.entry(key).and_modify(|entry| entry.deadline = deadline);
                Ok(found)
            }
            Wish::Append(key, value) => {
                let mut bytes = self.text(key)?.unwrap_or_default().to_vec();
                bytes.extend(value_bytes(value));
                let length = bytes.len() as i64;
                self.replace(key, bytes);
                Ok(Output::Number(length))
            }
            Wish::Add(key, delta) => self.add(key, delta),
            Wish::Delete(keys) => {
                let gone = keys.iter().filter(|key| self.keys.remove(key).is_some()).count();
                Ok(Output::Number(gone as i64))
            }
            Wish::DeleteIfEqual(key, value) => {
                let equal = self.text(key)? == Some(&value_bytes(value));
                if equal {
                    self.keys.remove(&key);
                }
                Ok(Output::flag(equal))
            }
            Wish::Expire { key, millis, condition } => {
                Ok(Output::flag(self.expire(key, millis, condition)))
            }
            Wish::Persist(key) => {
                let mortal = self.keys.get_mut(&key).filter(|entry| entry.deadline > 0);
                let mortal = mortal.filter(|entry| entry.kind() != "lock");
                let done = mortal.is_some();
                mortal.into_iter().for_each(|entry| entry.deadline = 0);
                Ok(Output::flag(done))
            }
            Wish::DeleteRange(span) => {
                let found = self.within(span);
                found.iter().for_each(|key| drop(self.keys.remove(key)));
                Ok(Output::Number(found.len() as i64))
            }
            Wish::Clear => {
                self.keys.clear();
                Ok(Output::Ok)
            }
            Wish::Tick => Ok(Output::Ok),
            Wish::Found(seed) => {
                for input in founding(seed) {
                    *self = Store::apply(self, &input).0;
                }
                Ok(Output::Ok)
            }
            Wish::Acquire { .. } | Wish::Renew { .. } | Wish::Release { .. } => self.lock(wish),
            Wish::Next { key, count } => {
                let first = self.sequence(key)?.unwrap_or(1);
                let deadline = self.deadline(key, Expiry::Keep);
                let content = Content::Sequence(first + count);
                self.keys.insert(key, Entry { content, deadline });
                Ok(Output::Number(first as i64))
            }
            _ => self.read(wish),
        }
    }

    fn text(&self, key: Key) -> Result<Option<&[u8]>, Failure> {
        match self.keys.get(&key).map(|entry| &entry.content) {
            None => Ok(None),
            Some(Content::Text(bytes)) => Ok(Some(bytes)),
            Some(_) => Err(Failure::WrongType),
        }
    }

    fn sequence(&self, key: Key) -> Result<Option<u64>, Failure> {
        match self.keys.get(&key).map(|entry| &entry.content) {
            None => Ok(None),
            Some(Content::Sequence(next)) => Ok(Some(*next)),
            Some(_) => Err(Failure::WrongType),
        }
    }

    /// Who holds a lock, with which token.
    fn holder(&self, key: Key) -> Result<Option<(u32, u64)>, Failure> {
        match self.keys.get(&key).map(|entry| &entry.content) {
            None => Ok(None),
            Some(Content::Lock { owner, token }) => Ok(Some((*owner, *token))),
            Some(_) => Err(Failure::WrongType),
        }
    }

    fn put(&mut self, key: Key, value: Value, deadline: u64) {
        let content = Content::Text(value_bytes(value).into());
        self.keys.insert(key, Entry { content, deadline });
    }

    /// Another value with the same deadline.
    fn replace(&mut self, key: Key, bytes: Vec<u8>) {
        let deadline = self.deadline(key, Expiry::Keep);
        self.keys.insert(key, Entry { content: Content::Text(bytes.into()), deadline });
    }

    fn deadline(&self, key: Key, expiry: Expiry) -> u64 {
        match expiry {
            Expiry::Never => 0,
            Expiry::Keep => self.keys.get(&key).map_or(0, |entry| entry.deadline),
            Expiry::In(millis) => self.clock + millis,
        }
    }

    fn set(&mut self, key: Key, value: Value, condition: If, expiry: Expiry, get: bool) -> Outcome {
        let present = self.text(key)?;
        let done = match condition {
            If::Always => true,
            If::Absent => present.is_none(),
            If::Present => present.is_some(),
            If::Equal(expected) => present == Some(&value_bytes(expected)),
        };
        let answer = match (get, done) {
            (true, _) => Output::optional(present),
            (false, true) => Output::Ok,
            (false, false) => Output::None,
        };
        if done {
            let deadline = self.deadline(key, expiry);
            self.put(key, value, deadline);
        }
        Ok(answer)
    }

    fn set_many(&mut self, keys: Keys, value: Value, absent: bool) -> Outcome {
        let answer = if absent {
            let none = keys.iter().all(|key| !self.keys.contains_key(&key));
            if !none {
                return Ok(Output::Number(0));
            }
            Output::Number(1)
        } else {
            keys.iter().try_for_each(|key| self.text(key).map(drop))?;
            Output::Ok
        };
        keys.iter().for_each(|key| self.put(key, value, 0));
        Ok(answer)
    }

    fn compare_and_set(&mut self, keys: Keys, expected: Value, value: Value) -> Outcome {
        let expected = value_bytes(expected);
        let found: Result<Vec<bool>, Failure> =
            keys.iter().map(|key| Ok(self.text(key)? == Some(&expected))).collect();
        let all = found?.into_iter().all(|equal| equal);
        if all {
            keys.iter().for_each(|key| self.replace(key, value_bytes(value)));
        }
        Ok(Output::flag(all))
    }

    fn add(&mut self, key: Key, delta: i64) -> Outcome {
        let number = match self.text(key)? {
            None => 0,
            Some(bytes) => {
                let text = std::str::from_utf8(bytes).map_err(|_| Failure::NotANumber)?;
                let number: i64 = text.parse().map_err(|_| Failure::NotANumber)?;
                let canonical = number.to_string() == text;
                if canonical { number } else { return Err(Failure::NotANumber) }
            }
        };
        let sum = number.checked_add(delta).ok_or(Failure::Overflow)?;
        self.replace(key, sum.to_string().into_bytes());
        Ok(Output::Number(sum))
    }

    fn expire(&mut self, key: Key, millis: i64, condition: ExpireCondition) -> bool {
        let clock = self.clock;
        let Some(entry) = self.keys.get_mut(&key).filter(|entry| entry.kind() != "lock") else {
            return false;
        };
        let new = (clock as i64).saturating_add(millis).max(1) as u64;
        // What never goes, goes later than anything.
        let present = if entry.deadline == 0 { u64::MAX } else { entry.deadline };
        let done = match condition {
            ExpireCondition::Always => true,
            ExpireCondition::Mortal(mortal) => mortal == (entry.deadline > 0),
            ExpireCondition::Later(true) => new > present,
            ExpireCondition::Later(false) => new < present,
        };
        if done {
            entry.deadline = new;
            self.advance(clock);
        }
        done
    }

    fn lock(&mut self, wish: &Wish) -> Outcome {
        match *wish {
            Wish::Acquire { key, owner, lease } => {
                let token = match self.holder(key)? {
                    Some((holder, _)) if holder != owner => return Ok(Output::None),
                    Some((_, token)) => token,
                    None => {
                        self.token += 1;
                        self.token
                    }
                };
                let content = Content::Lock { owner, token };
                self.keys.insert(key, Entry { content, deadline: self.clock + lease });
                Ok(Output::Number(token as i64))
            }
            Wish::Renew { key, token, lease } => {
                let holds = self.holder(key)?.is_some_and(|holder| holder.1 == token);
                let deadline = self.clock + lease;
                if holds {
                    self.keys.entry(key).and_modify(|entry| entry.deadline = deadline);
                }
                Ok(Output::flag(holds))
            }
            Wish::Release { key, token } => {
                let holds = self.holder(key)?.is_some_and(|holder| holder.1 == token);
                if holds {
                    self.keys.remove(&key);
                }
                Ok(Output::flag(holds))
            }
            _ => unreachable!("{wish:?} is for no lock"),
        }
    }

    /// The keys of a span in order, as many as it may have.
    fn within(&self, span: Span) -> Vec<Key> {
        let keys = self.keys.keys().copied().filter(|key| span.holds(*key));
        keys.take(span.limit.into()).collect()
    }
}

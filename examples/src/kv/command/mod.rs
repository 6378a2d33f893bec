//! The commands: what they are called, which of their arguments are keys, and what they mean.

mod parse;
mod table;

use std::ops::RangeInclusive;

use super::operation::Operation;
use super::slot::slot_of;

pub use table::{COMMANDS, Command, Keys, Service, find};

/// The arguments of a command, its name first.
pub type Args<'a, 'b> = &'b [&'a [u8]];

/// Why a command is not done; its text is what the client is told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such command.
    #[error("ERR unknown command '{0}'")]
    Unknown(String),
    /// There is no such subcommand.
    #[error("ERR unknown subcommand '{1}' of '{0}'")]
    UnknownSub(&'static str, String),
    /// Too many arguments, or too few.
    #[error("ERR wrong number of arguments for '{0}' command")]
    Arity(&'static str),
    /// The arguments contradict each other, or are not those of the command.
    #[error("ERR syntax error")]
    Syntax,
    /// What must be a number is none.
    #[error("ERR value is not an integer or out of range")]
    NotANumber,
    /// A time to live that is zero, negative or too long.
    #[error("ERR invalid expire time in '{0}' command")]
    ExpireTime(&'static str),
    /// A number that can't be.
    #[error("ERR {0}")]
    OutOfRange(&'static str),
    /// The keys are in different slots.
    #[error("CROSSSLOT Keys in request don't hash to the same slot")]
    CrossSlot,
}

/// What a command does.
#[derive(Clone, Copy)]
pub enum Action {
    /// Something with the keys that it names, all in one slot.
    Operation(Parse),
    /// Something with the keys of every group.
    Everywhere(Parse),
    /// Something with the connection, or the server.
    Service(Service),
}

/// Makes an operation of arguments whose number is right.
pub type Parse = for<'a> fn(Args<'a, '_>) -> Result<Operation<'a>, Refusal>;

impl Command {
    /// Checks the number of arguments.
    ///
    /// # Errors
    /// It is wrong.
    pub fn check(&self, args: Args<'_, '_>) -> Result<(), Refusal> {
        let least = usize::from(self.arity.unsigned_abs());
        let wrong = if self.arity < 0 { args.len() < least } else { args.len() != least };
        if wrong { Err(Refusal::Arity(self.name)) } else { Ok(()) }
    }

    /// Which arguments are keys: the first to the last, each so many from the other.
    #[must_use]
    pub fn key_positions(&self, arguments: usize) -> Option<(RangeInclusive<usize>, usize)> {
        let Keys { first, last, step } = self.keys;
        let first = usize::try_from(first).ok().filter(|first| *first > 0)?;
        let last = if last < 0 {
            arguments.checked_sub(usize::from(last.unsigned_abs()))?
        } else {
            usize::from(last.unsigned_abs())
        };
        Some((first..=last, usize::from(step.unsigned_abs())))
    }

    /// The slot of the command's keys, if it names any.
    ///
    /// # Errors
    /// They are in different slots.
    pub fn slot(&self, args: Args<'_, '_>) -> Result<Option<u16>, Refusal> {
        let Some((positions, step)) = self.key_positions(args.len()) else { return Ok(None) };
        let mut slot = None;
        for key in args.get(positions).unwrap_or_default().iter().step_by(step) {
            let of_key = slot_of(key);
            if slot.is_some_and(|slot| slot != of_key) {
                return Err(Refusal::CrossSlot);
            }
            slot = Some(of_key);
        }
        Ok(slot)
    }
}

/// The operation that a command means.
///
/// # Errors
/// The command is not one of these, or is not used as it must be.
pub fn parse<'a>(args: Args<'a, '_>) -> Result<Operation<'a>, Refusal> {
    let name = args.first().copied().unwrap_or_default();
    let unknown = || Refusal::Unknown(String::from_utf8_lossy(name).into_owned());
    let command = find(name).ok_or_else(unknown)?;
    command.check(args)?;
    let operation = match command.action {
        Action::Operation(parse) | Action::Everywhere(parse) => parse(args)?,
        Action::Service(_) => return Err(unknown()),
    };
    command.slot(args)?;
    Ok(operation)
}

#[cfg(test)]
mod tests;

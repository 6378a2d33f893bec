//! One group's protocol: a synchronous state machine.

pub mod message;

//! What the peers written in Rust share: everything but the engine. A peer makes a [`Node`], starts
//! its engine, which applies to [`Node::machines`] and reports to [`Node::roles`] and
//! [`Node::completions`], and calls [`Node::serve`].

mod args;
mod clock;
mod load;
mod machine;
mod node;
mod operation;
mod roles;
mod tally;

pub use args::Args;
pub use machine::Machines;
pub use node::{Node, Ready};
pub use operation::{Completions, Engine, Failure, Operation, Proposal};
pub use roles::Roles;

//! The types that openraft is run with.

use std::fmt;
use std::mem::take;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use openraft::impls::{BoxedErrorSource, InlineBatch, leader_id_adv};
use openraft::raft::ClientWriteResult;
use openraft::raft::responder::Responder;
use openraft::{EmptyNode, OptionalSend, RaftTypeConfig};
use openraft_rt_tokio::TokioRuntime;
use peer_common::{Failure, Node, Operation};

#[derive(Debug, Clone, Copy, Default, Eq, PartialEq, Ord, PartialOrd)]
pub(crate) struct Types;

pub(crate) type LeaderId = leader_id_adv::LeaderId<u64, u64>;
pub(crate) type LogId = openraft::LogId<LeaderId>;
pub(crate) type Vote = openraft::Vote<LeaderId>;
pub(crate) type Payload = openraft::EntryPayload<Data, u64, EmptyNode>;
pub(crate) type Entry = openraft::Entry<LeaderId, Payload>;
pub(crate) type Membership = openraft::Membership<u64, EmptyNode>;

impl RaftTypeConfig for Types {
    type D = Data;
    type R = ();
    type NodeId = u64;
    type Node = EmptyNode;
    type Term = u64;
    type LeaderId = LeaderId;
    type Vote = Vote;
    type Payload = Payload;
    type Entry = Entry;
    type AsyncRuntime = TokioRuntime;
    type Responder<T>
        = Done<T>
    where
        T: OptionalSend + 'static;
    type Batch<T>
        = InlineBatch<T>
    where
        T: OptionalSend + 'static;
    type ErrorSource = BoxedErrorSource;
}

/// An operation's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Data(pub(crate) Bytes);

impl fmt::Display for Data {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} bytes", self.0.len())
    }
}

/// Operations that are applied, until the state machine reports them all at once.
pub(crate) struct Applied {
    node: Arc<Node>,
    operations: Mutex<Vec<Operation>>,
}

impl Applied {
    pub(crate) fn new(node: Arc<Node>) -> Arc<Self> {
        Arc::new(Self { node, operations: Mutex::default() })
    }

    pub(crate) fn report(&self) {
        let mut operations = take(&mut *self.operations.lock().expect("a panic ends the process"));
        if !operations.is_empty() {
            self.node.completions.applied(&mut operations);
        }
    }
}

/// What openraft calls when an operation is done: a place in a list instead of a channel each.
pub(crate) struct Done<T> {
    applied: Arc<Applied>,
    /// Until it is reported.
    operation: Option<Operation>,
    error: fn(T) -> Option<String>,
}

impl Done<ClientWriteResult<Types>> {
    pub(crate) fn new(applied: Arc<Applied>, operation: Operation) -> Self {
        let error = |result: ClientWriteResult<Types>| result.err().map(|error| error.to_string());
        Self { applied, operation: Some(operation), error }
    }
}

impl<T: OptionalSend + 'static> Responder<Types, T> for Done<T> {
    fn on_complete(mut self, result: T) {
        let Some(operation) = self.operation.take() else { return };
        match (self.error)(result) {
            None => {
                let mut operations = self.applied.operations.lock();
                operations.as_mut().expect("a panic ends the process").push(operation);
            }
            // openraft says the same to what it never appended and to what it did before it lost
            // leadership.
            Some(error) => self.applied.node.completions.failed(operation, Failure::Unknown(error)),
        }
    }
}

impl<T> Drop for Done<T> {
    fn drop(&mut self) {
        if let Some(operation) = self.operation.take() {
            let failure = Failure::Unknown("openraft dropped the proposal".into());
            self.applied.node.completions.failed(operation, failure);
        }
    }
}

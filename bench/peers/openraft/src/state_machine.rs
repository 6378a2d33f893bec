//! The state machine as openraft sees it.

use std::io;
use std::sync::Arc;

use futures_util::{Stream, StreamExt};
use openraft::alias::{SnapshotMetaOf, SnapshotOf, StoredMembershipOf};
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{OptionalSend, RaftSnapshotBuilder};
use peer_common::Node;

use crate::types::{Applied, LogId, Payload, Types};

pub(crate) struct StateMachine {
    node: Arc<Node>,
    applied: Arc<Applied>,
    last: Option<LogId>,
    membership: StoredMembershipOf<Types>,
}

impl StateMachine {
    pub(crate) fn new(node: Arc<Node>, applied: Arc<Applied>) -> Self {
        Self { node, applied, last: None, membership: StoredMembershipOf::<Types>::default() }
    }
}

impl RaftStateMachine<Types> for StateMachine {
    type SnapshotData = ();
    type SnapshotBuilder = NoSnapshots;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembershipOf<Types>)> {
        Ok((self.last, self.membership.clone()))
    }

    /// Applies all that is committed, then answers all of it.
    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<Types>>> + Unpin + OptionalSend,
    {
        let (mut operations, mut responders) = (Vec::new(), Vec::new());
        while let Some(next) = entries.next().await {
            let (entry, responder) = next?;
            self.last = Some(entry.log_id);
            match entry.payload {
                Payload::Blank => {}
                Payload::Normal(data) => operations.push(data.0),
                Payload::Membership(membership) => {
                    self.membership = StoredMembershipOf::<Types>::new(self.last, membership);
                }
            }
            responders.extend(responder);
        }
        self.node.machines.apply(0, operations.iter().map(|data| &data[..]));
        responders.into_iter().for_each(|responder| responder.send(()));
        self.applied.report();
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> NoSnapshots {
        NoSnapshots
    }

    async fn install_snapshot(&mut self, _: &SnapshotMetaOf<Types>, (): ()) -> io::Result<()> {
        Err(no_snapshots())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<SnapshotOf<Types, ()>>> {
        Ok(None)
    }
}

/// The whole log is kept, and a run is short.
pub(crate) struct NoSnapshots;

impl RaftSnapshotBuilder<Types> for NoSnapshots {
    type SnapshotData = ();

    async fn build_snapshot(&mut self) -> io::Result<SnapshotOf<Types, ()>> {
        Err(no_snapshots())
    }
}

fn no_snapshots() -> io::Error {
    io::Error::other("snapshots are off")
}

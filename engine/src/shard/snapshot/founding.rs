//! The snapshot that a group begins with which is founded from a state: it stands where a reset's
//! first entry would, and is there before the shard ever ran. A start finds it ahead of an empty
//! log, and makes the log follow ([`Restored::adopt`](crate::raft::Restored::adopt)).

use ringleader_wal::disk::{DiskError, DiskOp};
use ringleader_wal::{GroupId, Identity};

use super::format::Head;
use super::writer::Writer;
use crate::raft::{Configuration, founding_position};
use crate::state_machine::{MachineError, SnapshotSource};

/// Writes such a snapshot, an operation at a time, each done before the next.
pub struct Founding {
    writer: Writer,
    source: Box<dyn SnapshotSource>,
    /// Most bytes of a chunk.
    max: usize,
    refused: Option<MachineError>,
}

impl Founding {
    /// Founds `group`, with these first members, from what `source` gives in chunks of at most `max`
    /// bytes.
    #[must_use]
    pub fn new(
        identity: &Identity,
        group: GroupId,
        members: &Configuration,
        source: Box<dyn SnapshotSource>,
        max: usize,
    ) -> Self {
        let at = founding_position(identity.node);
        // Nobody has been met yet.
        let configuration = members.identified(|_| None).encode().into();
        let head = Head { group, at, stamp: 0, configuration };
        Self { writer: Writer::new(identity, &head, false), source, max, refused: None }
    }

    /// What is to be done next.
    pub fn next_op(&mut self) -> Option<DiskOp> {
        if self.writer.has_room() {
            match self.source.next_chunk(self.max) {
                Ok(Some(chunk)) if chunk.len() <= self.max => self.writer.push(chunk),
                Ok(Some(chunk)) => {
                    self.refuse(MachineError(format!("a chunk of {} B", chunk.len())));
                }
                Ok(None) => self.writer.end(),
                Err(error) => self.refuse(error),
            }
        }
        self.writer.next_op()
    }

    fn refuse(&mut self, error: MachineError) {
        self.writer.give_up(DiskError::Io(error.to_string()));
        self.refused = Some(error);
    }

    /// It was done. `Some` when the snapshot is durable, or failed and is gone.
    pub fn complete(&mut self, result: Result<(), DiskError>) -> Option<Result<(), DiskError>> {
        self.writer.complete(result)
    }

    /// What the source said, if it was that which failed.
    #[must_use]
    pub fn refused(self) -> Option<MachineError> {
        self.refused
    }
}

//! The thread that writes: all groups' entries and votes that have come meanwhile in one batch with
//! one `fdatasync`, and then sends the messages that had to wait for it. TiKV's store writer works
//! like this.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};

use raft::eraftpb::{Entry, HardState, Message};
use raft_engine::{Engine, LogBatch};

use crate::driver::Input;
use crate::log::{Entries, hard_state_record, region};
use crate::transport::Transport;

/// A batch takes no more tasks beyond this size: TiKV's `raft-write-size-limit`.
const BATCH_BYTES: usize = 1 << 20;

/// What a group has to write.
pub(crate) struct Task {
    pub(crate) group: usize,
    /// Of the group's `Ready` that this is from.
    pub(crate) number: u64,
    pub(crate) entries: Vec<Entry>,
    pub(crate) hard_state: Option<HardState>,
    /// To be sent once this and what is before it is durable.
    pub(crate) messages: Vec<Message>,
}

/// Writes until there is nobody left to write for.
///
/// # Panics
/// When the log can't be written: a node that lost a write must not go on.
pub(crate) fn run(
    engine: &Engine,
    tasks: &Receiver<Task>,
    transport: &Arc<Transport>,
    inputs: &Sender<Input>,
) {
    let mut batch = LogBatch::default();
    let mut messages = Vec::new();
    while let Ok(task) = tasks.recv() {
        let mut written = Vec::new();
        let mut next = Some(task);
        while let Some(task) = next {
            let region = region(task.group);
            batch.add_entries::<Entries>(region, &task.entries).expect("a batch has room");
            if let Some(state) = &task.hard_state {
                let put =
                    hard_state_record(state).and_then(|(key, value)| batch.put(region, key, value));
                put.expect("a hard state can be encoded");
            }
            messages.extend(task.messages.into_iter().map(|message| (task.group, message)));
            written.push((task.group, task.number));
            let full = batch.approximate_size() >= BATCH_BYTES;
            next = if full { None } else { tasks.try_recv().ok() };
        }
        // With `sync`, this returns after `fdatasync`.
        engine.write(&mut batch, true).expect("the log can be written");
        for (group, message) in messages.drain(..) {
            transport.send(group, &message);
        }
        transport.flush();
        if inputs.send(Input::Persisted(written)).is_err() {
            return;
        }
    }
}

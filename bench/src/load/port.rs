//! What a loader needs: a way to its groups, and word of which they are.

use std::time::Duration;

use ringleader::GroupId;

/// What became of consecutive operations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Applied,
    /// Not proposed, and the leader is elsewhere, if anywhere.
    NotLeader(Option<u64>),
    /// Not proposed because of a limit.
    Busy,
    /// It may take effect or not.
    Unknown(String),
    /// Not proposed, for good.
    Failed(String),
}

/// Operations whose `user_data` is consecutive, and what became of them all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Completed {
    pub(crate) first: u64,
    pub(crate) count: u64,
    pub(crate) outcome: Outcome,
}

/// A way to propose operations to the groups of one shard.
pub(crate) trait Port {
    /// Stages an operation.
    ///
    /// # Errors
    /// What the port was not made for: a programming error or a dead engine.
    fn push(&mut self, group: GroupId, user_data: u64, payload: &[u8]) -> Result<(), String>;
    /// Stages a read, where the way has reads.
    ///
    /// # Errors
    /// As for [`push`](Self::push).
    fn push_read(&mut self, group: GroupId, user_data: u64) -> Result<(), String> {
        Err(format!("read {user_data} of group {group}: this way has no reads"))
    }
    /// Sends what is staged; false when there is no room for now.
    fn submit(&mut self) -> Result<bool, String>;
    /// Appends what has completed. Never waits.
    fn drain(&mut self, completed: &mut Vec<Completed>) -> Result<(), String>;
    /// Waits until there may be something to drain. A port on a thread of its own blocks that.
    fn wait(&mut self, timeout: Duration) -> impl Future<Output = Result<(), String>>;
}

/// Tells a loader which groups it is to load.
pub(crate) trait Routing {
    /// Rises with every change of [`mine`](Self::mine).
    fn changes(&self) -> u64;
    /// Whether the group at `index` (counted from zero) is to be loaded here.
    fn mine(&self, index: usize) -> bool;
    /// An operation for the group was refused here; `leader` would have taken it.
    fn not_leader(&self, index: usize, leader: Option<u64>);
}

//! A shard's thread, from its start to its end.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use glommio::{ExecutorJoinHandle, LocalExecutorBuilder, Placement, PoolPlacement};
use ringleader_net::{BoundListener, DataId};
use ringleader_wal::GroupId;

use super::doorbell::Bell;
use super::driver;
use super::peer_file::PeerFile;
use super::pulse::Wrist;
use crate::config::EngineConfig;
use crate::error::StartError;
use crate::handle::Shared;
use crate::inbox::{Inbox, Request};
use crate::state_machine::StateMachine;

/// Makes state machines, on any shard's thread.
pub(crate) type SharedFactory = dyn Fn(GroupId) -> Box<dyn StateMachine> + Send + Sync;

/// Everything that a shard's thread is given.
pub(crate) struct ShardSeat {
    pub(crate) shard: u32,
    pub(crate) config: Arc<EngineConfig>,
    pub(crate) log_dir: PathBuf,
    /// The node's data directory, and whom it met.
    pub(crate) data: DataId,
    pub(crate) peers: Arc<PeerFile>,
    /// All shards' inboxes: accepted connections are handed to the shard they are for.
    pub(crate) inboxes: Vec<Arc<Inbox>>,
    pub(crate) requests: flume::Receiver<Request>,
    pub(crate) machine: Arc<SharedFactory>,
    /// What handles are made of, for tasks on this core.
    pub(crate) shared: Arc<Shared>,
    /// What rings when something was queued.
    pub(crate) bell: Bell,
    /// Where the shard feels the engine's pulse.
    pub(crate) wrist: Wrist,
    /// The node's listening socket, on the shard that accepts for all.
    pub(crate) listener: Option<BoundListener>,
}

/// A running shard.
pub(crate) struct ShardThread {
    shard: u32,
    started: flume::Receiver<Result<(), String>>,
    thread: ExecutorJoinHandle<()>,
}

/// Memory for DMA buffers. glommio registers it with three rings, so three times as much counts
/// against RLIMIT_MEMLOCK (8 MiB by default); what does not fit is allocated unregistered.
const IO_MEMORY: usize = 2 << 20;

/// glommio looks at its rings at least this often while tasks are runnable. The main task lets it
/// do so after every turn, so this is for a connection that always has something to read. Shorter
/// timers expire while the thread waits for a core, which costs a beat of the
/// [pulse](super::pulse) each time.
const PREEMPT_TIMER: Duration = Duration::from_millis(10);

impl ShardThread {
    /// Starts the thread; it recovers the shard's log and then runs until it is told to stop.
    ///
    /// # Errors
    /// When the executor cannot be made.
    pub(crate) fn spawn(seat: ShardSeat) -> Result<Self, StartError> {
        let shard = seat.shard;
        let config = &seat.config;
        let placement = match &config.pin {
            Some(cores) => Placement::Fixed(cores[shard as usize]),
            None => Placement::Unbound,
        };
        let (report, started) = flume::bounded(1);
        let thread = LocalExecutorBuilder::new(placement)
            .name(&format!("ringleader-{shard}"))
            .io_memory(IO_MEMORY)
            .ring_depth(256)
            .preempt_timer(PREEMPT_TIMER)
            .spin_before_park(config.spin)
            // Fixed placement would put the thread for blocking calls on the shard's own core.
            .blocking_thread_pool_placement(PoolPlacement::Unbound(1))
            .spawn(move || driver::run(seat, report))
            .map_err(|error| StartError::IoUring(error.to_string()))?;
        Ok(Self { shard, started, thread })
    }

    /// Waits until the shard takes part in its groups.
    ///
    /// # Errors
    /// Why it does not.
    pub(crate) fn wait_until_started(&mut self) -> Result<(), StartError> {
        let died = || Err("its thread ended".to_owned());
        self.started
            .recv()
            .unwrap_or_else(|_| died())
            .map_err(|cause| StartError::Recovery { shard: self.shard, cause })
    }

    /// Waits until the thread has ended.
    pub(crate) fn join(self) {
        if let Err(error) = self.thread.join() {
            tracing::error!(shard = self.shard, %error, "the shard's thread did not end cleanly");
        }
    }
}

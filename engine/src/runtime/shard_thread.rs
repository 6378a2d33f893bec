//! A shard's thread, from its start to its end.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use flume::RecvTimeoutError;
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
    /// The node's data directory, and whom it knows.
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

/// How long each thread may take to begin. An executor that is [preempted](super::pulse) before its first
/// task sleeps for ever, and nobody has a waker for it yet. It is left alone then, and does nothing
/// should it wake after all.
const PATIENCE_SECONDS: [u64; 5] = [1, 2, 4, 8, 16];

fn executor(shard: u32, config: &EngineConfig) -> LocalExecutorBuilder {
    let placement = match &config.pin {
        Some(cores) => Placement::Fixed(cores[shard as usize]),
        None => Placement::Unbound,
    };
    LocalExecutorBuilder::new(placement)
        .name(&format!("ringleader-{shard}"))
        .io_memory(IO_MEMORY)
        .ring_depth(256)
        .preempt_timer(PREEMPT_TIMER)
        .spin_before_park(config.spin)
        // Fixed placement would put the thread for blocking calls on the shard's own core.
        .blocking_thread_pool_placement(PoolPlacement::Unbound(1))
}

/// What was there stays whole if a holder panics.
fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ShardThread {
    /// Starts the thread; it recovers the shard's log and then runs until it is told to stop.
    ///
    /// # Errors
    /// When the executor cannot be made.
    pub(crate) fn spawn(seat: ShardSeat) -> Result<Self, StartError> {
        let (shard, config) = (seat.shard, Arc::clone(&seat.config));
        let (report, started) = flume::bounded(1);
        let mut task = (seat, report);
        for patience in PATIENCE_SECONDS.map(Duration::from_secs) {
            let begins = Arc::new(Mutex::new(Some(task)));
            let (begun, heard) = flume::bounded(1);
            let thread = {
                let begins = Arc::clone(&begins);
                let begin = move || async move {
                    let Some((seat, report)) = lock(&begins).take() else { return };
                    seat.wrist.feel().await;
                    // The engine may have given up on another shard.
                    let _ = begun.send(());
                    drop(begun);
                    driver::run(seat, report).await;
                };
                executor(shard, &config).spawn(begin)
            };
            let thread = thread.map_err(|error| StartError::IoUring(error.to_string()))?;
            let hangs = heard.recv_timeout(patience) == Err(RecvTimeoutError::Timeout);
            match lock(&begins).take().filter(|_| hangs) {
                // It runs, or has ended: then whoever waits for it hears why.
                None => return Ok(Self { shard, started, thread }),
                Some(again) => task = again,
            }
            tracing::warn!(shard, ?patience, "the shard's thread does not begin: trying another");
        }
        Err(StartError::IoUring("the executor's threads do not begin".into()))
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

//! Starting and stopping a node.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Instant;

use ringleader_wal::GroupId;

use crate::admin::Admin;
use crate::config::EngineConfig;
use crate::error::StartError;
use crate::existence::GroupsHere;
use crate::handle::{Handle, Shared};
use crate::inbox::{Inbox, Request};
use crate::members::Members;
use crate::runtime::{self, DataDir, Pulse, ShardSeat, ShardThread, Wrist};
use crate::state_machine::StateMachine;

/// A running node: its shards, each on a thread of its own, and its listening address.
///
/// Dropping it shuts it down, like [`shutdown`](Self::shutdown).
pub struct Engine {
    handle: Handle,
    threads: Vec<ShardThread>,
    // Beats until the threads have ended: fields are dropped after `drop` has joined them.
    _pulse: Pulse,
    // Goes before the directory that it is in.
    _admin: Option<Admin>,
    data_dir: DataDir,
}

impl Engine {
    /// Starts a node: takes the data directory, recovers every shard's log, listens, and begins to
    /// take part in its groups. Returns when all of that is done, or with the first error.
    ///
    /// `machine` makes the state machine of a group, in its initial state, on the group's shard.
    /// After a restart it sees again what was committed: its newest snapshot, if it takes any
    /// ([`StateMachine::restore`]), and every operation after that one; all of them from the first one
    /// on if it takes none. A machine that keeps its own state on stable storage goes on where that
    /// ends ([`StateMachine::durable_position`]).
    ///
    /// # Errors
    /// See [`StartError`]; nothing keeps running.
    pub fn start(
        config: EngineConfig,
        machine: impl Fn(GroupId) -> Box<dyn StateMachine> + Send + Sync + 'static,
    ) -> Result<Self, StartError> {
        config.validate()?;
        runtime::check_kernel()?;
        runtime::check_cores(config.pin.as_deref())?;
        let shards = config.this_member().map_or(0, |member| member.shards);
        let data_dir = DataDir::open(&config, shards)?;
        let listener = runtime::bind(&config)?;
        let config = Arc::new(config);
        let machine: Arc<runtime::SharedFactory> = Arc::new(machine);

        let failed = |error: std::io::Error| StartError::Thread(error.to_string());
        let limits = &config.limits;
        let (mut inboxes, mut doors) = (Vec::new(), Vec::new());
        for _ in 0..shards {
            let inbox = Inbox::new(limits.inbox_requests, limits.shard_bytes);
            let (inbox, door) = inbox.map_err(failed)?;
            inboxes.push(Arc::new(inbox));
            doors.push(door);
        }
        let wrists: Vec<Wrist> = (0..shards).map(|_| Wrist::default()).collect();
        let pulse = Pulse::start(inboxes.clone(), wrists.clone()).map_err(failed)?;
        let shared = Shared {
            inboxes: inboxes.clone(),
            groups: GroupsHere::default(),
            members: Members::new(config.node, &config.members),
            priorities: config.priorities.clone(),
            max_entry_bytes: config.limits.max_entry_bytes,
            next_client: AtomicU32::new(1),
            node: config.node,
            cluster: config.cluster,
            started: Instant::now(),
            stopping: AtomicBool::new(false),
        };
        let mut engine = Self {
            handle: Handle { shared: Arc::new(shared) },
            threads: Vec::with_capacity(shards as usize),
            _pulse: pulse,
            _admin: None,
            data_dir,
        };
        let mut listener = Some(listener);
        for (shard, (requests, bell)) in (0..shards).zip(doors) {
            let seat = ShardSeat {
                shard,
                config: Arc::clone(&config),
                log_dir: engine.data_dir.shard(shard),
                data: engine.data_dir.id(),
                peers: engine.data_dir.peers(),
                inboxes: inboxes.clone(),
                wrist: wrists[shard as usize].clone(),
                requests,
                bell,
                shared: Arc::clone(&engine.handle.shared),
                machine: Arc::clone(&machine),
                listener: listener.take(),
            };
            engine.threads.push(ShardThread::spawn(seat)?);
        }
        // An early return drops the engine, and that stops the shards that did start.
        engine.threads.iter_mut().try_for_each(ShardThread::wait_until_started)?;
        if config.admin {
            let admin = Admin::open(engine.data_dir.path(), engine.handle());
            engine._admin = Some(admin.map_err(|error| StartError::Admin(error.to_string()))?);
        }
        Ok(engine)
    }

    /// A way to this engine from any thread; clone it freely.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Stops the node. The groups that it leads are handed over to other nodes first, for at most
    /// [`EngineConfig::handover`]. Then what is in flight is answered
    /// ([`Unknown`](crate::ProposeError::Unknown) where it is not committed yet), the logs are closed,
    /// and the threads end.
    pub fn shutdown(mut self) {
        self.stop();
    }

    fn stop(&mut self) {
        self.handle.shared.stopping.store(true, Ordering::SeqCst);
        for inbox in &self.handle.shared.inboxes {
            // A shard that has ended needs no telling.
            let _ = inbox.send_blocking(Request::Stop);
        }
        self.threads.drain(..).for_each(ShardThread::join);
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stop();
    }
}

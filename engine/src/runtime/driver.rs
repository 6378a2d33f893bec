//! A shard's main task: collect what is ready, run a turn, carry its effects out, wait.

use std::collections::HashMap;
use std::future::poll_fn;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use glommio::io::PollableFd;
use ringleader_net::DataId;
use ringleader_wal::disk::{DiskError, DiskOutput, OpId};
use ringleader_wal::driver::Disk;
use ringleader_wal::{Identity, LogPosition, Wal};

use super::clients::{Clients, FUTURES};
use super::doze::Doze;
use super::guests::Guests;
use super::hook_clock::HookClock;
use super::meter::{Meter, Moments};
use super::network::{Network, Seat};
use super::notify::Notify;
use super::peer_file::Recorder;
use super::pulse::BEAT;
use super::shard_thread::ShardSeat;
use super::sleepers::Sleepers;
use super::stage_clock::StageClock;
use super::wreck::closes_with_thread;
use crate::config::EngineConfig;
use crate::error::SnapshotError;
use crate::handle::Shared;
use crate::inbox::{Inbox, Request};
use crate::local::{Local, Task};
use crate::report::{GroupReport, ShardReport};
use crate::shard::{Effects, ReadSubmission, Shard, ShardConfig, TransferId, TransferResult};
use crate::time::Time;

/// Requests taken from the inbox in one turn, so that a flood of them cannot keep the turn from
/// its end.
const REQUESTS_PER_TURN: usize = 1024;

/// Disk operations that run beside the log's writes: reads, syncs, filling segments.
const BESIDE_WRITES: usize = 6;

/// Groups reported on in one turn: looking at them takes some 100 us.
const GROUPS_PER_PAGE: usize = 256;

/// Runs a shard from its recovery to its end; `report` hears once whether it started.
pub(super) async fn run(seat: ShardSeat, report: flume::Sender<Result<(), String>>) {
    closes_with_thread(Arc::clone(&seat.inboxes[seat.shard as usize]));
    let notify = Rc::new(Notify::default());
    // The first sleep in a process registers with membarrier(2), which can take tens of
    // milliseconds: now is better than in the middle of an election.
    glommio::timer::sleep(Duration::from_micros(1)).await;
    match Driver::open(seat, notify, report.clone()).await {
        Ok(driver) => driver.run().await,
        // Nobody listens any more when the engine gave up on another shard first.
        Err(cause) => drop(report.send(Err(cause))),
    }
}

pub(super) struct Driver {
    pub(super) shard: Shard,
    pub(super) disk: Disk,
    pub(super) network: Network,
    pub(super) recorder: Rc<Recorder>,
    pub(super) clients: Clients,
    pub(super) inbox: Arc<Inbox>,
    requests: flume::Receiver<Request>,
    notify: Rc<Notify>,
    _bell: glommio::Task<()>,
    reactor: ReactorPass,
    clock: Clock,
    hooks: HookClock,
    /// For the tasks of callers on this core.
    pub(super) shared: Arc<Shared>,
    sleepers: Rc<Sleepers>,
    doze: Rc<Doze>,
    pub(super) guests: Rc<Guests>,
    /// Who waits for the shard to start; nobody any more once it did.
    pub(super) report: Option<flume::Sender<Result<(), String>>>,
    pub(super) number: u32,
    completions: Vec<(OpId, Result<DiskOutput, DiskError>)>,
    pub(super) effects: Effects,
    pub(super) meter: Meter,
    pub(super) stages: StageClock,
    pub(super) transfers: HashMap<TransferId, flume::Sender<TransferResult>>,
    next_transfer: u64,
    /// How long the shard may take over handing its leaderships over before it stops.
    handover: Duration,
    pub(super) stopping: bool,
    /// Who waits for a snapshot, by the request's number.
    pub(super) snapshots: HashMap<u64, flume::Sender<Result<LogPosition, SnapshotError>>>,
    next_ticket: u64,
}

/// The node's monotonic clock, counted from the shard's start.
struct Clock {
    start: Instant,
    ticked: Instant,
}

impl Clock {
    fn new() -> Self {
        let start = Instant::now();
        Self { start, ticked: start }
    }

    fn now(&self) -> Time {
        Time(self.start.elapsed().as_nanos() as u64)
    }

    /// Whether a tick is due.
    fn tick(&mut self) -> bool {
        // Beats come a little early or late; every one of them is to count.
        let due = self.ticked.elapsed() >= BEAT / 2;
        if due {
            self.ticked = Instant::now();
        }
        due
    }
}

impl Driver {
    async fn open(
        seat: ShardSeat,
        notify: Rc<Notify>,
        report: flume::Sender<Result<(), String>>,
    ) -> Result<Self, String> {
        let ShardSeat {
            shard: number,
            config,
            log_dir,
            data,
            peers,
            inboxes,
            requests,
            machine,
            listener,
            bell,
            shared,
            wrist,
            ..
        } = seat;
        let raise = {
            let notify = Rc::clone(&notify);
            Rc::new(move || notify.raise()) as Rc<dyn Fn()>
        };
        let identity = Identity { cluster: config.cluster, node: config.node, shard: number };
        let wal = Wal::open(config.wal.clone(), identity);
        let workers = config.wal.depth + BESIDE_WRITES;
        let disk = Disk::open(&log_dir, workers, Rc::clone(&raise))
            .await
            .map_err(|error| error.to_string())?;
        let recorder = Rc::new(Recorder(peers));
        let whose = Seat { shard: number, data, introducer: Rc::clone(&recorder) as _ };
        let network = Network::start(&config, whose, listener, &inboxes, raise)?;
        let machine = move |group| machine(group);
        let doze = Rc::new(Doze::new(wrist, config.raft.heartbeat_interval));
        let mut shard = Shard::new(shard_config(&config, number, data, Box::new(machine)), wal);
        let hooks = HookClock::default();
        shard.watch_hooks(Box::new(hooks.clone()));
        Ok(Self {
            shard,
            disk,
            network,
            recorder,
            clients: Clients::default(),
            inbox: Arc::clone(&inboxes[number as usize]),
            requests,
            _bell: bell.listen(Rc::clone(&notify))?,
            reactor: ReactorPass::new()?,
            guests: Rc::new(Guests::new(Rc::clone(&notify))),
            notify,
            clock: Clock::new(),
            shared,
            sleepers: Rc::new(Sleepers::new(Rc::clone(&doze))),
            doze,
            report: Some(report),
            number,
            completions: Vec::new(),
            effects: Effects::default(),
            stages: StageClock::new(config.stage_times),
            meter: Meter::new(number, config.raft.election_timeout),
            hooks,
            transfers: HashMap::new(),
            next_transfer: 0,
            handover: config.handover,
            stopping: false,
            snapshots: HashMap::new(),
            next_ticket: 0,
        })
    }

    async fn run(mut self) {
        while !(self.stopping && self.shard.is_stopped()) {
            if self.guarded_turn() {
                self.reactor.once().await;
            } else {
                self.wait().await;
            }
        }
        self.guarded_turn();
        self.guests.cancel().await;
        // What is still in the inbox is not proposed; its senders see their channels close.
        self.inbox.close();
        self.network.shutdown().await;
        self.disk.close().await;
    }

    /// One turn; true if the next should not wait.
    pub(super) fn turn(&mut self) -> bool {
        self.stages.end(|spent| &mut spent.outside);
        self.disk.completions(&mut self.completions);
        self.network.poll();
        // Not before: were this process to stand still between the two, what came meanwhile would
        // seem to be older than it is, and leases rest on when a message was heard.
        let begin = self.clock.now();
        let events = self.collect(begin);
        self.shard.replicate();
        self.stages.end(|spent| &mut spent.replicate);
        let applied = self.shard.counters().entries_applied;
        let before = self.clock.now();
        let more = self.shard.apply(&mut self.effects);
        let after = self.clock.now();
        self.stages.end(|spent| &mut spent.apply);
        self.carry_out(after);
        let network = &mut self.network;
        self.shard.follow_appends(after, |link, took| network.acknowledged(link, took));
        let applied = self.shard.counters().entries_applied - applied;
        let moments = Moments { begin, apply: (before, after), end: self.clock.now() };
        self.meter.turned(&moments, events, applied, &self.shard);
        self.stages.end(|spent| &mut spent.answer);
        more
    }

    /// Feeds the shard everything that is ready; the number of events. `now` was read after the
    /// disk and the network were asked.
    fn collect(&mut self, now: Time) -> u64 {
        let ticks = self.clock.tick();
        if ticks {
            self.follow_members(now);
            self.network.tick();
            self.network.review(&self.recorder);
        }
        let mut events = self.completions.len();
        for (id, result) in self.completions.drain(..) {
            self.meter.disk_ended(now, id);
            self.shard.disk_completed(now, id, result);
        }
        self.stages.end(|spent| &mut spent.completions);
        events += self.network.feed(now, &mut self.shard);
        self.stages.end(|spent| &mut spent.receive);
        for _ in 0..REQUESTS_PER_TURN {
            let Ok(request) = self.requests.try_recv() else { break };
            self.follow_members(now);
            self.meter.callers.requests += 1;
            events += 1;
            self.handle(now, request);
        }
        self.stages.end(|spent| &mut spent.requests);
        if ticks {
            self.shard.tick(now);
            self.meter.tick(now);
            self.sleepers.wake_due();
            self.doze_or_not(now);
        }
        events as u64
    }

    fn doze_or_not(&self, now: Time) {
        let counters = self.shard.counters();
        let seen = counters.messages_received + counters.timeouts;
        let happened = seen + self.meter.callers.requests + self.meter.disk_operations;
        let next = if self.sleepers.is_empty() { self.shard.next_timeout() } else { now };
        self.doze.look(now, happened, next);
    }

    /// Before each request, so that whoever changed the members and then asks for something meets
    /// a shard that knows of the change.
    fn follow_members(&mut self, now: Time) {
        self.network.follow(&self.shared.members, now, &mut self.shard);
    }

    fn handle(&mut self, now: Time, request: Request) {
        match request {
            Request::Attach { client, answers } => self.clients.attach(client, answers),
            Request::Submit { client, submission, reads } => {
                if !submission.is_empty() {
                    self.shard.submit(client, submission);
                }
                if let Some(reads) = reads {
                    self.meter.follow_reads(now, client, &reads.user_data);
                    self.shard.submit_reads(self.clock.now(), client, *reads);
                }
            }
            Request::Read { group, consistency, reader } => {
                let mut reads = ReadSubmission::default();
                reads.push(group, consistency, self.clients.add_reader(reader));
                self.meter.follow_reads(now, FUTURES, &reads.user_data);
                self.shard.submit_reads(self.clock.now(), FUTURES, reads);
            }
            Request::Propose { mut submission, reply } => {
                submission.user_data[0] = self.clients.add_future(reply);
                self.shard.submit(FUTURES, submission);
            }
            Request::Transfer { group, to, reply } => {
                let id = TransferId(self.next_transfer);
                self.next_transfer += 1;
                self.transfers.insert(id, reply);
                self.shard.transfer(now, id, group, to);
            }
            Request::Status { group, reply } => {
                // Who asked may have gone.
                let _ = reply.send(self.shard.status(group));
            }
            Request::Snapshot { group, reply } => {
                self.next_ticket += 1;
                self.snapshots.insert(self.next_ticket, reply);
                self.shard.request_snapshot(group, self.next_ticket);
            }
            // Dropped, it is answered as by a shard that has ended.
            Request::Query { .. } if self.shard.is_wreck() => {}
            Request::Query { group, run } => run(self.shard.state_machine(group)),
            Request::ChangeMembers { group, change, reply } => {
                let name = self.clients.changes.add(reply);
                self.shard.change_members(self.clock.now(), name, group, &change);
            }
            Request::ReadLog { group, from, max_bytes, reply } => {
                let name = self.clients.log_reads.add(reply);
                self.shard.read_log(name, group, from, max_bytes);
            }
            Request::ResetPeers { group, members, plan: true, reply } => {
                // Who asked may have gone.
                let _ = reply.send(self.shard.plan_reset(self.clock.now(), group, &members));
            }
            Request::ResetPeers { group, members, plan: false, reply } => {
                let name = self.clients.resets.add(reply);
                self.shard.reset_peers(self.clock.now(), name, group, &members);
            }
            Request::CreateGroup { config, reply } => {
                let name = self.clients.created.add(reply);
                self.shard.create_group(self.clock.now(), name, config);
            }
            Request::DestroyGroup { group, member_too, reply } => {
                let name = self.clients.destroyed.add(reply);
                self.shard.destroy_group(name, group, member_too);
            }
            Request::Report { reply } => drop(reply.send(self.report())),
            Request::Groups { from, reply } => drop(reply.send(self.group_page(from))),
            Request::Spawn(task) => self.spawn(task),
            Request::Handover(handover) => self.network.accept(*handover),
            Request::Stop => {
                self.stopping = true;
                self.shard.leave(now, self.handover);
            }
        }
    }

    fn report(&self) -> ShardReport {
        let (log, log_counters) = self.shard.log_status();
        let mut callers = self.meter.callers;
        callers.inbox = self.requests.len();
        callers.in_flight_bytes = self.inbox.budget.taken();
        callers.turned_away = self.inbox.budget.turned_away();
        ShardReport {
            shard: self.number,
            health: self.shard.health(),
            groups: self.shard.group_count(),
            resting: self.shard.resting_count(),
            counters: *self.shard.counters(),
            timings: self.meter.timings.clone(),
            stages: self.stages.spent(),
            hooks: self.hooks.timings(),
            memory_bytes: self.shard.memory_bytes(),
            snapshots: self.shard.snapshots_under_way(),
            callers,
            operations: self.meter.operations,
            refusals: self.network.refusals(),
            connection_panics: self.network.panics(),
            log,
            log_counters,
            links: self.network.reports(&self.shard),
        }
    }

    fn group_page(&self, from: usize) -> Vec<GroupReport> {
        let page = self.shard.group_page(from, GROUPS_PER_PAGE);
        let report =
            |(status, queues, history)| GroupReport { shard: self.number, status, queues, history };
        page.map(report).collect()
    }

    /// Starts a caller's task beside this one.
    fn spawn(&mut self, task: Task) {
        let (shared, sleepers) = (Arc::clone(&self.shared), Rc::clone(&self.sleepers));
        let (notify, guests) = (Rc::clone(&self.notify), Rc::clone(&self.guests));
        let local = Local::new(self.number, shared, notify, sleepers, guests);
        self.guests.spawn(task(local));
    }

    /// Sleeps until there is something to collect, or the [pulse](super::pulse) shakes this task. The
    /// executor submits to its rings and looks at completions only while it waits.
    async fn wait(&mut self) {
        let (notify, doorbell) = (&self.notify, self.inbox.doorbell());
        let mut slept = false;
        poll_fn(|context| {
            doorbell.before_sleep();
            if notify.listen(context.waker()) || slept || !self.requests.is_empty() {
                return Poll::Ready(());
            }
            slept = true;
            Poll::Pending
        })
        .await;
        doorbell.awake();
        if !slept {
            self.reactor.once().await;
        }
    }
}

/// Lets the executor look at its rings once. A task that is always ready would keep it from that
/// until the preemption timer fires, and with it the disk operations that this turn started.
///
/// It waits for a socket that is writable always. A timer of no length would do, but timers complete
/// on the latency ring, and what that can lead to is told in [`doorbell`](super::doorbell).
struct ReactorPass {
    socket: PollableFd<UnixStream>,
    _other_end: UnixStream,
}

impl ReactorPass {
    fn new() -> Result<Self, String> {
        let (socket, other_end) = UnixStream::pair().map_err(|error| error.to_string())?;
        let socket = PollableFd::new(socket).map_err(|error| error.to_string())?;
        Ok(Self { socket, _other_end: other_end })
    }

    async fn once(&self) {
        // A poll that fails has passed the ring too.
        let _ = self.socket.writable().await;
    }
}

fn shard_config(
    config: &Arc<EngineConfig>,
    number: u32,
    data: DataId,
    factory: crate::shard::Factory,
) -> ShardConfig {
    let here = config.this_member().map_or(1, |member| member.shards);
    let on_shard =
        |group: &&crate::config::GroupConfig| crate::config::place(group.group, here) == number;
    let others = config.members.iter().filter(|member| member.node != config.node);
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let seed = since_epoch.map_or(0, |time| time.as_nanos() as u64);
    ShardConfig {
        node: config.node,
        data,
        groups: config.groups.iter().filter(on_shard).cloned().collect(),
        nodes: others.map(|member| (member.node, member.shards)).collect(),
        raft: Arc::new(config.raft),
        limits: config.limits,
        snapshots: config.snapshots,
        priorities: config.priorities.clone(),
        factory,
        seed: seed ^ config.node.0.rotate_left(48) ^ u64::from(number).rotate_left(32),
    }
}

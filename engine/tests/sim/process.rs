//! A node: its disks, which stay, and its process, which comes and goes with all its shards. A
//! shard is the production one, driven as the runtime drives it: what is ready is fed, a turn is
//! run, its effects are carried out.

use std::collections::BTreeMap;
use std::sync::Arc;

use ringleader::shard::{Effects, Shard, ShardConfig};
use ringleader::time::Time;
use ringleader::{NodeId, StateMachine};
use ringleader_net::{DataId, PeerBook};
use ringleader_wal::Wal;

use crate::checker::OwnTime;
use crate::clock::Clock;
use crate::disk::SimDisk;
use crate::disk_faults::CrashPoint;
use crate::inputs::Input;
use crate::links::Room;
use crate::machine::Maker;
use crate::network::Purpose;
use crate::plan::{MS, Plan};
use crate::records::WrittenTerms;
use crate::resting::Rests;
use crate::rng::Rng;
use crate::stores::Stores;
use crate::world::{Event, World};

pub(crate) struct Process {
    pub(crate) shard: Shard,
    pub(crate) effects: Effects,
    pub(crate) inbox: Vec<Input>,
    pub(crate) turn_is_due: bool,
    /// The shard has more to do at once.
    more: bool,
    /// The turn changed something that the checker looks at.
    news: bool,
    /// Its turn is over, and nothing of what it asked for is done yet.
    pub(crate) held: bool,
    /// The connection of each seat as the process will know it after its inbox.
    pub(crate) epochs: BTreeMap<usize, u64>,
    /// The connection of each seat as the process knows it.
    pub(crate) known: BTreeMap<usize, u64>,
    /// The data directory that each seat showed on it.
    pub(crate) shown: BTreeMap<usize, DataId>,
    /// The seats at the other ends of the shard's links, as far as the process has learnt them.
    pub(crate) links: Vec<usize>,
    pub(crate) recovered: bool,
    pub(crate) rests: Rests,
    /// Its log failed, or it was stopped: it must say nothing more, and answer no success.
    pub(crate) silent: bool,
    pub(crate) stopping: bool,
    /// The disk failed an operation in this life.
    pub(crate) excused: bool,
    /// It said that its log has no space.
    pub(crate) full: bool,
    /// A write or sync of its log failed, and it was told.
    pub(crate) failed: bool,
    /// Its disk reads snapshots in no time.
    pub(crate) hasty: bool,
    pub(crate) written: WrittenTerms,
}

/// One shard of a node: its log's disk, which stays, and its part of the node's process.
pub(crate) struct Seat {
    pub(crate) disk: SimDisk,
    pub(crate) stores: Stores,
    pub(crate) process: Option<Process>,
    pub(crate) epoch: u64,
}

impl Seat {
    pub(crate) fn new(sector: u64) -> Self {
        Self { disk: SimDisk::new(sector), stores: Stores::default(), process: None, epoch: 0 }
    }
}

pub(crate) struct Node {
    /// Decides what happens on this node alone, so that nothing else changes it.
    pub(crate) rng: Rng,
    pub(crate) life: u32,
    /// A start is scheduled.
    starting: bool,
    /// The seats that took part when one beside them gave up, and how much they had applied.
    beside_failure: Vec<(usize, u64)>,
    /// It will not come back: its disk is damaged, and it said so.
    pub(crate) gone: bool,
    /// Which data directory it has, and what is written there of the others.
    pub(crate) data: DataId,
    pub(crate) book: PeerBook,
    /// What of that is on its disk.
    pub(crate) saved: PeerBook,
    /// What each other node had when it was met first, as the simulator saw it.
    pub(crate) met: BTreeMap<usize, DataId>,
    /// The nodes that its process lets in, by their numbers.
    pub(crate) knows: Vec<bool>,
    pub(crate) clock: Clock,
    /// It crashes after so many more steps.
    pub(crate) crash_in: Option<u64>,
    /// It crashes at so and so a disk operation.
    pub(crate) crash_at: Option<CrashPoint>,
    pub(crate) stalled_until: u64,
    /// Its next turn is followed by such a pause, before anything that it asked for is done.
    pub(crate) holds_for: u64,
    pub(crate) slow_until: u64,
    pub(crate) errors_until: u64,
    pub(crate) full_until: u64,
    pub(crate) short_until: u64,
    pub(crate) misread_until: u64,
}

impl Node {
    pub(crate) fn new(rng: &mut Rng, node: usize, nodes: usize, drift_ppm: u64) -> Self {
        Self {
            data: DataId(node as u128 + 1),
            book: PeerBook::default(),
            saved: PeerBook::default(),
            met: BTreeMap::new(),
            knows: vec![true; nodes],
            rng: rng.fork(),
            life: 0,
            starting: true,
            beside_failure: Vec::new(),
            gone: false,
            clock: Clock::new(rng, drift_ppm),
            holds_for: 0,
            crash_in: None,
            crash_at: None,
            stalled_until: 0,
            slow_until: 0,
            errors_until: 0,
            full_until: 0,
            short_until: 0,
            misread_until: 0,
        }
    }
}

/// A seat's shard, as it starts. `nodes` are those that it knows, and their shards.
pub(crate) fn shard(
    plan: &Plan,
    seat: usize,
    stores: &Stores,
    data: DataId,
    nodes: Vec<(NodeId, u32)>,
    seed: u64,
) -> Shard {
    let (seats, node) = (&plan.seats, plan.seats.node(seat));
    let named = (0..plan.groups.len()).filter(|at| !plan.late[*at]);
    let here = named.filter(|at| seats.of_group(plan.groups[*at], node) == seat);
    let (groups, kinds) = (plan.groups.clone(), plan.machines[node].clone());
    let (stores, maker) = (stores.clone(), Maker::new());
    let factory = move |group| -> Box<dyn StateMachine> {
        let at = groups.iter().position(|known| *known == group).expect("a group of the run");
        Box::new(maker.make(group, node, kinds[at], &stores))
    };
    let config = ShardConfig {
        node: seats.node_id(seat),
        data,
        groups: here.map(|at| plan.group_config(at, node)).collect(),
        nodes,
        raft: Arc::new(plan.raft),
        limits: plan.limits,
        snapshots: plan.snapshots[node],
        priorities: plan.priorities.clone(),
        factory: Box::new(factory),
        seed,
    };
    Shard::new(config, Wal::open(plan.wal.clone(), seats.identity(seat)))
}

impl World {
    /// A node's process starts on what its disks hold.
    pub(crate) fn start(&mut self, node: usize) {
        let now = self.now();
        let at = &mut self.nodes[node];
        if at.gone {
            at.starting = false;
            return;
        }
        at.life += 1;
        at.starting = false;
        at.clock.restart(now);
        at.holds_for = 0;
        let life = at.life;
        self.trace.step("start", node as u64, u64::from(life), 0);
        self.trace.line(|| format!("node {} starts, life {life}", node + 1));
        if life > 1 && !self.healed && self.nodes[node].rng.chance(self.plan.faults.crash_again_ppm)
        {
            let at = &mut self.nodes[node];
            if at.rng.coin() {
                at.crash_in = Some(at.rng.below(60));
            } else {
                at.crash_at = Some(CrashPoint::draw(&mut at.rng));
            }
        }
        let moves = self.addresses.start(node);
        self.counts.add("nodes moved", u64::from(moves));
        self.read_configuration(node);
        for seat in self.plan.seats.of(node) {
            self.start_seat(seat, life);
        }
    }

    fn start_seat(&mut self, seat: usize, life: u32) {
        let node = self.plan.seats.node(seat);
        let seed = self.nodes[node].rng.next();
        let (stores, data) = (&self.seats[seat].stores, self.nodes[node].data);
        let process = Process {
            shard: shard(&self.plan, seat, stores, data, self.known_nodes(node), seed),
            effects: Effects::default(),
            inbox: Vec::new(),
            turn_is_due: false,
            more: false,
            news: false,
            held: false,
            epochs: BTreeMap::new(),
            known: BTreeMap::new(),
            shown: BTreeMap::new(),
            links: Vec::new(),
            rests: Rests::default(),
            recovered: false,
            silent: false,
            stopping: false,
            excused: false,
            full: false,
            failed: false,
            hasty: false,
            written: WrittenTerms::default(),
        };
        let earlier = self.seats[seat].process.replace(process);
        assert!(earlier.is_none(), "a node runs once");
        self.schedule_turn(seat);
        self.after(0, Event::Tick { seat, life });
        for &pair in self.network.pairs_of(seat).iter() {
            self.redial(pair);
        }
    }

    /// A node's process ends. Where the power fails, its disks forget what they may.
    pub(crate) fn crash(&mut self, node: usize) {
        let power = !self.disk_rng.chance(self.plan.faults.kill_ppm);
        self.end(node, power);
    }

    fn end(&mut self, node: usize, power: bool) {
        let seats = self.plan.seats.of(node);
        if self.seats[seats.start].process.is_none() {
            return;
        }
        self.nodes[node].crash_in = None;
        self.nodes[node].crash_at = None;
        let mut running = 0;
        let mut recovering = 0;
        for seat in seats.clone() {
            let at = &mut self.seats[seat];
            running += at.disk.running() as u64;
            let recycled = at.disk.has_recycled();
            if power {
                at.disk.crash(&mut self.disk_rng);
            } else {
                at.disk.kill(&mut self.disk_rng);
            }
            self.counts.add("crashes with a segment in its second life", u64::from(recycled));
            at.stores.crash(&mut self.disk_rng);
            let process = at.process.take().expect("all shards of a node run");
            recovering += u64::from(!process.recovered);
        }
        self.counts.add(if power { "power failures" } else { "processes ended" }, 1);
        self.counts.add("disk operations cut off", running);
        self.counts.add("crashes during recovery", u64::from(recovering > 0));
        self.trace.step("crash", node as u64, running, 0);
        self.trace.line(|| {
            format!(
                "*** node {} ends{}, {running} disk operations run",
                node + 1,
                if power { " and its power fails" } else { "" }
            )
        });
        for name in self.clients.crashed(node, self.nodes[node].life) {
            self.ask_again_later(name);
        }
        let at = &mut self.nodes[node];
        at.beside_failure.clear();
        at.book = at.saved.clone();
        self.checker.crashed(node);
        self.transfers.crashed(node);
        self.forget_changes(node);
        self.resets.crashed(node);
        self.existence.crashed(node);
        seats.for_each(|seat| self.drop_connections(seat));
        self.start_later(node);
    }

    /// Somebody ends a process that has given up. At rest that is one whose disks are damaged, and
    /// its shards that are not go on leading.
    pub(crate) fn restart(&mut self, node: usize, life: u32) {
        if self.nodes[node].life != life {
            return;
        }
        self.check_beside_failure(node);
        if !self.at_rest {
            self.crash(node);
        }
    }

    /// A seat gave up: what its node has beside it is to go on.
    pub(crate) fn watch_beside(&mut self, failed: usize) {
        let node = self.plan.seats.node(failed);
        for seat in self.plan.seats.of(node).filter(|seat| *seat != failed) {
            let Some(Process { shard, .. }) = &self.seats[seat].process else { continue };
            if shard.takes_part() {
                let applied = shard.counters().entries_applied;
                self.nodes[node].beside_failure.push((seat, applied));
            }
        }
    }

    /// Whoever took part when another seat of its node gave up does so until the process ends,
    /// unless it was told to stop or its own log failed.
    fn check_beside_failure(&mut self, node: usize) {
        for (seat, before) in std::mem::take(&mut self.nodes[node].beside_failure) {
            let Some(process) = &self.seats[seat].process else { continue };
            if process.silent || process.stopping {
                continue;
            }
            let name = self.plan.seats.name(seat);
            assert!(
                process.shard.takes_part(),
                "a failure stays with its shard: node {name} ended"
            );
            let applied = process.shard.counters().entries_applied;
            self.counts
                .add("shards that went on beside one that failed", u64::from(applied > before));
        }
    }

    pub(crate) fn start_later(&mut self, node: usize) {
        if !self.nodes[node].gone && !std::mem::replace(&mut self.nodes[node].starting, true) {
            let away = self.nodes[node].rng.between(MS / 10, self.plan.faults.away);
            self.after(away, Event::Start { node });
        }
    }

    /// The present life of a seat's node.
    pub(crate) fn life(&self, seat: usize) -> u32 {
        self.nodes[self.plan.seats.node(seat)].life
    }

    pub(crate) fn is_alive(&self, seat: usize, life: u32) -> bool {
        self.life(seat) == life && self.seats[seat].process.is_some()
    }

    /// Something is ready for a shard.
    pub(crate) fn feed(&mut self, seat: usize, input: Input) {
        if let Some(process) = &mut self.seats[seat].process {
            process.inbox.push(input);
            self.schedule_turn(seat);
        }
    }

    fn schedule_turn(&mut self, seat: usize) {
        let (shortest, longest) = self.plan.turn;
        let life = self.life(seat);
        let Some(process) = &mut self.seats[seat].process else { return };
        if !std::mem::replace(&mut process.turn_is_due, true) {
            let node = self.plan.seats.node(seat);
            let delay = self.nodes[node].rng.between(shortest, longest);
            self.after(delay, Event::Turn { seat, life });
        }
    }

    pub(crate) fn tick(&mut self, seat: usize, life: u32) {
        if self.is_alive(seat, life) {
            self.feed(seat, Input::Tick);
            let pause = self.tick_pause(self.plan.seats.node(seat));
            self.after(pause, Event::Tick { seat, life });
        }
    }

    /// A node is told to stop, all its shards.
    pub(crate) fn stop(&mut self, node: usize) {
        self.plan.seats.of(node).for_each(|seat| self.feed(seat, Input::Stop));
    }

    /// One step of a seat's process: false if it was the one that its node does not survive.
    pub(crate) fn survives_step(&mut self, seat: usize) -> bool {
        let node = self.plan.seats.node(seat);
        match &mut self.nodes[node].crash_in {
            Some(0) => {
                self.crash(node);
                return false;
            }
            Some(steps) => *steps -= 1,
            None => {}
        }
        true
    }

    pub(crate) fn turn(&mut self, seat: usize, life: u32) {
        if !self.is_alive(seat, life) {
            return;
        }
        let node = self.plan.seats.node(seat);
        if self.now() < self.nodes[node].stalled_until {
            let rest = self.nodes[node].stalled_until - self.now();
            self.after(rest, Event::Turn { seat, life });
            return;
        }
        self.number_links(seat);
        let process = self.seats[seat].process.as_mut().expect("it is alive");
        process.turn_is_due = false;
        // As the runtime has it: after a pause, time is told after all that came meanwhile.
        process.inbox.sort_by_key(|input| matches!(input, Input::Tick));
        for input in std::mem::take(&mut process.inbox) {
            if !self.survives_step(seat) {
                return;
            }
            self.guarded(seat, |world| world.step(seat, input));
        }
        let (rooms, own) = (self.rooms(seat), self.own_time(node));
        let process = self.seats[seat].process.as_mut().expect("it is alive");
        for Room { peer, purpose, free, held } in rooms {
            let Some(link) = process.link(peer) else { continue };
            match purpose {
                Purpose::Consensus => process.shard.set_room(link, free),
                Purpose::BulkFrom(_) => process.shard.set_bulk_room(link, free, held),
            }
        }
        let turn = |world: &mut Self| {
            let process = world.seats[seat].process.as_mut().expect("it is alive");
            process.shard.turn(&mut process.effects)
        };
        // A wreck has answers to give.
        let more = self.guarded(seat, turn).unwrap_or_else(|| turn(self));
        let process = self.seats[seat].process.as_mut().expect("it is alive");
        let news = self.checker.observe(node, own, &process.shard);
        (process.more, process.news) = (more, news);
        // What a machine keeps itself it has, whatever becomes of the rest.
        self.look_at_machines(seat);
        if !self.holds(seat, life) {
            self.end_turn(seat);
        }
    }

    /// What a turn asked for is done, at once or after a pause.
    pub(crate) fn end_turn(&mut self, seat: usize) {
        let node = self.plan.seats.node(seat);
        let process = self.seats[seat].process.as_mut().expect("its turn was run");
        let news = std::mem::take(&mut process.news);
        if self.carry_out(seat) || news {
            self.audit_some(node);
        }
        let Some(process) = &mut self.seats[seat].process else { return };
        if news && process.shard.takes_part() {
            self.checker.check_streams(node, &process.shard);
        }
        // What the turn before stopping said was said before.
        process.silent |= process.stopping && !process.shard.takes_part();
        let heard = process.silent || process.stopping || !process.failed;
        assert!(heard, "a log goes on after a write or sync of it failed");
        let more = process.more || !process.inbox.is_empty();
        if self.has_stopped(node) {
            self.end(node, false);
        } else if more {
            self.schedule_turn(seat);
        }
    }

    fn has_stopped(&self, node: usize) -> bool {
        let stopped = |process: &Process| process.stopping && process.shard.is_stopped();
        self.seats[self.plan.seats.of(node)]
            .iter()
            .all(|seat| seat.process.as_ref().is_some_and(stopped))
    }

    pub(crate) fn local_time(&self, node: usize) -> Time {
        Time(self.nodes[node].clock.read(self.now()))
    }

    pub(crate) fn own_time(&self, node: usize) -> OwnTime {
        OwnTime { life: self.nodes[node].life, time: self.local_time(node) }
    }
}

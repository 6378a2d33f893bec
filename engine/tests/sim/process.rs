//! A node: its disk, which stays, and its process, which comes and goes. The process is the
//! production shard, driven as the runtime drives it: what is ready is fed, a turn is run, its
//! effects are carried out.

use std::collections::BTreeMap;
use std::rc::Rc;

use ringleader::shard::{ClientId, Effects, LinkId, LinkPeer, Shard, ShardConfig, Submission};
use ringleader::time::Time;
use ringleader::{GroupConfig, NodeId};
use ringleader_net::Frame;
use ringleader_wal::disk::{DiskError, DiskOutput, OpId};
use ringleader_wal::{Identity, Wal};

use crate::disk::{Fault, SimDisk};
use crate::machine::Machine;
use crate::plan::{MS, Plan};
use crate::rng::{Rng, SURE};
use crate::world::{Event, World};

/// Something that a process learns at its next turn.
#[derive(Debug)]
pub(crate) enum Input {
    Tick,
    Disk(OpId, Result<DiskOutput, DiskError>),
    Frame { link: u32, epoch: u64, frame: Frame },
    Up { link: u32, epoch: u64 },
    Down { link: u32 },
    Submit(u32, Submission),
    Stop,
}

pub(crate) struct Process {
    pub(crate) shard: Shard,
    pub(crate) effects: Effects,
    pub(crate) inbox: Vec<Input>,
    turn_is_due: bool,
    booted: u64,
    /// The connection of each link as the process will know it after its inbox.
    pub(crate) epochs: BTreeMap<u32, u64>,
    /// The connection of each link as the process knows it.
    known: BTreeMap<u32, u64>,
    pub(crate) recovered: bool,
    /// Its log failed, or it was stopped: it must say nothing more, and answer no success.
    pub(crate) silent: bool,
    stopping: bool,
}

pub(crate) struct Node {
    pub(crate) disk: SimDisk,
    pub(crate) life: u32,
    pub(crate) process: Option<Process>,
    /// A start is scheduled.
    starting: bool,
    /// Speed of its clock, in parts of a million.
    rate: u64,
    pub(crate) epoch: u64,
    /// It crashes after so many more steps.
    pub(crate) crash_in: Option<u64>,
    pub(crate) stalled_until: u64,
    pub(crate) slow_until: u64,
    pub(crate) errors_until: u64,
    pub(crate) full_until: u64,
    /// The disk failed an operation in this life.
    pub(crate) excused: bool,
}

impl Node {
    pub(crate) fn new(rng: &mut Rng, drift_ppm: u64) -> Self {
        Self {
            disk: SimDisk::default(),
            life: 0,
            process: None,
            starting: true,
            rate: u64::from(SURE) + rng.below(2 * drift_ppm + 1) - drift_ppm,
            epoch: 0,
            crash_in: None,
            stalled_until: 0,
            slow_until: 0,
            errors_until: 0,
            full_until: 0,
            excused: false,
        }
    }
}

/// The link of `node` to `peer`: all others in the order of their numbers.
pub(crate) fn link(node: usize, peer: usize) -> u32 {
    (if peer < node { peer } else { peer - 1 }) as u32
}

/// The other way round.
pub(crate) fn peer(node: usize, link: u32) -> usize {
    let link = link as usize;
    if link < node { link } else { link + 1 }
}

fn shard(plan: &Plan, node: usize, seed: u64) -> Shard {
    let voters: Vec<NodeId> = (1..=plan.nodes as u64).map(NodeId).collect();
    let me = NodeId(node as u64 + 1);
    let links = voters.iter().filter(|voter| **voter != me);
    let config = ShardConfig {
        node: me,
        groups: plan
            .groups
            .iter()
            .map(|group| GroupConfig { group: *group, voters: voters.clone() })
            .collect(),
        links: links.map(|voter| LinkPeer { node: *voter, shard: 0 }).collect(),
        place: Box::new(|_, _| 0),
        raft: Rc::new(plan.raft),
        limits: plan.limits,
        factory: Box::new(|_| Box::new(Machine::default())),
        seed,
    };
    Shard::new(config, Wal::open(plan.wal.clone(), Identity { cluster: 1, node: me, shard: 0 }))
}

impl World {
    /// A node's process starts on what its disk holds.
    pub(crate) fn start(&mut self, node: usize) {
        let (seed, booted) = (self.rng.next(), self.now());
        let at = &mut self.nodes[node];
        assert!(at.process.is_none(), "a node runs once");
        at.life += 1;
        at.starting = false;
        at.excused = false;
        let life = at.life;
        at.process = Some(Process {
            shard: shard(&self.plan, node, seed),
            effects: Effects::default(),
            inbox: Vec::new(),
            turn_is_due: false,
            booted,
            epochs: BTreeMap::new(),
            known: BTreeMap::new(),
            recovered: false,
            silent: false,
            stopping: false,
        });
        self.trace.step("start", node as u64, u64::from(life), 0);
        self.trace.line(|| format!("node {} starts, life {life}", node + 1));
        if life > 1 && !self.healed && self.rng.chance(self.plan.faults.crash_again_ppm) {
            let steps = self.rng.below(60);
            self.nodes[node].crash_in = Some(steps);
        }
        self.schedule_turn(node);
        self.after(0, Event::Tick { node, life });
        for pair in self.network.pairs_of(node) {
            self.redial(pair);
        }
    }

    /// A node's process ends, and its disk forgets what it may.
    pub(crate) fn crash(&mut self, node: usize) {
        let Some(process) = self.nodes[node].process.take() else { return };
        let at = &mut self.nodes[node];
        at.crash_in = None;
        let running = at.disk.running() as u64;
        at.disk.crash(&mut self.disk_rng);
        self.counts.add("crashes", 1);
        self.counts.add("disk operations cut off", running);
        if !process.recovered {
            self.counts.add("crashes during recovery", 1);
        }
        self.trace.step("crash", node as u64, running, 0);
        self.trace.line(|| format!("*** node {} crashes, {running} disk operations run", node + 1));
        self.clients.crashed(node, self.nodes[node].life);
        self.checker.crashed(node);
        self.drop_connections(node);
        self.start_later(node);
    }

    /// Somebody ends a process that has given up.
    pub(crate) fn restart(&mut self, node: usize, life: u32) {
        if self.is_alive(node, life) {
            self.crash(node);
        }
    }

    fn start_later(&mut self, node: usize) {
        if !std::mem::replace(&mut self.nodes[node].starting, true) {
            let away = self.rng.between(MS / 10, self.plan.faults.away);
            self.after(away, Event::Start { node });
        }
    }

    fn is_alive(&self, node: usize, life: u32) -> bool {
        self.nodes[node].life == life && self.nodes[node].process.is_some()
    }

    /// Something is ready for a node's process.
    pub(crate) fn feed(&mut self, node: usize, input: Input) {
        if let Some(process) = &mut self.nodes[node].process {
            process.inbox.push(input);
            self.schedule_turn(node);
        }
    }

    fn schedule_turn(&mut self, node: usize) {
        let (shortest, longest) = self.plan.turn;
        let at = &mut self.nodes[node];
        let life = at.life;
        let Some(process) = &mut at.process else { return };
        if !std::mem::replace(&mut process.turn_is_due, true) {
            let delay = self.rng.between(shortest, longest);
            self.after(delay, Event::Turn { node, life });
        }
    }

    pub(crate) fn tick(&mut self, node: usize, life: u32) {
        if self.is_alive(node, life) {
            self.feed(node, Input::Tick);
            self.after(self.plan.tick, Event::Tick { node, life });
        }
    }

    pub(crate) fn submit(&mut self, node: usize, client: u32, submission: Submission) {
        let life = self.nodes[node].life;
        self.clients.reached(&submission, life);
        if self.nodes[node].process.is_some() {
            self.feed(node, Input::Submit(client, submission));
        } else {
            self.clients.refused(client, &submission, &self.plan.groups);
        }
    }

    pub(crate) fn disk_done(&mut self, node: usize, life: u32, id: OpId) {
        if !self.is_alive(node, life) {
            return;
        }
        let now = self.now();
        let at = &mut self.nodes[node];
        let fault = if now < at.errors_until && self.disk_rng.chance(SURE / 50) {
            at.excused = true;
            self.counts.add("disk errors", 1);
            Some(Fault::Io)
        } else {
            (now < at.full_until).then_some(Fault::NoSpace)
        };
        let result = at.disk.complete(id, fault, &mut self.disk_rng);
        if matches!(result, Err(DiskError::NoSpace(_))) {
            self.counts.add("refusals for want of space", 1);
        }
        self.feed(node, Input::Disk(id, result));
    }

    /// One step of a process: false if it was the one that it does not survive.
    pub(crate) fn survives_step(&mut self, node: usize) -> bool {
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

    pub(crate) fn turn(&mut self, node: usize, life: u32) {
        if !self.is_alive(node, life) {
            return;
        }
        if self.now() < self.nodes[node].stalled_until {
            let rest = self.nodes[node].stalled_until - self.now();
            self.after(rest, Event::Turn { node, life });
            return;
        }
        let process = self.nodes[node].process.as_mut().expect("it is alive");
        process.turn_is_due = false;
        for input in std::mem::take(&mut process.inbox) {
            if !self.survives_step(node) {
                return;
            }
            self.step(node, input);
        }
        let rooms = self.rooms(node);
        let process = self.nodes[node].process.as_mut().expect("it is alive");
        for (link, room) in rooms {
            process.shard.set_room(LinkId(link), room);
        }
        let more = process.shard.turn(&mut process.effects);
        self.checker.observe(node, &process.shard);
        self.carry_out(node);
        let Some(process) = &mut self.nodes[node].process else { return };
        // What the turn before stopping said was said before.
        process.silent |= process.stopping;
        if process.stopping && process.shard.is_stopped() {
            self.crash(node);
        } else if more {
            self.schedule_turn(node);
        }
    }

    fn local_time(&self, node: usize) -> Time {
        let at = &self.nodes[node];
        let booted = at.process.as_ref().map_or(0, |process| process.booted);
        Time((u128::from(self.now() - booted) * u128::from(at.rate) / u128::from(SURE)) as u64)
    }

    fn step(&mut self, node: usize, input: Input) {
        let now = self.local_time(node);
        let process = self.nodes[node].process.as_mut().expect("a step is of a running process");
        let shard = &mut process.shard;
        let place = node as u64;
        let mut stale = false;
        match input {
            Input::Tick => shard.tick(now),
            Input::Disk(id, result) => {
                self.trace.step("disk", place, id.0, u64::from(result.is_ok()));
                shard.disk_completed(now, id, result);
            }
            Input::Frame { link, epoch, frame } => {
                self.trace.step("frame", place, u64::from(link), epoch);
                stale = process.known.get(&link) != Some(&epoch);
                let fed = shard.frame(now, LinkId(link), epoch, &frame.envelope, frame.body);
                fed.expect("a peer's frame is well-formed");
            }
            Input::Up { link, epoch } => {
                self.trace.step("up", place, u64::from(link), epoch);
                self.trace.line(|| format!("node {} link {} up", node + 1, peer(node, link) + 1));
                process.known.insert(link, epoch);
                shard.link_up(now, LinkId(link), epoch);
            }
            Input::Down { link } => {
                self.trace.step("down", place, u64::from(link), 0);
                self.trace.line(|| format!("node {} link {} down", node + 1, peer(node, link) + 1));
                process.known.remove(&link);
                shard.link_down(LinkId(link));
            }
            Input::Submit(client, submission) => {
                self.trace.step("submit", place, u64::from(client), submission.user_data[0]);
                shard.submit(ClientId(client), submission);
            }
            Input::Stop => {
                self.trace.step("stop", place, 0, 0);
                self.trace.line(|| format!("node {} is told to stop", node + 1));
                shard.stop();
                process.stopping = true;
            }
        }
        let news = self.checker.observe(node, shard);
        assert!(!(stale && news), "node {}: a frame of an earlier connection counted", node + 1);
    }
}

//! The simulated world: nodes, disks, network, callers and one queue of what happens next.
//!
//! One thread, one queue ordered by time and then by the order of scheduling, one source of
//! randomness: a seed decides everything, and the same seed decides the same.

use ringleader::shard::{ReadSubmission, Submission};
use ringleader_net::Frame;
use ringleader_wal::disk::OpId;

use crate::addresses::Addresses;
use crate::applied::OpName;
use crate::atlas::Atlas;
use crate::checker::Checker;
use crate::clients::{Clients, Fates};
use crate::existence::Existence;
use crate::faults::Counts;
use crate::members::Pending;
use crate::network::{End, Network};
use crate::plan::{MS, Plan};
use crate::process::{Node, Seat};
use crate::queue::Queue;
use crate::resets::Resets;
use crate::resting::Beds;
use crate::rng::Rng;
use crate::schedule::{Part, Schedule};
use crate::trace::{Lines, Trace};
use crate::transfers::Transfers;

/// What happens next. Whatever is for one life of a node or one connection says so, and is dropped
/// when that is over.
#[derive(Debug)]
pub(crate) enum Event {
    Start {
        node: usize,
    },
    Restart {
        node: usize,
        life: u32,
    },
    Tick {
        seat: usize,
        life: u32,
    },
    Turn {
        seat: usize,
        life: u32,
    },
    DiskDone {
        seat: usize,
        life: u32,
        id: OpId,
    },
    /// A call of the schedule, by its place there.
    Call(usize),
    /// A caller's patience ends with a submission.
    TimeOut {
        first: OpName,
        count: usize,
    },
    AskAgain(OpName),
    /// A pause between a turn and its effects ends.
    Resume {
        seat: usize,
        life: u32,
    },
    Submit {
        node: usize,
        client: u32,
        submission: Submission,
    },
    Read {
        node: usize,
        client: u32,
        submission: ReadSubmission,
    },
    Dial {
        pair: usize,
    },
    Up(End),
    Down(End),
    /// Bytes arrive at this end.
    Arrive(End),
    /// The kernel took the bytes that this end wrote.
    Written(End),
    /// A frame of a connection that is over.
    Ghost {
        end: End,
        life: u32,
        epoch: u64,
        frame: Frame,
    },
    /// A node is told of another.
    Learn {
        node: usize,
        life: u32,
        other: usize,
    },
    /// What a node knows of the others is on its disk.
    SaveBook {
        node: usize,
        life: u32,
    },
    /// A node is told where another is.
    Readdress {
        node: usize,
        other: usize,
    },
    /// A connection across a partition has been silent for too long.
    GiveUp {
        pair: usize,
        connection: u64,
    },
    /// A connection that passes nothing is given up.
    HangUp {
        pair: usize,
        connection: u64,
    },
    /// A connection breaks, and the next one will, so many times.
    Flap {
        pair: usize,
        left: u64,
    },
    /// A node is told of a group.
    Create {
        node: usize,
        at: usize,
    },
    /// A fault of the schedule, by its place there.
    Fault(usize),
    /// An action of the operator, likewise.
    Action(usize),
    Reunite,
}

/// See the [module documentation](self).
pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) rng: Rng,
    pub(crate) disk_rng: Rng,
    pub(crate) mishap_rng: Rng,
    pub(crate) trace: Trace,
    pub(crate) nodes: Vec<Node>,
    /// Every shard of every node; see [`crate::seats`].
    pub(crate) seats: Vec<Seat>,
    pub(crate) network: Network,
    pub(crate) clients: Clients,
    pub(crate) checker: Checker,
    pub(crate) atlas: Atlas,
    pub(crate) counts: Counts,
    pub(crate) schedule: Schedule,
    pub(crate) transfers: Transfers,
    pub(crate) beds: Beds,
    /// Messages that were sent, per group.
    pub(crate) said: Vec<u64>,
    /// Changes of members that somebody waits for.
    pub(crate) changes: Vec<Pending>,
    pub(crate) resets: Resets,
    pub(crate) existence: Existence,
    pub(crate) addresses: Addresses,
    /// The faults are over.
    pub(crate) healed: bool,
    /// Everything came to rest: who is down now stays down.
    pub(crate) at_rest: bool,
    /// When the last of the disk operations under way ends.
    pub(crate) disks_busy_until: u64,
    /// When the last frame of a connection that is over arrives.
    pub(crate) ghosts_until: u64,
    /// Reads of disks that ended.
    pub(crate) reads: u64,
    queue: Queue,
    now: u64,
    served: u64,
    agreed: u64,
}

/// What a run that held every invariant amounted to.
#[derive(Clone, Debug)]
pub(crate) struct Summary {
    pub(crate) hash: u64,
    pub(crate) events: u64,
    /// Simulated nanoseconds.
    pub(crate) time: u64,
    /// Percent of the time allowed until every group served, and until all members agreed.
    pub(crate) served: u64,
    pub(crate) agreed: u64,
    pub(crate) fates: Fates,
    pub(crate) counts: Counts,
}

/// What a seed decides beforehand.
pub(crate) fn drawn(rng: &mut Rng) -> (Plan, Schedule) {
    let plan = Plan::draw(&mut rng.fork());
    let schedule = Schedule::draw(&mut rng.fork(), &plan);
    (plan, schedule)
}
/// Steps after which trouble ends: a log that only grows makes each further one cost more.
const MOST_STEPS: u64 = 200_000;

/// How often the end of a run looks whether it has come.
pub(crate) const LOOK_EVERY: u64 = 20 * MS;

impl World {
    pub(crate) fn new(seed: u64, lines: Lines, part: &Part) -> Self {
        let mut rng = Rng::new(seed);
        let (mut plan, mut schedule) = drawn(&mut rng);
        plan.keep(part);
        schedule.keep(part);
        let mut trace = Trace::new(lines);
        trace.line(|| format!("seed {seed}: {plan:#?}"));
        let groups = plan.groups.clone();
        Self {
            nodes: (0..plan.nodes)
                .map(|node| Node::new(&mut rng, node, plan.nodes, plan.clock.drift_ppm))
                .collect(),
            seats: (0..plan.seats.count()).map(|_| Seat::new(plan.disk.sector)).collect(),
            network: Network::new(plan.nodes, &plan.seats, &mut rng),
            clients: Clients::new(plan.load, plan.nodes, groups.len(), rng.fork()),
            checker: Checker::new(&plan),
            atlas: Atlas::new(plan.promise, plan.nodes, rng.fork()),
            counts: Counts::default(),
            healed: false,
            at_rest: false,
            disks_busy_until: 0,
            ghosts_until: 0,
            reads: 0,
            schedule,
            transfers: Transfers::default(),
            beds: Beds::default(),
            said: vec![0; groups.len()],
            changes: Vec::new(),
            resets: Resets::new(plan.nodes),
            existence: Existence::default(),
            addresses: Addresses::new(plan.nodes),
            queue: Queue::default(),
            now: 0,
            served: 0,
            agreed: 0,
            disk_rng: rng.fork(),
            mishap_rng: rng.fork(),
            rng,
            plan,
            trace,
        }
    }

    /// Enough nodes are intact, or the operator sees to it that these are enough.
    fn serves_to_the_end(&self) -> bool {
        self.plan.resetting || self.atlas.serves()
    }

    pub(crate) fn now(&self) -> u64 {
        self.now
    }

    /// Schedules an event.
    pub(crate) fn after(&mut self, delay: u64, event: Event) {
        self.queue.push(self.now + delay, event);
    }

    /// Runs the seed to its end: trouble, then peace, then everything must be in order.
    pub(crate) fn run(mut self) -> Summary {
        self.found_groups();
        for node in 0..self.plan.nodes {
            let delay = self.rng.below(20 * MS);
            self.after(delay, Event::Start { node });
        }
        self.schedule_call(0);
        self.schedule_fault(0);
        self.schedule_action(0);
        self.schedule_creations();
        self.run_until(self.plan.trouble);
        self.heal();
        if self.serves_to_the_end() {
            self.rescue();
            self.remove_lost();
            self.settle();
            self.stay_calm();
            self.rest_in_peace();
            self.settle();
            self.hand_around();
            self.settle();
            self.leave_it_to_abstainers();
            self.settle();
        } else {
            self.halt();
        }
        self.finish()
    }

    pub(crate) fn run_until(&mut self, end: u64) {
        while self.healed || self.trace.events() < MOST_STEPS {
            let Some((at, event)) = self.queue.pop_before(end) else {
                self.now = end;
                return;
            };
            self.now = at;
            self.trace.set_time(self.now);
            self.dispatch(event);
        }
    }

    fn dispatch(&mut self, event: Event) {
        match event {
            Event::Start { node } => self.start(node),
            Event::Restart { node, life } => self.restart(node, life),
            Event::Tick { seat, life } => self.tick(seat, life),
            Event::Turn { seat, life } => self.turn(seat, life),
            Event::DiskDone { seat, life, id } => self.disk_done(seat, life, id),
            Event::Call(at) => self.call(at),
            Event::TimeOut { first, count } => self.time_out(first, count),
            Event::AskAgain(name) => self.ask_again(name),
            Event::Resume { seat, life } => self.resume(seat, life),
            Event::Submit { node, client, submission } => self.submit(node, client, &submission),
            Event::Read { node, client, submission } => self.read(node, client, &submission),
            Event::Dial { pair } => self.dial(pair),
            Event::Up(end) => self.up(end),
            Event::Down(end) => self.down(end),
            Event::Arrive(end) => self.arrive(end),
            Event::Written(end) => self.written(end),
            Event::Ghost { end, life, epoch, frame } => self.ghost(end, life, epoch, frame),
            Event::Learn { node, life, other } => self.learn(node, life, other),
            Event::SaveBook { node, life } => self.save_book(node, life),
            Event::Readdress { node, other } => self.readdress(node, other),
            Event::GiveUp { pair, connection } => self.give_up(pair, connection),
            Event::HangUp { pair, connection } => self.hang_up(pair, connection),
            Event::Flap { pair, left } => self.flap(pair, left),
            Event::Create { node, at } => self.create(node, at),
            Event::Fault(at) => self.fault(at),
            Event::Action(at) => self.action(at),
            Event::Reunite => self.reunite(),
        }
    }

    /// Within a bounded time after the last fault, every group serves and all members agree.
    pub(crate) fn settle(&mut self) {
        let end = self.now + self.plan.patience;
        for at in 0..self.plan.groups.len() {
            // After a restart a log is read, and the leader applies its own: both take as long as it
            // is long.
            let (mut reached, mut patient_until) = (0, end);
            while !(self.serves(at) && self.serves_reads(at)) {
                let progress = self.checker.all_applied(at) + self.reads;
                if progress > reached {
                    reached = progress;
                    let more = self.now + self.plan.patience / 4;
                    patient_until = more.clamp(end, end + 3 * self.plan.patience);
                }
                let why = || self.unsettled(at).unwrap_or_default();
                assert!(self.now < patient_until, "liveness: the group does not serve\n{}", why());
                self.run_until(self.now + LOOK_EVERY);
            }
        }
        let began = end - self.plan.patience;
        self.served = self.served.max((self.now - began) * 100 / self.plan.patience);
        // Whoever was away has to be told everything, through windows of any size.
        let end = end + 2 * MS * self.checker.totals().0;
        let (mut reached, mut patient_until) = (0, end);
        loop {
            let groups = 0..self.plan.groups.len();
            // A window of one small request takes a round trip for each entry.
            let progress = groups.clone().map(|at| self.checker.all_applied(at)).sum();
            if progress > reached {
                reached = progress;
                let more = self.now + self.plan.patience / 4;
                patient_until = more.clamp(end, end + 3 * self.plan.patience);
            }
            let unsettled = groups.filter_map(|at| self.unsettled(at)).next();
            let nothing_waits = self.clients.nothing_waits() && self.transfers.nothing_waits();
            if unsettled.is_none() && nothing_waits && self.changes.is_empty() {
                self.at_rest = true;
                self.agreed = self.agreed.max((self.now - began) * 100 / (end - began));
                return;
            }
            let unsettled = unsettled.unwrap_or_else(|| "a caller waits".into());
            let waits = self.now < patient_until;
            assert!(waits, "liveness: the members do not converge\n{unsettled}");
            self.run_until(self.now + LOOK_EVERY);
        }
    }

    fn unsettled(&self, at: usize) -> Option<String> {
        let unsettled = self.checker.unsettled(at, self.atlas.damaged());
        unsettled.or_else(|| self.unidentified(at))
    }

    /// The log is to name the data of all members that are there.
    fn unidentified(&self, at: usize) -> Option<String> {
        let (group, leader) = (self.plan.groups[at], self.checker.leader(at)?);
        let process = self.seats[self.plan.seats.of_group(group, leader)].process.as_ref()?;
        let members = process.shard.raft(group)?.configuration();
        let there = members.members().filter(|node| !self.atlas.is_damaged(node.0 as usize - 1));
        let mut unknown = there.filter(|node| members.data(*node).is_none());
        unknown.next().map(|node| format!("group {group} does not know the data of node {node}"))
    }

    /// Too few nodes are intact for anything to be served: nothing wrong may have been.
    fn halt(&mut self) {
        self.counts.add("runs that halted without lying", 1);
        self.run_until(self.now() + self.plan.patience / 4);
        // Whoever still waits is told nothing any more.
        (0..self.plan.nodes).for_each(|node| self.crash(node));
    }

    /// Tries one operation on the group's leader; true when a caller was told that it is applied.
    pub(crate) fn serves(&mut self, at: usize) -> bool {
        self.checker.leader(at).is_some_and(|leader| self.serves_by(at, leader))
    }

    /// Whether one leader of perhaps two applies what it is given.
    pub(crate) fn serves_by(&mut self, at: usize, node: usize) -> bool {
        let group = self.plan.groups[at];
        let client = self.plan.load.callers;
        let submission = self.clients.single(group, at, node);
        let name = submission.user_data[0];
        self.after(0, Event::Submit { node, client, submission });
        self.run_until(self.now + LOOK_EVERY);
        for _ in 0..20 {
            if self.clients.was_applied(name) {
                return true;
            }
            self.run_until(self.now + LOOK_EVERY);
        }
        false
    }

    fn finish(mut self) -> Summary {
        (0..self.plan.nodes).for_each(|node| self.audit(node));
        let served = self.serves_to_the_end();
        if served {
            self.checker.check_copies(self.atlas.damaged());
        }
        self.checker.check_end(&self.clients.asked, served.then_some(self.atlas.damaged()));
        self.check_histories();
        let (committed, terms) = self.checker.totals();
        self.counts.add("entries committed", committed);
        self.counts.add("terms with a leader", terms);
        self.counts.add("operations lost that were acknowledged", self.checker.lost());
        let (truncations, in_flight) = self.checker.truncations;
        self.counts.add("logs truncated", truncations);
        self.counts.add("logs truncated with an append in flight", in_flight);
        Summary {
            hash: self.trace.hash(),
            events: self.trace.events(),
            time: self.now,
            served: self.served,
            agreed: self.agreed,
            fates: self.clients.fates(),
            counts: self.counts,
        }
    }
}

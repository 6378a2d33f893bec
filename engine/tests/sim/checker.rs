//! What must hold after every step, whatever fails. A violation panics and names the invariant.
//!
//! The names in brackets are the thesis' figures and sections, or the check's number in the list
//! that this simulator works through. The checker knows no node's log by heart: by log matching, a
//! log's last position tells all of it, once it is known where each term starts and what stands before
//! ([`History::term_at`]). Nodes that win elections show that, and every append is compared with it.

use ringleader::raft::found::FOUNDED_AT;
use ringleader::raft::invariants::{self, Summary};
use ringleader::raft::{Raft, RoleName, Status};
use ringleader::shard::{Applied, Shard};
use ringleader::{GroupId, LogIndex, LogPosition, NodeId, Term};

use crate::applied::AppliedOp;
use crate::clients::{Asked, Fate};
use crate::founding::Founded;
use crate::history::History;
use crate::image::Image;
use crate::plan::Plan;
use crate::prevotes::PreVotes;

#[path = "audit.rs"]
mod audit;
#[path = "configurations.rs"]
mod configurations;
#[path = "eras.rs"]
mod eras;
#[path = "handovers.rs"]
mod handovers;
#[path = "messages.rs"]
mod messages;
#[path = "outcome.rs"]
mod outcome;
#[path = "rounds.rs"]
mod rounds;
#[path = "streams.rs"]
mod streams;

pub(crate) use eras::Elector;
use handovers::Handovers;
pub(crate) use rounds::OwnTime;
use rounds::{Lease, Rounds};
use streams::Streams;

/// Steps after which a member is checked in depth although its status did not change.
const DEEP_EVERY: u64 = 64;

/// What a member showed in this life.
#[derive(Clone, Copy, Debug)]
struct View {
    summary: Summary,
    status: Status,
}

/// What a node promised to its peers and callers, over all its lives: a crash must not undo it.
#[derive(Clone, Copy, Debug, Default)]
struct Promise {
    /// What it calls durable, and the log that this is a part of.
    durable: LogIndex,
    last: LogPosition,
    /// The highest term that a message of it showed.
    term: Term,
    /// Its vote that a message showed, and the vote's term.
    vote: Option<(Term, NodeId)>,
    /// The latest term that it was ever in, and its vote there.
    latest: (Term, Option<NodeId>),
    /// The last entry that its newest snapshot covers.
    snapshot: LogIndex,
}

/// One member of one group.
#[derive(Debug, Default)]
struct Member {
    /// None while the node is down or recovers.
    view: Option<View>,
    promise: Promise,
    /// What it had promised each time that its disks were emptied or it was destroyed. An answer that was under way then
    /// may still count.
    lost: Vec<Promise>,
    applied: u64,
    /// The last configuration that its machine was told of; none if it begins with a snapshot.
    told: Option<LogIndex>,
    /// The last entry that its disk held when that was last asked for.
    on_disk: LogPosition,
    rounds: Rounds,
    /// A snapshot of it was damaged, be it one that is still to be called durable.
    harmed: bool,
    /// A snapshot that could not be read, or not be taken: it may be taken at the same place again.
    failed: Option<LogPosition>,
    /// Its replica was destroyed. What it said in the turn before that still leaves.
    destroyed: bool,
    /// It was to be destroyed although it is a member: no copy on its disk counts any more.
    doomed: bool,
}

impl Member {
    /// Whether the entry is, or was before the disks were emptied, on the member's disk: what it
    /// said of that may still count.
    fn made_durable(&self, history: &History, entry: LogPosition) -> bool {
        let mut promises = self.lost.iter().chain([&self.promise]);
        promises.any(|promise| promise.durable >= entry.index && history.holds(promise.last, entry))
    }
}

#[derive(Debug)]
pub(crate) struct Checker {
    groups: Vec<GroupId>,
    pub(crate) histories: Vec<History>,
    handovers: Handovers,
    streams: Streams,
    /// Per group and node.
    members: Vec<Vec<Member>>,
    /// None when the run's settings have no pre-vote.
    pre_votes: Option<PreVotes>,
    /// None when they have no leases.
    lease: Option<Lease>,
    steps: u64,
    /// Logs whose end was dropped, and those where that end was still being written.
    pub(crate) truncations: (u64, u64),
}

impl Checker {
    pub(crate) fn new(plan: &Plan) -> Self {
        let member = || Member { told: Some(LogIndex(0)), ..Member::default() };
        let members = || (0..plan.nodes).map(|_| member()).collect();
        let history = |at: usize| {
            let mut history = History::new(plan.founders[at].clone());
            if plan.late[at] {
                history.found();
            }
            plan.founded[at].iter().for_each(|founded| history.begin_with(founded));
            history
        };
        let mut members: Vec<Vec<Member>> = plan.groups.iter().map(|_| members()).collect();
        for (members, founded) in members.iter_mut().zip(&plan.founded) {
            if let Some(Founded { node, image }) = founded {
                members[node.0 as usize - 1].promise = Promise::founded(image.last);
            }
        }
        let config = &plan.raft;
        Self {
            groups: plan.groups.clone(),
            histories: (0..plan.groups.len()).map(history).collect(),
            members,
            handovers: Handovers::default(),
            streams: Streams::default(),
            pre_votes: config.pre_vote.then(PreVotes::default),
            lease: Lease::of(config),
            steps: 0,
            truncations: (0, 0),
        }
    }

    /// The node's process ended, in whatever way.
    pub(crate) fn crashed(&mut self, node: usize) {
        for members in &mut self.members {
            members[node].view = None;
            members[node].applied = 0;
            members[node].destroyed = false;
            members[node].told = Some(LogIndex(0));
        }
    }

    /// The node starts over with nothing: what it had promised is gone.
    pub(crate) fn wiped(&mut self, node: usize) {
        for members in &mut self.members {
            let Member { promise, mut lost, rounds, .. } = std::mem::take(&mut members[node]);
            lost.push(promise);
            (members[node].lost, members[node].rounds) = (lost, rounds.wiped());
        }
    }

    /// The node has no replica of the group any more, unless its process ends soon.
    pub(crate) fn destroyed(&mut self, node: usize, group: GroupId) {
        let at = self.at(group);
        let member = &mut self.members[at][node];
        (member.view, member.told, member.destroyed) = (None, Some(LogIndex(0)), true);
    }

    /// The node's replica panicked: it takes part in nothing until the process is another.
    pub(crate) fn abandoned(&mut self, node: usize, at: usize) {
        self.members[at][node].view = None;
    }

    /// That is durable: what it had promised is kept by nobody.
    pub(crate) fn destroyed_for_good(&mut self, node: usize, group: GroupId) {
        let at = self.at(group);
        let member = &mut self.members[at][node];
        member.lost.push(std::mem::take(&mut member.promise));
    }

    /// Something happened on a node. True if the status of a group is another one.
    pub(crate) fn observe(&mut self, node: usize, own: OwnTime, shard: &Shard) -> bool {
        let mut news = false;
        // What it was about may be half done.
        if shard.is_wreck() {
            return false;
        }
        self.steps += 1;
        for at in 0..self.groups.len() {
            let Some(raft) = shard.raft(self.groups[at]) else { continue };
            let status = raft.status();
            let before = self.members[at][node].view;
            if let Some(before) = before
                && before.status == status
            {
                if self.steps.is_multiple_of(DEEP_EVERY) {
                    invariants::check(raft);
                }
                self.check_rounds(at, node, &status, raft);
                continue;
            }
            news = true;
            invariants::check(raft);
            if let Some(before) = &before {
                invariants::check_step(&before.summary, raft);
            }
            let view = View { summary: Summary::of(raft), status };
            self.members[at][node].view = Some(view);
            match before {
                Some(before) => {
                    self.changed(at, node, raft, &before.status, &status);
                    self.check_vote(at, node, &before.status, &status, own);
                }
                None => {
                    self.recovered(at, node, &status);
                    self.check_configuration(at, node, raft, &status);
                }
            }
            self.check_rounds(at, node, &status, raft);
        }
        news
    }

    /// A member came back: what it had promised must be there.
    fn recovered(&mut self, at: usize, node: usize, status: &Status) {
        let promise = self.members[at][node].promise;
        let history = &self.histories[at];
        let who = || format!("group {} node {}", self.groups[at], node + 1);
        let (latest, voted) = promise.latest;
        let founded = status.term == FOUNDED_AT.term && history.was_founded();
        let invented = status.term > latest && !founded
            || status.term == latest && status.voted_for.is_some_and(|vote| Some(vote) != voted);
        assert!(!invented, "{} came back with a term or vote that it never had", who());
        assert!(
            status.term >= promise.term,
            "durable term: {} came back in term {} after it had shown {}",
            who(),
            status.term,
            promise.term
        );
        if let Some((term, candidate)) = promise.vote.filter(|vote| vote.0 == status.term) {
            assert_eq!(
                status.voted_for,
                Some(candidate),
                "durable vote: {} forgot its vote of term {term}",
                who()
            );
        }
        // What a snapshot covers is committed, and takes the place of anything else.
        let kept = status.applied >= promise.durable
            || promise.is_contradicted(history, status.last, status.applied)
            || status.last.index >= promise.durable
                && history.term_at(status.last, promise.durable)
                    == history.term_at(promise.last, promise.durable);
        assert!(
            kept,
            "durable log: {} came back with {:?} and had called {} of {:?} durable",
            who(),
            status.last,
            promise.durable,
            promise.last
        );
        let term = history.term_at(status.last, status.commit);
        let known = history.line_with(LogPosition { index: status.commit, term });
        assert!(known.is_some(), "a start knows what nobody committed: {}", who());
        assert!(
            status.applied >= promise.snapshot,
            "durable snapshot: {} has applied {} and had a snapshot of {}",
            who(),
            status.applied,
            promise.snapshot
        );
        self.members[at][node].applied = status.applied.0;
        self.keep_claim(at, node, status);
        self.era_may_stand(at, status);
        self.histories[at].undo(status.node);
    }

    fn changed(&mut self, at: usize, node: usize, raft: &Raft, before: &Status, now: &Status) {
        if now.role == RoleName::Leader
            && (before.role != RoleName::Leader || before.term != now.term)
        {
            self.elected(at, node, now.term, before, now);
        } else if before.role == RoleName::Candidate
            && before.term == now.last.term
            && !self.histories[at].was_won(before.term)
        {
            // It won, and one message later, in the same step, a higher term ended that.
            self.elected(at, node, before.term, before, now);
        }
        assert_eq!(
            now.ignored,
            before.ignored,
            "group {} node {}: a correct peer's message was refused as impossible",
            self.groups[at],
            node + 1
        );
        self.histories[at].check_position(now.last);
        if before.last != now.last && !self.histories[at].holds(now.last, before.last) {
            self.truncations.0 += 1;
            self.truncations.1 += u64::from(before.durable < before.last.index);
        }
        self.keep_claim(at, node, now);
        self.era_may_stand(at, now);
        // By the configuration that it appended in this very step it may count at once.
        self.check_configuration(at, node, raft, now);
        if now.commit > before.commit {
            self.committed(at, node, before.commit, now);
        }
    }

    fn keep_claim(&mut self, at: usize, node: usize, status: &Status) {
        let promise = &mut self.members[at][node].promise;
        promise.durable = status.durable;
        promise.last = status.last;
        promise.latest = (status.term, status.voted_for);
    }

    /// Election safety and leader completeness (figure 3.2).
    fn elected(&mut self, at: usize, node: usize, term: Term, before: &Status, now: &Status) {
        let history = &mut self.histories[at];
        assert!(
            !history.is_ended(term),
            "eras: node {} leads term {term}, after a reset",
            node + 1
        );
        history.lead(term, NodeId(node as u64 + 1), before.last);
        if let Some(committed) = history.committed_before(term) {
            assert!(
                history.holds(now.last, committed),
                "leader completeness: group {} node {} leads term {term} without {committed:?}",
                self.groups[at],
                node + 1
            );
        }
    }

    fn committed(&mut self, at: usize, node: usize, before: LogIndex, now: &Status) {
        let history = &mut self.histories[at];
        let term = history.term_at(now.last, now.commit);
        if now.role == RoleName::Leader {
            assert_eq!(
                term,
                now.term,
                "commit by counting: group {} node {} committed an entry of an earlier term",
                self.groups[at],
                node + 1
            );
        }
        if history.commit(now.term, now.last, before, now.commit) {
            self.check_new_commit(at, now.term, LogPosition { index: now.commit, term });
        }
    }

    /// An entry that nobody knew to be committed: a majority must have it on its disks, those of
    /// crashed nodes included, and every leader of a later term in its log.
    fn check_new_commit(&self, at: usize, by: Term, position: LogPosition) {
        let history = &self.histories[at];
        let durable = |member: &Member| member.made_durable(history, position);
        let copies: Vec<bool> = self.members[at].iter().map(durable).collect();
        assert!(
            Self::has_quorum(history, position, |node| copies[node]),
            "commit on a durable quorum: {position:?} of group {} is durable on {copies:?} of {:?}",
            self.groups[at],
            history.in_force(position)
        );
        for view in self.members[at].iter().filter_map(|member| member.view.as_ref()) {
            let Status { node, role, term, last, .. } = view.status;
            if role == RoleName::Leader && term > by {
                assert!(
                    history.holds(last, position),
                    "leader completeness: node {node} leads term {term} without {position:?}"
                );
            }
        }
    }

    /// The term in which a node leads the group, if it does.
    pub(crate) fn leads(&self, at: usize, node: usize) -> Option<Term> {
        let status = self.members[at][node].view?.status;
        (status.role == RoleName::Leader).then_some(status.term)
    }

    /// A node's state machine took operations (state machine safety, figure 3.2). `asked` is what
    /// callers know of them.
    pub(crate) fn applied(&mut self, node: usize, at: usize, ops: &[AppliedOp], asked: &[Asked]) {
        let member = &mut self.members[at][node];
        let commit = member.view.expect("only a running member applies").status.commit;
        for op in ops {
            assert!(op.index > member.applied, "entry {} is applied twice or late", op.index);
            assert!(op.index <= commit.0, "entry {} is applied before it is committed", op.index);
            member.applied = op.index;
            self.histories[at].applied(op, self.groups[at], asked);
        }
    }

    /// A node's state machine was restored: to what it was at that place in the history.
    pub(crate) fn restored(&mut self, node: usize, at: usize, image: &Image) {
        let group = self.groups[at];
        self.histories[at].check_image(image, group);
        self.members[at][node].applied = self.members[at][node].applied.max(image.last.index.0);
        self.members[at][node].told = None;
    }

    /// A node says that a snapshot failed it.
    pub(crate) fn snapshot_failed(&mut self, node: usize, group: GroupId, through: LogPosition) {
        let at = self.at(group);
        self.members[at][node].failed = Some(through);
    }

    /// A node says that a snapshot is durable. Whether it takes the place of one that failed it.
    pub(crate) fn snapshot_taken(
        &mut self,
        node: usize,
        group: GroupId,
        through: LogPosition,
    ) -> bool {
        let at = self.at(group);
        let member = &mut self.members[at][node];
        let status = member.view.expect("only a running member takes snapshots").status;
        assert!(through.index <= status.applied, "a snapshot covers what is applied");
        let failed = member.failed.take() == Some(through);
        let anew = failed && through.index == member.promise.snapshot;
        assert!(anew || through.index > member.promise.snapshot, "each snapshot covers more");
        if !member.harmed {
            member.promise.snapshot = through.index;
        }
        let term = self.histories[at].term_at(status.last, through.index);
        assert_eq!(term, through.term, "a snapshot ends with an entry of its log");
        anew
    }

    /// A snapshot of the node was damaged. It may start from less: its log may hold the rest.
    pub(crate) fn snapshot_damaged(&mut self, node: usize) {
        for members in &mut self.members {
            members[node].harmed = true;
            members[node].promise.snapshot = LogIndex(0);
        }
    }

    /// An answer to a caller: it is what was applied, and nothing that was refused is.
    pub(crate) fn answered(&self, at: usize, op: u64, fate: Fate, applied: Option<&Applied<'_>>) {
        let history = &self.histories[at];
        let found = history.find(op);
        match (fate, applied) {
            (Fate::Applied, Some(Applied { index, term, reply })) => {
                let found = found.expect("acknowledged: the operation was applied");
                assert_eq!((found.index, found.term), (index.0, term.0), "acknowledged: its place");
                let stays = history.line().contains(LogPosition { index: *index, term: *term });
                assert!(
                    stays || !history.line().stands,
                    "eras: operation {op} is acknowledged, lost"
                );
                let own = crate::machine::is_reply(reply, found);
                assert!(own, "the reply is the operation's own: {reply:?}, {found:?}");
            }
            (Fate::Failed, _) => {
                assert_eq!(found, None, "operation {op} was refused and applied");
            }
            _ => {}
        }
    }

    /// What is known of a group.
    pub(crate) fn history(&self, group: GroupId) -> &History {
        &self.histories[self.at(group)]
    }

    pub(crate) fn at(&self, group: GroupId) -> usize {
        self.groups.iter().position(|known| *known == group).expect("a known group")
    }
}

//! What must hold after every step, whatever fails. A violation panics and names the invariant.
//!
//! The names in brackets are the thesis' figures and sections, or the check's number in the list
//! that this simulator works through. The checker knows no node's log by heart: by log matching, a
//! log's last position tells all of it, once it is known where each term starts and what stands
//! before ([`History::term_at`]). That is learned from the nodes that win elections, and compared
//! with every append that anyone sends.

use std::collections::BTreeMap;

use ringleader::raft::invariants::{self, Summary};
use ringleader::raft::message::{AppendOutcome, Message};
use ringleader::raft::{Configuration, Raft, RoleName, Status};
use ringleader::shard::{Applied, Shard};
use ringleader::{GroupId, LogIndex, LogPosition, NodeId, Term};

use crate::clients::{Asked, Fate};
use crate::history::History;
use crate::image::Image;
use crate::machine::AppliedOp;
use crate::prevotes::PreVotes;

#[path = "audit.rs"]
mod audit;
#[path = "configurations.rs"]
mod configurations;
#[path = "handovers.rs"]
mod handovers;

use handovers::Handovers;

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
    /// What it had promised each time that its disks were emptied. An answer that was under way then
    /// may still count.
    lost: Vec<Promise>,
    applied: u64,
    /// The last configuration that its machine was told of; none if it begins with a snapshot.
    told: Option<LogIndex>,
    /// The last entry that its disk held when that was last asked for.
    on_disk: LogPosition,
    /// The newest read round of each term that it answered.
    answered: BTreeMap<Term, u64>,
    /// The newest read round that it took for answered as a leader, and its term.
    confirmed: (Term, u64),
}

#[derive(Debug)]
pub(crate) struct Checker {
    groups: Vec<GroupId>,
    histories: Vec<History>,
    handovers: Handovers,
    /// Per group and node.
    members: Vec<Vec<Member>>,
    /// None when the run's settings have no pre-vote.
    pre_votes: Option<PreVotes>,
    steps: u64,
    /// Logs whose end was dropped, and those where that end was still being written.
    pub(crate) truncations: (u64, u64),
}

impl Checker {
    pub(crate) fn new(
        groups: &[GroupId],
        founders: &[Configuration],
        nodes: usize,
        pre_vote: bool,
    ) -> Self {
        let member = || Member { told: Some(LogIndex(0)), ..Member::default() };
        let members = || (0..nodes).map(|_| member()).collect();
        Self {
            groups: groups.to_vec(),
            histories: founders.iter().cloned().map(History::new).collect(),
            members: groups.iter().map(|_| members()).collect(),
            handovers: Handovers::default(),
            pre_votes: pre_vote.then(PreVotes::default),
            steps: 0,
            truncations: (0, 0),
        }
    }

    /// The node's process ended, in whatever way.
    pub(crate) fn crashed(&mut self, node: usize) {
        for members in &mut self.members {
            members[node].view = None;
            members[node].applied = 0;
            members[node].told = Some(LogIndex(0));
        }
    }

    /// The node starts over with nothing: what it had promised is gone.
    pub(crate) fn wiped(&mut self, node: usize) {
        for members in &mut self.members {
            let Member { promise, mut lost, .. } = std::mem::take(&mut members[node]);
            lost.push(promise);
            members[node].lost = lost;
        }
    }

    /// Something happened on a node. True if the status of a group is another one.
    pub(crate) fn observe(&mut self, node: usize, shard: &Shard) -> bool {
        let mut news = false;
        self.steps += 1;
        for at in 0..self.groups.len() {
            let Some(raft) = shard.raft(self.groups[at]) else { continue };
            let status = raft.status();
            if status.role == RoleName::Leader {
                self.confirmed(at, node, status.term, raft);
            }
            let before = self.members[at][node].view;
            if let Some(before) = before
                && before.status == status
            {
                if self.steps.is_multiple_of(DEEP_EVERY) {
                    invariants::check(raft);
                }
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
                Some(before) => self.changed(at, node, &before.status, &status),
                None => self.recovered(at, node, &status),
            }
            self.check_configuration(at, node, raft, &status);
        }
        news
    }

    /// A member came back: what it had promised must be there.
    fn recovered(&mut self, at: usize, node: usize, status: &Status) {
        let promise = self.members[at][node].promise;
        let history = &self.histories[at];
        let who = || format!("group {} node {}", self.groups[at], node + 1);
        let (latest, voted) = promise.latest;
        let invented = status.term > latest
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
        let known = history.last_committed().map_or(LogIndex(0), |last| last.index);
        assert!(status.commit <= known, "a start knows what nobody committed: {}", who());
        assert!(
            status.applied >= promise.snapshot,
            "durable snapshot: {} has applied {} and had a snapshot of {}",
            who(),
            status.applied,
            promise.snapshot
        );
        self.members[at][node].applied = status.applied.0;
        self.keep_claim(at, node, status);
    }

    fn changed(&mut self, at: usize, node: usize, before: &Status, now: &Status) {
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
        let holds = |promise: &Promise| {
            promise.durable >= position.index && history.holds(promise.last, position)
        };
        let durable = |member: &Member| holds(&member.promise) || member.lost.iter().any(&holds);
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

    /// A leader believes that a round of reads was answered by a quorum (thesis, section 6.4).
    fn confirmed(&mut self, at: usize, node: usize, term: Term, raft: &Raft) {
        let round = raft.reads().confirmed;
        let members = &mut self.members[at];
        if round == 0 || members[node].confirmed == (term, round) {
            return;
        }
        members[node].confirmed = (term, round);
        let (history, status) = (&self.histories[at], raft.status());
        let term_of = history.term_at(status.last, status.commit);
        let committed = LogPosition { index: status.commit, term: term_of };
        let answered = |other: usize| {
            let newest = members[other].answered.get(&term);
            other == node || newest.is_some_and(|newest| *newest >= round)
        };
        assert!(
            Self::has_quorum(history, committed, answered),
            "read round: node {} of group {} took round {round} of term {term} for answered",
            node + 1,
            self.groups[at]
        );
    }

    /// The term in which a node leads the group, if it does.
    pub(crate) fn leads(&self, at: usize, node: usize) -> Option<Term> {
        let status = self.members[at][node].view?.status;
        (status.role == RoleName::Leader).then_some(status.term)
    }

    /// A message leaves a node: what it says must be durable there.
    pub(crate) fn sent(&mut self, node: usize, to: usize, group: GroupId, message: &Message) {
        let at = self.at(group);
        if let Some(pre_votes) = &mut self.pre_votes {
            let last =
                self.members[at][node].view.map_or(LogPosition::default(), |v| v.status.last);
            let (_, by) = self.histories[at].in_force(last);
            pre_votes.sent(at, node, to, message, by);
        }
        let member = &mut self.members[at][node];
        let status = member.view.expect("only a running member says something").status;
        let shown = match message {
            // Pre-votes leave at once, for they promise nothing, not even their sender's term.
            Message::PreVoteRequest { .. } | Message::PreVoteResponse { .. } => Term(0),
            _ => message.term(),
        };
        member.promise.term = member.promise.term.max(shown);
        let term = message.term();
        match message {
            Message::HeartbeatResponse { round, .. } if *round > 0 => {
                let answered = member.answered.entry(term).or_default();
                *answered = (*answered).max(*round);
            }
            Message::VoteRequest { handover, .. } => {
                self.handovers.campaigns(at, node, term, *handover);
                self.voted(at, node, term, node);
            }
            Message::TimeoutNow { last, .. } => self.hands_over(at, to, term, *last),
            Message::VoteResponse { granted: true, .. } => self.voted(at, node, term, to),
            Message::AppendResponse { outcome: AppendOutcome::Matched { match_index }, .. }
                if term == status.term =>
            {
                assert!(
                    *match_index <= status.durable,
                    "acknowledged before durable: node {} of group {group}: {match_index}",
                    node + 1
                );
            }
            Message::AppendRequest { prev, blocks, .. } => {
                self.histories[at].appended(term, *prev, blocks.as_slice());
            }
            _ => {}
        }
    }

    /// A leader asks another to take over: that one's disk holds all that the leader's log does.
    fn hands_over(&mut self, at: usize, to: usize, term: Term, last: LogPosition) {
        let target = &self.members[at][to].promise;
        let has_all = target.durable >= last.index && self.histories[at].holds(target.last, last);
        let group = self.groups[at];
        assert!(has_all, "handover: node {} of group {group} lacks {last:?}", to + 1);
        self.handovers.asked(at, to, term);
    }

    /// One vote in a term, over all lives (section 3.4).
    fn voted(&mut self, at: usize, node: usize, term: Term, candidate: usize) {
        let candidate = NodeId(candidate as u64 + 1);
        let promise = &mut self.members[at][node].promise;
        match promise.vote {
            Some((before, voted)) if before == term => assert_eq!(
                voted,
                candidate,
                "one vote per term: node {} of group {} in term {term}",
                node + 1,
                self.groups[at]
            ),
            Some((before, _)) if before > term => {}
            _ => promise.vote = Some((term, candidate)),
        }
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

    /// A node says that a snapshot is durable.
    pub(crate) fn snapshot_taken(&mut self, node: usize, group: GroupId, through: LogPosition) {
        let at = self.at(group);
        let member = &mut self.members[at][node];
        let status = member.view.expect("only a running member takes snapshots").status;
        assert!(through.index <= status.applied, "a snapshot covers what is applied");
        assert!(through.index > member.promise.snapshot, "each snapshot covers more");
        member.promise.snapshot = through.index;
        let term = self.histories[at].term_at(status.last, through.index);
        assert_eq!(term, through.term, "a snapshot ends with an entry of its log");
    }

    /// A snapshot of the node was damaged. It may start from less: its log may hold the rest.
    pub(crate) fn snapshot_damaged(&mut self, node: usize) {
        self.members.iter_mut().for_each(|nodes| nodes[node].promise.snapshot = LogIndex(0));
    }

    /// An answer to a caller: it is what was applied, and nothing that was refused is.
    pub(crate) fn answered(&self, at: usize, op: u64, fate: Fate, applied: Option<&Applied<'_>>) {
        let found = self.histories[at].find(op);
        match (fate, applied) {
            (Fate::Applied, Some(Applied { index, term, reply })) => {
                let found = found.expect("acknowledged: the operation was applied");
                assert_eq!((found.index, found.term), (index.0, term.0), "acknowledged: its place");
                let own = crate::machine::reply(found.state, found.output);
                assert_eq!(*reply, own, "the reply is the operation's own");
            }
            (Fate::Failed, _) => {
                assert_eq!(found, None, "operation {op} was refused and applied");
            }
            _ => {}
        }
    }

    /// Where the operation took effect, if it did.
    pub(crate) fn place(&self, group: GroupId, op: u64) -> Option<u64> {
        Some(self.histories[self.at(group)].find(op)?.index)
    }

    fn at(&self, group: GroupId) -> usize {
        self.groups.iter().position(|known| *known == group).expect("a known group")
    }

    /// Entries that the group's members have applied, all together.
    pub(crate) fn all_applied(&self, at: usize) -> u64 {
        let views = self.members[at].iter().filter_map(|member| member.view);
        views.map(|view| view.status.applied.0).sum()
    }

    /// Why the group has not come to rest: a leader, and everything applied on all nodes whose
    /// disks are not damaged.
    pub(crate) fn unsettled(&self, at: usize, damaged: &[bool]) -> Option<String> {
        let members = &self.members[at];
        let views = members.iter().filter_map(|member| member.view);
        let longest = views.map(|view| view.status.last).max_by_key(|last| (last.term, last.index));
        let history = &self.histories[at];
        let (changed, by) = history.in_force(longest.unwrap_or_default());
        let mut statuses = Vec::new();
        let is_member = |node: usize| by.contains(NodeId(node as u64 + 1));
        let intact = members.iter().enumerate().filter(|(node, _)| !damaged[*node]);
        for (node, member) in intact.filter(|(node, _)| is_member(*node)) {
            let Some(view) = &member.view else {
                return Some(format!("node {} has not recovered", node + 1));
            };
            statuses.push(view.status);
        }
        let views = members.iter().filter_map(|member| member.view);
        let leaders = views.filter(|view| view.status.role == RoleName::Leader).count();
        let Some(first) = statuses.first().copied() else { return Some("nobody is there".into()) };
        if by.is_joint() || changed.index > first.commit {
            return Some(format!("a change of the members is under way: {by:?}, {statuses:#?}"));
        }
        let alike = statuses.iter().all(|status| {
            status.term == first.term
                && status.last == first.last
                && status.commit == first.last.index
                && status.applied == first.last.index
        });
        (leaders != 1 || !alike).then(|| format!("group {}: {statuses:#?}", self.groups[at]))
    }

    /// The group's leader, when there is exactly one.
    pub(crate) fn leader(&self, at: usize) -> Option<usize> {
        let leads =
            |member: &Member| member.view.is_some_and(|view| view.status.role == RoleName::Leader);
        let members = &self.members[at];
        let leader = members.iter().position(leads)?;
        (members.iter().filter(|member| leads(member)).count() == 1).then_some(leader)
    }

    /// Who led a group in a term.
    pub(crate) fn led(&self, at: usize, term: Term) -> Option<NodeId> {
        self.histories[at].leader_of(term)
    }

    /// The group's leader and the highest term that anybody with intact disks is in.
    pub(crate) fn reign(&self, at: usize, damaged: &[bool]) -> (Option<usize>, Option<Term>) {
        let intact = self.members[at].iter().zip(damaged).filter(|(_, damaged)| !**damaged);
        let views = intact.filter_map(|(member, _)| member.view.as_ref());
        (self.leader(at), views.map(|view| view.status.term).max())
    }

    /// At the end: every operation that a caller was told of is in the history that all share.
    /// `damaged` says who need not have it, and is none when the cluster came to no rest.
    pub(crate) fn check_end(&self, asked: &[Asked], damaged: Option<&[bool]>) {
        for (op, asked) in asked.iter().enumerate() {
            let at = self.at(asked.group);
            let found = self.histories[at].find(op as u64);
            if asked.read.is_some() {
                assert_ne!(asked.fate, Fate::Waiting, "read {op} was never answered");
                continue;
            }
            match asked.fate {
                Fate::Applied => assert!(found.is_some(), "acknowledged operation {op} is lost"),
                Fate::Failed => assert!(found.is_none(), "refused operation {op} was applied"),
                Fate::Waiting => panic!("operation {op} was never answered"),
                Fate::Unknown => {}
            }
        }
        let Some(damaged) = damaged else { return };
        for (at, history) in self.histories.iter().enumerate() {
            let members = self.members[at].iter().enumerate();
            let (_, by) = history.in_force(history.last_committed().unwrap_or_default());
            let is_member = |node: usize| by.contains(NodeId(node as u64 + 1));
            for (node, member) in members.filter(|(node, _)| !damaged[*node] && is_member(*node)) {
                assert_eq!(
                    member.applied,
                    history.last_applied(),
                    "group {} node {} has applied everything",
                    self.groups[at],
                    node + 1
                );
            }
        }
    }

    /// Entries committed and terms seen, over all groups.
    pub(crate) fn totals(&self) -> (u64, u64) {
        let committed = self.histories.iter().filter_map(History::last_committed);
        let terms: BTreeMap<usize, u64> =
            self.histories.iter().map(History::terms).enumerate().collect();
        (committed.map(|position| position.index.0).sum(), terms.values().sum())
    }
}

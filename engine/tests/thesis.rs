//! What the thesis says, section by section, and what a member does with messages that no correct
//! member sends.

mod harness;

use std::sync::Arc;
use std::time::Duration;

use harness::disk::Disk;
use harness::{GROUP, World, entry, voters};
use ringleader::raft::message::{AppendOutcome, Blocks};
use ringleader::raft::reads::{Consistency, ReadTicket};
use ringleader::raft::{
    Configuration, Event, LogOp, Message, Output, Raft, RaftConfig, RaftConfigError, RoleName,
    invariants,
};
use ringleader::time::Time;
use ringleader_wal::{Block, GroupId, HardState, LogIndex, LogPosition, NodeId, Seq, Term};

fn at(index: u64, term: u64) -> LogPosition {
    LogPosition { index: LogIndex(index), term: Term(term) }
}

/// Without pre-votes and leases, as in the thesis' chapter 3.
fn basic() -> RaftConfig {
    RaftConfig { pre_vote: false, check_quorum: false, ..RaftConfig::default() }
}

/// Member 1 of three, alone with the test.
struct Member {
    raft: Raft,
    out: Output,
    seq: Seq,
    now: Time,
}

impl Member {
    fn new(config: RaftConfig, disk: &Disk) -> Self {
        let config = Arc::new(config);
        let raft =
            Raft::new(config, GROUP, NodeId(1), voters(&[1, 2, 3]), disk.restored(), 1, Time(0));
        Self { raft, out: Output::default(), seq: Seq(0), now: Time(0) }
    }

    /// A follower of n2 in `term`.
    fn following(config: RaftConfig, terms: &[u64], term: u64) -> Self {
        let mut member = Self::new(config, &Disk::with_log(terms));
        member.step(2, heartbeat(term, 0));
        member.persist();
        member
    }

    fn leading(config: RaftConfig, terms: &[u64]) -> Self {
        let mut member = Self::new(config, &Disk::with_log(terms));
        member.timeout();
        member.persist();
        let term = member.raft.status().term;
        member.step(2, Message::VoteResponse { term, granted: true });
        assert!(member.raft.is_leader());
        member
    }

    /// The leader of a new group with these voters.
    fn leading_of(config: RaftConfig, voters: &[NodeId]) -> Self {
        let mut member = Self::new(config, &Disk::default());
        member.raft = {
            let restored = Disk::default().restored();
            Raft::new(
                Arc::new(config),
                GROUP,
                NodeId(1),
                Configuration::new(voters, &[]),
                restored,
                1,
                Time(0),
            )
        };
        member.timeout();
        member.persist();
        for voter in &voters[1..] {
            member.step(voter.0, Message::VoteResponse { term: Term(1), granted: true });
        }
        assert!(member.raft.is_leader());
        member
    }

    fn timeout(&mut self) {
        self.now = self.raft.deadline();
        self.raft.tick(self.now, &mut self.out);
    }

    /// What a message makes the member send, now or once it is durable.
    fn step(&mut self, from: u64, message: Message) -> Vec<(NodeId, Message)> {
        self.clear();
        self.raft.step(self.now, NodeId(from), message, &mut self.out);
        invariants::check(&self.raft);
        self.out.send.iter().chain(&self.out.send_when_durable).cloned().collect()
    }

    fn clear(&mut self) {
        if !self.out.log.is_empty() {
            self.seq = Seq(self.seq.0 + 1);
            self.raft.on_staged(self.seq);
        }
        self.out = Output::default();
    }

    /// Makes everything durable; what that lets the member send.
    fn persist(&mut self) -> Vec<(NodeId, Message)> {
        self.clear();
        self.raft.on_durable(self.now, self.seq, &mut self.out);
        self.out.send.clone()
    }

    fn append(&mut self, term: u64, prev: LogPosition, blocks: Vec<Block>) -> Vec<Message> {
        let (term, commit) = (Term(term), LogIndex(0));
        let blocks = blocks.into_iter().collect();
        let sent = self.step(2, Message::AppendRequest { term, prev, commit, blocks });
        sent.into_iter().map(|(_, message)| message).collect()
    }

    fn ask(&mut self, from: u64, term: u64, last: LogPosition) -> bool {
        let sent =
            self.step(from, Message::VoteRequest { term: Term(term), last, handover: false });
        matches!(sent[..], [(_, Message::VoteResponse { granted: true, .. })])
    }
}

fn heartbeat(term: u64, commit: u64) -> Message {
    Message::Heartbeat { term: Term(term), commit: LogIndex(commit), round: 0 }
}

fn matched(term: u64, match_index: u64) -> Message {
    let outcome = AppendOutcome::Matched { match_index: LogIndex(match_index) };
    Message::AppendResponse { term: Term(term), outcome }
}

fn conflict(term: u64, prev_index: u64, hint: LogPosition) -> Message {
    let outcome = AppendOutcome::Conflict { prev_index: LogIndex(prev_index), hint };
    Message::AppendResponse { term: Term(term), outcome }
}

/// "Each server will vote for at most one candidate in a given term, on a first-come-first-served
/// basis."
#[test]
fn s3_4_one_vote_per_term() {
    let mut member = Member::new(basic(), &Disk::default());
    assert!(member.ask(2, 1, at(0, 0)));
    let vote = HardState { term: Term(1), voted_for: Some(NodeId(2)) };
    assert_eq!(member.out.log, [LogOp::HardState(vote)], "term and vote are one record");
    assert_eq!(member.out.send_when_durable.len(), 1, "the vote waits for it");
    assert!(!member.ask(3, 1, at(9, 1)));
    assert!(member.ask(2, 1, at(0, 0)), "the same answer to the same question");
    assert!(member.ask(3, 2, at(0, 0)), "another term, another vote");
}

/// "If the leader's term is at least as large as the candidate's current term, then the candidate
/// recognizes the leader as legitimate and returns to follower state."
#[test]
fn s3_4_a_candidate_gives_way_to_the_leader_of_its_term() {
    let mut member = Member::new(basic(), &Disk::default());
    member.timeout();
    assert_eq!(member.raft.status().role, RoleName::Candidate);
    member.step(2, heartbeat(1, 0));
    assert_eq!(member.raft.leader(), Some(NodeId(2)));
    assert_eq!(member.raft.status().voted_for, Some(NodeId(1)), "the vote stays given");
}

/// "Each candidate restarts its randomized election timeout at the start of an election."
#[test]
fn s3_4_timeouts_are_spread_over_one_election_timeout() {
    let timeout = RaftConfig::default().election_timeout;
    let spread: Vec<_> = (0..1000)
        .map(|seed| {
            let restored = Disk::default().restored();
            let config = Arc::new(RaftConfig::default());
            let raft = Raft::new(config, GROUP, NodeId(1), voters(&[1]), restored, seed, Time(0));
            raft.deadline().since(Time(0))
        })
        .collect();
    assert!(spread.iter().all(|wait| timeout <= *wait && *wait < timeout * 2));
    let early = spread.iter().filter(|wait| **wait < timeout * 3 / 2).count();
    assert!((400..600).contains(&early), "{early} of 1000 are in the first half");
}

/// "If the follower does not find an entry in its log with the same index and term, then it refuses
/// the new entries."
#[test]
fn s3_5_entries_after_a_gap_are_refused() {
    let mut member = Member::following(basic(), &[1, 1], 1);
    let sent = member.append(1, at(3, 1), vec![entry(at(4, 1), b"x")]);
    assert_eq!(sent, [conflict(1, 3, at(2, 1))]);
    assert_eq!(member.raft.status().last, at(2, 1));
}

/// "If an existing entry conflicts with a new one (same index but different terms), delete the
/// existing entry and all that follow it" (figure 3.1), and only then.
#[test]
fn s3_5_only_a_conflict_makes_the_log_shorter() {
    let mut member = Member::following(basic(), &[1, 1, 1, 1], 2);
    member.append(2, at(1, 1), vec![]);
    assert_eq!(member.raft.status().last, at(4, 1), "an empty request removes nothing");
    member.append(2, at(1, 1), vec![entry(at(2, 1), b"2@1")]);
    assert_eq!(member.raft.status().last, at(4, 1), "nor does one that ends earlier");
    member.append(2, at(2, 1), vec![entry(at(3, 2), b"new")]);
    assert_eq!(member.raft.status().last, at(3, 2));
    assert_eq!(member.out.log[0], LogOp::Truncate(LogIndex(3)));
    assert_eq!(member.persist(), [(NodeId(2), matched(2, 3))]);
}

/// "If leaderCommit > commitIndex, set commitIndex = min(leaderCommit, index of last new entry)"
/// (figure 3.1): what follows may be left from another term.
#[test]
fn s3_5_nothing_is_committed_beyond_what_was_compared() {
    let mut member = Member::following(basic(), &[1, 1, 1], 2);
    let (prev, commit, blocks) = (at(1, 1), LogIndex(3), Blocks::None);
    member.step(2, Message::AppendRequest { term: Term(2), prev, commit, blocks });
    assert_eq!(member.raft.status().commit, LogIndex(1));
    member.step(2, heartbeat(2, 3));
    assert_eq!(member.raft.status().commit, LogIndex(1));
}

/// A leader's entries are acknowledged as far as they are durable, in one answer; the part of a
/// block that is there already is not written again.
#[test]
fn s3_5_durable_entries_are_acknowledged_once() {
    let mut member = Member::following(basic(), &[1], 1);
    assert!(member.append(1, at(1, 1), vec![entry(at(2, 1), b"a")]).is_empty());
    assert!(member.append(1, at(2, 1), vec![entry(at(3, 1), b"b")]).is_empty());
    assert_eq!(member.persist(), [(NodeId(2), matched(1, 3))]);
    assert!(member.persist().is_empty());
    assert_eq!(member.append(1, at(1, 1), vec![entry(at(2, 1), b"a")]), [matched(1, 3)]);
    assert!(member.out.log.is_empty());
}

/// "The voter denies its vote if its own log is more up-to-date than that of the candidate."
#[test]
fn s3_6_1_a_vote_needs_a_log_that_is_up_to_date() {
    for (last, granted) in
        [(at(3, 1), false), (at(1, 2), false), (at(2, 2), true), (at(3, 2), true), (at(1, 3), true)]
    {
        let mut member = Member::new(basic(), &Disk::with_log(&[1, 2]));
        assert_eq!(member.ask(2, 5, last), granted, "{last:?}");
        assert_eq!(member.raft.status().term, Term(5), "the term counts in any case");
    }
}

/// "Raft never commits log entries from previous terms by counting replicas" (figure 3.8). The empty
/// entry of a new leader commits them with it.
#[test]
fn s3_6_2_earlier_terms_are_not_committed_by_counting() {
    let mut member = Member::leading(basic(), &[1, 1, 2]);
    assert_eq!(member.raft.status().last, at(4, 3), "the empty entry");
    member.step(2, matched(3, 3));
    member.step(3, matched(3, 3));
    assert_eq!(member.raft.status().commit, LogIndex(0));
    member.step(2, matched(3, 4));
    assert_eq!(member.raft.status().commit, LogIndex(0), "the leader's disk has not written it");
    member.persist();
    assert_eq!(member.raft.status().commit, LogIndex(4));
}

/// "If a server receives a request with a stale term number, it rejects the request", showing its
/// own, so that a deposed leader steps down (section 3.3).
#[test]
fn s3_3_a_deposed_leader_is_told_the_term() {
    let mut member = Member::following(RaftConfig::default(), &[], 5);
    let sent = member.step(3, heartbeat(4, 0));
    assert_eq!(sent, [(NodeId(3), Message::HeartbeatResponse { term: Term(5), round: 0 })]);
    let mut deposed = Member::leading(basic(), &[]);
    deposed.step(2, Message::HeartbeatResponse { term: Term(9), round: 0 });
    assert_eq!(deposed.out.events, [Event::SteppedDown { term: Term(9), leader: None }]);
}

/// "Each server persists its current term and vote" and "log entries before they are counted".
#[test]
fn s3_8_a_restart_keeps_term_vote_and_log() {
    let mut world = World::empty(RaftConfig::default(), 3, 1);
    world.timeout(1);
    world.settle();
    world.propose(1, b"kept");
    world.settle();
    world.propose(1, b"never durable");
    for id in 1..=3 {
        let before = world.raft(id).status();
        world.crash(id, 0);
        world.restart(id);
        let after = world.raft(id).status();
        assert_eq!((after.term, after.voted_for), (before.term, before.voted_for));
        assert_eq!(after.last, at(2, 1));
    }
}

/// "If a server receives a RequestVote request within the minimum election timeout of hearing from
/// a current leader, it does not update its term or grant its vote."
#[test]
fn s4_2_3_a_live_leader_is_protected_for_one_election_timeout() {
    let mut member = Member::following(RaftConfig::default(), &[], 1);
    let timeout = RaftConfig::default().election_timeout;
    member.now = Time(0) + (timeout - Duration::from_nanos(1));
    assert!(
        member
            .step(3, Message::VoteRequest { term: Term(7), last: at(9, 6), handover: false })
            .is_empty()
    );
    assert_eq!(member.raft.status().term, Term(1));
    member.now = Time(0) + timeout;
    assert!(member.ask(3, 7, at(9, 6)));
}

/// The same when the protected leader is the node itself.
#[test]
fn s4_2_3_a_leader_protects_itself() {
    let mut world = World::empty(RaftConfig::default(), 3, 1);
    world.timeout(1);
    world.settle();
    world.arrive(2, 1, Message::VoteRequest { term: Term(9), last: at(9, 9), handover: false });
    assert!(world.raft(1).is_leader());
    world.arrive(2, 1, Message::PreVoteRequest { term: Term(9), last: at(9, 9) });
    assert_eq!(
        world.take(1, 2, 0),
        Some(Message::PreVoteResponse { term: Term(1), granted: false })
    );
}

/// "A leader steps down if an election timeout elapses without a successful round of heartbeats to
/// a majority of its cluster."
#[test]
fn s6_2_a_leader_without_a_quorum_steps_down() {
    for reachable in 0..=2 {
        let mut world = World::empty(RaftConfig::default(), 5, 1);
        world.timeout(1);
        world.settle();
        for peer in 2 + reachable..=5 {
            world.cut(peer, 1);
        }
        for _ in 0..11 {
            world.advance(Duration::from_millis(100));
            world.settle();
        }
        assert_eq!(world.raft(1).is_leader(), reachable == 2, "{reachable} peers answer");
    }
}

/// "A candidate only increments its term if it first learns from a majority of the cluster that
/// they would be willing to grant it their votes"; whoever says so changes nothing.
#[test]
fn s9_6_a_pre_vote_changes_no_state() {
    let mut member = Member::new(RaftConfig::default(), &Disk::default());
    for from in [2, 3] {
        let sent = member.step(from, Message::PreVoteRequest { term: Term(1), last: at(0, 0) });
        let granted = Message::PreVoteResponse { term: Term(1), granted: true };
        assert_eq!(sent, [(NodeId(from), granted)], "a yes to one is no vote against another");
    }
    assert!(member.out.log.is_empty());
    member.timeout();
    assert_eq!(member.raft.status().role, RoleName::PreCandidate);
    assert_eq!(member.raft.status().term, Term(0));
}

/// A refusal with a higher term is how a pre-candidate that missed terms gets on.
#[test]
fn s9_6_a_refusal_shows_the_term() {
    let mut member = Member::new(RaftConfig::default(), &Disk::default());
    member.timeout();
    member.step(2, Message::PreVoteResponse { term: Term(6), granted: false });
    assert_eq!(member.raft.status().term, Term(6));
    let stale = Message::PreVoteResponse { term: Term(1), granted: true };
    member.timeout();
    member.step(2, stale);
    assert_eq!(member.raft.status().role, RoleName::PreCandidate, "an answer to another round");
}

/// A candidate that nobody answers asks for pre-votes again: its term does not grow meanwhile.
#[test]
fn s9_6_a_candidate_without_votes_gives_up_and_asks_first() {
    let mut world = World::empty(RaftConfig::default(), 3, 1);
    world.timeout(1);
    world.deliver(1, 2);
    world.deliver(2, 1);
    assert_eq!(world.raft(1).status().role, RoleName::Candidate);
    world.isolate(1);
    for _ in 0..5 {
        world.timeout(1);
        world.settle();
        let status = world.raft(1).status();
        assert_eq!((status.role, status.term), (RoleName::PreCandidate, Term(1)));
    }
}

/// "The leader may even commit an entry before it has been written to the leader's own disk, if a
/// majority of followers have written it to their disks."
#[test]
fn s10_2_1_the_leaders_disk_is_one_vote() {
    let mut member = Member::leading(basic(), &[]);
    member.step(2, matched(1, 1));
    assert_eq!(member.raft.status().commit, LogIndex(0));
    member.step(3, matched(1, 1));
    assert_eq!(
        (member.raft.status().commit, member.raft.status().durable),
        (LogIndex(1), LogIndex(0))
    );
}

#[test]
fn a_single_voter_waits_for_its_disk() {
    let mut world = World::empty(RaftConfig::default(), 1, 1);
    world.timeout(1);
    assert!(!world.raft(1).is_leader());
    world.durable(1, 1);
    assert!(world.raft(1).is_leader());
    assert_eq!(world.raft(1).status().commit, LogIndex(0));
    world.durable(1, 1);
    assert_eq!(world.raft(1).status().commit, LogIndex(1));
}

/// Whatever arrives, and in whatever role, nothing panics and no promise is broken.
#[test]
fn impossible_messages_are_ignored() {
    let far = u64::MAX;
    let other_group = Block::noop(GroupId(8), at(3, 1));
    let terms = [0, 1, 2, far / 2 - 1, far / 2, far];
    let places = [at(0, 0), at(0, 9), at(1, 1), at(2, 9), at(far, 1), at(far, far)];
    let mut messages = Vec::new();
    for term in terms.map(Term) {
        for place in places {
            let (prev, last, hint, commit) = (place, place, place, place.index);
            let match_index = commit;
            let matched = AppendOutcome::Matched { match_index };
            let conflict = AppendOutcome::Conflict { prev_index: commit, hint };
            for granted in [true, false] {
                messages.push(Message::PreVoteResponse { term, granted });
                messages.push(Message::VoteResponse { term, granted });
            }
            messages.push(Message::PreVoteRequest { term, last });
            messages.push(Message::VoteRequest { term, last, handover: false });
            messages.push(Message::VoteRequest { term, last, handover: true });
            messages.push(Message::TimeoutNow { term, last });
            messages.push(Message::AppendResponse { term, outcome: matched });
            messages.push(Message::AppendResponse { term, outcome: conflict });
            for round in [0, 1, 7, u64::MAX] {
                messages.push(Message::Heartbeat { term, commit, round });
                messages.push(Message::HeartbeatResponse { term, round });
            }
            let ticket = ReadTicket(commit.0);
            for consistency in [Consistency::Linearizable, Consistency::Lease] {
                messages.push(Message::ReadRequest { term, ticket, consistency });
            }
            for index in [None, Some(commit)] {
                messages.push(Message::ReadResponse { term, ticket, index });
            }
            for block in [entry(at(3, 9), b"x"), entry(at(far - 1, 1), b"x"), other_group.clone()] {
                let blocks = Blocks::One(block);
                messages.push(Message::AppendRequest { term, prev, commit, blocks });
            }
        }
    }
    let roles: [fn() -> Member; 3] = [
        || Member::new(RaftConfig::default(), &Disk::with_log(&[1, 1])),
        || Member::following(basic(), &[1, 1], 2),
        || Member::leading(basic(), &[1, 1]),
    ];
    for role in roles {
        let mut lasting = role();
        for message in &messages {
            for from in [1, 2, 3, 4] {
                role().step(from, message.clone());
                lasting.step(from, message.clone());
            }
        }
        assert!(lasting.raft.status().ignored > 0);
    }
}

#[test]
fn a_message_of_its_own_or_of_an_absurd_term_has_no_effect() {
    let mut member = Member::following(RaftConfig::default(), &[1], 1);
    for (from, term) in [(1, 5), (3, u64::MAX), (3, u64::MAX / 2)] {
        let commit = LogIndex(0);
        assert!(
            member.step(from, Message::Heartbeat { term: Term(term), commit, round: 0 }).is_empty()
        );
        assert!(member.out.is_empty());
    }
    let status = member.raft.status();
    assert_eq!((status.term, status.ignored), (Term(1), 3));
}

#[test]
fn a_second_leader_of_the_term_is_ignored() {
    let mut member = Member::leading(basic(), &[]);
    let (prev, commit, blocks) = (at(0, 0), LogIndex(1), Blocks::None);
    member.step(3, Message::AppendRequest { term: Term(1), prev, commit, blocks });
    assert!(member.raft.is_leader() && member.raft.status().ignored == 1);
    let mut follower = Member::following(basic(), &[], 1);
    follower.step(3, Message::Heartbeat { term: Term(1), commit, round: 0 });
    assert_eq!((follower.raft.leader(), follower.raft.status().ignored), (Some(NodeId(2)), 1));
}

impl Member {
    /// Asks for a read; true if it may be served at once.
    fn read(&mut self, ticket: u64, consistency: Consistency) -> Option<u64> {
        self.clear();
        self.raft.read(self.now, ReadTicket(ticket), consistency, &mut self.out);
        self.raft.serve_reads(self.now, &mut self.out);
        self.served(ticket)
    }

    /// Where a read may be served, if the last call said so.
    fn served(&self, ticket: u64) -> Option<u64> {
        let answer = self.out.reads.iter().find(|answer| answer.ticket == ReadTicket(ticket))?;
        Some(answer.index.expect("it was not refused").0)
    }

    /// A member answers a round; what is served then.
    fn confirm(&mut self, from: u64, term: u64, round: u64) -> Vec<u64> {
        self.step(from, Message::HeartbeatResponse { term: Term(term), round });
        self.out.reads.iter().map(|answer| answer.ticket.0).collect()
    }
}

/// "If the leader has not yet marked an entry from its current term committed, it waits until it
/// has done so."
#[test]
fn s6_4_a_read_needs_the_first_entry_of_the_term() {
    let mut leader = Member::leading(basic(), &[1, 1]);
    assert_eq!(leader.raft.commit_index(), LogIndex(0));
    assert_eq!(leader.read(1, Consistency::Linearizable), None);
    assert_eq!(leader.confirm(2, 2, 1), [1]);
    assert_eq!(leader.served(1), Some(3), "the leader's first entry, which is not committed yet");
}

/// "The leader needs to make sure it hasn't been superseded by a newer leader of which it is
/// unaware. It issues a new round of heartbeats and waits for their acknowledgments from a majority
/// of the cluster."
#[test]
fn s6_4_answers_count_once_and_in_their_term() {
    let voters = [1, 2, 3, 4, 5].map(NodeId);
    let mut leader = Member::leading_of(basic(), &voters);
    assert_eq!(leader.read(1, Consistency::Linearizable), None);
    assert!(leader.confirm(2, 1, 1).is_empty());
    assert!(leader.confirm(2, 1, 1).is_empty(), "the same answer twice");
    assert!(leader.confirm(3, 0, 1).is_empty(), "an answer of another term");
    assert!(leader.confirm(3, 1, 0).is_empty(), "an answer to another heartbeat");
    assert_eq!(leader.read(2, Consistency::Linearizable), None);
    assert_eq!(leader.confirm(3, 1, 1), [1], "a round confirms what waited when it began");
    assert!(leader.confirm(4, 1, 1).is_empty());
    assert!(leader.confirm(5, 1, 2).is_empty());
    assert_eq!(leader.confirm(4, 1, 2), [2]);
}

#[test]
fn s6_4_rounds_are_bounded_and_reads_share_them() {
    let mut leader = Member::leading(basic(), &[]);
    let mut messages = 0;
    for ticket in 0..1000 {
        assert_eq!(leader.read(ticket, Consistency::Linearizable), None);
        messages += leader.out.send.len();
    }
    assert_eq!(messages, 2 * 64, "so many rounds are on their way at most");
    assert_eq!(leader.confirm(3, 1, 64), (0..64).collect::<Vec<_>>());
    assert!(leader.out.reads_wait, "the others may begin the next round");
    leader.clear();
    leader.raft.serve_reads(leader.now, &mut leader.out);
    assert_eq!(leader.out.send.len(), 2);
    assert_eq!(leader.confirm(2, 1, 65).len(), 1000 - 64);
}

#[test]
fn s6_4_a_member_asks_its_leader_and_a_leader_bounds_what_members_ask() {
    let mut follower = Member::following(basic(), &[1], 1);
    let (ticket, consistency) = (ReadTicket(9), Consistency::Linearizable);
    assert_eq!(follower.read(9, consistency), None);
    let request = Message::ReadRequest { term: Term(1), ticket, consistency };
    assert_eq!(follower.out.send, [(NodeId(2), request)]);
    let index = Some(LogIndex(1));
    follower.step(2, Message::ReadResponse { term: Term(1), ticket, index });
    assert_eq!(follower.served(9), Some(1));
    let sent = follower.step(3, Message::ReadRequest { term: Term(1), ticket, consistency });
    let refusal = Message::ReadResponse { term: Term(1), ticket, index: None };
    assert_eq!(sent, [(NodeId(3), refusal)], "a follower has no word to give");
    let mut leader = Member::leading(basic(), &[]);
    let ask = |leader: &mut Member, from, ticket| {
        let ticket = ReadTicket(ticket);
        leader.step(from, Message::ReadRequest { term: Term(1), ticket, consistency }).len()
    };
    let refused: usize = (0..1000).map(|ticket| ask(&mut leader, 2, ticket)).sum();
    assert_eq!((refused, leader.raft.reads().waiting), (1000 - 64, 64));
    assert_eq!(ask(&mut leader, 3, 1), 0, "others are not kept out");
}

/// "The leader's lease would last from `start` to `start + election timeout / clock drift bound`",
/// `start` being when the heartbeats were sent.
#[test]
fn s6_4_1_a_lease_lasts_from_when_its_round_began() {
    let drift = Duration::from_millis(200);
    let mut leader = Member::leading(
        RaftConfig { lease_reads: Some(drift), pre_vote: false, ..RaftConfig::default() },
        &[],
    );
    let ms = Duration::from_millis;
    assert_eq!(leader.read(1, Consistency::Lease), None, "no lease yet: this begins a round");
    let began = leader.now;
    leader.now = began + ms(300);
    leader.raft.tick(leader.now, &mut leader.out);
    assert_eq!(leader.confirm(2, 1, 1), [1]);
    assert_eq!(leader.raft.reads().lease_until, Some(began + ms(800)));
    leader.now = began + ms(799);
    assert_eq!(leader.read(2, Consistency::Lease), Some(1));
    assert_eq!(leader.read(3, Consistency::Linearizable), None, "it asks all the same");
    leader.now = began + ms(800);
    assert_eq!(leader.read(4, Consistency::Lease), None, "the lease has ended");
    leader.confirm(3, 1, 4);
    assert!(leader.raft.reads().lease_until > Some(began + ms(1500)));
    leader.raft.give_up_lease();
    assert_eq!(leader.raft.reads().lease_until, None);
    assert_eq!(leader.read(5, Consistency::Lease), None, "it was given up");
}

/// What a lease rests on is promised to the leader, whatever a member learns and lives through.
#[test]
fn s6_4_1_nothing_but_time_ends_the_promise_that_leases_rest_on() {
    let config = RaftConfig {
        lease_reads: Some(Duration::from_millis(1)),
        pre_vote: false,
        ..RaftConfig::default()
    };
    // A later term, learned from somebody's late answer.
    let mut follower = Member::following(config, &[1], 1);
    follower.step(3, Message::VoteResponse { term: Term(2), granted: false });
    assert_eq!(follower.raft.term(), Term(2));
    assert!(!follower.ask(3, 2, at(1, 1)));
    follower.now = follower.now + config.election_timeout;
    assert!(follower.ask(3, 2, at(1, 1)));
    // A restart.
    let mut restarted = Member::new(config, &Disk::with_log(&[1]));
    assert!(!restarted.ask(3, 2, at(1, 1)));
    restarted.now = restarted.now + config.election_timeout;
    assert!(restarted.ask(3, 2, at(1, 1)));
    // Who never took part promised nothing.
    assert!(Member::new(config, &Disk::default()).ask(3, 2, at(0, 0)));
}

/// Who votes for the target of a transfer breaks the promise that the lease rests on.
#[test]
fn s6_4_1_a_leader_that_hands_over_gives_up_its_lease() {
    let lease_reads = Some(Duration::from_millis(1));
    let config = RaftConfig { lease_reads, pre_vote: false, ..RaftConfig::default() };
    let mut leader = Member::leading(config, &[]);
    leader.persist();
    leader.step(2, matched(1, 1));
    assert_eq!(leader.read(1, Consistency::Lease), None);
    assert_eq!(leader.confirm(2, 1, 1), [1]);
    assert_eq!(leader.read(2, Consistency::Lease), Some(1));
    leader.clear();
    let to = leader.raft.transfer(leader.now, Some(NodeId(2)), &mut leader.out);
    assert_eq!(to, Ok(NodeId(2)));
    assert!(matches!(leader.out.send[..], [(NodeId(2), Message::TimeoutNow { .. })]));
    assert_eq!(leader.raft.reads().lease_until, None);
    assert_eq!(leader.read(3, Consistency::Lease), None);
}

#[test]
fn s6_4_1_a_lease_needs_a_quorum_to_promise_and_must_outlast_a_heartbeat() {
    let config = |check_quorum, drift| RaftConfig {
        check_quorum,
        lease_reads: Some(Duration::from_millis(drift)),
        ..RaftConfig::default()
    };
    assert_eq!(config(false, 1).validate(), Err(RaftConfigError::LeaseWithoutQuorum));
    assert_eq!(config(true, 900).validate(), Err(RaftConfigError::LeaseTooShort));
    assert_eq!(config(true, 899).validate(), Ok(()));
}

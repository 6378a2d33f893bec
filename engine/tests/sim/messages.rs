//! What leaves a node, and what must be true of it then: the part of the checker that reads messages.

use ringleader::raft::message::{AppendOutcome, Message};
use ringleader::{GroupId, LogPosition, NodeId, Term};

use super::{Checker, OwnTime};

impl Checker {
    /// A message leaves a node: what it says must be durable there. `own` is what the clocks of
    /// both show.
    pub(crate) fn sent(
        &mut self,
        (node, to): (usize, usize),
        own: (OwnTime, OwnTime),
        group: GroupId,
        message: &Message,
    ) {
        let at = self.at(group);
        if let Some(pre_votes) = &mut self.pre_votes {
            let last =
                self.members[at][node].view.map_or(LogPosition::default(), |v| v.status.last);
            let (_, by) = self.histories[at].in_force(last);
            pre_votes.sent(at, node, to, message, by);
        }
        // What others do because of it counts, too, if it is destroyed in the very turn in which it
        // asks or answers.
        match message {
            Message::Heartbeat { term, round, .. } if *round > 0 => {
                self.round_asked(at, to, (*term, *round), own.0.time, own.1);
            }
            Message::HeartbeatResponse { term, round } if *round > 0 => {
                self.round_answered(at, node, *term, *round);
            }
            Message::TimeoutNow { term, last } => self.hands_over(at, to, *term, *last),
            _ => {}
        }
        let member = &mut self.members[at][node];
        if member.destroyed {
            return;
        }
        let status = member.view.expect("only a running member says something").status;
        let shown = match message {
            // Pre-votes leave at once, for they promise nothing, not even their sender's term.
            Message::PreVoteRequest { .. } | Message::PreVoteResponse { .. } => Term(0),
            _ => message.term(),
        };
        member.promise.term = member.promise.term.max(shown);
        let term = message.term();
        if says_to_lead(message) {
            let leader = self.histories[at].leader_of(term);
            assert_eq!(
                leader,
                Some(NodeId(node as u64 + 1)),
                "a leader's message: node {} of group {group} speaks as one in term {term}",
                node + 1
            );
        }
        match message {
            Message::VoteRequest { handover, .. } => {
                self.handovers.campaigns(at, node, term, *handover);
                self.voted(at, node, term, node);
            }
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
                self.streams.sent((at, node, to), term, *prev, blocks.as_slice());
            }
            _ => {}
        }
    }

    /// A leader asks another to take over: that one's disk holds all that the leader's log does.
    fn hands_over(&mut self, at: usize, to: usize, term: Term, last: LogPosition) {
        let has_all = self.members[at][to].made_durable(&self.histories[at], last);
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
}

/// Whether only the leader of its term sends such a message.
fn says_to_lead(message: &Message) -> bool {
    use Message::{AppendRequest, Heartbeat, SnapshotPiece, TimeoutNow};
    matches!(
        message,
        AppendRequest { .. } | Heartbeat { .. } | SnapshotPiece { .. } | TimeoutNow { .. }
    )
}

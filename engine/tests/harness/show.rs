//! Messages and effects as one line each.

use ringleader::raft::message::{AppendOutcome, Blocks};
use ringleader::raft::{Event, LogOp, Message};
use ringleader_wal::{Block, BlockKind, LogPosition, NodeId};

pub fn position(at: LogPosition) -> String {
    format!("{}@{}", at.index, at.term)
}

pub fn node(node: Option<NodeId>) -> String {
    node.map_or_else(|| "nobody".to_owned(), |id| format!("n{id}"))
}

fn block(block: &Block) -> String {
    let (first, last) = (block.first_index(), block.last_index());
    let range = if first == last { format!("{first}") } else { format!("{first}..{last}") };
    let noop = if block.kind() == BlockKind::Noop { " noop" } else { "" };
    format!("[{range}@{}{noop}]", block.term())
}

fn blocks(blocks: &Blocks) -> String {
    let shown: Vec<_> = blocks.as_slice().iter().map(block).collect();
    if shown.is_empty() { "[]".to_owned() } else { shown.join("") }
}

pub fn message(message: &Message) -> String {
    let answer = |granted: &bool| if *granted { "granted" } else { "refused" };
    match message {
        Message::PreVoteRequest { term, last } => {
            format!("PreVoteRequest t{term} last {}", position(*last))
        }
        Message::PreVoteResponse { term, granted } => {
            format!("PreVoteResponse t{term} {}", answer(granted))
        }
        Message::VoteRequest { term, last } => {
            format!("VoteRequest t{term} last {}", position(*last))
        }
        Message::VoteResponse { term, granted } => {
            format!("VoteResponse t{term} {}", answer(granted))
        }
        Message::AppendRequest { term, prev, commit, blocks: carried } => {
            let prev = position(*prev);
            format!("AppendRequest t{term} prev {prev} {} commit {commit}", blocks(carried))
        }
        Message::AppendResponse { term, outcome: AppendOutcome::Matched { match_index } } => {
            format!("AppendResponse t{term} matched {match_index}")
        }
        Message::AppendResponse { term, outcome: AppendOutcome::Conflict { prev_index, hint } } => {
            format!("AppendResponse t{term} conflict at {prev_index}, hint {}", position(*hint))
        }
        Message::Heartbeat { term, commit } => format!("Heartbeat t{term} commit {commit}"),
        Message::HeartbeatResponse { term } => format!("HeartbeatResponse t{term}"),
    }
}

pub fn log_op(op: &LogOp) -> String {
    match op {
        LogOp::Truncate(from) => format!("truncate {from}"),
        LogOp::Append(appended) => format!("append {}", block(appended)),
        LogOp::HardState(hs) => format!("term {} vote {}", hs.term, node(hs.voted_for)),
    }
}

pub fn event(event: &Event) -> String {
    match event {
        Event::BecameLeader { term } => format!("leads in term {term}"),
        Event::SteppedDown { term, leader } => {
            format!("steps down in term {term}, leader {}", node(*leader))
        }
        Event::LeaderChanged { term, leader } => {
            format!("follows {} in term {term}", node(*leader))
        }
    }
}

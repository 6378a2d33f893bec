//! Messages and effects as one line each.

use ringleader::raft::message::{AppendOutcome, Blocks};
use ringleader::raft::reads::ReadAnswer;
use ringleader::raft::{Configuration, Event, LogOp, Message};
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
    let what = match block.kind() {
        BlockKind::Operations => String::new(),
        BlockKind::Noop => " noop".into(),
        BlockKind::Configuration => {
            let read = Configuration::of_entry(block.payload(first)).expect("a configuration");
            format!(" {}", configuration(&read))
        }
    };
    format!("[{range}@{}{what}]", block.term())
}

pub fn configuration(configuration: &Configuration) -> String {
    let list = |nodes: &[NodeId]| {
        nodes.iter().map(|node| format!("n{node}")).collect::<Vec<_>>().join(" ")
    };
    let mut shown = format!("voters {}", list(configuration.voters()));
    if configuration.is_joint() {
        shown += &format!(", outgoing {}", list(configuration.outgoing()));
    }
    if !configuration.learners().is_empty() {
        shown += &format!(", learners {}", list(configuration.learners()));
    }
    shown
}

fn blocks(blocks: &Blocks) -> String {
    let shown: Vec<_> = blocks.as_slice().iter().map(block).collect();
    if shown.is_empty() { "[]".to_owned() } else { shown.join("") }
}

fn in_round(round: u64) -> String {
    if round == 0 { String::new() } else { format!(" round {round}") }
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
        Message::VoteRequest { term, last, handover } => {
            let asked = if *handover { " as asked" } else { "" };
            format!("VoteRequest t{term} last {}{asked}", position(*last))
        }
        Message::Rest { term, last } => format!("Rest t{term} last {}", position(*last)),
        Message::Wake { term } => format!("Wake t{term}"),
        Message::TimeoutNow { term, last } => {
            format!("TimeoutNow t{term} last {}", position(*last))
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
        Message::Heartbeat { term, commit, round } => {
            format!("Heartbeat t{term} commit {commit}{}", in_round(*round))
        }
        Message::HeartbeatResponse { term, round } => {
            format!("HeartbeatResponse t{term}{}", in_round(*round))
        }
        Message::ReadRequest { term, ticket, consistency } => {
            format!("ReadRequest t{term} {} {consistency:?}", ticket.0)
        }
        Message::ReadResponse { term, ticket, index: Some(index) } => {
            format!("ReadResponse t{term} {} from {index} on", ticket.0)
        }
        Message::ReadResponse { term, ticket, index: None } => {
            format!("ReadResponse t{term} {} refused", ticket.0)
        }
        Message::SnapshotPiece { term, id, .. } => {
            format!("SnapshotPiece t{term} of {}", position(id.at))
        }
        Message::SnapshotAnswer { term, id, next } => {
            format!("SnapshotAnswer t{term} of {}, next {next}", position(id.at))
        }
    }
}

pub fn read(answer: &ReadAnswer) -> String {
    match answer.index {
        Some(index) => format!("may serve read {} from {index} on", answer.ticket.0),
        None => format!("has nobody to ask for read {}", answer.ticket.0),
    }
}

pub fn log_op(op: &LogOp) -> String {
    match op {
        LogOp::Truncate(from) => format!("truncate {from}"),
        LogOp::Append(appended) => format!("append {}", block(appended)),
        LogOp::Release(through) => format!("release {}", position(*through)),
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
        Event::Reconfigured => "has other members".into(),
        Event::MembersChanged { at } => format!("changed the members by {at}"),
        Event::MembersReset { at } => format!("sets the members anew at {at}"),
        Event::EraBegan { term } => format!("hears of a reset, in term {term}"),
        Event::ChangeGivenUp { node } => format!("gives the change up because of n{node}"),
    }
}

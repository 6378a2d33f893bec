//! How log entries and what goes with them are written, in the log and between nodes alike: integers
//! little-endian, an operation's bytes as they are. Reading leaves them where they are.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Buf, BufMut, Bytes};
use openraft::EmptyNode;

use crate::types::{Data, Entry, LeaderId, LogId, Membership, Payload, Vote};

const BLANK: u8 = 0;
const NORMAL: u8 = 1;
const MEMBERSHIP: u8 = 2;

pub(crate) fn put_log_id(to: &mut Vec<u8>, id: LogId) {
    to.put_u64_le(id.leader_id.term);
    to.put_u64_le(id.leader_id.node_id);
    to.put_u64_le(id.index);
}

pub(crate) fn log_id(from: &mut Bytes) -> LogId {
    let (term, node_id) = (from.get_u64_le(), from.get_u64_le());
    LogId::new(LeaderId { term, node_id }, from.get_u64_le())
}

pub(crate) fn put_last(to: &mut Vec<u8>, id: Option<LogId>) {
    to.put_u8(id.is_some().into());
    if let Some(id) = id {
        put_log_id(to, id);
    }
}

pub(crate) fn last(from: &mut Bytes) -> Option<LogId> {
    (from.get_u8() != 0).then(|| log_id(from))
}

pub(crate) fn put_vote(to: &mut Vec<u8>, vote: &Vote) {
    to.put_u64_le(vote.leader_id.term);
    to.put_u64_le(vote.leader_id.node_id);
    to.put_u8(vote.committed.into());
}

pub(crate) fn vote(from: &mut Bytes) -> Vote {
    let (term, node_id) = (from.get_u64_le(), from.get_u64_le());
    Vote { leader_id: LeaderId { term, node_id }, committed: from.get_u8() != 0 }
}

pub(crate) fn put_entry(to: &mut Vec<u8>, entry: &Entry) {
    put_log_id(to, entry.log_id);
    match &entry.payload {
        Payload::Blank => to.put_u8(BLANK),
        Payload::Normal(Data(data)) => {
            to.put_u8(NORMAL);
            to.put_u32_le(data.len() as u32);
            to.put_slice(data);
        }
        Payload::Membership(membership) => {
            to.put_u8(MEMBERSHIP);
            put_membership(to, membership);
        }
    }
}

pub(crate) fn entry(from: &mut Bytes) -> Entry {
    let log_id = log_id(from);
    let payload = match from.get_u8() {
        BLANK => Payload::Blank,
        NORMAL => {
            let length = from.get_u32_le() as usize;
            Payload::Normal(Data(from.split_to(length)))
        }
        MEMBERSHIP => Payload::Membership(membership(from)),
        kind => panic!("no entry is of kind {kind}"),
    };
    Entry { log_id, payload }
}

fn put_membership(to: &mut Vec<u8>, membership: &Membership) {
    to.put_u32_le(membership.get_joint_config().len() as u32);
    for voters in membership.get_joint_config() {
        to.put_u32_le(voters.len() as u32);
        voters.iter().for_each(|&id| to.put_u64_le(id));
    }
}

/// All members are voters here.
fn membership(from: &mut Bytes) -> Membership {
    let mut configs = Vec::new();
    for _ in 0..from.get_u32_le() {
        let count = from.get_u32_le();
        configs.push((0..count).map(|_| from.get_u64_le()).collect::<BTreeSet<u64>>());
    }
    let nodes = configs.iter().flatten().map(|&id| (id, EmptyNode {}));
    let nodes: BTreeMap<u64, EmptyNode> = nodes.collect();
    Membership::new(configs, nodes).expect("it was one when it was written")
}

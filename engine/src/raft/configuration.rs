//! Who the members of a group are (thesis, chapter 4), and how that is written down.
//!
//! A member is known by its node's number and by its data directory ([`DataId`]), on which what it
//! promises rests: a node that lost its directory is not the member any more, whatever its number.
//! Where a node can be reached is the business of the connections, is the same for all of its groups
//! and changes without them, so no address is in a group's log.
//!
//! Whoever founds a group knows numbers alone, and so does who asks for a change of the members: a
//! directory is unknown (0) until a leader has met the node, and names it in the next entry about
//! the members (`Leader::identify`). It is never changed for a member, only unknown or known.
//!
//! Encoded, little-endian:
//!
//! ```text
//! 0         2              4         8
//! +---------+--------------+---------+---------------------------------------------------------+
//! | version | record bytes | members | members x (node: u64, roles: u8, zero: 7 x u8, data: u128) |
//! +---------+--------------+---------+---------------------------------------------------------+
//! ```
//!
//! in ascending order of the nodes. A later version may have longer records. This is version 2;
//! version 1 had no directories, and is refused.

use std::collections::BTreeMap;
use std::sync::Arc;

use ringleader_net::DataId;
use ringleader_wal::NodeId;
use serde::{Deserialize, Serialize};

use super::quorum::MAX_VOTERS;
use super::status::Membership;

/// The most learners that a configuration may have.
pub const MAX_LEARNERS: usize = 32;

/// The members of a group. In joint consensus (thesis, section 4.3) `outgoing` are the voters
/// before the change; otherwise it is empty. Without voters it says that nothing is known of the
/// group yet: so a node begins that waits to be added to it.
///
/// Cloning it is cheap, and clones share their memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Lists", into = "Lists")]
pub struct Configuration(Arc<Lists>);

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Lists {
    voters: Box<[NodeId]>,
    outgoing: Box<[NodeId]>,
    learners: Box<[NodeId]>,
    /// Of the members whose data directory is known, ascending.
    #[serde(default)]
    identities: Box<[Identity]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Identity {
    node: NodeId,
    data: DataId,
}

impl From<Lists> for Configuration {
    fn from(lists: Lists) -> Self {
        Self(Arc::new(lists))
    }
}

impl From<Configuration> for Lists {
    fn from(configuration: Configuration) -> Self {
        Arc::unwrap_or_clone(configuration.0)
    }
}

/// Why bytes are not a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a configuration: {0}")]
pub struct ConfigurationError(&'static str);

const VERSION: u16 = 2;
const HEADER_BYTES: usize = 8;
const RECORD_BYTES: usize = 32;
const MAX_MEMBERS: usize = 2 * MAX_VOTERS + MAX_LEARNERS;

/// Bits of a record's roles.
const VOTER: u8 = 1;
const OUTGOING: u8 = 2;
const LEARNER: u8 = 4;

impl Configuration {
    /// The configuration in which `voters` decide, together with `outgoing` unless that is empty.
    ///
    /// # Panics
    /// When either has more than [`MAX_VOTERS`] members.
    #[must_use]
    pub fn new(voters: &[NodeId], outgoing: &[NodeId]) -> Self {
        let [voters, outgoing] = [voters, outgoing].map(sorted);
        assert!(voters.len().max(outgoing.len()) <= MAX_VOTERS, "at most {MAX_VOTERS} voters");
        Lists { voters, outgoing, ..Lists::default() }.into()
    }

    /// The same with `learners`, who get the log and have no vote. One of the outgoing voters may
    /// be a learner: it is one after the change.
    ///
    /// # Panics
    /// When there are more than [`MAX_LEARNERS`], or one of them is among the voters.
    #[must_use]
    pub fn with_learners(self, learners: &[NodeId]) -> Self {
        let learners = sorted(learners);
        assert!(learners.len() <= MAX_LEARNERS, "at most {MAX_LEARNERS} learners");
        assert!(!learners.iter().any(|node| self.voters().contains(node)), "a learner has no vote");
        Lists { learners, ..self.into() }.into()
    }

    /// The same with the data directories of its members as `data` tells them, and no others.
    #[must_use]
    pub fn identified(&self, data: impl Fn(NodeId) -> Option<DataId>) -> Self {
        let known = self.members().filter_map(|node| Some(Identity { node, data: data(node)? }));
        let mut identities: Vec<_> = known.collect();
        identities.sort_unstable_by_key(|identity| identity.node);
        if *identities == *self.0.identities {
            return self.clone();
        }
        Lists { identities: identities.into(), ..self.clone().into() }.into()
    }

    /// Which data directory the promises of a member rest on; none if that is not known yet.
    #[must_use]
    pub fn data(&self, node: NodeId) -> Option<DataId> {
        let known = self.0.identities.iter().find(|identity| identity.node == node);
        known.map(|identity| identity.data)
    }

    /// The members whose data directory is known.
    pub fn identities(&self) -> impl ExactSizeIterator<Item = (NodeId, DataId)> + '_ {
        self.0.identities.iter().map(|Identity { node, data }| (*node, *data))
    }

    /// Whether the data directories of all members are known.
    #[must_use]
    pub fn is_identified(&self) -> bool {
        self.0.identities.len() == self.members().count()
    }

    /// Whether both have the same members, in the same roles, whatever is known of their data.
    pub(crate) fn is_alike(&self, other: &Self) -> bool {
        let [own, others] = [self, other].map(|it| (it.voters(), it.outgoing(), it.learners()));
        own == others
    }

    /// Shares the memory of the `last` one that was seen if this is the same, and is the last then.
    pub(crate) fn share(&mut self, last: &mut Self) {
        if self == last {
            *self = last.clone();
        } else {
            *last = self.clone();
        }
    }

    /// The voters, ascending; in joint consensus those after the change.
    #[must_use]
    pub fn voters(&self) -> &[NodeId] {
        &self.0.voters
    }

    /// In joint consensus the voters before the change, ascending.
    #[must_use]
    pub fn outgoing(&self) -> &[NodeId] {
        &self.0.outgoing
    }

    /// The learners, ascending.
    #[must_use]
    pub fn learners(&self) -> &[NodeId] {
        &self.0.learners
    }

    /// Whether the voters before and after a change decide together.
    #[must_use]
    pub fn is_joint(&self) -> bool {
        !self.0.outgoing.is_empty()
    }

    /// Whether nothing is known of the group's members.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.voters.is_empty()
    }

    /// Whether `node` has a vote.
    #[must_use]
    pub fn has_vote(&self, node: NodeId) -> bool {
        self.0.voters.contains(&node) || self.0.outgoing.contains(&node)
    }

    /// Whether `node` is a member: has a vote or is a learner.
    #[must_use]
    pub fn contains(&self, node: NodeId) -> bool {
        self.has_vote(node) || self.0.learners.contains(&node)
    }

    /// What `node` is.
    #[must_use]
    pub fn membership(&self, node: NodeId) -> Membership {
        match node {
            _ if self.has_vote(node) => Membership::Voter,
            _ if self.contains(node) => Membership::Learner,
            _ => Membership::None,
        }
    }

    /// Everyone who has a vote, each once.
    pub fn deciders(&self) -> impl Iterator<Item = NodeId> + '_ {
        let leaving = self.outgoing().iter().filter(|node| !self.voters().contains(node));
        self.voters().iter().chain(leaving).copied()
    }

    /// Every member, each once: first those who have a vote.
    pub fn members(&self) -> impl Iterator<Item = NodeId> + '_ {
        let learners = self.learners().iter().filter(|node| !self.outgoing().contains(node));
        self.deciders().chain(learners.copied())
    }

    /// The configuration as it is written into the log.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut roles: BTreeMap<NodeId, u8> = BTreeMap::new();
        let Lists { voters, outgoing, learners, .. } = &*self.0;
        let lists = [(voters, VOTER), (outgoing, OUTGOING), (learners, LEARNER)];
        for (nodes, role) in lists {
            nodes.iter().for_each(|node| *roles.entry(*node).or_default() |= role);
        }
        let mut bytes = Vec::with_capacity(HEADER_BYTES + RECORD_BYTES * roles.len());
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&(RECORD_BYTES as u16).to_le_bytes());
        bytes.extend_from_slice(&(roles.len() as u32).to_le_bytes());
        for (node, roles) in roles {
            let data = self.data(node).unwrap_or(DataId(0));
            bytes.extend_from_slice(&node.0.to_le_bytes());
            bytes.extend_from_slice(&u64::from(roles).to_le_bytes());
            bytes.extend_from_slice(&data.0.to_le_bytes());
        }
        bytes
    }

    /// Reads the payload of a configuration entry. Unlike what a snapshot may say, it names voters:
    /// a group that nobody decides for could never change that.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn of_entry(payload: &[u8]) -> Result<Self, ConfigurationError> {
        let configuration = Self::decode(payload)?;
        if configuration.is_empty() {
            return Err(ConfigurationError("without voters"));
        }
        Ok(configuration)
    }

    /// Reads what [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    /// Says what is wrong. Nothing is allocated for more members than a configuration can have.
    pub fn decode(bytes: &[u8]) -> Result<Self, ConfigurationError> {
        let error = |what| Err(ConfigurationError(what));
        let Some((header, records)) = bytes.split_at_checked(HEADER_BYTES) else {
            return error("cut short");
        };
        let half = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
        match (half(0), usize::from(half(2))) {
            (VERSION, RECORD_BYTES) => {}
            (1, _) => return error("of version 1, of an earlier build; this one reads version 2"),
            _ => return error("of an unknown version"),
        }
        let count = u32::from_le_bytes([header[4], header[5], header[6], header[7]]) as usize;
        if count > MAX_MEMBERS || records.len() != count * RECORD_BYTES {
            return error("too many members, or not as many as announced");
        }
        let mut lists = [const { Vec::new() }; 3];
        let mut identities = Vec::new();
        let mut last = NodeId(0);
        for record in records.chunks_exact(RECORD_BYTES) {
            let (node, roles, data) = record_of(record);
            if node <= last {
                return error("its members are not in order");
            }
            last = node;
            if data != DataId(0) {
                identities.push(Identity { node, data });
            }
            if !matches!(roles, 1..=4 | 6) {
                return error("a member with an impossible role");
            }
            for (list, bit) in lists.iter_mut().zip([VOTER, OUTGOING, LEARNER]) {
                if roles & u64::from(bit) != 0 {
                    list.push(node);
                }
            }
        }
        let [voters, outgoing, learners] = lists;
        if voters.len().max(outgoing.len()) > MAX_VOTERS || learners.len() > MAX_LEARNERS {
            return error("too many voters or learners");
        }
        if voters.is_empty() && count > 0 {
            return error("without voters");
        }
        let (voters, outgoing, learners) = (voters.into(), outgoing.into(), learners.into());
        Ok(Lists { voters, outgoing, learners, identities: identities.into() }.into())
    }
}

fn record_of(record: &[u8]) -> (NodeId, u64, DataId) {
    let word = |at: usize| u64::from_le_bytes(record[at..at + 8].try_into().expect("eight bytes"));
    let data = u128::from(word(24)) << 64 | u128::from(word(16));
    (NodeId(word(0)), word(8), DataId(data))
}

fn sorted(nodes: &[NodeId]) -> Box<[NodeId]> {
    let mut nodes = nodes.to_vec();
    nodes.sort_unstable();
    nodes.dedup();
    nodes.into()
}

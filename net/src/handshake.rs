//! Who may talk to whom: checked once, before a connection carries anything else.
//!
//! The dialing shard sends a [`Hello`], the other side answers with a [`Reply`]; until then
//! neither sends anything else. A refusal carries a code for the program and a sentence for
//! people, which both sides log: the node that is configured wrongly is often not the one whose
//! log is being read.
//!
//! Nothing here is a secret: the handshake finds mistakes (the wrong cluster, an address that now
//! belongs to another node, settings that differ), not attackers. See [`wire`] for the bytes.

use std::collections::BTreeMap;
use std::fmt;

use crate::book::{DataId, DataReplaced};
use crate::frame::FrameKind;
use crate::{Endpoint, PeerNode};

pub mod wire;

/// Oldest protocol that this build speaks.
pub const PROTOCOL_MIN: u16 = 2;

/// Newest protocol that this build speaks.
pub const PROTOCOL_MAX: u16 = 2;

/// What a connection is for, as one of its ends sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// The traffic of the groups, both ways. One per pair of shards, dialed by the node with the
    /// lower number.
    Consensus,
    /// Bulk data to the peer, dialed from here.
    BulkOut,
    /// Bulk data from the peer, dialed from there.
    BulkIn,
}

impl Lane {
    /// All lanes.
    pub const ALL: [Self; 3] = [Self::Consensus, Self::BulkOut, Self::BulkIn];

    /// The same connection as the other end sees it.
    #[must_use]
    pub fn other_end(self) -> Self {
        match self {
            Self::Consensus => Self::Consensus,
            Self::BulkOut => Self::BulkIn,
            Self::BulkIn => Self::BulkOut,
        }
    }

    /// Whether a frame of this kind may arrive on an established connection.
    #[must_use]
    pub fn admits(self, kind: FrameKind) -> bool {
        match self {
            Self::Consensus => matches!(kind, FrameKind::Consensus | FrameKind::Client),
            Self::BulkOut => false,
            Self::BulkIn => kind == FrameKind::Snapshot,
        }
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Consensus => "consensus",
            Self::BulkOut => "bulk, to the peer",
            Self::BulkIn => "bulk, from the peer",
        })
    }
}

/// What a dialing shard says about itself and about whom it wants to reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Oldest protocol that the caller speaks.
    pub protocol_min: u16,
    /// Newest protocol that the caller speaks.
    pub protocol_max: u16,
    /// The caller's cluster.
    pub cluster: u64,
    /// The caller.
    pub from: Endpoint,
    /// How many shards the caller's node has.
    pub from_shards: u32,
    /// Whom the caller wants to reach.
    pub to: Endpoint,
    /// What the connection is to be for, as the caller sees it; none if this build doesn't know
    /// the number.
    pub lane: Option<Lane>,
    /// The caller's data directory.
    pub data: DataId,
    /// What the caller knows the wanted node with, if it does.
    pub expects: Option<DataId>,
    /// Fingerprint of the settings that all nodes must agree on.
    pub fingerprint: u64,
    /// The life of the caller's process, see [`Identity::incarnation`].
    pub incarnation: u64,
    /// The caller's count of its attempts to connect; rises within one incarnation.
    pub attempt: u64,
}

/// What a node is, for the whole life of its process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster that the node belongs to.
    pub cluster: u64,
    /// The node's own number.
    pub node: u64,
    /// How many shards the node runs.
    pub shards: u32,
    /// The node's data directory.
    pub data: DataId,
    /// Fingerprint of the settings that all nodes must agree on.
    pub fingerprint: u64,
    /// A number that this life of the process doesn't share with an earlier one (random, or the
    /// time of the start). Tells a restart from a reconnect; nothing is inferred from its order.
    pub incarnation: u64,
}

/// What a node knows when it judges a [`Hello`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Local {
    /// The node itself.
    pub identity: Identity,
    /// The other members, and how many shards each has.
    pub members: BTreeMap<u64, u32>,
}

/// A [`Hello`] that passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accept {
    /// The newest protocol that both sides speak.
    pub protocol: u16,
    /// The caller.
    pub from: Endpoint,
    /// The local shard that the caller wants.
    pub to_shard: u32,
    /// What the connection is for, as this side sees it.
    pub lane: Lane,
}

/// The answer to a [`Hello`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The connection is established.
    Accepted(Accepted),
    /// The connection is closed after this.
    Refused {
        /// The reason, for a program.
        code: RefusalCode,
        /// The reason, for people.
        sentence: String,
    },
}

/// What the accepting side tells about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The protocol to speak from now on.
    pub protocol: u16,
    /// How many shards the accepting node has.
    pub shards: u32,
    /// The accepting node's data directory.
    pub data: DataId,
    /// The life of the accepting process.
    pub incarnation: u64,
}

/// Why a caller is turned away. Each says what both sides believe; `Display` is the sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No protocol in common.
    #[error(
        "this node speaks protocols {PROTOCOL_MIN} to {PROTOCOL_MAX}, the caller {min} to {max}"
    )]
    Protocol {
        /// Oldest protocol of the caller.
        min: u16,
        /// Newest protocol of the caller.
        max: u16,
    },
    /// The caller belongs to another cluster.
    #[error("this node is {node} of cluster {cluster}, the caller belongs to cluster {theirs}")]
    Cluster {
        /// This node.
        node: u64,
        /// This node's cluster.
        cluster: u64,
        /// The caller's cluster.
        theirs: u64,
    },
    /// The caller runs under this node's number: it reached itself, or two nodes share a number.
    #[error("this node is {node} of cluster {cluster}, and so says the caller of itself")]
    SelfConnection {
        /// This node.
        node: u64,
        /// This node's cluster.
        cluster: u64,
    },
    /// The caller wanted a node that isn't at this address.
    #[error("this node is {node} of cluster {cluster}, the caller wanted node {wanted}")]
    WrongNode {
        /// This node.
        node: u64,
        /// This node's cluster.
        cluster: u64,
        /// The node that the caller wanted.
        wanted: u64,
    },
    /// The caller isn't a member as far as this node knows.
    #[error("node {from} is not a member of cluster {cluster} as far as node {node} knows")]
    UnknownNode {
        /// This node.
        node: u64,
        /// This node's cluster.
        cluster: u64,
        /// The caller.
        from: u64,
    },
    /// The caller has more or fewer shards than this node's settings say.
    #[error("node {from} says that it has {says} shards, node {node} expects {expected} of it")]
    ShardCount {
        /// This node.
        node: u64,
        /// The caller.
        from: u64,
        /// Shards that the caller says it has.
        says: u32,
        /// Shards that it has by this node's settings.
        expected: u32,
    },
    /// The caller wanted, or claims to be, a shard that its node doesn't have.
    #[error("node {node} has {shards} shards, there is no shard {shard} on it")]
    NoSuchShard {
        /// The node in question.
        node: u64,
        /// How many shards it has.
        shards: u32,
        /// The shard that was named.
        shard: u32,
    },
    /// Settings that must agree don't.
    #[error(
        "node {node} runs with settings {fingerprint:#018x}, node {from} with {theirs:#018x}: \
         those that must be the same on all nodes differ"
    )]
    Fingerprint {
        /// This node.
        node: u64,
        /// This node's fingerprint.
        fingerprint: u64,
        /// The caller.
        from: u64,
        /// The caller's fingerprint.
        theirs: u64,
    },
    /// One of the two lost the data that the other one knows it with.
    #[error("{0}")]
    DataReplaced(#[from] DataReplaced),
    /// This node could not remember the caller durably, so it makes nothing of the meeting.
    #[error("node {node} could not write down that it met node {from}")]
    NotRecorded {
        /// This node.
        node: u64,
        /// The caller.
        from: u64,
    },
    /// The caller wants a connection for something that this build doesn't know.
    #[error("node {from} wants a connection for a use that node {node} doesn't know")]
    Lane {
        /// This node.
        node: u64,
        /// The caller.
        from: u64,
    },
    /// Of two nodes the one with the lower number dials for consensus.
    #[error("node {from} must not dial node {node}: of two nodes the lower number dials")]
    Direction {
        /// This node.
        node: u64,
        /// The caller.
        from: u64,
    },
    /// The caller has already been here with a newer connection.
    #[error("the caller's attempt {attempt} comes after its attempt {current}")]
    Stale {
        /// The caller's number of the refused attempt.
        attempt: u64,
        /// The caller's number of the established connection.
        current: u64,
    },
}

/// The reason of a refusal on the wire. Numbers are never given a new meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RefusalCode(pub u16);

macro_rules! codes {
    ($($name:ident = $number:literal, $text:literal;)*) => {
        impl RefusalCode {
            $(#[doc = concat!("On the wire: ", $text, ".")] pub const $name: Self = Self($number);)*
        }

        impl fmt::Display for RefusalCode {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self.0 {
                    $($number => f.write_str($text),)*
                    other => write!(f, "unknown reason {other}"),
                }
            }
        }
    };
}

codes! {
    PROTOCOL = 1, "no common protocol";
    CLUSTER = 2, "wrong cluster";
    SELF_CONNECTION = 3, "self-connection";
    WRONG_NODE = 4, "wrong node";
    UNKNOWN_NODE = 5, "unknown node";
    SHARD_COUNT = 6, "shard counts differ";
    NO_SUCH_SHARD = 7, "no such shard";
    FINGERPRINT = 8, "settings differ";
    DIRECTION = 9, "wrong direction";
    STALE = 10, "stale connection";
    LANE = 11, "unknown use";
    DATA_REPLACED = 12, "data replaced";
    NOT_RECORDED = 13, "not recorded";
}

impl Local {
    /// What `identity` knows with `nodes` as the cluster's members. The node itself may be among
    /// them and is left out.
    #[must_use]
    pub fn new(identity: Identity, nodes: &[PeerNode]) -> Self {
        let others = nodes.iter().filter(|node| node.node != identity.node);
        Self { identity, members: others.map(|node| (node.node, node.shards)).collect() }
    }
}

impl Refusal {
    /// The code that stands for this on the wire.
    #[must_use]
    pub fn code(&self) -> RefusalCode {
        match self {
            Self::Protocol { .. } => RefusalCode::PROTOCOL,
            Self::Cluster { .. } => RefusalCode::CLUSTER,
            Self::SelfConnection { .. } => RefusalCode::SELF_CONNECTION,
            Self::WrongNode { .. } => RefusalCode::WRONG_NODE,
            Self::UnknownNode { .. } => RefusalCode::UNKNOWN_NODE,
            Self::ShardCount { .. } => RefusalCode::SHARD_COUNT,
            Self::NoSuchShard { .. } => RefusalCode::NO_SUCH_SHARD,
            Self::Fingerprint { .. } => RefusalCode::FINGERPRINT,
            Self::Direction { .. } => RefusalCode::DIRECTION,
            Self::Stale { .. } => RefusalCode::STALE,
            Self::Lane { .. } => RefusalCode::LANE,
            Self::DataReplaced(_) => RefusalCode::DATA_REPLACED,
            Self::NotRecorded { .. } => RefusalCode::NOT_RECORDED,
        }
    }

    /// The answer that tells the caller.
    #[must_use]
    pub fn reply(&self) -> Reply {
        Reply::Refused { code: self.code(), sentence: self.to_string() }
    }
}

/// Judges a caller: the broadest mistake first, so that a node of another cluster isn't told that
/// it is an unknown member of this one. `known` is what the caller is known with; if it is
/// not, it is to be remembered before anything comes of the connection.
///
/// # Errors
///
/// The [`Refusal`] to answer with.
pub fn check(hello: &Hello, local: &Local, known: Option<DataId>) -> Result<Accept, Refusal> {
    let Identity { cluster, node, data, .. } = local.identity;
    let from = hello.from.node;
    let protocol = hello.protocol_max.min(PROTOCOL_MAX);
    if protocol < hello.protocol_min.max(PROTOCOL_MIN) {
        return Err(Refusal::Protocol { min: hello.protocol_min, max: hello.protocol_max });
    }
    if hello.cluster != cluster {
        return Err(Refusal::Cluster { node, cluster, theirs: hello.cluster });
    }
    if from == node {
        return Err(Refusal::SelfConnection { node, cluster });
    }
    if hello.to.node != node {
        return Err(Refusal::WrongNode { node, cluster, wanted: hello.to.node });
    }
    let Some(&expected) = local.members.get(&from) else {
        return Err(Refusal::UnknownNode { node, cluster, from });
    };
    check_settings(hello, &local.identity, expected)?;
    if let Some(known) = hello.expects.filter(|known| *known != data) {
        return Err(DataReplaced { node, by: from, known, found: data }.into());
    }
    if let Some(known) = known.filter(|known| *known != hello.data) {
        return Err(DataReplaced { node: from, by: node, known, found: hello.data }.into());
    }
    let lane = match hello.lane {
        Some(lane @ (Lane::Consensus | Lane::BulkOut)) => lane.other_end(),
        Some(Lane::BulkIn) | None => return Err(Refusal::Lane { node, from }),
    };
    if lane == Lane::Consensus && !dials(from, node) {
        return Err(Refusal::Direction { node, from });
    }
    Ok(Accept { protocol, from: hello.from, to_shard: hello.to.shard, lane })
}

fn check_settings(hello: &Hello, own: &Identity, expected: u32) -> Result<(), Refusal> {
    let (node, from) = (own.node, hello.from.node);
    if hello.from_shards != expected {
        return Err(Refusal::ShardCount { node, from, says: hello.from_shards, expected });
    }
    for (node, shards, shard) in
        [(node, own.shards, hello.to.shard), (from, expected, hello.from.shard)]
    {
        if shard >= shards {
            return Err(Refusal::NoSuchShard { node, shards, shard });
        }
    }
    if hello.fingerprint != own.fingerprint {
        let (fingerprint, theirs) = (own.fingerprint, hello.fingerprint);
        return Err(Refusal::Fingerprint { node, fingerprint, from, theirs });
    }
    Ok(())
}

/// Whether `from` is the side that dials `to` for consensus: of two nodes the lower number.
#[must_use]
pub fn dials(from: u64, to: u64) -> bool {
    from < to
}

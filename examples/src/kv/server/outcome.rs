//! What a client is told when a command was not done, or when nobody knows.
//!
//! The code in front decides what clients do: after `MOVED`, `CLUSTERDOWN` and `TRYAGAIN` they send
//! the command again, so these are only for what was certainly not done. `UNKNOWN` is for what may
//! have been done, or may be yet.

use ringleader::{ProposeError, ReadError};

use super::topology::{Seat, Topology};

/// Nobody is known to lead the slot's group.
pub(crate) const NO_LEADER: &str = "CLUSTERDOWN Hash slot not served: its group has no leader now";

/// Memory is used up.
pub(crate) const OUT_OF_MEMORY: &str = "OOM command not allowed when used memory > 'memory_limit'";

/// What several groups say did not fit into memory.
pub(crate) const NO_MEMORY: &str = "UNKNOWN the replies took too much memory";

/// Some parts of a command were refused, and others done.
pub(crate) const PARTLY: &str =
    "UNKNOWN the command was done in some groups of keys and not in others";

/// Whose link broke with the command on it.
pub(crate) const LINK_LOST: &str =
    "UNKNOWN the command may or may not have been done: the connection to its node was lost";

/// Whether a reply, as RESP3, says that the command was certainly not done where it was asked for, and
/// may be elsewhere or later.
pub(crate) fn was_not_done(reply: &[u8]) -> bool {
    let codes: [&[u8]; 3] = [b"-MOVED ", b"-TRYAGAIN ", b"-CLUSTERDOWN "];
    codes.iter().any(|code| reply.starts_with(code))
}

/// There is no room for another operation.
pub(crate) const BUSY: &str = "TRYAGAIN too much is in flight";

/// Nothing was sent, or what was sent changes nothing.
pub(crate) const UNREACHABLE: &str = "TRYAGAIN the command's node can't be reached";

/// Somebody else leads than the one whom the command was forwarded to.
pub(crate) const LEADER_CHANGED: &str = "TRYAGAIN the leader of the slot's group has just changed";

/// A redirection to where the slot is served.
pub(crate) fn moved(topology: &Topology, slot: u16, seat: Seat) -> String {
    match topology.address(seat) {
        Some(address) => format!("MOVED {slot} {address}"),
        None => NO_LEADER.into(),
    }
}

/// Why a write, or a read through the log, has no result.
pub(crate) fn of_proposal(error: &ProposeError) -> String {
    match error {
        ProposeError::Unknown(cause) => {
            format!("UNKNOWN the command may or may not have been done: {cause}")
        }
        ProposeError::NotLeader { leader: None } => NO_LEADER.into(),
        ProposeError::NoSpace => format!("MISCONF {error}"),
        ProposeError::TooLarge { .. } => format!("ERR {error}"),
        ProposeError::NotLeader { .. }
        | ProposeError::Transferring { .. }
        | ProposeError::WrongTerm { .. }
        | ProposeError::Busy => format!("TRYAGAIN {error}"),
        ProposeError::UnknownGroup(_) | ProposeError::StorageFailed(_) | ProposeError::Stopped => {
            format!("CLUSTERDOWN {error}")
        }
    }
}

/// Likewise a read, which does nothing in any case.
pub(crate) fn of_read(error: &ReadError) -> String {
    match error {
        ReadError::NoLeader => NO_LEADER.into(),
        ReadError::LeaderChanged { .. } | ReadError::Busy | ReadError::TimedOut => {
            format!("TRYAGAIN {error}")
        }
        _ => format!("CLUSTERDOWN {error}"),
    }
}

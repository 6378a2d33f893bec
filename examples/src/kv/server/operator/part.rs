//! What one node does for an operator: `KV.CLUSTER HERE ...`, which nodes say to each other.

use ringleader::{
    Handle, Member, MembershipChange, MembershipError, NodeId, TransferError, TransferRefused,
};

use super::{Why, member, number, place};
use crate::kv::command::{Args, Refusal};
use crate::kv::server::shard::Shard;
use crate::kv::server::topology::{Topology, address_of};

/// See the [module](self).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Where a node is.
    Meet(Member),
    /// A node that is gone.
    Forget(NodeId),
    /// Of the group's leader: a node is to have a vote.
    Add { place: usize, node: NodeId },
    /// Of the group's leader: a node is to be no member.
    Remove { place: usize, node: NodeId },
    /// Of the group's leader: this node is to lead, or whoever can the soonest.
    HandOver { place: usize, to: Option<NodeId> },
    /// What this node leads too much goes to others.
    Balance,
}

impl Part {
    pub(super) fn of(
        topology: &Topology,
        name: &[u8],
        words: Args<'_, '_>,
    ) -> Result<Self, Refusal> {
        let of_group = |group, node| Ok((place(topology, group)?, number(node).map(NodeId)?));
        Ok(match (&name.to_ascii_lowercase()[..], words) {
            (b"meet", [node, address, shards]) => Self::Meet(member(node, address, shards)?),
            (b"forget", [node]) => Self::Forget(number(node).map(NodeId)?),
            (b"add", [group, node]) => {
                of_group(group, node).map(|(place, node)| Self::Add { place, node })?
            }
            (b"remove", [group, node]) => {
                of_group(group, node).map(|(place, node)| Self::Remove { place, node })?
            }
            (b"hand-over", [group]) => Self::HandOver { place: place(topology, group)?, to: None },
            (b"hand-over", [group, to]) => {
                of_group(group, to).map(|(place, to)| Self::HandOver { place, to: Some(to) })?
            }
            (b"balance", []) => Self::Balance,
            _ => return Err(Refusal::Syntax),
        })
    }

    /// The command by which another node is asked for it.
    pub(super) fn words(&self, topology: &Topology) -> Vec<Vec<u8>> {
        let group = |place: usize| topology.layout.id(place).to_string();
        let own = match self {
            Self::Meet(member) => vec![
                "meet".to_owned(),
                member.node.to_string(),
                address_of(member, 0).to_string(),
                member.shards.to_string(),
            ],
            Self::Forget(node) => vec!["forget".into(), node.to_string()],
            Self::Add { place, node } => vec!["add".into(), group(*place), node.to_string()],
            Self::Remove { place, node } => {
                vec!["remove".into(), group(*place), node.to_string()]
            }
            Self::HandOver { place, to } => {
                let to = to.iter().map(ToString::to_string);
                ["hand-over".into(), group(*place)].into_iter().chain(to).collect()
            }
            Self::Balance => vec!["balance".into()],
        };
        let all = ["KV.CLUSTER".to_owned(), "HERE".into()].into_iter().chain(own);
        all.map(String::into_bytes).collect()
    }

    /// Does it, on this node; how many things changed.
    pub(super) async fn carry_out(&self, shard: &Shard) -> Result<u64, Why> {
        let (handle, layout) = (shard.local.handle(), shard.topology().layout);
        let changed =
            |change, place: usize| change_members(handle.clone(), layout.id(place), change);
        match self {
            Self::Meet(member) => {
                handle.set_member(member.clone()).map_err(|error| format!("ERR {error}"))?;
                Ok(1)
            }
            Self::Forget(node) => {
                handle.remove_member(*node).map_err(|error| format!("ERR {error}"))?;
                Ok(1)
            }
            Self::Add { place, node } => {
                changed(MembershipChange::default().voter(*node), *place).await
            }
            Self::Remove { place, node } => {
                changed(MembershipChange::default().remove(*node), *place).await
            }
            Self::HandOver { place, to } => {
                match handle.transfer_leadership(layout.id(*place), *to).await {
                    Ok(_) => Ok(1),
                    Err(TransferError::Refused(TransferRefused::Leads)) => Ok(0),
                    Err(error) => Err(of_transfer(&error)),
                }
            }
            Self::Balance => {
                let moves = handle.rebalance().await.map_err(|error| format!("ERR {error}"))?;
                let moved = |outcome: &Option<Result<_, _>>| matches!(outcome, Some(Ok(_)));
                Ok(moves.iter().filter(|(_, outcome)| moved(outcome)).count() as u64)
            }
        }
    }
}

async fn change_members(
    handle: Handle,
    group: ringleader::GroupId,
    change: MembershipChange,
) -> Result<u64, Why> {
    match handle.change_members(group, change).await {
        Ok(_) => Ok(1),
        Err(error) => Err(of_change(&error)),
    }
}

/// The code says whether it is worth another try, here or at another node.
fn of_change(error: &MembershipError) -> Why {
    let code = match error {
        MembershipError::NotLeader { .. }
        | MembershipError::NotReady
        | MembershipError::InProgress
        | MembershipError::Transferring => "TRYAGAIN",
        MembershipError::Unknown(_) => "UNKNOWN",
        MembershipError::StorageFailed(_) | MembershipError::Stopped => "CLUSTERDOWN",
        _ => "ERR",
    };
    format!("{code} {error}")
}

fn of_transfer(error: &TransferError) -> Why {
    let code = match error {
        TransferError::Refused(
            TransferRefused::NotLeader { .. }
            | TransferRefused::UnderWay { .. }
            | TransferRefused::MembersChange,
        ) => "TRYAGAIN",
        TransferError::NotTaken { .. } | TransferError::Unsettled { .. } => "UNKNOWN",
        TransferError::StorageFailed(_) | TransferError::Stopped => "CLUSTERDOWN",
        _ => "ERR",
    };
    format!("{code} {error}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::slot::Layout;

    #[test]
    fn what_is_asked_is_what_is_understood() {
        let topology = Topology::new(NodeId(1), Layout::new(4).unwrap());
        let address = "10.0.0.4:17000".parse().unwrap();
        let parts = [
            Part::Meet(Member { node: NodeId(4), address, shards: 2 }),
            Part::Forget(NodeId(4)),
            Part::Add { place: 3, node: NodeId(4) },
            Part::Remove { place: 0, node: NodeId(4) },
            Part::HandOver { place: 1, to: None },
            Part::HandOver { place: 1, to: Some(NodeId(2)) },
            Part::Balance,
        ];
        for part in parts {
            let words = part.words(&topology);
            let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
            assert_eq!(Part::of(&topology, words[2], &words[3..]), Ok(part));
        }
        assert!(Part::of(&topology, b"add", &[b"5", b"1"]).is_err());
    }
}

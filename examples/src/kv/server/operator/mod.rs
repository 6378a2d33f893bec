//! `KV.CLUSTER`: nodes that come and go, and who leads what, for operators.
//!
//! Any node of the cluster takes any of it for all of the cluster, and asks the others for their
//! [`part`]: a change of a group is its leader's to make. All of it may be said again: what was done
//! already is passed over.

mod cluster;
mod part;

use std::net::SocketAddr;
use std::rc::Rc;

use ringleader::{Member, NodeId};

use self::part::Part;
use super::session::{Handled, Session};
use super::topology::{BUS_PORT_OFFSET, Topology};
use crate::kv::command::{Args, Refusal};
use crate::kv::resp::reply;

/// What an operator wants.
enum Wish {
    /// The nodes, as this one knows them.
    Nodes,
    /// The groups, and who leads them.
    Leaders,
    /// A node is to have a vote in every group.
    Add(Member),
    /// A node is to have none.
    Remove(NodeId),
    /// Another leader for a group.
    Transfer { place: usize, to: NodeId },
    /// Leaders spread evenly.
    Balance,
    /// This node's part in one of these.
    Here(Part),
}

/// Why something was not done: the code and the text of an error.
type Why = String;

pub(crate) fn serve(session: &Session, args: Args<'_, '_>) -> Handled {
    let wish = match Wish::of(session.shard.topology(), &args[1..]) {
        Ok(wish) => wish,
        Err(refusal) => return session.refuse(&refusal),
    };
    if !session.client.is_idle() {
        return Handled::Blocked;
    }
    let shard = Rc::clone(&session.shard);
    Handled::Later(Box::pin(async move {
        let mut out = Vec::new();
        if let Err(why) = cluster::run(&shard, &wish, &mut out).await {
            out.clear();
            reply::error(&mut out, &why);
        }
        out
    }))
}

impl Wish {
    fn of(topology: &Topology, words: Args<'_, '_>) -> Result<Self, Refusal> {
        let name = words[0].to_ascii_lowercase();
        Ok(match (&name[..], &words[1..]) {
            (b"nodes", []) => Self::Nodes,
            (b"leaders", []) => Self::Leaders,
            (b"add", [node, address]) => Self::Add(member(node, address, b"1")?),
            (b"add", [node, address, shards]) => Self::Add(member(node, address, shards)?),
            (b"remove", [node]) => Self::Remove(number(node).map(NodeId)?),
            (b"transfer", [group, to]) => {
                let (place, to) = (place(topology, group)?, number(to).map(NodeId)?);
                Self::Transfer { place, to }
            }
            (b"balance", []) => Self::Balance,
            (b"here", [first, rest @ ..]) => Self::Here(Part::of(topology, first, rest)?),
            (
                b"nodes" | b"leaders" | b"add" | b"remove" | b"transfer" | b"balance" | b"here",
                _,
            ) => {
                return Err(Refusal::Arity("kv.cluster"));
            }
            _ => {
                let shown = &name[..name.len().min(64)];
                let shown = String::from_utf8_lossy(shown).into_owned();
                return Err(Refusal::UnknownSub("kv.cluster", shown));
            }
        })
    }
}

fn number(word: &[u8]) -> Result<u64, Refusal> {
    let number = std::str::from_utf8(word).ok().and_then(|text| text.parse().ok());
    number.filter(|number| *number > 0).ok_or(Refusal::NotANumber)
}

/// A group by the number that operators know it by.
fn place(topology: &Topology, word: &[u8]) -> Result<usize, Refusal> {
    let id = ringleader::GroupId(number(word)?);
    topology.layout.place_of(id).ok_or(Refusal::OutOfRange("there is no such group"))
}

/// A node, with the address of its first shard for clients, as configurations have it.
fn member(node: &[u8], address: &[u8], shards: &[u8]) -> Result<Member, Refusal> {
    let refused = Refusal::OutOfRange("an address is IP:PORT, with a port below 55536");
    let text = std::str::from_utf8(address).map_err(|_| refused.clone())?;
    let mut address: SocketAddr = text.parse().map_err(|_| refused.clone())?;
    address.set_port(address.port().checked_add(BUS_PORT_OFFSET).ok_or(refused)?);
    let shards = u32::try_from(number(shards)?).map_err(|_| Refusal::NotANumber)?;
    Ok(Member { node: NodeId(number(node)?), address, shards })
}

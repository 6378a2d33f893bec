//! `CLUSTER`: where the slots are.
//!
//! A node of the cluster, to its clients, is one shard of one of our nodes: it has an address of its
//! own, and serves the slots of the groups that it leads. Those that follow are not listed as replicas:
//! they lead other groups, and clients take a node for a master or a replica, not both.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::RangeInclusive;

use super::session::{Handled, Session};
use super::topology::{Seat, Topology, address_of};
use crate::kv::command::{Args, Refusal};
use crate::kv::execute::REPLY_BYTES;
use crate::kv::keyspace::Record;
use crate::kv::resp::reply;
use crate::kv::slot::{SLOTS, slot_of};

pub(crate) fn serve(session: &Session, args: Args<'_, '_>) -> Handled {
    let (shard, client) = (&session.shard, &session.client);
    let topology = shard.topology();
    let word = args[1].to_ascii_lowercase();
    match (&word[..], &args[2..]) {
        (b"slots", []) => client.answer(|out| slots(topology, out)),
        (b"shards", []) => client.answer(|out| shards(topology, out)),
        (b"nodes", []) => {
            let text = nodes(topology, shard.seat());
            client.answer(|out| reply::text(out, &text));
        }
        (b"info", []) => {
            let text = info(topology);
            client.answer(|out| reply::text(out, &text));
        }
        (b"myid", []) => client.answer(|out| reply::bulk(out, shard.seat().id().as_bytes())),
        (b"keyslot", [key]) => client.answer(|out| reply::integer(out, slot_of(key).into())),
        (b"countkeysinslot", [slot]) => return in_slot(session, slot, None),
        (b"getkeysinslot", [slot, count]) => return in_slot(session, slot, Some(count)),
        _ => {
            let shown = String::from_utf8_lossy(&word).into_owned();
            return session.refuse(&Refusal::UnknownSub("cluster", shown));
        }
    }
    Handled::Done
}

/// Keys that are listed at once, at most: nothing else of the shard goes on meanwhile.
const AT_ONCE: usize = 10_000;

/// Keys of a slot, as this node has applied them.
fn in_slot(session: &Session, slot: &[u8], count: Option<&[u8]>) -> Handled {
    use std::ops::Bound::Unbounded;
    let parse = |bytes: &[u8]| std::str::from_utf8(bytes).ok()?.parse::<u32>().ok();
    let number = parse(slot).and_then(|slot| u16::try_from(slot).ok()).filter(|slot| *slot < SLOTS);
    let Some(slot) = number else { return session.say("ERR Invalid slot") };
    let limit = match count.map(parse) {
        Some(None) => return session.refuse(&Refusal::NotANumber),
        Some(Some(limit)) => Some(limit as usize),
        None => None,
    };
    let place = session.shard.topology().layout.group_of(slot);
    session.client.answer(|out| match (session.shard.group(place), limit) {
        (None, None) => reply::integer(out, 0),
        (None, Some(_)) => reply::array(out, 0),
        (Some(group), limit) => group.replica.with(|keys| {
            let Some(limit) = limit else {
                return reply::integer(out, keys.keys_in_slot(slot) as i64);
            };
            let mut bytes = 0;
            let fits = |record: &&Record| {
                bytes += record.key.len();
                bytes < REPLY_BYTES
            };
            let records = keys.range(slot, Unbounded, Unbounded);
            let found: Vec<_> = records.take(limit.min(AT_ONCE)).take_while(fits).collect();
            reply::array(out, found.len());
            found.iter().for_each(|record| reply::bulk(out, &record.key));
        }),
    });
    Handled::Done
}

/// The slots of each group that has a leader, and who that is.
fn led(topology: &Topology) -> Vec<(RangeInclusive<u16>, Seat)> {
    let layout = topology.layout;
    let led = |place| Some((layout.slots_of(place), topology.seat_of(place)?));
    (0..layout.groups()).filter_map(led).collect()
}

fn slots(topology: &Topology, out: &mut Vec<u8>) {
    let led = led(topology);
    reply::array(out, led.len());
    for (slots, leader) in led {
        let address = topology.address(leader);
        reply::array(out, 3);
        reply::integer(out, (*slots.start()).into());
        reply::integer(out, (*slots.end()).into());
        reply::array(out, 4);
        reply::bulk(out, ip(address).as_bytes());
        reply::integer(out, address.map_or(0, |address| address.port()).into());
        reply::bulk(out, leader.id().as_bytes());
        reply::array(out, 0);
    }
}

fn ip(address: Option<SocketAddr>) -> String {
    address.map(|address| address.ip().to_string()).unwrap_or_default()
}

/// The ranges of each leader.
fn by_leader(topology: &Topology) -> BTreeMap<Seat, Vec<RangeInclusive<u16>>> {
    let mut all: BTreeMap<Seat, Vec<RangeInclusive<u16>>> = BTreeMap::new();
    for (slots, leader) in led(topology) {
        let ranges = all.entry(leader).or_default();
        match ranges.last_mut().filter(|last| *last.end() + 1 == *slots.start()) {
            Some(last) => *last = *last.start()..=*slots.end(),
            None => ranges.push(slots),
        }
    }
    all
}

fn shards(topology: &Topology, out: &mut Vec<u8>) {
    let all = by_leader(topology);
    reply::array(out, all.len());
    for (leader, ranges) in all {
        reply::map(out, 2);
        reply::bulk(out, b"slots");
        reply::array(out, 2 * ranges.len());
        for range in ranges {
            reply::integer(out, (*range.start()).into());
            reply::integer(out, (*range.end()).into());
        }
        reply::bulk(out, b"nodes");
        reply::array(out, 1);
        shard_node(topology, leader, out);
    }
}

fn shard_node(topology: &Topology, seat: Seat, out: &mut Vec<u8>) {
    let address = topology.address(seat);
    let ip = ip(address);
    reply::map(out, 7);
    let mut text = |name: &str, value: &str| {
        reply::bulk(out, name.as_bytes());
        reply::bulk(out, value.as_bytes());
    };
    text("id", &seat.id());
    text("ip", &ip);
    text("endpoint", &ip);
    text("role", "master");
    text("health", "online");
    reply::bulk(out, b"port");
    reply::integer(out, address.map_or(0, |address| address.port()).into());
    reply::bulk(out, b"replication-offset");
    reply::integer(out, 0);
}

/// Every shard of every node as a master, with the slots that it serves; perhaps none.
fn nodes(topology: &Topology, own: Seat) -> String {
    let led = by_leader(topology);
    let mut text = String::new();
    for member in topology.members() {
        for shard in 0..member.shards {
            let seat = Seat { node: member.node, shard };
            let address = address_of(&member, shard);
            let flags = if seat == own { "myself,master" } else { "master" };
            let (id, bus) = (seat.id(), member.address.port());
            text += &format!("{id} {address}@{bus} {flags} - 0 0 {} connected", member.node);
            for range in led.get(&seat).into_iter().flatten() {
                let (start, end) = (range.start(), range.end());
                text += &if start == end { format!(" {start}") } else { format!(" {start}-{end}") };
            }
            text += "\n";
        }
    }
    text
}

fn info(topology: &Topology) -> String {
    let led = led(topology);
    let served: usize = led.iter().map(|(slots, _)| slots.len()).sum();
    let all = served == usize::from(SLOTS);
    let nodes: u32 = topology.members().iter().map(|member| member.shards).sum();
    let mut leaders: Vec<Seat> = led.iter().map(|(_, leader)| *leader).collect();
    leaders.sort_unstable();
    leaders.dedup();
    format!(
        "cluster_enabled:1\r\ncluster_state:{}\r\ncluster_slots_assigned:{SLOTS}\r\n\
         cluster_slots_ok:{served}\r\ncluster_slots_pfail:0\r\ncluster_slots_fail:{}\r\n\
         cluster_known_nodes:{nodes}\r\ncluster_size:{}\r\ncluster_current_epoch:0\r\n\
         cluster_my_epoch:0\r\n",
        if all { "ok" } else { "fail" },
        usize::from(SLOTS) - served,
        leaders.len(),
    )
}

//! Spreading leaderships evenly over the nodes, as far as the groups' voters and their priorities
//! allow.
//!
//! Each group has candidates: those of its voters that are up and have the highest priority among
//! them. A plan gives every group one of its candidates for a leader so that no other choice is more
//! even, by any measure that counts a further group on a node as dearer the more the node leads
//! (optimal semi-matchings: Harvey, Ladner, Lovász, Tamir, 2006): as long as a chain of groups leads
//! from a node to one that leads at least two less, each group of the chain moves on by one. What is
//! even is left alone.

use std::collections::{BTreeMap, VecDeque};

use ringleader_wal::{GroupId, NodeId};
use serde::{Deserialize, Serialize};

use crate::error::QueryError;
use crate::handle::Handle;
use crate::raft::{Mode, Priorities};
use crate::report::{GroupReport, Report};
use crate::shard::TransferResult;

/// A leadership that is to move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// The group.
    pub group: GroupId,
    /// Who leads it.
    pub from: NodeId,
    /// Who is to lead it.
    pub to: NodeId,
}

/// A group that has a leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Led {
    /// The group.
    pub group: GroupId,
    /// Who leads it.
    pub leader: NodeId,
    /// Who may. Nothing happens to a group without candidates.
    pub candidates: Vec<NodeId>,
}

/// The moves that spread the leaders evenly, at most one for a group, in the order of `groups`. The
/// same groups in the same order give the same plan.
#[must_use]
pub fn plan(groups: &[Led]) -> Vec<Move> {
    let mut spread = Spread::of(groups);
    spread.leave_the_unfit();
    while spread.improve() {}
    let moves = groups.iter().zip(&spread.leaders);
    moves
        .filter(|(led, to)| led.leader != **to)
        .map(|(led, to)| Move { group: led.group, from: led.leader, to: *to })
        .collect()
}

struct Spread<'a> {
    groups: &'a [Led],
    /// Who leads each group by the plan so far.
    leaders: Vec<NodeId>,
    /// How many groups each node leads.
    loads: BTreeMap<NodeId, usize>,
    /// The groups that one node may hand to another, and some that it no longer leads.
    ways: BTreeMap<NodeId, BTreeMap<NodeId, Vec<usize>>>,
}

impl<'a> Spread<'a> {
    fn of(groups: &'a [Led]) -> Self {
        let leaders: Vec<NodeId> = groups.iter().map(|led| led.leader).collect();
        let mut spread = Self { groups, leaders, loads: BTreeMap::new(), ways: BTreeMap::new() };
        for (at, led) in groups.iter().enumerate() {
            *spread.loads.entry(led.leader).or_default() += 1;
            for candidate in &led.candidates {
                spread.loads.entry(*candidate).or_default();
            }
            spread.open_ways(at);
        }
        spread
    }

    fn open_ways(&mut self, at: usize) {
        let from = self.leaders[at];
        for to in self.groups[at].candidates.iter().filter(|to| **to != from) {
            self.ways.entry(from).or_default().entry(*to).or_default().push(at);
        }
    }

    fn hand(&mut self, at: usize, to: NodeId) {
        let from = std::mem::replace(&mut self.leaders[at], to);
        for (node, change) in [(from, -1), (to, 1)] {
            let load = self.loads.entry(node).or_default();
            *load = load.saturating_add_signed(change);
        }
        self.open_ways(at);
    }

    /// Leaders that are no candidates are replaced, whatever that does to the balance.
    fn leave_the_unfit(&mut self) {
        for (at, led) in self.groups.iter().enumerate() {
            let least = led.candidates.iter().min_by_key(|node| (self.loads[node], **node));
            if let Some(to) = least.copied().filter(|_| !led.candidates.contains(&led.leader)) {
                self.hand(at, to);
            }
        }
    }

    /// Finds a chain that makes the spread more even, and moves it on. False if there is none.
    fn improve(&mut self) -> bool {
        let mut nodes: Vec<(usize, NodeId)> =
            self.loads.iter().map(|(n, load)| (*load, *n)).collect();
        nodes.sort_unstable_by_key(|(load, node)| (std::cmp::Reverse(*load), *node));
        nodes.into_iter().any(|(load, node)| self.improve_from(node, load))
    }

    fn improve_from(&mut self, from: NodeId, load: usize) -> bool {
        let mut reached: BTreeMap<NodeId, NodeId> = BTreeMap::new();
        let mut queue = VecDeque::from([from]);
        let mut best = None;
        while let Some(node) = queue.pop_front() {
            let next: Vec<NodeId> =
                self.ways.get(&node).into_iter().flatten().map(|(to, _)| *to).collect();
            for to in next {
                let seen = to == from || reached.contains_key(&to);
                if seen || self.group_on_way(node, to).is_none() {
                    continue;
                }
                reached.insert(to, node);
                queue.push_back(to);
                let this = (self.loads[&to], to);
                // The nearest of those that lead least: breadth first, and only less is better.
                if this.0 + 2 <= load && best.is_none_or(|(least, _)| this.0 < least) {
                    best = Some(this);
                }
            }
        }
        let Some((_, mut to)) = best else { return false };
        while to != from {
            let before = reached[&to];
            let at = self.group_on_way(before, to).expect("the way was open");
            self.hand(at, to);
            to = before;
        }
        true
    }

    /// A group that one node can hand to another: one that it leads still.
    fn group_on_way(&mut self, from: NodeId, to: NodeId) -> Option<usize> {
        let groups = self.ways.get_mut(&from)?.get_mut(&to)?;
        while let Some(at) = groups.last().copied() {
            if self.leaders[at] == from {
                return Some(at);
            }
            groups.pop();
        }
        None
    }
}

impl Handle {
    /// Spreads leaderships evenly over the nodes: hands on those of the [plan] that this
    /// node has, one after the other, so that at any moment one group at most takes no proposals
    /// for it. What became of each, and none for the moves that are other nodes' to make.
    ///
    /// Ask every node, in any order or together: those that see the same make the same plan. What
    /// it promises is an even spread of the groups that this node has a replica of, by what it knew
    /// of their leaders when it was asked. Where leaders changed meanwhile, where a node has groups
    /// that others have not, or a transfer failed, another round gets nearer, and changes nothing
    /// when all is even.
    ///
    /// A group goes only to a voter that is up, keeps up with its leader, and has the highest
    /// [priority](crate::EngineConfig::priorities) of those. Dropping the future ends it after the
    /// transfer that is under way.
    ///
    /// # Errors
    /// [`QueryError::Stopped`].
    pub async fn rebalance(&self) -> Result<Vec<(Move, Option<TransferResult>)>, QueryError> {
        let mut outcomes = Vec::new();
        for step in self.plan_rebalance().await? {
            let outcome = match step.from == self.shared.node {
                true => Some(self.transfer_leadership(step.group, Some(step.to)).await),
                false => None,
            };
            outcomes.push((step, outcome));
        }
        Ok(outcomes)
    }

    /// What [`rebalance`](Self::rebalance) would do, on all nodes.
    ///
    /// # Errors
    /// [`QueryError::Stopped`].
    pub async fn plan_rebalance(&self) -> Result<Vec<Move>, QueryError> {
        let report = self.report().await?;
        let default = Priorities::default();
        let led = report.groups.iter().filter_map(|group| {
            let priorities = self.shared.priorities.get(&group.status.group);
            led(&report, group, priorities.unwrap_or(&default))
        });
        Ok(plan(&led.collect::<Vec<_>>()))
    }
}

/// The group as the plan sees it; none if nobody leads it.
fn led(report: &Report, group: &GroupReport, priorities: &Priorities) -> Option<Led> {
    let status = &group.status;
    let leader = status.leader?;
    let links = || report.shards.iter().flat_map(|shard| &shard.links);
    let is_up = |node: NodeId| {
        node == report.node || links().any(|link| link.node == node && link.connected)
    };
    // Of a group that this node leads it knows who could take over at once.
    let keeps_up = |node: NodeId| {
        let peer = status.peers.iter().find(|peer| peer.id == node);
        peer.is_none_or(|peer| peer.mode == Mode::Replicate)
    };
    let voters = status.configuration.voters().iter().copied();
    let fit: Vec<NodeId> = voters
        .filter(|voter| is_up(*voter) && keeps_up(*voter) && priorities.of(*voter) > 0)
        .collect();
    let highest = fit.iter().map(|voter| priorities.of(*voter)).max();
    let may_lead = |voter: &NodeId| Some(priorities.of(*voter)) == highest;
    let candidates = fit.into_iter().filter(may_lead).collect();
    Some(Led { group: status.group, leader, candidates })
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const NODES: u64 = 4;

    fn led(leader: u64, candidates: &[u64]) -> Led {
        let candidates = candidates.iter().copied().map(NodeId).collect();
        Led { group: GroupId(0), leader: NodeId(leader), candidates }
    }

    fn numbered(mut groups: Vec<Led>) -> Vec<Led> {
        groups.iter_mut().zip(1..).for_each(|(led, number)| led.group = GroupId(number));
        groups
    }

    fn loads(leaders: impl Iterator<Item = NodeId>) -> Vec<usize> {
        let mut loads = vec![0; NODES as usize + 1];
        leaders.for_each(|node| loads[node.0 as usize] += 1);
        loads
    }

    fn after(groups: &[Led]) -> Vec<NodeId> {
        let mut leaders: BTreeMap<GroupId, NodeId> =
            groups.iter().map(|led| (led.group, led.leader)).collect();
        for Move { group, from, to } in plan(groups) {
            assert_eq!(leaders.insert(group, to), Some(from), "each group moves once");
        }
        leaders.into_values().collect()
    }

    /// The dearest first: what is compared is the load of the busiest node, then of the next.
    fn measure(leaders: impl Iterator<Item = NodeId>) -> Vec<usize> {
        let mut loads = loads(leaders);
        loads.sort_unstable_by_key(|load| std::cmp::Reverse(*load));
        loads
    }

    /// The best that trying everything finds.
    fn best(groups: &[Led], chosen: &mut Vec<NodeId>) -> Vec<usize> {
        let Some(led) = groups.get(chosen.len()) else { return measure(chosen.iter().copied()) };
        let stays = [led.leader];
        let choice = if led.candidates.is_empty() { &stays[..] } else { &led.candidates[..] };
        let tried = choice.iter().map(|node| {
            chosen.push(*node);
            let found = best(groups, chosen);
            chosen.pop();
            found
        });
        tried.min().expect("somebody may lead")
    }

    fn groups() -> impl Strategy<Value = Vec<Led>> {
        let group = (1..=NODES, vec(1..=NODES, 0..=3)).prop_map(|(leader, mut candidates)| {
            candidates.sort_unstable();
            candidates.dedup();
            led(leader, &candidates)
        });
        vec(group, 0..8).prop_map(numbered)
    }

    proptest! {
        #[test]
        fn a_plan_is_as_even_as_can_be(groups in groups()) {
            let leaders = after(&groups);
            for (led, leader) in groups.iter().zip(&leaders) {
                let allowed = if led.candidates.is_empty() {
                    led.leader == *leader
                } else {
                    led.candidates.contains(leader)
                };
                prop_assert!(allowed, "{:?} goes to {}", led, leader);
            }
            prop_assert_eq!(measure(leaders.iter().copied()), best(&groups, &mut Vec::new()));
        }

        #[test]
        fn what_is_even_is_left_alone(groups in groups()) {
            let leaders = after(&groups);
            let even: Vec<Led> = groups
                .into_iter()
                .zip(leaders)
                .map(|(led, leader)| Led { leader, ..led })
                .collect();
            prop_assert_eq!(plan(&even), vec![]);
        }

        /// Each node makes the moves that are its own, then the next makes a plan anew: whatever the
        /// order, some rounds of that end with an even spread.
        #[test]
        fn nodes_that_act_one_by_one_get_there(groups in groups(), order in Just(vec![1, 2, 3, 4]).prop_shuffle()) {
            let mut now = groups.clone();
            let mut rounds = 0;
            while !plan(&now).is_empty() {
                for node in &order {
                    for step in plan(&now).into_iter().filter(|step| step.from == NodeId(*node)) {
                        now[step.group.0 as usize - 1].leader = step.to;
                    }
                }
                rounds += 1;
                prop_assert!(rounds < 10, "no end of it: {:?}", groups);
            }
        }
    }

    #[test]
    fn one_node_leads_all_and_shares() {
        let groups = numbered(vec![led(1, &[1, 2, 3]); 10_000]);
        let leaders = after(&groups);
        assert_eq!(measure(leaders.into_iter()), [3334, 3333, 3333, 0, 0]);
        assert_eq!(plan(&groups).len(), 6666, "and no group moves without need");
    }

    /// Nodes 1 and 3 share no group, but both share groups with node 2.
    #[test]
    fn a_chain_of_groups_moves_on() {
        let groups = vec![led(1, &[1, 2]); 4].into_iter().chain(vec![led(2, &[2, 3]); 2]);
        let leaders = after(&numbered(groups.collect()));
        assert_eq!(loads(leaders.into_iter()), [0, 2, 2, 2, 0]);
    }
}

//! Leaderships that the operator moves: whom it asks, what it is told, and what must be true then.

use std::collections::BTreeMap;

use ringleader::shard::{TransferId, TransferResult, Transferred};
use ringleader::{GroupId, NodeId, TransferError, TransferRefused};

use ringleader::rebalance::{self, Led, Move};

use crate::inputs::Input;
use crate::plan::MS;
use crate::rng::{Rng, SURE};
use crate::world::World;

/// A transfer that was asked for and not answered.
#[derive(Clone, Copy, Debug)]
struct Asked {
    group: usize,
    node: usize,
    to: Option<NodeId>,
}

/// All that were asked for.
#[derive(Debug, Default)]
pub(crate) struct Transfers {
    asked: u64,
    waiting: BTreeMap<TransferId, Asked>,
    /// What the operator was told last.
    last: Option<TransferResult>,
}

impl Transfers {
    /// The node's process is gone, and with it whoever would have answered.
    pub(crate) fn crashed(&mut self, node: usize) {
        self.waiting.retain(|_, asked| asked.node != node);
    }

    pub(crate) fn nothing_waits(&self) -> bool {
        self.waiting.is_empty()
    }
}

/// Tries in peace after which a leadership must have moved: an operation of a disk may be stuck.
const TRIES: usize = 6;

impl World {
    /// A transfer at any moment: to anybody, the leader itself and strangers included, or to whom
    /// the leader thinks best.
    pub(crate) fn transfer_any(&mut self, node: usize, rng: &mut Rng) {
        let at = rng.below(self.plan.groups.len() as u64) as usize;
        // Few are asked in vain.
        let node = self.checker.leader(at).filter(|_| rng.chance(SURE / 8 * 7)).unwrap_or(node);
        let strangers = u64::from(rng.chance(SURE / 16));
        let anybody = NodeId(rng.between(1, self.plan.nodes as u64 + strangers));
        self.transfer(at, node, rng.coin().then_some(anybody));
    }

    /// Spreads the leaderships evenly over those who are there, as the plan for what is known says.
    pub(crate) fn rebalance(&mut self) {
        let mut groups = Vec::new();
        for at in 0..self.plan.groups.len() {
            let Some(leader) = self.checker.leader(at) else { continue };
            let group = self.plan.groups[at];
            let priorities = self.plan.priorities.get(&group).cloned().unwrap_or_default();
            let up = |node: &usize| self.seats[self.plan.seats.of(*node).start].process.is_some();
            let voters = self.checker.voters(at).into_iter().filter(up);
            let voters: Vec<_> = voters.map(|node| NodeId(node as u64 + 1)).collect();
            let best = voters.iter().map(|node| priorities.of(*node)).max();
            let fit = |node: &NodeId| Some(priorities.of(*node)) == best && best > Some(0);
            let candidates = voters.iter().copied().filter(fit).collect();
            groups.push(Led { group, leader: NodeId(leader as u64 + 1), candidates });
        }
        let moves = rebalance::plan(&groups);
        check_plan(&groups, &moves);
        for Move { group, from, to } in moves {
            self.counts.add("leaderships that are to spread", 1);
            let at = self.plan.groups.iter().position(|known| *known == group);
            self.transfer(at.expect("a known group"), from.0 as usize - 1, Some(to));
        }
    }

    fn transfer(&mut self, at: usize, node: usize, to: Option<NodeId>) {
        let group = self.plan.groups[at];
        let seat = self.plan.seats.of_group(group, node);
        if self.seats[seat].process.is_none() {
            return;
        }
        let transfers = &mut self.transfers;
        let id = TransferId(transfers.asked);
        transfers.asked += 1;
        transfers.waiting.insert(id, Asked { group: at, node, to });
        self.trace.line(|| {
            format!("*** transfer {}: group {group} from node {} to {to:?}", id.0, node + 1)
        });
        to.into_iter().for_each(|to| self.mishap_of(to));
        self.feed(seat, Input::Transfer { id, group, to });
    }

    /// A leader is to hand a group over to whom it thinks best.
    pub(crate) fn hand_over(&mut self, group: GroupId, node: usize) {
        let at = self.plan.groups.iter().position(|known| *known == group);
        self.transfer(at.expect("a known group"), node, None);
    }

    /// What became of a transfer. One that is called a success changed the leader.
    pub(crate) fn transferred(&mut self, seat: usize, id: TransferId, result: TransferResult) {
        self.trace.step("transfer", seat as u64, id.0, u64::from(result.is_ok()));
        self.trace.line(|| format!("*** transfer {}: {result:?}", id.0));
        let asked = self.transfers.waiting.remove(&id);
        let Asked { group, node, to } = asked.expect("a transfer is answered once");
        let what = match &result {
            Ok(Transferred { leader, term }) => {
                let led = self.checker.led(group, *term);
                assert_eq!(led, Some(*leader), "transfer: the leader of term {term}");
                assert!(to.is_none_or(|to| to == *leader), "transfer: to {to:?}, not {leader}");
                assert_ne!(leader.0, node as u64 + 1, "transfer: the leader is another one");
                "leaderships transferred"
            }
            Err(TransferError::Refused(TransferRefused::NotVoter(stranger))) => {
                let voters = self.plan.nodes as u64;
                let may_be = self.plan.changing || self.plan.resetting || stranger.0 > voters;
                assert!(may_be, "transfer: node {stranger} is a voter");
                "transfers refused"
            }
            Err(TransferError::Refused(_)) => "transfers refused",
            Err(TransferError::NotTaken { .. }) => "transfers not taken",
            Err(TransferError::Elected { .. }) => "transfers ended by another leader",
            Err(TransferError::Unsettled { .. }) => "transfers unsettled",
            Err(_) => "transfers ended with their shard",
        };
        self.counts.add(what, 1);
        self.transfers.last = Some(result);
    }

    /// In peace every leadership can be moved (liveness of transfers), and the group serves on.
    pub(crate) fn hand_around(&mut self) {
        let damaged = self.atlas.damaged().to_vec();
        for at in 0..self.plan.groups.len() {
            let priorities = self.plan.priorities.get(&self.plan.groups[at]).cloned();
            let priorities = priorities.unwrap_or_default();
            let voters = self.checker.voters(at);
            let fit = |node: &usize| {
                !damaged[*node]
                    && voters.contains(node)
                    && priorities.of(NodeId(*node as u64 + 1)) > 0
            };
            if (0..self.plan.nodes).filter(fit).count() < 2 {
                continue;
            }
            let moved = (0..TRIES).any(|attempt| {
                let Some(leader) = self.checker.leader(at) else { return false };
                let others = (1..self.plan.nodes).map(|by| (leader + by) % self.plan.nodes);
                let others: Vec<_> = others.filter(fit).collect();
                let to = NodeId(others[at % others.len()] as u64 + 1);
                self.transfers.last = None;
                self.transfer(at, leader, attempt.is_multiple_of(2).then_some(to));
                while !self.transfers.nothing_waits() {
                    self.run_until(self.now() + MS);
                }
                matches!(self.transfers.last, Some(Ok(_)))
            });
            let (group, last) = (self.plan.groups[at], &self.transfers.last);
            assert!(moved, "liveness: group {group} keeps its leader in peace: {last:?}");
            let serves = self.soon(|world| world.serves(at));
            assert!(serves, "liveness: group {group} serves no more");
        }
    }
}

/// A plan gives each group at most once to one of its candidates, and no single move more would make
/// it more even.
fn check_plan(groups: &[Led], moves: &[Move]) {
    let mut leaders: BTreeMap<GroupId, NodeId> =
        groups.iter().map(|led| (led.group, led.leader)).collect();
    for Move { group, from, to } in moves {
        let led = groups.iter().find(|led| led.group == *group).expect("a group that is led");
        assert!(led.candidates.contains(to), "rebalance: node {to} is no candidate of {group}");
        let before = leaders.insert(*group, *to);
        assert_eq!(before, Some(*from), "rebalance: {group} moves once, from its leader");
    }
    let load = |node: &NodeId| leaders.values().filter(|leader| *leader == node).count();
    for led in groups {
        let own = load(&leaders[&led.group]);
        let better = led.candidates.iter().find(|node| load(node) + 1 < own);
        assert!(better.is_none(), "rebalance: {} is better led by {better:?}", led.group);
    }
}

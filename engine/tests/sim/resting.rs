//! Groups at rest: who may rest, on what, and that all do when nothing happens. The checks believe
//! connections and disks as the simulator has them, not what the shards say of them.

use std::collections::{BTreeMap, BTreeSet};

use ringleader::time::Time;
use ringleader::{GroupId, LogPosition, NodeId, Term};

use crate::plan::MS;
use crate::world::{LOOK_EVERY, World};

/// What a process's groups rest on.
#[derive(Debug, Default)]
pub(crate) struct Rests {
    /// When each seat was last heard, by the node's clock.
    heard: BTreeMap<usize, Time>,
    /// The groups at rest; a follower's with the seat and the connection that it rests on.
    groups: BTreeMap<GroupId, Option<(usize, u64)>>,
}

impl Rests {
    pub(crate) fn hear(&mut self, seat: usize, now: Time) {
        self.heard.insert(seat, now);
    }
}

/// Where leaders rested: what each had then, per group and term.
#[derive(Debug, Default)]
pub(crate) struct Beds(BTreeSet<(usize, Term, LogPosition)>);

/// Election timeouts in which a group without its leader gets another one, in peace.
const SUCCESSION: u64 = 20;

impl World {
    /// Compares what rests on a seat with what rested there before.
    pub(crate) fn check_rests(&mut self, seat: usize) {
        let node = self.plan.seats.node(seat);
        for (at, group) in self.plan.groups.clone().into_iter().enumerate() {
            let Some(process) = &self.seats[seat].process else { return };
            let Some(raft) = process.shard.raft(group) else { continue };
            let earlier = process.rests.groups.get(&group).copied();
            let (status, leads) = (raft.status(), raft.is_leader());
            let bed = match (earlier, raft.rests()) {
                (None, false) => continue,
                (Some(Some((leader, epoch))), true) if !leads => {
                    assert_eq!(
                        process.known.get(&leader),
                        Some(&epoch),
                        "rest: node {} of group {group} rests on a connection that is over",
                        node + 1
                    );
                    continue;
                }
                (Some(_), true) => continue,
                (Some(_), false) => None,
                (None, true) if leads => {
                    self.check_leader_rests(at, seat, status.last);
                    self.beds.0.insert((at, status.term, status.last));
                    Some(None)
                }
                (None, true) => {
                    let who = || format!("node {} of group {group}: {status:?}", node + 1);
                    let leader = status.leader.expect("who rests knows its leader");
                    let led = self.checker.led(at, status.term);
                    assert_eq!(led, Some(leader), "rest: with a leader: {}", who());
                    let bed = (at, status.term, status.last);
                    assert!(self.beds.0.contains(&bed), "rest: where the leader does: {}", who());
                    assert_eq!(status.commit, status.last.index, "rest: with all: {}", who());
                    assert_eq!(status.durable, status.last.index, "rest: with all: {}", who());
                    let leader = self.plan.seats.of_group(group, leader.0 as usize - 1);
                    let epoch = process.known.get(&leader).expect("who rests hears its leader");
                    Some(Some((leader, *epoch)))
                }
            };
            self.counts.add(
                match bed {
                    None => "groups woken",
                    Some(None) => "groups at rest",
                    Some(Some(_)) => "groups at rest with their leader",
                },
                1,
            );
            let process = self.seats[seat].process.as_mut().expect("it is alive");
            match bed {
                Some(bed) => process.rests.groups.insert(group, bed),
                None => process.rests.groups.remove(&group),
            };
        }
    }

    /// A leader rests: everybody whom it can hear has everything, and they are a quorum.
    fn check_leader_rests(&mut self, at: usize, seat: usize, last: LogPosition) {
        let (group, node) = (self.plan.groups[at], self.plan.seats.node(seat));
        let process = self.seats[seat].process.as_ref().expect("it is alive");
        let raft = process.shard.raft(group).expect("it rests");
        let (now, patience) = (self.local_time(node), self.plan.raft.election_timeout);
        let hears = |other: usize| {
            let peer = self.plan.seats.of_group(group, other);
            let heard = process.rests.heard.get(&peer);
            let lately = heard.is_some_and(|heard| now.since(*heard) < patience);
            // A shard that was just told of a node hears of its connections with the next turn.
            let linked = process.known.contains_key(&peer) && process.link(peer).is_some();
            other == node || lately && linked
        };
        let members: Vec<usize> =
            raft.configuration().members().map(|member| member.0 as usize - 1).collect();
        let absent = members.iter().filter(|other| !hears(**other)).count();
        for other in members.into_iter().filter(|other| hears(*other)) {
            assert!(
                self.checker.has_on_disk(at, other, last),
                "rest: the leader of group {group}, node {}, rests although node {} lacks {last:?}",
                node + 1,
                other + 1
            );
        }
        assert!(
            self.checker.is_quorum_at(at, last, hears),
            "rest: the leader of group {group}, node {}, rests without a quorum",
            node + 1
        );
        self.counts.add("groups at rest without a member", u64::from(absent > 0));
    }

    /// A member that campaigns although it was removed, one that a reset has left behind, or a leader
    /// that is to hand over and can't: with them a group finds no rest.
    pub(crate) fn finds_rest(&self, at: usize) -> bool {
        let group = self.plan.groups[at];
        let Some(leader) = self.checker.leader(at) else { return false };
        let priorities = self.plan.priorities.get(&group);
        let stands_in = priorities.is_some_and(|p| p.of(NodeId(leader as u64 + 1)) == 0);
        let members = self.checker.members_of(at);
        let campaigns = |node: usize| {
            let process = &self.seats[self.plan.seats.of_group(group, node)].process;
            let raft = process.as_ref().and_then(|process| process.shard.raft(group));
            let stranger = raft.filter(|_| !members.contains(&node));
            stranger.is_some_and(|raft| raft.deadline() < Time::NEVER)
        };
        // Who refuses the group's log never has all of it.
        let refuses = members.iter().any(|node| self.checker.contradicts(at, *node));
        self.plan.raft.rest_after > 0
            && !stands_in
            && !refuses
            && !(0..self.plan.nodes).any(campaigns)
    }

    /// The members of a group that take part and do not rest. Those who lost what they had are let
    /// in by nobody.
    fn restless(&self, at: usize) -> Vec<usize> {
        let group = self.plan.groups[at];
        let mut members = self.checker.members_of(at);
        members.retain(|node| {
            let process = &self.seats[self.plan.seats.of_group(group, *node)].process;
            let shard = process.as_ref().map(|process| &process.shard);
            let raft = shard.filter(|shard| shard.takes_part()).and_then(|s| s.raft(group));
            raft.is_some_and(|raft| !raft.rests()) && !self.atlas.damaged()[*node]
        });
        members
    }

    /// In peace all groups go to rest, and cost nothing then; a group at rest serves what comes next
    /// at once and under the same leader; and one that loses its leader has another soon.
    pub(crate) fn rest_in_peace(&mut self) {
        self.fall_asleep();
        let election = self.plan.raft.election_timeout.as_nanos() as u64;
        let groups: Vec<usize> = (0..self.plan.groups.len()).collect();
        let resting: Vec<usize> = groups.into_iter().filter(|at| self.finds_rest(*at)).collect();
        let said = self.said.clone();
        self.run_until(self.now() + 2 * election);
        for at in resting.iter().copied() {
            let group = self.plan.groups[at];
            assert_eq!(self.said[at], said[at], "rest: group {group} costs messages");
            let reign = |world: &Self| world.checker.reign(at, world.atlas.damaged());
            let before = reign(self);
            let served = (0..3).any(|_| self.serves(at) && self.serves_reads(at));
            assert!(served, "liveness: group {group} does not serve after a rest");
            assert_eq!(reign(self), before, "liveness: group {group} lost its leader at rest");
        }
        self.fall_asleep();
        self.disturb_rest();
        self.fall_asleep();
        self.lose_a_leader();
    }

    fn fall_asleep(&mut self) {
        let raft = self.plan.raft;
        let election = raft.election_timeout.as_nanos() as u64;
        let rest = raft.heartbeat_interval * (raft.rest_after + 4);
        let patience = rest.as_nanos() as u64 + 8 * election;
        // Whom a frame of long ago wakes rests again, if it is the last one and was answered.
        if self.now() <= self.ghosts_until {
            self.run_until(self.ghosts_until + LOOK_EVERY);
        }
        let mut end = self.now() + patience;
        for at in 0..self.plan.groups.len() {
            while self.finds_rest(at) && !self.restless(at).is_empty() {
                // An operation of a disk that began in trouble may take seconds.
                if self.waits_for_disks(at) {
                    end = self.now() + patience;
                }
                let (group, restless) = (self.plan.groups[at], self.restless(at));
                assert!(self.now() < end, "liveness: group {group} finds no rest: {restless:?}");
                self.run_until(self.now() + LOOK_EVERY);
            }
            end = end.max(self.now() + 2 * election);
        }
    }

    fn waits_for_disks(&self, at: usize) -> bool {
        let group = self.plan.groups[at];
        self.restless(at).into_iter().any(|node| {
            let process = &self.seats[self.plan.seats.of_group(group, node)].process;
            let raft = process.as_ref().and_then(|process| process.shard.raft(group));
            raft.is_some_and(|raft| raft.status().durable < raft.status().last.index)
        })
    }

    /// The process of a group's leader ends.
    fn lose_a_leader(&mut self) {
        let Some(lost) = self.checker.leader(0) else { return };
        let leads = |at: usize| self.checker.leader(at) == Some(lost);
        let groups: Vec<usize> = (0..self.plan.groups.len()).filter(|at| leads(*at)).collect();
        // It may be back before anybody has missed it.
        let election = self.plan.raft.election_timeout.as_nanos() as u64;
        let away = if self.rng.coin() { 2 * MS } else { 4 * election };
        let before = std::mem::replace(&mut self.plan.faults.away, away);
        self.crash(lost);
        self.plan.faults.away = before;
        let plain = self.plan.priorities.is_empty();
        let patience = if plain { SUCCESSION * election } else { self.plan.patience };
        let mut end = self.now() + patience;
        for at in groups {
            let group = self.plan.groups[at];
            while self.checker.leader(at).is_none() {
                // Where it is needed, it has to read its log, which takes as long as that is long.
                let seat = self.plan.seats.of_group(group, lost);
                if self.seats[seat].process.as_ref().is_some_and(|process| !process.recovered) {
                    end = self.now() + patience;
                }
                assert!(self.now() < end, "liveness: group {group} has lost its leader for good");
                self.run_until(self.now() + LOOK_EVERY);
            }
        }
    }
}

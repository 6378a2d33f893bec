//! Who is to lead, if it can: election priorities, as SOFAJRaft has them.
//!
//! Of the voters that lost their leader, those of the highest priority campaign first; every lower
//! priority that there is waits one election timeout longer, so a group without its preferred node
//! is without a leader for as many election timeouts longer as there are priorities above those of
//! the nodes that live. (SOFAJRaft lowers a target by steps of at least 10 each second timeout, so
//! that the delay grows with the distance of the numbers.) A node defers once: as long as no leader
//! is found, its further attempts come at the pace of all.
//!
//! A node of priority 0 does not campaign, unless no voter has a higher one. But it may be the only
//! one that holds a committed entry, for a leader's own disk is no necessary part of a majority. So
//! it stands in when it had to refuse a candidate whose log is behind its own, and when nobody else
//! got into office for a long time: who should may not know yet that it has a vote. It campaigns,
//! brings the others up to date, and hands the office over to one of them as soon as it can.
//!
//! Priorities are about time alone, and no part of safety: nodes may disagree about them.

use std::time::Duration;

use ringleader_wal::NodeId;

use super::configuration::Configuration;
use super::leader::Leader;
use super::output::Outlet;
use super::state::State;

/// The priority of a voter for which none is set.
pub const DEFAULT_PRIORITY: u16 = 1;

/// Election timeouts without a leader after which a voter of priority 0 stands in.
const ABSTENTION: u32 = 8;

/// The voters' priorities; [`DEFAULT_PRIORITY`] for those that are not listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Priorities(Vec<(NodeId, u16)>);

impl Priorities {
    /// These, each for a node of its own.
    #[must_use]
    pub fn new(priorities: &[(NodeId, u16)]) -> Self {
        Self(priorities.to_vec())
    }

    /// The priority of a node.
    #[must_use]
    pub fn of(&self, node: NodeId) -> u16 {
        let listed = self.0.iter().find(|(listed, _)| *listed == node);
        listed.map_or(DEFAULT_PRIORITY, |(_, priority)| *priority)
    }

    /// How many different priorities among the voters are above the node's.
    fn above(&self, node: NodeId, configuration: &Configuration) -> u32 {
        let own = self.of(node);
        let voters = configuration.voters().iter().map(|voter| self.of(*voter));
        let mut higher: Vec<_> = voters.filter(|priority| *priority > own).collect();
        higher.sort_unstable();
        higher.dedup();
        higher.len() as u32
    }
}

impl State {
    pub(super) fn priority_of(&self, node: NodeId) -> u16 {
        self.priorities.as_ref().map_or(DEFAULT_PRIORITY, |priorities| priorities.of(node))
    }

    /// Election timeouts for which this node lets others try first.
    pub(super) fn deference(&self) -> u32 {
        let configuration = self.configurations.latest();
        self.priorities.as_ref().map_or(0, |priorities| priorities.above(self.node, configuration))
    }

    /// Whether this node is not to lead, and there are voters that are.
    pub(super) fn leaves_office_to_others(&self) -> bool {
        self.priority_of(self.node) == 0 && self.deference() > 0
    }

    /// Whether this node leaves campaigning to others.
    pub(super) fn abstains(&self) -> bool {
        !self.stands_in && self.leaves_office_to_others()
    }

    /// How much longer than others this node waits before it campaigns.
    pub(super) fn abstention(&self) -> Duration {
        if self.abstains() { self.config.election_timeout * ABSTENTION } else { Duration::ZERO }
    }

    /// This node campaigns.
    pub(super) fn stand_in(&mut self) {
        self.stands_in |= self.abstains();
    }

    /// This node's log is ahead of a candidate's, while there is no leader.
    pub(super) fn refused_for_its_log(&mut self, out: &mut dyn Outlet) {
        if self.abstains() {
            self.stands_in = true;
            self.retry_election_timer();
            out.reschedule();
        }
    }

    /// There is a leader: this node defers again when it is lost.
    pub(super) fn found_leader(&mut self) {
        self.stands_in = false;
        if self.priorities.is_some() {
            self.restart_election_timer();
        }
    }
}

impl Leader {
    /// Who only stands in hands the office over, as soon as somebody can take it.
    pub(super) fn end_standing_in(&mut self, state: &State, out: &mut dyn Outlet) {
        if state.leaves_office_to_others() && self.transfer.is_none() {
            // Nobody may be fit yet.
            let _ = self.begin_transfer(None, state, out);
        }
    }
}

//! What the operator of the cluster asks of it, and when: in the random schedule beside what goes
//! wrong and what callers ask for. As with faults, each seed switches a random subset on.

use std::time::Duration;

use crate::inputs::Input;
use crate::plan::MS;
use crate::rng::{Rng, SURE};
use crate::schedule::Deed;
use crate::world::{Event, World};

/// What an operator does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Tells one node to stop; it comes back.
    Stop,
    /// Takes a node out of the members of another, and puts it back.
    Forget,
    /// Asks a node to hand a leadership over.
    Transfer,
    /// Asks one node for snapshots of all its groups.
    Snapshot,
    /// Reads committed entries back.
    ReadLog,
    /// Changes the members of a group.
    ChangeMembers,
    /// Looks for groups without a majority, and resets one.
    Survey,
    /// Starts a node that was lost.
    BringBack,
    /// Destroys a replica that is no member.
    Destroy,
    /// Destroys one that is, with the loss accepted.
    DestroyMember,
    /// Spreads the leaderships evenly.
    Rebalance,
    /// Has a node listen elsewhere, and tells the others.
    Move,
}

const ACTIONS: [Action; 7] = [
    Action::Stop,
    Action::Forget,
    Action::Transfer,
    Action::Snapshot,
    Action::ReadLog,
    Action::Rebalance,
    Action::Move,
];

/// See the [module documentation](self).
#[derive(Clone, Debug)]
pub(crate) struct OperatorPlan {
    /// The actions of this seed, and the longest pause between two of a kind.
    pub(crate) enabled: Vec<(Action, u64)>,
    /// How long a node that stops may take to hand its leaderships over.
    pub(crate) handover: Duration,
}

impl OperatorPlan {
    pub(crate) fn draw(rng: &mut Rng, election: u64, trouble: u64, plan: [bool; 2]) -> Self {
        let [changing, resetting] = plan;
        let likely = rng.pick(&[SURE / 12, SURE / 5, SURE / 2]);
        // Leaderships are to move while everything else goes on, too.
        let moves = |action| matches!(action, Action::Transfer | Action::Rebalance);
        let likely = |action| if moves(action) { likely * 2 } else { likely };
        let actions = ACTIONS.into_iter().filter(|action| rng.chance(likely(*action)));
        let actions = actions.collect::<Vec<_>>();
        let longest = |action| (action, rng.magnitude(election / 2, 2 * trouble));
        let mut enabled: Vec<_> = actions.into_iter().map(longest).collect();
        if changing {
            enabled.push((Action::ChangeMembers, rng.magnitude(election / 2, trouble / 2)));
            if !resetting && rng.chance(SURE * 3 / 4) {
                enabled.push((Action::Destroy, rng.magnitude(election / 4, trouble / 4)));
            }
            if !resetting && rng.chance(SURE * 3 / 4) {
                enabled.push((Action::DestroyMember, rng.magnitude(election / 4, trouble / 2)));
            }
        }
        if resetting {
            enabled.push((Action::Survey, rng.magnitude(election / 4, 2 * election)));
            enabled.push((Action::BringBack, rng.magnitude(election, trouble / 2)));
        }
        let handover = if rng.chance(SURE / 4) { 0 } else { rng.magnitude(MS, 4 * election) };
        Self { enabled, handover: Duration::from_nanos(handover) }
    }
}

impl World {
    pub(crate) fn schedule_action(&mut self, at: usize) {
        if let Some(deed) = self.schedule.deeds.get(at) {
            let pause = deed.at - self.now();
            self.after(pause, Event::Action(at));
        }
    }

    /// An action of the schedule comes, and the next one is awaited.
    pub(crate) fn action(&mut self, at: usize) {
        if self.healed {
            return;
        }
        self.schedule_action(at + 1);
        let Deed { what, seed, number, .. } = self.schedule.deeds[at];
        self.act(what, number, &mut Rng::new(seed));
    }

    fn act(&mut self, action: Action, number: usize, rng: &mut Rng) {
        let node = self.victim(rng);
        self.trace.line(|| format!("*** action {number}: {action:?}, node {}", node + 1));
        self.trace.step("action", node as u64, number as u64, 0);
        match action {
            Action::Stop => self.stop(node),
            Action::ChangeMembers => self.change_members(node, number, rng),
            Action::Destroy => self.destroy_replica(node, rng),
            Action::DestroyMember => self.destroy_member(node, rng),
            Action::Rebalance => self.rebalance(),
            Action::Move => self.move_node(node, rng),
            Action::Forget => {
                let lasting = rng.between(MS, self.plan.faults.lasting.max(2 * MS));
                self.forget_node(node, lasting, rng);
            }
            Action::Transfer => self.transfer_any(node, rng),
            Action::ReadLog => {
                let (from, max_bytes) = (rng.next(), rng.magnitude(1, 1 << 20) as usize);
                let input = |_| Input::ReadLog { from, max_bytes };
                self.plan.seats.of(node).for_each(|seat| self.feed(seat, input(seat)));
            }
            Action::Survey => drop(self.survey(rng)),
            Action::BringBack => self.bring_back_late(rng),
            Action::Snapshot => {
                self.plan.seats.of(node).for_each(|seat| self.feed(seat, Input::Snapshot));
            }
        }
        self.counts.add(action.name(), 1);
    }
}

impl Action {
    fn name(self) -> &'static str {
        match self {
            Self::Stop => "nodes stopped",
            Self::Forget => "members forgotten",
            Self::Transfer => "transfers asked for",
            Self::Snapshot => "nodes asked for snapshots",
            Self::ReadLog => "nodes asked for their logs",
            Self::Survey => "surveys",
            Self::BringBack => "lost nodes tried",
            Self::ChangeMembers => "changes of members asked for",
            Self::Destroy => "replicas to be destroyed",
            Self::DestroyMember => "members to be destroyed",
            Self::Rebalance => "leaderships to be spread",
            Self::Move => "nodes to be moved",
        }
    }
}

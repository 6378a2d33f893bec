//! Changing a group's members.

use ringleader_wal::{GroupId, LogIndex, NodeId};

use crate::error::{MembershipError, ResetError, UnknownCause};
use crate::handle::Handle;
use crate::inbox::Request;
use crate::raft::{Configuration, MembershipChange, Reset};

impl MembershipChange {
    /// Makes these the members, and nobody else.
    #[must_use]
    pub fn exactly(voters: &[NodeId], learners: &[NodeId]) -> Self {
        let (voters, learners) = (voters.to_vec(), learners.to_vec());
        Self { voters, learners, removed: Vec::new(), exactly: true }
    }

    /// Also makes `node` a voter: a new node, or a learner.
    #[must_use]
    pub fn voter(mut self, node: NodeId) -> Self {
        self.voters.push(node);
        self
    }

    /// Also makes `node` a learner: a new node, or a voter.
    #[must_use]
    pub fn learner(mut self, node: NodeId) -> Self {
        self.learners.push(node);
        self
    }

    /// Also removes `node`.
    #[must_use]
    pub fn remove(mut self, node: NodeId) -> Self {
        self.removed.push(node);
        self
    }
}

impl Handle {
    /// Changes the members of a group that this node leads: any number of them at once, through
    /// joint consensus (thesis, section 4.3). Returns the log index of the final configuration once
    /// that is committed; if nothing is to be changed, that of the present one.
    ///
    /// Every node named must be known ([`set_member`](Handle::set_member)) and have the group in its
    /// configuration, without voters if it is new. A new voter is first brought up to date, and has
    /// no vote meanwhile; what limits that is
    /// [`catch_up_rounds`](crate::RaftConfig::catch_up_rounds) and
    /// [`catch_up_patience`](crate::RaftConfig::catch_up_patience). A leader that is removed or
    /// demoted steps down when the change is committed.
    ///
    /// While it is under way, a majority of the old voters and one of the new ones are needed for
    /// everything. If one of the two is lost in that moment, the group stands still until enough of
    /// those nodes are back.
    ///
    /// Operations go on meanwhile. One change at a time: another is refused. Dropping the future does
    /// not take the change back.
    ///
    /// # Errors
    /// [`MembershipError::Unknown`] is the only error after which the change may take place.
    pub async fn change_members(
        &self,
        group: GroupId,
        change: MembershipChange,
    ) -> Result<LogIndex, MembershipError> {
        let inbox = self.inbox(group);
        let (reply, answer) = flume::bounded(1);
        let sent = inbox.send(Request::ChangeMembers { group, change, reply }).await;
        sent.map_err(|_| MembershipError::Stopped)?;
        let lost = Err(MembershipError::Unknown(UnknownCause::Stopped));
        answer.recv_async().await.unwrap_or(lost)
    }

    /// Makes `node` a voter; see [`change_members`](Handle::change_members).
    ///
    /// # Errors
    /// As [`change_members`](Handle::change_members), like those below.
    pub async fn add_voter(
        &self,
        group: GroupId,
        node: NodeId,
    ) -> Result<LogIndex, MembershipError> {
        self.change_members(group, MembershipChange::default().voter(node)).await
    }

    /// Makes `node` a learner: it gets the log and has no vote.
    ///
    /// # Errors
    /// See [`change_members`](Handle::change_members).
    pub async fn add_learner(
        &self,
        group: GroupId,
        node: NodeId,
    ) -> Result<LogIndex, MembershipError> {
        self.change_members(group, MembershipChange::default().learner(node)).await
    }

    /// Takes `node` out of the group.
    ///
    /// # Errors
    /// See [`change_members`](Handle::change_members).
    pub async fn remove_replica(
        &self,
        group: GroupId,
        node: NodeId,
    ) -> Result<LogIndex, MembershipError> {
        self.change_members(group, MembershipChange::default().remove(node)).await
    }

    /// **Loses data.** Sets a group's members anew on this node, without asking anybody: for when a
    /// majority of its voters is lost and can't come back. Also the way to begin a group anew from
    /// what this node has of it, with other members.
    ///
    /// All of this node's log stays, and is committed from now on, acknowledged or not. Whatever
    /// others had that this node has not is lost, **acknowledged operations too**. So ask the node
    /// that is left whose log ends at the highest (term, index): it has all that any of those left
    /// knows committed (`ringleader survey` compares them). Ask one node only: where two are asked
    /// apart from each other, one of the two histories ends when they meet.
    ///
    /// The other new members must be empty, or have had a replica of the group. Those who know
    /// something committed that this node has not take nothing of the new log, and make no voters; their
    /// state machines keep what they have. Only a snapshot, which takes the place of all that, brings
    /// them back: they are sent one as learners once the new log was shortened. Old members
    /// that come back and meet anybody of the new era can't elect a leader any more, but **old
    /// members that only meet each other, be it for a moment, go on by themselves**. So start none
    /// before everybody who is left is of the new era, for who is not may have had votes before the
    /// reset that still count; then start them one by one, each when the one before it
    /// [is superseded](crate::GroupStatus::is_superseded), and see to it that a majority of them
    /// never runs apart from the others. See
    /// [`era`](crate::raft::era).
    ///
    /// It is refused while a leader is there. It is answered when it is durable here; then the new
    /// voters elect a leader, so more than half of them have to be up.
    ///
    /// # Errors
    /// [`ResetError::Unknown`] is the only error after which it may take effect. A crash may also leave
    /// half of it: the node [is superseded](crate::GroupStatus::is_superseded) then, leads nobody, and
    /// keeps from leading whoever hears of it, until it is asked again.
    pub async fn reset_peers(
        &self,
        group: GroupId,
        members: &Configuration,
    ) -> Result<Reset, ResetError> {
        self.ask_reset(group, members, false).await
    }

    /// What [`reset_peers`](Self::reset_peers) would do, without doing it.
    ///
    /// # Errors
    /// Why it would not.
    pub async fn plan_reset(
        &self,
        group: GroupId,
        members: &Configuration,
    ) -> Result<Reset, ResetError> {
        self.ask_reset(group, members, true).await
    }

    async fn ask_reset(
        &self,
        group: GroupId,
        members: &Configuration,
        plan: bool,
    ) -> Result<Reset, ResetError> {
        let inbox = self.inbox(group);
        let (reply, answer) = flume::bounded(1);
        let members = members.clone();
        let sent = inbox.send(Request::ResetPeers { group, members, plan, reply }).await;
        sent.map_err(|_| ResetError::Stopped)?;
        let lost = Err(ResetError::Unknown(UnknownCause::Stopped));
        answer.recv_async().await.unwrap_or(lost)
    }
}

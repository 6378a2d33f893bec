//! Groups that come and go while a node runs, for callers.

use std::collections::BTreeSet;
use std::sync::RwLock;

use ringleader_wal::GroupId;

use crate::config::GroupConfig;
use crate::error::{CreateGroupError, DestroyGroupError, UnknownCause};
use crate::handle::Handle;
use crate::inbox::Request;

impl Handle {
    /// Creates a group on this node, which is to have it from now on: it is here again after every
    /// restart, whatever [`EngineConfig::groups`](crate::EngineConfig::groups) says.
    ///
    /// A new group is created on each of its voters, with the same voters, in any order; it elects a
    /// leader as soon as a majority has it. Voters that the group did not begin with must not be
    /// named anywhere: on a node that is added to a group that exists, create it without any, and
    /// then have the leader add the node ([`change_members`](Self::change_members)).
    ///
    /// It is answered when it is durable. The state machine is made by the factory that the engine
    /// was started with.
    ///
    /// # Errors
    /// [`CreateGroupError::Unknown`] is the only error after which the group may be here. Then, or
    /// after a crash, it may be created again: that is done, or says
    /// [`Exists`](CreateGroupError::Exists).
    pub async fn create_group(&self, config: GroupConfig) -> Result<(), CreateGroupError> {
        let (reply, answer) = flume::bounded(1);
        let inbox = self.inbox(config.group);
        let sent = inbox.send(Request::CreateGroup { config, reply }).await;
        sent.map_err(|_| CreateGroupError::Stopped)?;
        let lost = Err(CreateGroupError::Unknown(UnknownCause::Stopped));
        answer.recv_async().await.unwrap_or(lost)
    }

    /// Destroys this node's replica of a group that it is no member of any more: the log, the
    /// snapshots and the state machine. What waits for it here is answered. Other nodes are not told.
    ///
    /// Its number is **used up on this node**: the group can't be created here again, nor any other
    /// group of that number. (A replica that came back empty could give a second vote.) A replica
    /// that may be wanted again is kept: without a vote it does nothing.
    ///
    /// It is answered when it is durable. The space comes back with the next segments of the log.
    ///
    /// # Errors
    /// [`DestroyGroupError::StillMember`] as long as this node is a member, as far as it knows.
    /// [`DestroyGroupError::Unknown`] is the only error after which the replica may be gone.
    pub async fn destroy_replica(&self, group: GroupId) -> Result<(), DestroyGroupError> {
        self.destroy(group, false).await
    }

    /// **Loses data.** As [`destroy_replica`](Self::destroy_replica), but also on a node that is a
    /// member: for a group that is to end, on each of its nodes. For the group it is as if the node
    /// were lost for ever.
    ///
    /// # Errors
    /// As there, but for [`StillMember`](DestroyGroupError::StillMember).
    pub async fn destroy_member(&self, group: GroupId) -> Result<(), DestroyGroupError> {
        self.destroy(group, true).await
    }

    async fn destroy(&self, group: GroupId, member_too: bool) -> Result<(), DestroyGroupError> {
        let (reply, answer) = flume::bounded(1);
        let request = Request::DestroyGroup { group, member_too, reply };
        self.inbox(group).send(request).await.map_err(|_| DestroyGroupError::Stopped)?;
        let lost = Err(DestroyGroupError::Unknown(UnknownCause::Stopped));
        answer.recv_async().await.unwrap_or(lost)
    }

    /// The groups that are on this node, ascending.
    #[must_use]
    pub fn groups(&self) -> Vec<GroupId> {
        self.shared.groups.all()
    }
}

/// Which groups are on the node. Only callers who ask for that look here; everything else goes to
/// the shard, which knows.
#[derive(Default)]
pub(crate) struct GroupsHere(RwLock<BTreeSet<GroupId>>);

impl GroupsHere {
    pub(crate) fn add(&self, groups: impl IntoIterator<Item = GroupId>) {
        self.0.write().expect("no panic under this lock").extend(groups);
    }

    pub(crate) fn remove(&self, group: GroupId) {
        self.0.write().expect("no panic under this lock").remove(&group);
    }

    pub(crate) fn contains(&self, group: GroupId) -> bool {
        self.0.read().expect("no panic under this lock").contains(&group)
    }

    fn all(&self) -> Vec<GroupId> {
        self.0.read().expect("no panic under this lock").iter().copied().collect()
    }
}

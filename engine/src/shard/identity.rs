//! Whose promises count: what the groups' logs say of their members' data directories, and who is
//! refused for it.
//!
//! A configuration names the directory of each member that a leader has met
//! ([`configuration`](crate::raft::configuration)). From the moment that it is in a log on this shard,
//! committed or not (it says what somebody saw), no connection counts to a node that shows another
//! one: to the shard it is down, so no vote, no answer and no entry of it gets to any group. The
//! driver closes it, and writes the directory into the node's book, which refuses the next one at the
//! handshake, and for good. So groups know nothing of directories but what they write down, and the
//! steady state does not look at any.
//!
//! The same holds for this node: if a log says that its directory is another one, then this log is a
//! copy, or it was sent here by somebody who does not know yet that the node lost what it had. It
//! must not vote or lead: the shard fails, before anything of the same turn leaves it.

use ringleader_net::DataId;
use ringleader_wal::{GroupId, NodeId};

use super::snapshot::Opened;
use super::{LinkId, Shard};
use crate::raft::Configuration;
use crate::time::Time;

/// What is wrong with a node whose data is not that which a group counts on.
fn not_ours(group: GroupId, node: NodeId, data: DataId, named: DataId) -> String {
    format!(
        "group {group} counts on node {node} with the data directory {named}, and this one is \
         {data}: what the node had promised is lost, or this log is a copy. Remove node {node} from \
         its groups and add it again as a new node, with a new number and an empty directory"
    )
}

impl Shard {
    /// Another configuration is in force in a group.
    pub(super) fn learn_identities(&mut self, now: Time, slot: u32) {
        let Self { groups, last_members, .. } = self;
        let group = &mut groups[slot as usize];
        group.raft.share_configuration(last_members);
        let (group, members) = (group.id, last_members.clone());
        match self.take_identities(group, &members) {
            Ok(true) => self.refuse_strangers(now),
            Ok(false) => {}
            Err(cause) => self.misplaced = Some(cause),
        }
    }

    /// Fails, if a log says that this is not the node that it counts on.
    pub(super) fn check_own_identity(&mut self) {
        if let Some(cause) = self.misplaced.take() {
            self.fail(cause);
        }
    }

    /// Takes what the logs say that were found, all of it: what an earlier configuration says of a
    /// node is true of it for ever.
    ///
    /// # Errors
    /// They are not this node's.
    pub(super) fn take_found_identities(&mut self, opened: &[Opened]) -> Result<(), String> {
        for (at, Opened { restored, .. }) in opened.iter().enumerate() {
            let group = self.config.groups[at].group;
            let all = restored.configuration.iter().chain(&restored.configurations);
            for (_, configuration) in all {
                self.take_identities(group, configuration)?;
            }
        }
        Ok(())
    }

    /// Takes what a configuration says of its members' data; true if that is news.
    ///
    /// # Errors
    /// It is said of this node, and is not so.
    fn take_identities(&mut self, group: GroupId, of: &Configuration) -> Result<bool, String> {
        let (node, own) = (self.config.node, self.config.data);
        let mut news = false;
        for (member, data) in of.identities() {
            if member == node && data != own {
                return Err(not_ours(group, node, own, data));
            }
            if member != node && self.links.tell(member, data) {
                self.effects.told.push((member, data));
                news = true;
            }
        }
        Ok(news)
    }

    /// Whether the peer at the other end of a link is connected, and not refused.
    #[must_use]
    pub fn is_linked(&self, link: LinkId) -> bool {
        self.links.is_up(link)
    }

    /// Gives up the connections to those who lost what they are known with.
    pub(super) fn refuse_strangers(&mut self, now: Time) {
        while let Some((link, replaced)) = self.links.next_stranger() {
            self.link_down(now, link);
            self.effects.refused.push((link, replaced));
        }
    }
}

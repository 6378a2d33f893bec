//! The cluster's nodes as this node knows them: changed from any thread, followed by every shard.
//!
//! A shard looks at a version before it takes a request and at every tick; only when that changed
//! does it take the lock and the new list. So whoever changes the list waits for nobody, and every
//! request that is sent after a change meets a shard that knows it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use ringleader_wal::NodeId;

use crate::config::Member;
use crate::error::MemberError;

/// See the [module documentation](self).
pub(crate) struct Members {
    this: NodeId,
    /// Rises with every change.
    version: AtomicU64,
    list: Mutex<BTreeMap<NodeId, Member>>,
}

impl Members {
    pub(crate) fn new(this: NodeId, members: &[Member]) -> Self {
        let list = members.iter().map(|member| (member.node, member.clone())).collect();
        Self { this, version: AtomicU64::new(1), list: Mutex::new(list) }
    }

    fn list(&self) -> MutexGuard<'_, BTreeMap<NodeId, Member>> {
        self.list.lock().expect("no panic under this lock")
    }

    /// True if something changed.
    pub(crate) fn set(&self, member: Member) -> Result<bool, MemberError> {
        if member.node == self.this {
            return Err(MemberError::ThisNode);
        }
        member.check_peer().map_err(MemberError::Invalid)?;
        let mut list = self.list();
        let changed = list.insert(member.node, member.clone()).as_ref() != Some(&member);
        self.version.fetch_add(u64::from(changed), Ordering::Release);
        Ok(changed)
    }

    /// True if it was there.
    pub(crate) fn remove(&self, node: NodeId) -> Result<bool, MemberError> {
        if node == self.this {
            return Err(MemberError::ThisNode);
        }
        let mut list = self.list();
        let changed = list.remove(&node).is_some();
        self.version.fetch_add(u64::from(changed), Ordering::Release);
        Ok(changed)
    }

    /// All of them, this node included.
    pub(crate) fn all(&self) -> Vec<Member> {
        self.list().values().cloned().collect()
    }

    /// All of them, if something changed since the version that was `seen` last.
    pub(crate) fn news(&self, seen: &mut u64) -> Option<BTreeMap<NodeId, Member>> {
        if self.version.load(Ordering::Acquire) == *seen {
            return None;
        }
        let list = self.list();
        *seen = self.version.load(Ordering::Acquire);
        Some(list.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(node: u64, port: u16) -> Member {
        Member { node: NodeId(node), address: ([10, 0, 0, 1], port).into(), shards: 2 }
    }

    #[test]
    fn a_change_is_news_once() {
        let members = Members::new(NodeId(1), &[member(1, 1), member(2, 2)]);
        let mut seen = 0;
        assert_eq!(members.news(&mut seen).map(|list| list.len()), Some(2), "the first list is");
        assert_eq!(members.news(&mut seen), None);
        assert_eq!(members.set(member(2, 2)), Ok(false));
        assert_eq!(members.news(&mut seen), None, "what was known is no news");
        assert_eq!(members.set(member(2, 3)), Ok(true));
        assert_eq!(members.set(member(3, 4)), Ok(true));
        let list = members.news(&mut seen).expect("two changes");
        assert_eq!(list.into_values().collect::<Vec<_>>(), members.all());
        assert_eq!(members.remove(NodeId(3)), Ok(true));
        assert_eq!(members.remove(NodeId(3)), Ok(false));
        assert_eq!(members.news(&mut seen).map(|list| list.len()), Some(2));
        assert_eq!(members.news(&mut seen), None);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let members = Members::new(NodeId(1), &[member(1, 1)]);
        assert_eq!(members.set(member(1, 2)), Err(MemberError::ThisNode));
        assert_eq!(members.remove(NodeId(1)), Err(MemberError::ThisNode));
        for wrong in [
            member(0, 1),
            member(2, 0),
            Member { shards: 0, ..member(2, 1) },
            Member { shards: 1025, ..member(2, 1) },
            Member { address: ([0, 0, 0, 0], 1).into(), ..member(2, 1) },
        ] {
            assert!(matches!(members.set(wrong), Err(MemberError::Invalid(_))));
        }
    }
}

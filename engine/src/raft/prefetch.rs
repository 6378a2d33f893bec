//! What the CPU is to fetch of a member before an event touches it: of many groups, each is out of the
//! caches when its turn comes.

use std::mem::offset_of;

use super::state::State;
use super::{Raft, Role};

impl Raft {
    /// Bytes from the beginning of what the steady state looks at.
    pub(crate) const HOT_BYTES: usize = offset_of!(Self, state) + State::HOT_BYTES;

    /// Has the CPU fetch what an event will look at beyond those.
    #[inline]
    pub(crate) fn prefetch_beyond(&self) {
        if let Role::Leader(leader) = &self.role {
            leader.prefetch();
        }
        self.state.log.prefetch();
    }

    /// And what that points to.
    #[inline]
    pub(crate) fn prefetch_peers(&self) {
        if let Role::Leader(leader) = &self.role {
            leader.prefetch_peers();
        }
    }

    /// Likewise: the entries to be applied next.
    #[inline]
    pub(crate) fn prefetch_entries(&self) {
        self.state.log.prefetch_entries();
    }
}

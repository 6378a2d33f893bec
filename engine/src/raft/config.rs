//! The protocol's settings, shared by all groups of a shard.

use std::time::Duration;

/// Settings of one group's protocol. Timing must be alike on all members: the follower's lease
/// relies on every member waiting at least `election_timeout` before it campaigns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RaftConfig {
    /// How long a follower waits for its leader before it campaigns; each wait is drawn from
    /// `[t, 2t)`. Default 1 s. Shorter means faster fail-over and more needless elections when a
    /// core, a disk or the network stalls.
    ///
    /// A follower whose connection to its leader breaks does not wait for it: it campaigns within a
    /// `heartbeat_interval`, with `pre_vote` on and `lease_reads` off. So a leader whose process ends
    /// is replaced sooner than one that hangs.
    pub election_timeout: Duration,
    /// A leader that sent nothing to a peer for this long sends a heartbeat; lost messages are
    /// noticed at this pace too. Default 100 ms. Must be at most a third of `election_timeout`,
    /// so that one lost heartbeat unseats nobody.
    pub heartbeat_interval: Duration,
    /// Append requests on their way to one peer. Default 256.
    pub max_inflight_messages: usize,
    /// Bytes of blocks on their way to one peer; the message that crosses the limit is the last
    /// one sent. Default 8 MiB. It bounds what a slow peer costs in outbox memory; below
    /// bandwidth times round trip it bounds throughput.
    pub max_inflight_bytes: usize,
    /// Bytes of blocks in one append request for a peer that catches up; a larger block travels
    /// alone. Default 512 KiB. Larger requests delay a heartbeat behind them for longer.
    pub max_append_bytes: usize,
    /// Bytes of blocks that a leader keeps for peers that lag, beyond those it needs itself (not
    /// yet durable or not yet applied). Default 8 MiB, or less on a shard with many groups: see
    /// [`Limits::cache_bytes`](crate::Limits::cache_bytes). What a peer misses beyond that is read
    /// from the WAL again.
    pub cache_bytes: usize,
    /// Ask whether an election could be won before disturbing anyone with a new term (thesis,
    /// section 9.6). Default true.
    pub pre_vote: bool,
    /// A leader that does not hear from a quorum for `election_timeout` steps down, and a member
    /// that hears from its leader refuses other candidates for as long (thesis, sections 6.2 and
    /// 4.2.3). The two belong together: the refusal alone could keep a leader in office that
    /// nobody can reach. Default true.
    pub check_quorum: bool,
    /// In how many rounds a node must catch up before it becomes a voter. A round brings it what
    /// the log held when the round began; one that takes less than `election_timeout` is the last
    /// (thesis, section 4.2.1). Default 10. A node that stays behind for longer is too slow for
    /// the group: the change is given up.
    pub catch_up_rounds: u32,
    /// Such a node must get something new within so many times `election_timeout`, or the change is
    /// given up. Default 10.
    pub catch_up_patience: u32,
    /// Allow reads that rest on a lease instead of a round of heartbeats, and how far clocks may
    /// differ: while one member's clock measures an `election_timeout`, every other's measures at
    /// least that less this. For clocks that run up to `e` parts too fast or too slow it is
    /// `2 e / (1 + e)` times `election_timeout`, say 1 ms for 500 ppm and 1 s. Default none: such
    /// reads are confirmed by a round like all others.
    ///
    /// Where clocks differ by more, or stand still while the machine does not, a read by lease may
    /// miss what another leader committed; everything else stays right. It needs `check_quorum`,
    /// and must be on or off on all members alike; a member that was restarted then gives no vote
    /// for an `election_timeout`. See [`Consistency::Lease`](super::reads::Consistency::Lease).
    pub lease_reads: Option<Duration>,
    /// After so many heartbeat intervals without anything new a group goes to rest: it costs
    /// neither messages nor timers until something happens in it. Default 10; 0 means never. A
    /// group that wakes serves at once, but the first read takes a round trip even where leases are
    /// on. See [`rest`](super::rest).
    pub rest_after: u32,
}

impl Default for RaftConfig {
    fn default() -> Self {
        Self {
            election_timeout: Duration::from_secs(1),
            heartbeat_interval: Duration::from_millis(100),
            max_inflight_messages: 256,
            max_inflight_bytes: 8 << 20,
            max_append_bytes: 512 << 10,
            cache_bytes: 8 << 20,
            pre_vote: true,
            check_quorum: true,
            catch_up_rounds: 10,
            catch_up_patience: 10,
            lease_reads: None,
            rest_after: 10,
        }
    }
}

/// Why a [`RaftConfig`] cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RaftConfigError {
    /// The leader would hardly have a chance to keep its followers from campaigning.
    #[error("heartbeat_interval must be above zero and at most a third of election_timeout")]
    HeartbeatInterval,
    /// Longer than a thousand days: deadlines could overflow the clock.
    #[error("election_timeout is out of range")]
    ElectionTimeout,
    /// Without it nothing keeps a quorum from electing another leader while the lease lasts.
    #[error("lease_reads needs check_quorum")]
    LeaseWithoutQuorum,
    /// The lease would end before the heartbeat that renews it.
    #[error("lease_reads plus heartbeat_interval must be below election_timeout")]
    LeaseTooShort,
    /// A limit of zero would stop replication for ever.
    #[error("{0} must be above zero")]
    Zero(&'static str),
}

impl RaftConfig {
    /// Checks the settings against each other.
    ///
    /// # Errors
    /// Names the setting that cannot work.
    pub fn validate(&self) -> Result<(), RaftConfigError> {
        if self.election_timeout > Duration::from_secs(1000 * 24 * 3600) {
            return Err(RaftConfigError::ElectionTimeout);
        }
        if self.heartbeat_interval.is_zero() || self.heartbeat_interval * 3 > self.election_timeout
        {
            return Err(RaftConfigError::HeartbeatInterval);
        }
        if let Some(drift) = self.lease_reads {
            if !self.check_quorum {
                return Err(RaftConfigError::LeaseWithoutQuorum);
            }
            if drift.saturating_add(self.heartbeat_interval) >= self.election_timeout {
                return Err(RaftConfigError::LeaseTooShort);
            }
        }
        let limits = [
            ("max_inflight_messages", self.max_inflight_messages),
            ("max_inflight_bytes", self.max_inflight_bytes),
            ("max_append_bytes", self.max_append_bytes),
            ("catch_up_rounds", self.catch_up_rounds as usize),
            ("catch_up_patience", self.catch_up_patience as usize),
        ];
        match limits.into_iter().find(|(_, limit)| *limit == 0) {
            Some((name, _)) => Err(RaftConfigError::Zero(name)),
            None => Ok(()),
        }
    }
}

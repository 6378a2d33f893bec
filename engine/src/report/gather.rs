//! Asking the shards.

use ringleader_wal::{WalPhase, WalStatus};

use super::{GroupReport, Report, ShardReport};
use crate::error::QueryError;
use crate::handle::{Handle, Shared};
use crate::inbox::{Inbox, Request};
use crate::shard::ShardHealth;

impl Handle {
    /// The node's state, and everything it has counted and measured since its start.
    ///
    /// It costs each shard some ten microseconds, and less than one for each of its groups, at most
    /// 256 of them in one turn: ask every few seconds, not all the time.
    ///
    /// A shard that panicked says so in its [health](ShardReport::health); where its thread has
    /// ended, that is all that is known of it, and its groups are missing. The others are reported as
    /// ever.
    ///
    /// # Errors
    /// [`QueryError::Stopped`].
    pub async fn report(&self) -> Result<Report, QueryError> {
        let shards = self.shard_reports().await?;
        let mut groups = Vec::new();
        for inbox in &self.shared.inboxes {
            let before = groups.len();
            if groups_of(inbox, &mut groups).await.is_err() {
                self.shared.check_runs()?;
                groups.truncate(before);
            }
        }
        let (node, cluster) = (self.shared.node, self.shared.cluster);
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Ok(Report { node, cluster, version, uptime: self.shared.started.elapsed(), shards, groups })
    }

    /// The shards' part of [`report`](Self::report): without its groups, and so without what they
    /// cost.
    ///
    /// # Errors
    /// [`QueryError::Stopped`].
    pub async fn shard_reports(&self) -> Result<Vec<ShardReport>, QueryError> {
        let mut shards = Vec::new();
        for (inbox, number) in self.shared.inboxes.iter().zip(0..) {
            shards.push(match shard(inbox).await {
                Ok(report) => report,
                Err(_) => {
                    self.shared.check_runs()?;
                    ShardReport::ended(number)
                }
            });
        }
        Ok(shards)
    }
}

impl ShardReport {
    /// Of a shard whose thread has ended, with all that it had counted.
    fn ended(shard: u32) -> Self {
        let cause = "its thread ended; the node's standard error says why".into();
        let log = WalStatus { phase: WalPhase::Failed, has_space: true, ..WalStatus::default() };
        Self { shard, health: ShardHealth::Panicked(cause), log, ..Self::default() }
    }
}

impl Shared {
    fn check_runs(&self) -> Result<(), QueryError> {
        if self.is_stopping() { Err(QueryError::Stopped) } else { Ok(()) }
    }
}

async fn shard(inbox: &Inbox) -> Result<ShardReport, QueryError> {
    let (reply, answer) = flume::bounded(1);
    inbox.send(Request::Report { reply }).await.map_err(|_| QueryError::Stopped)?;
    answer.recv_async().await.map_err(|_| QueryError::Stopped)
}

async fn groups_of(inbox: &Inbox, groups: &mut Vec<GroupReport>) -> Result<(), QueryError> {
    let start = groups.len();
    loop {
        let (reply, answer) = flume::bounded(1);
        let from = groups.len() - start;
        inbox.send(Request::Groups { from, reply }).await.map_err(|_| QueryError::Stopped)?;
        let page = answer.recv_async().await.map_err(|_| QueryError::Stopped)?;
        if page.is_empty() {
            return Ok(());
        }
        groups.extend(page);
    }
}

//! The configurations that a member's log holds. The latest one is in force as soon as it is in the
//! log, committed or not (thesis, section 4.1); when it is truncated, the one before it is in force
//! again.

use ringleader_wal::{Block, BlockKind, LogIndex, NodeId};

use super::configuration::{Configuration, ConfigurationError};

#[derive(Clone, Debug)]
pub(super) struct Configurations {
    latest: Configuration,
    /// Where the latest one stands in the log, or the place that it is known for.
    latest_at: LogIndex,
    /// Those before it, oldest first. One of them is in force at the log's base.
    earlier: Vec<(LogIndex, Configuration)>,
}

impl Configurations {
    /// `base` is in force at the log's base; `appended` follow it in the log.
    pub(super) fn restored(
        base: LogIndex,
        configuration: Configuration,
        appended: Vec<(LogIndex, Configuration)>,
    ) -> Self {
        let mut all = Self { latest: configuration, latest_at: base, earlier: Vec::new() };
        for (at, configuration) in appended {
            assert!(at > all.latest_at, "configurations are in log order");
            all.append(at, configuration, LogIndex(0));
        }
        all
    }

    pub(super) fn latest(&self) -> &Configuration {
        &self.latest
    }

    pub(super) fn latest_at(&self) -> LogIndex {
        self.latest_at
    }

    /// A configuration was appended to the log that begins behind `base`. Those that are not in
    /// force at or after that are forgotten: they can neither come back nor be asked for.
    pub(super) fn append(&mut self, at: LogIndex, configuration: Configuration, base: LogIndex) {
        let before = std::mem::replace(&mut self.latest, configuration);
        // Of most groups there is one, for as long as no snapshot covers what its members' data is.
        self.earlier.reserve_exact(1);
        self.earlier.push((std::mem::replace(&mut self.latest_at, at), before));
        let in_force = self.earlier.partition_point(|(at, _)| *at <= base);
        self.earlier.drain(..in_force.saturating_sub(1));
    }

    /// The entries from `from` on are void. True if that changes what is in force.
    pub(super) fn truncate(&mut self, from: LogIndex) -> bool {
        let mut changed = false;
        while self.latest_at >= from
            && let Some((at, configuration)) = self.earlier.pop()
        {
            (self.latest_at, self.latest) = (at, configuration);
            changed = true;
        }
        changed
    }

    /// The latest one, to be changed into one that is the same.
    pub(super) fn latest_mut(&mut self) -> &mut Configuration {
        &mut self.latest
    }

    /// Whether the latest one says what the one before it says, and more of its members' data.
    pub(super) fn latest_identifies(&self) -> bool {
        self.earlier.last().is_some_and(|(_, before)| before.is_alike(&self.latest))
    }

    /// The configuration in force at an entry that is not before the log's base.
    pub(super) fn at(&self, index: LogIndex) -> (LogIndex, &Configuration) {
        if index >= self.latest_at {
            return (self.latest_at, &self.latest);
        }
        let after = self.earlier.partition_point(|(at, _)| *at <= index);
        let (at, configuration) = &self.earlier[after.saturating_sub(1)];
        (*at, configuration)
    }

    /// The first one after an entry.
    pub(super) fn after(&self, index: LogIndex) -> Option<(LogIndex, &Configuration)> {
        let latest = (self.latest_at, &self.latest);
        let earlier = self.earlier.iter().map(|(at, configuration)| (*at, configuration));
        earlier.chain([latest]).find(|(at, _)| *at > index)
    }

    /// Whether `node` may campaign while `commit` is the last entry known committed. One that its
    /// latest configuration leaves out is still needed until that is committed: it may hold
    /// what nobody else of the old voters has (thesis, section 4.2.2).
    pub(super) fn may_campaign(&self, node: NodeId, commit: LogIndex) -> bool {
        self.latest.has_vote(node)
            || (self.latest_at > commit
                && self.earlier.last().is_some_and(|(_, before)| before.has_vote(node)))
    }
}

/// What a block of the log says about the members, if it is about them.
pub(super) fn configuration_of(block: &Block) -> Option<Result<Configuration, ConfigurationError>> {
    let is_configuration = block.kind() == BlockKind::Configuration;
    is_configuration.then(|| Configuration::of_entry(block.payload(block.first_index())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(nodes: &[u64]) -> Configuration {
        Configuration::new(&nodes.iter().copied().map(NodeId).collect::<Vec<_>>(), &[])
    }

    #[test]
    fn all_that_the_log_holds_are_known() {
        let mut all = Configurations::restored(LogIndex(3), members(&[1]), Vec::new());
        let appended = [(5, members(&[1, 2])), (8, members(&[2])), (12, members(&[2, 3]))];
        for (at, configuration) in appended {
            all.append(LogIndex(at), configuration, LogIndex(3));
        }
        assert!(all.truncate(LogIndex(9)));
        let found = [3, 4, 5, 7, 8, 20].map(|index| all.at(LogIndex(index)).0.0);
        assert_eq!(found, [3, 3, 5, 5, 8, 8], "though a snapshot is older than what is applied");
        all.append(LogIndex(14), members(&[4]), LogIndex(6));
        let found = [6, 8, 14].map(|index| all.at(LogIndex(index)).0.0);
        assert_eq!((found, all.earlier.len()), ([5, 8, 14], 2), "the rest is forgotten");
    }
}

//! The log's settings, and what makes a log this shard's own.

use crate::disk::PAGE;
use crate::types::NodeId;

/// How a batch reaches stable storage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SyncMode {
    /// Each write is durable when it completes (`O_DIRECT|O_DSYNC`), several in flight. Best where
    /// the device has FUA or a cheap cache flush, and wherever overlapping flushes merge.
    #[default]
    DurableWrites,
    /// Plain direct writes, and one `fdatasync` in flight at a time for all that completed before
    /// it. Best where a flush is dear and does not overlap with others.
    CoalescedSync,
}

/// Settings of one shard's log. All may change between two starts except `segment_bytes`, whose
/// change costs the preparation of new segments: those of the old size are read, then removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalConfig {
    /// Bytes of a segment file; a multiple of 4096, 16 KiB to 2 GiB, default 64 MiB. Space is
    /// given back in whole segments: larger ones switch less often, smaller ones free space
    /// sooner and recover with less to search. It also bounds a block: see
    /// [`WalConfig::max_block_bytes`].
    pub segment_bytes: u64,
    /// Bytes of a batch, default 1 MiB; a larger block gets a batch of its own. A larger limit
    /// helps throughput while the disk is the limit; a smaller one lets the first waiting
    /// records become durable sooner.
    pub max_batch_bytes: usize,
    /// Writes in flight, default 8. More overlap hides the latency of a durable write; too many
    /// only queue in the device and make each batch's latency longer.
    pub depth: usize,
    /// Writes in flight up to which a batch is written as soon as there is something to write,
    /// default 2. With more under way, a batch of fewer than [`WalConfig::deep_batch_bytes`] waits
    /// until one of them ends, and grows meanwhile: small writes take as long as the device's flush,
    /// and several at once queue behind each other's.
    pub eager_writes: usize,
    /// Bytes of a batch that is written at any depth, default 64 KiB; 0 lets none wait.
    pub deep_batch_bytes: usize,
    /// How batches are made durable, default [`SyncMode::DurableWrites`].
    pub sync: SyncMode,
    /// Segments prepared ahead (allocated, zero-filled, synced), default 2, at least 2: one of them
    /// is the reserve that a full disk leaves to votes and the next start. Each costs
    /// `segment_bytes` of disk; too few, and a burst waits for zero-filling.
    pub spare_segments: usize,
    /// Spare segments kept when old ones are recycled, default 8, at least `spare_segments`; more
    /// are removed. Keeping them saves zero-filling, which writes everything twice, at the price of
    /// the disk they occupy. It should be as many as a snapshot frees at once, and the spare ones.
    pub kept_segments: usize,
    /// Segments with live records above which live blocks are rewritten forward out of the oldest
    /// one, default 4. Lower saves disk, higher saves writes.
    pub relocate_beyond: usize,
    /// The oldest segment is emptied by rewriting when at most this part of it is live, in percent
    /// of `segment_bytes`, default 25. It bounds write amplification: 25 % means at most one byte
    /// rewritten for three freed.
    pub relocate_percent: u32,
    /// Bytes of one read of old entries, of recovery and of relocation, default 256 KiB; a
    /// multiple of 4096. Larger reads are quicker over much data and waste more over little.
    pub read_bytes: usize,
}

impl Default for WalConfig {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            max_batch_bytes: 1 << 20,
            depth: 8,
            eager_writes: 2,
            deep_batch_bytes: 64 << 10,
            sync: SyncMode::DurableWrites,
            spare_segments: 2,
            kept_segments: 8,
            relocate_beyond: 4,
            relocate_percent: 25,
            read_bytes: 256 << 10,
        }
    }
}

/// Why a configuration is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} is {value}: {rule}")]
pub struct ConfigError {
    /// The setting.
    pub field: &'static str,
    /// What it was.
    pub value: u64,
    /// What it has to be.
    pub rule: &'static str,
}

impl WalConfig {
    /// The smallest log that still does everything, for tests and simulation: 32 KiB segments,
    /// 8 KiB batches, three writes in flight, two spares.
    #[must_use]
    pub fn tiny() -> Self {
        Self {
            segment_bytes: 32 << 10,
            max_batch_bytes: 8 << 10,
            depth: 3,
            eager_writes: 2,
            deep_batch_bytes: 4 << 10,
            spare_segments: 2,
            kept_segments: 2,
            relocate_beyond: 3,
            relocate_percent: 50,
            read_bytes: 8 << 10,
            ..Self::default()
        }
    }

    /// Checks every setting.
    ///
    /// # Errors
    /// Names the first setting that is out of range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let page = PAGE as u64;
        let check = |ok: bool, field, value, rule| {
            if ok { Ok(()) } else { Err(ConfigError { field, value, rule }) }
        };
        let segment = self.segment_bytes;
        let segment_ok = segment.is_multiple_of(page) && (4 * page..=2 << 30).contains(&segment);
        check(segment_ok, "segment_bytes", segment, "a multiple of 4096, 16 KiB to 2 GiB")?;
        let batch = self.max_batch_bytes as u64;
        let batch_ok = (page..=segment - page).contains(&batch);
        check(batch_ok, "max_batch_bytes", batch, "4 KiB to segment_bytes less 4 KiB")?;
        let read = self.read_bytes as u64;
        let read_ok = read.is_multiple_of(page) && (page..=64 << 20).contains(&read);
        check(read_ok, "read_bytes", read, "a multiple of 4096, up to 64 MiB")?;
        let depth = self.depth as u64;
        check((1..=1024).contains(&depth), "depth", depth, "1 to 1024")?;
        let eager = self.eager_writes as u64;
        check((1..=1024).contains(&eager), "eager_writes", eager, "1 to 1024")?;
        let spare = self.spare_segments as u64;
        check((2..=1024).contains(&spare), "spare_segments", spare, "2 to 1024")?;
        let kept = self.kept_segments as u64;
        check((spare..=4096).contains(&kept), "kept_segments", kept, "spare_segments to 4096")?;
        let beyond = self.relocate_beyond as u64;
        check(beyond >= 2, "relocate_beyond", beyond, "at least 2")?;
        let percent = u64::from(self.relocate_percent);
        check(percent <= 75, "relocate_percent", percent, "at most 75")
    }

    /// The largest block that [`crate::Wal::append`] takes, in encoded bytes: a segment less its
    /// header page and a page of batch header.
    #[must_use]
    pub fn max_block_bytes(&self) -> usize {
        self.segment_bytes as usize - 2 * PAGE
    }
}

/// Whose log it is. It is in every segment's header, and a log of another is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster.
    pub cluster: u64,
    /// The node within the cluster.
    pub node: NodeId,
    /// The shard within the node.
    pub shard: u32,
}

impl std::fmt::Display for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "cluster {} node {} shard {}", self.cluster, self.node, self.shard)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_are_valid() {
        WalConfig::default().validate().unwrap();
        WalConfig::tiny().validate().unwrap();
    }

    #[test]
    fn each_limit_is_named() {
        let broken = [
            ("segment_bytes", WalConfig { segment_bytes: 5000, ..WalConfig::tiny() }),
            ("segment_bytes", WalConfig { segment_bytes: 4 << 30, ..WalConfig::tiny() }),
            ("max_batch_bytes", WalConfig { max_batch_bytes: 32 << 10, ..WalConfig::tiny() }),
            ("read_bytes", WalConfig { read_bytes: 100, ..WalConfig::tiny() }),
            ("depth", WalConfig { depth: 0, ..WalConfig::tiny() }),
            ("eager_writes", WalConfig { eager_writes: 0, ..WalConfig::tiny() }),
            ("spare_segments", WalConfig { spare_segments: 1, ..WalConfig::tiny() }),
            ("kept_segments", WalConfig { kept_segments: 0, ..WalConfig::tiny() }),
            ("relocate_beyond", WalConfig { relocate_beyond: 1, ..WalConfig::tiny() }),
            ("relocate_percent", WalConfig { relocate_percent: 90, ..WalConfig::tiny() }),
        ];
        for (field, config) in broken {
            assert_eq!(config.validate().unwrap_err().field, field);
        }
    }
}

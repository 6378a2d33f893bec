//! What leaders sent to each peer. Where requests are pipelined, each begins where the one before
//! ended: one that was given up, for want of room or with its connection, must not count as sent.

use std::collections::BTreeMap;

use ringleader::raft::Mode;
use ringleader::shard::Shard;
use ringleader::{LogIndex, LogPosition, Term};
use ringleader_wal::Block;

use super::Checker;

/// Per group, leader and peer: the term, and the last entry that the peer was sent or asked about.
#[derive(Debug, Default)]
pub(crate) struct Streams(BTreeMap<(usize, usize, usize), (Term, LogIndex)>);

impl Streams {
    pub(crate) fn sent(
        &mut self,
        stream: (usize, usize, usize),
        term: Term,
        prev: LogPosition,
        blocks: &[Block],
    ) {
        let last = blocks.last().map_or(prev.index, Block::last_index);
        let sent = self.0.entry(stream).or_default();
        *sent = (*sent).max((term, last));
    }

    fn last(&self, stream: (usize, usize, usize), term: Term) -> LogIndex {
        self.0.get(&stream).filter(|sent| sent.0 == term).map_or(LogIndex(0), |sent| sent.1)
    }
}

impl Checker {
    /// Everything that a turn said has left its node.
    pub(crate) fn check_streams(&self, node: usize, shard: &Shard) {
        for (at, group) in self.groups.iter().enumerate() {
            let Some(raft) = shard.raft(*group) else { continue };
            for peer in raft.peers().filter(|peer| peer.mode == Mode::Replicate) {
                let stream = (at, node, peer.id.0 as usize - 1);
                let sent = self.streams.last(stream, raft.term()).max(peer.match_index);
                assert!(
                    peer.next_index.prev() <= sent,
                    "streams: node {} of group {group} goes on at {} for node {}, which it sent no \
                     more than {sent}",
                    node + 1,
                    peer.next_index,
                    peer.id
                );
            }
        }
    }
}

//! Beats: what two connected shards say to each other when they have nothing else to say, so that
//! groups can rest (see [`rest`](crate::raft::rest)). One leaves per `heartbeat_interval` and link,
//! whatever the number of groups, and whether or not any of them rests: what one node's groups may
//! rest on must not depend on what another knows of them. Any frame of the present connection is as
//! good as a beat.

use super::Shard;
use super::links::LinkId;
use crate::time::Time;

impl Shard {
    /// Something arrived on the present connection of a link.
    pub(super) fn hear(&mut self, now: Time, link: LinkId) {
        if self.links.hear(link, now) {
            self.each_on_link(link, |raft, node, out| raft.on_peer_silence(now, node, out));
        }
    }

    /// Time passed: beats are due, and links may have been silent for too long.
    pub(super) fn watch_links(&mut self, now: Time) {
        self.links.beat(now, self.config.raft.heartbeat_interval);
        let timeout = self.config.raft.election_timeout;
        while let Some(link) = self.links.next_silent(now, timeout) {
            self.counters.silences += 1;
            self.each_on_link(link, |raft, node, out| raft.on_peer_silence(now, node, out));
        }
    }
}

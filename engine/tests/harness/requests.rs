//! What members are asked for.

use ringleader::raft::reads::{Consistency, ReadTicket};
use ringleader::raft::{ChangeError, Changing, Configuration, MembershipChange, ResetRefused};
use ringleader_wal::{Block, BlockKind, NodeId, Run};

use super::{GROUP, World, entry, show};

impl World {
    /// Asks a member to change the members.
    pub fn change(&mut self, id: u64, change: &MembershipChange) -> Result<Changing, ChangeError> {
        let mut result = Err(ChangeError::NotLeader);
        self.say(|| format!("n{id} is asked for {change:?}"));
        self.call(id, |raft, now, out| result = raft.change_members(now, change, out));
        result
    }

    /// Sets the members anew on one member, which settles that on its disk. How many committed
    /// entries are lost by it.
    pub fn reset(&mut self, id: u64, members: &Configuration) -> Result<usize, ResetRefused> {
        let mut result = None;
        self.say(|| format!("n{id} is to go on with {members:?}"));
        self.call(id, |raft, now, out| result = Some(raft.reset(now, members, out)));
        result.expect("the member is up")?;
        let lost = self.checker.reset(&self.nodes[&id].staged);
        self.durable(id, usize::MAX);
        Ok(lost)
    }

    /// Asks for a read; the number names it.
    pub fn read(&mut self, id: u64, number: u64, consistency: Consistency) {
        self.say(|| format!("n{id} reads, {consistency:?}, {number}"));
        let ticket = ReadTicket(number);
        self.call(id, |raft, now, out| raft.read(now, ticket, consistency, out));
    }

    /// Reads that were asked for share the next round from now on until [`Self::serve_reads`].
    pub fn gather_reads(&mut self) {
        self.gathers_reads = true;
    }

    pub fn serve_reads(&mut self, id: u64) {
        self.gathers_reads = false;
        self.call(id, |raft, now, out| raft.serve_reads(now, out));
    }

    /// A leader's block with one entry of the given payload.
    pub fn propose(&mut self, id: u64, payload: &[u8]) -> bool {
        let Some(at) = self.raft(id).append_position() else { return false };
        self.say(|| format!("n{id} proposes {}@{}", at.index, at.term));
        self.call(id, |raft, _, out| raft.propose(entry(at, payload), out));
        true
    }

    /// A leader's block with `count` entries, each with a payload that no other entry has.
    pub fn propose_next(&mut self, id: u64, count: usize) {
        let Some(at) = self.raft(id).append_position() else { return };
        let (mut payload, mut ends) = (Vec::new(), Vec::new());
        for _ in 0..count {
            self.proposed += 1;
            payload.extend_from_slice(format!("op {}", self.proposed).as_bytes());
            ends.push(u32::try_from(payload.len()).expect("short payloads"));
        }
        let run = Run { payload: &payload, ends: &ends, base: 0 };
        let block = Block::encode(GROUP, at, BlockKind::Operations, [run]);
        self.say(|| format!("n{id} proposes {count} at {}@{}", at.index, at.term));
        self.call(id, |raft, _, out| raft.propose(block, out));
    }

    /// Asks a leader to hand over.
    pub fn transfer(&mut self, id: u64, to: Option<u64>) {
        let mut result = None;
        self.say(|| format!("n{id} is to hand over to {}", show::node(to.map(NodeId))));
        self.call(id, |raft, now, out| result = Some(raft.transfer(now, to.map(NodeId), out)));
        let result = result.expect("the member is up");
        self.say(|| match result {
            Ok(to) => format!("  n{id} hands over to n{to}"),
            Err(refused) => format!("  n{id} refuses: {refused}"),
        });
    }
}

//! What goes wrong: members stop, connections break, messages vanish.

use ringleader_wal::NodeId;

use super::World;

impl World {
    pub fn fail_load(&mut self, id: u64) {
        let load = self.nodes.get_mut(&id).and_then(|node| node.loads.pop_front());
        if let Some(load) = load {
            self.say(|| format!("n{id} could not load for n{}", load.peer));
            self.call(id, |raft, _, _| raft.on_load_failed(load.peer));
        }
    }

    /// The member stops; of what was staged, the first `kept` batches are on disk although it
    /// never learned that.
    pub fn crash(&mut self, id: u64, kept: usize) {
        self.say(|| format!("n{id} crashes"));
        let node = self.nodes.get_mut(&id).expect("a member");
        let kept = kept.min(node.batches.len());
        for (_, ops) in node.batches.drain(..kept) {
            ops.iter().for_each(|op| node.disk.apply(op));
        }
        node.batches.clear();
        node.gated.clear();
        node.loads.clear();
        node.staged = node.disk.clone();
        node.raft = None;
        for peer in self.ids() {
            self.disconnect(id, peer);
        }
    }

    /// The member stops; of the newest batch, the first `kept` records are on disk, as where the others
    /// were in the next one.
    pub fn crash_within(&mut self, id: u64, kept: usize) {
        let node = self.nodes.get_mut(&id).expect("a member");
        let whole = node.batches.len();
        if let Some((_, records)) = node.batches.back_mut() {
            records.truncate(kept);
        }
        self.crash(id, whole);
    }

    pub fn restart(&mut self, id: u64) {
        if self.is_up(id) {
            return;
        }
        self.say(|| format!("n{id} restarts"));
        self.boot(id);
        for peer in self.ids() {
            self.connect(id, peer);
        }
    }

    /// The connection between two members is made.
    pub fn connect(&mut self, a: u64, b: u64) {
        if a == b || !self.is_up(a) || !self.is_up(b) {
            return;
        }
        for (one, other) in [(a, b), (b, a)] {
            self.call(one, |raft, now, out| raft.on_peer_up(now, NodeId(other), out));
        }
    }

    /// The connection between two members breaks, with all that is on it.
    pub fn disconnect(&mut self, a: u64, b: u64) {
        for (one, other) in [(a, b), (b, a)] {
            self.links.remove(&(one, other));
            if a != b {
                self.call(one, |raft, now, out| raft.on_peer_down(now, NodeId(other), out));
                self.beats.remove(&(one, other));
            }
        }
    }

    /// All nodes hear each other, but for what is cut and who is down.
    pub fn beat(&mut self) {
        let up: Vec<u64> = self.ids().into_iter().filter(|id| self.is_up(*id)).collect();
        for (by, from) in up.iter().flat_map(|by| up.iter().map(move |from| (*by, *from))) {
            if by != from && !self.cuts.contains(&(from, by)) {
                self.beats.insert((by, from), self.now);
            }
        }
    }

    /// A node has heard nothing from another for an election timeout.
    pub fn silence(&mut self, id: u64, from: u64) {
        self.call(id, |raft, now, out| raft.on_peer_silence(now, NodeId(from), out));
    }

    /// Messages from one member to another vanish from now on, without either noticing.
    pub fn cut(&mut self, from: u64, to: u64) {
        self.cuts.insert((from, to));
        self.links.remove(&(from, to));
    }

    pub fn isolate(&mut self, id: u64) {
        for peer in self.ids() {
            self.cut(id, peer);
            self.cut(peer, id);
        }
    }

    pub fn heal(&mut self) {
        self.cuts.clear();
    }
}

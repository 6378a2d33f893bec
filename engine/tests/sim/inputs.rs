//! What a shard's process learns, and how each of that is fed to the shard.

use ringleader::raft::era::Era;
use ringleader::raft::{Configuration, Raft, Reset};
use ringleader::shard::{ClientId, ReadSubmission, Submission, TransferId};
use ringleader::{GroupConfig, GroupId, LogIndex, MembershipChange, NodeId};
use ringleader_net::{DataId, Frame};
use ringleader_wal::disk::{DiskError, DiskOutput, OpId};

use crate::log_reads::log_read;
use crate::world::World;

/// Something that a process learns at its next turn.
#[derive(Debug)]
pub(crate) enum Input {
    Tick,
    /// `fatal` says that the log can't go on after this.
    Disk {
        id: OpId,
        result: Result<DiskOutput, DiskError>,
        fatal: bool,
    },
    /// On a connection of the seat `peer`.
    Frame {
        peer: usize,
        epoch: u64,
        frame: Frame,
    },
    Up {
        peer: usize,
        epoch: u64,
        data: DataId,
    },
    Down {
        peer: usize,
    },
    /// On a lane for bulk data from `peer`.
    BulkFrame {
        peer: usize,
        epoch: u64,
        frame: Frame,
    },
    /// A lane for bulk data to `peer`.
    BulkUp {
        peer: usize,
        epoch: u64,
    },
    BulkDown {
        peer: usize,
    },
    /// There is this node.
    Node(usize),
    Submit(u32, Submission),
    Transfer {
        id: TransferId,
        group: GroupId,
        to: Option<NodeId>,
    },
    Read(u32, ReadSubmission),
    /// Somebody asks for a snapshot of every group.
    Snapshot,
    /// Somebody reads every group's log from some entry on.
    ReadLog {
        from: u64,
        max_bytes: usize,
    },
    ChangeMembers {
        name: u64,
        group: GroupId,
        change: MembershipChange,
    },
    ResetPeers {
        name: u64,
        group: GroupId,
        members: Configuration,
    },
    CreateGroup {
        name: u64,
        config: GroupConfig,
    },
    DestroyGroup {
        name: u64,
        group: GroupId,
        /// No log names the node as a member. Otherwise it is asked for where it must be refused,
        is_outsider: bool,
        /// or where the loss is accepted.
        member_too: bool,
    },
    Stop,
}

impl World {
    /// One input, and what must hold after it.
    pub(crate) fn step(&mut self, seat: usize, input: Input) {
        let node = self.plan.seats.node(seat);
        let own = self.own_time(node);
        let now = own.time;
        let process = self.seats[seat].process.as_mut().expect("a step is of a running process");
        let (seats, place) = (&self.plan.seats, seat as u64);
        let link = match &input {
            Input::Frame { peer, .. }
            | Input::Up { peer, .. }
            | Input::Down { peer }
            | Input::BulkFrame { peer, .. }
            | Input::BulkUp { peer, .. }
            | Input::BulkDown { peer } => process.link(*peer),
            _ => None,
        };
        let shard = &mut process.shard;
        let (mut stale, mut moved, mut refused, mut begun) = (false, false, None, None);
        match input {
            Input::Tick => shard.tick(now),
            Input::Disk { id, result, fatal } => {
                process.failed |= fatal;
                self.trace.step("disk", place, id.0, u64::from(result.is_ok()));
                shard.disk_completed(now, id, result);
            }
            Input::Frame { peer, epoch, frame } => {
                self.trace.step("frame", place, peer as u64, epoch);
                stale = process.known.get(&peer) != Some(&epoch);
                if !stale {
                    process.rests.hear(peer, now);
                }
                let feed = |link| shard.frame(now, link, epoch, &frame.envelope, frame.body).err();
                let pair = self.network.pair_of(seat, peer);
                refused = link.and_then(feed).map(|error| (pair, epoch, error));
            }
            Input::BulkFrame { peer, epoch, frame } => {
                self.trace.step("bulk frame", place, peer as u64, epoch);
                let feed = |link| shard.bulk_frame(now, link, &frame.envelope, frame.body).err();
                let pair = self.network.bulk_of(peer, seat);
                refused = link.and_then(feed).map(|error| (pair, epoch, error));
            }
            Input::BulkUp { peer, epoch } => {
                self.trace.step("bulk up", place, peer as u64, epoch);
                link.into_iter().for_each(|link| shard.bulk_up(link, epoch));
            }
            Input::BulkDown { peer } => {
                self.trace.step("bulk down", place, peer as u64, 0);
                link.into_iter().for_each(|link| shard.bulk_down(link));
            }
            Input::Up { peer, epoch, data } => {
                self.trace.step("up", place, peer as u64, epoch);
                let name = || seats.name(peer);
                self.trace.line(|| format!("node {} link {} up", seats.name(seat), name()));
                process.known.insert(peer, epoch);
                process.shown.insert(peer, data);
                process.rests.hear(peer, now);
                moved = true;
                link.into_iter().for_each(|link| shard.link_up(now, link, epoch, data));
            }
            Input::Down { peer } => {
                self.trace.step("down", place, peer as u64, 0);
                let name = || seats.name(peer);
                self.trace.line(|| format!("node {} link {} down", seats.name(seat), name()));
                process.known.remove(&peer);
                moved = true;
                link.into_iter().for_each(|link| shard.link_down(now, link));
            }
            Input::Node(other) => {
                self.trace.step("node", place, other as u64, 0);
                shard.set_node(now, NodeId(other as u64 + 1), seats.shards(other));
            }
            Input::Submit(client, submission) => {
                self.trace.step("submit", place, u64::from(client), submission.user_data[0]);
                shard.submit(ClientId(client), submission);
            }
            Input::Transfer { id, group, to } => {
                self.trace.step("ask transfer", place, id.0, to.map_or(0, |to| to.0));
                shard.transfer(now, id, group, to);
            }
            Input::Read(client, submission) => {
                self.trace.step("reads", place, u64::from(client), submission.user_data[0]);
                shard.submit_reads(now, ClientId(client), submission);
            }
            Input::Snapshot => {
                self.trace.step("snapshot", place, 0, 0);
                for group in &self.plan.groups {
                    let applied = shard.status(*group).map_or(0, |status| status.applied.0);
                    shard.request_snapshot(*group, applied);
                }
            }
            Input::ReadLog { from, max_bytes } => {
                self.trace.step("read log", place, from, max_bytes as u64);
                for (at, group) in self.plan.groups.iter().enumerate() {
                    let Some(status) = shard.status(*group) else { continue };
                    let from = LogIndex(1 + from % (status.commit.0 + 2));
                    shard.read_log(log_read(at, from), *group, from, max_bytes);
                }
            }
            Input::ChangeMembers { name, group, change } => {
                self.trace.step("change", place, name, group.0);
                shard.change_members(now, name, group, &change);
            }
            Input::ResetPeers { name, group, members } => {
                self.trace.step("ask reset", place, name, group.0);
                let before = shard.raft(group).map(Raft::status);
                let configuration = shard.raft(group).map(|raft| raft.configuration().clone());
                shard.reset_peers(now, name, group, &members);
                let after = shard.raft(group).map(Raft::status);
                if let (Some(before), Some(after)) = (before, after)
                    && Era::of(before.term) != Era::of(after.term)
                {
                    let (at, last, commit) = (after.last, before.last, before.commit);
                    let before = configuration.unwrap_or_default();
                    begun = Some((group, Reset { at, last, commit, before }));
                }
            }
            Input::CreateGroup { name, config } => {
                self.trace.step("create", place, name, config.group.0);
                shard.create_group(now, name, config);
            }
            Input::DestroyGroup { name, group, is_outsider, member_too } => {
                self.trace.step("destroy", place, name, group.0);
                let raft = shard.raft(group);
                let is_member = raft.is_some_and(|raft| raft.configuration().contains(raft.node()));
                if is_member || is_outsider || member_too {
                    shard.destroy_group(name, group, member_too);
                }
                let still = !is_member || member_too || shard.raft(group).is_some();
                assert!(
                    still,
                    "existence: group {group} is destroyed on a member, node {}",
                    node + 1
                );
            }
            Input::Stop => {
                self.trace.step("stop", place, 0, 0);
                self.trace.line(|| format!("node {} is told to stop", seats.name(seat)));
                shard.leave(now, self.plan.operator.handover);
                process.stopping = true;
            }
        }
        if let Some((group, reset)) = begun {
            self.era_begins(seat, group, &reset);
        }
        let shard = &self.seats[seat].process.as_ref().expect("it is running").shard;
        if shard.is_wreck() {
            return;
        }
        let news = self.checker.observe(node, own, shard);
        assert!(!(stale && news), "node {}: a frame of an earlier connection counted", node + 1);
        if news {
            self.check_leases(seat);
            self.check_identities(seat);
            self.mishap_of_loading(seat);
        }
        if news || moved {
            self.check_rests(seat);
        }
        if let Some((pair, epoch, error)) = refused {
            self.refuse_frame(seat, pair, epoch, &error.to_string());
        }
    }
}

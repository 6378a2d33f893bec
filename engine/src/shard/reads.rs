//! Callers' reads on their way through the shard: new ones are gathered for the turn, asked for
//! together ([`Raft::read`](crate::raft::Raft::read)), and answered in the turn in which the state
//! machine has applied what they need.
//!
//! ```text
//! submit_reads ─► new ── ask_for_reads ─► asked ── answered ─► confirmed ── serve_reads ─► answers
//! ```
//!
//! Only groups with reads have something here. A read leaves by being served, by a change of the
//! group's office, at its deadline, or with the shard; it has no effect, so it may always be refused.

use std::sync::Arc;

use ringleader_wal::LogIndex;

use super::links::LinkId;
use super::proposal::ClientId;
use super::reading::{ReadRun, ReadSubmission, SubmittedReads};
use super::{Death, Shard, State};
use crate::error::ReadError;
use crate::raft::reads::{Consistency, ReadAnswer, ReadTicket};
use crate::time::Time;

/// Requests of one group that are unanswered at once. A turn's reads are asked for at once as long
/// as there are fewer; then they wait for an answer, and share the next request.
const MAX_ASKED: usize = 8;

#[derive(Debug)]
struct Waiting {
    reads: SubmittedReads,
    deadline: Time,
}

#[derive(Debug)]
struct Asked {
    ticket: ReadTicket,
    consistency: Consistency,
    waiting: Vec<Waiting>,
}

#[derive(Debug, Default)]
struct GroupReads {
    /// Not asked for yet.
    new: Vec<(Consistency, Waiting)>,
    asked: Vec<Asked>,
    /// May be served once so much is applied.
    confirmed: Vec<(LogIndex, Vec<Waiting>)>,
    /// Whether the group is on the list of those with `confirmed` reads.
    is_confirmed: bool,
    /// Reads in all of these.
    count: usize,
}

#[derive(Debug, Default)]
pub(super) struct Readers {
    /// By the group's slot; none where nothing waits, or nothing did a moment ago.
    groups: Vec<Option<Box<GroupReads>>>,
    /// The groups that have something there.
    present: Vec<u32>,
    /// Groups with something to ask for, or to serve by asking, in this turn.
    asking: Vec<u32>,
    /// Groups with confirmed reads.
    confirmed: Vec<u32>,
    /// The latest time that came with a read.
    now: Time,
    tickets: u64,
}

impl Readers {
    fn group(&mut self, slot: u32) -> Option<&mut GroupReads> {
        self.groups.get_mut(slot as usize)?.as_deref_mut()
    }

    /// Reads of a group that wait.
    pub(super) fn waiting(&self, slot: u32) -> usize {
        let group = self.groups.get(slot as usize).and_then(Option::as_deref);
        group.map_or(0, |group| group.count)
    }

    fn group_or_new(&mut self, slot: u32) -> &mut GroupReads {
        let at = slot as usize;
        if at >= self.groups.len() {
            self.groups.resize_with(at + 1, || None);
        }
        if self.groups[at].is_none() {
            self.present.push(slot);
        }
        self.groups[at].get_or_insert_default()
    }

    /// The group has something to ask for, or to serve by asking.
    pub(super) fn ask(&mut self, slot: u32) {
        if self.asking.last() != Some(&slot) {
            self.asking.push(slot);
        }
    }

    fn admit(
        &mut self,
        slot: u32,
        consistency: Consistency,
        waiting: Waiting,
        limit: usize,
    ) -> Result<(), ReadRun> {
        let group = self.group_or_new(slot);
        let count = waiting.reads.range.len();
        if group.count > 0 && group.count + count > limit {
            return Err(waiting.reads.answer(Err(ReadError::Busy)));
        }
        group.count += count;
        group.new.push((consistency, waiting));
        self.ask(slot);
        Ok(())
    }

    /// The group's next request, if there is something to ask for and room.
    fn next_request(&mut self, slot: u32) -> Option<(ReadTicket, Consistency)> {
        let ticket = ReadTicket(self.tickets);
        let group = self.group(slot)?;
        let consistency = group.new.first()?.0;
        if group.asked.len() >= MAX_ASKED {
            return None;
        }
        let waiting = group.new.extract_if(.., |new| new.0 == consistency).map(|new| new.1);
        let waiting = waiting.collect();
        group.asked.push(Asked { ticket, consistency, waiting });
        self.tickets += 1;
        Some((ticket, consistency))
    }

    /// What became of a request.
    pub(super) fn answered(&mut self, slot: u32, answer: ReadAnswer, out: &mut Vec<ReadRun>) {
        let Some(group) = self.group(slot) else { return };
        // One that is asked for again may be answered twice.
        let known = group.asked.iter().position(|asked| asked.ticket == answer.ticket);
        let Some(at) = known else { return };
        let Asked { waiting, .. } = group.asked.remove(at);
        let has_new = !group.new.is_empty();
        let mut is_news = false;
        match answer.index {
            Some(index) => {
                group.confirmed.push((index, waiting));
                is_news = !std::mem::replace(&mut group.is_confirmed, true);
            }
            None => group.finish(waiting, &Err(ReadError::NoLeader), out),
        }
        if is_news {
            self.confirmed.push(slot);
        }
        if has_new {
            self.ask(slot);
        }
    }

    /// Refuses all reads of a group.
    pub(super) fn refuse(&mut self, slot: u32, error: &ReadError, out: &mut Vec<ReadRun>) {
        if let Some(group) = self.group(slot) {
            group.refuse(error, out);
        }
    }

    /// Refuses all reads of a group that is gone.
    pub(super) fn forget(&mut self, slot: u32, error: &ReadError, out: &mut Vec<ReadRun>) {
        self.refuse(slot, error, out);
        for list in [&mut self.present, &mut self.asking, &mut self.confirmed] {
            list.retain(|listed| *listed != slot);
        }
        if let Some(place) = self.groups.get_mut(slot as usize) {
            *place = None;
        }
    }

    /// Refuses all reads of all groups.
    pub(super) fn refuse_all(&mut self, error: &ReadError, out: &mut Vec<ReadRun>) {
        self.groups.iter_mut().flatten().for_each(|group| group.refuse(error, out));
        *self = Self { tickets: self.tickets, now: self.now, ..Self::default() };
    }

    /// Refuses what has waited for too long, and frees what is empty.
    pub(super) fn expire(&mut self, now: Time, out: &mut Vec<ReadRun>) {
        let Self { groups, present, asking, .. } = self;
        present.retain(|slot| {
            let place = &mut groups[*slot as usize];
            let Some(group) = place else { return false };
            group.expire(now, out);
            if !group.new.is_empty() {
                asking.push(*slot);
            }
            let is_empty = group.count == 0 && group.asked.is_empty() && !group.is_confirmed;
            if is_empty {
                *place = None;
            }
            !is_empty
        });
    }
}

impl GroupReads {
    fn finish(
        &mut self,
        waiting: Vec<Waiting>,
        outcome: &Result<LogIndex, ReadError>,
        out: &mut Vec<ReadRun>,
    ) {
        for Waiting { reads, .. } in waiting {
            self.count -= reads.range.len();
            out.push(reads.answer(outcome.clone()));
        }
    }

    fn refuse(&mut self, error: &ReadError, out: &mut Vec<ReadRun>) {
        let new = std::mem::take(&mut self.new).into_iter().map(|new| new.1);
        let asked = std::mem::take(&mut self.asked).into_iter().flat_map(|asked| asked.waiting);
        let confirmed = std::mem::take(&mut self.confirmed).into_iter().flat_map(|(_, w)| w);
        let waiting = confirmed.chain(asked).chain(new).collect();
        self.finish(waiting, &Err(error.clone()), out);
    }

    /// Answers what may be served now that `applied` is; true if nothing more is confirmed.
    fn serve(&mut self, applied: LogIndex, out: &mut Vec<ReadRun>) -> bool {
        let ready = self.confirmed.extract_if(.., |(index, _)| *index <= applied);
        for (index, waiting) in ready.collect::<Vec<_>>() {
            self.finish(waiting, &Ok(index), out);
        }
        self.is_confirmed = !self.confirmed.is_empty();
        !self.is_confirmed
    }

    fn expire(&mut self, now: Time, out: &mut Vec<ReadRun>) {
        let due = |waiting: &mut Waiting| waiting.deadline <= now;
        let mut late: Vec<Waiting> = Vec::new();
        late.extend(self.new.extract_if(.., |new| due(&mut new.1)).map(|new| new.1));
        let asked = self.asked.iter_mut().map(|asked| &mut asked.waiting);
        let confirmed = self.confirmed.iter_mut().map(|(_, waiting)| waiting);
        asked.chain(confirmed).for_each(|waiting| late.extend(waiting.extract_if(.., due)));
        // A request that nobody waits for is not waited for either.
        self.asked.retain(|asked| !asked.waiting.is_empty());
        self.confirmed.retain(|(_, waiting)| !waiting.is_empty());
        self.finish(late, &Err(ReadError::TimedOut), out);
    }
}

impl Shard {
    /// A caller's reads. They are answered by this or a later [`turn`](Self::turn), all of a run
    /// at once. `now` must have been read from the clock after the submission had arrived here: a
    /// lease is compared with it.
    pub fn submit_reads(&mut self, now: Time, client: ClientId, submission: ReadSubmission) {
        self.readers.now = self.readers.now.max(now);
        let deadline = now + self.config.limits.read_timeout;
        let submission = Arc::new(submission);
        let mut start = 0;
        for &(group, consistency, count) in &submission.groups {
            let range = start..start + count as usize;
            start = range.end;
            let reads = SubmittedReads { client, submission: submission.clone(), group, range };
            if let Err(refused) = self.admit_reads(consistency, Waiting { reads, deadline }) {
                self.effects.reads.push(refused);
            }
        }
    }

    fn admit_reads(&mut self, consistency: Consistency, waiting: Waiting) -> Result<(), ReadRun> {
        let group = waiting.reads.group;
        let error = match (&self.state, self.slots.get(&group)) {
            (State::Running, Some(&slot)) => {
                let limit = self.config.limits.group_reads;
                return self.readers.admit(slot, consistency, waiting, limit);
            }
            (State::Running, None) => ReadError::UnknownGroup(group),
            (State::Recovering, _) => ReadError::NoLeader,
            (State::Dead(Death::Stopped | Death::Panicked(_)), _) => ReadError::Stopped,
            (State::Dead(Death::Storage(cause)), _) => ReadError::StorageFailed(cause.clone()),
        };
        Err(waiting.reads.answer(Err(error)))
    }

    /// Asks for the reads that this turn brought, those of other members among them.
    pub(super) fn ask_for_reads(&mut self) {
        if self.readers.asking.is_empty() || !matches!(self.state, State::Running) {
            return;
        }
        let now = self.readers.now;
        let asking = std::mem::take(&mut self.readers.asking);
        for &slot in &asking {
            while let Some((ticket, consistency)) = self.readers.next_request(slot) {
                self.counters.read_requests += 1;
                self.call(slot, |raft, out| raft.read(now, ticket, consistency, out));
            }
            self.call(slot, |raft, out| raft.serve_reads(now, out));
        }
        // What was announced meanwhile has just been done.
        self.readers.asking = asking;
        self.readers.asking.clear();
    }

    /// A connection was made: what was asked of its other end before may be lost.
    pub(super) fn ask_again(&mut self, now: Time, link: LinkId) {
        let node = self.links.node(link);
        for at in 0..self.readers.present.len() {
            let slot = self.readers.present[at];
            let group = &self.groups[slot as usize];
            let Some(reads) = self.readers.group(slot) else { continue };
            if group.raft.leader() != Some(node) || group.links.to(node) != Some(link) {
                continue;
            }
            let requests: Vec<_> = reads.asked.iter().map(|a| (a.ticket, a.consistency)).collect();
            for (ticket, consistency) in requests {
                self.call(slot, |raft, out| raft.read(now, ticket, consistency, out));
            }
        }
    }

    /// Answers what the state machines have applied enough for.
    pub(super) fn serve_reads(&mut self) {
        if self.readers.confirmed.is_empty() {
            return;
        }
        let Self { readers, groups, effects, .. } = self;
        let mut confirmed = std::mem::take(&mut readers.confirmed);
        confirmed.retain(|slot| {
            let raft = &groups[*slot as usize].raft;
            // What was applied before a reset that left it behind is no part of what is asked for.
            let applied = if raft.is_superseded() { LogIndex(0) } else { raft.applied_index() };
            let Some(group) = readers.group(*slot) else { return false };
            !group.serve(applied, &mut effects.reads)
        });
        readers.confirmed = confirmed;
    }
}

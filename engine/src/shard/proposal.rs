//! Operations on their way in, answers on their way out. Both travel in runs: what a caller submits
//! with one call is one [`Submission`], and what one turn decides of it is one [`AnswerRun`], so
//! that neither direction costs an allocation or a message per operation.

use std::ops::Range;
use std::sync::Arc;

use ringleader_wal::{GroupId, LogIndex, Run, Term};

use crate::error::{ProposeError, UnknownCause};
use crate::state_machine::ReplyRun;

/// Who gets the answers; the driver gives the numbers out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(pub u32);

/// Operations of one caller, submitted together.
#[derive(Debug, Default)]
pub struct Submission {
    /// The caller's own name of each operation.
    pub user_data: Vec<u64>,
    /// Where each operation's payload ends in `payload`.
    pub ends: Vec<u32>,
    /// The payloads, back to back.
    pub payload: Vec<u8>,
    /// The groups, in order: how many consecutive operations are for each.
    pub groups: Vec<(GroupId, u32)>,
    /// Of `groups`, in order, the places of those that are bound to a term, and that term.
    pub terms: Vec<(u32, Term)>,
}

impl Submission {
    /// Adds an operation.
    pub fn push(&mut self, group: GroupId, user_data: u64, payload: &[u8]) {
        let free = self.last_bound().is_none();
        match self.groups.last_mut() {
            Some((last, count)) if *last == group && free => *count += 1,
            _ => self.groups.push((group, 1)),
        }
        self.push_payload(user_data, payload);
    }

    /// Adds an operation that is refused, without effect, unless the group's leader is in `term`.
    pub fn push_in_term(&mut self, group: GroupId, term: Term, user_data: u64, payload: &[u8]) {
        let bound = self.last_bound() == Some(term);
        match self.groups.last_mut() {
            Some((last, count)) if *last == group && bound => *count += 1,
            _ => {
                self.terms.push((self.groups.len() as u32, term));
                self.groups.push((group, 1));
            }
        }
        self.push_payload(user_data, payload);
    }

    #[inline]
    fn push_payload(&mut self, user_data: u64, payload: &[u8]) {
        self.user_data.push(user_data);
        self.payload.extend_from_slice(payload);
        self.ends.push(u32::try_from(self.payload.len()).expect("a submission is below 4 GiB"));
    }

    /// The term that the last of `groups` is bound to.
    #[inline]
    fn last_bound(&self) -> Option<Term> {
        let (at, term) = self.terms.last()?;
        (*at as usize + 1 == self.groups.len()).then_some(*term)
    }

    /// The term that one of `groups` is bound to.
    #[inline]
    pub(super) fn bound(&self, at: usize) -> Option<Term> {
        let found = self.terms.binary_search_by_key(&at, |(bound, _)| *bound as usize);
        found.ok().map(|found| self.terms[found].1)
    }

    /// The same operations, but those of a group together, in the order in which they were pushed, if
    /// the groups change with nearly every one: all that follows costs so much per run.
    pub(crate) fn gathered(self) -> Self {
        let count = self.groups.len();
        if count * WORTH_GATHERING <= self.len() || count < 2 {
            return self;
        }
        let mut runs = Vec::with_capacity(count);
        let mut first = 0;
        for (at, (group, count)) in self.groups.iter().enumerate() {
            let range = first..first + *count as usize;
            first = range.end;
            runs.push((*group, range, self.bound(at)));
        }
        runs.sort_unstable_by_key(|(group, range, _)| (*group, range.start));
        if !runs.is_sorted_by(|(group, ..), (next, ..)| group < next) {
            return self.arranged(&runs);
        }
        self
    }

    fn arranged(&self, runs: &[(GroupId, Range<usize>, Option<Term>)]) -> Self {
        let mut all = Self {
            user_data: Vec::with_capacity(self.len()),
            ends: Vec::with_capacity(self.len()),
            payload: Vec::with_capacity(self.payload.len()),
            ..Self::default()
        };
        for (group, range, bound) in runs {
            let mut start = self.start_of(range.start);
            for at in range.clone() {
                let (user_data, end) = (self.user_data[at], self.ends[at] as usize);
                let payload = &self.payload[start..end];
                start = end;
                match bound {
                    None => all.push(*group, user_data, payload),
                    Some(term) => all.push_in_term(*group, *term, user_data, payload),
                }
            }
        }
        all
    }

    /// Where an operation's payload begins.
    #[inline]
    fn start_of(&self, at: usize) -> usize {
        if at == 0 { 0 } else { self.ends[at - 1] as usize }
    }

    /// Number of operations.
    #[must_use]
    pub fn len(&self) -> usize {
        self.user_data.len()
    }

    /// Whether there is no operation.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.user_data.is_empty()
    }

    /// What the operations weigh against the shard's limit: their payload, and a constant for each
    /// that stands for the bookkeeping.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.payload.len() + self.len() * OPERATION_WEIGHT
    }
}

/// Bytes of bookkeeping that an operation in flight is charged with.
const OPERATION_WEIGHT: usize = 32;

/// Operations of a run, on average, from which on it is long enough.
const WORTH_GATHERING: usize = 4;

/// Consecutive operations of one submission that are for one group.
#[derive(Clone, Debug)]
pub(super) struct SubmissionRun {
    pub(super) client: ClientId,
    pub(super) submission: Arc<Submission>,
    pub(super) range: Range<usize>,
}

impl SubmissionRun {
    #[inline]
    fn bounds(&self) -> (usize, usize) {
        let (start, end) = (self.range.start, self.range.end);
        (self.submission.start_of(start), self.submission.start_of(end))
    }

    #[inline]
    pub(super) fn encoded(&self) -> Run<'_> {
        let (start, end) = self.bounds();
        Run {
            payload: &self.submission.payload[start..end],
            ends: &self.submission.ends[self.range.clone()],
            base: start as u32,
        }
    }

    #[inline]
    pub(super) fn payload_bytes(&self) -> usize {
        let (start, end) = self.bounds();
        end - start
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.range.len()
    }

    #[inline]
    pub(super) fn weight(&self) -> usize {
        self.payload_bytes() + self.len() * OPERATION_WEIGHT
    }

    /// How many operations from the front have at most `bytes` of payload together; `None` if not
    /// even the first, unless it is `needed`.
    pub(super) fn fitting(&self, bytes: usize, needed: bool) -> Option<usize> {
        let (start, end) = self.bounds();
        if end - start <= bytes {
            return Some(self.len());
        }
        let ends = &self.submission.ends[self.range.clone()];
        let fit = ends.partition_point(|end| *end as usize - start <= bytes);
        if fit > 0 { Some(fit) } else { needed.then_some(1) }
    }

    /// Takes the first `count` operations out.
    pub(super) fn split_front(&mut self, count: usize) -> Self {
        let at = self.range.start + count;
        let front = Self {
            client: self.client,
            submission: Arc::clone(&self.submission),
            range: self.range.start..at,
        };
        self.range.start = at;
        front
    }

    pub(super) fn answer(self, outcome: Outcome) -> AnswerRun {
        AnswerRun {
            client: self.client,
            weight: self.weight(),
            submission: self.submission,
            range: self.range,
            outcome,
        }
    }
}

/// What became of the operations of an [`AnswerRun`].
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// Durable on a majority and applied on this node.
    Applied { first: LogIndex, term: Term, replies: Option<ReplyRun> },
    /// Not applied, or not known to be.
    Failed(ProposeError),
}

/// The answer to consecutive operations of one submission.
#[derive(Clone, Debug)]
pub struct AnswerRun {
    pub(crate) client: ClientId,
    pub(crate) submission: Arc<Submission>,
    pub(crate) range: Range<usize>,
    pub(crate) weight: usize,
    pub(crate) outcome: Outcome,
}

/// One operation's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completion<'a> {
    /// The caller's own name of the operation.
    pub user_data: u64,
    /// What became of it.
    pub result: Result<Applied<'a>, ProposeError>,
}

/// Where an operation was applied, and what the state machine answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied<'a> {
    /// Its index in the group's log.
    pub index: LogIndex,
    /// The term it was proposed in.
    pub term: Term,
    /// The state machine's reply; empty if it made none.
    pub reply: &'a [u8],
}

impl AnswerRun {
    /// Takes a success back that nobody was told of.
    pub(super) fn revoke(&mut self, cause: UnknownCause) {
        if matches!(self.outcome, Outcome::Applied { .. }) {
            self.outcome = Outcome::Failed(ProposeError::Unknown(cause));
        }
    }

    /// Why none of the operations was, or may not have been, applied; none if they were.
    #[must_use]
    pub fn error(&self) -> Option<&ProposeError> {
        match &self.outcome {
            Outcome::Failed(error) => Some(error),
            Outcome::Applied { .. } => None,
        }
    }

    /// Who gets the answers.
    #[must_use]
    pub fn client(&self) -> ClientId {
        self.client
    }

    /// The weight that the operations were charged with; see [`Submission::weight`].
    #[must_use]
    pub fn weight(&self) -> usize {
        self.weight
    }

    /// Number of operations answered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.range.len()
    }

    /// Whether there is none; never the case.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.range.is_empty()
    }

    /// Gives each operation's answer to `each`, in the order of submission.
    pub fn for_each(&self, mut each: impl FnMut(Completion<'_>)) {
        let names = &self.submission.user_data[self.range.clone()];
        match &self.outcome {
            Outcome::Failed(error) => names.iter().for_each(|&user_data| {
                each(Completion { user_data, result: Err(error.clone()) });
            }),
            Outcome::Applied { first, term, replies } => {
                let mut cursor = 0;
                names.iter().zip(first.0..).for_each(|(&user_data, index)| {
                    let index = LogIndex(index);
                    let reply = replies.as_ref().map_or(&[][..], |run| {
                        let range = run.get(index, &mut cursor);
                        &run.bytes[range]
                    });
                    each(Completion {
                        user_data,
                        result: Ok(Applied { index, term: *term, reply }),
                    });
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run: its group, its term if it is bound to one, and its operations.
    type Shown = (u64, Option<u64>, Vec<(u64, String)>);

    fn runs(submission: &Submission) -> Vec<Shown> {
        let mut at = 0;
        let run = |(place, (group, count)): (usize, &(GroupId, u32))| {
            let range = at..at + *count as usize;
            at = range.end;
            let text = |at: usize| {
                let payload = &submission.payload[submission.start_of(at)..];
                let payload = &payload[..submission.ends[at] as usize - submission.start_of(at)];
                (submission.user_data[at], String::from_utf8(payload.to_vec()).expect("text"))
            };
            let bound = submission.bound(place).map(|term| term.0);
            (group.0, bound, range.map(text).collect())
        };
        submission.groups.iter().enumerate().map(run).collect()
    }

    #[test]
    fn operations_of_a_group_are_brought_together_in_their_order() {
        let mut submission = Submission::default();
        submission.push(GroupId(2), 1, b"a");
        submission.push(GroupId(1), 2, b"");
        submission.push(GroupId(2), 3, b"bcd");
        submission.push_in_term(GroupId(1), Term(7), 4, b"e");
        submission.push_in_term(GroupId(2), Term(7), 5, b"f");
        submission.push_in_term(GroupId(1), Term(7), 6, b"gh");
        submission.push(GroupId(2), 7, b"i");
        let op = |user_data, payload: &str| (user_data, payload.to_owned());
        let gathered = vec![
            (1, None, vec![op(2, "")]),
            (1, Some(7), vec![op(4, "e"), op(6, "gh")]),
            (2, None, vec![op(1, "a"), op(3, "bcd")]),
            (2, Some(7), vec![op(5, "f")]),
            (2, None, vec![op(7, "i")]),
        ];
        assert_eq!(runs(&submission.gathered()), gathered);
    }

    #[test]
    fn what_is_together_stays_as_it_is() {
        let mut submission = Submission::default();
        for (user_data, group) in [(1, 9), (2, 9), (3, 4)] {
            submission.push(GroupId(group), user_data, b"x");
        }
        let before = runs(&submission);
        assert_eq!(runs(&submission.gathered()), before);
    }
}

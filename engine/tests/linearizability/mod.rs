//! Is a history of concurrent operations one that a single copy could have given?
//!
//! The search is that of Wing and Gong (1993) with the memory of Lowe (2017), as in Porcupine: it
//! looks for an order of the operations in which each takes effect between its call and its return
//! and gives what it gave. A set of operations that led nowhere from a state is not tried again.
//!
//! Histories are checked per object (linearizability is local: Herlihy and Wing, theorem 1), so
//! callers split theirs by key first. An operation whose outcome is unknown has no return: it may
//! take effect at any time after its call, or never.
//!
//! Nothing here knows of the simulator: tests of real processes record the same [`Operation`]s.

pub(crate) mod register;

use std::cmp::Reverse;
use std::collections::HashSet;
use std::fmt::Debug;
use std::hash::Hash;

/// What one object does, one operation at a time.
pub(crate) trait Model {
    type State: Clone + Debug + Default + Eq + Hash;
    type Input: Debug;
    type Output: Debug + PartialEq;

    /// The state after the operation, and what the operation gives.
    fn apply(state: &Self::State, input: &Self::Input) -> (Self::State, Self::Output);
}

/// One call of one caller. Times are of one clock; only their order counts.
#[derive(Clone, Debug)]
pub(crate) struct Operation<M: Model> {
    pub(crate) input: M::Input,
    pub(crate) called: u64,
    /// When the caller was told, and what; none if it never was.
    pub(crate) returned: Option<(u64, M::Output)>,
    /// Where in the order it is believed to be, such as the log index that an answer named. The
    /// search tries that first and believes nothing: a wrong hint costs time.
    pub(crate) hint: Option<u64>,
}

/// The result of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Linearizable,
    /// No order explains the history. The operations, by their place in it, that were the next to
    /// be explained after the longest order that was found: the culprit is among them.
    Violated {
        explained: usize,
        stuck: Vec<usize>,
    },
    /// The search took more steps than it was given. So it found out what is said above, but did
    /// not try every order.
    OutOfBudget {
        explained: usize,
        stuck: Vec<usize>,
    },
}

/// Which operations have taken effect.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Done {
    /// How many returned operations have.
    count: usize,
    /// Every returned operation before this place has.
    front: usize,
    /// Returned operations from `front` on.
    window: Vec<u64>,
    /// Operations of unknown outcome.
    unknown: Vec<u64>,
}

/// One step of the order that is being tried.
struct Frame<M: Model> {
    done: Done,
    state: M::State,
    /// The latest hint that was followed.
    reached: u64,
    /// What may take effect next and has not been tried.
    candidates: Vec<Candidate>,
}

#[derive(Clone, Copy)]
enum Candidate {
    /// By place among the returned operations.
    Returned(usize),
    /// By place among those of unknown outcome.
    Unknown(usize),
}

/// The history, sorted for the search.
struct Search<'a, M: Model> {
    history: &'a [Operation<M>],
    /// Places in the history, in the order of the calls.
    returned: Vec<usize>,
    unknown: Vec<usize>,
}

/// Checks the history of one object; `budget` bounds the steps of the search.
pub(crate) fn check<M: Model>(history: &[Operation<M>], budget: u64) -> Verdict {
    let mut places: Vec<usize> = (0..history.len()).collect();
    places.sort_by_key(|place| (history[*place].called, *place));
    let (returned, unknown) = places.into_iter().partition(|at| history[*at].returned.is_some());
    Search { history, returned, unknown }.run(budget)
}

impl<M: Model> Search<'_, M> {
    fn run(&self, budget: u64) -> Verdict {
        let first = Done {
            count: 0,
            front: 0,
            window: Vec::new(),
            unknown: vec![0; self.unknown.len().div_ceil(64)],
        };
        let mut seen = HashSet::new();
        let mut stack = vec![self.frame(first, M::State::default(), 0)];
        let (mut deepest, mut stuck) = (0, Vec::new());
        for _ in 0..budget {
            let Some(top) = stack.last_mut() else {
                return Verdict::Violated { explained: deepest, stuck };
            };
            if top.done.count == self.returned.len() {
                return Verdict::Linearizable;
            }
            let Some(candidate) = top.candidates.pop() else {
                stack.pop();
                continue;
            };
            let Some((done, state)) = self.step(top, candidate) else { continue };
            if seen.insert((done.clone(), state.clone())) {
                let hint = self.history[self.place(candidate)].hint;
                let reached = top.reached.max(hint.unwrap_or_default());
                let frame = self.frame(done, state, reached);
                if stack.len() > deepest {
                    deepest = stack.len();
                    stuck = self.places(&frame.candidates);
                }
                stack.push(frame);
            }
        }
        Verdict::OutOfBudget { explained: deepest, stuck }
    }

    /// Lets one more operation take effect; none if it would have given something else.
    fn step(&self, from: &Frame<M>, candidate: Candidate) -> Option<(Done, M::State)> {
        let mut done = from.done.clone();
        match candidate {
            Candidate::Returned(at) => done.add(at),
            Candidate::Unknown(at) => done.unknown[at / 64] |= 1 << (at % 64),
        }
        let operation = &self.history[self.place(candidate)];
        let (state, output) = M::apply(&from.state, &operation.input);
        match &operation.returned {
            Some((_, told)) if *told != output => None,
            // An operation that changes nothing and told nobody need not be.
            None if state == from.state => None,
            _ => Some((done, state)),
        }
    }

    /// Whatever was called before the first return that is still to come may be next. Operations of
    /// unknown outcome are tried last: most are needed late or never.
    fn frame(&self, done: Done, state: M::State, reached: u64) -> Frame<M> {
        let mut end = u64::MAX;
        let mut known = Vec::new();
        for at in done.front..self.returned.len() {
            let operation = &self.history[self.returned[at]];
            if operation.called > end {
                break;
            }
            if !done.holds(at) {
                end = end.min(operation.returned.as_ref().map_or(u64::MAX, |told| told.0));
                known.push(at);
            }
        }
        known.retain(|at| self.history[self.returned[*at]].called <= end);
        let unknown = (0..self.unknown.len()).filter(|at| {
            done.unknown[at / 64] >> (at % 64) & 1 == 0
                && self.history[self.unknown[*at]].called <= end
        });
        // They are taken from the end.
        let mut candidates: Vec<Candidate> = unknown.rev().map(Candidate::Unknown).collect();
        candidates.extend(known.into_iter().rev().map(Candidate::Returned));
        candidates.sort_by_key(|candidate| {
            // What changed nothing where it was believed to be is no longer hinted at.
            let hint = self.history[self.place(*candidate)].hint.filter(|hint| *hint > reached);
            Reverse(hint.unwrap_or(u64::MAX))
        });
        Frame { done, state, reached, candidates }
    }

    fn place(&self, candidate: Candidate) -> usize {
        match candidate {
            Candidate::Returned(at) => self.returned[at],
            Candidate::Unknown(at) => self.unknown[at],
        }
    }

    fn places(&self, candidates: &[Candidate]) -> Vec<usize> {
        candidates.iter().map(|candidate| self.place(*candidate)).collect()
    }
}

impl Done {
    fn holds(&self, at: usize) -> bool {
        let at = at - self.front;
        self.window.get(at / 64).is_some_and(|word| word >> (at % 64) & 1 == 1)
    }

    fn add(&mut self, at: usize) {
        self.count += 1;
        let offset = at - self.front;
        if self.window.len() <= offset / 64 {
            self.window.resize(offset / 64 + 1, 0);
        }
        self.window[offset / 64] |= 1 << (offset % 64);
        // Equal sets must be equal values: the front moves by whole words, and nothing trails.
        while self.window.first() == Some(&u64::MAX) {
            self.window.remove(0);
            self.front += 64;
        }
        while self.window.last() == Some(&0) {
            self.window.pop();
        }
    }
}

//! A queue that almost always holds nothing or one: with a thousand groups, what matters of it is
//! that the first element lies where the queue does, and not behind a pointer in a cache line of
//! its own.

use std::collections::VecDeque;

#[derive(Clone, Debug)]
pub(crate) struct Fifo<T> {
    first: Option<T>,
    /// Those after the first; empty if there is none. In a box, for it is seldom looked at and
    /// would take up half of the queue's room.
    #[allow(clippy::box_collection, reason = "see above")]
    rest: Option<Box<VecDeque<T>>>,
}

impl<T> Default for Fifo<T> {
    fn default() -> Self {
        Self { first: None, rest: None }
    }
}

impl<T> Fifo<T> {
    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    pub(crate) fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.rest.as_ref().map_or(0, |rest| rest.len())
    }

    #[inline]
    pub(crate) fn push(&mut self, element: T) {
        if self.first.is_none() {
            self.first = Some(element);
        } else {
            self.rest.get_or_insert_default().push_back(element);
        }
    }

    /// Takes the first element out.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<T> {
        let first = self.first.take();
        if let Some(rest) = &mut self.rest {
            self.first = rest.pop_front();
        }
        first
    }

    pub(crate) fn first(&self) -> Option<&T> {
        self.first.as_ref()
    }

    pub(crate) fn first_mut(&mut self) -> Option<&mut T> {
        self.first.as_mut()
    }

    pub(crate) fn last_mut(&mut self) -> Option<&mut T> {
        let last = self.rest.as_mut().and_then(|rest| rest.back_mut());
        last.or(self.first.as_mut())
    }

    pub(crate) fn clear(&mut self) {
        self.first = None;
        self.rest = None;
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.first.iter().chain(self.rest.iter().flat_map(|rest| rest.iter()))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.first.iter_mut().chain(self.rest.iter_mut().flat_map(|rest| rest.iter_mut()))
    }

    /// Takes all elements out.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = T> + use<T> {
        self.first.take().into_iter().chain(self.rest.take().into_iter().flat_map(|rest| *rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_leave_in_the_order_in_which_they_came() {
        let mut fifo = Fifo::default();
        assert_eq!(fifo.pop(), None);
        (1..=3).for_each(|n| fifo.push(n));
        assert_eq!((fifo.len(), fifo.first()), (3, Some(&1)));
        assert_eq!(fifo.last_mut(), Some(&mut 3));
        assert_eq!(fifo.pop(), Some(1));
        fifo.push(4);
        assert!(fifo.iter().eq(&[2, 3, 4]));
        assert!(fifo.drain().eq([2, 3, 4]));
        assert!(fifo.is_empty());
    }
}

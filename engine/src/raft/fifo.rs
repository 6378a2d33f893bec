//! A queue that is short as a rule: with a thousand groups, what matters of it is that its elements
//! lie where the queue does, and not behind a pointer in a cache line of their own.

use std::collections::VecDeque;

#[derive(Clone, Debug)]
pub(crate) struct Fifo<T, const NEAR: usize = 2> {
    /// The first elements, in order; what is behind the last has no meaning.
    near: [T; NEAR],
    len: u32,
    /// Those after them. In a box, for it is seldom looked at and would take up half of the queue's
    /// room.
    #[allow(clippy::box_collection, reason = "see above")]
    far: Option<Box<VecDeque<T>>>,
}

impl<T: Default, const NEAR: usize> Default for Fifo<T, NEAR> {
    fn default() -> Self {
        Self { near: std::array::from_fn(|_| T::default()), len: 0, far: None }
    }
}

impl<T: Default, const NEAR: usize> Fifo<T, NEAR> {
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len as usize
    }

    #[inline]
    pub(crate) fn push(&mut self, element: T) {
        match self.near.get_mut(self.len as usize) {
            Some(place) => *place = element,
            None => self.far.get_or_insert_default().push_back(element),
        }
        self.len += 1;
    }

    /// Takes the first element out.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<T> {
        let len = self.len();
        if len == 0 {
            return None;
        }
        let first = std::mem::take(&mut self.near[0]);
        (1..NEAR).for_each(|at| self.near.swap(at - 1, at));
        if len > NEAR {
            self.near[NEAR - 1] = self.pop_far();
        }
        self.len -= 1;
        Some(first)
    }

    #[cold]
    fn pop_far(&mut self) -> T {
        self.far.as_mut().and_then(|far| far.pop_front()).unwrap_or_default()
    }

    #[inline]
    pub(crate) fn first(&self) -> Option<&T> {
        self.near[..self.len().min(NEAR)].first()
    }

    #[inline]
    pub(crate) fn first_mut(&mut self) -> Option<&mut T> {
        let len = self.len().min(NEAR);
        self.near[..len].first_mut()
    }

    #[inline]
    pub(crate) fn last_mut(&mut self) -> Option<&mut T> {
        let len = self.len();
        if len > NEAR {
            return self.far.as_mut().and_then(|far| far.back_mut());
        }
        self.near[..len].last_mut()
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    #[inline]
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> + Clone {
        let near = self.near[..self.len().min(NEAR)].iter();
        near.chain(self.far.iter().flat_map(|far| far.iter()))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        let len = self.len().min(NEAR);
        self.near[..len].iter_mut().chain(self.far.iter_mut().flat_map(|far| far.iter_mut()))
    }

    /// Takes all elements out.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = T> + use<T, NEAR> {
        let Self { near, len, far } = std::mem::take(self);
        near.into_iter().take(len as usize).chain(far.into_iter().flat_map(|far| *far))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_leave_in_the_order_in_which_they_came() {
        let mut fifo = Fifo::<_>::default();
        assert_eq!((fifo.pop(), fifo.last_mut()), (None, None));
        assert_eq!(fifo.first(), None);
        let (mut next, mut first) = (1, 1);
        for round in 1..=6 {
            for _ in 0..round {
                fifo.push(next);
                next += 1;
                assert_eq!(fifo.last_mut(), Some(&mut (next - 1)));
                assert!(fifo.iter().copied().eq(first..next));
                assert!(fifo.iter_mut().map(|n| *n).eq(first..next));
            }
            while fifo.len() > round / 2 {
                assert_eq!(fifo.first(), Some(&first));
                assert_eq!(fifo.first_mut(), Some(&mut { first }));
                assert_eq!(fifo.pop(), Some(first));
                first += 1;
                assert!(fifo.iter().copied().eq(first..next));
            }
        }
        assert!(fifo.drain().eq(first..next));
        assert!(fifo.is_empty());
    }
}

//! Where each group is on the shard.

use std::ops::Deref;

use ringleader_wal::{GroupId, NumberMap};

#[derive(Clone, Copy, Debug)]
struct Place {
    group: Option<GroupId>,
    /// The slot that was asked for after this one the last time.
    next: u32,
}

/// The groups' slots: a map, and a memory of the order in which they are asked for.
///
/// What a peer's frames and callers' submissions name comes in much the same order, turn by turn: as a
/// rule the group that followed another the last time follows it again. To see that it does is
/// cheaper than to look it up.
#[derive(Debug, Default)]
pub(super) struct Slots {
    map: NumberMap<GroupId, u32>,
    places: Vec<Place>,
    /// The slot found last.
    last: u32,
}

impl Slots {
    /// The group's slot, for one who asks for many.
    #[inline]
    pub(super) fn find(&mut self, group: GroupId) -> Option<u32> {
        let guess = self.places.get(self.last as usize)?.next;
        if self.places.get(guess as usize)?.group != Some(group) {
            return self.look_up(group);
        }
        self.last = guess;
        Some(guess)
    }

    fn look_up(&mut self, group: GroupId) -> Option<u32> {
        let slot = *self.map.get(&group)?;
        self.places[self.last as usize].next = slot;
        self.last = slot;
        Some(slot)
    }

    /// A slot that has no group, or is the next one, has one now.
    pub(super) fn insert(&mut self, group: GroupId, slot: u32) {
        let place = Place { group: Some(group), next: 0 };
        match self.places.get_mut(slot as usize) {
            Some(vacant) => *vacant = place,
            None => self.places.push(place),
        }
        debug_assert!((slot as usize) < self.places.len());
        self.map.insert(group, slot);
    }

    pub(super) fn remove(&mut self, group: GroupId) {
        if let Some(slot) = self.map.remove(&group) {
            self.places[slot as usize].group = None;
        }
    }
}

/// Gives the groups the slots from the first on.
impl FromIterator<GroupId> for Slots {
    fn from_iter<I: IntoIterator<Item = GroupId>>(groups: I) -> Self {
        let mut slots = Self::default();
        groups.into_iter().zip(0..).for_each(|(group, slot)| slots.insert(group, slot));
        slots
    }
}

impl Deref for Slots {
    type Target = NumberMap<GroupId, u32>;

    fn deref(&self) -> &Self::Target {
        &self.map
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_guessed_is_who_was_asked_for() {
        let mut slots: Slots = (10..14).map(GroupId).collect();
        for group in [10, 12, 11, 12, 13, 9, 13, 13, 10, 12, 11] {
            let known = slots.get(&GroupId(group)).copied();
            assert_eq!(slots.find(GroupId(group)), known);
        }
        slots.remove(GroupId(12));
        assert_eq!([10, 12, 11].map(|group| slots.find(GroupId(group))), [Some(0), None, Some(1)]);
        slots.insert(GroupId(20), 2);
        assert_eq!([10, 12, 20].map(|group| slots.find(GroupId(group))), [Some(0), None, Some(2)]);
        assert_eq!(Slots::default().find(GroupId(1)), None);
    }
}

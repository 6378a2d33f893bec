//! Redis Cluster's hash slots, and how they are spread over the groups.

use std::ops::RangeInclusive;

use ringleader::GroupId;

/// Number of hash slots, as in every Redis Cluster.
pub const SLOTS: u16 = 16_384;

/// The slot of a key: CRC16 of its hash tag, or of all of it if it has none. A hash tag is what
/// stands between the first `{` and the next `}`, unless nothing does.
#[must_use]
pub fn slot_of(key: &[u8]) -> u16 {
    crc16(hash_tag(key)) % SLOTS
}

fn hash_tag(key: &[u8]) -> &[u8] {
    let Some(open) = key.iter().position(|byte| *byte == b'{') else { return key };
    let tag = &key[open + 1..];
    match tag.iter().position(|byte| *byte == b'}') {
        Some(length) if length > 0 => &tag[..length],
        _ => key,
    }
}

/// CRC16-CCITT (XMODEM): polynomial 0x1021, no reflection, initial value 0.
fn crc16(bytes: &[u8]) -> u16 {
    const TABLE: [u16; 256] = table();
    let step = |crc: u16, byte: &u8| (crc << 8) ^ TABLE[usize::from((crc >> 8) as u8 ^ byte)];
    bytes.iter().fold(0, step)
}

const fn table() -> [u16; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
}

/// The groups that the slots are spread over, each with a range of its own. It is part of what the
/// data is: the same on all nodes, for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    groups: u16,
}

impl Layout {
    /// Groups that there may be: 1 to this.
    pub const MAX_GROUPS: u16 = 1024;

    /// A layout of so many groups.
    ///
    /// # Errors
    /// Says what is allowed.
    pub fn new(groups: u16) -> Result<Self, String> {
        let max = Self::MAX_GROUPS;
        if !(1..=max).contains(&groups) {
            return Err(format!("groups must be 1 to {max}, not {groups}"));
        }
        Ok(Self { groups })
    }

    /// Number of groups.
    #[must_use]
    pub fn groups(self) -> usize {
        usize::from(self.groups)
    }

    /// The group that has a slot, by its place in the layout.
    #[must_use]
    pub fn group_of(self, slot: u16) -> usize {
        usize::from(slot) * self.groups() / usize::from(SLOTS)
    }

    /// The slots of a group, by its place in the layout.
    #[must_use]
    pub fn slots_of(self, group: usize) -> RangeInclusive<u16> {
        let first = |group: usize| (group * usize::from(SLOTS)).div_ceil(self.groups()) as u16;
        first(group)..=first(group + 1) - 1
    }

    /// The group's number for the engine: its place, counted from 1.
    #[must_use]
    pub fn id(self, group: usize) -> GroupId {
        GroupId(group as u64 + 1)
    }

    /// The place of a group, if it is one of these.
    #[must_use]
    pub fn place_of(self, id: GroupId) -> Option<usize> {
        usize::try_from(id.0).ok()?.checked_sub(1).filter(|group| *group < self.groups())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_redis() {
        // The reference value of the specification, and what `CLUSTER KEYSLOT` answers.
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(slot_of(b"foo"), 12182);
        assert_eq!(slot_of(b""), 0);
    }

    #[test]
    fn hash_tags_decide() {
        assert_eq!(slot_of(b"{user1000}.following"), slot_of(b"user1000"));
        assert_eq!(slot_of(b"foo{{bar}}zap"), slot_of(b"{bar"));
        assert_eq!(slot_of(b"foo{bar}{zap}"), slot_of(b"bar"));
        assert_ne!(slot_of(b"foo{}{bar}"), slot_of(b"bar"));
        assert_ne!(slot_of(b"{}foo"), slot_of(b""));
    }

    #[test]
    fn every_slot_has_one_group_and_every_group_a_range() {
        for groups in [1, 2, 3, 7, 16, 1000, Layout::MAX_GROUPS] {
            let layout = Layout::new(groups).unwrap();
            let mut next = 0;
            for group in 0..layout.groups() {
                let slots = layout.slots_of(group);
                assert_eq!(*slots.start(), next);
                assert!(slots.clone().all(|slot| layout.group_of(slot) == group));
                next = slots.end() + 1;
            }
            assert_eq!(next, SLOTS);
            assert_eq!(layout.place_of(layout.id(groups as usize - 1)), Some(groups as usize - 1));
            assert_eq!(layout.place_of(layout.id(groups as usize)), None);
        }
        assert!(Layout::new(0).is_err());
        assert!(Layout::new(Layout::MAX_GROUPS + 1).is_err());
    }
}

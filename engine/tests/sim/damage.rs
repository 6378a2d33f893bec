//! What disks do to data that was on stable storage: the faults that a log can only notice, not
//! prevent. Each changes the settled content only, as if the disk had done it long ago; whether the
//! run can bear it is for the [atlas](crate::atlas) to say.
//!
//! A disk that is **wiped** under a node that keeps its identity is not among them. Such a node has
//! forgotten votes and acknowledgements: with them a second leader of a term can be elected, or an
//! entry counted that the node no longer holds, and no number of intact copies elsewhere prevents
//! the first. It joins when the engine refuses such a member.

use std::rc::Rc;

use crate::disk::{SimDisk, Written};
use crate::file::Content;
use crate::rng::Rng;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Damage {
    /// A bit flips at rest.
    Rot,
    /// A sector can't be read any more, until it is written.
    Latent,
    /// A write or flush that was reported done and was not, later ones were.
    Lost,
    /// A write that went to another place of the same disk, and left its own as it was.
    Misdirected,
}

/// Attempts to find a place.
const ATTEMPTS: usize = 8;

impl SimDisk {
    /// Damages settled data; `None` when no place was found for it. `other` is where a misdirected
    /// write may land instead of here.
    pub(crate) fn damage(
        &mut self,
        damage: Damage,
        other: Option<&mut Self>,
        rng: &mut Rng,
    ) -> Option<String> {
        match damage {
            Damage::Rot => self.rot(rng),
            Damage::Latent => self.make_unreadable(rng),
            Damage::Lost => self.lose(rng).map(|_| "a write that was acknowledged".into()),
            Damage::Misdirected => {
                let written = self.lose(rng)?;
                match other {
                    Some(other) => other.land(&written, rng),
                    None => self.land(&written, rng),
                }
            }
        }
    }

    /// A settled sector that holds something.
    fn place(&self, rng: &mut Rng) -> Option<(u64, u64)> {
        let files: Vec<u64> = self.stable_names.values().copied().collect();
        for _ in 0..ATTEMPTS {
            if files.is_empty() {
                return None;
            }
            let id = rng.pick(&files);
            let Some(file) = self.files.get(&id).filter(|file| !file.sectors.is_empty()) else {
                continue;
            };
            let first = rng.below(8) == 0;
            let at = if first { 0 } else { rng.below(file.sectors.len() as u64) };
            if file.is_settled(at) && file.sectors[at as usize].stable.is_some() {
                return Some((id, at));
            }
        }
        None
    }

    fn rot(&mut self, rng: &mut Rng) -> Option<String> {
        let (id, at) = self.place(rng)?;
        let sector = &mut self.files.get_mut(&id)?.sectors[at as usize];
        let mut bytes = sector.stable.as_ref()?.to_vec();
        // Where something stands more often than in the zeros that follow it.
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(1, |last| last + 1);
        let bit = rng.below(used as u64 * 8) as usize;
        bytes[bit / 8] ^= 1 << (bit % 8);
        sector.stable = Some(Rc::from(bytes));
        Some(format!("file {id} sector {at} bit {bit} flips"))
    }

    fn make_unreadable(&mut self, rng: &mut Rng) -> Option<String> {
        let (id, at) = self.place(rng)?;
        self.files.get_mut(&id)?.bad.insert(at);
        Some(format!("file {id} sector {at} can't be read"))
    }

    /// Undoes one of the last writes that is still as it was written.
    fn lose(&mut self, rng: &mut Rng) -> Option<Written> {
        for _ in 0..ATTEMPTS.min(self.written.len()) {
            let at = rng.below(self.written.len() as u64) as usize;
            let written = &self.written[at];
            let Some(file) = self.files.get_mut(&written.file) else { continue };
            let as_written = |(at, after): (u64, &Content)| {
                file.is_settled(at) && same(&file.sectors[at as usize].stable, after)
            };
            if (written.first..).zip(&written.after).all(as_written) {
                for (at, before) in (written.first as usize..).zip(&written.before) {
                    file.sectors[at].stable.clone_from(before);
                }
                return self.written.remove(at);
            }
        }
        None
    }

    /// A write lands here that was meant for elsewhere.
    fn land(&mut self, written: &Written, rng: &mut Rng) -> Option<String> {
        let files: Vec<u64> = self.stable_names.values().copied().collect();
        for _ in 0..ATTEMPTS {
            // In its own file, or where another write has been, most of all.
            let (id, first) = match rng.below(3) {
                0 if !self.written.is_empty() => {
                    let other = &self.written[rng.below(self.written.len() as u64) as usize];
                    (other.file, other.first)
                }
                _ if files.is_empty() => return None,
                _ => {
                    let id = if rng.coin() { written.file } else { rng.pick(&files) };
                    let pages = self.files.get(&id).map_or(0, |file| file.len / 4096);
                    (id, rng.below(pages + 1) * 4096 / self.sector)
                }
            };
            let Some(file) = self.files.get_mut(&id) else { continue };
            let last = first + written.after.len() as u64;
            if (first..last).all(|at| file.is_settled(at)) {
                for (at, content) in (first as usize..).zip(&written.after) {
                    file.sectors[at].stable.clone_from(content);
                }
                return Some(format!("a write lands in file {id} at sector {first}"));
            }
        }
        None
    }
}

fn same(a: &Content, b: &Content) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => Rc::ptr_eq(a, b),
        (None, None) => true,
        _ => false,
    }
}

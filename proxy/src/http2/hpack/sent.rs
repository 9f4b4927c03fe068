//! What the writer of blocks remembers.

use std::collections::VecDeque;
use std::hash::{BuildHasher, Hasher};

use foldhash::fast::RandomState;

use super::table::OVERHEAD;

/// What was sent lately, and the peer's table.
///
/// Slots stand in groups; what is looked up may be in any of its group. One whose entry is in the
/// table stays, any other makes room for what comes.
#[derive(Debug)]
pub(super) struct Sent {
    /// Seeded at random, so that no client can choose what meets in a group.
    seed: RandomState,
    slots: [Slot; SLOTS],
    /// The peer's table; the newest is first.
    entries: VecDeque<Entry>,
    /// The sizes of all entries.
    used: usize,
    /// How many entries were added in all, modulo 2^16.
    added: u16,
    /// Which slot of a group makes room next.
    turn: usize,
}

const SLOTS: usize = 96;
const GROUP: usize = 4;

/// A field or a name that was seen. Another one with its hash, or an entry of long ago with its number,
/// is taken for it; whoever uses an entry compares it.
#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    hash: u16,
    /// Its newest entry, counted from 1; 0 where it never had one.
    entry: u16,
}

/// What the slots know of a field or a name.
#[derive(Clone, Copy)]
pub(super) struct Found {
    /// `None` where its group has no room for it.
    pub(super) slot: Option<usize>,
    pub(super) seen: bool,
}

impl Sent {
    pub(super) fn new() -> Self {
        Self {
            seed: RandomState::default(),
            slots: [Slot::default(); SLOTS],
            entries: VecDeque::new(),
            used: 0,
            added: 0,
            turn: 0,
        }
    }

    /// The hashes of the name, and of the name with the value.
    pub(super) fn hashes(&self, name: &[u8], value: &[u8]) -> (u64, u64) {
        let mut hasher = self.seed.build_hasher();
        hasher.write(name);
        let named = hasher.finish();
        hasher.write(value);
        (named, hasher.finish())
    }

    /// Looks for a hash; from now on it is seen.
    pub(super) fn look(&mut self, hash: u64) -> Found {
        let [low, a, b, ..] = hash.to_le_bytes();
        let hash = u16::from_le_bytes([a, b]);
        let first = usize::from(low) % (SLOTS / GROUP) * GROUP;
        if let Some(slot) = (first..first + GROUP).find(|&slot| self.slots[slot].hash == hash) {
            return Found { slot: Some(slot), seen: true };
        }
        self.turn = self.turn.wrapping_add(1);
        let mut turned = (0..GROUP).map(|step| first + self.turn.wrapping_add(step) % GROUP);
        let slot = turned.find(|&slot| self.age(slot).is_none());
        if let Some(slot) = slot {
            self.slots[slot] = Slot { hash, entry: 0 };
        }
        Found { slot, seen: false }
    }

    /// How many entries are newer than the slot's, while that is in the table.
    fn age(&self, slot: usize) -> Option<usize> {
        let age = usize::from(self.added.wrapping_sub(self.slots[slot].entry));
        Some(age).filter(|age| *age < self.entries.len())
    }

    /// The entry that was found, and how many are newer.
    pub(super) fn at(&self, found: Found) -> Option<(usize, &Entry)> {
        let age = self.age(found.slot.filter(|_| found.seen)?)?;
        Some((age, self.entries.get(age)?))
    }

    /// Adds an entry, for which there is room, and notes it in the slots of the field and its name.
    pub(super) fn add(&mut self, name: &[u8], value: &[u8], slots: [Option<usize>; 2]) {
        self.added = self.added.wrapping_add(1);
        for slot in slots.into_iter().flatten() {
            self.slots[slot].entry = self.added;
        }
        let entry = Entry { text: [name, value].concat().into(), name: name.len() };
        self.used += entry.size();
        self.entries.push_front(entry);
    }

    /// Drops the oldest until the others count for no more than `most`.
    pub(super) fn evict(&mut self, most: usize) {
        while self.used > most
            && let Some(oldest) = self.entries.pop_back()
        {
            self.used -= oldest.size();
        }
    }
}

#[cfg(test)]
impl Sent {
    /// What of a hash the slots keep.
    pub(super) fn kept(hash: u64) -> (u8, u16) {
        let [low, a, b, ..] = hash.to_le_bytes();
        (low % (SLOTS / GROUP) as u8, u16::from_le_bytes([a, b]))
    }

    pub(super) fn used(&self) -> (usize, usize) {
        (self.entries.len(), self.used)
    }
}

/// A field in the peer's table.
#[derive(Debug)]
pub(super) struct Entry {
    /// The name, and the value behind it: a copy, for the value may be a part of a large buffer.
    text: Box<[u8]>,
    /// How long the name is.
    name: usize,
}

impl Entry {
    pub(super) fn name(&self) -> &[u8] {
        &self.text[..self.name]
    }

    pub(super) fn is(&self, name: &[u8], value: &[u8]) -> bool {
        self.text.split_at_checked(self.name) == Some((name, value))
    }

    fn size(&self) -> usize {
        self.text.len() + OVERHEAD
    }
}

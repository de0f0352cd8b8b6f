//! Ring indices: counters that wrap, and the mask that turns one into a slot.
//!
//! ```text
//!   index   … 4294967294  4294967295  0  1  2 …      how many entries came before, modulo 2³²
//!   slot    …          2           3  0  1  2 …      where the entry lies, in a ring of 4
//! ```
//!
//! Two indices have a distance but no order: after the wrap the newer index is the smaller number.
//! So [`Index`] has no `<`, and nothing outside this file does arithmetic on indices.
//!
//! Leaves to others: what a slot holds, and which side may touch it.

use core::fmt;

/// A free-running position in a ring: how many entries came before it, modulo 2³².
///
/// Not a slot number: see [`Index::slot`].
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Index(u32);

impl Index {
    /// Where every ring starts.
    pub const ZERO: Self = Self(0);

    /// The index with this raw value, as it is stored in shared memory.
    pub const fn from_raw(raw: u32) -> Self {
        Self(raw)
    }

    /// The raw value, as it is stored in shared memory.
    pub const fn to_raw(self) -> u32 {
        self.0
    }

    // ANCHOR: index
    /// The index `count` entries later.
    #[must_use]
    #[inline]
    pub const fn advance(self, count: u32) -> Self {
        Self(self.0.wrapping_add(count))
    }

    /// The index `count` entries earlier.
    #[must_use]
    #[inline]
    pub const fn back(self, count: u32) -> Self {
        Self(self.0.wrapping_sub(count))
    }

    /// The number of entries in `older..self`.
    #[inline]
    pub const fn distance_from(self, older: Self) -> u32 {
        self.0.wrapping_sub(older.0)
    }

    /// The slot this index occupies, always below `entries`.
    #[inline]
    pub const fn slot(self, entries: Entries) -> usize {
        (self.0 & entries.mask) as usize
    }
    // ANCHOR_END: index

    // ANCHOR: run
    /// How many of the next `count` slots are adjacent in memory, before the ring wraps around to
    /// slot 0.
    #[inline]
    pub const fn run(self, count: u32, entries: Entries) -> u32 {
        let left = entries.count() - (self.0 & entries.mask);
        if count < left { count } else { left }
    }
    // ANCHOR_END: run

    /// Whether this is the last slot before the ring wraps around to slot 0.
    #[inline]
    pub const fn is_last_slot(self, entries: Entries) -> bool {
        self.0 & entries.mask == entries.mask
    }
}

impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// The capacity of a ring: a power of two, at most 2³¹.
///
/// Stored as its mask, since every push and every pop needs the mask.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Entries {
    mask: u32,
}

impl Entries {
    /// The capacity `count`, or `None` unless that is a power of two.
    pub const fn new(count: u32) -> Option<Self> {
        if count.is_power_of_two() { Some(Self { mask: count - 1 }) } else { None }
    }

    /// The capacity as a count.
    #[inline]
    pub const fn count(self) -> u32 {
        self.mask + 1
    }

    /// `count - 1`: the bits of an index that are the slot number.
    pub const fn mask(self) -> u32 {
        self.mask
    }
}

impl fmt::Debug for Entries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} entries", self.count())
    }
}

/// Where a submission queue stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SqIndices {
    /// The kernel has consumed the entries before this index.
    pub head: Index,
    /// The kernel may consume the entries before this index.
    pub tail: Index,
    /// We have written the entries before this index, and published those before `tail`.
    pub written: Index,
}

/// Where a completion queue stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CqIndices {
    /// We have given back the slots before this index.
    pub head: Index,
    /// The kernel has posted completions before this index.
    pub tail: Index,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_survives_the_wrap() {
        let older = Index::from_raw(u32::MAX);
        assert_eq!(older.advance(3), Index::from_raw(2));
        assert_eq!(older.advance(3).distance_from(older), 3);
    }

    #[test]
    fn slots_follow_each_other_across_the_wrap() {
        let entries = Entries::new(4).unwrap();
        let slots = [0, 1, 2, 3].map(|i| Index::from_raw(u32::MAX - 1).advance(i).slot(entries));
        assert_eq!(slots, [2, 3, 0, 1]);
    }

    #[test]
    fn a_ring_of_one_always_uses_slot_0() {
        let entries = Entries::new(1).unwrap();
        assert_eq!((entries.count(), entries.mask()), (1, 0));
        assert_eq!(Index::from_raw(7).slot(entries), 0);
        assert!(Index::from_raw(7).is_last_slot(entries));
    }

    #[test]
    fn a_run_ends_where_the_ring_does() {
        let entries = Entries::new(4).unwrap();
        let runs = [0, 1, 2, 3].map(|raw| Index::from_raw(raw).run(3, entries));
        assert_eq!(runs, [3, 3, 2, 1]);
    }

    #[test]
    fn only_powers_of_two_are_capacities() {
        let counts = [0, 1, 2, 3, 4, 6, 1 << 31, u32::MAX];
        let good = counts.map(|count| Entries::new(count).is_some());
        assert_eq!(good, [false, true, true, false, true, false, true, false]);
    }
}

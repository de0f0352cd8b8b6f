//! The tables of a ring: registered buffers, and registered files.
//!
//! ```text
//!   table │ entry │ ─ │ entry │ ─ │      holders of an entry: its place, and each request that
//!             ▲                          uses it. When the last one lets go, the tag is posted.
//!             └── request
//! ```
//!
//! Leaves to others: the calls that change tables (`register`), and what entries name (`files`).

use std::sync::Arc;

use super::trace::EndId;

/// What a place of a table holds.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) thing: Thing,
    /// The `user_data` of the completion that tells of the entry's end; 0 for none.
    pub(super) tag: u64,
}

/// What an entry names.
#[derive(Debug, Clone, Copy)]
pub(super) enum Thing {
    Buffer(Buffer),
    File(EndId),
}

/// Registered memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Buffer {
    pub(super) address: u64,
    pub(super) len: u64,
}

impl Buffer {
    /// Whether so many bytes at `address` lie in it.
    pub(super) fn holds(self, address: u64, len: u64) -> bool {
        let ends = address.checked_add(len);
        address >= self.address && ends.is_some_and(|end| end <= self.address + self.len)
    }
}

/// A table, empty until one is registered.
#[derive(Debug, Default)]
pub(super) struct Table {
    places: Vec<Option<Arc<Entry>>>,
    /// Where the search for a free place begins, and the range that it is for.
    hint: usize,
    range: (usize, usize),
}

impl Table {
    pub(super) fn new(places: Vec<Option<Arc<Entry>>>) -> Self {
        let hint = 0;
        let range = (0, places.len());
        Self { places, hint, range }
    }

    /// How many places it has; none if no table is registered.
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    pub(super) fn get(&self, at: usize) -> Option<&Arc<Entry>> {
        self.places.get(at)?.as_ref()
    }

    /// Empties a place, which is in the table.
    pub(super) fn empty(&mut self, at: usize) -> Option<Arc<Entry>> {
        let old = self.places[at].take();
        if old.is_some() {
            self.hint = at;
        }
        old
    }

    /// Fills a place, which is in the table. Returns what was there.
    pub(super) fn fill(&mut self, at: usize, entry: Entry) -> Option<Arc<Entry>> {
        let old = self.places[at].replace(Arc::new(entry));
        if old.is_none() {
            self.hint = at + 1;
        }
        old
    }

    /// Lets free places be taken from a range only.
    pub(super) fn allot(&mut self, from: usize, to: usize) {
        (self.range, self.hint) = ((from, to), from);
    }

    /// A free place, as `io_file_bitmap_get` (v6.18) finds it. It may lie beyond the range, if the
    /// hint does, because a place there was filled last.
    pub(super) fn free(&mut self) -> Option<usize> {
        let mut end = self.range.1;
        loop {
            let found =
                (self.hint..end).find(|&at| self.places.get(at).is_some_and(Option::is_none));
            if found.is_some() || self.hint == self.range.0 {
                return found;
            }
            (end, self.hint) = (self.hint, self.range.0);
        }
    }

    /// Takes every entry, those at the end first, as Linux does.
    pub(super) fn clear(&mut self) -> Vec<Arc<Entry>> {
        std::mem::take(self).places.into_iter().rev().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> Entry {
        Entry { thing: Thing::File(0), tag: 0 }
    }

    #[test]
    fn free_places_are_found_behind_the_last_one_that_changed() {
        let mut table = Table::new((0..4).map(|_| None).collect());
        for expected in [0, 1, 2] {
            assert_eq!(table.free(), Some(expected));
            table.fill(expected, file());
        }
        table.empty(1);
        assert_eq!(table.free(), Some(1));
        table.fill(1, file());
        table.empty(0);
        table.fill(3, file());
        assert_eq!(table.free(), Some(0), "found after the end was reached");
        table.fill(0, file());
        assert_eq!(table.free(), None);
        table.empty(3);
        table.allot(0, 2);
        assert_eq!(table.free(), None, "place 3 is not in the range");
        assert_eq!((table.len(), table.clear().len(), table.len()), (4, 3, 0));
    }

    #[test]
    fn rg1_a_buffer_holds_what_lies_within_it() {
        let buffer = Buffer { address: 100, len: 10 };
        assert!(buffer.holds(100, 10) && buffer.holds(110, 0));
        assert!(!buffer.holds(99, 5) && !buffer.holds(105, 6) && !buffer.holds(105, u64::MAX));
    }
}

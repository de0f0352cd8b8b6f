//! Places: with whom each buffer is, how much of it is filled, and what was offered after it.
//!
//! ```text
//!              ┌──────── a completion fills a part ────────┐
//!   OFFERED ──►│ with the kernel, `filled`, so many leases │──► with us ──► OFFERED
//!              └───────────────────────────────────────────┘      when the last lease is dropped
//! ```
//!
//! A buffer that is used whole goes through with one lease. Keeps BR1's books; leaves to others
//! what a completion means, and offering.

/// Where a buffer is (BR1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) with: With,
    /// How much of it the kernel has filled since it was offered.
    pub(super) filled: u32,
    /// In how many leases it is. They are of what is filled, and of nothing twice.
    pub(super) leases: u32,
}

/// Who may fill what is left of a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum With {
    Kernel,
    Us,
}

impl Place {
    pub(super) const OFFERED: Self = Self { with: With::Kernel, filled: 0, leases: 0 };

    /// The kernel has filled `bytes` more of the `each` that it holds; `with` whom it is now.
    /// Returns where they begin, and how many they are.
    pub(super) fn fill(&mut self, bytes: u32, each: u32, with: With) -> (u32, u32) {
        let start = self.filled;
        let len = bytes.min(each - start);
        *self = Self { with, filled: start + len, leases: self.leases + 1 };
        (start, len)
    }

    /// A lease is dropped. Whether that was all, and it can be offered again.
    pub(super) fn release(&mut self) -> bool {
        self.leases -= 1;
        let free = self.leases == 0 && self.with == With::Us;
        if free {
            *self = Self::OFFERED;
        }
        free
    }
}

/// In which order buffers were offered, which is that of the ring, and so the one in which the
/// kernel picks.
#[derive(Debug)]
pub(super) struct Order {
    /// What was offered after each, last time that it was.
    pub(super) next: Box<[u16]>,
    last: u16,
}

impl Order {
    /// No buffer: a ring has at most 32768 of them.
    const NONE: u16 = u16::MAX;

    pub(super) fn of(count: u32) -> Self {
        Self { next: vec![Self::NONE; count as usize].into(), last: Self::NONE }
    }

    /// `bid` is offered, behind all others.
    pub(super) fn push(&mut self, bid: u16) {
        if let Some(next) = self.next.get_mut(usize::from(self.last)) {
            *next = bid;
        }
        self.next[usize::from(bid)] = Self::NONE;
        self.last = bid;
    }
}

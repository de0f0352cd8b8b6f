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
    /// Nobody knows, so it is not offered again.
    Lost,
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

    /// The kernel has it no more, though no completion said so. Whether it can be offered again.
    pub(super) fn give_up(&mut self) -> bool {
        self.with = With::Us;
        let free = self.leases == 0;
        if free {
            *self = Self::OFFERED;
        }
        free
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
    /// How many were offered before each, in wrapping arithmetic.
    turns: Box<[u16]>,
    last: u16,
    offered: u16,
    /// How many are on offer now, as far as completions have told.
    on_offer: u16,
}

impl Order {
    /// No buffer: a ring has at most 32768 of them.
    const NONE: u16 = u16::MAX;

    pub(super) fn of(count: u32) -> Self {
        let next = vec![Self::NONE; count as usize].into();
        let turns = vec![0; count as usize].into();
        Self { next, turns, last: Self::NONE, offered: 0, on_offer: 0 }
    }

    /// `bid` is offered, behind all others.
    pub(super) fn push(&mut self, bid: u16) {
        if let Some(next) = self.next.get_mut(usize::from(self.last)) {
            *next = bid;
        }
        self.next[usize::from(bid)] = Self::NONE;
        self.turns[usize::from(bid)] = self.offered;
        self.last = bid;
        self.offered = self.offered.wrapping_add(1);
        self.on_offer = self.on_offer.wrapping_add(1);
    }

    /// Completions have brought `count` back.
    pub(super) fn taken(&mut self, count: u16) {
        self.on_offer = self.on_offer.wrapping_sub(count);
    }

    /// The last `count` are taken off the ring again.
    pub(super) fn rewind(&mut self, count: u16) {
        self.taken(count);
        self.offered = self.offered.wrapping_sub(count);
    }

    /// The turn of `bid`, which is on offer, if it is not the next one.
    pub(super) fn out_of_turn(&self, bid: u16) -> Option<u16> {
        let turn = self.turns.get(usize::from(bid)).copied()?;
        (turn != self.next_turn()).then_some(turn)
    }

    /// Whose turn it is: how many were offered before the first that is on offer, if none is lost.
    pub(super) fn next_turn(&self) -> u16 {
        self.offered.wrapping_sub(self.on_offer)
    }

    /// Whether the turn of `bid`, which is on offer, comes before `turn`. Two turns are at most as
    /// far apart as a ring is long.
    pub(super) fn is_before(&self, bid: u16, turn: u16) -> bool {
        let ahead = turn.wrapping_sub(self.turns[usize::from(bid)]);
        (1..=1 << 15).contains(&ahead)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn br1_turns_are_told_apart_across_the_wrap() {
        let mut order = Order::of(4);
        order.offered = u16::MAX - 1;
        [2, 0, 3, 1].iter().for_each(|&bid| order.push(bid));
        assert_eq!([2, 0, 3, 1].map(|bid| order.turns[bid]), [65534, 65535, 0, 1]);
        let before = |turn| [0, 1, 2, 3].map(|bid| order.is_before(bid, turn));
        assert_eq!(before(65534), [false; 4], "the kernel has picked none");
        assert_eq!(before(0), [true, false, true, false], "it has picked 2 and 0");
        assert_eq!(before(2), [true; 4]);
    }

    #[test]
    fn br1_the_next_in_turn_is_known() {
        let mut order = Order::of(4);
        order.offered = u16::MAX;
        [2, 0, 3].iter().for_each(|&bid| order.push(bid));
        let out = |order: &Order| [2, 0, 3].map(|bid| order.out_of_turn(bid));
        assert_eq!(out(&order), [None, Some(0), Some(1)]);
        order.taken(1);
        assert_eq!(out(&order)[1..], [None, Some(1)]);
        order.push(2);
        assert_eq!(out(&order), [Some(2), None, Some(1)], "behind the others");
        order.rewind(1);
        order.taken(2);
        order.push(0);
        assert_eq!(order.out_of_turn(0), None);
        assert_eq!(order.out_of_turn(4), None, "there is no such buffer");
    }
}

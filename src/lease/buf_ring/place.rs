//! Places: who has each buffer, how much of it is filled, and which buffer was provided after it.
//!
//! ```text
//!              ┌──────── a completion fills a part ────────┐
//!   OFFERED ──►│ with the kernel: `filled`, and `leases`   │──► with us ──► OFFERED
//!              └───────────────────────────────────────────┘      when the last lease is dropped
//! ```
//!
//! A buffer of a ring without incremental consumption goes through with one lease. Does the
//! bookkeeping of BR1. Leaves to others: what a completion means, and providing buffers.

/// The state of a buffer (BR1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) owner: Owner,
    /// How much of it the kernel has filled since it was provided.
    pub(super) filled: u32,
    /// How many leases cover it. They cover only filled bytes, and no byte twice.
    pub(super) leases: u32,
}

/// Who may fill the rest of a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    Kernel,
    Us,
    /// It is not known who may, so the buffer is not provided again.
    Lost,
}

impl Place {
    pub(super) const OFFERED: Self = Self { owner: Owner::Kernel, filled: 0, leases: 0 };

    /// The kernel has filled `bytes` more of the `each` bytes in the buffer; from now on `owner`
    /// has it. Returns where the new bytes begin, and how many there are.
    pub(super) fn fill(&mut self, bytes: u32, each: u32, owner: Owner) -> (u32, u32) {
        let start = self.filled;
        let len = bytes.min(each - start);
        *self = Self { owner, filled: start + len, leases: self.leases + 1 };
        (start, len)
    }

    /// The kernel no longer has it, though no completion said so. Returns whether it can be
    /// provided again.
    pub(super) fn give_up(&mut self) -> bool {
        self.owner = Owner::Us;
        let free = self.leases == 0;
        if free {
            *self = Self::OFFERED;
        }
        free
    }

    /// A lease is dropped. Returns whether it was the last, so that the buffer can be provided
    /// again.
    pub(super) fn release(&mut self) -> bool {
        self.leases -= 1;
        let free = self.leases == 0 && self.owner == Owner::Us;
        if free {
            *self = Self::OFFERED;
        }
        free
    }
}

/// The order in which buffers were provided. It is the order of the ring, and so the order in which
/// the kernel selects.
#[derive(Debug)]
pub(super) struct Order {
    /// For each buffer: the buffer that was provided after it, most recently.
    pub(super) next: Box<[u16]>,
    /// For each buffer: how many were provided before it, in wrapping arithmetic (its turn).
    turns: Box<[u16]>,
    last: u16,
    offered: u16,
    /// How many buffers the kernel has now, as far as completions have told.
    on_offer: u16,
}

impl Order {
    /// No buffer: a ring has at most 32768 buffers, so this is never an id.
    const NONE: u16 = u16::MAX;

    pub(super) fn of(count: u32) -> Self {
        let next = vec![Self::NONE; count as usize].into();
        let turns = vec![0; count as usize].into();
        Self { next, turns, last: Self::NONE, offered: 0, on_offer: 0 }
    }

    /// Buffer `bid` is provided, after all others.
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

    /// Completions have returned `count` buffers.
    pub(super) fn taken(&mut self, count: u16) {
        self.on_offer = self.on_offer.wrapping_sub(count);
    }

    /// The last `count` buffers are removed from the ring again.
    pub(super) fn rewind(&mut self, count: u16) {
        self.taken(count);
        self.offered = self.offered.wrapping_sub(count);
    }

    /// The turn of `bid`, which the kernel has, if it is not the next turn.
    pub(super) fn out_of_turn(&self, bid: u16) -> Option<u16> {
        let turn = self.turns.get(usize::from(bid)).copied()?;
        (turn != self.next_turn()).then_some(turn)
    }

    /// The next turn: how many buffers were provided before the first that the kernel has, if none
    /// is lost.
    pub(super) fn next_turn(&self) -> u16 {
        self.offered.wrapping_sub(self.on_offer)
    }

    /// Whether the turn of `bid`, which the kernel has, comes before `turn`. Two turns are at most
    /// one ring length apart.
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
        assert_eq!(before(65534), [false; 4], "the kernel has selected none");
        assert_eq!(before(0), [true, false, true, false], "it has selected 2 and 0");
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

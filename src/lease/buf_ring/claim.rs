//! Claims: which operations in flight pick from a ring of buffers, and what they left behind.
//!
//! | operation | may pick beside others | because |
//! |---|---|---|
//! | one buffer, whole | yes | its completion names the buffer |
//! | a part of a buffer | no | a completion does not say where in the buffer its part begins |
//! | a bundle | no | a completion names the first buffer alone |
//!
//! What must be alone must also be run by the kernel in its turn, and not by a worker thread: that
//! takes its buffers for good when it picks them, however little it fills. The kernel calls a
//! worker by itself too, now and then (when another thread has emptied the socket again and again),
//! and so a buffer may be taken that no completion names. Such are found and offered again
//!
//! - when a completion names one that was offered later, since they are picked in order; and
//! - when an operation ends without data, and nothing is in flight: the kernel tells how many it
//!   has picked (`PBUF_STATUS`).
//!
//! Keeps BR1. Leaves to others: the operations (`lease`), what a completion brings (`buf_ring`).

use super::Pool;
use super::place::With;

/// Whether an operation may pick from a ring of buffers beside others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::lease) enum Share {
    /// Each completion names the one buffer that it is of.
    WithOthers,
    /// What a completion names is told by what was picked before it.
    Alone,
}

/// Whether buffers may be picked that no completion names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::lease) enum Doubt {
    No,
    /// Where a worker thread may run the operation, or several are picked at once.
    Yes,
}

impl Pool {
    /// Counts an operation in flight that picks from here. Whether it may.
    pub(in crate::lease) fn claim(&self, share: Share, doubt: Doubt) -> bool {
        let others = self.claims.get();
        if others > 0 && (share == Share::Alone || self.share.get() == Share::Alone) {
            return false;
        }
        self.claims.set(others + 1);
        self.share.set(share);
        if doubt == Doubt::Yes {
            self.doubt.set(doubt);
        }
        true
    }

    /// An operation has ended, or never was.
    pub(in crate::lease) fn unclaim(&self) {
        self.claims.set(self.claims.get() - 1);
    }

    /// A completion names buffer `bid`: if it is of an operation that is alone, what was offered
    /// before that was picked, and comes in no completion.
    pub(super) fn pass_over(&self, bid: u16) {
        if self.share.get() != Share::Alone || !self.is_with_kernel(bid) {
            return;
        }
        let turn = self.order.borrow().out_of_turn(bid);
        if let Some(turn) = turn {
            self.offer_again(turn);
        }
    }

    /// An operation has ended that brought nothing. If no other is in flight, buffers come back
    /// that were picked, and that no completion has named.
    pub(in crate::lease) fn recover(&self) {
        if self.doubt.get() == Doubt::Yes
            && self.claims.get() == 0
            && let Some(picked) = self.head()
        {
            self.doubt.set(Doubt::No);
            self.offer_again(picked);
        }
    }

    /// Offers again what the kernel has, by our books, of all that was offered before `turn`.
    fn offer_again(&self, turn: u16) {
        let places = self.places.borrow();
        let order = self.order.borrow();
        let lost: Vec<u16> = (0..=u16::MAX)
            .zip(places.iter())
            .filter(|(bid, place)| place.with == With::Kernel && order.is_before(*bid, turn))
            .map(|(bid, _)| bid)
            .collect();
        drop((places, order));
        for bid in lost {
            self.taken(1);
            let free = self.places.borrow_mut()[usize::from(bid)].give_up();
            if free {
                self.offer(bid);
            }
        }
    }

    fn is_with_kernel(&self, bid: u16) -> bool {
        let places = self.places.borrow();
        places.get(usize::from(bid)).is_some_and(|place| place.with == With::Kernel)
    }
}

//! Cancels of the ring's own, and what no cancel finds.
//!
//! ```text
//!   user_data of a cancel   OWN:2 │ generation:30 │ 1:1 slot:31      names what it is to end
//! ```
//!
//! So there is at most one for each operation: behind an entry that waits for all before it they
//! would pile up in the kernel. A late one of a slot's earlier tenant changes nothing.
//!
//! Leaves to others: pushing them (`ring`), and when to ask again (`end`).

use super::word::{CANCEL, DONE, SPECIAL};
use super::{Slab, Slot, kind, low, mark};
use crate::op::Shots;

impl<U> Slab<U> {
    /// The slot, if the operation with this word is in flight in it.
    fn flying(&mut self, word: u64) -> Option<&mut Slot<U>> {
        let slot = self.slots.get_mut(low(word) as usize)?;
        (slot.key & !SPECIAL == word).then_some(slot)
    }

    /// Whether the operation with this word is in flight.
    pub(crate) fn is_in_flight(&mut self, word: u64) -> bool {
        self.flying(word).is_some()
    }

    /// Whether the operation is in flight, and no cancel of it is on its way.
    pub(crate) fn may_cancel(&mut self, word: u64) -> bool {
        self.flying(word).is_some_and(|slot| slot.marks & mark::CANCEL == 0)
    }

    /// Whether a cancel of the operation is on its way.
    pub(crate) fn is_being_cancelled(&mut self, word: u64) -> bool {
        self.flying(word).is_some_and(|slot| slot.marks & mark::CANCEL != 0)
    }

    /// A cancel of the operation was pushed.
    pub(crate) fn cancel_begins(&mut self, word: u64) {
        if let Some(slot) = self.flying(word) {
            slot.marks |= mark::CANCEL;
        }
    }

    /// A completion of the ring's own has come: of a cancel, if it names one.
    pub(super) fn cancel_ended(&mut self, word: u64) {
        if word & CANCEL == 0 {
            return;
        }
        if let Some(slot) = self.flying(word & !kind::MASK & !CANCEL) {
            slot.marks &= !mark::CANCEL;
        }
    }

    /// Whether anything is in flight that completes as often as it likes.
    pub(crate) fn has_endless(&self) -> bool {
        let endless = |slot: &Slot<U>| slot.key & DONE == 0 && slot.kind.shots == Shots::Many;
        self.slots.iter().any(endless)
    }

    /// A drained operation was submitted, if that is `so`.
    #[inline]
    pub(crate) fn note_drained(&mut self, so: bool) {
        self.drained |= so;
    }

    /// Whether what is submitted may wait for others, since one was drained: also when that one has
    /// ended. Later kernels go on until an entry comes while nothing else is in flight (seen in
    /// 6.18).
    #[inline]
    pub(crate) fn may_wait(&self) -> bool {
        self.drained
    }

    /// Such an entry was pushed.
    pub(crate) fn waits_no_more(&mut self) {
        self.drained = false;
    }
}

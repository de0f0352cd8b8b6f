//! The ring's own cancels, and the effects of a drained operation, which hides others from a
//! cancel.
//!
//! ```text
//!   user_data of a cancel   INTERNAL:2 │ generation:30 │ 1:1 slot:31      names its operation
//! ```
//!
//! There is at most one cancel for each operation: behind a drained entry, more of them would pile
//! up in the kernel. A late cancel for an earlier operation of the slot changes nothing.
//!
//! Leaves to others: pushing the cancels (`ring`), and when to cancel again (`end`).

use super::{Slab, Slot, kind, mark};
use crate::lease::user_data::{CANCEL, SLOW, slot_of};
use crate::op::Completions;

impl<U> Slab<U> {
    /// The slot, if the operation with this `user_data` is in flight in it.
    fn in_flight_slot(&self, user_data: u64) -> Option<&Slot<U>> {
        let slot = self.slots.get(slot_of(user_data) as usize)?;
        (slot.key & !SLOW == user_data).then_some(slot)
    }

    /// As [`in_flight_slot`](Self::in_flight_slot), to change it.
    fn in_flight_slot_mut(&mut self, user_data: u64) -> Option<&mut Slot<U>> {
        let slot = self.slots.get_mut(slot_of(user_data) as usize)?;
        (slot.key & !SLOW == user_data).then_some(slot)
    }

    /// Whether the operation with this `user_data` is in flight.
    pub(crate) fn is_in_flight(&self, user_data: u64) -> bool {
        self.in_flight_slot(user_data).is_some()
    }

    /// Whether the operation is in flight, and no cancel of it is on its way.
    pub(crate) fn may_cancel(&self, user_data: u64) -> bool {
        self.in_flight_slot(user_data).is_some_and(|slot| slot.marks & mark::CANCEL == 0)
    }

    /// Whether a cancel of the operation is on its way.
    pub(crate) fn is_being_cancelled(&self, user_data: u64) -> bool {
        self.in_flight_slot(user_data).is_some_and(|slot| slot.marks & mark::CANCEL != 0)
    }

    /// A cancel of the operation was pushed.
    pub(crate) fn cancel_begins(&mut self, user_data: u64) {
        if let Some(slot) = self.in_flight_slot_mut(user_data) {
            slot.marks |= mark::CANCEL;
        }
    }

    /// An internal request has completed: clears the mark of its operation, if it is a cancel.
    pub(super) fn cancel_ended(&mut self, user_data: u64) {
        if user_data & CANCEL == 0 {
            return;
        }
        if let Some(slot) = self.in_flight_slot_mut(user_data & !kind::MASK & !CANCEL) {
            slot.marks &= !mark::CANCEL;
        }
    }

    /// Whether the operation with this `user_data` is in flight, and a multishot.
    pub(crate) fn is_endless(&self, user_data: u64) -> bool {
        let slot = self.in_flight_slot(user_data);
        slot.is_some_and(|slot| slot.kind.completions == Completions::Multishot)
    }

    /// Notes that a drained operation was submitted, if `so`.
    #[inline]
    pub(crate) fn note_drained(&mut self, so: bool) {
        self.drained |= so;
    }

    /// Whether new operations may wait for others, because one was drained. This holds even after
    /// the drained one has ended: later kernels keep it up until an entry comes while nothing else
    /// is in flight (seen in 6.18).
    #[inline]
    pub(crate) fn may_wait(&self) -> bool {
        self.drained
    }

    /// Whether the kernel's count of completions, by which it decided before Linux 6.16 when a
    /// drained operation begins, may be wrong or may become so: it counts no notification of a
    /// zero-copy send, and counts a completion of a multishot for which there was no room (both
    /// seen on 6.12). Then the drained operation never begins.
    pub(crate) fn may_miscount(&self) -> bool {
        self.miscounted || self.endless + self.twofold + self.detached_multishots > 0
    }

    /// An entry was pushed while nothing else was in flight, which ends the effect of the drain.
    pub(crate) fn waits_no_more(&mut self) {
        self.drained = false;
    }
}

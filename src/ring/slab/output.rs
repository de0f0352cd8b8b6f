//! Outputs: how an ended operation leaves its slot, to its caller or to be dropped.
//!
//! ```text
//!   done ─┬─ take ────────► the output, to the holder of the ticket ──► free
//!         ├─ take_by_type ► the output, to code that knows the type ──► free
//!         └─ drop_output ─► made and dropped, if the ticket was given up ──► free
//! ```
//!
//! The operation leaves its slot, and the slot is free, before the caller's code runs.
//!
//! Keeps OP1, OP2 and OP3. Leaves to others: when an operation has ended (`slab`).
#![allow(unsafe_code, reason = "moves ended operations out of their slots")]

use std::mem;
use std::ptr::NonNull;

use annulus_sys::abi::Cqe;
use annulus_sys::flags::CqeFlags;

use super::payload::contained;
use super::{CONTINUES, DONE, Slab, low, mark};
use crate::lease::Resource;
use crate::lease::ticket::Ticket;
use crate::lease::user_data::{BY_TYPE, STATE};
use crate::op::{Completion, Completions, Done, Fate, Op, ResultKind};

/// The user value of an operation that is over. It is dropped with this guard, even if earlier code
/// panics. If its own drop panics, the output is still returned.
struct UserValue<'a, U: Default>(&'a mut U);

impl<U: Default> UserValue<'_, U> {
    /// The value, for the caller. Called after the operation was finished: `Default` is code of the
    /// caller's, and an operation that took effect must not be dropped as if it had not (OP3).
    #[inline]
    fn take(self) -> U {
        mem::take(mem::ManuallyDrop::new(self).0)
    }
}

impl<U: Default> Drop for UserValue<'_, U> {
    #[inline]
    fn drop(&mut self) {
        if mem::needs_drop::<U>() {
            contained(|| drop(mem::take(self.0)));
        }
    }
}

impl<U: Default> Slab<U> {
    /// The output of the operation, if it has ended. The untaken completions of a multishot
    /// operation (`left`) go with it; the output of a zero-copy send includes the result that came
    /// before its notification.
    ///
    /// # Safety
    ///
    /// The ticket must be one of this slab's (OP2).
    #[inline]
    pub(crate) unsafe fn take<O: Op>(
        &mut self,
        ticket: Ticket<O>,
        left: Vec<Completion>,
    ) -> Result<O::Output, Ticket<O>> {
        let index = low(ticket.done()) & self.last;
        // SAFETY: at most the last slot's number, because of the mask.
        let slot = unsafe { self.slots.get_unchecked_mut(index as usize) };
        if slot.key != ticket.done() {
            assert!(slot.is_flying(&ticket), "OP2: a ticket's slot was given away");
            return Err(ticket);
        }
        // SAFETY: it has ended. It is of this type, because only `Reserved::commit` makes tickets,
        // and this one is ours, as promised to `take` (OP2).
        let (op, done) = unsafe { self.leave::<O>(index, left) };
        // SAFETY: there is such a slot, because it was found above.
        let slot = unsafe { self.slots.get_unchecked_mut(index as usize) };
        // The user value is dropped last, by the caller's code: an operation that took effect must
        // not be dropped as if it had not (OP3). It is dropped even if finishing panics.
        let user_data = UserValue(&mut slot.user);
        let output = op.finish(done);
        drop(user_data);
        Ok(output)
    }

    /// The operation of a ticket, which has ended.
    pub(crate) fn ended<O: Op>(&mut self, ticket: &Ticket<O>) -> &mut O {
        assert!(self.is_done(ticket), "OP1: the kernel has the operation");
        // SAFETY: there is such a slot, because it was found above.
        let payload = unsafe { self.payloads.at(ticket.slot()) };
        // SAFETY: it has ended, so the kernel is done with it (OP1), and it is of this type,
        // because the slot still has the ticket's generation (OP2).
        unsafe { payload.cast::<O>().as_mut() }
    }

    /// Moves an operation that has ended out of its slot, which is free afterwards.
    ///
    /// # Safety
    ///
    /// The slot must hold an `O` that has ended, and must not be free.
    #[inline]
    unsafe fn leave<O: Op>(&mut self, index: u32, left: Vec<Completion>) -> (O, Done) {
        // SAFETY: there is such a slot, as promised to `leave`.
        let slot = unsafe { self.slots.get_unchecked_mut(index as usize) };
        let notified =
            O::COMPLETIONS == Completions::WithNotification && slot.marks & mark::NOTIFIED != 0;
        let (result, flags) = (slot.result, slot.flags);
        let fate = if O::COMPLETIONS == Completions::Multishot { slot.fate() } else { Fate::Usual };
        let notified = notified.then_some(slot.notified);
        let resource = match (O::RESULT_KIND, O::COMPLETIONS) {
            (_, Completions::Multishot) if left.is_empty() => Resource::Nothing,
            (_, Completions::Multishot) => Resource::Remaining(left),
            (ResultKind::Number, _) => Resource::Nothing,
            _ => slot.held.take(),
        };
        // SAFETY: there is such a slot, as promised to `leave`.
        let payload = unsafe { self.payloads.at(index) };
        // SAFETY: it has ended, so the kernel is done with it (OP1), and it is of this type, as
        // promised to `leave` (OP2).
        let op = unsafe { payload.cast::<O>().read() };
        slot.release(index, &mut self.free);
        (op, Done::new(result, flags, notified, resource).with(fate))
    }

    /// Takes the output of an `O` without a ticket that `cqe` ends, if it completes once and
    /// carries no resource. Changes nothing for any other completion.
    ///
    /// # Safety
    ///
    /// As for [`record`](Self::record).
    #[inline]
    pub(crate) unsafe fn take_plain<O: Op + 'static>(
        &mut self,
        cqe: Cqe,
    ) -> Option<(U, O::Output)> {
        // Without the bit, this is no slot's number.
        let index = low(cqe.user_data ^ BY_TYPE);
        let slot = self.slots.get_mut(index as usize)?;
        let it = slot.key == cqe.user_data && slot.kind.is_unticketed::<O>();
        if !it || cqe.flags.intersects(CONTINUES) {
            return None;
        }
        // Sums in place of bits that change: one instruction with the next generation's.
        slot.key = cqe.user_data - BY_TYPE + DONE;
        self.in_flight -= 1;
        // SAFETY: there is such a slot, because it was found above.
        let payload = unsafe { self.payloads.at(index) };
        // SAFETY: it has ended by the completion that its key names, so the kernel is done with it
        // (OP1), and it is of this type, as its kind says (OP2).
        let op = unsafe { payload.cast::<O>().read() };
        slot.release(index, &mut self.free);
        let user = UserValue(&mut slot.user);
        let output = op.finish(Done::new(cqe.res, cqe.flags, None, Resource::Nothing));
        Some((user.take(), output))
    }

    /// The user value and the output of an operation without a ticket, if it is an `O`. Completions
    /// before the last one that were not shown (`left`) go with it.
    ///
    /// # Safety
    ///
    /// The operation in the slot must have ended, and the slot must not be free.
    #[inline]
    pub(crate) unsafe fn take_by_type<O: Op + 'static>(
        &mut self,
        index: u32,
        left: Vec<Completion>,
    ) -> Option<(U, O::Output)> {
        // SAFETY: there is such a slot, as promised to `take_by_type`.
        let slot = unsafe { self.slots.get_unchecked_mut(index as usize) };
        if !slot.kind.is_unticketed::<O>() {
            return None;
        }
        // SAFETY: it has ended, as promised to `take_by_type`, and is of this type, as its kind
        // says (OP2).
        let (op, done) = unsafe { self.leave::<O>(index, left) };
        // SAFETY: there is such a slot, as promised to `take_by_type`.
        let slot = unsafe { self.slots.get_unchecked_mut(index as usize) };
        let user = UserValue(&mut slot.user);
        let output = op.finish(done);
        Some((user.take(), output))
    }

    /// Gives up the ticket: the output is dropped now, or when it comes.
    pub(crate) fn abandon<O>(&mut self, ticket: Ticket<O>) {
        if self.slots[ticket.slot() as usize].is_flying(&ticket) {
            self.detach(ticket.slot());
        } else {
            assert!(self.is_done(&ticket), "OP2: a ticket's slot was given away");
            // SAFETY: the operation of the ticket has ended, and its slot still has the ticket's
            // generation, as was just checked: it is not free (OP2).
            unsafe { self.drop_output(ticket.slot()) };
        }
    }

    /// Drops the output of an operation that has ended.
    ///
    /// # Safety
    ///
    /// The slot must not be free.
    #[cold]
    pub(crate) unsafe fn drop_output(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        assert!(slot.key & DONE != 0, "OP1: the kernel has the operation");
        let resource = slot.held.take();
        let done = Done::new(slot.result, slot.flags, None, resource).with(slot.fate());
        let kind = slot.kind;
        // The operation leaves the slot, and the slot is free, before the caller's code runs.
        // SAFETY: there is such a slot, because it was found above.
        let payload = unsafe { self.payloads.at(index) };
        // SAFETY: the operation has ended, so the kernel is done with it (OP1).
        let mut copy = unsafe { payload.read() };
        slot.release(index, &mut self.free);
        let user_data = UserValue(&mut slot.user);
        // SAFETY: the operation that the slot held, once, of the type that `kind` describes (OP2):
        // the slot was not free, as promised to `drop_output`.
        unsafe { (kind.drop_output)(NonNull::from(&mut copy), done) };
        drop(user_data);
    }

    /// Ends an operation whose entry was taken back, as if the kernel had cancelled it.
    ///
    /// # Safety
    ///
    /// The kernel must not have the operation, and must not get it.
    pub(crate) unsafe fn undo_submit(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        assert!(slot.key & DONE == 0, "OP1: an operation that is not in flight");
        slot.key = slot.key & !STATE | DONE;
        slot.marks |= mark::TAKEN_BACK;
        (slot.result, slot.flags) = (-libc::ECANCELED, CqeFlags::empty());
        self.in_flight -= 1;
        self.end_repeating(index);
        self.detached -= u32::from(self.is_detached(index));
        // A panic in another step may have brought us here.
        // SAFETY: its operation has just ended, so the slot is not free (OP2).
        contained(|| unsafe { self.drop_output(index) });
    }
}

//! Reserved slots: an operation in its slot, before its entry is pushed.
//!
//! ```text
//!   reserve ─► Reserved ─ prep ─► entry ─ pushed ─► commit ─► Ticket: ends by a last completion
//!                 └─ back, or dropped ─► the operation is out of the slot again
//! ```
//!
//! The operation's methods are called here, where it has its final address (OP1). If one of them
//! panics, the slot stays free.
#![allow(unsafe_code, reason = "moves operations into memory that the kernel uses")]

use std::mem::{self, ManuallyDrop};
use std::ptr::NonNull;

use annulus_sys::abi::Sqe;

use super::payload::{Kind, Payload, contained};
use super::{Held, Life, Slab, Slot, mark};
use crate::lease::ticket::{Rejection, Ticket};
use crate::lease::user_data::{BY_TYPE, DONE, SLOW, STATE};
use crate::op::{Completions, Op, PAYLOAD, RingId};

/// How the output of an operation is taken, and what its slot says of that.
#[derive(Clone, Copy)]
pub(crate) struct Terms {
    kind: &'static Kind,
    bits: u64,
}

impl Terms {
    /// By its ticket.
    #[inline]
    pub(crate) fn ticket<O: Op>() -> Self {
        Self { kind: Kind::of::<O>(), bits: if Kind::is_plain::<O>() { 0 } else { SLOW } }
    }

    /// By its type.
    #[inline]
    pub(crate) fn by_type<O: Op + 'static>() -> Self {
        let bits = if Kind::is_plain::<O>() { BY_TYPE } else { SLOW };
        Self { kind: Kind::unticketed::<O>(), bits }
    }

    /// The `user_data` of the operation's completions.
    #[inline]
    pub(crate) fn user_data<O>(self, ticket: &Ticket<O>) -> u64 {
        ticket.user_data() | self.bits & BY_TYPE
    }
}

/// A reserved slot, with an operation that the kernel does not have yet. Dropping it takes the
/// operation out again, and drops it.
pub(crate) struct Reserved<'a, O: Op, U> {
    slot: &'a mut Slot<U>,
    /// The slot's key, which it has again once the operation is done.
    done: u64,
    free: &'a mut u32,
    in_flight: &'a mut u32,
    endless: &'a mut u32,
    twofold: &'a mut u32,
    payload: NonNull<O>,
}

/// The position of an operation in its chain. A single operation is in front.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum At {
    Front,
    Behind,
}

impl<U: Default> Slab<U> {
    /// Moves `op` into a free slot. Gives it back when there is none.
    ///
    /// # Safety
    ///
    /// No lifetime in `O` may end before the slot is empty again.
    #[inline]
    pub(crate) unsafe fn reserve<O: Op>(&mut self, op: O) -> Result<Reserved<'_, O, U>, O> {
        const {
            assert!(
                size_of::<O>() <= PAYLOAD,
                "the operation is larger than a slot (256 bytes): put its buffers into a Box"
            );
            assert!(
                align_of::<O>() <= align_of::<Payload>(),
                "the operation is aligned too strictly"
            );
        }
        let Self { slots, payloads, free, in_flight, endless, twofold, .. } = self;
        // The list of free slots ends with a number that no slot has.
        let Some(slot) = slots.get_mut(*free as usize) else { return Err(op) };
        // SAFETY: there is such a slot, because it was just found.
        let payload = unsafe { payloads.at(*free) }.cast::<O>();
        // SAFETY: a free slot's payload is ours, and it is large enough, as was just checked.
        unsafe { payload.write(op) };
        let done = slot.key;
        Ok(Reserved { slot, done, free, in_flight, endless, twofold, payload })
    }
}

impl<O: Op, U: Default> Reserved<'_, O, U> {
    /// The entry, with its `user_data`. Called once.
    #[inline]
    pub(crate) fn prep(&mut self, terms: Terms) -> Sqe {
        // SAFETY: the slot holds it, and the kernel does not have it yet (OP1).
        let op = unsafe { self.payload.as_mut() };
        let sqe = op.prep();
        Sqe { user_data: self.done - DONE + (terms.bits & BY_TYPE), ..sqe }
    }

    /// Whether the ring may accept the operation: everything that it names by number belongs to
    /// `ring`, and it may select from its source now.
    #[inline]
    pub(crate) fn admit(&mut self, ring: RingId, at: At) -> Result<(), Rejection> {
        // SAFETY: the slot holds it, and the kernel does not have it yet (OP1).
        let op = unsafe { self.payload.as_mut() };
        if let Some(reason) = op.refusal() {
            return Err(Rejection::Invalid { reason });
        }
        if O::HAS_SOURCE {
            let source = op.source().ok_or(Rejection::OtherRing)?;
            let source = if at == At::Front { source } else { source.behind() };
            self.slot.held = Held::Source(source.claim(ring, O::RESULT_KIND, O::COMPLETIONS)?);
        }
        if op.belongs_to(ring) { Ok(()) } else { Err(Rejection::OtherRing) }
    }

    /// Takes the operation out again.
    pub(crate) fn back(self) -> O {
        let mut reserved = ManuallyDrop::new(self);
        reserved.forget_source();
        let payload = reserved.payload;
        // SAFETY: the slot holds it once, because `reserved` is not dropped, and no entry names it
        // (OP1).
        unsafe { payload.read() }
    }

    /// Commits the slot once the operation's entry is pushed: from now on only its last completion
    /// frees the slot. Returns the previous user value, to be dropped when all is done. Nobody may
    /// get the ticket of an operation whose output is taken by type.
    #[inline]
    pub(crate) fn commit(self, user: U, life: Life, ring: RingId, terms: Terms) -> (Ticket<O>, U) {
        let mut reserved = ManuallyDrop::new(self);
        let Reserved { slot, done, free, in_flight, endless, twofold, .. } = &mut *reserved;
        let user_data = *done - DONE;
        slot.key = user_data + terms.bits;
        **free = slot.link;
        slot.kind = terms.kind;
        slot.marks = 0;
        if !matches!(O::COMPLETIONS, Completions::Single) {
            slot.notified = 0;
        }
        slot.life = life;
        slot.pad = [0; 2];
        slot.waiting = 0;
        **in_flight += 1;
        match O::COMPLETIONS {
            Completions::Single => {}
            Completions::Multishot => **endless += 1,
            Completions::WithNotification => **twofold += 1,
        }
        let ticket = Ticket::new(*done, ring);
        (ticket, mem::replace(&mut slot.user, user))
    }
}

impl<O: Op, U> Reserved<'_, O, U> {
    /// Drops the source that the operation's completions would have named.
    #[inline]
    fn forget_source(&mut self) {
        if O::HAS_SOURCE {
            self.slot.held = Held::Nothing;
        }
    }
}

impl<O: Op, U> Drop for Reserved<'_, O, U> {
    fn drop(&mut self) {
        self.forget_source();
        // A panic may have brought us here, and a second one must not abort.
        contained(|| {
            // SAFETY: the slot holds it, and no entry names it (OP1): its slot is still free.
            unsafe { self.payload.drop_in_place() };
        });
    }
}

impl<U> Slab<U> {
    /// A ticket of the operation in `slot`, for code that knows its type and dropped the first one.
    ///
    /// # Safety
    ///
    /// The operation must be an `O`, it must not be scoped, and no other ticket of it may exist.
    #[inline]
    pub(crate) unsafe fn ticket_again<O>(&self, slot: u32, ring: RingId) -> Ticket<O> {
        Ticket::new(self.slots[slot as usize].key & !STATE | DONE, ring)
    }

    /// Where the operation in `slot` lies. It is an address only: the kernel may have it.
    #[inline]
    pub(crate) fn payload_of(&self, slot: u32) -> NonNull<u8> {
        assert!(slot <= self.last, "OP2: {slot} is no slot");
        // SAFETY: a slot, as was just checked.
        unsafe { self.payloads.at(slot) }.cast()
    }

    /// The most events that the operations in flight can still produce; `None` for any number.
    pub(crate) fn coming(&self) -> Option<u32> {
        (self.endless == 0).then(|| self.in_flight + self.twofold)
    }

    /// Whether every completion produces an event, which those of detached multishot operations do
    /// not, and nothing is held back by a drain.
    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        self.detached_multishots == 0 && !self.drained
    }

    /// Detaches the operation in flight in this slot: from now on only its end counts.
    pub(super) fn detach(&mut self, index: u32) {
        if self.is_detached(index) {
            return;
        }
        self.end_repeating(index);
        let slot = &mut self.slots[index as usize];
        slot.marks |= mark::DETACHED;
        slot.key |= SLOW;
        self.detached += 1;
        self.detached_multishots += u32::from(slot.kind.completions != Completions::Single);
    }

    /// An operation has ended, or is being detached. If it may complete more than once, the count
    /// of those goes down.
    pub(super) fn end_repeating(&mut self, index: u32) {
        let wanted = !self.is_detached(index);
        let slot = &self.slots[index as usize];
        match slot.kind.completions {
            Completions::Single => {}
            Completions::Multishot | Completions::WithNotification if !wanted => {
                self.detached_multishots -= 1
            }
            Completions::Multishot => self.endless -= 1,
            Completions::WithNotification => {
                self.twofold -= u32::from(slot.marks & mark::REPORTED == 0)
            }
        }
    }
}

//! Berths: an operation in its slot, before its entry is pushed.
//!
//! ```text
//!   moor ─► Berth ─ prep ─► entry ─ pushed ─► sail ─► Ticket: now only a last completion ends it
//!              └─ back, or dropped ─► the operation is out of the slot again
//! ```
//!
//! All that is asked of an operation is asked here, where it stays (OP1); whatever panics on the
//! way leaves the slot free.
#![allow(unsafe_code, reason = "moves operations into memory that the kernel uses")]

use std::mem::{self, ManuallyDrop};
use std::ptr::NonNull;

use annulus_sys::abi::Sqe;

use super::payload::{Kind, PAYLOAD, Payload, contained};
use super::word::{DONE, SPECIAL};
use super::{Held, Life, Slab, Slot, mark};
use crate::op::{Brings, Op, RingId, Shots};
use crate::ticket::{Rejection, Ticket};

/// A slot that is set aside, with an operation in it that the kernel does not have yet. Dropped, it
/// takes the operation out again, and drops it.
pub(crate) struct Berth<'a, O: Op, U> {
    slot: &'a mut Slot<U>,
    /// The slot's key, which it has again once the operation is done.
    done: u64,
    free: &'a mut u32,
    in_flight: &'a mut u32,
    endless: &'a mut u32,
    twofold: &'a mut u32,
    payload: NonNull<O>,
}

/// Where an operation stands in its chain; alone, it is in front.
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
    pub(crate) unsafe fn moor<O: Op>(&mut self, op: O) -> Result<Berth<'_, O, U>, O> {
        const {
            assert!(
                size_of::<O>() <= PAYLOAD,
                "the operation is larger than a slot (192 bytes): put its buffers into a Box"
            );
            assert!(
                align_of::<O>() <= align_of::<Payload>(),
                "the operation is aligned too strictly"
            );
        }
        let Self { slots, payloads, free, in_flight, endless, twofold, .. } = self;
        // Behind the last free slot stands a number that none has.
        let Some(slot) = slots.get_mut(*free as usize) else { return Err(op) };
        let payload = payloads.at(*free).cast::<O>();
        // SAFETY: a free slot's payload is ours, and large enough, because that was just checked.
        unsafe { payload.write(op) };
        let done = slot.key;
        Ok(Berth { slot, done, free, in_flight, endless, twofold, payload })
    }
}

impl<O: Op, U: Default> Berth<'_, O, U> {
    /// The entry, with its word. Called once.
    #[inline]
    pub(crate) fn prep(&mut self) -> Sqe {
        // SAFETY: the slot holds it, and the kernel does not have it yet (OP1).
        let op = unsafe { self.payload.as_mut() };
        let sqe = op.prep();
        Sqe { user_data: self.done ^ DONE, ..sqe }
    }

    /// Whether the ring may have the operation: all that it names by number is of `ring`, and
    /// nothing stands in the way of its picking what it is to pick.
    #[inline]
    pub(crate) fn admit(&mut self, ring: RingId, at: At) -> Result<(), Rejection> {
        // SAFETY: the slot holds it, and the kernel does not have it yet (OP1).
        let op = unsafe { self.payload.as_ref() };
        if O::HAS_SOURCE {
            let source = op.source().ok_or(Rejection::OtherRing)?;
            let source = if at == At::Front { source } else { source.behind() };
            self.slot.held = Held::Source(source.claim::<O>(ring)?);
        }
        if op.belongs_to(ring) { Ok(()) } else { Err(Rejection::OtherRing) }
    }

    /// Takes the operation out again.
    pub(crate) fn back(self) -> O {
        let mut berth = ManuallyDrop::new(self);
        berth.forget_source();
        let payload = berth.payload;
        // SAFETY: the slot holds it, once, since the berth is forgotten; no entry names it (OP1).
        unsafe { payload.read() }
    }

    /// The operation's entry is pushed: from now on only its last completion frees the slot.
    /// Returns the word that stood there, to be dropped when all is well.
    #[inline]
    pub(crate) fn sail(self, user: U, life: Life, ring: RingId) -> (Ticket<O>, U) {
        let mut berth = ManuallyDrop::new(self);
        let Berth { slot, done, free, in_flight, endless, twofold, .. } = &mut *berth;
        let word = *done ^ DONE;
        // What completes once, and brings nothing, needs no closer look.
        let plain = matches!((O::SHOTS, O::BRINGS), (Shots::One, Brings::Number)) && !O::HAS_SOURCE;
        slot.key = if plain { word } else { word | SPECIAL };
        **free = slot.link;
        slot.kind = Kind::of::<O>();
        slot.marks = if matches!(O::SHOTS, Shots::One) { 0 } else { mark::MANY };
        if !matches!(O::SHOTS, Shots::One) {
            slot.notified = 0;
        }
        slot.life = life;
        slot.pad = [0; 2];
        slot.waiting = 0;
        **in_flight += 1;
        match O::SHOTS {
            Shots::One => {}
            Shots::Many => **endless += 1,
            Shots::Notified => **twofold += 1,
        }
        let ticket = Ticket::new(*done, ring);
        (ticket, mem::replace(&mut slot.user, user))
    }
}

impl<O: Op, U> Berth<'_, O, U> {
    /// Lets go of what the operation's completions would have come from.
    #[inline]
    fn forget_source(&mut self) {
        if O::HAS_SOURCE {
            self.slot.held = Held::Nothing;
        }
    }
}

impl<O: Op, U> Drop for Berth<'_, O, U> {
    fn drop(&mut self) {
        self.forget_source();
        // It was a panic that brought us here: another must not abort.
        contained(|| {
            // SAFETY: the slot holds it, and no entry names it (OP1): its slot is still free.
            unsafe { self.payload.drop_in_place() };
        });
    }
}

impl<U> Slab<U> {
    /// How many events the operations in flight can bring at most; `None`: any number.
    pub(crate) fn coming(&self) -> Option<u32> {
        (self.endless == 0).then(|| self.in_flight + self.twofold)
    }

    /// Whether completions may come that are no events, since nobody wants what they bring.
    #[inline]
    pub(crate) fn has_murmurs(&self) -> bool {
        self.murmurs > 0
    }

    /// Nobody wants the operation in flight in this slot: its end is all that it brings.
    pub(super) fn orphan(&mut self, index: u32) {
        if self.is_orphan(index) {
            return;
        }
        self.end_repeating(index);
        let slot = &mut self.slots[index as usize];
        slot.marks |= mark::ORPHAN;
        slot.key |= SPECIAL;
        self.orphans += 1;
        self.murmurs += u32::from(slot.kind.shots != Shots::One);
    }

    /// An operation has ended, or is wanted no more: if it was one that may complete more than
    /// once, there is one fewer.
    pub(super) fn end_repeating(&mut self, index: u32) {
        let wanted = !self.is_orphan(index);
        let slot = &self.slots[index as usize];
        match slot.kind.shots {
            Shots::One => {}
            Shots::Many | Shots::Notified if !wanted => self.murmurs -= 1,
            Shots::Many => self.endless -= 1,
            Shots::Notified => self.twofold -= u32::from(slot.marks & mark::REPORTED == 0),
        }
    }
}

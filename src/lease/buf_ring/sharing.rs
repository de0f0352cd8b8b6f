//! Claims: which operations may select from one buffer ring at the same time, and how lost buffers
//! come back.
//!
//! | operation | whole buffers | incremental consumption |
//! |---|---|---|
//! | selects one buffer, once | with others | alone |
//! | selects one buffer, again and again | with others | with others of its kind |
//! | selects a bundle | alone | as one buffer |
//! | is forced, drained, or not first in a chain | unless it selects a bundle | not at all |
//!
//! A completion of a part does not say where in its buffer the part begins, and a completion of a
//! bundle names only the first buffer. To understand either, one must know what was selected
//! before. A worker thread of the kernel breaks that order: it consumes a whole buffer when it
//! selects it, however little it fills, and however late. The kernel may move a single-shot
//! operation to a worker by itself, when others took the data first some 127 times (seen on every
//! kernel with incremental consumption, 6.12 to 7.3). A multishot operation was never seen to be
//! moved like that. But after a drained entry the kernel hands everything that follows to workers,
//! and there even a multishot that reads a file that cannot be polled takes the rest of its buffer.
//! So none of these is submitted while a drain may still hold.
//!
//! The completions of an operation that is alone cannot be misunderstood. But the kernel may have
//! taken more buffers for it than its completion names. Such lost buffers are found, and provided
//! again:
//!
//! - when a completion names a buffer that was provided later, because buffers are selected in
//!   order, and no other operation is in flight that may have selected the lost one; and
//! - when an operation has ended without data, as soon as nothing is in flight: the kernel reports
//!   how many buffers it has selected (`PBUF_STATUS`). This also resolves a buffer that a failed
//!   operation named while others were in flight: Linux 6.16 and 6.17 name some that they have not
//!   selected yet.
//!
//! With incremental consumption, the buffer's ring entry says where the kernel continues. We read
//! it while nothing is in flight.
//!
//! Keeps BR1. Leaves to others: the operations (`lease`), and what a completion carries
//! (`buf_ring`).
#![allow(unsafe_code, reason = "reads an entry that the kernel has written")]

use annulus_sys::groups::Group;

use super::Pool;
use super::place::Owner;

/// Whether an operation may select from a buffer ring together with others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::lease) enum Share {
    /// Yes: each completion names its one buffer.
    WithOthers,
    /// No: the buffers of a completion follow from what was selected before it.
    Alone,
}

/// Whether the kernel may have selected buffers that no completion names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::lease) enum MayLose {
    No,
    /// Yes: a worker thread may run the operation, or it selects several buffers at once.
    Yes,
    /// Yes, and while others were in flight, an operation has ended without data, or has failed and
    /// named a buffer.
    Doubted,
}

impl Pool {
    /// Counts an operation in flight that selects from this ring. Returns whether it may.
    pub(in crate::lease) fn claim(&self, share: Share, may_lose: MayLose) -> bool {
        let others = self.claims.get();
        if others > 0 && (share == Share::Alone || self.share.get() == Share::Alone) {
            return false;
        }
        if others == 0 {
            // SAFETY: no operation in flight selects from this ring, by our count (BR1).
            unsafe { self.catch_up() };
        }
        self.claims.set(others + 1);
        self.share.set(share);
        if self.may_lose.get() == MayLose::No {
            self.may_lose.set(may_lose);
        }
        true
    }

    /// An operation has ended, or was never submitted.
    pub(in crate::lease) fn unclaim(&self) {
        self.claims.set(self.claims.get() - 1);
    }

    /// A completion names buffer `bid`. If completions come in order, the buffers that were
    /// provided before it were selected too, and no completion will name them.
    ///
    /// # Safety
    ///
    /// The kernel must have posted that completion, and this must be the first use of it.
    pub(super) unsafe fn pass_over(&self, bid: u16) {
        // With others in flight, a buffer in the gap may be one that another operation has selected
        // and not filled yet.
        let in_order = self.is_alone() || self.is_used_in_parts();
        if !in_order || self.claims.get() > 1 || !self.is_with_kernel(bid) {
            return;
        }
        let turn = self.order.borrow().out_of_turn(bid);
        if let Some(turn) = turn {
            // SAFETY: the kernel selects in order, so it selected these before the one that its
            // completion names, as promised to `pass_over`. No other operation in flight selected
            // them, by our count (BR1).
            unsafe { self.offer_again(turn) };
        }
    }

    /// An operation has ended with `result`. If it carried no data, or an earlier one left a doubt,
    /// this takes back the buffers that were selected and that no completion has named: now, or
    /// when no other operation is in flight.
    pub(in crate::lease) fn recover(&self, result: i32) {
        let doubted = match self.may_lose.get() {
            MayLose::No => false,
            MayLose::Yes => result <= 0,
            MayLose::Doubted => true,
        };
        if !doubted {
            return;
        }
        if self.claims.get() > 0 {
            return self.may_lose.set(MayLose::Doubted);
        }
        let Some(selected) = self.head() else {
            // The kernel does not say. Ask when an operation ends without data, not at each end.
            return self.may_lose.set(MayLose::Yes);
        };
        self.may_lose.set(MayLose::No);
        // SAFETY: the kernel reports that it has selected these. No completion will name them,
        // because nothing in flight selects from this ring, by our count (BR1).
        unsafe { self.offer_again(selected) };
    }

    /// Provides again every buffer that we count as the kernel's and that was provided before
    /// `turn`.
    ///
    /// # Safety
    ///
    /// The kernel must have selected each of them, and no completion to come may name one.
    unsafe fn offer_again(&self, turn: u16) {
        let places = self.places.borrow();
        let order = self.order.borrow();
        let lost: Vec<u16> = (0..=u16::MAX)
            .zip(places.iter())
            .filter(|(bid, place)| place.owner == Owner::Kernel && order.is_before(*bid, turn))
            .map(|(bid, _)| bid)
            .collect();
        drop((places, order));
        for bid in lost {
            // SAFETY: selected, and named by no completion, as promised to `offer_again` (BR1).
            unsafe { self.taken(1) };
            let free = self.places.borrow_mut()[usize::from(bid)].give_up();
            if free {
                // SAFETY: just taken from the kernel; its place says that no lease covers it (BR1).
                unsafe { self.offer(bid) };
            }
        }
    }

    /// Whether the operation in flight, or the last one, must be alone.
    pub(super) fn is_alone(&self) -> bool {
        self.share.get() == Share::Alone
    }

    /// Who has buffer `bid`, according to the kernel.
    pub(super) fn owner_of(&self, bid: u16) -> Owner {
        match self.head() {
            Some(selected) if self.order.borrow().is_before(bid, selected) => Owner::Us,
            Some(_) => Owner::Kernel,
            None => Owner::Lost,
        }
    }

    /// Who has buffer `bid`, which a failed completion names. Linux 6.16 and 6.17 name a buffer
    /// that they have not selected yet, and then go on to select it.
    pub(super) fn note_failure(&self, bid: u16) -> Owner {
        let Some(head) = self.group.borrow().as_ref().map(Group::head) else { return Owner::Us };
        match head {
            _ if self.is_used_in_parts() => Owner::Kernel,
            Ok(selected) if !self.order.borrow().is_before(bid, selected) => Owner::Kernel,
            Ok(_) if self.claims.get() <= 1 => Owner::Us,
            // Selected by this operation, or by another whose completion is still to come.
            Ok(_) => {
                self.may_lose.set(MayLose::Doubted);
                Owner::Kernel
            }
            // Linux before 6.8, which names only buffers that it has selected.
            Err(why) if why.is(libc::EINVAL) => Owner::Us,
            // The ring may not ask. If another completion names the buffer, that is fine; if none
            // does, the buffer is never provided again.
            Err(_) => Owner::Kernel,
        }
    }

    /// The buffer at the front, if a bundle's completion carries `result` bytes and names no
    /// buffer, and the kernel has selected exactly as many buffers as the bytes fill.
    pub(super) fn unnamed(&self, result: i32) -> Option<u16> {
        let bytes = u32::try_from(result).ok().filter(|bytes| *bytes > 0)?;
        if !self.is_alone() || self.is_used_in_parts() {
            return None;
        }
        let selected = self.head()?;
        let order = self.order.borrow();
        let buffers = u32::from(selected.wrapping_sub(order.next_turn()));
        if buffers != bytes.div_ceil(self.each()) {
            return None;
        }
        let count = u16::try_from(self.count()).expect("BR1: a ring has at most 32768 entries");
        let at_front = |bid: &u16| self.is_with_kernel(*bid) && order.out_of_turn(*bid).is_none();
        (0..count).find(at_front)
    }

    /// Nothing in flight selects from this ring: continues in the front buffer where the kernel
    /// does, which may have consumed more than it filled.
    ///
    /// # Safety
    ///
    /// No operation in flight may select from this ring.
    unsafe fn catch_up(&self) {
        let mut group = self.group.borrow_mut();
        let Some(group) = group.as_mut().filter(|_| self.is_used_in_parts()) else { return };
        // SAFETY: the ring does not leave this function, and the group outlives it (BR2).
        let ring = unsafe { group.ring() };
        // SAFETY: as promised to `catch_up`.
        let Some(front) = (unsafe { ring.front() }) else { return };
        let mut places = self.places.borrow_mut();
        let Some(place) = places.get_mut(usize::from(front.bid)) else { return };
        // SAFETY: there is such a buffer, because it has a place.
        let start = unsafe { self.at(front.bid) }.as_ptr().expose_provenance() as u64;
        let into = front.addr.wrapping_sub(start);
        let Some(into) = u32::try_from(into).ok().filter(|into| *into <= self.each) else { return };
        if place.owner == Owner::Kernel {
            assert!(into >= place.filled, "BR1: the kernel goes on before what it has filled");
            place.filled = into;
        }
    }

    fn is_with_kernel(&self, bid: u16) -> bool {
        let places = self.places.borrow();
        places.get(usize::from(bid)).is_some_and(|place| place.owner == Owner::Kernel)
    }
}

//! Walks over every slot of a ring, at the end of a scope or of the ring.
//!
//! | walk | for a scope | for the ring |
//! |---|---|---|
//! | drop the outputs of ended operations | [`Slab::clear_scope`] | [`Slab::clear`] |
//! | detach operations in flight | [`Slab::orphan_scope`] | |
//! | list operations in flight | | [`Slab::in_flight_user_data`] |
//! | list what was not redeemed | | [`Slab::unredeemed`] |
//! | leak operations in flight | | [`Slab::leak`], or dropping the slab |
//!
//! Keeps OP1: an operation in flight is not dropped. Keeps RG1: memory that the kernel may still
//! use is leaked. Leaves to others: what happens to one slot (`slab`).
#![allow(unsafe_code, reason = "drops operations that have ended")]

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use super::payload::{contained, keep_first};
use super::{Life, Slab, Slot};
use crate::lease::user_data::{DONE, SLOW};

impl<U> Slot<U> {
    /// Whether an ended operation lies here. Valid after [`Slab::mark_free`].
    fn is_to_redeem(&self) -> bool {
        self.key & DONE != 0 && self.life != Life::Over
    }
}

impl<U: Default> Slab<U> {
    /// Whether the operation in the slot belongs to a scope.
    pub(crate) fn is_scoped(&self, slot: u32) -> bool {
        self.slots[slot as usize].life == Life::Scoped
    }

    /// Drops the outputs of all operations that have ended, and says whether any is in flight.
    pub(crate) fn clear(&mut self) -> bool {
        let mut panic = None;
        self.mark_free();
        for index in 0..self.count() {
            if self.slots[index as usize].is_to_redeem() {
                // A panic does not keep the others from being dropped.
                // SAFETY: its operation has ended, and the slot is not free, as was just checked.
                let drop_it = || unsafe { self.drop_output(index) };
                if let Err(thrown) = catch_unwind(AssertUnwindSafe(drop_it)) {
                    keep_first(&mut panic, thrown);
                }
            }
        }
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
        self.in_flight > 0
    }

    /// Detaches all operations in flight, and drops the outputs of those that have ended.
    pub(crate) fn detach_all(&mut self) {
        self.mark_free();
        for index in 0..self.count() {
            if self.slots[index as usize].is_to_redeem() {
                contained(|| {
                    // SAFETY: it has ended, and its ticket is never redeemed (OP1, OP2).
                    unsafe { self.drop_output(index) };
                });
            } else if self.slots[index as usize].key & DONE == 0 {
                self.detach(index);
            }
        }
    }

    /// The slots whose operation has ended and was not redeemed, with their user values.
    pub(crate) fn unredeemed(&mut self) -> impl Iterator<Item = (u32, &U)> {
        self.mark_free();
        let slots = (0..).zip(&self.slots[..]);
        slots.filter(|(_, slot)| slot.is_to_redeem()).map(|(index, slot)| (index, &slot.user))
    }

    /// Drops the outputs of all operations of a scope that have ended.
    pub(crate) fn clear_scope(&mut self) {
        self.mark_free();
        for index in 0..self.count() {
            let slot = &self.slots[index as usize];
            if slot.is_to_redeem() && slot.life == Life::Scoped {
                // The scope has to end, even if this panics.
                // SAFETY: its operation has ended, and the slot is not free, as was just checked.
                contained(|| unsafe { self.drop_output(index) });
            }
        }
    }

    /// Marks the free slots for [`Slot::is_to_redeem`], until they are taken.
    fn mark_free(&mut self) {
        let mut at = self.free;
        while let Some(slot) = self.slots.get_mut(at as usize) {
            (slot.life, at) = (Life::Over, slot.link);
        }
    }
}

impl<U> Slab<U> {
    /// Detaches every operation of a scope that is in flight, and returns their `user_data`.
    pub(crate) fn orphan_scope(&mut self) -> Vec<u64> {
        let mut all = Vec::new();
        for index in 0..self.count() {
            let slot = &self.slots[index as usize];
            if slot.key & DONE == 0 && slot.life == Life::Scoped {
                all.push(slot.key & !SLOW);
                self.detach(index);
            }
        }
        all
    }

    /// The `user_data` of all operations in flight.
    pub(crate) fn in_flight_user_data(&self) -> Vec<u64> {
        let all = self.slots.iter().map(|slot| slot.key);
        all.filter(|key| key & DONE == 0).map(|key| key & !SLOW).collect()
    }

    /// The first slot from `from` on with an operation in flight whose user value `is` one that is
    /// looked for, and the operation's `user_data`.
    pub(crate) fn find(&self, from: usize, is: impl Fn(&U) -> bool) -> Option<(usize, u64)> {
        let mut slots = self.slots.iter().enumerate().skip(from);
        let found = slots.find(|(_, slot)| slot.key & DONE == 0 && is(&slot.user));
        found.map(|(at, slot)| (at, slot.key & !SLOW))
    }

    /// Leaks all memory that the kernel may still use (RG1).
    pub(crate) fn leak(&mut self) {
        self.payloads.leaked = true;
        for slot in self.slots.iter_mut().filter(|slot| slot.key & DONE == 0) {
            mem::forget(mem::take(&mut slot.held));
        }
    }
}

impl<U> Drop for Slab<U> {
    fn drop(&mut self) {
        if self.in_flight > 0 {
            self.leak(); // RG1, also when something panicked on the way here.
        }
    }
}

//! Walks: what concerns every slot of a ring, at the end of a scope or of the ring.
//!
//! | walk | of a scope | of all |
//! |---|---|---|
//! | drop what has ended | [`Slab::clear_scope`] | [`Slab::clear`] |
//! | give up what is in flight | [`Slab::orphan_scope`] | |
//! | name what is in flight | | [`Slab::flying_words`] |
//! | leak it | | [`Slab::leak`], or dropping the slab |
//!
//! Keeps OP1: what is in flight is not dropped. Keeps RG1: what the kernel may still use is leaked.
//! Leaves to others: what happens to one slot (`inflight`).

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use super::payload::contained;
use super::word::{DONE, SPECIAL};
use super::{Life, Slab, Slot};

impl<U> Slot<U> {
    /// Whether an operation lies here that has ended, if the free slots are marked.
    fn is_to_redeem(&self) -> bool {
        self.key & DONE != 0 && self.life != Life::Over
    }
}

impl<U: Default> Slab<U> {
    /// Drops the outputs of all operations that have ended, and says whether any is in flight.
    pub(crate) fn clear(&mut self) -> bool {
        let mut panic = None;
        self.mark_free();
        for index in 0..self.count() {
            if self.slots[index as usize].is_to_redeem() {
                // A panic does not keep the others from being dropped.
                let buried = catch_unwind(AssertUnwindSafe(|| self.bury(index)));
                panic = panic.or(buried.err());
            }
        }
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
        self.in_flight > 0
    }

    /// Drops the outputs of all operations of a scope that have ended.
    pub(crate) fn clear_scope(&mut self) {
        self.mark_free();
        for index in 0..self.count() {
            let slot = &self.slots[index as usize];
            if slot.is_to_redeem() && slot.life == Life::Scoped {
                contained(|| self.bury(index)); // The scope has to end.
            }
        }
    }

    /// Marks the free slots, until they are taken, for [`Slot::is_to_redeem`].
    fn mark_free(&mut self) {
        let mut at = self.free;
        while let Some(slot) = self.slots.get_mut(at as usize) {
            (slot.life, at) = (Life::Over, slot.link);
        }
    }
}

impl<U> Slab<U> {
    /// Marks every operation in flight of a scope as wanted by nobody, and returns their words.
    pub(crate) fn orphan_scope(&mut self) -> Vec<u64> {
        let mut words = Vec::new();
        for index in 0..self.count() {
            let slot = &self.slots[index as usize];
            if slot.key & DONE == 0 && slot.life == Life::Scoped {
                words.push(slot.key & !SPECIAL);
                self.orphan(index);
            }
        }
        words
    }

    /// The words of all operations in flight.
    pub(crate) fn flying_words(&self) -> Vec<u64> {
        let words = self.slots.iter().map(|slot| slot.key);
        words.filter(|key| key & DONE == 0).map(|key| key & !SPECIAL).collect()
    }

    /// Leaks what the kernel may still use (RG1).
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

//! Undelivered events: completions that were taken while waiting for another operation.
//!
//! ```text
//!   wait(ticket) ── takes ──► Ended(3)  Completion(5)  Ended(1)  Message  ── shown by ──► reap
//!                                         │
//!                                         └── or taken by next, try_next
//! ```
//!
//! Each kept completion owns its resource (OP3). When a ticket is redeemed, the kept completions of
//! its operation go with the output, and its end is no longer shown. There is room for one end per
//! slot. Only multishot completions and messages, whose number is unlimited, can make the queue
//! grow.

use std::collections::VecDeque;

use crate::op::{Completion, Op};
use crate::ring::slab::{Recorded, Slab};

/// Completions that are still to be shown, oldest first.
#[derive(Debug)]
pub(crate) struct Undelivered {
    queue: VecDeque<Kept>,
}

#[derive(Debug)]
struct Kept {
    recorded: Recorded,
    /// The operation that was in the slot, if the completion has a slot.
    tenant: u64,
}

impl Undelivered {
    pub(crate) fn new(slots: u32) -> Self {
        Self { queue: VecDeque::with_capacity(slots as usize + 1) }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// How many events are still to be shown.
    pub(crate) fn count<U: Default>(&mut self, slab: &Slab<U>) -> usize {
        self.drop_redeemed(slab);
        self.queue.len()
    }

    /// Drops the completions of operations that were redeemed or detached.
    pub(crate) fn drop_redeemed<U: Default>(&mut self, slab: &Slab<U>) {
        self.queue.retain(|kept| match slot_of(&kept.recorded) {
            Some(slot) => slab.is_tenant(slot, kept.tenant) && !slab.is_detached(slot),
            None => true,
        });
    }

    /// Keeps `recorded`. When the queue is full, first drops the ends of operations that were
    /// redeemed since.
    pub(crate) fn push<U: Default>(&mut self, slab: &mut Slab<U>, recorded: Recorded) {
        let tenant = slot_of(&recorded).map_or(0, |slot| slab.tenant(slot));
        if self.queue.len() == self.queue.capacity() {
            self.drop_redeemed(slab);
        }
        if let Recorded::Completion(slot, _) = recorded {
            *slab.waiting(slot) += 1;
        }
        self.queue.push_back(Kept { recorded, tenant });
    }

    /// Takes the oldest event that is still to be shown.
    pub(crate) fn pop<U: Default>(&mut self, slab: &mut Slab<U>) -> Option<Recorded> {
        while let Some(Kept { recorded, tenant }) = self.queue.pop_front() {
            let Some(slot) = slot_of(&recorded) else { return Some(recorded) };
            if slab.is_tenant(slot, tenant) && !slab.is_detached(slot) {
                if matches!(recorded, Recorded::Completion(..)) {
                    *slab.waiting(slot) -= 1;
                }
                return Some(recorded);
            }
        }
        None
    }

    /// Takes the oldest multishot completion of a slot.
    pub(crate) fn next_of<U: Default>(
        &mut self,
        slab: &mut Slab<U>,
        slot: u32,
    ) -> Option<Completion> {
        if *slab.waiting(slot) == 0 {
            return None;
        }
        let tenant = slab.tenant(slot);
        let of_slot = |kept: &Kept| {
            matches!(kept.recorded, Recorded::Completion(of, _) if of == slot)
                && kept.tenant == tenant
        };
        let at = self.queue.iter().position(of_slot)?;
        *slab.waiting(slot) -= 1;
        match self.queue.remove(at)?.recorded {
            Recorded::Completion(_, completion) => Some(completion),
            _ => None,
        }
    }

    /// Takes the oldest end of an `O` without a ticket, and returns its slot.
    #[cold]
    pub(crate) fn pop_output<O: Op + 'static, U: Default>(
        &mut self,
        slab: &Slab<U>,
    ) -> Option<u32> {
        let is_output = |kept: &Kept| match kept.recorded {
            Recorded::Ended(slot) => {
                slab.is_tenant(slot, kept.tenant)
                    && !slab.is_detached(slot)
                    && slab.is_unticketed_as::<O>(slot)
            }
            _ => false,
        };
        let at = self.queue.iter().position(is_output)?;
        slot_of(&self.queue.remove(at)?.recorded)
    }

    /// Takes all multishot completions of a slot, oldest first.
    pub(crate) fn all_of<U: Default>(&mut self, slab: &mut Slab<U>, slot: u32) -> Vec<Completion> {
        let mut completions = Vec::new();
        if *slab.waiting(slot) == 0 {
            return completions;
        }
        let tenant = slab.tenant(slot);
        for _ in 0..self.queue.len() {
            let Some(kept) = self.queue.pop_front() else { break };
            match kept.recorded {
                Recorded::Completion(of, completion) if of == slot && kept.tenant == tenant => {
                    completions.push(completion)
                }
                recorded => self.queue.push_back(Kept { recorded, ..kept }),
            }
        }
        *slab.waiting(slot) = 0;
        completions
    }

    /// Drops all multishot completions of a slot.
    pub(crate) fn forget<U: Default>(&mut self, slab: &mut Slab<U>, slot: u32) {
        drop(self.all_of(slab, slot));
    }

    /// Drops all multishot completions of a scope.
    pub(crate) fn forget_scope<U: Default>(&mut self, slab: &mut Slab<U>) {
        for slot in 0..slab.count() {
            if *slab.waiting(slot) > 0 && slab.is_scoped(slot) {
                self.forget(slab, slot);
            }
        }
    }

    /// Drops everything.
    pub(crate) fn clear(&mut self) {
        self.queue.clear();
    }
}

fn slot_of(recorded: &Recorded) -> Option<u32> {
    match *recorded {
        Recorded::Ended(slot) | Recorded::Completion(slot, _) | Recorded::Last(slot, _) => {
            Some(slot)
        }
        _ => None,
    }
}

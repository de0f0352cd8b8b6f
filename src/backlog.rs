//! Completions that were taken while waiting for another, and are still to be shown.
//!
//! ```text
//!   wait(ticket) ── takes ──► Ended(3)  Shot(5)  Ended(1)  Message  ── shown by ──► reap
//!                                         │
//!                                         └── or taken by next, try_next
//! ```
//!
//! What lies here owns what it brought (OP3). When the ticket is redeemed, its shots go with the
//! output, and its end is not shown any more. There is room for one end for each slot; only shots
//! and messages, of which there may be any number, can make it grow.

use std::collections::VecDeque;

use crate::inflight::{Settled, Slab};
use crate::op::Shot;

/// Completions to be shown, oldest first.
#[derive(Debug)]
pub(crate) struct Backlog {
    queue: VecDeque<Kept>,
}

#[derive(Debug)]
struct Kept {
    settled: Settled,
    /// Who was in the slot, for what is of a slot.
    tenant: u64,
}

impl Backlog {
    pub(crate) fn new(slots: u32) -> Self {
        Self { queue: VecDeque::with_capacity(slots as usize + 1) }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// How many are still to be shown.
    pub(crate) fn count<U: Default>(&mut self, slab: &Slab<U>) -> usize {
        self.drop_redeemed(slab);
        self.queue.len()
    }

    /// Drops what is of operations that were redeemed, or given up.
    pub(crate) fn drop_redeemed<U: Default>(&mut self, slab: &Slab<U>) {
        self.queue.retain(|kept| match slot_of(&kept.settled) {
            Some(slot) => slab.is_tenant(slot, kept.tenant) && !slab.is_orphan(slot),
            None => true,
        });
    }

    /// Keeps `settled`. When there is no more room, first drops ends that were redeemed since.
    pub(crate) fn push<U: Default>(&mut self, slab: &mut Slab<U>, settled: Settled) {
        let tenant = slot_of(&settled).map_or(0, |slot| slab.tenant(slot));
        if self.queue.len() == self.queue.capacity() {
            self.drop_redeemed(slab);
        }
        if let Settled::Shot(slot, _) = settled {
            *slab.waiting(slot) += 1;
        }
        self.queue.push_back(Kept { settled, tenant });
    }

    /// Takes the oldest one that is still to be shown.
    pub(crate) fn pop<U: Default>(&mut self, slab: &mut Slab<U>) -> Option<Settled> {
        while let Some(Kept { settled, tenant }) = self.queue.pop_front() {
            let Some(slot) = slot_of(&settled) else { return Some(settled) };
            if slab.is_tenant(slot, tenant) && !slab.is_orphan(slot) {
                if matches!(settled, Settled::Shot(..)) {
                    *slab.waiting(slot) -= 1;
                }
                return Some(settled);
            }
        }
        None
    }

    /// Takes the oldest shot of a slot.
    pub(crate) fn next_of<U: Default>(&mut self, slab: &mut Slab<U>, slot: u32) -> Option<Shot> {
        if *slab.waiting(slot) == 0 {
            return None;
        }
        let tenant = slab.tenant(slot);
        let of_slot = |kept: &Kept| {
            matches!(kept.settled, Settled::Shot(of, _) if of == slot) && kept.tenant == tenant
        };
        let at = self.queue.iter().position(of_slot)?;
        *slab.waiting(slot) -= 1;
        match self.queue.remove(at)?.settled {
            Settled::Shot(_, shot) => Some(shot),
            _ => None,
        }
    }

    /// Takes all shots of a slot, oldest first.
    pub(crate) fn all_of<U: Default>(&mut self, slab: &mut Slab<U>, slot: u32) -> Vec<Shot> {
        let mut shots = Vec::new();
        if *slab.waiting(slot) == 0 {
            return shots;
        }
        let tenant = slab.tenant(slot);
        for _ in 0..self.queue.len() {
            let Some(kept) = self.queue.pop_front() else { break };
            match kept.settled {
                Settled::Shot(of, shot) if of == slot && kept.tenant == tenant => shots.push(shot),
                settled => self.queue.push_back(Kept { settled, ..kept }),
            }
        }
        *slab.waiting(slot) = 0;
        shots
    }

    /// Drops all shots of a slot: nobody wants them.
    pub(crate) fn forget<U: Default>(&mut self, slab: &mut Slab<U>, slot: u32) {
        drop(self.all_of(slab, slot));
    }

    /// Drops all shots of a scope.
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

fn slot_of(settled: &Settled) -> Option<u32> {
    match *settled {
        Settled::Ended(slot) | Settled::Shot(slot, _) | Settled::Last(slot, _) => Some(slot),
        _ => None,
    }
}

//! Making buffer rings: memory is mapped, and registered under a group number that is new.
//!
//! Keeps BR1: no group number is used twice. Leaves to others: the buffers (`buf_ring`).
#![allow(unsafe_code, reason = "gives buffers to the kernel, and takes them back")]

use std::rc::Rc;

use annulus_sys::buf_ring::BufferRing;
use annulus_sys::groups::{Group, RingMemory};
use annulus_sys::index::Entries;
use annulus_sys::process::Process;

use super::{BufRing, Idle, Offered, Pool};
use crate::raw::register::Consumption;
use crate::raw::register::RegisterError;
use crate::raw::{RawRing, RingId};

/// The buffer rings that are registered with one ring.
#[derive(Debug, Default)]
pub(crate) struct Pools {
    pools: Vec<Rc<Pool>>,
    /// How many group numbers were ever used, including those of raw groups that we ran into.
    numbers: u32,
}

/// Which buffers to make.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) count: u32,
    pub(crate) size: u32,
    pub(crate) memory: RingMemory,
    pub(crate) used: Consumption,
}

impl Pools {
    /// Makes a buffer ring, and provides all its buffers.
    pub(crate) fn make(
        &mut self,
        raw: &RawRing,
        ring: RingId,
        wanted: Wanted,
    ) -> Result<BufRing, RegisterError> {
        self.register(raw, ring, wanted, Offered::All).map(BufRing)
    }

    /// Makes and registers buffers, as a new group.
    pub(in crate::lease) fn register(
        &mut self,
        raw: &RawRing,
        ring: RingId,
        wanted: Wanted,
        offered: Offered,
    ) -> Result<Rc<Pool>, RegisterError> {
        self.pools.retain(|pool| {
            let known = Rc::strong_count(pool) > 1;
            if !known {
                // SAFETY: nothing in flight selects from it: an operation would have it, too.
                unsafe { pool.retire(Idle::Yes) };
            }
            known
        });
        let Wanted { count, size, used, .. } = wanted;
        let entries = Entries::new(count).filter(|_| count <= BufferRing::MAX_ENTRIES && size > 0);
        let reason = "a buffer ring has 1, 2, 4, and so on up to 32768 buffers, none of 0 bytes";
        let entries = entries.ok_or(RegisterError::Invalid { reason })?;
        let memory = Pool::map(count, size)?;
        let group = self.new_group(raw, entries, wanted)?;
        let mut pool = Pool::over(memory, ring, group.id(), count, size, Process::this());
        pool.used = used;
        pool.join(group);
        if offered == Offered::All {
            for (bid, _) in (0..=u16::MAX).zip(0..count) {
                // SAFETY: one of its `count` buffers, each of which is offered once, because the
                // group is new (BR1).
                unsafe { pool.offer(bid) };
            }
        }
        let pool = Rc::new(pool);
        self.pools.push(Rc::clone(&pool));
        Ok(pool)
    }

    /// Registers a group under a number that no group of this ring ever had, neither ours nor a raw
    /// one.
    fn new_group(
        &mut self,
        raw: &RawRing,
        entries: Entries,
        wanted: Wanted,
    ) -> Result<Group, RegisterError> {
        // No number is used twice. Under a reused number, Linux 6.1 continues in the new ring where
        // it was in the old one, and selects buffers that were never provided (BR1). Linux 6.12
        // starts afresh.
        let reason = "a ring makes at most 65536 buffer rings in its life: make another ring";
        loop {
            let id = u16::try_from(self.numbers).map_err(|_| RegisterError::Invalid { reason })?;
            let made = raw.buffer_group(id, entries.count(), wanted.memory, wanted.used);
            let taken = matches!(made, Err(RegisterError::InUse { .. }));
            self.numbers += u32::from(taken || made.is_ok());
            if !taken {
                return made;
            }
        }
    }

    /// The ring ends. `idle` says whether anything in flight could still use one of the pools.
    ///
    /// # Safety
    ///
    /// If `idle` is [`Idle::Yes`], nothing in flight may use one of the pools.
    pub(crate) unsafe fn retire(&mut self, idle: Idle) {
        for pool in self.pools.drain(..) {
            // SAFETY: as promised to `retire`.
            unsafe { pool.retire(idle) };
        }
    }
}

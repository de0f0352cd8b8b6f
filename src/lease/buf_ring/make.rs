//! How a ring of buffers is made: memory is mapped, and registered under a number that is new.
//!
//! Keeps BR1: no number is used twice. Leaves to others: the buffers (`buf_ring`).

use std::rc::Rc;

use annulus_sys::buf_ring::BufferRing;
use annulus_sys::groups::{Group, Whose};
use annulus_sys::index::Entries;

use super::{BufRing, Idle, Offered, Pool};
use crate::lease::error::RegisterError;
use crate::register::Used;
use crate::ring::Ring;

impl<U: Default> Ring<U> {
    /// Makes `count` buffers of `size` bytes each that the kernel picks from. Since Linux 5.19.
    ///
    /// A ring has as many of these as it likes, up to 65536 in its life. Dropped with all its
    /// leases, one is given up when the next is made, or with the ring.
    ///
    /// # Errors
    ///
    /// [`RegisterError::Invalid`] unless `count` is a power of two of at most 32768.
    #[doc(alias = "IORING_REGISTER_PBUF_RING")]
    pub fn buf_ring(&mut self, count: u32, size: u32) -> Result<BufRing, RegisterError> {
        self.buf_ring_with(count, size, Whose::Ours, Used::Whole)
    }

    /// As [`buf_ring`](Self::buf_ring), where the ring (not the buffers) lies in memory of the
    /// kernel's, since Linux 6.4, or buffers are used in parts, since Linux 6.12.
    ///
    /// # Errors
    ///
    /// As [`buf_ring`](Self::buf_ring); [`RegisterError::Unsupported`] for what this kernel does
    /// not have.
    #[doc(alias = "IOU_PBUF_RING_MMAP")]
    #[doc(alias = "IOU_PBUF_RING_INC")]
    pub fn buf_ring_with(
        &mut self,
        count: u32,
        size: u32,
        whose: Whose,
        used: Used,
    ) -> Result<BufRing, RegisterError> {
        self.pool(count, size, whose, used, Offered::All).map(BufRing)
    }

    /// Makes and registers buffers, as a group that is new.
    pub(in crate::lease) fn pool(
        &mut self,
        count: u32,
        size: u32,
        whose: Whose,
        used: Used,
        offered: Offered,
    ) -> Result<Rc<Pool>, RegisterError> {
        // Those that only we know of are idle: an operation in flight would know of its own.
        self.pools.retain(|pool| {
            let known = Rc::strong_count(pool) > 1;
            if !known {
                pool.retire(Idle::Yes);
            }
            known
        });
        let entries = Entries::new(count).filter(|_| count <= BufferRing::MAX_ENTRIES && size > 0);
        let reason = "a ring of buffers has 1, 2, 4, and so on, at most 32768, and none is empty";
        let entries = entries.ok_or(RegisterError::Invalid { reason })?;
        let memory = Pool::map(count, size)?;
        let group = self.new_group(entries, whose, used)?;
        let mut pool = Pool::over(memory, self.id, group.id(), count, size, self.process);
        pool.used = used;
        pool.join(group);
        if offered == Offered::All {
            (0..=u16::MAX).zip(0..count).for_each(|(bid, _)| pool.offer(bid));
        }
        let pool = Rc::new(pool);
        self.pools.push(Rc::clone(&pool));
        Ok(pool)
    }

    /// Registers a group under a number that no group had, neither of ours nor a raw one.
    fn new_group(
        &mut self,
        entries: Entries,
        whose: Whose,
        used: Used,
    ) -> Result<Group, RegisterError> {
        // No number twice: under an old number Linux 6.1 goes on in the new ring where it was in
        // the old one, and picks what nobody offers (BR1). Linux 6.12 begins anew.
        let reason = "a ring makes at most 65536 rings of buffers in its life";
        loop {
            let id =
                u16::try_from(self.fixed.groups).map_err(|_| RegisterError::Invalid { reason })?;
            let made = self.raw.buffer_group(id, entries.count(), whose, used);
            let taken = matches!(made, Err(RegisterError::Taken { .. }));
            self.fixed.groups += u32::from(taken || made.is_ok());
            if !taken {
                return made;
            }
        }
    }
}

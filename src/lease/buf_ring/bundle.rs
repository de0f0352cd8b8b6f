//! Bundles: several buffers that one completion carries.
//!
//! ```text
//!   ring   │ 5 │ 2 │ 7 │ 0 │ 4 │ …      in the order in which they were provided
//!            └───────┬───┘
//!   completion: buffer 5, 40 bytes ─► Bundle ─► BufLease 5 (16), 2 (16), 7 (8)
//! ```
//!
//! The completion names only the first buffer. The others are those that were provided after it, as
//! many as hold the bytes; all but the last are full. When a buffer is provided, it is noted as the
//! successor of the one before it. That note stays until the earlier buffer is itself provided
//! again. So a bundle is right however late its completion is taken, and whatever was provided
//! since.
//!
//! A completion may carry bytes and name no buffer (seen on Linux 6.18), when another thread took
//! data from the same socket between two tries of a bundle. A bundle is alone on its buffer ring.
//! So the bytes lie in the buffers at the front, if the kernel says that it has selected exactly as
//! many as the bytes fill.
//!
//! Keeps BR1: each buffer of a bundle becomes a lease, which is handed out or dropped. A buffer
//! that the kernel cannot mean (one that is already leased) ends the bundle.
#![allow(unsafe_code, reason = "trusts what a completion of the kernel says")]

use std::rc::Rc;

use annulus_sys::abi::Cqe;

use super::{BufLease, Owner, Pool};

/// Buffers that the kernel selected and filled, one after the other: an iterator over their leases.
/// Dropping it provides the remaining buffers to the kernel again.
#[derive(Debug)]
pub struct Bundle {
    pool: Rc<Pool>,
    /// The first remaining buffer.
    first: u16,
    /// The offset of its first byte. In the others the bytes begin at the front.
    start: u32,
    buffers: u32,
    bytes: u32,
}

impl Pool {
    /// The buffers that a completion names, whether it succeeded or failed.
    ///
    /// # Safety
    ///
    /// As for [`lease`](Self::lease).
    pub(crate) unsafe fn bundle(pool: &Rc<Self>, cqe: Cqe) -> Option<Bundle> {
        let first = cqe.buffer_id().or_else(|| pool.unnamed(cqe.res))?;
        // SAFETY: a completion of the kernel's names it, as promised to `bundle`, or stands for it.
        unsafe { pool.pass_over(first) };
        let mut places = pool.places.borrow_mut();
        let order = pool.order.borrow();
        let (mut at, mut buffers, mut taken, mut bytes) = (first, 0, 0, 0);
        let mut left = u32::try_from(cqe.res).unwrap_or(0);
        let mut start = 0;
        while let Some(place) = places.get_mut(usize::from(at))
            && place.owner == Owner::Kernel
            && (buffers == 0 || place.filled == 0)
        {
            let here = left.min(pool.each - place.filled);
            left -= here;
            // Only the last buffer may be one that the kernel goes on filling.
            let last = left == 0;
            let owner = match last {
                true if cqe.res < 0 => pool.note_failure(at),
                true => pool.owner_after(at, *place, here, cqe.flags),
                false => Owner::Us,
            };
            let (from, here) = place.fill(here, pool.each, owner);
            start = if buffers == 0 { from } else { start };
            (buffers, taken, bytes) =
                (buffers + 1, taken + u32::from(owner != Owner::Kernel), bytes + here);
            if left == 0 {
                break;
            }
            at = order.next[usize::from(at)];
        }
        drop(places);
        drop(order);
        // SAFETY: the completion stands for them, as promised to `bundle`, and their places said
        // that the kernel had them (BR1).
        unsafe { pool.taken(taken) };
        (buffers > 0).then(|| Bundle { pool: Rc::clone(pool), first, start, buffers, bytes })
    }
}

impl Bundle {
    /// How many bytes the remaining buffers hold together.
    pub fn bytes(&self) -> usize {
        self.bytes as usize
    }

    /// How many buffers remain.
    pub fn buffers(&self) -> usize {
        self.buffers as usize
    }
}

impl Iterator for Bundle {
    type Item = BufLease;

    fn next(&mut self) -> Option<BufLease> {
        self.buffers = self.buffers.checked_sub(1)?;
        let (bid, start) = (self.first, std::mem::take(&mut self.start));
        let len = self.bytes.min(self.pool.each - start);
        self.bytes -= len;
        // Read before the lease can be dropped, because dropping it provides the buffer again, with
        // another successor.
        self.first = self.pool.order.borrow().next[usize::from(bid)];
        Some(BufLease { pool: Rc::clone(&self.pool), bid, start, len })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.buffers(), Some(self.buffers()))
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        self.for_each(drop);
    }
}

#[cfg(test)]
mod tests {
    use annulus_sys::flags::{CQE_BUFFER_SHIFT, CqeFlags};
    use memmap2::MmapOptions;

    use super::super::{Consumption, Process, RingId};
    use super::*;

    /// `count` buffers of 8 bytes that no kernel knows, provided in this order.
    fn pool(count: u32, order: &[u16]) -> Rc<Pool> {
        let memory = MmapOptions::new().len(count as usize * 8).map_anon().expect("memory");
        let ring = RingId(std::num::NonZero::<u32>::MIN);
        let pool = Pool::over(memory, ring, 0, count, 8, Process::this());
        order.iter().for_each(|&bid| pool.order.borrow_mut().push(bid));
        Rc::new(pool)
    }

    /// The bundle of a completion with `result` that names buffer `bid`.
    fn bundle(pool: &Rc<Pool>, result: i32, bid: u16) -> Option<Bundle> {
        let bits = CqeFlags::BUFFER.bits() | u32::from(bid) << CQE_BUFFER_SHIFT;
        let flags = CqeFlags::from_bits_retain(bits);
        // SAFETY: nothing fills the buffers while they are leased, because no kernel knows them.
        unsafe { Pool::bundle(pool, Cqe { user_data: 0, res: result, flags }) }
    }

    fn bids(bundle: Bundle) -> Vec<(u16, usize)> {
        bundle.map(|lease| (lease.bid, lease.len())).collect()
    }

    #[test]
    fn br1_a_bundle_is_what_was_offered_behind_its_first_buffer() {
        let pool = pool(6, &[5, 2, 4, 0, 1, 3]);
        let all = bundle(&pool, 24, 2).expect("three buffers");
        assert_eq!((all.bytes(), all.buffers(), pool.leased()), (24, 3, 3));
        assert_eq!(bids(all), [(2, 8), (4, 8), (0, 8)]);
        let short = bundle(&pool, 9, 1).expect("two buffers");
        assert_eq!(short.size_hint(), (2, Some(2)));
        assert_eq!(bids(short), [(1, 8), (3, 1)]);
        assert_eq!(pool.leased(), 0);
    }

    #[test]
    fn br1_a_bundle_that_is_taken_late_is_what_it_was() {
        let pool = pool(4, &[0, 1, 2, 3]);
        let late = bundle(&pool, 16, 0).expect("two buffers");
        // Meanwhile others are provided again, at the end.
        assert_eq!(bids(bundle(&pool, 16, 2).expect("two buffers")), [(2, 8), (3, 8)]);
        [3, 2].iter().for_each(|&bid| pool.order.borrow_mut().push(bid));
        assert_eq!(bids(late), [(0, 8), (1, 8)]);
        [0, 1].iter().for_each(|&bid| pool.order.borrow_mut().push(bid));
        let all = bundle(&pool, 32, 3).expect("four buffers");
        assert_eq!(bids(all), [(3, 8), (2, 8), (0, 8), (1, 8)]);
    }

    #[test]
    fn br1_a_bundle_longer_than_what_the_kernel_has_ends_there() {
        let pool = pool(4, &[0, 1, 2, 3]);
        let held = bundle(&pool, 8, 2).expect("a buffer");
        for result in [17, 32, i32::MAX] {
            let cut = bundle(&pool, result, 0).expect("two buffers");
            assert_eq!((cut.bytes(), cut.buffers(), pool.leased()), (16, 2, 3));
        }
        assert!(bundle(&pool, 1, 2).is_none(), "leased already");
        assert!(bundle(&pool, 1, 4).is_none(), "beyond the last");
        assert!(bundle(&pool, 1, u16::MAX).is_none());
        drop(held);
        assert_eq!(bids(bundle(&pool, i32::MAX, 3).expect("the last")), [(3, 8)]);
    }

    #[test]
    fn br1_a_bundle_that_failed_has_one_buffer_without_bytes() {
        let pool = pool(2, &[0, 1]);
        for result in [0, -1, i32::MIN] {
            let failed = bundle(&pool, result, 0).expect("it is named");
            assert_eq!((failed.bytes(), failed.buffers()), (0, 1));
            assert_eq!(bids(failed), [(0, 0)]);
        }
        assert_eq!(pool.leased(), 0);
    }

    #[test]
    fn br1_what_nobody_takes_of_a_bundle_goes_back() {
        let pool = pool(4, &[0, 1, 2, 3]);
        let mut all = bundle(&pool, 32, 0).expect("four buffers");
        let first = all.next().expect("the first");
        assert_eq!((all.bytes(), all.buffers()), (24, 3));
        drop(all);
        assert_eq!((pool.leased(), first.len()), (1, 8));
        drop(first);
        assert_eq!(pool.leased(), 0);
    }

    #[test]
    fn br1_a_bundle_begins_and_ends_within_buffers_used_in_parts() {
        let mut pool = Rc::into_inner(pool(4, &[0, 1, 2, 3])).expect("nobody else has it");
        pool.used = Consumption::Incremental { min_left: 0 };
        let pool = Rc::new(pool);
        let more = |result, bid: u16| {
            let bits = (CqeFlags::BUFFER | CqeFlags::BUF_MORE).bits();
            let flags = CqeFlags::from_bits_retain(bits | u32::from(bid) << CQE_BUFFER_SHIFT);
            let cqe = Cqe { user_data: 0, res: result, flags };
            // SAFETY: nothing fills the buffers meanwhile, because no kernel knows them.
            unsafe { Pool::bundle(&pool, cqe) }.expect("it is named")
        };
        let parts = |bundle: Bundle| -> Vec<_> {
            bundle.map(|lease| (lease.bid, lease.start, lease.len())).collect()
        };
        let held = more(5, 0);
        assert_eq!(parts(more(12, 0)), [(0, 5, 3), (1, 0, 8), (2, 0, 1)]);
        assert_eq!(pool.leased(), 1, "the first is held, and what came back is offered");
        assert_eq!(parts(more(2, 2)), [(2, 1, 2)]);
        drop(held);
        assert_eq!(pool.leased(), 0);
        assert_eq!(parts(more(0, 2)), [(2, 3, 0)]);
    }
}

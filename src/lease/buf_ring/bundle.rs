//! Bundles: several buffers that one completion brings.
//!
//! ```text
//!   ring   │ 5 │ 2 │ 7 │ 0 │ 4 │ …      in the order in which they were offered
//!            └───────┬───┘
//!   completion: buffer 5, 40 bytes ─► Bundle ─► BufLease 5 (16), 2 (16), 7 (8)
//! ```
//!
//! The completion names the first buffer alone. The others are those that were offered behind it,
//! as many as hold the bytes; all but the last are full. A buffer's successor is noted when that is
//! offered, and stays noted until the buffer itself is offered again, so it is right however late
//! the completion is taken, and whatever was offered since.
//!
//! When another thread took data from the same socket between two tries of a bundle, a completion
//! may bring bytes and name no buffer (seen on Linux 6.18). A bundle is alone with its buffers, so
//! the bytes lie in those at the front, if the kernel says that it has picked just so many.
//!
//! Keeps BR1: each buffer of a bundle becomes a lease, in somebody's hands or dropped. What the
//! kernel cannot mean (a buffer that is leased already) ends a bundle.

use std::rc::Rc;

use annulus_sys::abi::Cqe;

use super::{BufLease, Pool, With};

/// Buffers that the kernel picked and filled, one after the other: an iterator over their leases.
/// Those that nobody takes are offered again when it is dropped.
#[derive(Debug)]
pub struct Bundle {
    pool: Rc<Pool>,
    /// The first of those that are left.
    first: u16,
    /// Where in it they begin; in all others, at the front.
    start: u32,
    buffers: u32,
    bytes: u32,
}

impl Pool {
    /// The buffers that a completion names, whether it succeeded or failed.
    pub(crate) fn bundle(pool: &Rc<Self>, cqe: Cqe) -> Option<Bundle> {
        let first = cqe.buffer_id().or_else(|| pool.unnamed(cqe.res))?;
        pool.pass_over(first);
        let mut places = pool.places.borrow_mut();
        let order = pool.order.borrow();
        let (mut at, mut buffers, mut taken, mut bytes) = (first, 0, 0, 0);
        let mut left = u32::try_from(cqe.res).unwrap_or(0);
        let mut start = 0;
        while let Some(place) = places.get_mut(usize::from(at))
            && place.with == With::Kernel
            && (buffers == 0 || place.filled == 0)
        {
            let here = left.min(pool.each - place.filled);
            left -= here;
            // The kernel goes on to fill the last one at most.
            let last = left == 0;
            let with = match last {
                true if cqe.res < 0 => pool.with_whom_failing(at),
                true => pool.with(at, *place, here, cqe.flags),
                false => With::Us,
            };
            let (from, here) = place.fill(here, pool.each, with);
            start = if buffers == 0 { from } else { start };
            (buffers, taken, bytes) =
                (buffers + 1, taken + u32::from(with != With::Kernel), bytes + here);
            if left == 0 {
                break;
            }
            at = order.next[usize::from(at)];
        }
        drop(places);
        drop(order);
        pool.taken(taken);
        (buffers > 0).then(|| Bundle { pool: Rc::clone(pool), first, start, buffers, bytes })
    }
}

impl Bundle {
    /// How many bytes are left, in all buffers together.
    pub fn bytes(&self) -> usize {
        self.bytes as usize
    }

    /// How many buffers are left.
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
        // Before the lease can be dropped, and so offered again with another successor.
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

    use super::super::{Process, RingId, Used};
    use super::*;

    /// `count` buffers of 8 bytes that no kernel knows, offered in this order.
    fn pool(count: u32, order: &[u16]) -> Rc<Pool> {
        let memory = MmapOptions::new().len(count as usize * 8).map_anon().expect("memory");
        let ring = RingId(std::num::NonZero::<u32>::MIN);
        let pool = Pool::over(memory, ring, 0, count, 8, Process::this());
        order.iter().for_each(|&bid| pool.order.borrow_mut().push(bid));
        Rc::new(pool)
    }

    /// What a completion with `result` that names buffer `bid` brings.
    fn bundle(pool: &Rc<Pool>, result: i32, bid: u16) -> Option<Bundle> {
        let bits = CqeFlags::BUFFER.bits() | u32::from(bid) << CQE_BUFFER_SHIFT;
        let flags = CqeFlags::from_bits_retain(bits);
        Pool::bundle(pool, Cqe { user_data: 0, res: result, flags })
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
        // Others are offered again meanwhile, behind all.
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
        pool.used = Used::InParts { min_left: 0 };
        let pool = Rc::new(pool);
        let more = |result, bid: u16| {
            let bits = (CqeFlags::BUFFER | CqeFlags::BUF_MORE).bits();
            let flags = CqeFlags::from_bits_retain(bits | u32::from(bid) << CQE_BUFFER_SHIFT);
            Pool::bundle(&pool, Cqe { user_data: 0, res: result, flags }).expect("it is named")
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

//! The rest of a list of buffers, after some of its bytes were moved.
//!
//! ```text
//!   the list       │ head, 4 │ body, 100 │ tail, 7 │        50 bytes were moved
//!   its rest                    │ from 46 │ tail, 7 │        two entries
//! ```
//!
//! [`InitBufs`] are buffers whose bytes are all initialised. So it does not matter which of them
//! the kernel has written, and no buffer is told a count.
//!
//! Leaves to others: when there is a rest (`ring::read_exact`).

use super::lists::MAX_BUFS;
use super::{IoBufs, IoVec, Left, Region, RegionMut, sealed};

/// Several buffers, all of whose bytes are initialised, and which are filled whole, in order: an
/// array of one type, a tuple of two to four types, a `Vec` or boxed slice, or a box of any of
/// these. A buffer is anything that shows its bytes (`AsMut<[u8]>`); of a vector, those up to its
/// length.
///
/// For [`Ring::read_exact_vectored`](crate::Ring::read_exact_vectored).
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no list of initialised buffers",
    note = "a list is an array, a tuple or a `Vec` of buffers that show their bytes: `[[u8; 4]; 2]`"
)]
pub trait InitBufs: sealed::Sealed {
    /// Calls `each` with the bytes of every buffer, in order.
    #[doc(hidden)]
    fn each_mut(&mut self, each: &mut dyn FnMut(&mut [u8]));
}

impl<B: AsMut<[u8]>, const N: usize> InitBufs for [B; N] {
    fn each_mut(&mut self, each: &mut dyn FnMut(&mut [u8])) {
        self.iter_mut().for_each(|buf| each(buf.as_mut()));
    }
}

impl<B: AsMut<[u8]>> InitBufs for Vec<B> {
    fn each_mut(&mut self, each: &mut dyn FnMut(&mut [u8])) {
        self.iter_mut().for_each(|buf| each(buf.as_mut()));
    }
}

impl<B: AsMut<[u8]>> InitBufs for Box<[B]> {
    fn each_mut(&mut self, each: &mut dyn FnMut(&mut [u8])) {
        self.iter_mut().for_each(|buf| each(buf.as_mut()));
    }
}

impl<L: InitBufs> InitBufs for Box<L> {
    fn each_mut(&mut self, each: &mut dyn FnMut(&mut [u8])) {
        (**self).each_mut(each);
    }
}

impl<A: AsMut<[u8]>, B: AsMut<[u8]>> InitBufs for (A, B) {
    fn each_mut(&mut self, each: &mut dyn FnMut(&mut [u8])) {
        let (a, b) = self;
        each(a.as_mut());
        each(b.as_mut());
    }
}

impl<A: AsMut<[u8]>, B: AsMut<[u8]>, C: AsMut<[u8]>> InitBufs for (A, B, C) {
    fn each_mut(&mut self, each: &mut dyn FnMut(&mut [u8])) {
        let (a, b, c) = self;
        each(a.as_mut());
        each(b.as_mut());
        each(c.as_mut());
    }
}

impl<A, B, C, D> InitBufs for (A, B, C, D)
where
    A: AsMut<[u8]>,
    B: AsMut<[u8]>,
    C: AsMut<[u8]>,
    D: AsMut<[u8]>,
{
    fn each_mut(&mut self, each: &mut dyn FnMut(&mut [u8])) {
        let (a, b, c, d) = self;
        each(a.as_mut());
        each(b.as_mut());
        each(c.as_mut());
        each(d.as_mut());
    }
}

/// A table in the making, of what lies behind the first bytes.
struct Rest {
    skip: u64,
    left: Left,
    table: Vec<IoVec>,
}

impl Rest {
    fn behind(done: u64) -> Self {
        Self { skip: done, left: Left::WHOLE, table: Vec::new() }
    }

    fn add(&mut self, addr: u64, len: u64) {
        let skipped = self.skip.min(len);
        self.skip -= skipped;
        let len = if self.table.len() < MAX_BUFS { self.left.take(len - skipped) } else { 0 };
        if len > 0 {
            self.table.push(IoVec { addr: addr + skipped, len });
        }
    }
}

/// The table of what lies behind the first `done` bytes, as far as one operation takes it.
pub(crate) fn rest_of(bufs: &impl IoBufs, done: u64) -> Vec<IoVec> {
    let mut rest = Rest::behind(done);
    bufs.regions(&mut |region: Region<'_>| rest.add(region.addr(), region.len() as u64));
    rest.table
}

/// As [`rest_of`], to write to.
pub(crate) fn rest_of_mut(bufs: &mut impl InitBufs, done: u64) -> Vec<IoVec> {
    let mut rest = Rest::behind(done);
    bufs.each_mut(&mut |bytes| {
        let region = RegionMut::from(bytes);
        rest.add(region.addr(), region.len() as u64);
    });
    rest.table
}

#[cfg(test)]
mod tests {
    use super::super::total;
    use super::*;

    #[test]
    fn every_rest_is_what_lies_behind_the_first_bytes() {
        let mut bufs = ([1_u8; 3], Vec::<u8>::new(), vec![2_u8; 4], [3_u8; 1]);
        let addrs = [&bufs.0[..], &bufs.2[..], &bufs.3[..]].map(|buf| buf.as_ptr().addr() as u64);
        let bytes = |table: &[IoVec]| -> Vec<u64> {
            table.iter().flat_map(|entry| entry.addr..entry.addr + entry.len).collect()
        };
        let all: Vec<u64> = [(addrs[0], 3), (addrs[1], 4), (addrs[2], 1)]
            .map(|(at, len)| at..at + len)
            .into_iter()
            .flatten()
            .collect();
        for done in 0..=9 {
            let (out, into) = (rest_of(&bufs, done), rest_of_mut(&mut bufs, done));
            let behind = all.get(usize::try_from(done).expect("small")..).unwrap_or_default();
            assert_eq!((bytes(&out).as_slice(), bytes(&into).as_slice()), (behind, behind));
            assert!(out.iter().all(|entry| entry.len > 0));
        }
    }

    #[test]
    fn a_rest_begins_behind_what_one_operation_takes() {
        let mut bufs: Vec<[u8; 2]> = vec![[0; 2]; 1030];
        assert_eq!(rest_of(&bufs, 0).len(), MAX_BUFS);
        assert_eq!(total(&rest_of(&bufs, 2048)), 12);
        assert_eq!(total(&rest_of_mut(&mut bufs, 2049)), 11);
        assert_eq!(rest_of(&bufs, u64::MAX).len(), 0);
    }
}

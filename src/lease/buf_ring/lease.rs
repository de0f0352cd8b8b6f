//! What a ring of buffers tells of itself, and what a lease is to its owner: bytes, until dropped.
//!
//! ```text
//!   BufLease { pool, bid, start, len } ──► &[u8], &mut [u8], IoBuf      dropped: offered again
//! ```
//!
//! Keeps BR1: the bytes are nobody else's while the lease lives. Leaves to others: where leases
//! come from, and what it takes until a buffer that is used in parts is free (`place`).
#![allow(unsafe_code, reason = "shows memory that the kernel filled")]

use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::slice;

use super::{BufLease, BufRing};
use crate::buf::{IoBuf, Region};

impl BufRing {
    /// How many buffers there are.
    pub fn count(&self) -> usize {
        self.0.places.borrow().len()
    }

    /// How many bytes each holds.
    pub fn buffer_size(&self) -> u32 {
        self.0.each
    }

    /// The number by which entries of one's own name the ring, in their `buf_group`.
    #[doc(alias = "bgid")]
    pub fn group(&self) -> u16 {
        self.0.id
    }

    /// How many are in leases now, wholly or in part.
    pub fn leased(&self) -> usize {
        self.0.leased()
    }
}

impl BufLease {
    fn at(&self) -> NonNull<u8> {
        // SAFETY: within the buffer, because it is clamped where it comes from.
        unsafe { self.pool.at(self.bid).add(self.start as usize) }
    }
}

impl Deref for BufLease {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let start = self.at().as_ptr();
        // SAFETY: zeroed at first, and ours alone while the lease lives (BR1).
        unsafe { slice::from_raw_parts(start, self.len as usize) }
    }
}

impl DerefMut for BufLease {
    fn deref_mut(&mut self) -> &mut [u8] {
        let start = self.at().as_ptr();
        // SAFETY: zeroed at first, and ours alone while the lease lives (BR1).
        unsafe { slice::from_raw_parts_mut(start, self.len as usize) }
    }
}

impl AsRef<[u8]> for BufLease {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl AsMut<[u8]> for BufLease {
    fn as_mut(&mut self) -> &mut [u8] {
        self
    }
}

/// A lease can be sent on as it is, and is offered again when that is done.
impl IoBuf for BufLease {
    fn region(&self) -> Region<'_> {
        (&**self).into()
    }
}

impl Drop for BufLease {
    fn drop(&mut self) {
        if self.pool.process.is_this() {
            let free = self.pool.places.borrow_mut()[usize::from(self.bid)].release();
            if free {
                self.pool.offer(self.bid);
            }
        }
    }
}

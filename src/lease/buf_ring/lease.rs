//! Accessors of a buffer ring, and leases as bytes.
//!
//! ```text
//!   BufLease { pool, bid, start, len } ──► &[u8], &mut [u8], IoBuf      dropped: provided again
//! ```
//!
//! Keeps BR1: only the lease uses its bytes while it lives. Leaves to others: where leases come
//! from, and when a shared buffer is free again (`place`).
#![allow(unsafe_code, reason = "shows memory that the kernel filled")]

use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::rc::Rc;
use std::slice;

use super::{BufRing, Pool};
use crate::buf::{IoBuf, Region};

/// A buffer that the kernel selected and filled. Dropping it provides the buffer to the kernel
/// again.
///
/// The `len` bytes from `start` lie in buffer `bid` of the pool, and no other lease covers them.
///
/// # Example
///
/// ```
/// use annulus::Setup;
/// use annulus::lease::BufLease;
/// use annulus::op::RecvProvided;
/// use std::io::Write;
/// use std::os::unix::net::UnixStream;
///
/// let mut ring = Setup::new(8).build()?;
/// let Ok(buffers) = ring.buf_ring(1, 64) else { return Ok(()) }; // Linux 5.19
/// let (mut ours, theirs) = UnixStream::pair()?;
/// ours.write_all(b"hello")?;
/// let recv = ring.submit(RecvProvided::new(theirs, &buffers))?;
/// let mut lease: BufLease = ring.wait(recv)?.result?.expect("five bytes");
/// lease.make_ascii_uppercase(); // It derefs to its bytes,
/// let send = ring.submit(annulus::op::Send::new(ours, lease))?; // and is a buffer to send.
/// assert_eq!(ring.wait(send)?.buf[..], *b"HELLO");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct BufLease {
    pub(super) pool: Rc<Pool>,
    pub(super) bid: u16,
    /// The offset in its buffer where this lease begins.
    pub(super) start: u32,
    pub(super) len: u32,
}

impl BufRing {
    /// How many buffers there are.
    pub fn count(&self) -> usize {
        self.0.places.borrow().len()
    }

    /// The size of each buffer, in bytes.
    pub fn buffer_size(&self) -> u32 {
        self.0.each
    }

    /// The buffer group's number, for the `buf_group` of your own raw entries.
    #[doc(alias = "bgid")]
    pub fn group(&self) -> u16 {
        self.0.id
    }

    /// How many buffers are leased now, wholly or in part.
    pub fn leased(&self) -> usize {
        self.0.leased()
    }
}

impl BufLease {
    fn at(&self) -> NonNull<u8> {
        // SAFETY: there is such a buffer, because a lease is made only of a place in the list.
        let buffer = unsafe { self.pool.at(self.bid) };
        // SAFETY: within the buffer, because `start` and `len` were clamped when the lease was
        // made.
        unsafe { buffer.add(self.start as usize) }
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

/// A lease can be sent as it is; afterwards it is provided again.
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
                // SAFETY: the kernel has given it up, and this was its last lease, according to its
                // place (BR1).
                unsafe { self.pool.offer(self.bid) };
            }
        }
    }
}

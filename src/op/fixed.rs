//! Registered buffers in reads and writes.
//!
//! ```text
//!   ReadFixed { fd, buf: FixedBuf }   ─►  READ_FIXED    addr, len   in the registered buffer
//!   WriteFixed { fd, buf: FixedBuf }  ─►  WRITE_FIXED   addr, len   `buf_index`
//! ```
//!
//! The kernel checks that address and length lie in the buffer that the number names. Keeps OP1:
//! the lease lies in the operation, so it is not handed out again meanwhile.
//!
//! Leaves to others: the pool (`lease`).
#![allow(unsafe_code, reason = "writes entries that point to buffers")]

use annulus_sys::abi::Sqe;

use super::target::Target;
use super::{Done, Offset, Op, Outcome, RingId};
use crate::buf::{IoBuf, IoBufMut};
use crate::lease::FixedBuf;
use crate::prep;

/// Reads into a registered buffer, from its front. Since Linux 5.1; from the file's own position,
/// and from pipes and sockets, since Linux 5.6.
///
/// # Completion
///
/// Once, with how many bytes were read: fewer than there was room for at the end of a file, from a
/// pipe or a socket, or when a signal came; 0 at the end.
///
/// # Cancellation
///
/// A read that waits for data is cancelled; one that a device is busy with completes as usual.
#[doc(alias = "IORING_OP_READ_FIXED")]
#[doc(alias = "io_uring_prep_read_fixed")]
#[derive(Debug)]
pub struct ReadFixed<F> {
    fd: F,
    buf: FixedBuf,
    offset: Offset,
    limit: u32,
    offered: u32,
}

impl<F> ReadFixed<F> {
    /// Reads from the file's own position, as much as the buffer holds.
    pub fn new(fd: F, buf: FixedBuf) -> Self {
        Self { fd, buf, offset: Offset::Current, limit: u32::MAX, offered: 0 }
    }

    /// Reads from `offset` bytes after the start.
    pub fn at(self, offset: u64) -> Self {
        Self { offset: Offset::At(offset), ..self }
    }

    /// Reads `bytes` at most.
    pub fn up_to(self, bytes: u32) -> Self {
        Self { limit: bytes, ..self }
    }
}

// SAFETY: OP1: the address is of `buf`, borrowed in place, and the descriptor of `fd`; the number
// of the buffer is of the ring that `belongs_to` compares. It completes once, and `count` bounds
// what counts as written.
unsafe impl<F: Target> Op for ReadFixed<F> {
    type Output = Outcome<usize, F, FixedBuf>;

    #[inline]
    fn belongs_to(&self, ring: RingId) -> bool {
        self.fd.belongs_to(ring) && self.buf.ring() == ring
    }

    #[inline]
    fn prep(&mut self) -> Sqe {
        let region = self.buf.region_mut();
        self.offered = region.transfer().min(self.limit);
        let (addr, offset) = (region.addr(), self.offset.raw());
        self.fd.aim(prep::read_fixed(-1, addr, self.offered, offset, self.buf.index()))
    }

    #[inline]
    fn finish(mut self, done: Done) -> Self::Output {
        let result = done.count(self.offered);
        if let Ok(count) = result {
            // SAFETY: the kernel has written so many bytes of the region (OP1).
            unsafe { self.buf.set_filled(count) };
        }
        Outcome { result, fd: self.fd, buf: self.buf }
    }
}

/// Writes what is filled of a registered buffer. Since Linux 5.1; at the file's own position, and
/// to pipes and sockets, since Linux 5.6.
///
/// # Completion
///
/// Once, with how many bytes were written; fewer than there are when a device is full, or to a pipe
/// or a socket.
///
/// # Cancellation
///
/// A write that waits for room is cancelled; one that a device is busy with completes as usual.
#[doc(alias = "IORING_OP_WRITE_FIXED")]
#[doc(alias = "io_uring_prep_write_fixed")]
#[derive(Debug)]
pub struct WriteFixed<F> {
    fd: F,
    buf: FixedBuf,
    offset: Offset,
    offered: u32,
}

impl<F> WriteFixed<F> {
    /// Writes at the file's own position.
    pub fn new(fd: F, buf: FixedBuf) -> Self {
        Self { fd, buf, offset: Offset::Current, offered: 0 }
    }

    /// Writes from `offset` bytes after the start.
    pub fn at(self, offset: u64) -> Self {
        Self { offset: Offset::At(offset), ..self }
    }
}

// SAFETY: OP1: the address is of `buf`, borrowed in place, and the descriptor of `fd`; the number
// of the buffer is of the ring that `belongs_to` compares. It completes once.
unsafe impl<F: Target> Op for WriteFixed<F> {
    type Output = Outcome<usize, F, FixedBuf>;

    #[inline]
    fn belongs_to(&self, ring: RingId) -> bool {
        self.fd.belongs_to(ring) && self.buf.ring() == ring
    }

    #[inline]
    fn prep(&mut self) -> Sqe {
        let region = self.buf.region();
        self.offered = region.transfer();
        let (addr, offset) = (region.addr(), self.offset.raw());
        self.fd.aim(prep::write_fixed(-1, addr, self.offered, offset, self.buf.index()))
    }

    #[inline]
    fn finish(self, done: Done) -> Self::Output {
        Outcome { result: done.count(self.offered), fd: self.fd, buf: self.buf }
    }
}

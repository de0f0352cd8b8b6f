//! Reads and writes with registered buffers.
//!
//! ```text
//!   ReadFixed { fd, buf: FixedBuf }   ─►  READ_FIXED    addr, len   in the registered buffer
//!   WriteFixed { fd, buf: FixedBuf }  ─►  WRITE_FIXED   addr, len   with index `buf_index`
//! ```
//!
//! The kernel checks that address and length lie in the buffer with that index. Keeps OP1: the
//! operation owns the lease, so the buffer is not handed out again meanwhile.
//!
//! Leaves to others: the pool (`lease`).
#![allow(unsafe_code, reason = "writes entries that point to buffers")]

use annulus_sys::abi::Sqe;

use crate::buf::{IoBuf, IoBufMut};
use crate::lease::FixedBuf;
use crate::op::target::Target;
use crate::op::{Done, Offset, Op, Outcome, RingId};
use crate::prep;

/// Reads into a registered buffer, from its start. Since Linux 5.1; from the file's own position,
/// and from pipes and sockets, since Linux 5.6.
///
/// The buffer is filled from its front, as far as [`up_to`](Self::up_to) or its size lets it;
/// afterwards its filled length is the number of bytes read.
///
/// Registering pins the pages once, and not with each operation. That saves most where the device
/// writes to them itself (`O_DIRECT`); what goes through the page cache is copied anyway.
///
/// # Completion
///
/// Once, with the number of bytes read. That is less than the buffer's room at the end of a file,
/// from a pipe or a socket, or after a signal; it is 0 at the end. A short read breaks a chain.
///
/// # Cancellation
///
/// As [`Read`](crate::op::Read): a read that waits for data is cancelled, and a read that a device
/// is busy with completes as usual.
///
/// # Errors
///
/// As [`Read`](crate::op::Read), but a buffer always has room; `up_to(0)` completes with 0. A
/// buffer of another ring is [rejected](crate::Rejection::OtherRing).
///
/// # Example
///
/// ```
/// use annulus::Setup;
/// use annulus::op::{ReadFixed, WriteFixed};
/// use std::fs::File;
///
/// let mut ring = Setup::new(4).build()?;
/// let pool = ring.fixed_pool(1, 4096)?; // One buffer, of a page.
/// let page = pool.get().expect("it is free");
/// let read = ReadFixed::new(File::open("/proc/self/exe")?, page).at(1).up_to(3);
/// let read = ring.submit(read)?;
/// let (count, page) = ring.wait(read)?.ok()?;
/// assert_eq!((count, &page[..]), (3, &b"ELF"[..]));
///
/// let (_reader, writer) = std::io::pipe()?;
/// let write = ring.submit(WriteFixed::new(writer, page))?; // What is filled: three bytes.
/// assert_eq!(ring.wait(write)?.result?, 3); // The outcome is dropped, so the pool has it again.
/// assert!(pool.get().is_some());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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

    /// Reads from `offset` bytes after the start of the file.
    pub fn at(self, offset: u64) -> Self {
        Self { offset: Offset::At(offset), ..self }
    }

    /// Reads at most this many `bytes`.
    pub fn up_to(self, bytes: u32) -> Self {
        Self { limit: bytes, ..self }
    }
}

// SAFETY: OP1: the address is of `buf`, borrowed in place, and the descriptor is of `fd`; the
// buffer's index is of the ring that `belongs_to` compares. It completes once, and `count` bounds
// how many bytes count as written.
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
            // SAFETY: the kernel has written `count` bytes of the region (OP1).
            unsafe { self.buf.set_filled(count) };
        }
        Outcome { result, fd: self.fd, buf: self.buf }
    }
}

/// Writes the filled bytes of a registered buffer. Since Linux 5.1; at the file's own position, and
/// to pipes and sockets, since Linux 5.6.
///
/// It writes what is filled, from the front: [`set_len`](FixedBuf::set_len) says how much that is.
/// There is no way to leave out bytes at the front; [`WriteVFixed`](crate::op::WriteVFixed) takes
/// parts.
///
/// # Completion
///
/// Once, with the number of bytes written. That may be less than the buffer holds when a device is
/// full, or to a pipe or a socket. A short write breaks a chain.
///
/// # Cancellation
///
/// As [`Write`](crate::op::Write): a write that waits for room is cancelled, and a write that a
/// device is busy with completes as usual.
///
/// # Errors
///
/// As [`Write`](crate::op::Write). A buffer of another ring is
/// [rejected](crate::Rejection::OtherRing).
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

    /// Writes from `offset` bytes after the start of the file.
    pub fn at(self, offset: u64) -> Self {
        Self { offset: Offset::At(offset), ..self }
    }
}

// SAFETY: OP1: the address is of `buf`, borrowed in place, and the descriptor is of `fd`; the
// buffer's index is of the ring that `belongs_to` compares. It completes once.
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

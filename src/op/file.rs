//! Files: bytes in, bytes out.
#![allow(unsafe_code, reason = "writes entries that point to buffers")]


use annulus_sys::abi::Sqe;

use super::{Done, Op, Outcome, RingId};
use super::target::Target;
use crate::buf::{IoBuf, IoBufMut};
use crate::prep;

/// Where in a file to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Offset {
    /// At the file's own position, which moves along. What has none (a pipe, a socket) wants this.
    #[default]
    Current,
    /// So many bytes from the start; the file's own position stays.
    At(u64),
}

impl Offset {
    /// The number that the kernel is told.
    #[inline]
    pub(crate) fn raw(self) -> u64 {
        match self {
            Self::Current => u64::MAX,
            Self::At(offset) => offset,
        }
    }
}

/// Reads into a buffer. Since Linux 5.6.
///
/// # Completion
///
/// Once, with how many bytes were read: fewer than there was room for at the end of a file, from a
/// pipe or a socket, or when a signal came; 0 at the end.
///
/// # Cancellation
///
/// A read that waits for data is cancelled; one that a device is busy with completes as usual.
#[doc(alias = "IORING_OP_READ")]
#[doc(alias = "io_uring_prep_read")]
#[derive(Debug)]
pub struct Read<F, B> {
    fd: F,
    buf: B,
    offset: Offset,
    offered: u32,
}

impl<F, B> Read<F, B> {
    /// Reads from the file's own position.
    pub fn new(fd: F, buf: B) -> Self {
        Self { fd, buf, offset: Offset::Current, offered: 0 }
    }

    /// Reads from `offset` bytes after the start.
    pub fn at(self, offset: u64) -> Self {
        Self { offset: Offset::At(offset), ..self }
    }
}

// SAFETY: OP1: the address is of `buf`, borrowed in place, and the descriptor of `fd`. It completes
// once, and `count` bounds what counts as written.
unsafe impl<F: Target, B: IoBufMut> Op for Read<F, B> {
    type Output = Outcome<usize, F, B>;

    #[inline]
    fn belongs_to(&self, ring: RingId) -> bool {
        self.fd.belongs_to(ring)
    }

    #[inline]
    fn prep(&mut self) -> Sqe {
        let region = self.buf.region_mut();
        self.offered = region.transfer();
        let sqe = prep::read(-1, region.addr(), self.offered, self.offset.raw());
        self.fd.aim(sqe)
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

/// Writes a buffer. Since Linux 5.6.
///
/// # Completion
///
/// Once, with how many bytes were written; fewer than there are when a device is full, or to a pipe
/// or a socket.
///
/// # Cancellation
///
/// A write that waits for room is cancelled; one that a device is busy with completes as usual.
#[doc(alias = "IORING_OP_WRITE")]
#[doc(alias = "io_uring_prep_write")]
#[derive(Debug)]
pub struct Write<F, B> {
    fd: F,
    buf: B,
    offset: Offset,
    offered: u32,
}

impl<F, B> Write<F, B> {
    /// Writes at the file's own position.
    pub fn new(fd: F, buf: B) -> Self {
        Self { fd, buf, offset: Offset::Current, offered: 0 }
    }

    /// Writes from `offset` bytes after the start.
    pub fn at(self, offset: u64) -> Self {
        Self { offset: Offset::At(offset), ..self }
    }
}

// SAFETY: OP1: the address is of `buf`, borrowed in place, and the descriptor of `fd`. It completes
// once.
unsafe impl<F: Target, B: IoBuf> Op for Write<F, B> {
    type Output = Outcome<usize, F, B>;

    #[inline]
    fn belongs_to(&self, ring: RingId) -> bool {
        self.fd.belongs_to(ring)
    }

    #[inline]
    fn prep(&mut self) -> Sqe {
        let region = self.buf.region();
        self.offered = region.transfer();
        let sqe = prep::write(-1, region.addr(), self.offered, self.offset.raw());
        self.fd.aim(sqe)
    }

    #[inline]
    fn finish(self, done: Done) -> Self::Output {
        Outcome { result: done.count(self.offered), fd: self.fd, buf: self.buf }
    }
}

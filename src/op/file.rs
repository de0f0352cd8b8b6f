//! Files: bytes in, bytes out.
//!
//! ```text
//!   Read { fd, buf, offset, flags } ──► READ  fd, region_mut(buf), offset ──► so many bytes came
//!   Write { fd, buf, offset, flags } ─► WRITE fd, region(buf), offset ─────► so many bytes went
//! ```
//!
//! | transfer of | one operation, perhaps short | all of it |
//! |---|---|---|
//! | one buffer | [`Read`], [`Write`] | [`Ring::read_exact`], [`Ring::write_all`] |
//! | several | [`ReadV`](super::ReadV), [`WriteV`](super::WriteV) | |
//!
//! Keeps OP1: the buffer lies in the operation, and so does the file's owner. Leaves to others:
//! what a buffer is (`buf`), several of them (`vectored`), and going on after a short transfer
//! (`exact`).
//!
//! [`Ring::read_exact`]: crate::Ring::read_exact
//! [`Ring::write_all`]: crate::Ring::write_all
#![allow(unsafe_code, reason = "writes entries that point to buffers")]

use std::ops::BitOr;

use annulus_sys::abi::Sqe;

use super::target::Target;
use super::{Done, Op, Outcome, RingId};
use crate::buf::{IoBuf, IoBufMut};
use crate::prep;

/// What the kernel takes for the file's own position.
const CURRENT: u64 = u64::MAX;

/// Where in a file to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Offset {
    /// At the file's own position, which moves along. What has none (a pipe, a socket) wants this.
    #[default]
    Current,
    /// So many bytes from the start; the file's own position stays. The kernel refuses more than
    /// `i64::MAX` with `EINVAL`.
    At(u64),
}

impl Offset {
    /// The number that the kernel is told.
    #[inline]
    pub(crate) fn raw(self) -> u64 {
        match self {
            Self::Current => CURRENT,
            // Not the one number that would mean the file's own position. No file is as long, so
            // the kernel refuses this one as it would have the other.
            Self::At(offset) => offset.min(CURRENT - 1),
        }
    }

    /// `count` bytes further on.
    pub(crate) fn after(self, count: usize) -> Self {
        match self {
            Self::Current => Self::Current,
            Self::At(offset) => Self::At(offset.saturating_add(count as u64)),
        }
    }
}

/// How one transfer differs from others of its file, as in `preadv2(2)`. Combined with `|`.
///
/// There is no `HIPRI`: a ring that polls devices (`IOPOLL`) polls for every transfer, and any
/// other ring refuses the flag.
///
/// # Errors
///
/// A flag that the kernel does not know, or that the file cannot follow, makes the operation end
/// with `EOPNOTSUPP`.
#[doc(alias = "RWF")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RwFlags(u32);

impl RwFlags {
    /// The write is durable when it completes, with what is needed to read it back: `O_DSYNC` for
    /// one write. Since Linux 5.1.
    #[doc(alias = "RWF_DSYNC")]
    pub const DSYNC: Self = Self(0x2);
    /// The write is durable when it completes, with everything that is known of the file: `O_SYNC`
    /// for one write. Since Linux 5.1.
    #[doc(alias = "RWF_SYNC")]
    pub const SYNC: Self = Self(0x4);
    /// Ends with `EAGAIN` where it would have to wait: for data, for room, for a device. Since
    /// Linux 5.1.
    #[doc(alias = "RWF_NOWAIT")]
    pub const NOWAIT: Self = Self(0x8);
    /// Writes at the file's end, wherever the offset points. Since Linux 5.1.
    #[doc(alias = "RWF_APPEND")]
    pub const APPEND: Self = Self(0x10);
    /// Writes at the offset, also to a file that was opened for appending. Since Linux 6.9.
    #[doc(alias = "RWF_NOAPPEND")]
    pub const NOAPPEND: Self = Self(0x20);
    /// After a crash either all of the write is found, or none. The buffer must fit what
    /// `STATX_WRITE_ATOMIC` tells of the file. Since Linux 6.11.
    #[doc(alias = "RWF_ATOMIC")]
    pub const ATOMIC: Self = Self(0x40);
    /// Goes through the page cache, and leaves nothing there. Since Linux 6.14.
    #[doc(alias = "RWF_DONTCACHE")]
    pub const DONTCACHE: Self = Self(0x80);
    /// A write to a pipe that nobody reads ends with `EPIPE`, and no `SIGPIPE` is sent. Since Linux
    /// 6.18.
    #[doc(alias = "RWF_NOSIGNAL")]
    pub const NOSIGNAL: Self = Self(0x100);

    /// The flags that are the bits of `bits`, also ones that have no name here.
    pub const fn from_bits_retain(bits: u32) -> Self {
        Self(bits)
    }

    /// As the kernel is told.
    pub const fn bits(self) -> u32 {
        self.0
    }
}

impl BitOr for RwFlags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Reads into a buffer. Since Linux 5.6.
///
/// # Completion
///
/// Once, with how many bytes were read: fewer than there was room for at the end of a file, from a
/// pipe or a socket, or when a signal came; 0 at the end. A short read breaks a chain.
///
/// # Cancellation
///
/// A read that waits for data ends with `ECANCELED`; from Linux 5.8 to 5.13 with `EINTR`. One that
/// a device is busy with completes as usual.
///
/// # Errors
///
/// `EAGAIN` from a pipe that was opened with `O_NONBLOCK` and is empty, on Linux 5.8 to 5.11. On
/// others the read waits for data all the same.
#[doc(alias = "IORING_OP_READ")]
#[doc(alias = "io_uring_prep_read")]
#[derive(Debug)]
pub struct Read<F, B> {
    fd: F,
    buf: B,
    offset: Offset,
    flags: RwFlags,
    offered: u32,
}

impl<F, B> Read<F, B> {
    /// Reads from the file's own position.
    pub fn new(fd: F, buf: B) -> Self {
        Self { fd, buf, offset: Offset::Current, flags: RwFlags::default(), offered: 0 }
    }

    /// Reads from `offset` bytes after the start.
    pub fn at(self, offset: u64) -> Self {
        self.offset(Offset::At(offset))
    }

    /// Reads from `offset`.
    pub fn offset(self, offset: Offset) -> Self {
        Self { offset, ..self }
    }

    /// Reads as `flags` say.
    pub fn flags(self, flags: RwFlags) -> Self {
        Self { flags, ..self }
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
        self.fd.aim(Sqe { op_flags: self.flags.bits(), ..sqe })
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
/// Once, with how many bytes were written: fewer than there are when a device is full, or to a pipe
/// or a socket. A short write breaks a chain.
///
/// # Cancellation
///
/// A write that waits for room ends with `ECANCELED`; from Linux 5.8 to 5.13 with `EINTR`. One that
/// a device is busy with completes as usual.
///
/// # Errors
///
/// `EPIPE` from a pipe that nobody reads, after a `SIGPIPE` as for `write(2)`; Rust programs ignore
/// that, and [`RwFlags::NOSIGNAL`] prevents it. `EAGAIN` as for [`Read`].
#[doc(alias = "IORING_OP_WRITE")]
#[doc(alias = "io_uring_prep_write")]
#[derive(Debug)]
pub struct Write<F, B> {
    fd: F,
    buf: B,
    offset: Offset,
    flags: RwFlags,
    offered: u32,
}

impl<F, B> Write<F, B> {
    /// Writes at the file's own position.
    pub fn new(fd: F, buf: B) -> Self {
        Self { fd, buf, offset: Offset::Current, flags: RwFlags::default(), offered: 0 }
    }

    /// Writes from `offset` bytes after the start.
    pub fn at(self, offset: u64) -> Self {
        self.offset(Offset::At(offset))
    }

    /// Writes from `offset` on.
    pub fn offset(self, offset: Offset) -> Self {
        Self { offset, ..self }
    }

    /// Writes as `flags` say.
    pub fn flags(self, flags: RwFlags) -> Self {
        Self { flags, ..self }
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
        self.fd.aim(Sqe { op_flags: self.flags.bits(), ..sqe })
    }

    #[inline]
    fn finish(self, done: Done) -> Self::Output {
        Outcome { result: done.count(self.offered), fd: self.fd, buf: self.buf }
    }
}

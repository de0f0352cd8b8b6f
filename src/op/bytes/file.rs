//! Reads and writes with one buffer.
//!
//! ```text
//!   Read { fd, buf, offset, flags } ──► READ  fd, region_mut(buf), offset ──► bytes read
//!   Write { fd, buf, offset, flags } ─► WRITE fd, region(buf), offset ─────► bytes written
//! ```
//!
//! | transfer of | one operation, perhaps short | everything |
//! |---|---|---|
//! | one buffer | [`Read`], [`Write`] | [`Ring::read_exact`], [`Ring::write_all`] |
//! | several | [`ReadV`](crate::op::ReadV), [`WriteV`](crate::op::WriteV) | |
//!
//! Keeps OP1: the operation owns the buffer and the owner of the file. Leaves to others: buffers
//! (`buf`), several of them (`vectored`), and continuing after a short transfer (`exact`).
//!
//! [`Ring::read_exact`]: crate::Ring::read_exact
//! [`Ring::write_all`]: crate::Ring::write_all
#![allow(unsafe_code, reason = "writes entries that point to buffers")]

use std::ops::BitOr;

use annulus_sys::abi::Sqe;

use crate::buf::{IoBuf, IoBufMut};
use crate::op::target::Target;
use crate::op::{Done, NO_ROOM, Op, Outcome, RingId};
use crate::prep;

/// The offset that means the file's own position: the kernel reads it as -1.
const CURRENT: u64 = u64::MAX;

/// Where in a file to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Offset {
    /// At the file's own position, which then advances. Files without a position (pipes, sockets)
    /// need this.
    #[default]
    Current,
    /// At this many bytes from the start; the file's own position stays. The kernel refuses more
    /// than `i64::MAX` with `EINVAL`.
    At(u64),
}

impl Offset {
    /// The number that the kernel sees.
    #[inline]
    pub(crate) fn raw(self) -> u64 {
        match self {
            Self::Current => CURRENT,
            // `CURRENT` would mean the file's own position. No file is that long, so the kernel
            // refuses the next smaller offset just as it would have refused this one.
            Self::At(offset) => offset.min(CURRENT - 1),
        }
    }

    /// The offset `count` bytes later.
    pub(crate) fn after(self, count: usize) -> Self {
        match self {
            Self::Current => Self::Current,
            Self::At(offset) => Self::At(offset.saturating_add(count as u64)),
        }
    }
}

/// Flags of one read or write, as in `preadv2(2)`. Combined with `|`.
///
/// There is no `HIPRI`: a ring that polls devices (`IOPOLL`) polls for every transfer, and any
/// other ring refuses the flag.
///
/// # Errors
///
/// An operation with a flag that the kernel does not know, or that the file does not support, ends
/// with `EOPNOTSUPP`.
#[doc(alias = "RWF")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RwFlags(u32);

impl RwFlags {
    /// The write is durable when it completes, with the metadata that is needed to read it back:
    /// `O_DSYNC` for one write. Since Linux 5.1.
    #[doc(alias = "RWF_DSYNC")]
    pub const DSYNC: Self = Self(0x2);
    /// The write is durable when it completes, with all metadata: `O_SYNC` for one write. Since
    /// Linux 5.1.
    #[doc(alias = "RWF_SYNC")]
    pub const SYNC: Self = Self(0x4);
    /// Ends with `EAGAIN` instead of waiting for data, for room, or for a device. Since Linux 5.1.
    #[doc(alias = "RWF_NOWAIT")]
    pub const NOWAIT: Self = Self(0x8);
    /// Writes at the end of the file, whatever the offset. Since Linux 5.1.
    #[doc(alias = "RWF_APPEND")]
    pub const APPEND: Self = Self(0x10);
    /// Writes at the offset, even to a file that was opened for appending. Since Linux 6.9.
    #[doc(alias = "RWF_NOAPPEND")]
    pub const NOAPPEND: Self = Self(0x20);
    /// After a crash, the file has either all of the write or none of it. The buffer must meet the
    /// limits of the file: [`Stat::atomic_write`](crate::op::Stat::atomic_write). Since Linux 6.11.
    #[doc(alias = "RWF_ATOMIC")]
    pub const ATOMIC: Self = Self(0x40);
    /// Goes through the page cache without leaving pages there. Since Linux 6.14.
    #[doc(alias = "RWF_DONTCACHE")]
    pub const DONTCACHE: Self = Self(0x80);
    /// A write to a pipe without a reader ends with `EPIPE`, and sends no `SIGPIPE`. Since Linux
    /// 6.18.
    #[doc(alias = "RWF_NOSIGNAL")]
    pub const NOSIGNAL: Self = Self(0x100);

    /// The flags with these bits, including bits that have no name here.
    pub const fn from_bits_retain(bits: u32) -> Self {
        Self(bits)
    }

    /// The bits that the kernel sees.
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

/// Reads into a buffer, as `pread(2)` or `read(2)`. Since Linux 5.6.
///
/// A vector is filled from its front, over its whole capacity: what it held is overwritten, and its
/// length is then the number of bytes. To read behind what it holds, wrap it in an
/// [`Append`](crate::buf::Append).
///
/// Without [`at`](Self::at) the file's own position decides where it begins, and moves. Two such
/// reads in flight on one file have no order, so nobody knows which one gets which bytes: give each
/// an offset. A pipe or a socket ignores the offset.
///
/// What is in the page cache is copied while the ring submits, on the thread that submits: a
/// hundred such reads in one submit are a hundred copies before it returns. [`forced`](Op::forced)
/// moves one elsewhere.
///
/// # Completion
///
/// Once, with the number of bytes read. That is less than the buffer's room at the end of a file,
/// from a pipe or a socket, or after a signal; it is 0 at the end. A short read breaks a chain.
///
/// # Cancellation
///
/// A read that waits for data ends with `ECANCELED`; from Linux 5.8 to 5.13 with `EINTR`. A read
/// that a device is busy with completes as usual. Linux 6.1 was seen to end a read of a pipe that
/// waited in a worker thread with `EINTR`, although nobody had cancelled it: submit it again.
///
/// # Errors
///
/// `EISDIR` for a directory, `EBADF` for a descriptor that was not opened for reading, `EINVAL` for
/// an offset beyond what the kernel can count. With `O_DIRECT`, `EINVAL` for an address, an offset
/// or a length that the device cannot take: see [`AlignedBuf`](crate::buf::AlignedBuf). `EIO` when
/// the device fails.
///
/// `EAGAIN` from an empty pipe that was opened with `O_NONBLOCK`, on Linux 5.8 to 5.11. On other
/// kernels the read waits for data anyway. A buffer without room is
/// [rejected](crate::Rejection::Invalid), because its 0 would look like the end.
///
/// # Example
///
/// ```
/// use annulus::{Setup, op};
/// use std::fs::File;
///
/// let mut ring = Setup::new(8).build()?;
/// let program = File::open("/proc/self/exe")?;
/// let read = ring.submit(op::Read::new(program, Vec::with_capacity(3)).at(1))?;
/// let (count, buf) = ring.wait(read)?.ok()?;
/// assert_eq!((count, &buf[..]), (3, &b"ELF"[..])); // A read fills the capacity of a vector.
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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

    /// Reads from `offset` bytes after the start of the file.
    pub fn at(self, offset: u64) -> Self {
        self.offset(Offset::At(offset))
    }

    /// Reads from `offset`.
    pub fn offset(self, offset: Offset) -> Self {
        Self { offset, ..self }
    }

    /// Sets the flags of this read.
    pub fn flags(self, flags: RwFlags) -> Self {
        Self { flags, ..self }
    }
}

// SAFETY: OP1: the address is of `buf`, borrowed in place, and the descriptor is of `fd`. It
// completes once, and `count` bounds how many bytes count as written.
unsafe impl<F: Target, B: IoBufMut> Op for Read<F, B> {
    type Output = Outcome<usize, F, B>;

    #[inline]
    fn belongs_to(&self, ring: RingId) -> bool {
        self.fd.belongs_to(ring)
    }

    fn is_offered_whole(&mut self) -> bool {
        self.buf.region_mut().is_one_transfer()
    }

    #[inline]
    fn refusal(&mut self) -> Option<&'static str> {
        self.buf.region_mut().is_empty().then_some(NO_ROOM)
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
            // SAFETY: the kernel has written `count` bytes of the region (OP1).
            unsafe { self.buf.set_filled(count) };
        }
        Outcome { result, fd: self.fd, buf: self.buf }
    }
}

/// Writes a buffer, as `pwrite(2)` or `write(2)`. Since Linux 5.6.
///
/// What is written are the filled bytes: of a vector its length, not its capacity. An empty buffer
/// completes with 0.
///
/// Without [`at`](Self::at) it writes at the file's own position, where two writes in flight have
/// no order. A file that was opened for appending ignores the offset: it writes at the end,
/// [`RwFlags::NOAPPEND`] aside.
///
/// A blocking pipe makes `write(2)` wait until all is written; here the write is short. Of a
/// megabyte for an empty pipe the result is what the pipe holds: 64 KiB (seen on 6.18).
/// [`Ring::write_all`](crate::Ring::write_all) goes on.
///
/// Success means that the page cache has the bytes, and not the device: see
/// [`Fsync`](crate::op::Fsync) and [`RwFlags::DSYNC`].
///
/// # Completion
///
/// Once, with the number of bytes written. That may be less than the buffer holds when a device is
/// full, or to a pipe or a socket. A short write breaks a chain.
///
/// # Cancellation
///
/// A write that waits for room ends with `ECANCELED`; from Linux 5.8 to 5.13 with `EINTR`. A write
/// that a device is busy with completes as usual.
///
/// # Errors
///
/// `EBADF` for a descriptor that was not opened for writing. `ENOSPC` and `EDQUOT` when there is no
/// room, `EFBIG` beyond the largest file. With `O_DIRECT`, `EINVAL` as for [`Read`]. `EIO` when the
/// device fails.
///
/// `EPIPE` from a pipe without a reader, after a `SIGPIPE` as for `write(2)`. Rust programs ignore
/// that signal, and [`RwFlags::NOSIGNAL`] prevents it. `EAGAIN` as for [`Read`].
///
/// # Example
///
/// ```
/// use annulus::{Setup, op};
/// use std::io::Read;
///
/// let mut ring = Setup::new(8).build()?;
/// let (mut reader, writer) = std::io::pipe()?;
/// let write = ring.submit(op::Write::new(writer, String::from("hello")))?;
/// let (count, text) = ring.wait(write)?.ok()?; // The writer is dropped here.
/// assert_eq!((count, &text[..]), (5, "hello"));
/// let mut received = String::new();
/// reader.read_to_string(&mut received)?;
/// assert_eq!(received, "hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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

    /// Writes from `offset` bytes after the start of the file.
    pub fn at(self, offset: u64) -> Self {
        self.offset(Offset::At(offset))
    }

    /// Writes at `offset`.
    pub fn offset(self, offset: Offset) -> Self {
        Self { offset, ..self }
    }

    /// Sets the flags of this write.
    pub fn flags(self, flags: RwFlags) -> Self {
        Self { flags, ..self }
    }
}

// SAFETY: OP1: the address is of `buf`, borrowed in place, and the descriptor is of `fd`. It
// completes once.
unsafe impl<F: Target, B: IoBuf> Op for Write<F, B> {
    type Output = Outcome<usize, F, B>;

    #[inline]
    fn belongs_to(&self, ring: RingId) -> bool {
        self.fd.belongs_to(ring)
    }

    fn is_offered_whole(&mut self) -> bool {
        self.buf.region().is_one_transfer()
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

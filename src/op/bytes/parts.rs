//! Reads and writes with several parts of one registered buffer.
//!
//! ```text
//!   FixedBuf, filled   │ head │      │ body         │    │ tail │
//!                        0..4          16..100            120..124
//!   table, in the slot │ addr, 4 │ addr, 84 │ addr, 4 │
//!                          ▲
//!   WRITEV_FIXED addr ─────┘  `buf_index`
//! ```
//!
//! The kernel checks that each part lies in the buffer with that index. Parts are ranges of the
//! filled bytes, so a read overwrites and never appends: to read into the whole buffer, fill it
//! first ([`FixedBuf::set_len`]).
//!
//! Keeps OP1: the operation owns the lease and the table. Leaves to others: the pool (`lease`), and
//! a single part (`fixed`).
#![allow(unsafe_code, reason = "writes entries that point to buffers")]

use std::ops::Range;

use annulus_sys::abi::Sqe;

use crate::buf::{IoBufMut, IoVec, MAX_TRANSFER, total};
use crate::lease::FixedBuf;
use crate::op::target::Target;
use crate::op::{Done, Offset, Op, Outcome, RingId, RwFlags};
use crate::prep;

/// Where in a buffer a part lies.
#[derive(Debug, Clone, Copy)]
struct Part {
    start: u32,
    len: u32,
}

/// A registered buffer, and parts of it.
#[derive(Debug)]
struct Parts<const N: usize> {
    buf: FixedBuf,
    parts: [Part; N],
    table: [IoVec; N],
    offered: u32,
}

/// The table as the entry names it.
struct Named {
    table: u64,
    count: u32,
}

impl<const N: usize> Parts<N> {
    #[track_caller]
    fn new(buf: FixedBuf, parts: [Range<usize>; N]) -> Self {
        const { assert!(N <= 1024, "the kernel takes 1024 parts at most (UIO_MAXIOV)") };
        let filled = buf.len();
        let parts = parts.map(|Range { start, end }| {
            assert!(start <= end, "a part that starts at {start} cannot end at {end}");
            assert!(end <= filled, "a part that ends at {end} is outside of {filled} filled bytes");
            let number = |at| u32::try_from(at).expect("a buffer has 1 GiB at most");
            Part { start: number(start), len: number(end - start) }
        });
        Self { buf, parts, table: [IoVec::EMPTY; N], offered: 0 }
    }

    /// Fills in the table at its final place.
    fn name(&mut self) -> Named {
        let front = self.buf.region_mut().addr();
        // The kernel refuses an empty part.
        let parts = self.parts.iter().filter(|part| part.len > 0);
        let mut count = 0;
        for (entry, part) in self.table.iter_mut().zip(parts) {
            *entry = IoVec::new(front + u64::from(part.start), part.len);
            count += 1;
        }
        let entries = &self.table[..count];
        self.offered = u32::try_from(total(entries)).map_or(MAX_TRANSFER, |n| n.min(MAX_TRANSFER));
        Named {
            table: self.table.as_ptr().expose_provenance() as u64,
            count: u32::try_from(count).expect("at most 1024 parts"),
        }
    }
}

/// Reads into parts of a registered buffer, one after the other. Since Linux 6.15.
///
/// It overwrites filled bytes and never appends: what is not filled cannot be named. Empty parts
/// are left out, since the kernel would refuse them.
///
/// # Completion
///
/// Once, with the total number of bytes read into all parts; [`Read`](crate::op::Read) says when
/// that is short. The filled length of the buffer does not change.
///
/// # Cancellation
///
/// As [`Read`](crate::op::Read).
///
/// # Errors
///
/// As [`ReadFixed`](crate::op::ReadFixed); and `EINVAL` before Linux 6.15.
///
/// # Example
///
/// ```
/// use annulus::Setup;
/// use annulus::op::{ReadVFixed, WriteVFixed};
///
/// let mut ring = Setup::new(4).build()?;
/// let pool = ring.fixed_pool(1, 64)?;
/// let (reader, writer) = std::io::pipe()?;
/// let mut buf = pool.get().expect("it is free");
/// buf.set_len(12);
/// buf.copy_from_slice(b"head, body\r\n");
/// let write = ring.submit(WriteVFixed::new(writer, buf, [0..4, 10..12]))?;
/// let outcome = ring.wait(write)?;
/// let Ok(6) = outcome.result else { return Ok(()) }; // Linux 6.15
/// let read = ring.submit(ReadVFixed::new(reader, outcome.buf, [6..10, 0..2]))?;
/// let outcome = ring.wait(read)?;
/// assert_eq!((outcome.result?, &outcome.buf[..]), (6, &b"\r\nad, head\r\n"[..]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias("IORING_OP_READV_FIXED", "io_uring_prep_readv_fixed"))]
#[derive(Debug)]
pub struct ReadVFixed<F, const N: usize> {
    fd: F,
    parts: Parts<N>,
    offset: Offset,
    flags: RwFlags,
}

impl<F, const N: usize> ReadVFixed<F, N> {
    /// Reads into `parts`, which are ranges of the filled bytes of `buf`, from the file's own
    /// position. A slot has room for eight parts.
    ///
    /// # Panics
    ///
    /// If a part does not lie inside the filled bytes, or ends before it starts.
    #[track_caller]
    pub fn new(fd: F, buf: FixedBuf, parts: [Range<usize>; N]) -> Self {
        let (offset, flags) = (Offset::Current, RwFlags::default());
        Self { fd, parts: Parts::new(buf, parts), offset, flags }
    }

    /// Reads from `offset` bytes after the start of the file.
    pub fn at(self, offset: u64) -> Self {
        Self { offset: Offset::At(offset), ..self }
    }

    /// Sets the flags of this read.
    pub fn flags(self, flags: RwFlags) -> Self {
        Self { flags, ..self }
    }
}

// SAFETY: OP1: the table lies in `parts`; its addresses are of the buffer, all initialised, whose
// lease lies there too; the descriptor is of `fd`; the buffer's index is of the ring that
// `belongs_to` compares. It completes once.
unsafe impl<F: Target, const N: usize> Op for ReadVFixed<F, N> {
    type Output = Outcome<usize, F, FixedBuf>;

    fn belongs_to(&self, ring: RingId) -> bool {
        self.fd.belongs_to(ring) && self.parts.buf.ring() == ring
    }

    fn prep(&mut self) -> Sqe {
        let (Named { table, count }, index) = (self.parts.name(), self.parts.buf.index());
        let (offset, flags) = (self.offset.raw(), self.flags.bits());
        self.fd.aim(prep::readv_fixed(-1, table, count, offset, flags, index))
    }

    fn finish(self, done: Done) -> Self::Output {
        Outcome { result: done.count(self.parts.offered), fd: self.fd, buf: self.parts.buf }
    }
}

/// Writes parts of a registered buffer, one after the other. Since Linux 6.15.
///
/// The parts may overlap, and are written in the order that they are named in. Empty parts are left
/// out, since the kernel would refuse them.
///
/// # Completion
///
/// Once, with the total number of bytes written from all parts; [`Write`](crate::op::Write) says
/// when that is short.
///
/// # Cancellation
///
/// As [`Write`](crate::op::Write).
///
/// # Errors
///
/// As [`WriteFixed`](crate::op::WriteFixed); and `EINVAL` before Linux 6.15.
#[doc(alias("IORING_OP_WRITEV_FIXED", "io_uring_prep_writev_fixed"))]
#[derive(Debug)]
pub struct WriteVFixed<F, const N: usize> {
    fd: F,
    parts: Parts<N>,
    offset: Offset,
    flags: RwFlags,
}

impl<F, const N: usize> WriteVFixed<F, N> {
    /// Writes `parts`, which are ranges of the filled bytes of `buf`, at the file's own position. A
    /// slot has room for eight parts.
    ///
    /// # Panics
    ///
    /// If a part does not lie inside the filled bytes, or ends before it starts.
    #[track_caller]
    pub fn new(fd: F, buf: FixedBuf, parts: [Range<usize>; N]) -> Self {
        let (offset, flags) = (Offset::Current, RwFlags::default());
        Self { fd, parts: Parts::new(buf, parts), offset, flags }
    }

    /// Writes from `offset` bytes after the start of the file.
    pub fn at(self, offset: u64) -> Self {
        Self { offset: Offset::At(offset), ..self }
    }

    /// Sets the flags of this write.
    pub fn flags(self, flags: RwFlags) -> Self {
        Self { flags, ..self }
    }
}

// SAFETY: OP1: the table lies in `parts`; its addresses are of the buffer whose lease lies there
// too; the descriptor is of `fd`; the buffer's index is of the ring that `belongs_to` compares. It
// completes once.
unsafe impl<F: Target, const N: usize> Op for WriteVFixed<F, N> {
    type Output = Outcome<usize, F, FixedBuf>;

    fn belongs_to(&self, ring: RingId) -> bool {
        self.fd.belongs_to(ring) && self.parts.buf.ring() == ring
    }

    fn prep(&mut self) -> Sqe {
        let (Named { table, count }, index) = (self.parts.name(), self.parts.buf.index());
        let (offset, flags) = (self.offset.raw(), self.flags.bits());
        self.fd.aim(prep::writev_fixed(-1, table, count, offset, flags, index))
    }

    fn finish(self, done: Done) -> Self::Output {
        Outcome { result: done.count(self.parts.offered), fd: self.fd, buf: self.parts.buf }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use super::*;
    use crate::op::PAYLOAD;

    #[test]
    fn a_slot_has_room_for_eight_parts() {
        assert!(size_of::<WriteVFixed<OwnedFd, 8>>() <= PAYLOAD);
        assert!(size_of::<WriteVFixed<OwnedFd, 9>>() > PAYLOAD);
    }
}

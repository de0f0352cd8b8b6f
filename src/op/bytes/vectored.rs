//! Reads and writes with several buffers (scatter and gather).
//!
//! ```text
//!   ReadV { fd, bufs: Scatter { bufs: (head, body), table } }       in the operation's slot
//!                                        ▲            │ addr, len │ of head
//!                                        └────────────│ addr, len │ of body
//!                                                           ▲
//!   READV fd, addr ─────────────────────────────────────────┘
//! ```
//!
//! | how many buffers | make it with | the table lies |
//! |---|---|---|
//! | a few | [`ReadV::new`], [`WriteV::new`] | in the slot |
//! | up to 1024 | [`ReadV::boxed`], [`WriteV::boxed`] | in a box that the caller provides and gets back |
//!
//! A slot has 256 bytes for the owners of the buffers, plus 16 for each table entry: five `Vec`s
//! fit, or a box of thirteen. Larger lists do not compile.
//!
//! Keeps OP1: buffers and table lie in the operation, or in a box that it owns. Leaves to others:
//! lists of buffers (`buf`), and a single buffer (`file`).
#![allow(unsafe_code, reason = "writes entries that point to buffers")]

mod rest;

use annulus_sys::abi::Sqe;

use crate::buf::{
    InitBufs, IoBufs, IoBufsMut, IoVec, MAX_TRANSFER, is_one_transfer, is_one_transfer_mut, total,
};
use crate::op::target::Target;
use crate::op::{Done, NO_ROOM, Offset, Op, Outcome, RingId, RwFlags};
use crate::prep;

/// Buffers to read into, together with the table of their addresses.
#[derive(Debug)]
pub struct Scatter<L: IoBufsMut> {
    bufs: L,
    table: L::Table,
}

/// Buffers to write, together with the table of their addresses.
#[derive(Debug)]
pub struct Gather<L: IoBufs> {
    bufs: L,
    table: L::Table,
}

impl<L: IoBufsMut> Scatter<L> {
    fn of(bufs: L) -> Self {
        Self { bufs, table: L::EMPTY }
    }

    /// Puts the buffers into a box, with room for the table. Reuse it with [`ReadV::boxed`].
    pub fn boxed(bufs: L) -> Box<Self> {
        Box::new(Self::of(bufs))
    }

    /// The buffers.
    pub fn bufs(&mut self) -> &mut L {
        &mut self.bufs
    }

    /// Returns the buffers.
    pub fn into_inner(self) -> L {
        self.bufs
    }
}

impl<L: IoBufs> Gather<L> {
    pub(in crate::op) fn of(bufs: L) -> Self {
        Self { bufs, table: L::EMPTY }
    }

    /// Puts the buffers into a box, with room for the table. Reuse it with [`WriteV::boxed`].
    pub fn boxed(bufs: L) -> Box<Self> {
        Box::new(Self::of(bufs))
    }

    /// The buffers.
    pub fn bufs(&mut self) -> &mut L {
        &mut self.bufs
    }

    /// Returns the buffers.
    pub fn into_inner(self) -> L {
        self.bufs
    }
}

/// The address of a table, its length, and how many bytes it offers.
#[derive(Debug, Clone, Copy)]
pub struct Table {
    pub(in crate::op) addr: u64,
    pub(in crate::op) count: u32,
    pub(in crate::op) bytes: u32,
}

impl Table {
    fn at(entries: &[IoVec]) -> Self {
        Self {
            addr: entries.as_ptr().expose_provenance() as u64,
            count: u32::try_from(entries.len()).expect("a list has at most 1024 buffers"),
            bytes: u32::try_from(total(entries)).unwrap_or(MAX_TRANSFER),
        }
    }
}

pub(crate) use rest::{GatherRest, ScatterRest};

mod sealed {
    use super::{Gather, GatherRest, InitBufs, IoBufs, IoBufsMut, Scatter, ScatterRest};

    pub trait Sealed {}
    impl<L: IoBufsMut> Sealed for Scatter<L> {}
    impl<L: IoBufsMut> Sealed for Box<Scatter<L>> {}
    impl<L: IoBufs> Sealed for Gather<L> {}
    impl<L: IoBufs> Sealed for Box<Gather<L>> {}
    impl<L: InitBufs> Sealed for ScatterRest<L> {}
    impl<L: IoBufs> Sealed for GatherRest<L> {}
}

/// The buffers of a [`ReadV`]: a [`Scatter`], or a box of one.
pub trait Scattered: sealed::Sealed {
    /// What the outcome returns.
    type Back;

    /// Fills in the table at its final place.
    #[doc(hidden)]
    fn table(&mut self) -> Table;

    /// Whether one operation can move all of their bytes.
    #[doc(hidden)]
    fn is_one_transfer(&mut self) -> bool {
        true
    }

    /// Records how many bytes the kernel has written.
    ///
    /// # Safety
    ///
    /// The first `count` bytes of the regions that [`table`](Self::table) last offered must have
    /// been written.
    #[doc(hidden)]
    unsafe fn set_filled(&mut self, count: usize);

    #[doc(hidden)]
    fn back(self) -> Self::Back;
}

/// The buffers of a [`WriteV`]: a [`Gather`], or a box of one.
pub trait Gathered: sealed::Sealed {
    /// What the outcome returns.
    type Back;

    /// Fills in the table at its final place.
    #[doc(hidden)]
    fn table(&mut self) -> Table;

    /// Whether one operation can move all of their bytes.
    #[doc(hidden)]
    fn is_one_transfer(&mut self) -> bool {
        true
    }

    #[doc(hidden)]
    fn back(self) -> Self::Back;
}

impl<L: IoBufsMut> Scattered for Scatter<L> {
    type Back = L;

    fn table(&mut self) -> Table {
        self.table = self.bufs.table_mut();
        Table::at(self.table.as_ref())
    }

    fn is_one_transfer(&mut self) -> bool {
        is_one_transfer_mut(&mut self.bufs)
    }

    unsafe fn set_filled(&mut self, count: usize) {
        let Self { bufs, table } = self;
        // SAFETY: as promised to `set_filled`; the table is the last one that the buffers gave.
        unsafe { bufs.set_filled(table, count as u64) };
    }

    fn back(self) -> L {
        self.bufs
    }
}

impl<L: IoBufsMut> Scattered for Box<Scatter<L>> {
    type Back = Self;

    fn table(&mut self) -> Table {
        (**self).table()
    }

    fn is_one_transfer(&mut self) -> bool {
        (**self).is_one_transfer()
    }

    unsafe fn set_filled(&mut self, count: usize) {
        // SAFETY: as promised to `set_filled`.
        unsafe { (**self).set_filled(count) };
    }

    fn back(self) -> Self {
        self
    }
}

impl<L: IoBufs> Gathered for Gather<L> {
    type Back = L;

    fn table(&mut self) -> Table {
        self.table = self.bufs.table();
        Table::at(self.table.as_ref())
    }

    fn is_one_transfer(&mut self) -> bool {
        is_one_transfer(&self.bufs)
    }

    fn back(self) -> L {
        self.bufs
    }
}

impl<L: IoBufs> Gathered for Box<Gather<L>> {
    type Back = Self;

    fn table(&mut self) -> Table {
        (**self).table()
    }

    fn is_one_transfer(&mut self) -> bool {
        (**self).is_one_transfer()
    }

    fn back(self) -> Self {
        self
    }
}

/// Reads into several buffers, one after the other, as `preadv2(2)`. Since Linux 5.1; from the
/// file's own position since Linux 5.6.
///
/// A buffer is full before the next gets a byte. At most 1024 buffers are offered at once, and the
/// rest stays as it is.
///
/// # Completion
///
/// Once, with the total number of bytes read; [`Read`](crate::op::Read) says when that is short.
/// Each buffer records its share.
///
/// # Cancellation
///
/// As [`Read`](crate::op::Read).
///
/// # Errors
///
/// As [`Read`](crate::op::Read).
///
/// # Example
///
/// ```
/// use annulus::Setup;
/// use annulus::op::{ReadV, WriteV};
///
/// let mut ring = Setup::new(4).build()?;
/// let (reader, writer) = std::io::pipe()?;
/// let write = ring.submit(WriteV::new(writer, ("head", vec![b'b'; 6])))?;
/// assert_eq!(ring.wait(write)?.result?, 10);
///
/// let read = ring.submit(ReadV::new(reader, ([0; 4], Vec::with_capacity(100))))?;
/// let (count, (head, body)) = ring.wait(read)?.ok()?;
/// assert_eq!((count, &head, &body[..]), (10, b"head", &b"bbbbbb"[..]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias("IORING_OP_READV", "io_uring_prep_readv", "io_uring_prep_readv2", "preadv"))]
#[derive(Debug)]
pub struct ReadV<F, S> {
    fd: F,
    bufs: S,
    offset: Offset,
    flags: RwFlags,
    offered: u32,
}

impl<F, L: IoBufsMut> ReadV<F, Scatter<L>> {
    /// Reads into a few buffers from the file's own position.
    pub fn new(fd: F, bufs: L) -> Self {
        Self::made(fd, Scatter::of(bufs))
    }
}

impl<F, L: IoBufsMut> ReadV<F, Box<Scatter<L>>> {
    /// Reads into any number of buffers from the file's own position.
    pub fn boxed(fd: F, bufs: Box<Scatter<L>>) -> Self {
        Self::made(fd, bufs)
    }
}

impl<F, S> ReadV<F, S> {
    fn made(fd: F, bufs: S) -> Self {
        Self { fd, bufs, offset: Offset::Current, flags: RwFlags::default(), offered: 0 }
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

// SAFETY: OP1: the table lies in `bufs`; its addresses are of buffers that lie there too and are
// borrowed in place; the descriptor is of `fd`. It completes once, and `count` bounds how many
// bytes count as written.
unsafe impl<F: Target, S: Scattered> Op for ReadV<F, S> {
    type Output = Outcome<usize, F, S::Back>;

    #[inline]
    fn belongs_to(&self, ring: RingId) -> bool {
        self.fd.belongs_to(ring)
    }

    fn is_offered_whole(&mut self) -> bool {
        self.bufs.is_one_transfer()
    }

    #[inline]
    fn refusal(&mut self) -> Option<&'static str> {
        (self.bufs.table().bytes == 0).then_some(NO_ROOM)
    }

    #[inline]
    fn prep(&mut self) -> Sqe {
        let Table { addr, count, bytes } = self.bufs.table();
        self.offered = bytes;
        self.fd.aim(prep::readv(-1, addr, count, self.offset.raw(), self.flags.bits()))
    }

    #[inline]
    fn finish(mut self, done: Done) -> Self::Output {
        let result = done.count(self.offered);
        if let Ok(count) = result {
            // SAFETY: the kernel has written `count` bytes of the regions that the table offered
            // (OP1).
            unsafe { self.bufs.set_filled(count) };
        }
        Outcome { result, fd: self.fd, buf: self.bufs.back() }
    }
}

/// Writes several buffers, one after the other, as `pwritev2(2)`. Since Linux 5.1; at the file's
/// own position since Linux 5.6.
///
/// On a pipe the bytes of one write may be split, and those of another come in between, when they
/// are more than 4096 (`PIPE_BUF`). At most 1024 buffers are offered at once.
///
/// # Completion
///
/// Once, with the total number of bytes written; [`Write`](crate::op::Write) says when that is
/// short.
///
/// # Cancellation
///
/// As [`Write`](crate::op::Write).
///
/// # Errors
///
/// As [`Write`](crate::op::Write).
#[doc(alias("IORING_OP_WRITEV", "io_uring_prep_writev", "io_uring_prep_writev2", "pwritev"))]
#[derive(Debug)]
pub struct WriteV<F, G> {
    fd: F,
    bufs: G,
    offset: Offset,
    flags: RwFlags,
    offered: u32,
}

impl<F, L: IoBufs> WriteV<F, Gather<L>> {
    /// Writes a few buffers at the file's own position.
    pub fn new(fd: F, bufs: L) -> Self {
        Self::made(fd, Gather::of(bufs))
    }
}

impl<F, L: IoBufs> WriteV<F, Box<Gather<L>>> {
    /// Writes any number of buffers at the file's own position.
    pub fn boxed(fd: F, bufs: Box<Gather<L>>) -> Self {
        Self::made(fd, bufs)
    }
}

impl<F, G> WriteV<F, G> {
    fn made(fd: F, bufs: G) -> Self {
        Self { fd, bufs, offset: Offset::Current, flags: RwFlags::default(), offered: 0 }
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

// SAFETY: OP1: the table lies in `bufs`; its addresses are of buffers that lie there too and are
// borrowed in place; the descriptor is of `fd`. It completes once.
unsafe impl<F: Target, G: Gathered> Op for WriteV<F, G> {
    type Output = Outcome<usize, F, G::Back>;

    #[inline]
    fn belongs_to(&self, ring: RingId) -> bool {
        self.fd.belongs_to(ring)
    }

    fn is_offered_whole(&mut self) -> bool {
        self.bufs.is_one_transfer()
    }

    #[inline]
    fn prep(&mut self) -> Sqe {
        let Table { addr, count, bytes } = self.bufs.table();
        self.offered = bytes;
        self.fd.aim(prep::writev(-1, addr, count, self.offset.raw(), self.flags.bits()))
    }

    #[inline]
    fn finish(self, done: Done) -> Self::Output {
        let result = done.count(self.offered);
        Outcome { result, fd: self.fd, buf: self.bufs.back() }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use super::*;
    use crate::op::PAYLOAD;

    #[test]
    fn as_many_buffers_fit_into_a_slot_as_the_head_of_this_file_says() {
        let inline = |count| 32 + count * (size_of::<Vec<u8>>() + size_of::<IoVec>());
        assert_eq!(size_of::<ReadV<OwnedFd, Scatter<[Vec<u8>; 4]>>>(), inline(4));
        assert_eq!(size_of::<WriteV<OwnedFd, Gather<[Vec<u8>; 4]>>>(), inline(4));
        assert!(inline(5) <= PAYLOAD && inline(6) > PAYLOAD);
        assert!(size_of::<ReadV<OwnedFd, Scatter<Box<[Vec<u8>; 13]>>>>() <= PAYLOAD);
        assert!(size_of::<ReadV<OwnedFd, Scatter<Box<[Vec<u8>; 14]>>>>() > PAYLOAD);
        assert!(size_of::<ReadV<OwnedFd, Box<Scatter<[Vec<u8>; 1024]>>>>() <= PAYLOAD);
    }
}

//! Files, several buffers at a time.
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
//! | up to 1024 | [`ReadV::boxed`], [`WriteV::boxed`] | in a box that is handed in, and comes back |
//!
//! A slot has 192 bytes, for the buffers' owners and 16 each for their places: four vectors fit, or
//! a box of nine. What does not fit does not compile.
//!
//! Keeps OP1: buffers and table lie in the operation, or in a box that it owns. Leaves to others:
//! what a list of buffers is (`buf`), and one buffer (`file`).
#![allow(unsafe_code, reason = "writes entries that point to buffers")]

use annulus_sys::abi::Sqe;

use super::target::Target;
use super::{Done, Offset, Op, Outcome, RingId, RwFlags};
use crate::buf::{IoBufs, IoBufsMut, IoVec, MAX_TRANSFER, total};
use crate::prep;

/// Buffers to be written to, beside the table of where they are.
#[derive(Debug)]
pub struct Scatter<L: IoBufsMut> {
    bufs: L,
    table: L::Table,
}

/// Buffers to be read from, beside the table of where they are.
#[derive(Debug)]
pub struct Gather<L: IoBufs> {
    bufs: L,
    table: L::Table,
}

impl<L: IoBufsMut> Scatter<L> {
    fn of(bufs: L) -> Self {
        Self { bufs, table: L::EMPTY }
    }

    /// Puts the buffers into a box, with room for the table: for [`ReadV::boxed`], again and again.
    pub fn boxed(bufs: L) -> Box<Self> {
        Box::new(Self::of(bufs))
    }

    /// The buffers.
    pub fn bufs(&mut self) -> &mut L {
        &mut self.bufs
    }

    /// Gives the buffers back.
    pub fn into_inner(self) -> L {
        self.bufs
    }
}

impl<L: IoBufs> Gather<L> {
    pub(super) fn of(bufs: L) -> Self {
        Self { bufs, table: L::EMPTY }
    }

    /// Puts the buffers into a box, with room for the table: for [`WriteV::boxed`], again and
    /// again.
    pub fn boxed(bufs: L) -> Box<Self> {
        Box::new(Self::of(bufs))
    }

    /// The buffers.
    pub fn bufs(&mut self) -> &mut L {
        &mut self.bufs
    }

    /// Gives the buffers back.
    pub fn into_inner(self) -> L {
        self.bufs
    }
}

/// Where a table lies, and what it offers.
#[derive(Debug, Clone, Copy)]
pub struct Table {
    pub(super) addr: u64,
    pub(super) count: u32,
    pub(super) bytes: u32,
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

mod sealed {
    use super::{Gather, IoBufs, IoBufsMut, Scatter};

    pub trait Sealed {}
    impl<L: IoBufsMut> Sealed for Scatter<L> {}
    impl<L: IoBufsMut> Sealed for Box<Scatter<L>> {}
    impl<L: IoBufs> Sealed for Gather<L> {}
    impl<L: IoBufs> Sealed for Box<Gather<L>> {}
}

/// What a [`ReadV`] reads into: a [`Scatter`], or a box of one.
pub trait Scattered: sealed::Sealed {
    /// What comes back.
    type Back;

    /// Makes the table where it stays.
    #[doc(hidden)]
    fn table(&mut self) -> Table;

    /// Takes note of what the kernel wrote.
    ///
    /// # Safety
    ///
    /// The first `count` bytes of what [`table`](Self::table) last offered must have been written.
    #[doc(hidden)]
    unsafe fn set_filled(&mut self, count: usize);

    #[doc(hidden)]
    fn back(self) -> Self::Back;
}

/// What a [`WriteV`] writes: a [`Gather`], or a box of one.
pub trait Gathered: sealed::Sealed {
    /// What comes back.
    type Back;

    /// Makes the table where it stays.
    #[doc(hidden)]
    fn table(&mut self) -> Table;

    #[doc(hidden)]
    fn back(self) -> Self::Back;
}

impl<L: IoBufsMut> Scattered for Scatter<L> {
    type Back = L;

    fn table(&mut self) -> Table {
        self.table = self.bufs.table_mut();
        Table::at(self.table.as_ref())
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

    fn back(self) -> L {
        self.bufs
    }
}

impl<L: IoBufs> Gathered for Box<Gather<L>> {
    type Back = Self;

    fn table(&mut self) -> Table {
        (**self).table()
    }

    fn back(self) -> Self {
        self
    }
}

/// Reads into several buffers, one after the other. Since Linux 5.1; from the file's own position
/// since Linux 5.6.
///
/// # Completion
///
/// Once, with how many bytes were read into all of them together. Each buffer shows its share. What
/// else is to be said of the count stands at [`Read`](super::Read).
///
/// # Cancellation
///
/// As [`Read`](super::Read).
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
#[doc(alias("IORING_OP_READV", "io_uring_prep_readv", "preadv"))]
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

// SAFETY: OP1: the table lies in `bufs`, its addresses are of buffers that lie there too and are
// borrowed in place, and the descriptor is of `fd`. It completes once, and `count` bounds what
// counts as written.
unsafe impl<F: Target, S: Scattered> Op for ReadV<F, S> {
    type Output = Outcome<usize, F, S::Back>;

    #[inline]
    fn belongs_to(&self, ring: RingId) -> bool {
        self.fd.belongs_to(ring)
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
            // SAFETY: the kernel has written so many bytes of what the table offered (OP1).
            unsafe { self.bufs.set_filled(count) };
        }
        Outcome { result, fd: self.fd, buf: self.bufs.back() }
    }
}

/// Writes several buffers, one after the other. Since Linux 5.1; at the file's own position since
/// Linux 5.6.
///
/// # Completion
///
/// Once, with how many bytes of all of them together were written. What else is to be said of the
/// count stands at [`Write`](super::Write).
///
/// # Cancellation
///
/// As [`Write`](super::Write).
#[doc(alias("IORING_OP_WRITEV", "io_uring_prep_writev", "pwritev"))]
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

// SAFETY: OP1: the table lies in `bufs`, its addresses are of buffers that lie there too and are
// borrowed in place, and the descriptor is of `fd`. It completes once.
unsafe impl<F: Target, G: Gathered> Op for WriteV<F, G> {
    type Output = Outcome<usize, F, G::Back>;

    #[inline]
    fn belongs_to(&self, ring: RingId) -> bool {
        self.fd.belongs_to(ring)
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
    use crate::inflight::PAYLOAD;

    #[test]
    fn as_many_buffers_fit_into_a_slot_as_the_head_of_this_file_says() {
        let inline = |count| 32 + count * (size_of::<Vec<u8>>() + size_of::<IoVec>());
        assert_eq!(size_of::<ReadV<OwnedFd, Scatter<[Vec<u8>; 4]>>>(), inline(4));
        assert_eq!(size_of::<WriteV<OwnedFd, Gather<[Vec<u8>; 4]>>>(), inline(4));
        assert!(inline(4) <= PAYLOAD && inline(5) > PAYLOAD);
        assert!(size_of::<ReadV<OwnedFd, Scatter<Box<[Vec<u8>; 9]>>>>() <= PAYLOAD);
        assert!(size_of::<ReadV<OwnedFd, Scatter<Box<[Vec<u8>; 10]>>>>() > PAYLOAD);
        assert!(size_of::<ReadV<OwnedFd, Box<Scatter<[Vec<u8>; 1024]>>>>() <= PAYLOAD);
    }
}

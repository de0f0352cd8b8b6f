//! Several buffers in one operation.
//!
//! ```text
//!   ReadV { bufs: (head, body, rest) }           table, in the operation's slot
//!                   │                            ┌──────┬─────┐
//!                   ├─ head.region_mut() ──────► │ addr │   4 │ ◄── filled first
//!                   ├─ body.region_mut() ──────► │ addr │ 100 │
//!                   └─ rest.region_mut() ──────► │ addr │ 400 │     the kernel says 150:
//!                                                └──────┴─────┘     4 + 100 + 46
//! ```
//!
//! The table is made from borrows of the buffers when these are where they stay, and lies beside
//! them (OP1). Nobody can hand us a table of theirs; [`IoBufs`] says why.
//!
//! Leaves to others: where the table lies and when the kernel has done with it (`op`).
//!
//! # Safety
//!
//! Lengths in a table never exceed those of the regions that it was made from, and `set_filled`
//! never tells a buffer of more bytes than its entry has.
#![allow(unsafe_code, reason = "says which bytes of which buffer the kernel has written")]

use super::{IoBuf, IoBufMut, MAX_TRANSFER, Region, RegionMut};

/// `struct iovec`: where a buffer is and how many bytes of it the operation may move.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct IoVec {
    /// `iov_base`.
    addr: u64,
    /// `iov_len`.
    len: u64,
}

const _: () = {
    assert!(size_of::<IoVec>() == size_of::<libc::iovec>());
    assert!(align_of::<IoVec>() == align_of::<libc::iovec>());
    assert!(std::mem::offset_of!(IoVec, addr) == std::mem::offset_of!(libc::iovec, iov_base));
    assert!(std::mem::offset_of!(IoVec, len) == std::mem::offset_of!(libc::iovec, iov_len));
};

impl IoVec {
    /// Points to nothing.
    pub(crate) const EMPTY: Self = Self { addr: 0, len: 0 };

    /// Points to `len` bytes at `addr`.
    pub(crate) fn new(addr: u64, len: u32) -> Self {
        Self { addr, len: u64::from(len) }
    }
}

/// How many bytes a table gives the kernel. At most [`MAX_TRANSFER`].
pub(crate) fn total(table: &[IoVec]) -> u64 {
    table.iter().map(|entry| entry.len).sum()
}

/// Several buffers that one operation reads from, in order: an array of one kind, a tuple of two
/// to four kinds, or a box of these.
///
/// The kernel takes no more than 1024 of them (`UIO_MAXIOV`), so a longer array does not compile.
/// Together they give at most [`MAX_TRANSFER`] bytes; what lies behind that shows as a short
/// transfer.
///
/// # No iovec
///
/// There is no way to pass an `iovec`, nor to implement this trait. An `iovec` is a pointer that
/// travels as data: it names memory and neither owns nor borrows it, so safe code could make one,
/// free the memory, and have the kernel read what is there by then. Here each buffer is moved into
/// the operation, and the table is made from borrows of them, where they stay.
///
/// ```compile_fail,E0277
/// fn gather(bufs: impl annulus::buf::IoBufs) {}
///
/// let dangling = vec![0_u8; 16].as_mut_ptr();
/// gather([libc::iovec { iov_base: dangling.cast(), iov_len: 16 }]);
/// ```
///
/// # Example
///
/// ```
/// use std::sync::Arc;
/// use annulus::buf::{IoBufs, SliceExt};
///
/// fn gather(bufs: impl IoBufs) {}
///
/// let body: Arc<[u8]> = Arc::from(*b"a body that many share");
/// gather(("HTTP/1.1 200 OK\r\n\r\n", body.clone()));
/// gather(Box::new([body.clone().slice(7..), body.slice(..6)]));
/// ```
#[doc(alias = "iovec")]
#[doc(alias = "IoSlice")]
pub trait IoBufs: sealed::Sealed {
    /// One entry for each buffer.
    #[doc(hidden)]
    type Table: AsRef<[IoVec]>;

    /// A table that points to nothing, for until the buffers are where they stay.
    #[doc(hidden)]
    const EMPTY: Self::Table;

    /// Where the buffers are. Called once for each operation, when they are where they stay.
    #[doc(hidden)]
    fn table(&self) -> Self::Table;
}

/// Several buffers that one operation writes to, in order: the second one when the first one is
/// full. An array of one kind, a tuple of two to four kinds, or a box of these.
///
/// Afterwards each buffer shows what it was given, as it would after an operation of its own:
/// vectors have grown, perhaps by nothing. Limits, and why there is no way to pass an `iovec`, are
/// at [`IoBufs`].
///
/// # Example
///
/// ```
/// use annulus::buf::{AlignedBuf, IoBufsMut};
///
/// fn scatter(bufs: impl IoBufsMut) {}
///
/// scatter(([0; 4], Vec::with_capacity(1000)));
/// scatter(Box::new([AlignedBuf::new(4096, 4096), AlignedBuf::new(4096, 4096)]));
/// ```
#[doc(alias = "iovec")]
#[doc(alias = "IoSliceMut")]
pub trait IoBufsMut: sealed::Sealed {
    /// One entry for each buffer.
    #[doc(hidden)]
    type Table: AsRef<[IoVec]>;

    /// A table that points to nothing, for until the buffers are where they stay.
    #[doc(hidden)]
    const EMPTY: Self::Table;

    /// Where the buffers are. Called once for each operation, when they are where they stay.
    #[doc(hidden)]
    fn table_mut(&mut self) -> Self::Table;

    /// Takes note that the kernel has written `count` bytes, and tells each buffer of its share,
    /// which may be 0. More bytes than the table has are none.
    ///
    /// The table's addresses are not used, so the buffers may have moved since.
    ///
    /// # Safety
    ///
    /// The first `count` bytes of the regions in `table` must have been written, one region after
    /// the other, and `table` must be the one last returned by [`table_mut`](Self::table_mut).
    #[doc(hidden)]
    unsafe fn set_filled(&mut self, table: &Self::Table, count: u64);
}

mod sealed {
    /// Only what is in this file is a list of buffers.
    pub trait Sealed {}

    impl<B, const N: usize> Sealed for [B; N] {}
    impl<A, B> Sealed for (A, B) {}
    impl<A, B, C> Sealed for (A, B, C) {}
    impl<A, B, C, D> Sealed for (A, B, C, D) {}
    impl<L: Sealed> Sealed for Box<L> {}
}

/// How many bytes are left to give out: room in a table that is made, or bytes that were written.
struct Left {
    bytes: u64,
}

impl Left {
    /// A whole operation's. The kernel cuts a longer table at just this place (`import_iovec`); we
    /// do, so that the table says what can be moved.
    const WHOLE: Self = Self { bytes: MAX_TRANSFER as u64 };

    #[inline]
    fn read(&mut self, region: Region<'_>) -> IoVec {
        IoVec { addr: region.addr(), len: self.take(region.len() as u64) }
    }

    #[inline]
    fn write(&mut self, region: RegionMut<'_>) -> IoVec {
        IoVec { addr: region.addr(), len: self.take(region.len() as u64) }
    }

    /// Gives out `bytes`, or what is left if that is less.
    #[inline]
    fn take(&mut self, bytes: u64) -> u64 {
        let taken = bytes.min(self.bytes);
        self.bytes -= taken;
        taken
    }
}

/// Tells each buffer of its share.
///
/// # Safety
///
/// As for [`IoBufsMut::set_filled`].
#[inline]
unsafe fn share_out<const N: usize>(bufs: [&mut dyn IoBufMut; N], table: &[IoVec; N], count: u64) {
    let mut written = Left { bytes: count };
    for (buf, entry) in bufs.into_iter().zip(table) {
        let share = written.take(entry.len);
        let share = usize::try_from(share).expect("entries have at most MAX_TRANSFER bytes");
        // SAFETY: the entries before are full, so `share` bytes of this one were written, as
        // promised to `share_out`.
        unsafe { buf.set_filled(share) };
    }
}

/// An empty table for an array, refused when compiled if it is longer than the kernel takes.
const fn empty_array<const N: usize>() -> [IoVec; N] {
    const { assert!(N <= 1024, "the kernel takes at most 1024 buffers (UIO_MAXIOV)") };
    [IoVec::EMPTY; N]
}

impl<B: IoBuf, const N: usize> IoBufs for [B; N] {
    type Table = [IoVec; N];
    const EMPTY: Self::Table = empty_array();

    #[inline]
    fn table(&self) -> Self::Table {
        let mut left = Left::WHOLE;
        self.each_ref().map(|buf| left.read(buf.region()))
    }
}

impl<B: IoBufMut, const N: usize> IoBufsMut for [B; N] {
    type Table = [IoVec; N];
    const EMPTY: Self::Table = empty_array();

    #[inline]
    fn table_mut(&mut self) -> Self::Table {
        let mut left = Left::WHOLE;
        self.each_mut().map(|buf| left.write(buf.region_mut()))
    }

    #[inline]
    unsafe fn set_filled(&mut self, table: &Self::Table, count: u64) {
        let bufs = self.each_mut().map(|buf| buf as &mut dyn IoBufMut);
        // SAFETY: as promised to `set_filled`.
        unsafe { share_out(bufs, table, count) };
    }
}

impl<A: IoBuf, B: IoBuf> IoBufs for (A, B) {
    type Table = [IoVec; 2];
    const EMPTY: Self::Table = [IoVec::EMPTY; 2];

    #[inline]
    fn table(&self) -> Self::Table {
        let (mut left, (a, b)) = (Left::WHOLE, self);
        [left.read(a.region()), left.read(b.region())]
    }
}

impl<A: IoBufMut, B: IoBufMut> IoBufsMut for (A, B) {
    type Table = [IoVec; 2];
    const EMPTY: Self::Table = [IoVec::EMPTY; 2];

    #[inline]
    fn table_mut(&mut self) -> Self::Table {
        let (mut left, (a, b)) = (Left::WHOLE, self);
        [left.write(a.region_mut()), left.write(b.region_mut())]
    }

    #[inline]
    unsafe fn set_filled(&mut self, table: &Self::Table, count: u64) {
        let (a, b) = self;
        // SAFETY: as promised to `set_filled`.
        unsafe { share_out([a, b], table, count) };
    }
}

impl<A: IoBuf, B: IoBuf, C: IoBuf> IoBufs for (A, B, C) {
    type Table = [IoVec; 3];
    const EMPTY: Self::Table = [IoVec::EMPTY; 3];

    #[inline]
    fn table(&self) -> Self::Table {
        let (mut left, (a, b, c)) = (Left::WHOLE, self);
        [left.read(a.region()), left.read(b.region()), left.read(c.region())]
    }
}

impl<A: IoBufMut, B: IoBufMut, C: IoBufMut> IoBufsMut for (A, B, C) {
    type Table = [IoVec; 3];
    const EMPTY: Self::Table = [IoVec::EMPTY; 3];

    #[inline]
    fn table_mut(&mut self) -> Self::Table {
        let (mut left, (a, b, c)) = (Left::WHOLE, self);
        [left.write(a.region_mut()), left.write(b.region_mut()), left.write(c.region_mut())]
    }

    #[inline]
    unsafe fn set_filled(&mut self, table: &Self::Table, count: u64) {
        let (a, b, c) = self;
        // SAFETY: as promised to `set_filled`.
        unsafe { share_out([a, b, c], table, count) };
    }
}

impl<A: IoBuf, B: IoBuf, C: IoBuf, D: IoBuf> IoBufs for (A, B, C, D) {
    type Table = [IoVec; 4];
    const EMPTY: Self::Table = [IoVec::EMPTY; 4];

    #[inline]
    fn table(&self) -> Self::Table {
        let (mut left, (a, b, c, d)) = (Left::WHOLE, self);
        let (a, b) = (left.read(a.region()), left.read(b.region()));
        [a, b, left.read(c.region()), left.read(d.region())]
    }
}

impl<A: IoBufMut, B: IoBufMut, C: IoBufMut, D: IoBufMut> IoBufsMut for (A, B, C, D) {
    type Table = [IoVec; 4];
    const EMPTY: Self::Table = [IoVec::EMPTY; 4];

    #[inline]
    fn table_mut(&mut self) -> Self::Table {
        let (mut left, (a, b, c, d)) = (Left::WHOLE, self);
        let (a, b) = (left.write(a.region_mut()), left.write(b.region_mut()));
        [a, b, left.write(c.region_mut()), left.write(d.region_mut())]
    }

    #[inline]
    unsafe fn set_filled(&mut self, table: &Self::Table, count: u64) {
        let (a, b, c, d) = self;
        // SAFETY: as promised to `set_filled`.
        unsafe { share_out([a, b, c, d], table, count) };
    }
}

/// For lists too large for a slot.
impl<L: IoBufs> IoBufs for Box<L> {
    type Table = L::Table;
    const EMPTY: Self::Table = L::EMPTY;

    #[inline]
    fn table(&self) -> Self::Table {
        (**self).table()
    }
}

/// For lists too large for a slot.
impl<L: IoBufsMut> IoBufsMut for Box<L> {
    type Table = L::Table;
    const EMPTY: Self::Table = L::EMPTY;

    #[inline]
    fn table_mut(&mut self) -> Self::Table {
        (**self).table_mut()
    }

    #[inline]
    unsafe fn set_filled(&mut self, table: &Self::Table, count: u64) {
        // SAFETY: as promised to `set_filled`.
        unsafe { (**self).set_filled(table, count) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A buffer that remembers what it was told.
    struct Told {
        bytes: Vec<u8>,
        count: Option<usize>,
    }

    impl Told {
        fn new(len: usize) -> Self {
            Self { bytes: vec![0; len], count: None }
        }
    }

    impl IoBufMut for Told {
        fn region_mut(&mut self) -> RegionMut<'_> {
            self.bytes.as_mut_slice().into()
        }

        unsafe fn set_filled(&mut self, count: usize) {
            assert!(count <= self.bytes.len(), "{count} of {} bytes", self.bytes.len());
            assert_eq!(self.count.replace(count), None, "told twice");
        }
    }

    /// The kernel, byte by byte: each goes to the first buffer that has room.
    fn model<const N: usize>(lens: [usize; N], count: u64) -> [usize; N] {
        let mut filled = [0; N];
        for _ in 0..count.min(1000) {
            let Some(at) = (0..N).find(|&at| filled[at] < lens[at]) else { break };
            filled[at] += 1;
        }
        filled
    }

    /// What each buffer of an array is told.
    fn told<const N: usize>(lens: [usize; N], count: u64) -> [usize; N] {
        let mut bufs = lens.map(Told::new);
        let table = bufs.table_mut();
        // SAFETY: `Told` takes any count that its region has, since its bytes are initialised.
        unsafe { bufs.set_filled(&table, count) };
        bufs.map(|buf| buf.count.expect("every buffer is told"))
    }

    /// Every list of four buffers of 0 to 4 bytes.
    fn lists() -> impl Iterator<Item = [usize; 4]> {
        (0..5_usize.pow(4)).map(|list| [1, 5, 25, 125].map(|place| list / place % 5))
    }

    #[test]
    fn every_count_is_shared_out_as_the_kernel_fills() {
        for lens in lists() {
            // No four buffers have more than 16 bytes; a count beyond is a lie.
            for count in (0..=18).chain([u64::from(u32::MAX), u64::MAX]) {
                assert_eq!(told(lens, count), model(lens, count), "{count} into {lens:?}");
            }
        }
        assert_eq!(told([4, 100, 400], 150), [4, 100, 46]);
        assert_eq!(told([], 7), []);
    }

    #[test]
    fn tuples_and_boxes_share_out_as_arrays_do() {
        let cases = lists().flat_map(|lens| (0..=18).map(move |count| (lens, count)));
        for (lens @ [a, b, c, d], count) in cases {
            let mut two = (Told::new(a), Told::new(b));
            let mut three = (Told::new(a), Told::new(b), Told::new(c));
            let mut four = Box::new((Told::new(a), Told::new(b), Told::new(c), Told::new(d)));
            let (of_two, of_three) = (two.table_mut(), three.table_mut());
            let of_four = four.table_mut();
            // SAFETY: `Told` takes any count that its region has, since its bytes are initialised.
            unsafe { two.set_filled(&of_two, count) };
            // SAFETY: `Told` takes any count that its region has, since its bytes are initialised.
            unsafe { three.set_filled(&of_three, count) };
            // SAFETY: `Told` takes any count that its region has, since its bytes are initialised.
            unsafe { four.set_filled(&of_four, count) };
            let counts = |bufs: &[&Told]| bufs.iter().map(|buf| buf.count).collect::<Vec<_>>();
            assert_eq!(counts(&[&two.0, &two.1]), model([a, b], count).map(Some));
            let of_three = counts(&[&three.0, &three.1, &three.2]);
            assert_eq!(of_three, model([a, b, c], count).map(Some));
            let of_four = counts(&[&four.0, &four.1, &four.2, &four.3]);
            assert_eq!(of_four, model(lens, count).map(Some));
        }
    }

    #[test]
    fn a_table_names_the_buffers_in_order() {
        let bufs = (b"head", String::from("body"), [1_u8, 2, 3].as_slice(), vec![0_u8; 9]);
        let regions = [bufs.0.region(), bufs.1.region(), bufs.2.region(), bufs.3.region()];
        let wanted = regions.map(|region| (region.addr(), region.len() as u64));
        assert_eq!(bufs.table().map(|entry| (entry.addr, entry.len)), wanted);
        assert_eq!(total(&bufs.table()), 20);
        let lines = Box::new([*b"line", *b"next"]);
        let start = lines.as_ptr().addr() as u64;
        assert_eq!(lines.table().map(|entry| entry.addr - start), [0, 4]);
        let two = (b"head", "body");
        assert_eq!(two.table()[1].addr, two.1.region().addr());
        let three = Box::new((b"head", "body", "tail"));
        assert_eq!(three.table()[2].addr, three.2.region().addr());
    }

    #[test]
    fn a_table_to_write_names_spare_room_and_the_buffers_show_it_afterwards() {
        let mut bufs = (b"ab".to_vec(), [0_u8; 4], Vec::with_capacity(64), Vec::new());
        bufs.0.reserve_exact(2);
        let table = bufs.table_mut();
        let room = bufs.0.capacity() - 2;
        assert_eq!(table[0].addr, bufs.0.as_ptr().addr() as u64 + 2);
        assert_eq!(table.map(|entry| entry.len), [room as u64, 4, 64, 0]);
        bufs.0.spare_capacity_mut().iter_mut().for_each(|byte| _ = byte.write(b'c'));
        bufs.1.fill(b'd');
        bufs.2.spare_capacity_mut().iter_mut().for_each(|byte| _ = byte.write(b'e'));
        // SAFETY: every byte of the first three regions was written, so the first `room + 7` were.
        unsafe { bufs.set_filled(&table, room as u64 + 7) };
        assert_eq!(bufs.0, [b"ab".as_slice(), &vec![b'c'; room]].concat());
        assert_eq!((bufs.2.as_slice(), bufs.3.len()), (b"eee".as_slice(), 0));
    }

    #[test]
    fn buffers_of_gigabytes_are_cut_where_the_kernel_cuts_them() {
        let mib = 1 << 20;
        let mut options = memmap2::MmapOptions::new();
        let map = options.len(900 * mib).no_reserve_swap().map_anon().expect("room for addresses");
        let bufs = [&map[..], &map[..], &map[..], &map[..]];
        let whole = u64::from(MAX_TRANSFER);
        let each = 900 * mib as u64;
        let table = bufs.table();
        assert_eq!(table.map(|entry| entry.len), [each, each, whole - 2 * each, 0]);
        let tuple = (bufs[0], bufs[1], bufs[2], bufs[3]).table();
        assert_eq!(tuple.map(|entry| entry.len), table.map(|entry| entry.len));
        assert_eq!(total(&table), whole);
        // A longer list does not compile.
        assert_eq!(total(&<Box<[Vec<u8>; 1024]> as IoBufsMut>::EMPTY), 0);
    }
}

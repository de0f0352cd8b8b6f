//! Vectored buffers: several buffers in one operation.
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
//! The table is made from borrows of the buffers once these are at their final address, and lies
//! next to them (OP1). The caller cannot pass a table; [`IoBufs`] says why.
//!
//! Leaves to others: where the table lies and when the kernel is done with it (`op`).
//!
//! # Safety
//!
//! Lengths in a table never exceed those of the regions that it was made from. `set_filled` never
//! reports more bytes to a buffer than its entry has.
#![allow(unsafe_code, reason = "says which bytes of which buffer the kernel has written")]

mod lists;
mod rest;
mod tuples;

use super::{IoBuf, IoBufMut, MAX_TRANSFER, Region, RegionMut};

pub use rest::InitBufs;
pub(crate) use rest::{rest_of, rest_of_mut};

/// `struct iovec`: the address of a buffer, and how many of its bytes the operation may move.
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

    /// Fills the bytes with zeroes.
    ///
    /// # Safety
    ///
    /// The bytes are of a buffer that is still in place, and that nobody else uses.
    pub(crate) unsafe fn clear(&self) {
        let (Ok(addr), Ok(len)) = (usize::try_from(self.addr), usize::try_from(self.len)) else {
            return;
        };
        let start = std::ptr::with_exposed_provenance_mut::<u8>(addr);
        // SAFETY: as promised to `clear`; the address was exposed when the entry was made.
        unsafe { start.write_bytes(0, len) };
    }
}

/// The number of bytes that a table describes. At most [`MAX_TRANSFER`].
pub(crate) fn total(table: &[IoVec]) -> u64 {
    table.iter().map(|entry| entry.len).sum()
}

/// Whether one operation can move all bytes of these buffers.
pub(crate) fn is_one_transfer(bufs: &impl IoBufs) -> bool {
    let (mut count, mut bytes) = (0_usize, 0_u64);
    bufs.regions(&mut |region| {
        count += 1;
        bytes = bytes.saturating_add(region.len() as u64);
    });
    count <= lists::MAX_BUFS && bytes <= u64::from(MAX_TRANSFER)
}

/// Whether one operation can fill all of these buffers; one that offers as much as an operation can
/// move may have more.
pub(crate) fn is_one_transfer_mut(bufs: &mut impl IoBufsMut) -> bool {
    bufs.count() <= lists::MAX_BUFS && total(bufs.table_mut().as_ref()) < u64::from(MAX_TRANSFER)
}

/// Several buffers that one operation reads from, in order: an array of one type, a tuple of two to
/// four types, or a box of either; or a `Vec<B>` or `Box<[B]>`, whose table is allocated.
///
/// The kernel accepts at most 1024 buffers (`UIO_MAXIOV`), so a longer array does not compile, and
/// a longer `Vec` sees a short transfer.
/// Together they transfer at most [`MAX_TRANSFER`] bytes; longer lists see a short transfer.
///
/// # No iovec
///
/// You cannot pass an `iovec`, or implement this trait. An `iovec` is a pointer that travels as
/// data: it names memory, and neither owns nor borrows it. Safe code could make one, free the
/// memory, and have the kernel read whatever lies there by then. Here each buffer is moved into the
/// operation, and the table is made from borrows of the buffers at their final address.
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
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no list of buffers that the kernel can read",
    note = "a list is an array, a tuple or a `Vec` of buffers: `[Vec<u8>; 2]`, `(String, Vec<u8>)`"
)]
pub trait IoBufs: sealed::Sealed {
    /// One entry for each buffer.
    type Table: AsRef<[IoVec]>;

    /// A table that points to nothing, used until the buffers are at their final address.
    #[doc(hidden)]
    const EMPTY: Self::Table;

    /// The addresses and lengths of the buffers. Called once for each operation, when the buffers
    /// are at their final address.
    #[doc(hidden)]
    fn table(&self) -> Self::Table;

    /// Calls `each` with the region of every buffer, in order.
    #[doc(hidden)]
    fn regions(&self, each: &mut dyn FnMut(Region<'_>));
}

/// Several buffers that one operation writes to, in order: the kernel fills the first before it
/// goes on to the second. An array of one type, a tuple of two to four types, or a box of either;
/// or a `Vec<B>` or `Box<[B]>`.
///
/// Afterwards each buffer shows the bytes that it received, as if it had been read into by its own
/// operation: a vector's length is what it received, perhaps 0. See [`IoBufs`] for the limits, and
/// for why you cannot pass an `iovec`.
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
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no list of buffers that the kernel can write",
    note = "a list is an array, a tuple or a `Vec` of buffers that own their bytes: `[Vec<u8>; 2]`"
)]
pub trait IoBufsMut: sealed::Sealed {
    /// One entry for each buffer.
    type Table: AsRef<[IoVec]>;

    /// A table that points to nothing, used until the buffers are at their final address.
    #[doc(hidden)]
    const EMPTY: Self::Table;

    /// The addresses and lengths of the buffers. Called once for each operation, when the buffers
    /// are at their final address.
    #[doc(hidden)]
    fn table_mut(&mut self) -> Self::Table;

    /// How many buffers there are.
    #[doc(hidden)]
    fn count(&self) -> usize {
        Self::EMPTY.as_ref().len()
    }

    /// Records that the kernel has written `count` bytes, and tells each buffer its share, which
    /// may be 0. Bytes beyond the table's total are ignored.
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
    /// Only types in this file are lists of buffers.
    pub trait Sealed {}

    impl<B, const N: usize> Sealed for [B; N] {}
    impl<A, B> Sealed for (A, B) {}
    impl<A, B, C> Sealed for (A, B, C) {}
    impl<A, B, C, D> Sealed for (A, B, C, D) {}
    impl<L: Sealed> Sealed for Box<L> {}
}

/// How many bytes are left to assign: room in a new table, or bytes that were written.
struct Left {
    bytes: u64,
}

impl Left {
    /// The most that one operation moves. The kernel cuts a longer table at this same point
    /// (`import_iovec`). We cut it too, so that the table says what can be moved.
    const WHOLE: Self = Self { bytes: MAX_TRANSFER as u64 };

    #[inline]
    fn read(&mut self, region: Region<'_>) -> IoVec {
        IoVec { addr: region.addr(), len: self.take(region.len() as u64) }
    }

    #[inline]
    fn write(&mut self, region: RegionMut<'_>) -> IoVec {
        IoVec { addr: region.addr(), len: self.take(region.len() as u64) }
    }

    /// Assigns `bytes`, or the rest if that is less.
    #[inline]
    fn take(&mut self, bytes: u64) -> u64 {
        let taken = bytes.min(self.bytes);
        self.bytes -= taken;
        taken
    }
}

/// Tells each buffer its share.
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
        // SAFETY: the earlier entries are full, so `share` bytes of this one were written, as
        // promised to `share_out`.
        unsafe { buf.set_filled(share) };
    }
}

/// An empty table for an array. Does not compile if the array is longer than the kernel accepts.
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

    fn regions(&self, each: &mut dyn FnMut(Region<'_>)) {
        self.iter().for_each(|buf| each(buf.region()));
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

/// For lists that are too large for an operation's slot.
impl<L: IoBufs> IoBufs for Box<L> {
    type Table = L::Table;
    const EMPTY: Self::Table = L::EMPTY;

    #[inline]
    fn table(&self) -> Self::Table {
        (**self).table()
    }

    fn regions(&self, each: &mut dyn FnMut(Region<'_>)) {
        (**self).regions(each);
    }
}

/// For lists that are too large for an operation's slot.
impl<L: IoBufsMut> IoBufsMut for Box<L> {
    type Table = L::Table;
    const EMPTY: Self::Table = L::EMPTY;

    #[inline]
    fn table_mut(&mut self) -> Self::Table {
        (**self).table_mut()
    }

    fn count(&self) -> usize {
        (**self).count()
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

    /// A buffer that remembers the count that it was told.
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

    /// A model of the kernel, byte by byte: each byte goes to the first buffer that has room.
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
            // Four such buffers hold at most 16 bytes; a larger count is a lie.
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
    fn a_table_to_write_names_whole_buffers_and_they_show_what_was_read_afterwards() {
        let mut bufs = (b"ab".to_vec(), [0_u8; 4], Vec::with_capacity(64), Vec::new());
        bufs.0.reserve_exact(2);
        let table = bufs.table_mut();
        let room = bufs.0.capacity();
        assert_eq!(table[0].addr, bufs.0.as_ptr().addr() as u64);
        assert_eq!(table.map(|entry| entry.len), [room as u64, 4, 64, 0]);
        bufs.0.clear();
        bufs.0.spare_capacity_mut().iter_mut().for_each(|byte| _ = byte.write(b'c'));
        bufs.1.fill(b'd');
        bufs.2.spare_capacity_mut().iter_mut().for_each(|byte| _ = byte.write(b'e'));
        // SAFETY: every byte of the first three regions was written, so the first `room + 7` were.
        unsafe { bufs.set_filled(&table, room as u64 + 7) };
        assert_eq!(bufs.0, vec![b'c'; room]);
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

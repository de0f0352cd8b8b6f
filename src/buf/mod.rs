//! Buffers: memory that the kernel may read from or write to.
//!
//! ```text
//!   Read { fd, buf: Vec<u8> } ──► moved into its slot ──► region_mut(&mut buf) ──► the kernel
//!                                       │                      │
//!                                never moves            a borrow that lasts until the last
//!                                                       completion; no code touches the owner
//! ```
//!
//! Both traits are safe to implement. The ring calls [`IoBufMut::region_mut`] once the owner is at
//! its final address, and keeps that borrow: it neither moves nor touches the owner until the
//! kernel is done (OP1). So an owner need not promise a stable address: even `[u8; 16]` works. (A
//! crate that forbids `unsafe_code` cannot implement [`IoBufMut`], because that lint counts the
//! declaration of an `unsafe fn`. Such a crate can wrap a buffer that implements it.)
//!
//! | buffer | the kernel reads | the kernel writes |
//! |---|---|---|
//! | `Vec<u8>`, `BytesMut` | all initialised bytes | its whole capacity, from the front |
//! | [`Append`] of one of these | all initialised bytes | the spare capacity, behind them |
//! | `[u8; N]`, `Box<[u8]>`, a `Box` of any buffer, `&mut [u8]`, `MmapMut` | all | all, from the front |
//! | [`AlignedBuf`], [`FixedBuf`] | the filled bytes | all, from the front |
//! | `Arc<[u8]>`, `Rc<[u8]>`, `String`, `&[u8]`, `Bytes`, [`BufLease`] | all | – |
//! | [`Slice`] | a range of the initialised bytes | that range |
//!
//! One operation moves at most [`MAX_TRANSFER`] bytes, because the kernel stops there. A longer
//! buffer sees a short transfer.
//!
//! [`FixedBuf`]: crate::lease::FixedBuf
//! [`BufLease`]: crate::lease::BufLease
//!
//! # Example
//!
//! Your own buffer type, in safe code:
//!
//! ```
//! use annulus::buf::{IoBuf, Region};
//!
//! struct Line { text: String, newline: bool }
//!
//! impl IoBuf for Line {
//!     fn region(&self) -> Region<'_> {
//!         let end = self.text.len() - usize::from(!self.newline && self.text.ends_with('\n'));
//!         self.text.as_bytes()[..end].into()
//!     }
//! }
//!
//! let line = Line { text: "a\n".to_owned(), newline: false };
//! assert_eq!(line.region().len(), 1);
//! ```
#![allow(unsafe_code, reason = "says which bytes of an owner the kernel has written")]

pub mod address;
mod aligned;
mod append;
pub(crate) mod control;
mod slice;
mod vectored;

use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::Arc;

use memmap2::{Mmap, MmapMut};

pub use aligned::AlignedBuf;
pub use append::Append;
pub use slice::{Slice, SliceExt};
pub use vectored::{InitBufs, IoBufs, IoBufsMut};
pub(crate) use vectored::{
    IoVec, is_one_transfer, is_one_transfer_mut, rest_of, rest_of_mut, total,
};

/// The most bytes that the kernel moves in one operation: 2 GiB minus one page (`MAX_RW_COUNT`).
pub const MAX_TRANSFER: u32 = 0x7fff_f000;

/// Bytes that the kernel may read while `'a` lasts.
#[derive(Debug, Clone, Copy)]
pub struct Region<'a> {
    start: NonNull<u8>,
    len: usize,
    borrow: PhantomData<&'a [u8]>,
}

/// Bytes that the kernel may write while `'a` lasts. Nothing can read them through this type, or
/// make them uninitialised.
#[derive(Debug)]
pub struct RegionMut<'a> {
    start: NonNull<u8>,
    len: usize,
    borrow: PhantomData<&'a mut [MaybeUninit<u8>]>,
}

impl<'a> From<&'a [u8]> for Region<'a> {
    #[inline]
    fn from(bytes: &'a [u8]) -> Self {
        Self { start: NonNull::from(bytes).cast(), len: bytes.len(), borrow: PhantomData }
    }
}

impl<'a> From<&'a mut [u8]> for RegionMut<'a> {
    #[inline]
    fn from(bytes: &'a mut [u8]) -> Self {
        Self { len: bytes.len(), start: NonNull::from(bytes).cast(), borrow: PhantomData }
    }
}

impl<'a> From<&'a mut [MaybeUninit<u8>]> for RegionMut<'a> {
    #[inline]
    fn from(bytes: &'a mut [MaybeUninit<u8>]) -> Self {
        Self { len: bytes.len(), start: NonNull::from(bytes).cast(), borrow: PhantomData }
    }
}

impl Region<'_> {
    /// The address, as passed to the kernel.
    #[inline]
    pub fn addr(&self) -> u64 {
        self.start.as_ptr().expose_provenance() as u64
    }

    /// The number of bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many of these bytes one operation can move.
    #[inline]
    pub(crate) fn transfer(&self) -> u32 {
        transfer(self.len)
    }

    /// Whether one operation can move all of them.
    pub(crate) fn is_one_transfer(&self) -> bool {
        self.len <= MAX_TRANSFER as usize
    }
}

impl RegionMut<'_> {
    /// The address, as passed to the kernel.
    #[inline]
    pub fn addr(&self) -> u64 {
        self.start.as_ptr().expose_provenance() as u64
    }

    /// The number of bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many of these bytes one operation can move.
    #[inline]
    pub(crate) fn transfer(&self) -> u32 {
        transfer(self.len)
    }

    /// Whether one operation can move all of them.
    pub(crate) fn is_one_transfer(&self) -> bool {
        self.len <= MAX_TRANSFER as usize
    }
}

#[inline]
fn transfer(len: usize) -> u32 {
    u32::try_from(len).map_or(MAX_TRANSFER, |len| len.min(MAX_TRANSFER))
}

/// An owner of bytes that the kernel may read.
#[diagnostic::on_unimplemented(
    message = "the kernel cannot read from `{Self}`",
    note = "a buffer that is read owns bytes that stay: `Vec<u8>`, `Box<[u8]>`, `[u8; N]`, \
            `String`, `Arc<[u8]>`, `&'static [u8]`; borrowed bytes go through `Ring::scope`"
)]
pub trait IoBuf {
    /// The bytes. The ring calls this when the owner is at its final address, and again if the
    /// operation had to move once more because the ring was full.
    fn region(&self) -> Region<'_>;
}

/// An owner of bytes that the kernel may write.
#[diagnostic::on_unimplemented(
    message = "the kernel cannot write to `{Self}`",
    note = "a buffer that is written owns its bytes alone: `Vec<u8>`, `Box<[u8]>`, `[u8; N]`, \
            `AlignedBuf`, `FixedBuf`; `&mut [u8]` goes through `Ring::scope`"
)]
pub trait IoBufMut {
    /// The bytes. The ring calls this before it accepts the operation, to see whether there are
    /// any; then when the owner is at its final address; and again if the operation had to move
    /// once more because the ring was full. The last region is the one that the kernel gets.
    fn region_mut(&mut self) -> RegionMut<'_>;

    /// Records that the kernel has written the first `count` bytes of that region.
    ///
    /// # Safety
    ///
    /// The first `count` bytes of the region last returned by
    /// [`region_mut`](Self::region_mut) must have been written.
    unsafe fn set_filled(&mut self, count: usize);
}

impl IoBuf for Vec<u8> {
    #[inline]
    fn region(&self) -> Region<'_> {
        self.as_slice().into()
    }
}

/// The kernel fills it from the front, over its whole capacity; afterwards its length is the number
/// of bytes that were read. To keep its contents, wrap it in [`Append`]; to fill a part of it, take
/// a [`slice`](SliceExt::slice).
impl IoBufMut for Vec<u8> {
    #[inline]
    fn region_mut(&mut self) -> RegionMut<'_> {
        let start = self.as_mut_ptr().cast::<MaybeUninit<u8>>();
        // SAFETY: the vector's own allocation, all of it, borrowed as long as the region; nothing
        // in it is read, and nothing made uninitialised.
        unsafe { std::slice::from_raw_parts_mut(start, self.capacity()) }.into()
    }

    #[inline]
    unsafe fn set_filled(&mut self, count: usize) {
        // SAFETY: the region begins at the front, and its first `count` bytes were written, as
        // promised to `set_filled`.
        unsafe { self.set_len(count) };
    }
}

/// What a box of it holds.
impl IoBuf for [u8] {
    #[inline]
    fn region(&self) -> Region<'_> {
        self.into()
    }
}

/// What a box of it holds.
impl IoBufMut for [u8] {
    #[inline]
    fn region_mut(&mut self) -> RegionMut<'_> {
        self.into()
    }

    #[inline]
    unsafe fn set_filled(&mut self, _: usize) {}
}

/// For buffers too large for a slot, and for slices: `Box<[u8]>`, `Box<[u8; 4096]>`.
impl<B: IoBuf + ?Sized> IoBuf for Box<B> {
    #[inline]
    fn region(&self) -> Region<'_> {
        (**self).region()
    }
}

/// For buffers too large for a slot, and for slices: `Box<[u8]>`, `Box<[u8; 4096]>`.
impl<B: IoBufMut + ?Sized> IoBufMut for Box<B> {
    #[inline]
    fn region_mut(&mut self) -> RegionMut<'_> {
        (**self).region_mut()
    }

    #[inline]
    unsafe fn set_filled(&mut self, count: usize) {
        // SAFETY: the region is what the buffer inside returned, so as promised to `set_filled`.
        unsafe { (**self).set_filled(count) };
    }
}

impl<const N: usize> IoBuf for [u8; N] {
    #[inline]
    fn region(&self) -> Region<'_> {
        self.as_slice().into()
    }
}

impl<const N: usize> IoBufMut for [u8; N] {
    #[inline]
    fn region_mut(&mut self) -> RegionMut<'_> {
        self.as_mut_slice().into()
    }

    #[inline]
    unsafe fn set_filled(&mut self, _: usize) {}
}

impl IoBuf for &[u8] {
    #[inline]
    fn region(&self) -> Region<'_> {
        (*self).into()
    }
}

impl<const N: usize> IoBuf for &[u8; N] {
    #[inline]
    fn region(&self) -> Region<'_> {
        self.as_slice().into()
    }
}

impl IoBuf for &str {
    #[inline]
    fn region(&self) -> Region<'_> {
        self.as_bytes().into()
    }
}

impl IoBuf for &mut [u8] {
    #[inline]
    fn region(&self) -> Region<'_> {
        (&**self).into()
    }
}

impl IoBufMut for &mut [u8] {
    #[inline]
    fn region_mut(&mut self) -> RegionMut<'_> {
        (&mut **self).into()
    }

    #[inline]
    unsafe fn set_filled(&mut self, _: usize) {}
}

impl IoBuf for String {
    #[inline]
    fn region(&self) -> Region<'_> {
        self.as_bytes().into()
    }
}

impl IoBuf for Arc<[u8]> {
    #[inline]
    fn region(&self) -> Region<'_> {
        (&**self).into()
    }
}

impl IoBuf for Rc<[u8]> {
    #[inline]
    fn region(&self) -> Region<'_> {
        (&**self).into()
    }
}

impl IoBuf for Arc<Vec<u8>> {
    #[inline]
    fn region(&self) -> Region<'_> {
        self.as_slice().into()
    }
}

impl IoBuf for Rc<Vec<u8>> {
    #[inline]
    fn region(&self) -> Region<'_> {
        self.as_slice().into()
    }
}

impl IoBuf for Mmap {
    #[inline]
    fn region(&self) -> Region<'_> {
        (&**self).into()
    }
}

impl IoBuf for MmapMut {
    #[inline]
    fn region(&self) -> Region<'_> {
        (&**self).into()
    }
}

impl IoBufMut for MmapMut {
    #[inline]
    fn region_mut(&mut self) -> RegionMut<'_> {
        (&mut **self).into()
    }

    #[inline]
    unsafe fn set_filled(&mut self, _: usize) {}
}

#[cfg(feature = "bytes")]
impl IoBuf for bytes::Bytes {
    #[inline]
    fn region(&self) -> Region<'_> {
        (&**self).into()
    }
}

#[cfg(feature = "bytes")]
impl IoBuf for bytes::BytesMut {
    #[inline]
    fn region(&self) -> Region<'_> {
        (&**self).into()
    }
}

/// Filled from the front, over its whole capacity, as a `Vec<u8>` is.
#[cfg(feature = "bytes")]
impl IoBufMut for bytes::BytesMut {
    #[inline]
    fn region_mut(&mut self) -> RegionMut<'_> {
        let len = self.len();
        self.truncate(0);
        let spare = std::ptr::from_mut(self.spare_capacity_mut());
        // SAFETY: so many bytes are initialised, because the buffer had that length just now.
        unsafe { self.set_len(len) };
        // SAFETY: what the buffer may use, all of it, borrowed as long as the region; nothing in it
        // is read, and nothing made uninitialised.
        unsafe { &mut *spare }.into()
    }

    #[inline]
    unsafe fn set_filled(&mut self, count: usize) {
        // SAFETY: the region begins at the front, and its first `count` bytes were written, as
        // promised to `set_filled`.
        unsafe { self.set_len(count) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_beyond_what_the_kernel_moves_are_cut_and_not_truncated() {
        assert_eq!(transfer(7), 7);
        assert_eq!(transfer(0x7fff_f001), MAX_TRANSFER);
        assert_eq!(transfer((1 << 32) + 1), MAX_TRANSFER);
    }

    #[test]
    fn a_vector_is_written_from_the_front_over_its_whole_capacity() {
        let mut buf = Vec::with_capacity(64);
        buf.extend_from_slice(b"abc");
        assert_eq!(buf.region().len(), 3);
        let (start, capacity) = (buf.as_ptr().addr() as u64, buf.capacity());
        let region = buf.region_mut();
        assert_eq!((region.addr(), region.len()), (start, capacity));
        assert_eq!(buf, b"abc", "until something was read");
        // SAFETY: two bytes of it are initialised, since it holds three.
        unsafe { buf.set_filled(2) };
        assert_eq!(buf, b"ab", "its length is what was read");
    }

    #[cfg(feature = "bytes")]
    #[test]
    fn a_bytes_buffer_is_written_from_the_front_too() {
        let mut buf = bytes::BytesMut::with_capacity(64);
        buf.extend_from_slice(b"abc");
        let (start, capacity) = (buf.as_ptr().addr() as u64, buf.capacity());
        let region = buf.region_mut();
        assert_eq!((region.addr(), region.len()), (start, capacity));
        assert_eq!(&buf[..], b"abc");
    }
}

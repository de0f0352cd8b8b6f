//! Buffers: what the kernel may read from, and what it may write to.
//!
//! ```text
//!   Read { fd, buf: Vec<u8> } ──► moved into its slot ──► region_mut(&mut buf) ──► the kernel
//!                                       │                      │
//!                                never moves            a borrow that lasts until the last
//!                                                       completion; nobody touches the owner
//! ```
//!
//! Both traits are safe to implement. The ring calls [`IoBufMut::region_mut`] when the owner has
//! its final address, and keeps that borrow: it neither moves nor touches the owner until the
//! kernel is done (OP1). So an owner need not promise a stable address, and `[u8; 16]` will do. (A
//! crate that forbids `unsafe_code` cannot implement [`IoBufMut`], since that lint counts the
//! declaration of an `unsafe fn`; it can wrap a buffer that does.)
//!
//! | buffer | the kernel reads | the kernel writes |
//! |---|---|---|
//! | `Vec<u8>`, `BytesMut` | all that is in it | the spare capacity: it appends |
//! | `Box<[u8]>`, `[u8; N]`, `&mut [u8]`, `MmapMut` | all | all, from the front |
//! | [`AlignedBuf`], [`FixedBuf`] | what is filled | all, from the front |
//! | `Arc<[u8]>`, `Rc<[u8]>`, `String`, `&[u8]`, `Bytes`, [`BufLease`] | all | – |
//! | [`Slice`] | a range of what is in it | that range |
//!
//! One operation moves at most [`MAX_TRANSFER`] bytes, since the kernel cuts it there; the rest
//! shows as a short transfer.
//!
//! [`FixedBuf`]: crate::lease::FixedBuf
//! [`BufLease`]: crate::lease::BufLease
//!
//! # Example
//!
//! A buffer of one's own, in safe code:
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

mod aligned;
mod slice;
mod vectored;

use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::Arc;

use memmap2::{Mmap, MmapMut};

pub use aligned::AlignedBuf;
pub use slice::{Slice, SliceExt};
pub use vectored::{IoBufs, IoBufsMut};
pub(crate) use vectored::{IoVec, total};

/// How many bytes the kernel moves in one operation, at most: 2 GiB less a page (`MAX_RW_COUNT`).
pub const MAX_TRANSFER: u32 = 0x7fff_f000;

/// Bytes that the kernel may read while `'a` lasts.
#[derive(Debug, Clone, Copy)]
pub struct Region<'a> {
    start: NonNull<u8>,
    len: usize,
    borrow: PhantomData<&'a [u8]>,
}

/// Bytes that the kernel may write while `'a` lasts. There is no way to read them, nor to make them
/// uninitialised.
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
    /// The address, as the kernel is told.
    #[inline]
    pub fn addr(&self) -> u64 {
        self.start.as_ptr().expose_provenance() as u64
    }

    /// How many bytes there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many bytes one operation may move.
    #[inline]
    pub(crate) fn transfer(&self) -> u32 {
        transfer(self.len)
    }
}

impl RegionMut<'_> {
    /// The address, as the kernel is told.
    #[inline]
    pub fn addr(&self) -> u64 {
        self.start.as_ptr().expose_provenance() as u64
    }

    /// How many bytes there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many bytes one operation may move.
    #[inline]
    pub(crate) fn transfer(&self) -> u32 {
        transfer(self.len)
    }
}

#[inline]
fn transfer(len: usize) -> u32 {
    u32::try_from(len).map_or(MAX_TRANSFER, |len| len.min(MAX_TRANSFER))
}

/// An owner of bytes that the kernel may read.
pub trait IoBuf {
    /// The bytes. Called when the owner is where it stays; and again, if the operation was moved
    /// after all, because the ring was full.
    fn region(&self) -> Region<'_>;
}

/// An owner of bytes that the kernel may write.
pub trait IoBufMut {
    /// The bytes. Called when the owner is where it stays; and again, if the operation was moved
    /// after all, because the ring was full.
    fn region_mut(&mut self) -> RegionMut<'_>;

    /// Takes note that the kernel has written the first `count` bytes of that region.
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

/// Appends: the kernel writes to the spare capacity. A vector without any reads nothing, so
/// [`reserve`](Vec::reserve) some.
impl IoBufMut for Vec<u8> {
    #[inline]
    fn region_mut(&mut self) -> RegionMut<'_> {
        self.spare_capacity_mut().into()
    }

    #[inline]
    unsafe fn set_filled(&mut self, count: usize) {
        let len = self.len() + count;
        // SAFETY: the spare capacity begins at `len()`, and its first `count` bytes were written,
        // as promised to `set_filled`.
        unsafe { self.set_len(len) };
    }
}

impl IoBuf for Box<[u8]> {
    #[inline]
    fn region(&self) -> Region<'_> {
        (&**self).into()
    }
}

impl IoBufMut for Box<[u8]> {
    #[inline]
    fn region_mut(&mut self) -> RegionMut<'_> {
        (&mut **self).into()
    }

    #[inline]
    unsafe fn set_filled(&mut self, _: usize) {}
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

/// For arrays too large for a slot.
impl<const N: usize> IoBuf for Box<[u8; N]> {
    #[inline]
    fn region(&self) -> Region<'_> {
        self.as_slice().into()
    }
}

/// For arrays too large for a slot.
impl<const N: usize> IoBufMut for Box<[u8; N]> {
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

/// Appends: the kernel writes to the spare capacity.
#[cfg(feature = "bytes")]
impl IoBufMut for bytes::BytesMut {
    #[inline]
    fn region_mut(&mut self) -> RegionMut<'_> {
        self.spare_capacity_mut().into()
    }

    #[inline]
    unsafe fn set_filled(&mut self, count: usize) {
        let len = self.len() + count;
        // SAFETY: the spare capacity begins at `len()`, and its first `count` bytes were written,
        // as promised to `set_filled`.
        unsafe { self.set_len(len) };
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
    fn a_vector_is_read_in_full_and_written_behind_its_end() {
        let mut buf = Vec::with_capacity(64);
        buf.extend_from_slice(b"abc");
        assert_eq!(buf.region().len(), 3);
        let (start, spare) = (buf.as_ptr().addr() as u64, buf.capacity() - 3);
        let region = buf.region_mut();
        assert_eq!((region.addr(), region.len()), (start + 3, spare));
    }
}

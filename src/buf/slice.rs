//! A range of a buffer: the operation owns the whole buffer, and transfers only the range.
//!
//! ```text
//!   Vec<u8>             │ H e l l o , w o r l d │ . . . . │
//!                         0                   11          capacity
//!   read into it          ─────────────────────────────► from the front
//!   Append::new(buf)                            └──────► appends
//!   buf.slice(6..11)                │ w o r l d │
//!   read into that                  └──────────► overwrites, and only these bytes
//! ```
//!
//! A range counts initialised bytes: the ones that `AsRef<[u8]>` shows. If a buffer shows fewer
//! bytes when the ring asks for the region, the slice is empty; it does not panic that late.
//!
//! Leaves to others: buffer types, and their spare capacity (`buf`).
//!
//! # Safety
//!
//! The regions are borrowed from the bytes that the buffer shows, which safe code guarantees to be
//! valid.
#![allow(unsafe_code, reason = "implements `set_filled`, whose callers must keep its contract")]

use std::ops::{Bound, RangeBounds};

use super::{IoBuf, IoBufMut, Region, RegionMut};

/// A range of a buffer. The operation owns the whole buffer, and transfers only bytes of the range.
///
/// Made by [`SliceExt::slice`], which has an example.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice<B> {
    buf: B,
    start: usize,
    end: usize,
}

/// Makes a [`Slice`] of any buffer whose bytes can be seen.
///
/// # Example
///
/// ```
/// use annulus::buf::{IoBuf, IoBufMut, SliceExt};
///
/// // The kernel reads five of twelve bytes; the vector comes back whole.
/// let word = b"Hello, world".to_vec().slice(7..);
/// assert_eq!(word.as_ref(), b"world");
/// assert_eq!(word.region().len(), 5);
///
/// // A slice of a slice counts from the start of the first slice.
/// let mut letters = word.slice(1..=2);
/// assert_eq!(letters.as_ref(), b"or");
///
/// // Only the bytes of the slice are overwritten.
/// assert_eq!(letters.region_mut().len(), 2);
/// let text: Vec<u8> = letters.into_inner().into_inner();
/// assert_eq!(text, b"Hello, world");
/// ```
pub trait SliceExt: AsRef<[u8]> + Sized {
    /// The bytes of `range`, counted in initialised bytes from the front.
    ///
    /// `bytes::Bytes` has a method of this name too, which takes precedence. It works just as well.
    ///
    /// # Panics
    ///
    /// If the range does not lie inside the buffer, or starts after its end.
    #[track_caller]
    fn slice(self, range: impl RangeBounds<usize>) -> Slice<Self> {
        let len = self.as_ref().len();
        let (start, end) = resolve(&range, len);
        assert!(start <= end, "a slice that starts at {start} cannot end at {end}");
        assert!(end <= len, "a slice that ends at {end} is outside of a buffer of {len} bytes");
        Slice { buf: self, start, end }
    }
}

impl<B: AsRef<[u8]>> SliceExt for B {}

/// The start and the end of a range, not checked against `len`.
#[track_caller]
fn resolve(range: &impl RangeBounds<usize>, len: usize) -> (usize, usize) {
    let start = match range.start_bound() {
        Bound::Unbounded => 0,
        Bound::Included(&start) => start,
        Bound::Excluded(&before) => after(before),
    };
    let end = match range.end_bound() {
        Bound::Unbounded => len,
        Bound::Included(&last) => after(last),
        Bound::Excluded(&end) => end,
    };
    (start, end)
}

#[track_caller]
fn after(index: usize) -> usize {
    let Some(next) = index.checked_add(1) else {
        panic!("a slice cannot begin or end after byte {index}: no buffer has so many");
    };
    next
}

impl<B> Slice<B> {
    /// Where the range starts in the buffer, in bytes.
    #[inline]
    pub fn start(&self) -> usize {
        self.start
    }

    /// Where the range ends in the buffer, in bytes (exclusive).
    #[inline]
    pub fn end(&self) -> usize {
        self.end
    }

    /// The whole buffer.
    #[inline]
    pub fn get_ref(&self) -> &B {
        &self.buf
    }

    /// Gives the whole buffer back.
    #[inline]
    pub fn into_inner(self) -> B {
        self.buf
    }
}

/// The bytes of the range; empty if the buffer has become too short for it.
impl<B: AsRef<[u8]>> AsRef<[u8]> for Slice<B> {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        self.buf.as_ref().get(self.start..self.end).unwrap_or_default()
    }
}

/// The bytes of the range; empty if the buffer has become too short for it.
impl<B: AsMut<[u8]>> AsMut<[u8]> for Slice<B> {
    #[inline]
    fn as_mut(&mut self) -> &mut [u8] {
        self.buf.as_mut().get_mut(self.start..self.end).unwrap_or_default()
    }
}

impl<B: AsRef<[u8]>> IoBuf for Slice<B> {
    #[inline]
    fn region(&self) -> Region<'_> {
        self.as_ref().into()
    }
}

/// Overwrites bytes that were already initialised, so there is nothing to record.
impl<B: AsMut<[u8]>> IoBufMut for Slice<B> {
    #[inline]
    fn region_mut(&mut self) -> RegionMut<'_> {
        self.as_mut().into()
    }

    #[inline]
    unsafe fn set_filled(&mut self, _: usize) {}
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::panic::{self, AssertUnwindSafe};
    use std::sync::Arc;

    use super::*;

    /// The panic message with which a slice is refused.
    fn refusal(range: impl RangeBounds<usize>) -> String {
        let slice = || b"0123456789".to_vec().slice(range);
        let words = panic::catch_unwind(AssertUnwindSafe(slice)).expect_err("the slice was made");
        *words.downcast::<String>().expect("a panic with words")
    }

    #[test]
    fn a_slice_is_the_range_that_indexing_gives() {
        let buf = b"0123456789".to_vec();
        for start in 0..=buf.len() {
            for end in start..=buf.len() {
                let slice = buf.clone().slice(start..end);
                assert_eq!(slice.as_ref(), &buf[start..end]);
                assert_eq!((slice.start(), slice.end()), (start, end));
                assert_eq!(slice.get_ref(), &buf);
                assert_eq!(slice.into_inner(), buf);
            }
        }
    }

    #[test]
    fn every_kind_of_range_is_understood() {
        let bounds = |range: (Bound<usize>, Bound<usize>)| {
            let slice = [0; 10].slice(range);
            (slice.start(), slice.end())
        };
        assert_eq!(bounds((Bound::Unbounded, Bound::Unbounded)), (0, 10));
        assert_eq!(bounds((Bound::Included(2), Bound::Included(4))), (2, 5));
        assert_eq!(bounds((Bound::Excluded(2), Bound::Excluded(4))), (3, 4));
        assert_eq!(bounds((Bound::Excluded(9), Bound::Unbounded)), (10, 10));
    }

    #[test]
    fn a_range_outside_is_refused_in_words() {
        assert!(refusal(0..11).contains("ends at 11 is outside of a buffer of 10 bytes"));
        assert!(refusal(11..).contains("starts at 11 cannot end at 10"));
        assert!(refusal(11..11).contains("ends at 11 is outside"));
        assert!(refusal(..usize::MAX).contains("is outside of a buffer of 10 bytes"));
    }

    #[test]
    #[expect(clippy::reversed_empty_ranges, reason = "the test checks that it is refused")]
    fn a_range_that_runs_backwards_is_refused_in_words() {
        assert!(refusal(7..3).contains("starts at 7 cannot end at 3"));
        assert!(refusal(usize::MAX..0).contains("cannot end at 0"));
    }

    #[test]
    fn a_bound_at_the_last_number_does_not_wrap_to_zero() {
        assert!(refusal(..=usize::MAX).contains("no buffer has so many"));
        let behind_the_last = (Bound::Excluded(usize::MAX), Bound::Unbounded);
        assert!(refusal(behind_the_last).contains("no buffer has so many"));
    }

    #[test]
    fn slices_nest_and_count_from_the_outer_start() {
        let slice = b"0123456789".slice(2..8).slice(1..5).slice(1..);
        assert_eq!(slice.as_ref(), b"456");
        assert_eq!(slice.region().len(), 3);
        let whole = b"0123456789";
        assert_eq!(slice.region().addr(), whole.as_ptr().addr() as u64 + 4);
    }

    #[test]
    fn a_slice_of_a_vector_overwrites_and_the_vector_is_filled_from_the_front() {
        let mut buf = Vec::with_capacity(64);
        buf.extend_from_slice(b"abcdef");
        let start = buf.as_ptr().addr() as u64;
        let mut slice = buf.slice(2..4);
        let region = slice.region_mut();
        assert_eq!((region.addr(), region.len()), (start + 2, 2));
        slice.as_mut().copy_from_slice(b"XY");
        // SAFETY: both bytes of the region were written, so one was.
        unsafe { slice.set_filled(1) };
        assert_eq!(slice.as_ref(), b"XY", "a short transfer does not shorten the range");
        let mut buf = slice.into_inner();
        assert_eq!(buf, b"abXYef");
        assert_eq!(buf.region_mut().addr(), start);
    }

    #[test]
    fn what_is_only_read_can_be_sliced_too() {
        let shared: Arc<[u8]> = Arc::from(*b"shared");
        assert_eq!(shared.slice(..5).region().len(), 5);
        assert_eq!("words".slice(1..3).as_ref(), b"or");
        assert_eq!("words".to_owned().slice(1..3).as_ref(), b"or");
    }

    /// A buffer that shows fewer bytes each time.
    struct Shrinking {
        bytes: [u8; 8],
        shown: Cell<usize>,
    }

    impl AsRef<[u8]> for Shrinking {
        fn as_ref(&self) -> &[u8] {
            let shown = self.shown.get();
            self.shown.set(shown.saturating_sub(5));
            &self.bytes[..shown]
        }
    }

    impl AsMut<[u8]> for Shrinking {
        fn as_mut(&mut self) -> &mut [u8] {
            &mut self.bytes[..self.shown.get()]
        }
    }

    #[test]
    fn a_buffer_that_shrinks_behind_its_slice_has_an_empty_region() {
        let mut slice = Shrinking { bytes: [7; 8], shown: Cell::new(8) }.slice(2..8);
        assert!(slice.region().is_empty());
        assert!(slice.region_mut().is_empty());
        assert!(slice.as_ref().is_empty());
        assert!(slice.as_mut().is_empty());
    }
}

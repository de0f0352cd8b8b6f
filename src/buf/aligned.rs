//! A buffer at an aligned address, for files that were opened with `O_DIRECT`.
//!
//! ```text
//!   start, a multiple of `align`
//!   ▼
//!   │ filled: shown by `Deref`   │ zeroes, or left by an earlier read   │
//!   │ the kernel reads these     │                                      │
//!   │ the kernel writes these, from the front, all of them              │
//!                                └ set_len, set_filled                  └ capacity
//! ```
//!
//! Every byte is initialised from the start, so moving the end of the filled part is safe.
//!
//! Leaves to others: which alignment a file needs (`statx`).
//!
//! # Safety
//!
//! `start` and `layout` describe one allocation, made in `new` and freed in `drop`. All of it is
//! initialised, and it is reached only through borrows of its `AlignedBuf`.
#![allow(unsafe_code, reason = "allocates at an alignment that `Vec` cannot express")]

use std::alloc::{self, Layout};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::slice;

use super::{IoBuf, IoBufMut, Region, RegionMut};

/// A buffer for files that were opened with `O_DIRECT`, whose transfers bypass the page cache.
///
/// For such a file the kernel requires three things to be aligned: the address in memory, the
/// offset in the file, and the length. It refuses a transfer with `EINVAL` if one of them is not.
/// Since Linux 6.1 `statx` reports the required alignment, if asked with `STATX_DIOALIGN`:
/// `stx_dio_mem_align` for the address, and `stx_dio_offset_align` for the offset and the length.
/// On older kernels, assume the logical block size of the device: often 512 bytes, and 4096 suits
/// nearly all devices.
///
/// This type aligns the address. The kernel writes up to [`capacity`](Self::capacity) bytes and
/// reads the filled bytes. You choose both the length and the offset as multiples of the alignment.
///
/// # Example
///
/// ```
/// use annulus::buf::{AlignedBuf, IoBuf, IoBufMut, SliceExt};
///
/// let mut buf = AlignedBuf::new(16384, 4096);
/// assert_eq!(buf.region_mut().addr() % 4096, 0);
/// assert_eq!(buf.region_mut().len(), 16384);
///
/// // A record of 5 bytes, written out as a block of 4096.
/// buf.set_len(4096);
/// buf[..5].copy_from_slice(b"hello");
/// assert_eq!(buf.region().len(), 4096);
///
/// // Only the second of four blocks.
/// buf.set_len(16384);
/// assert_eq!(buf.slice(4096..8192).region().addr() % 4096, 0);
/// ```
#[derive(Debug)]
#[doc(alias = "O_DIRECT")]
#[doc(alias = "posix_memalign")]
pub struct AlignedBuf {
    start: NonNull<u8>,
    layout: Layout,
    filled: usize,
}

// SAFETY: owns its allocation, and no other pointer to it exists, so it may move to another thread.
unsafe impl Send for AlignedBuf {}

// SAFETY: a shared borrow only reads, because writing needs an exclusive borrow.
unsafe impl Sync for AlignedBuf {}

impl AlignedBuf {
    /// Allocates `capacity` zeroed bytes at an address that is a multiple of `align`. No byte
    /// counts as filled yet.
    ///
    /// # Panics
    ///
    /// If `align` is not a power of two, if `capacity` is 0, or if `capacity`, rounded up to
    /// `align`, exceeds `isize::MAX`. Like `Vec`, it aborts if there is no memory.
    #[track_caller]
    pub fn new(capacity: usize, align: usize) -> Self {
        assert!(align.is_power_of_two(), "an alignment of {align} is not a power of two");
        assert!(capacity > 0, "a buffer of 0 bytes has no address to align");
        let Ok(layout) = Layout::from_size_align(capacity, align) else {
            panic!("{capacity} bytes, aligned to {align}, are more than memory can have");
        };
        // SAFETY: the layout is not of size 0, since `capacity` is not.
        let start = unsafe { alloc::alloc_zeroed(layout) };
        let Some(start) = NonNull::new(start) else { alloc::handle_alloc_error(layout) };
        Self { start, layout, filled: 0 }
    }

    /// How many bytes the kernel may write.
    #[inline]
    pub fn capacity(&self) -> usize {
        self.layout.size()
    }

    /// Marks the first `len` bytes as filled. Bytes that were not filled before are zero, or keep
    /// what they last held.
    ///
    /// # Panics
    ///
    /// If `len` exceeds the capacity.
    #[inline]
    #[track_caller]
    pub fn set_len(&mut self, len: usize) {
        let capacity = self.capacity();
        assert!(len <= capacity, "{len} bytes do not fit a buffer of {capacity}");
        self.filled = len;
    }

    #[inline]
    fn all(&self) -> &[u8] {
        // SAFETY: `start` is ours until `drop`, every byte after it is initialised because `new`
        // zeroed it, and writing needs an exclusive borrow.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.layout.size()) }
    }

    #[inline]
    fn all_mut(&mut self) -> &mut [u8] {
        // SAFETY: `start` is ours until `drop`, every byte after it is initialised because `new`
        // zeroed it, and writing needs an exclusive borrow.
        unsafe { slice::from_raw_parts_mut(self.start.as_ptr(), self.layout.size()) }
    }
}

impl Drop for AlignedBuf {
    fn drop(&mut self) {
        // SAFETY: `new` allocated it with this same layout, and nothing can use it after `drop`.
        unsafe { alloc::dealloc(self.start.as_ptr(), self.layout) };
    }
}

/// The filled bytes.
impl Deref for AlignedBuf {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.all()[..self.filled]
    }
}

/// The filled bytes.
impl DerefMut for AlignedBuf {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        let filled = self.filled;
        &mut self.all_mut()[..filled]
    }
}

/// The filled bytes.
impl AsRef<[u8]> for AlignedBuf {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        self
    }
}

/// The filled bytes.
impl AsMut<[u8]> for AlignedBuf {
    #[inline]
    fn as_mut(&mut self) -> &mut [u8] {
        self
    }
}

/// The kernel reads the filled bytes.
impl IoBuf for AlignedBuf {
    #[inline]
    fn region(&self) -> Region<'_> {
        self.as_ref().into()
    }
}

/// The kernel writes from the front; the bytes that it wrote count as filled afterwards.
impl IoBufMut for AlignedBuf {
    #[inline]
    fn region_mut(&mut self) -> RegionMut<'_> {
        self.all_mut().into()
    }

    /// Clamps `count` to the capacity.
    #[inline]
    unsafe fn set_filled(&mut self, count: usize) {
        self.filled = count.min(self.capacity());
    }
}

#[cfg(test)]
mod tests {
    use std::panic;

    use super::*;

    /// The panic message with which `what` is refused.
    fn refusal(what: impl FnOnce() + panic::UnwindSafe) -> String {
        let words = panic::catch_unwind(what).expect_err("it was not refused");
        let words = match words.downcast::<String>() {
            Ok(words) => return *words,
            Err(words) => words,
        };
        (*words.downcast::<&str>().expect("a panic with words")).to_owned()
    }

    #[test]
    fn the_address_is_a_multiple_of_the_alignment() {
        for shift in 0..=16 {
            for capacity in [1, 511, 512, 4097] {
                let mut buf = AlignedBuf::new(capacity, 1 << shift);
                assert_eq!(buf.region_mut().addr() % (1 << shift), 0);
                assert_eq!((buf.region_mut().len(), buf.capacity()), (capacity, capacity));
            }
        }
    }

    #[test]
    fn a_new_buffer_is_empty_and_holds_zeroes() {
        let mut buf = AlignedBuf::new(8192, 4096);
        assert!(buf.is_empty());
        assert!(buf.region().is_empty());
        buf.set_len(8192);
        assert_eq!(*buf, [0; 8192]);
    }

    #[test]
    fn nonsense_is_refused_in_words() {
        assert!(refusal(|| drop(AlignedBuf::new(64, 48))).contains("48 is not a power of two"));
        assert!(refusal(|| drop(AlignedBuf::new(64, 0))).contains("0 is not a power of two"));
        assert!(refusal(|| drop(AlignedBuf::new(0, 64))).contains("0 bytes"));
        let all = || drop(AlignedBuf::new(usize::MAX, 4096));
        assert!(refusal(all).contains("more than memory can have"));
    }

    #[test]
    fn a_length_beyond_the_capacity_is_refused_in_words() {
        let set = |len| move || AlignedBuf::new(100, 512).set_len(len);
        assert!(refusal(set(101)).contains("101 bytes do not fit a buffer of 100"));
        assert!(refusal(set(usize::MAX)).contains("do not fit"));
        set(100)();
    }

    #[test]
    fn the_kernel_reads_what_is_filled_and_writes_from_the_front() {
        let mut buf = AlignedBuf::new(1024, 512);
        buf.set_len(600);
        let front = buf.as_ptr().addr() as u64;
        assert_eq!((buf.region().addr(), buf.region().len()), (front, 600));
        let region = buf.region_mut();
        assert_eq!((region.addr(), region.len()), (front, 1024));
    }

    #[test]
    fn what_the_kernel_wrote_is_filled_and_nothing_more() {
        let mut buf = AlignedBuf::new(1024, 512);
        buf.set_len(1024);
        buf.fill(b'a');
        // SAFETY: the bytes are written already, since `fill` did.
        unsafe { buf.set_filled(3) };
        assert_eq!(*buf, *b"aaa");
        // SAFETY: nothing needs to be written for a count of 0.
        unsafe { buf.set_filled(0) };
        assert!(buf.is_empty());
        buf.set_len(5);
        assert_eq!(*buf, *b"aaaaa", "a smaller length forgets nothing");
        buf.set_len(2);
        assert_eq!(*buf, *b"aa");
    }

    #[test]
    fn a_count_beyond_the_capacity_fills_the_capacity() {
        let mut buf = AlignedBuf::new(16, 16);
        // SAFETY: `AlignedBuf` takes any count, since its bytes are initialised and it cuts.
        unsafe { buf.set_filled(usize::MAX) };
        assert_eq!(*buf, [0; 16]);
    }

    #[test]
    fn a_buffer_that_moves_to_another_thread_keeps_its_bytes() {
        let mut buf = AlignedBuf::new(4096, 4096);
        buf.set_len(2);
        buf.as_mut().copy_from_slice(b"hi");
        let front = buf.as_ptr().addr();
        let there = std::thread::spawn(move || {
            buf[1] = b'o';
            buf
        });
        let buf = there.join().expect("the thread");
        assert_eq!((buf.as_ref(), buf.as_ptr().addr()), (b"ho".as_slice(), front));
    }
}

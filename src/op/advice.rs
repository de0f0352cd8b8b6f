//! Advice on files: what of them will be read, and what may be written back.
//!
//! ```text
//!   a file   │ read soon │            │ done with │ written just now │
//!              WillNeed                 DontNeed    SyncFileRange
//! ```
//!
//! | operation | asks the kernel | since |
//! |---|---|---|
//! | [`Fadvise`] | to read ahead, more or less, or to let go of cached pages | Linux 5.6 |
//! | [`SyncFileRange`] | to begin writing back, or to wait for it | Linux 5.2 |
//!
//! Ranges are those of Rust: `4096..8192`, `4096..` to the end, `..` for all of a file. An empty
//! one is an error, since the kernel would take it for all of the file. So is a length that the
//! kernel cannot be told: nothing is cut to 32 bits.
//!
//! Keeps OP1: they point to nothing, and own the file. Leaves to others: whether bytes survive a
//! crash (`durable`), and advice on memory (`memory`).
#![allow(unsafe_code, reason = "writes entries")]

use std::io;
use std::ops::{Bound, RangeBounds};

use annulus_sys::abi::Sqe;

use super::target::Target;
use super::{Done, Op, Outcome, RingId};
use crate::prep;

/// A part of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Extent {
    offset: u64,
    /// How many bytes; 0 for all that follow. None when the range was empty.
    len: Option<u64>,
}

impl Extent {
    const WHOLE: Self = Self { offset: 0, len: Some(0) };

    fn of(range: &impl RangeBounds<u64>) -> Self {
        let offset = match range.start_bound() {
            Bound::Unbounded => Some(0),
            Bound::Included(&start) => Some(start),
            Bound::Excluded(&before) => before.checked_add(1),
        };
        let end = match range.end_bound() {
            Bound::Unbounded => return Self { offset: offset.unwrap_or(u64::MAX), len: Some(0) },
            // The last byte that there could be is not one that a file has.
            Bound::Included(&last) => last.saturating_add(1),
            Bound::Excluded(&end) => end,
        };
        let len = offset.and_then(|offset| end.checked_sub(offset)).filter(|&len| len > 0);
        Self { offset: offset.unwrap_or(u64::MAX), len }
    }
}

/// How a file will be used: `posix_fadvise(2)`.
#[doc(alias = "POSIX_FADV")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FileAdvice {
    /// As any other. For all of the file, whichever range is given.
    #[doc(alias = "POSIX_FADV_NORMAL")]
    Normal,
    /// Here and there: nothing is read ahead. For all of the file, whichever range is given.
    #[doc(alias = "POSIX_FADV_RANDOM")]
    Random,
    /// From the front to the back: more is read ahead. For all of the file, whichever range is
    /// given.
    #[doc(alias = "POSIX_FADV_SEQUENTIAL")]
    Sequential,
    /// Soon: reading begins.
    #[doc(alias = "POSIX_FADV_WILLNEED")]
    WillNeed,
    /// No more: pages that are cached are let go of, if all of them is in the range and nothing of
    /// them is still to be written back.
    #[doc(alias = "POSIX_FADV_DONTNEED")]
    DontNeed,
    /// Once: since Linux 6.3, reading makes nothing likelier to stay cached.
    #[doc(alias = "POSIX_FADV_NOREUSE")]
    NoReuse,
}

impl FileAdvice {
    /// As the kernel is told.
    fn bits(self) -> u32 {
        match self {
            Self::Normal => 0,
            Self::Random => 1,
            Self::Sequential => 2,
            Self::WillNeed => 3,
            Self::DontNeed => 4,
            Self::NoReuse => 5,
        }
    }
}

/// Tells the kernel how a file will be used. Since Linux 5.6.
///
/// # Completion
///
/// Once, with 0: the advice was heard, and may be followed later, or not at all.
///
/// # Cancellation
///
/// `ECANCELED` if it has not begun. Once begun, it cannot be stopped.
///
/// # Errors
///
/// `ESPIPE` for a pipe. `EINVAL` for a length of 4 GiB and more before Linux 6.10, and for
/// [`FileAdvice::DontNeed`] and the like of what has no pages. An empty range is an error in words.
#[doc(alias("IORING_OP_FADVISE", "io_uring_prep_fadvise", "io_uring_prep_fadvise64"))]
#[derive(Debug)]
pub struct Fadvise<F> {
    fd: F,
    advice: FileAdvice,
    extent: Extent,
}

impl<F> Fadvise<F> {
    /// About all of `fd`.
    pub fn new(fd: F, advice: FileAdvice) -> Self {
        Self { fd, advice, extent: Extent::WHOLE }
    }

    /// About these bytes of it.
    pub fn range(self, bytes: impl RangeBounds<u64>) -> Self {
        Self { extent: Extent::of(&bytes), ..self }
    }
}

// SAFETY: OP1: it points to nothing, and the descriptor is of `fd`. It completes once.
unsafe impl<F: Target> Op for Fadvise<F> {
    type Output = Outcome<(), F>;

    fn belongs_to(&self, ring: RingId) -> bool {
        self.fd.belongs_to(ring)
    }

    fn prep(&mut self) -> Sqe {
        let (offset, advice) = (self.extent.offset, self.advice.bits());
        // No range is less than none, so that the kernel refuses it.
        let len = self.extent.len.unwrap_or(u64::MAX);
        self.fd.aim(match u32::try_from(len) {
            // As every kernel understands it.
            Ok(len) => prep::fadvise(-1, offset, len, advice),
            Err(_) => prep::fadvise64(-1, offset, len, advice),
        })
    }

    fn finish(self, done: Done) -> Self::Output {
        let result = match self.extent.len {
            Some(_) => done.result().map(drop),
            None => Err(empty()),
        };
        Outcome { result, fd: self.fd, buf: () }
    }
}

fn empty() -> io::Error {
    let text = "an empty range, which the kernel would take for the whole file: give it a byte";
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

/// What is to become of pages that were written to, and have not reached the device.
#[doc(alias = "SYNC_FILE_RANGE")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum WriteBack {
    /// Writing back begins, of those that are not being written back already. It may wait for room
    /// in the device's queue.
    #[doc(alias = "SYNC_FILE_RANGE_WRITE")]
    Begin,
    /// Those that are being written back are waited for.
    #[doc(alias = "SYNC_FILE_RANGE_WAIT_BEFORE")]
    Wait,
    /// Both: waits for those, then begins with all that have been written to.
    BeginAgain,
    /// All of it: what was written to before has reached the device's cache when it completes.
    #[doc(alias = "SYNC_FILE_RANGE_WAIT_AFTER")]
    #[default]
    Whole,
}

impl WriteBack {
    /// As the kernel is told.
    fn bits(self) -> u32 {
        const BEFORE: u32 = libc::SYNC_FILE_RANGE_WAIT_BEFORE;
        const WRITE: u32 = libc::SYNC_FILE_RANGE_WRITE;
        const AFTER: u32 = libc::SYNC_FILE_RANGE_WAIT_AFTER;
        match self {
            Self::Begin => WRITE,
            Self::Wait => BEFORE,
            Self::BeginAgain => BEFORE | WRITE,
            Self::Whole => BEFORE | WRITE | AFTER,
        }
    }
}

/// Writes bytes of a file back from the page cache. Since Linux 5.2.
///
/// It spreads the load of a large write, and says nothing of a crash: neither what is needed to
/// find the bytes again is written, nor is the device asked to keep them. For that there is
/// [`Fsync`](super::Fsync).
///
/// # Completion
///
/// Once, with 0. A worker thread of the kernel does it.
///
/// # Cancellation
///
/// `ECANCELED` if it has not begun. Once begun, it cannot be stopped.
///
/// # Errors
///
/// `ESPIPE` for what is neither a file, nor a directory, nor a block device. `EIO` and others of
/// the device tell of earlier writes. An empty range, and one of 4 GiB and more that has an end, is
/// an error in words: the kernel takes 32 bits. Since Linux 6.0 no error breaks a chain.
#[doc(alias("IORING_OP_SYNC_FILE_RANGE", "io_uring_prep_sync_file_range"))]
#[derive(Debug)]
pub struct SyncFileRange<F> {
    fd: F,
    what: WriteBack,
    extent: Extent,
}

impl<F> SyncFileRange<F> {
    /// Writes back all of `fd`, and waits for it.
    pub fn new(fd: F) -> Self {
        Self { fd, what: WriteBack::Whole, extent: Extent::WHOLE }
    }

    /// These bytes of it.
    pub fn range(self, bytes: impl RangeBounds<u64>) -> Self {
        Self { extent: Extent::of(&bytes), ..self }
    }

    /// Does this much of it.
    pub fn only(self, what: WriteBack) -> Self {
        Self { what, ..self }
    }

    /// The length as the kernel can be told.
    fn len(&self) -> io::Result<u32> {
        let text = "a range of 4 GiB or more, and the kernel takes 32 bits: leave its end open";
        let too_long = |_| io::Error::new(io::ErrorKind::InvalidInput, text);
        u32::try_from(self.extent.len.ok_or_else(empty)?).map_err(too_long)
    }
}

// SAFETY: OP1: it points to nothing, and the descriptor is of `fd`. It completes once.
unsafe impl<F: Target> Op for SyncFileRange<F> {
    type Output = Outcome<(), F>;

    fn belongs_to(&self, ring: RingId) -> bool {
        self.fd.belongs_to(ring)
    }

    fn prep(&mut self) -> Sqe {
        // An offset below zero, so that the kernel refuses it.
        let (offset, len) = self.len().map_or((u64::MAX, 0), |len| (self.extent.offset, len));
        self.fd.aim(prep::sync_file_range(-1, len, offset, self.what.bits()))
    }

    fn finish(self, done: Done) -> Self::Output {
        let result = self.len().and_then(|_| done.result().map(drop));
        Outcome { result, fd: self.fd, buf: () }
    }
}

#[cfg(test)]
mod tests {
    use linux_raw_sys::general as raw;

    use super::*;

    #[test]
    fn a_range_is_where_it_begins_and_how_long_it_is() {
        let extent = |offset, len| Extent { offset, len };
        assert_eq!(Extent::of(&(..)), Extent::WHOLE);
        assert_eq!(Extent::of(&(4096..)), extent(4096, Some(0)));
        assert_eq!(Extent::of(&(4096..8192)), extent(4096, Some(4096)));
        assert_eq!(Extent::of(&(0..=4095)), extent(0, Some(4096)));
        assert_eq!(Extent::of(&(..(1 << 32) + 1)), extent(0, Some((1 << 32) + 1)));
        assert_eq!(Extent::of(&(5..5)), extent(5, None), "not all that follows");
        let backwards = (Bound::Included(6), Bound::Excluded(5));
        assert_eq!(Extent::of(&backwards).len, None);
        let beyond = (Bound::Excluded(u64::MAX), Bound::Unbounded);
        assert_eq!(Extent::of(&beyond), extent(u64::MAX, Some(0)), "which the kernel refuses");
    }

    #[test]
    fn no_length_is_cut() {
        let len = |range| Fadvise::new(std::io::stdin(), FileAdvice::DontNeed).range(range).prep();
        assert_eq!((len(0..0xffff_ffff).len, len(0..0xffff_ffff).addr), (0xffff_ffff, 0));
        assert_eq!((len(0..1 << 32).len, len(0..1 << 32).addr), (0, 1 << 32));
        let sync = |range| SyncFileRange::new(std::io::stdin()).range(range).prep();
        assert_eq!((sync(7..9).len, sync(7..9).off), (2, 7));
        assert_eq!((sync(0..1 << 32).len, sync(0..1 << 32).off), (0, u64::MAX), "no such offset");
        assert_eq!(sync(3..3).off, u64::MAX);
    }

    #[test]
    fn advice_is_the_number_of_that_name() {
        let pairs = [
            (FileAdvice::Normal, raw::POSIX_FADV_NORMAL),
            (FileAdvice::Random, raw::POSIX_FADV_RANDOM),
            (FileAdvice::Sequential, raw::POSIX_FADV_SEQUENTIAL),
            (FileAdvice::WillNeed, raw::POSIX_FADV_WILLNEED),
            (FileAdvice::DontNeed, raw::POSIX_FADV_DONTNEED),
            (FileAdvice::NoReuse, raw::POSIX_FADV_NOREUSE),
        ];
        for (advice, number) in pairs {
            assert_eq!(advice.bits(), number, "{advice:?}");
        }
    }
}

//! Advice on files: which parts will be read, and which may be written back.
//!
//! ```text
//!   a file   │ read soon │            │ done with │ written just now │
//!              WillNeed                 DontNeed    SyncFileRange
//! ```
//!
//! | operation | asks the kernel | since |
//! |---|---|---|
//! | [`Fadvise`] | to read ahead, more or less, or to drop cached pages | Linux 5.6 |
//! | [`SyncFileRange`] | to begin writing back, or to wait for it | Linux 5.2 |
//!
//! Ranges are Rust's: `4096..8192`, `4096..` to the end, `..` for the whole file. An empty range is
//! an error, since the kernel would take it for the whole file. A length that does not fit in the
//! entry is an error too: nothing is cut to 32 bits.
//!
//! Keeps OP1: the entries point to nothing, and the operations own the file. Leaves to others:
//! whether bytes survive a crash (`durable`), and advice on memory (`memory`).
#![allow(unsafe_code, reason = "writes entries")]

use std::io;
use std::ops::{Bound, RangeBounds};

use annulus_sys::abi::Sqe;

use crate::op::target::Target;
use crate::op::{Done, Op, Outcome, RingId};
use crate::prep;

/// A range of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Extent {
    offset: u64,
    /// The length in bytes; 0 for everything that follows. `None` when the range was empty.
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
            // No file has a byte at `u64::MAX`.
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
    /// No special pattern. Applies to the whole file, whatever the range.
    #[doc(alias = "POSIX_FADV_NORMAL")]
    Normal,
    /// Random access: nothing is read ahead. Applies to the whole file, whatever the range.
    #[doc(alias = "POSIX_FADV_RANDOM")]
    Random,
    /// Sequential access: more is read ahead. Applies to the whole file, whatever the range.
    #[doc(alias = "POSIX_FADV_SEQUENTIAL")]
    Sequential,
    /// The range will be read soon: reading begins.
    #[doc(alias = "POSIX_FADV_WILLNEED")]
    WillNeed,
    /// The range is no longer needed: cached pages are dropped if they lie entirely in the range
    /// and are not waiting to be written back.
    #[doc(alias = "POSIX_FADV_DONTNEED")]
    DontNeed,
    /// The range is read only once: since Linux 6.3, reading does not make pages likelier to stay
    /// cached.
    #[doc(alias = "POSIX_FADV_NOREUSE")]
    NoReuse,
}

impl FileAdvice {
    /// The number that the kernel sees.
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

/// Tells the kernel how a file will be used: `posix_fadvise(2)`. Since Linux 5.6.
///
/// [`Normal`](FileAdvice::Normal), [`Random`](FileAdvice::Random) and
/// [`Sequential`](FileAdvice::Sequential) are about the open file, and stay until other advice
/// comes: every descriptor that was cloned from this one has them too. The others are about the
/// pages, now; they run in a worker thread, and [`WillNeed`](FileAdvice::WillNeed) does not wait
/// until the bytes are there.
///
/// Pages that were written to stay until they are on the device: [`Fsync`](crate::op::Fsync) first,
/// and [`DontNeed`](FileAdvice::DontNeed) then.
///
/// # Completion
///
/// Once, with 0: the kernel has the advice. It may follow it later, or not at all.
///
/// # Cancellation
///
/// `ECANCELED` if it has not begun. Once begun, it cannot be stopped.
///
/// # Errors
///
/// `ESPIPE` for a pipe. `EINVAL` for a length of 4 GiB or more before Linux 6.10, and for
/// [`FileAdvice::DontNeed`] and similar advice on a file without pages. `InvalidInput` with a
/// message for an empty range.
///
/// # Example
///
/// ```
/// use annulus::Setup;
/// use annulus::op::{Fadvise, FileAdvice, SyncFileRange};
/// use std::fs::File;
///
/// let mut ring = Setup::new(4).build()?;
/// # let path = std::env::temp_dir().join(format!("annulus-fadvise-{}", std::process::id()));
/// std::fs::write(&path, [7; 8192])?;
/// let file = File::open(&path)?;
/// # std::fs::remove_file(path)?;
/// let back = ring.submit(SyncFileRange::new(file).range(..4096))?; // Written back, not durable.
/// let outcome = ring.wait(back)?;
/// outcome.result?;
/// let drop = ring.submit(Fadvise::new(outcome.fd, FileAdvice::DontNeed).range(..4096))?;
/// ring.wait(drop)?.result?; // The first page leaves the cache, if nobody else uses it.
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias("IORING_OP_FADVISE", "io_uring_prep_fadvise", "io_uring_prep_fadvise64"))]
#[derive(Debug)]
pub struct Fadvise<F> {
    fd: F,
    advice: FileAdvice,
    extent: Extent,
}

impl<F> Fadvise<F> {
    /// Gives advice on the whole of `fd`.
    pub fn new(fd: F, advice: FileAdvice) -> Self {
        Self { fd, advice, extent: Extent::WHOLE }
    }

    /// Restricts the advice to these bytes.
    pub fn range(self, bytes: impl RangeBounds<u64>) -> Self {
        Self { extent: Extent::of(&bytes), ..self }
    }
}

// SAFETY: OP1: the entry points to nothing, and the descriptor is of `fd`. It completes once.
unsafe impl<F: Target> Op for Fadvise<F> {
    type Output = Outcome<(), F>;

    fn belongs_to(&self, ring: RingId) -> bool {
        self.fd.belongs_to(ring)
    }

    fn prep(&mut self) -> Sqe {
        let (offset, advice) = (self.extent.offset, self.advice.bits());
        // For an empty range, a length below zero, which the kernel refuses.
        let len = self.extent.len.unwrap_or(u64::MAX);
        self.fd.aim(match u32::try_from(len) {
            // In the form that every kernel understands.
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

/// What happens to pages that were written to and have not reached the device.
#[doc(alias = "SYNC_FILE_RANGE")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum WriteBack {
    /// Begins writing back the pages that are not being written back already. It may wait for room
    /// in the device's queue.
    #[doc(alias = "SYNC_FILE_RANGE_WRITE")]
    Begin,
    /// Waits for the pages that are being written back.
    #[doc(alias = "SYNC_FILE_RANGE_WAIT_BEFORE")]
    Wait,
    /// Does both: waits for those pages, then begins writing back all pages that were written to.
    BeginAgain,
    /// Does everything: all earlier writes have reached the device's cache when it completes.
    #[doc(alias = "SYNC_FILE_RANGE_WAIT_AFTER")]
    #[default]
    Whole,
}

impl WriteBack {
    /// The number that the kernel sees.
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

/// Writes bytes of a file back from the page cache: `sync_file_range(2)`. Since Linux 5.2.
///
/// It spreads the load of a large write, and gives no guarantee after a crash: it neither writes
/// the metadata that is needed to find the bytes again, nor asks the device to flush its cache. For
/// that, use [`Fsync`](crate::op::Fsync).
///
/// # Completion
///
/// Once, with 0. It runs in a worker thread of the kernel.
///
/// # Cancellation
///
/// `ECANCELED` if it has not begun. Once begun, it cannot be stopped.
///
/// # Errors
///
/// `ESPIPE` for anything but a file, a directory or a block device. `EIO` and other errors of the
/// device are about earlier writes. `InvalidInput` with a message for an empty range, and for a
/// range with an end and a length of 4 GiB or more: the kernel takes 32 bits. Since Linux 6.0 no
/// error breaks a chain.
#[doc(alias("IORING_OP_SYNC_FILE_RANGE", "io_uring_prep_sync_file_range"))]
#[derive(Debug)]
pub struct SyncFileRange<F> {
    fd: F,
    what: WriteBack,
    extent: Extent,
}

impl<F> SyncFileRange<F> {
    /// Writes back the whole of `fd`, and waits for it.
    pub fn new(fd: F) -> Self {
        Self { fd, what: WriteBack::Whole, extent: Extent::WHOLE }
    }

    /// Restricts it to these bytes.
    pub fn range(self, bytes: impl RangeBounds<u64>) -> Self {
        Self { extent: Extent::of(&bytes), ..self }
    }

    /// Does only the part that `what` names.
    pub fn only(self, what: WriteBack) -> Self {
        Self { what, ..self }
    }

    /// The length as the kernel takes it.
    fn len(&self) -> io::Result<u32> {
        let text = "the range is 4 GiB or longer, and the kernel takes 32 bits: leave its end open";
        let too_long = |_| io::Error::new(io::ErrorKind::InvalidInput, text);
        u32::try_from(self.extent.len.ok_or_else(empty)?).map_err(too_long)
    }
}

// SAFETY: OP1: the entry points to nothing, and the descriptor is of `fd`. It completes once.
unsafe impl<F: Target> Op for SyncFileRange<F> {
    type Output = Outcome<(), F>;

    fn belongs_to(&self, ring: RingId) -> bool {
        self.fd.belongs_to(ring)
    }

    fn prep(&mut self) -> Sqe {
        // On an error, an offset below zero, which the kernel refuses.
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

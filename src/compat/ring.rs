//! The ring: its two queues, and what lends them.
//!
//! ```text
//!   IoUring { sq: cell, cq: cell, shared }
//!              │         │         └─ &shared  Submitter          by &self
//!              │         └─ &mut ──── CompletionQueue             by &mut self, or unsafe
//!              └─ &mut ────────────── SubmissionQueue             by &mut self, or unsafe
//! ```
//!
//! A submitter lives beside both queues, so it has its own view of the submission indices
//! ([`SqWatch`](annulus_sys::sq::SqWatch)), which sees what was published.
//!
//! # Safety
//!
//! A queue is lent once at a time: by `&mut self`, or as the caller of a `_shared` function
//! promised.
#![allow(unsafe_code, reason = "lends its queues by a shared reference")]

mod builder;

use std::cell::UnsafeCell;
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use annulus_sys::flags::SetupFlags;
use annulus_sys::kernel::Kernel;
use annulus_sys::rings::Rings;
use annulus_sys::sq;
use annulus_sys::syscall::RingFd;

use super::cqueue::{self, CompletionQueue, Half};
use super::parameters::Parameters;
use super::squeue::{self, SubmissionQueue};
use super::submitter::{Shared, Submitter};
pub use builder::Builder;

/// An io_uring instance, whose entries are an `S` and whose completions are a `C`.
///
/// Dropping it neither cancels what is in flight nor waits for it: memory that the kernel uses must
/// stay valid until the last completion, or the end of the process (OP1).
pub struct IoUring<S = squeue::Entry, C = cqueue::Entry>
where
    S: squeue::EntryMarker,
    C: cqueue::EntryMarker,
{
    sq: UnsafeCell<sq::SubmissionQueue>,
    cq: UnsafeCell<Half<C::Raw>>,
    shared: Shared,
    of: PhantomData<fn() -> (S, C)>,
}

const _: () = {
    const fn is_send_and_sync<T: Send + Sync>() {}
    is_send_and_sync::<Shared>();
};

// SAFETY: by a shared reference a queue is reached only through the `_shared` functions, whose
// callers promise that nobody else has it; all the rest is `Sync`.
unsafe impl<S: squeue::EntryMarker, C: cqueue::EntryMarker> Sync for IoUring<S, C> {}

impl IoUring<squeue::Entry, cqueue::Entry> {
    /// A ring of `entries` submission entries, rounded up to a power of two, with the kernel's
    /// defaults.
    ///
    /// # Errors
    ///
    /// Those of `io_uring_setup(2)` and `mmap(2)`.
    pub fn new(entries: u32) -> io::Result<Self> {
        Self::builder().build(entries)
    }

    /// Takes over a ring that exists.
    ///
    /// # Errors
    ///
    /// Those of `mmap(2)`; `EINVAL` for a ring whose entries are not of 64 and 16 bytes, or whose
    /// memory is the caller's; `EBUSY` if entries are published that the kernel has not consumed.
    ///
    /// # Panics
    ///
    /// When `params` cannot be those of a ring.
    ///
    /// # Safety
    ///
    /// `fd` must be a ring and belong to the caller, and `params` must be what the kernel returned
    /// for it when it was set up; it must not have been resized. No other code may have mapped the
    /// ring.
    pub unsafe fn from_fd(fd: RawFd, params: Parameters) -> io::Result<Self> {
        // SAFETY: the caller's, as promised to `from_fd`.
        let fd = RingFd::Owned(unsafe { OwnedFd::from_raw_fd(fd) });
        if params.0.flags.intersects(OTHER_SHAPES) {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        // SAFETY: as promised to `from_fd`.
        let rings = unsafe { Rings::adopt(&Kernel::LINUX, fd, params.0) }?;
        Ok(Self::over(rings))
    }
}

/// Flags of rings whose slots or memory are not what [`IoUring::from_fd`] expects.
const OTHER_SHAPES: SetupFlags = SetupFlags::SQE128
    .union(SetupFlags::CQE32)
    .union(SetupFlags::SQE_MIXED)
    .union(SetupFlags::CQE_MIXED)
    .union(SetupFlags::SQ_REWIND)
    .union(SetupFlags::NO_MMAP)
    .union(SetupFlags::REGISTERED_FD_ONLY);

impl<S: squeue::EntryMarker, C: cqueue::EntryMarker> IoUring<S, C> {
    /// A builder, which can ask for more than [`new`](IoUring::new).
    #[must_use]
    pub fn builder() -> Builder<S, C> {
        Builder::default()
    }

    /// A ring over `rings`, whose slots have the sizes of `S` and `C`.
    pub(super) fn over(rings: Rings) -> Self {
        let (sq, cq, base) = rings.split();
        let shared = Shared::new(base, sq.watch());
        // SAFETY: any bytes are a `Raw`, as the sealed trait says: it is a `Cqe` or a `Cqe32`.
        let cq = UnsafeCell::new(unsafe { Half::over(cq) });
        Self { sq: UnsafeCell::new(sq), cq, shared, of: PhantomData }
    }

    /// What submits, waits and registers. It lives beside both queues.
    #[inline]
    pub fn submitter(&self) -> Submitter<'_> {
        Submitter::over(&self.shared)
    }

    /// What the kernel said about the ring.
    #[inline]
    pub fn params(&self) -> &Parameters {
        self.shared.params()
    }

    /// Submits all published entries: see [`Submitter::submit`].
    ///
    /// # Errors
    ///
    /// As [`Submitter::submit`].
    #[inline]
    pub fn submit(&self) -> io::Result<usize> {
        self.submitter().submit()
    }

    /// Submits all published entries and waits for completions: see
    /// [`Submitter::submit_and_wait`].
    ///
    /// # Errors
    ///
    /// As [`Submitter::submit_and_wait`].
    #[inline]
    pub fn submit_and_wait(&self, want: usize) -> io::Result<usize> {
        self.submitter().submit_and_wait(want)
    }

    /// All three parts. A queue must be synced or dropped for the others to see what it did.
    #[inline]
    pub fn split(&mut self) -> (Submitter<'_>, SubmissionQueue<'_, S>, CompletionQueue<'_, C>) {
        let Self { sq, cq, shared, .. } = self;
        let sq = SubmissionQueue::over(sq.get_mut());
        (Submitter::over(shared), sq, CompletionQueue::over(cq.get_mut()))
    }

    /// The submission queue.
    #[inline]
    pub fn submission(&mut self) -> SubmissionQueue<'_, S> {
        SubmissionQueue::over(self.sq.get_mut())
    }

    /// The submission queue, by a shared reference.
    ///
    /// # Safety
    ///
    /// No other [`SubmissionQueue`] of this ring may exist, and its use must have happened before
    /// this call.
    #[inline]
    pub unsafe fn submission_shared(&self) -> SubmissionQueue<'_, S> {
        // SAFETY: nobody else has the queue, as promised to `submission_shared`.
        SubmissionQueue::over(unsafe { &mut *self.sq.get() })
    }

    /// The completion queue.
    #[inline]
    pub fn completion(&mut self) -> CompletionQueue<'_, C> {
        CompletionQueue::over(self.cq.get_mut())
    }

    /// The completion queue, by a shared reference.
    ///
    /// # Safety
    ///
    /// No other [`CompletionQueue`] of this ring may exist, and its use must have happened before
    /// this call.
    #[inline]
    pub unsafe fn completion_shared(&self) -> CompletionQueue<'_, C> {
        // SAFETY: nobody else has the queue, as promised to `completion_shared`.
        CompletionQueue::over(unsafe { &mut *self.cq.get() })
    }
}

impl<S: squeue::EntryMarker, C: cqueue::EntryMarker> AsRawFd for IoUring<S, C> {
    fn as_raw_fd(&self) -> RawFd {
        self.shared.fd().as_raw_fd()
    }
}

impl<S: squeue::EntryMarker, C: cqueue::EntryMarker> AsFd for IoUring<S, C> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.fd()
    }
}

impl<S: squeue::EntryMarker, C: cqueue::EntryMarker> fmt::Debug for IoUring<S, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IoUring").field("params", self.params()).finish_non_exhaustive()
    }
}

//! Cancelling requests: one by its ticket, or all that match.
//!
//! ```text
//!   Cancel::ticket(&read) ──► the kernel ──┬─► CancelOutcome: what became of the attempt
//!                                          └─► the read still completes: keep its ticket
//! ```
//!
//! | cancel | cancels | since |
//! |---|---|---|
//! | [`Cancel::ticket`] | one operation | Linux 5.5 |
//! | [`Cancel::fd`] | all operations on a file, or the first found | Linux 5.19 |
//! | [`Cancel::opcode`] | all operations with one opcode | Linux 6.6 |
//! | [`Cancel::any`] | everything on the ring | Linux 5.19 |
//!
//! A cancel does not end an operation by itself. The operation that it finds completes with
//! `ECANCELED`, or with the work that it had already done, before or after the cancel completes.
//! Only that completion returns the operation's resources. [`Ring::cancel`](crate::Ring::cancel)
//! cancels without reporting an outcome.
//!
//! A cancel that matches by anything other than a ticket also finds the ring's internal requests
//! and raw entries; the ring submits its internal requests again. And like every entry, a cancel
//! waits behind an earlier [drained](crate::op::Op::drained) operation: it can cancel neither that
//! operation nor those that wait behind it.
//!
//! Keeps OP2: an operation is named by its ticket, and only on its ring. Leaves to others: what a
//! cancelled operation completes with.
#![allow(unsafe_code, reason = "writes entries")]

use std::io;

use annulus_sys::abi::Sqe;
use annulus_sys::flags::CancelFlags;
use annulus_sys::opcode::Opcode;

use crate::lease::ticket::Ticket;
use crate::lease::user_data::kind;
use crate::op::target::Target;
use crate::op::{Done, Op, RingId};
use crate::prep;

/// How an operation names another operation on its ring.
#[derive(Debug, Clone, Copy)]
pub(in crate::op) struct Name {
    pub(in crate::op) user_data: u64,
    pub(in crate::op) ring: RingId,
}

impl Name {
    pub(in crate::op) fn of<O>(ticket: &Ticket<O>) -> Self {
        Self { user_data: ticket.user_data(), ring: ticket.ring() }
    }
}

/// The outcome of an attempt to cancel.
#[derive(Debug)]
#[must_use = "an operation that was found still completes: keep its ticket"]
pub enum CancelOutcome {
    /// This many operations were found, at least one. Those that were already running may complete
    /// as usual.
    Cancelled(u32),
    /// None was found: the operation has completed, is about to complete, or has not begun because
    /// a chain holds it back. On a ring with a polling thread (SQPOLL) the kernel also reports this
    /// for an operation that a worker thread runs, although that operation is interrupted (seen on
    /// 6.18).
    NotFound,
    /// The operation is already running, and may have been interrupted: then it completes with
    /// `EINTR` or `ECANCELED`, otherwise as usual.
    TooLate,
    /// The kernel refused. `EINVAL`: the kernel is too old for this kind of match.
    Failed(io::Error),
}

impl CancelOutcome {
    /// The outcome of a request that cancels one operation.
    pub(in crate::op) fn of_one(done: &Done) -> Self {
        Self::of(done, 1)
    }

    /// The outcome of a request that cancels many, whose result is their number.
    fn of_many(done: &Done) -> Self {
        Self::of(done, 0)
    }

    fn of(done: &Done, at_least: u32) -> Self {
        match done.result() {
            Ok(count) if count.max(at_least) > 0 => Self::Cancelled(count.max(at_least)),
            Ok(_) => Self::NotFound,
            Err(error) => match error.raw_os_error() {
                Some(libc::ENOENT) => Self::NotFound,
                Some(libc::EALREADY) => Self::TooLate,
                _ => Self::Failed(error),
            },
        }
    }

    /// How many operations were found; 0 where the attempt came too late.
    pub fn count(&self) -> u32 {
        match self {
            Self::Cancelled(count) => *count,
            Self::NotFound | Self::TooLate | Self::Failed(_) => 0,
        }
    }
}

/// The outcome of an attempt to change a request that is in flight.
#[derive(Debug)]
#[must_use = "the request may have ended before it could be changed"]
pub enum UpdateOutcome {
    /// The request was changed.
    Updated,
    /// The request has completed, or is about to; nothing was changed.
    NotFound,
    /// The request is completing right now; nothing was changed.
    TooLate,
    /// The kernel refused.
    Failed(io::Error),
}

impl UpdateOutcome {
    pub(in crate::op) fn of(done: &Done) -> Self {
        match CancelOutcome::of_one(done) {
            CancelOutcome::Cancelled(_) => Self::Updated,
            CancelOutcome::NotFound => Self::NotFound,
            CancelOutcome::TooLate => Self::TooLate,
            CancelOutcome::Failed(error) => Self::Failed(error),
        }
    }
}

/// Cancels one operation, or many. Since Linux 5.5.
///
/// It is an entry like all others: it acts with the next submit, and takes a slot.
/// [`Ring::cancel`](crate::Ring::cancel) needs no ticket of its own, and
/// [`Ring::cancel_now`](crate::Ring::cancel_now) does not wait behind what is queued.
///
/// That an operation was found does not mean that it is over, nor that it failed: keep its ticket
/// and wait for it. What arrives in that moment is in its output.
///
/// # Completion
///
/// Once, with a [`CancelOutcome`], before or after the operations that it cancels.
///
/// # Cancellation
///
/// It runs at once, and cannot be cancelled.
///
/// # Errors
///
/// They are in the [`CancelOutcome`]: `NotFound` (`ENOENT`), `TooLate` (`EALREADY`), and `Failed`
/// with `EINVAL` for a kind of match that this kernel does not have.
///
/// # Example
///
/// ```
/// use annulus::Setup;
/// use annulus::op::{Cancel, CancelOutcome, Read};
///
/// let mut ring = Setup::new(4).build()?;
/// let (silent, _writer) = std::io::pipe()?;
/// let read = ring.submit(Read::new(silent, [0; 8]))?;
/// let cancel = ring.submit(Cancel::ticket(&read))?;
/// let outcome = ring.wait(cancel)?;
/// assert!(matches!(outcome, CancelOutcome::Cancelled(1)));
/// let error = ring.wait(read)?.result.unwrap_err();
/// assert_eq!(error.raw_os_error(), Some(125)); // ECANCELED
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "IORING_OP_ASYNC_CANCEL")]
#[doc(alias = "io_uring_prep_cancel")]
#[derive(Debug)]
pub struct Cancel {
    entry: Sqe,
    /// The ring of the operation to cancel, if one is named.
    ring: Option<RingId>,
}

/// A `user_data` that no request has: marked as internal, and none of the internal ones in use.
const NOBODY: u64 = kind::INTERNAL | !kind::MASK;

impl Cancel {
    /// Cancels the operation of `ticket`. Accepted only on the ring of that operation.
    #[doc(alias = "io_uring_prep_cancel64")]
    pub fn ticket<O>(ticket: &Ticket<O>) -> Self {
        let Name { user_data, ring } = Name::of(ticket);
        Self { entry: prep::cancel_user_data(user_data), ring: Some(ring) }
    }

    /// Cancels everything on the ring. Since Linux 5.19.
    #[doc(alias("IORING_ASYNC_CANCEL_ANY", "IORING_ASYNC_CANCEL_ALL"))]
    pub fn any() -> Self {
        let entry = prep::cancel(NOBODY, CancelFlags::ANY | CancelFlags::ALL);
        Self { entry, ring: None }
    }

    /// Cancels all operations with this `opcode`. Since Linux 6.6; before, the outcome is either
    /// [`CancelOutcome::Failed`] with `EINVAL` or, since 6.0, [`CancelOutcome::NotFound`].
    #[doc(alias = "IORING_ASYNC_CANCEL_OP")]
    pub fn opcode(opcode: Opcode) -> Self {
        // Kernels that ignore the flag look for the `user_data`.
        Self { entry: prep::cancel_opcode(opcode, NOBODY, CancelFlags::ALL), ring: None }
    }

    /// Cancels all operations on the file behind `fd`. Do this before closing the file, because
    /// closing cancels nothing.
    pub fn fd<F>(fd: F) -> CancelFd<F> {
        CancelFd { fd, flags: CancelFlags::ALL }
    }
}

// SAFETY: OP1: the entry points to nothing. It completes once; `belongs_to` checks that the
// operation that it names is on this ring (OP2).
unsafe impl Op for Cancel {
    type Output = CancelOutcome;

    fn belongs_to(&self, ring: RingId) -> bool {
        self.ring.is_none_or(|of| of == ring)
    }

    fn prep(&mut self) -> Sqe {
        self.entry
    }

    fn finish(self, done: Done) -> CancelOutcome {
        match self.ring {
            Some(_) => CancelOutcome::of_one(&done),
            None => CancelOutcome::of_many(&done),
        }
    }
}

/// Cancels all operations on a file, however they name it: a [`FixedFile`] and the descriptor that
/// it was made from count as one file. Made by [`Cancel::fd`]. Since Linux 5.19; before, it fails
/// with `EINVAL`.
///
/// [`FixedFile`]: crate::lease::FixedFile
///
/// It is the open file that counts, and not the number: operations on a descriptor that `dup(2)`
/// made of this one are found, too, and those of another `open(2)` of the same path are not.
///
/// # Completion
///
/// Once, with a [`CancelOutcome`] and the file.
///
/// # Cancellation
///
/// It runs at once, and cannot be cancelled.
///
/// # Errors
///
/// In the [`CancelOutcome`], as for [`Cancel`].
///
/// # Example
///
/// ```
/// use annulus::Setup;
/// use annulus::op::{Cancel, Read};
///
/// let mut ring = Setup::new(8).build()?;
/// let (silent, _writer) = std::io::pipe()?;
/// let again = silent.try_clone()?; // Another number for the same file.
/// let mut reads = Vec::new();
/// for pipe in [silent.try_clone()?, silent] {
///     reads.push(ring.submit(Read::new(pipe, [0; 8]))?);
/// }
/// let cancel = ring.submit(Cancel::fd(again))?;
/// let (outcome, _again) = ring.wait(cancel)?;
/// if outcome.count() == 2 { // Linux 5.19
///     for read in reads {
///         assert!(ring.wait(read)?.result.is_err()); // ECANCELED
///     }
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias("IORING_OP_ASYNC_CANCEL", "IORING_ASYNC_CANCEL_FD"))]
#[doc(alias = "io_uring_prep_cancel_fd")]
#[derive(Debug)]
pub struct CancelFd<F> {
    fd: F,
    flags: CancelFlags,
}

impl<F> CancelFd<F> {
    /// Cancels only the first operation that is found; the kernel does not say which one that is.
    pub fn first(self) -> Self {
        Self { flags: CancelFlags::empty(), ..self }
    }
}

// SAFETY: OP1: the entry points to nothing, and its descriptor is of `fd`. It completes once.
unsafe impl<F: Target> Op for CancelFd<F> {
    type Output = (CancelOutcome, F);

    fn belongs_to(&self, ring: RingId) -> bool {
        self.fd.belongs_to(ring)
    }

    fn prep(&mut self) -> Sqe {
        self.fd.aim(prep::cancel_fd(-1, self.flags))
    }

    fn finish(self, done: Done) -> Self::Output {
        let outcome = if self.flags.contains(CancelFlags::ALL) {
            CancelOutcome::of_many(&done)
        } else {
            CancelOutcome::of_one(&done)
        };
        (outcome, self.fd)
    }
}

#[cfg(test)]
mod tests {
    use annulus_sys::flags::CqeFlags;

    use super::*;
    use crate::lease::Resource;

    fn done(result: i32) -> Done {
        let (flags, resource) = (CqeFlags::empty(), Resource::Nothing);
        Done::new(result, flags, None, resource)
    }

    #[test]
    fn an_outcome_says_how_many_were_found() {
        assert_eq!(CancelOutcome::of_one(&done(0)).count(), 1);
        assert_eq!(CancelOutcome::of_many(&done(3)).count(), 3);
        assert!(matches!(CancelOutcome::of_many(&done(0)), CancelOutcome::NotFound));
        for of in [CancelOutcome::of_one, CancelOutcome::of_many] {
            assert!(matches!(of(&done(-libc::ENOENT)), CancelOutcome::NotFound));
            assert!(matches!(of(&done(-libc::EALREADY)), CancelOutcome::TooLate));
            let CancelOutcome::Failed(error) = of(&done(-libc::EINVAL)) else { panic!("found") };
            assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
        }
    }

    #[test]
    fn op2_what_names_no_ticket_names_no_word_of_an_operation() {
        // A ring's first operation has the `user_data` 0, and old kernels ignore the other
        // criteria.
        for mut cancel in [Cancel::any(), Cancel::opcode(Opcode::READ)] {
            assert_eq!(cancel.prep().addr, NOBODY);
        }
        assert_eq!(NOBODY & kind::MASK, kind::INTERNAL);
    }
}

//! Cancelling requests: one by its ticket, or all that something is true of.
//!
//! ```text
//!   Cancel::ticket(&read) ──► the kernel ──┬─► CancelOutcome: what became of the attempt
//!                                          └─► the read completes, as ever: keep its ticket
//! ```
//!
//! | cancel | cancels | since |
//! |---|---|---|
//! | [`Cancel::ticket`] | one operation | Linux 5.5 |
//! | [`Cancel::fd`] | all that are about a file, or the first | Linux 5.19 |
//! | [`Cancel::opcode`] | all that do one thing | Linux 6.6 |
//! | [`Cancel::any`] | everything on the ring | Linux 5.19 |
//!
//! A cancel ends nothing by itself. What it found completes with `ECANCELED`, or with what it had
//! already done, before the cancel or after it; only that completion gives the operation back.
//! [`Ring::cancel`](crate::Ring::cancel) is the same without an answer.
//!
//! Those that find by something else than a ticket find the ring's own requests too, and what was
//! pushed raw; the ring arms its own anew. And a cancel waits for a [drained](super::Op::drained)
//! operation before it, as every entry does: it cannot end that one, nor what waits behind it.
//!
//! Keeps OP2: an operation is named by its ticket, and only on its ring. Leaves to others: what a
//! cancelled operation completes with.
#![allow(unsafe_code, reason = "writes entries")]

use std::io;

use annulus_sys::abi::Sqe;
use annulus_sys::flags::CancelFlags;
use annulus_sys::opcode::Opcode;

use super::target::Target;
use super::{Done, Op, RingId};
use crate::inflight::kind;
use crate::prep;
use crate::ticket::Ticket;

/// How an operation names another one of its ring.
#[derive(Debug, Clone, Copy)]
pub(super) struct Name {
    pub(super) word: u64,
    pub(super) ring: RingId,
}

impl Name {
    pub(super) fn of<O>(ticket: &Ticket<O>) -> Self {
        Self { word: ticket.word(), ring: ticket.ring() }
    }
}

/// What became of an attempt to cancel.
#[derive(Debug)]
#[must_use = "what was found completes all the same: keep its ticket"]
pub enum CancelOutcome {
    /// So many were found, at least one. Those that ran already among them may complete as usual.
    Cancelled(u32),
    /// There was none: it has completed, is just about to, or has not begun because a chain holds
    /// it back. On a ring with a polling thread also said of what a worker runs, which is
    /// interrupted all the same (seen in 6.18).
    NotFound,
    /// It runs already, and perhaps was interrupted: then it completes with `EINTR` or
    /// `ECANCELED`, otherwise as usual.
    TooLate,
    /// The kernel refused. `EINVAL`: it is too old for this way of finding.
    Failed(io::Error),
}

impl CancelOutcome {
    /// Of a request that cancels one.
    pub(super) fn of_one(done: &Done) -> Self {
        Self::of(done, 1)
    }

    /// Of a request that cancels many, and whose result says how many.
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

    /// How many were found; none where the attempt came too late.
    pub fn count(&self) -> u32 {
        match self {
            Self::Cancelled(count) => *count,
            Self::NotFound | Self::TooLate | Self::Failed(_) => 0,
        }
    }
}

/// What became of an attempt to change a request that is in flight.
#[derive(Debug)]
#[must_use = "the request may have ended before it could be changed"]
pub enum UpdateOutcome {
    /// It is changed.
    Updated,
    /// It has completed, or is just about to; nothing was changed.
    NotFound,
    /// It is completing right now; nothing was changed.
    TooLate,
    /// The kernel refused.
    Failed(io::Error),
}

impl UpdateOutcome {
    pub(super) fn of(done: &Done) -> Self {
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
/// # Completion
///
/// Once, with a [`CancelOutcome`]: before what it cancels, or after.
///
/// # Cancellation
///
/// It is done at once, and cannot be cancelled.
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
#[derive(Debug)]
pub struct Cancel {
    entry: Sqe,
    /// Where what it names is, if it names anything.
    ring: Option<RingId>,
}

/// A word that no request has: of the ring's own, and none of those that there are.
const NOBODY: u64 = kind::OWN | !kind::MASK;

impl Cancel {
    /// Cancels the operation that `ticket` is of. It is accepted on that one's ring only.
    #[doc(alias = "io_uring_prep_cancel64")]
    pub fn ticket<O>(ticket: &Ticket<O>) -> Self {
        let Name { word, ring } = Name::of(ticket);
        Self { entry: prep::cancel_word(word), ring: Some(ring) }
    }

    /// Cancels everything on the ring. Since Linux 5.19.
    #[doc(alias = "IORING_ASYNC_CANCEL_ANY")]
    pub fn any() -> Self {
        let entry = prep::cancel(NOBODY, CancelFlags::ANY | CancelFlags::ALL);
        Self { entry, ring: None }
    }

    /// Cancels all operations that do what `opcode` says. Since Linux 6.6; before, there is either
    /// [`CancelOutcome::Failed`] with `EINVAL` or, from 6.0 on, [`CancelOutcome::NotFound`].
    #[doc(alias = "IORING_ASYNC_CANCEL_OP")]
    pub fn opcode(opcode: Opcode) -> Self {
        // Kernels that overlook the flag look for the word.
        Self { entry: prep::cancel_opcode(opcode, NOBODY, CancelFlags::ALL), ring: None }
    }

    /// Cancels all operations that are about the file behind `fd`. To do before closing it: closing
    /// cancels nothing.
    pub fn fd<F>(fd: F) -> CancelFd<F> {
        CancelFd { fd, flags: CancelFlags::ALL }
    }
}

// SAFETY: OP1: the entry points to nothing. It completes once; what it names is of this ring, which
// `belongs_to` sees to (OP2).
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

/// Cancels all operations that are about a file, however they name it; a [`FixedFile`] and the
/// descriptor that it was made of are one. Made by [`Cancel::fd`]. Since Linux 5.19; before, it
/// fails with `EINVAL`.
///
/// [`FixedFile`]: crate::lease::FixedFile
///
/// # Completion
///
/// Once, with a [`CancelOutcome`] and the file.
///
/// # Cancellation
///
/// It is done at once, and cannot be cancelled.
#[doc(alias = "IORING_ASYNC_CANCEL_FD")]
#[doc(alias = "io_uring_prep_cancel_fd")]
#[derive(Debug)]
pub struct CancelFd<F> {
    fd: F,
    flags: CancelFlags,
}

impl<F> CancelFd<F> {
    /// Only the first one that is found; which one that is, is not told.
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
    use crate::lease::Brought;

    fn done(result: i32) -> Done {
        let (flags, brought) = (CqeFlags::empty(), Brought::Nothing);
        Done::new(result, flags, None, brought)
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
        // A ring's first operation has the word 0, and old kernels overlook what else is asked for.
        for mut cancel in [Cancel::any(), Cancel::opcode(Opcode::READ)] {
            assert_eq!(cancel.prep().addr, NOBODY);
        }
        assert_eq!(NOBODY & kind::MASK, kind::OWN);
    }
}

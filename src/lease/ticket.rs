//! Tickets: the caller's claim to an operation's output while the kernel has the operation.
//!
//! ```text
//!   submit ─► Ticket<Read> ─┬─ wait, try_take ─► Outcome      redeemed
//!                           ├─ detach                         given up: the ring cleans up
//!                           └─ dropped, forgotten             the slot stays taken
//! ```
//!
//! A ticket is linear: every call that uses it up takes it by value, and only submitting makes one.
//! So its slot cannot be given to another operation while the ticket exists. It also holds the
//! number of its ring, which is never reused; so it cannot be redeemed as another type on another
//! ring (OP2).

use std::fmt;
use std::io;
use std::marker::PhantomData;

use annulus_sys::errno::Errno;
use annulus_sys::flags::Features;

use crate::lease::user_data::{DONE, low};
use crate::raw::RingId;
use crate::setup::enter_error::{EnterCause, EnterError};

/// A claim to the output of one operation, and to everything that the operation owns.
///
/// [`Ring::submit`](crate::Ring::submit) returns it, and [`Ring::wait`](crate::Ring::wait) or
/// [`Ring::try_take`](crate::Ring::try_take) exchanges it for the output.
#[must_use = "redeem it with `wait` or `try_take`, or give it up with `detach`; otherwise its slot \
              stays taken"]
pub struct Ticket<O> {
    /// The slot's key once the operation is done: one comparison tells whether it is.
    done: u64,
    ring: RingId,
    /// Invariant: a ticket of one lifetime is not a ticket of another, whose traits may differ.
    operation: PhantomData<fn(O) -> O>,
}

const _: () = assert!(size_of::<Option<Ticket<Vec<u8>>>>() == 16);

impl<O> Ticket<O> {
    #[inline]
    pub(crate) fn new(done: u64, ring: RingId) -> Self {
        Self { done, ring, operation: PhantomData }
    }

    /// The slot's key once the operation is done.
    #[inline]
    pub(crate) fn done(&self) -> u64 {
        self.done
    }

    /// The `user_data` of the operation's completions.
    #[inline]
    pub(crate) fn user_data(&self) -> u64 {
        self.done & !DONE
    }

    /// The ring that the operation was submitted to.
    #[inline]
    pub(crate) fn ring(&self) -> RingId {
        self.ring
    }

    /// The number of the operation's slot in the ring: a small number, to index your own tables.
    #[inline]
    pub fn slot(&self) -> u32 {
        low(self.user_data())
    }
}

impl<O> fmt::Debug for Ticket<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket")
            .field("slot", &self.slot())
            .field("generation", &(self.user_data() >> 32))
            .field("ring", &self.ring().0)
            .finish()
    }
}

/// An operation that was not submitted, given back, with the reason.
///
/// Nothing has happened: submit [`op`](Self::op) again when the reason is gone, or
/// [take it apart](Self::into_output) to have its buffer and its file back.
pub struct Rejected<O, U = ()> {
    /// The operation, unchanged.
    pub op: O,
    /// The user value that was passed with it.
    pub user: U,
    /// Why.
    pub why: Rejection,
}

/// Why an operation was not submitted.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejection {
    /// Every slot is taken: as many operations are in flight, or completed and not yet redeemed, as
    /// the completion queue has entries.
    #[error("every slot is taken: take completions and redeem their tickets, then submit again")]
    NoSlot,
    /// The submission queue is full, and the polling thread has not made room yet.
    #[error("the submission queue is full: wait for room, then submit again")]
    QueueFull,
    /// The operation names a file or a buffer ring that is registered with another ring; or a
    /// [`ChainFd`](crate::op::ChainFd) outside of its chain.
    #[error(
        "the operation names a file or buffer of another ring, or the descriptor of a chain that \
             closes it: submit it to that ring, or in that chain"
    )]
    OtherRing,
    /// The operation's options do not fit each other, or the ring.
    #[error("{reason}")]
    Invalid {
        /// What is wrong with it, and what to do instead.
        reason: &'static str,
    },
    /// Another operation in flight selects from the same buffer ring, and one of the two must be
    /// alone there. It must be alone if it receives [bundles](crate::op::RecvBundle), or if it
    /// completes once and the ring uses [incremental
    /// consumption](crate::raw::register::Consumption::Incremental).
    #[error(
        "another operation selects from this buffer ring, and one of the two must be alone there \
             (a bundle, or a single-shot operation with incremental consumption): wait until that \
             has ended, or use a second buffer ring"
    )]
    BufRingBusy,
    /// The kernel lacks a feature that the operation needs. It would not refuse the operation, but
    /// do something else.
    #[error(
        "this kernel lacks {needs:?} and would do something else: see the operation's \
             documentation for an alternative"
    )]
    Unsupported {
        /// The features that the kernel lacks.
        needs: Features,
    },
    /// An operation was [drained](crate::op::Op::drained). Anything submitted after it may wait for
    /// everything in flight; no cancel finds it while it waits, and a worker thread may run it
    /// afterwards. So these are refused: operations of a scope, which could not end; a zero-copy
    /// send, which would wait for its own notification; and operations whose buffers are known only
    /// by their order (bundles, and incremental consumption).
    #[error(
        "an operation was drained, so this one might wait where no cancel finds it, and run on \
         a worker thread: first wait until nothing is in flight"
    )]
    Drained,
    /// The submission queue has fewer entries than the chain.
    #[error("the chain needs {count} entries, and the ring has {entries}: make a longer ring")]
    ChainTooLong {
        /// How many entries the chain needs.
        count: u32,
        /// How many entries the submission queue has.
        entries: u32,
    },
    /// The event loop was [stopped](crate::Io::stop).
    #[error("the event loop is being stopped: nothing more is submitted to it")]
    Stopping,
    /// This is a forked child, and the ring belongs to its parent.
    #[error("the ring belongs to the parent process: make a ring here, and submit to it")]
    OtherProcess,
    /// The submission queue is full, and entering the kernel to make room failed.
    #[error("the submission queue is full, and making room failed: {0}")]
    Enter(EnterError),
}

impl Rejection {
    /// The error number that fits best, for a runtime that decides by numbers. The kernel has
    /// returned none, because it never saw the operation.
    ///
    /// | number | reason | what to do |
    /// |---|---|---|
    /// | `EBUSY` | [`NoSlot`](Self::NoSlot), [`QueueFull`](Self::QueueFull), [`BufRingBusy`](Self::BufRingBusy), [`Drained`](Self::Drained) | let something end, then submit again |
    /// | `EINVAL` | [`Invalid`](Self::Invalid), [`ChainTooLong`](Self::ChainTooLong) | a mistake: submit something else |
    /// | `EBADF` | [`OtherRing`](Self::OtherRing) | a mistake: submit it to its own ring |
    /// | `EOPNOTSUPP` | [`Unsupported`](Self::Unsupported) | another operation, for this kernel |
    /// | `ECANCELED` | [`Stopping`](Self::Stopping) | nothing more |
    /// | `ECHILD` | [`OtherProcess`](Self::OtherProcess) | make a ring in this process |
    /// | that of the call | [`Enter`](Self::Enter) | as [its cause](EnterCause) says |
    pub fn errno(&self) -> Errno {
        Errno::new(match self {
            Self::NoSlot | Self::QueueFull | Self::BufRingBusy | Self::Drained => libc::EBUSY,
            Self::Invalid { .. } | Self::ChainTooLong { .. } => libc::EINVAL,
            Self::OtherRing => libc::EBADF,
            Self::Unsupported { .. } => libc::EOPNOTSUPP,
            Self::Stopping => libc::ECANCELED,
            Self::OtherProcess => libc::ECHILD,
            Self::Enter(error) => return error.errno(),
        })
    }
}

/// Keeps [the error number](Rejection::errno), which a runtime decides by, and not the text: an
/// `io::Error` has only one of them. A [`Rejected`], which a `?` on a submit converts, keeps the
/// text.
impl From<Rejection> for io::Error {
    fn from(why: Rejection) -> Self {
        why.errno().into()
    }
}

/// Contains the text, so that a `?` in `main` prints cause and cure.
impl fmt::Debug for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rejection({self})")
    }
}

impl<O, U> fmt::Debug for Rejected<O, U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rejected").field("why", &self.why).finish_non_exhaustive()
    }
}

impl<O, U> fmt::Display for Rejected<O, U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.why.fmt(f)
    }
}

impl<O, U> std::error::Error for Rejected<O, U> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.why {
            Rejection::Enter(error) => Some(error),
            _ => None,
        }
    }
}

/// Keeps the text, with cause and cure, and a [kind](io::Error::kind); not the error number, which
/// [`Rejection::errno`] has. Drops the operation: keep the [`Rejected`] to keep it, or
/// [take it apart](Rejected::into_output).
impl<O, U> From<Rejected<O, U>> for io::Error {
    fn from(rejected: Rejected<O, U>) -> Self {
        let kind = match rejected.why {
            Rejection::NoSlot
            | Rejection::QueueFull
            | Rejection::Drained
            | Rejection::BufRingBusy
            | Rejection::Enter(_) => io::ErrorKind::ResourceBusy,
            Rejection::OtherRing
            | Rejection::OtherProcess
            | Rejection::Stopping
            | Rejection::Invalid { .. }
            | Rejection::ChainTooLong { .. } => io::ErrorKind::InvalidInput,
            Rejection::Unsupported { .. } => io::ErrorKind::Unsupported,
        };
        Self::new(kind, rejected.why)
    }
}

/// A wait that ended before the operation did. It gives the ticket back.
pub struct Unfinished<T> {
    /// The ticket.
    pub ticket: T,
    /// Why the wait ended.
    pub why: EnterError,
}

impl<T> Unfinished<T> {
    /// Whether a signal ended the wait: wait again.
    pub fn is_interrupted(&self) -> bool {
        self.why.cause == EnterCause::Interrupted
    }
}

impl<T> fmt::Debug for Unfinished<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unfinished").field("why", &self.why).finish_non_exhaustive()
    }
}

impl<T> fmt::Display for Unfinished<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the operation has not completed: {}", self.why)
    }
}

impl<T> std::error::Error for Unfinished<T> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.why)
    }
}

/// Drops the ticket, so its slot stays taken until the ring ends; keep the [`Unfinished`] to keep
/// the ticket.
impl<T> From<Unfinished<T>> for io::Error {
    fn from(unfinished: Unfinished<T>) -> Self {
        unfinished.why.into()
    }
}

//! Claims: what a caller holds while the kernel has an operation.
//!
//! ```text
//!   submit ─► Ticket<Read> ─┬─ wait, try_take ─► Outcome      redeemed
//!                           ├─ detach                         given up: the ring cleans up
//!                           └─ dropped, forgotten             its slot stays taken
//! ```
//!
//! A ticket is linear: every way to use it up takes it by value, and there is no other way to make
//! one. So its slot cannot be given to another operation while it exists, and the number of its
//! ring, which never comes again, keeps it from being read as another type on another ring (OP2).

use std::fmt;
use std::io;
use std::marker::PhantomData;

use annulus_sys::flags::Features;

use crate::error::{EnterCause, EnterError};
use crate::inflight::{DONE, low};
use crate::op::RingId;

/// A claim to the output of one operation, and to everything that it owns.
#[must_use = "redeem it with `wait` or `try_take`, or give it up with `detach`; otherwise its slot \
              stays taken"]
pub struct Ticket<O> {
    /// The slot's key once the operation is done: a comparison tells whether it is.
    done: u64,
    ring: RingId,
    /// Invariant: a ticket of one lifetime is no ticket of another, whose traits may differ.
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

    /// The word of its completions.
    #[inline]
    pub(crate) fn word(&self) -> u64 {
        self.done & !DONE
    }

    /// The ring that it is of.
    #[inline]
    pub(crate) fn ring(&self) -> RingId {
        self.ring
    }

    /// Which of the ring's slots the operation is in: a small number, to index tables of one's own.
    #[inline]
    pub fn slot(&self) -> u32 {
        low(self.word())
    }
}

impl<O> fmt::Debug for Ticket<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket")
            .field("slot", &self.slot())
            .field("generation", &(self.word() >> 32))
            .field("ring", &self.ring().0)
            .finish()
    }
}

/// An operation that was not submitted, given back, with the reason.
pub struct Rejected<O, U = ()> {
    /// The operation, as it was.
    pub op: O,
    /// The word that was to go with it.
    pub user: U,
    /// Why.
    pub why: Rejection,
}

/// Why an operation was not submitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejection {
    /// As many operations are in flight, or completed and not redeemed, as the ring has completion
    /// entries.
    #[error("every slot is taken: take completions and redeem their tickets, then submit again")]
    Slots,
    /// The submission ring is full, and its polling thread has yet to make room.
    #[error("the submission ring is full: wait for room, then submit again")]
    Queue,
    /// The operation names a file or a buffer ring that is registered with another ring.
    #[error("the operation names what is registered with another ring: submit it there")]
    OtherRing,
    /// The operation cannot be what it was made to be.
    #[error("{reason}")]
    Invalid {
        /// What is wrong with it, and what to do instead.
        reason: &'static str,
    },
    /// Another operation in flight picks from the same ring of buffers, and one of the two must be
    /// alone with it: since it receives [bundles](crate::op::RecvBundle), or since it completes
    /// once and the buffers are [used in parts](crate::register::Used::InParts).
    #[error(
        "another operation picks from this ring of buffers, and one of the two must be alone with \
             it, as a bundle, or what completes once and fills a part of a buffer: wait until that \
             has ended, or use a second ring of buffers"
    )]
    Picking,
    /// The kernel lacks what the operation needs, and would not refuse it, but do something else.
    #[error(
        "this kernel lacks {needs:?}, and would do something else: see the operation's \
             documentation for one that it has"
    )]
    Unsupported {
        /// What it lacks of this.
        needs: Features,
    },
    /// An operation was [drained](crate::op::Op::drained), and whatever is submitted may wait for
    /// what is in flight, where no cancel finds it, and then be run by a worker thread: what is of
    /// a scope, which could not end; a zero-copy send, which would wait for its own notification;
    /// and what picks buffers in turn, as bundles and parts are.
    #[error(
        "an operation was drained, and what waits because of it cannot be cancelled, and goes to \
         a worker thread: wait first until nothing is in flight"
    )]
    Drained,
    /// The submission ring is shorter than the chain.
    #[error("the chain has {count} operations, and the ring {entries} entries: make a longer ring")]
    Chain {
        /// How many operations the chain has.
        count: u32,
        /// How many entries the ring has.
        entries: u32,
    },
    /// This is a forked child, and the ring its parent's.
    #[error("the ring is of the process that forked this one: make a ring here, and submit to it")]
    OtherProcess,
    /// The submission ring is full, and entering the kernel to make room failed.
    #[error("the submission ring is full, and making room failed: {0}")]
    Enter(EnterError),
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

/// The operation is lost; keep the [`Rejected`] to keep it.
impl<O, U> From<Rejected<O, U>> for io::Error {
    fn from(rejected: Rejected<O, U>) -> Self {
        let kind = match rejected.why {
            Rejection::Slots
            | Rejection::Queue
            | Rejection::Drained
            | Rejection::Picking
            | Rejection::Enter(_) => io::ErrorKind::ResourceBusy,
            Rejection::OtherRing
            | Rejection::OtherProcess
            | Rejection::Invalid { .. }
            | Rejection::Chain { .. } => io::ErrorKind::InvalidInput,
            Rejection::Unsupported { .. } => io::ErrorKind::Unsupported,
        };
        Self::new(kind, rejected.why)
    }
}

/// A wait that ended before the operation did. The claim comes back.
pub struct Unfinished<T> {
    /// The claim.
    pub ticket: T,
    /// Why the wait ended.
    pub why: EnterError,
}

impl<T> Unfinished<T> {
    /// Whether the wait was bounded, and the time is up; or a signal came.
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

/// The claim is lost, and its slot stays taken until the ring goes; keep the [`Unfinished`] to keep
/// it.
impl<T> From<Unfinished<T>> for io::Error {
    fn from(unfinished: Unfinished<T>) -> Self {
        unfinished.why.into()
    }
}

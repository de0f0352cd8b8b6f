//! Borrowed buffers: operations that end before the borrow does.
//!
//! ```text
//!   ring.scope(|s| {            ┌──────────────────────── the scope's own frame ───┐
//!       s.submit(Read(&mut b))  │ f(&mut s) ─► returns or unwinds ─► cancel, drain │
//!   })                          └──────────────────────────────────────────────────┘
//! ```
//!
//! The wait stands in [`Ring::scope`] itself, in a guard that the caller never holds; so nothing
//! that a caller forgets, leaks or panics out of can end a borrow while the kernel has it. It works
//! off the slots and not off tickets. Two things it cannot do: return early, and run in an `async
//! fn`, whose frame can be forgotten.
//!
//! In a forked child a scope of its parent's ends at once: what is in flight is the parent's, uses
//! the parent's memory, and never completes here.
//!
//! An operation that the kernel will not give back (a hung network file system) hangs the scope's
//! end; so does one whose last completion the kernel has dropped for lack of memory (`EBADR`),
//! since nothing else proves that it is done. If the kernel can no longer be entered at all, the
//! process aborts.
//!
//! What a [drained](Op::drained) operation holds up cannot be cancelled: so there is none in a
//! scope, and after one nothing is submitted in a scope before nothing is in flight.
//!
//! Keeps OP1.
//!
//! # Example
//!
//! ```
//! use annulus::Setup;
//! use annulus::op::Write;
//! use std::io::Read;
//!
//! let mut ring = Setup::new(4).build()?;
//! let (mut reader, writer) = std::io::pipe()?;
//! let text = String::from("borrowed");
//! let count = ring.scope(|s| {
//!     let write = s.submit(Write::new(&writer, text.as_str()))?;
//!     s.wait(write)?.result
//! })?;
//! let mut buf = [0; 8];
//! reader.read_exact(&mut buf)?;
//! assert_eq!((count, &buf), (8, b"borrowed"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![allow(unsafe_code, reason = "lets operations borrow")]

use std::marker::PhantomData;
use std::process;
use std::ptr::NonNull;
use std::time::Duration;

use crate::end::Pace;
use crate::error::EnterError;
use crate::inflight::Life;
use crate::link::{ChainOutcome, ChainTicket, Linked};
use crate::op::{Multishot, Op};
use crate::ring::Ring;
use crate::ticket::{Rejected, Ticket, Unfinished};

/// Submits operations that borrow. See the [module](self).
#[derive(Debug)]
pub struct Scope<'scope, 'env: 'scope, U: Default> {
    ring: NonNull<Ring<U>>,
    /// Invariant, so that no ticket and no borrow of one scope passes for another's.
    scope: PhantomData<&'scope mut &'scope ()>,
    env: PhantomData<&'env mut &'env ()>,
    borrow: PhantomData<&'scope mut Ring<U>>,
}

/// A claim to the output of an operation in a scope; it cannot leave it.
#[derive(Debug)]
#[must_use = "redeem it with `wait`; at the end of the scope the operation is cancelled"]
pub struct ScopedTicket<'scope, O> {
    ticket: Ticket<O>,
    scope: PhantomData<&'scope mut &'scope ()>,
}

/// The claims to the outputs of a chain in a scope; they cannot leave it.
#[derive(Debug)]
#[must_use = "redeem it with `wait_chain`; at the end of the scope the chain is cancelled"]
pub struct ScopedChain<'scope, L: Linked> {
    tickets: ChainTicket<L>,
    scope: PhantomData<&'scope mut &'scope ()>,
}

impl<'scope, O> ScopedTicket<'scope, O> {
    fn new(ticket: Ticket<O>) -> Self {
        Self { ticket, scope: PhantomData }
    }
}

impl<U: Default> Ring<U> {
    /// Runs `f`, in which operations may borrow from outside of it. When `scope` returns, or
    /// unwinds, all of them have ended: those that were not waited for are cancelled first.
    pub fn scope<'env, T>(
        &mut self,
        f: impl for<'scope> FnOnce(&mut Scope<'scope, 'env, U>) -> T,
    ) -> T {
        let ring = NonNull::from(self);
        let drain = Drain(ring);
        let mut scope = Scope { ring, scope: PhantomData, env: PhantomData, borrow: PhantomData };
        let result = f(&mut scope);
        drop(drain);
        result
    }

    /// Waits until no operation of the scope is in flight, and empties their slots.
    fn drain_scope(&mut self) {
        let mut pace = Pace::default();
        loop {
            // First, while the slots are still theirs: nobody can take these any more.
            self.backlog.forget_scope(&mut self.slab);
            let words = self.slab.orphan_scope();
            if words.is_empty() || !self.process.is_this() {
                break; // In a forked child they are the parent's, and use its memory.
            }
            if self.hurry(words, &mut pace, Duration::MAX).is_err() {
                // The borrows cannot end, and this frame cannot stay.
                process::abort();
            }
        }
        self.slab.clear_scope();
    }
}

/// Ends the scope, however `f` ended.
struct Drain<U: Default>(NonNull<Ring<U>>);

impl<U: Default> Drop for Drain<U> {
    fn drop(&mut self) {
        /// A panic in here would let the borrows end while the kernel still has them.
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                process::abort();
            }
        }
        let bomb = Bomb;
        // SAFETY: the ring is borrowed by the frame that the guard stands in, and the scope that
        // shares the pointer is not used any more (OP1).
        unsafe { self.0.as_mut() }.drain_scope();
        std::mem::forget(bomb);
    }
}

impl<'scope, U: Default> Scope<'scope, '_, U> {
    /// The ring, for the time of one call.
    fn ring(&mut self) -> &mut Ring<U> {
        // SAFETY: borrowed by the frame of `Ring::scope`, which does not touch it while `f` runs;
        // `&mut self` has it alone (OP1).
        unsafe { self.ring.as_mut() }
    }

    /// As [`Ring::submit`], for an operation that may borrow.
    ///
    /// # Errors
    ///
    /// [`Rejected`] gives the operation back, with the reason.
    pub fn submit<O: Op + 'scope>(
        &mut self,
        op: O,
    ) -> Result<ScopedTicket<'scope, O>, Rejected<O, U>> {
        const { assert!(!O::DRAINS, "nothing is drained in a scope: no cancel would find it") }
        // SAFETY: `Drain` empties the slot before `'scope` ends (OP1).
        let placed = unsafe { self.ring().place(op, U::default(), Life::Scoped) };
        placed.map(ScopedTicket::new)
    }

    /// As [`Ring::submit_chain`], for operations that may borrow.
    ///
    /// # Errors
    ///
    /// [`Rejected`] gives the whole chain back, with the reason.
    pub fn submit_chain<L: Linked + 'scope>(
        &mut self,
        chain: L,
    ) -> Result<ScopedChain<'scope, L>, Rejected<L>> {
        const {
            assert!(!L::WAITS.drains(), "nothing is drained in a scope: no cancel would find it");
        }
        // SAFETY: `Drain` empties the slots before `'scope` ends (OP1).
        let placed = unsafe { self.ring().place_chain(chain, Life::Scoped) };
        placed.map(|tickets| ScopedChain { tickets, scope: PhantomData })
    }

    /// As [`Ring::wait_chain`].
    ///
    /// # Errors
    ///
    /// [`Unfinished`] gives the tickets back.
    pub fn wait_chain<L: Linked + 'scope>(
        &mut self,
        chain: ScopedChain<'scope, L>,
    ) -> Result<ChainOutcome<L::Outputs>, Unfinished<ScopedChain<'scope, L>>> {
        let waited = self.ring().wait_chain(chain.tickets);
        waited.map_err(|Unfinished { ticket: tickets, why }| {
            let ticket = ScopedChain { tickets, scope: PhantomData };
            Unfinished { ticket, why }
        })
    }

    /// As [`Ring::submit_all`].
    ///
    /// # Errors
    ///
    /// As [`Ring::submit_all`].
    pub fn submit_all(&mut self) -> Result<u32, EnterError> {
        self.ring().submit_all()
    }

    /// As [`Ring::wait`]. The operation's borrows end with it.
    ///
    /// # Errors
    ///
    /// [`Unfinished`] gives the ticket back.
    pub fn wait<O: Op + 'scope>(
        &mut self,
        ticket: ScopedTicket<'scope, O>,
    ) -> Result<O::Output, Unfinished<ScopedTicket<'scope, O>>> {
        self.ring().wait(ticket.ticket).map_err(again)
    }

    /// As [`Ring::wait_timeout`].
    ///
    /// # Errors
    ///
    /// [`Unfinished`] gives the ticket back.
    pub fn wait_timeout<O: Op + 'scope>(
        &mut self,
        ticket: ScopedTicket<'scope, O>,
        timeout: Duration,
    ) -> Result<O::Output, Unfinished<ScopedTicket<'scope, O>>> {
        self.ring().wait_timeout(ticket.ticket, timeout).map_err(again)
    }

    /// As [`Ring::try_take`].
    ///
    /// # Errors
    ///
    /// The ticket, while the kernel has the operation.
    pub fn try_take<O: Op + 'scope>(
        &mut self,
        ticket: ScopedTicket<'scope, O>,
    ) -> Result<O::Output, ScopedTicket<'scope, O>> {
        self.ring().try_take(ticket.ticket).map_err(ScopedTicket::new)
    }

    /// As [`Ring::next`].
    ///
    /// # Errors
    ///
    /// As [`Ring::next`].
    pub fn next<O: Multishot + 'scope>(
        &mut self,
        ticket: &ScopedTicket<'scope, O>,
    ) -> Result<Option<O::Item>, EnterError> {
        self.ring().next(&ticket.ticket)
    }

    /// As [`Ring::cancel`].
    ///
    /// # Errors
    ///
    /// As [`Ring::cancel`].
    pub fn cancel<O>(&mut self, ticket: &ScopedTicket<'scope, O>) -> Result<(), EnterError> {
        self.ring().cancel(&ticket.ticket)
    }
}

fn again<'scope, O>(
    Unfinished { ticket, why }: Unfinished<Ticket<O>>,
) -> Unfinished<ScopedTicket<'scope, O>> {
    Unfinished { ticket: ScopedTicket::new(ticket), why }
}

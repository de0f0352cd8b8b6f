//! Scopes: operations that borrow buffers, and that end before the borrow does.
//!
//! ```text
//!   ring.scope(|s| {            ┌─────────── the frame of `Ring::scope` ───────────┐
//!       s.submit(Read(&mut b))  │ f(&mut s) ─► returns or unwinds ─► cancel, drain │
//!   })                          └──────────────────────────────────────────────────┘
//! ```
//!
//! [`Ring::scope`] itself waits, in a guard that the caller never holds. So no caller can end a
//! borrow while the kernel has it, by forgetting, leaking or panicking. The guard looks at slots,
//! not at tickets. Such a wait cannot return early. It also cannot run in an `async fn`, whose
//! frame can be forgotten.
//!
//! In a forked child, a scope of the parent ends at once: the operations in flight are the
//! parent's, use the parent's memory, and never complete in the child.
//!
//! An operation that never completes (a hung network file system) blocks the scope's end. So does
//! one whose last completion the kernel has dropped for lack of memory (`EBADR`), because nothing
//! else proves that the kernel is done. If the kernel can no longer be entered at all, the process
//! aborts.
//!
//! An operation that waits behind a [drained](Op::drained) one cannot be cancelled. So a scope
//! accepts no drained operation, and after one is submitted outside, a scope accepts operations
//! only once nothing is in flight.
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

use crate::lease::ticket::{Rejected, Ticket, Unfinished};
use crate::op::{Multishot, Op};
use crate::ring::Ring;
use crate::ring::end::Pace;
use crate::ring::link::{ChainOutcome, ChainTicket, Linked};
use crate::ring::slab::Life;
use crate::setup::enter_error::EnterError;

/// Submits operations that borrow. See the [module](self).
#[derive(Debug)]
pub struct Scope<'scope, 'env: 'scope, U: Default> {
    ring: NonNull<Ring<U>>,
    /// Invariant, so that no ticket and no borrow of one scope passes for another's.
    scope: PhantomData<&'scope mut &'scope ()>,
    env: PhantomData<&'env mut &'env ()>,
    borrow: PhantomData<&'scope mut Ring<U>>,
}

/// A ticket of an operation in a scope. It cannot leave the scope.
#[derive(Debug)]
#[must_use = "redeem it with `wait`; at the end of the scope the operation is cancelled"]
pub struct ScopedTicket<'scope, O> {
    ticket: Ticket<O>,
    scope: PhantomData<&'scope mut &'scope ()>,
}

/// The tickets of a chain in a scope. They cannot leave the scope.
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

/// # Borrowing
impl<U: Default> Ring<U> {
    /// Runs `f`, whose operations may borrow from outside it. When `scope` returns or unwinds, all
    /// of them have ended: those that were not waited for are cancelled first.
    ///
    /// # Example
    ///
    /// ```
    /// use annulus::{Setup, op};
    /// use std::fs::File;
    ///
    /// let mut ring = Setup::new(8).build()?;
    /// let zeroes = File::open("/dev/zero")?;
    /// let mut buf = [1; 64];
    /// let count = ring.scope(|s| {
    ///     let read = s.submit(op::Read::new(&zeroes, &mut buf[..16]))?;
    ///     s.wait(read)?.result
    /// })?;
    /// assert_eq!((count, buf[15], buf[16]), (16, 0, 1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
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
            // First, while the slots still hold them: no caller can take these any more.
            self.undelivered.forget_scope(&mut self.slab);
            let all = self.slab.orphan_scope();
            if all.is_empty() || !self.process.is_this() {
                break; // In a forked child they are the parent's, and use its memory.
            }
            if self.cancel_and_wait(all, &mut pace, Duration::MAX).is_err() {
                // The borrows must not end, and this frame cannot stay.
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
        // SAFETY: the frame that holds the guard borrows the ring, and the scope that shares the
        // pointer is no longer used (OP1).
        unsafe { self.0.as_mut() }.drain_scope();
        std::mem::forget(bomb);
    }
}

impl<'scope, U: Default> Scope<'scope, '_, U> {
    /// The ring, borrowed for one call.
    fn ring(&mut self) -> &mut Ring<U> {
        // SAFETY: the frame of `Ring::scope` borrows the ring, and does not touch it while `f`
        // runs; `&mut self` makes this borrow exclusive (OP1).
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
    pub fn cancel<O: Op + 'scope>(
        &mut self,
        ticket: &ScopedTicket<'scope, O>,
    ) -> Result<(), EnterError> {
        self.ring().cancel(&ticket.ticket)
    }
}

fn again<'scope, O>(
    Unfinished { ticket, why }: Unfinished<Ticket<O>>,
) -> Unfinished<ScopedTicket<'scope, O>> {
    Unfinished { ticket: ScopedTicket::new(ticket), why }
}

//! Chains: operations that begin one after the other, handed over as one.
//!
//! ```text
//!   (read, write.hard(), fsync)      read ──ok──► write ──always──► fsync
//!                                         └─ error, or short ─► the rest is cancelled
//!   read.within(one_second)          read, and a clock that cancels it
//! ```
//!
//! | step | the next begins when this one has | |
//! |---|---|---|
//! | an operation | done all that was asked (but see below) | `IOSQE_IO_LINK` |
//! | [`Hard`], by [`Step::hard`] | ended, however | `IOSQE_IO_HARDLINK` |
//! | [`Within`], by [`StepExt::within`] | done all that was asked, in time | and `LINK_TIMEOUT` |
//!
//! A short read or write breaks a chain as an error does. What one step brings cannot feed the
//! next: all of them are decided when the chain is submitted. The kernel keeps no order between
//! operations that are not in one chain, nor between the completions of those that are.
//!
//! A step that the kernel refuses without running it (a descriptor opened for something else)
//! breaks a chain on Linux 5.10 from its very start, hard ties and earlier steps included.
//!
//! Since Linux 6.0 the kernel does not hear of some errors: of syncing, of changing names and
//! attributes, of what is about memory. What is behind such a step runs all the same, also behind
//! an [`Fsync`](crate::op::Fsync) that failed: so look at it before you rely on that. Each such
//! operation says so. A wait at a futex that was cancelled, by its clock too, breaks no chain
//! either.
//!
//! Links hold within one submission only, so all entries of a chain are set aside at once; when the
//! room is not there, or an operation panics while it is asked for its entry, nothing is submitted.
//!
//! Keeps OP1, for several operations at once.
//!
//! # Example
//!
//! ```
//! use annulus::{ChainEnd, Setup, StepExt as _};
//! use annulus::op::{Nop, Read};
//! use std::time::Duration;
//!
//! let mut ring = Setup::new(8).build()?;
//! let (silent, _writer) = std::io::pipe()?;
//! let read = Read::new(silent, [0; 8]).within(Duration::from_millis(1));
//! let tickets = ring.submit_chain((Nop, read, Nop))?;
//! let chain = ring.wait_chain(tickets)?;
//! assert_eq!(chain.end, ChainEnd::Broken { at: 1 });
//! let (first, read, last) = chain.outputs;
//! assert!(first.is_ok());
//! assert!(read.expired);
//! assert!(last.is_err()); // Never began.
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![allow(unsafe_code, reason = "hands the kernel what operations point to")]

mod clock;
mod rows;
mod submit;
mod waits;
mod went;

use std::fmt;
use std::time::Instant;

use annulus_sys::abi::Sqe;
use annulus_sys::flags::{Features, SqeFlags};

use crate::chain::Chain;
use crate::inflight::{At, Life, Slab};
use crate::lease::Claimed;
use crate::op::{Op, RingId};
use crate::ring::Ring;
use crate::ticket::{Rejection, Ticket};

#[doc(hidden)]
pub use waits::Waits;

pub use clock::{StepExt, Timed, TimedTicket, Within};
use went::Breaks;
#[doc(hidden)]
pub use went::Went;

mod sealed {
    pub trait Step {}
    pub trait Linked {}
}

/// How a step is tied to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[doc(hidden)]
pub enum Tie {
    /// It is the last.
    None,
    /// The next begins only when this one has done all that was asked.
    Soft,
}

impl Tie {
    fn flags(self, tied: SqeFlags) -> SqeFlags {
        if self == Self::None { SqeFlags::empty() } else { tied }
    }
}

/// What stands in a chain: an operation, or one that is [`Hard`] or [`Within`].
pub trait Step: Sized + sealed::Step {
    /// The claim to its output.
    type Ticket;

    /// Its output.
    type Output;

    /// How many entries it takes.
    #[doc(hidden)]
    const ENTRIES: u32;

    /// What it needs of the kernel: see [`Op::NEEDS`].
    #[doc(hidden)]
    const NEEDS: Features;

    /// What of it must not meet in a chain.
    #[doc(hidden)]
    const WAITS: Waits;

    /// The same, but the next step begins however this one ends.
    fn hard(self) -> Hard<Self> {
        Hard(self)
    }

    /// Whether the ring may have it: see `Berth::admit`. What it picks from goes to `claims`.
    #[doc(hidden)]
    fn admit(&self, ring: RingId, claims: &mut Claims) -> Result<(), Rejection>;

    /// # Safety
    ///
    /// No lifetime in `self` may end before its slots are empty again.
    #[doc(hidden)]
    unsafe fn board<U: Default>(
        self,
        aboard: &mut Boarding<'_, U>,
        tie: Tie,
        tied: SqeFlags,
    ) -> Boarded<Self::Ticket>;

    /// How it went, once it is done.
    #[doc(hidden)]
    fn went<U: Default>(ring: &Ring<U>, boarded: &Boarded<Self::Ticket>) -> Option<Went>;

    /// Sees to its clock, when the steps before it are done. When to look again.
    #[doc(hidden)]
    fn watch<U: Default>(ring: &mut Ring<U>, ticket: &mut Self::Ticket) -> Option<Instant>;

    #[doc(hidden)]
    fn take<U: Default>(
        ring: &mut Ring<U>,
        ticket: Self::Ticket,
    ) -> Result<Self::Output, Self::Ticket>;

    #[doc(hidden)]
    fn give_up<U: Default>(ring: &mut Ring<U>, ticket: Self::Ticket);
}

/// A step that is in its slots.
#[doc(hidden)]
#[derive(Debug)]
pub struct Boarded<T> {
    ticket: T,
    breaks: Breaks,
}

/// The kernel's result, once the operation is done.
fn result<U: Default, O>(ring: &Ring<U>, ticket: &Ticket<O>) -> Option<i32> {
    ring.check(ticket);
    ring.slab.is_done(ticket).then(|| ring.slab.result(ticket.slot()))
}

/// A step after which the chain goes on, however it ends. Made by [`Step::hard`].
#[derive(Debug)]
pub struct Hard<S>(S);

impl<O: Op> sealed::Step for O {}
impl<S> sealed::Step for Hard<S> {}

impl<O: Op> Step for O {
    type Ticket = Ticket<O>;
    type Output = O::Output;
    const ENTRIES: u32 = 1;
    const NEEDS: Features = <O as Op>::NEEDS;
    const WAITS: Waits = Waits::of::<O>();

    fn admit(&self, ring: RingId, claims: &mut Claims) -> Result<(), Rejection> {
        claims.add(self, ring)
    }

    unsafe fn board<U: Default>(
        self,
        aboard: &mut Boarding<'_, U>,
        tie: Tie,
        tied: SqeFlags,
    ) -> Boarded<Ticket<O>> {
        // SAFETY: as promised to `board`.
        unsafe { aboard.one(self, tie.flags(tied)) }
    }

    fn went<U: Default>(ring: &Ring<U>, boarded: &Boarded<Ticket<O>>) -> Option<Went> {
        Some(boarded.breaks.tell(result(ring, &boarded.ticket)?, ring.raw.features()))
    }

    fn watch<U: Default>(_: &mut Ring<U>, _: &mut Ticket<O>) -> Option<Instant> {
        None
    }

    fn take<U: Default>(ring: &mut Ring<U>, ticket: Ticket<O>) -> Result<O::Output, Ticket<O>> {
        ring.try_take(ticket)
    }

    fn give_up<U: Default>(ring: &mut Ring<U>, ticket: Ticket<O>) {
        ring.detach(ticket);
    }
}

impl<S: Step> Step for Hard<S> {
    type Ticket = S::Ticket;
    type Output = S::Output;
    const ENTRIES: u32 = S::ENTRIES;
    const NEEDS: Features = S::NEEDS;
    const WAITS: Waits = S::WAITS;

    fn admit(&self, ring: RingId, claims: &mut Claims) -> Result<(), Rejection> {
        self.0.admit(ring, claims)
    }

    unsafe fn board<U: Default>(
        self,
        aboard: &mut Boarding<'_, U>,
        tie: Tie,
        _: SqeFlags,
    ) -> Boarded<S::Ticket> {
        // SAFETY: as promised to `board`.
        let Boarded { ticket, .. } = unsafe { self.0.board(aboard, tie, SqeFlags::IO_HARDLINK) };
        Boarded { ticket, breaks: Breaks::Refusals }
    }

    fn went<U: Default>(ring: &Ring<U>, boarded: &Boarded<S::Ticket>) -> Option<Went> {
        S::went(ring, boarded)
    }

    fn watch<U: Default>(ring: &mut Ring<U>, ticket: &mut S::Ticket) -> Option<Instant> {
        S::watch(ring, ticket)
    }

    fn take<U: Default>(ring: &mut Ring<U>, ticket: S::Ticket) -> Result<S::Output, S::Ticket> {
        S::take(ring, ticket)
    }

    fn give_up<U: Default>(ring: &mut Ring<U>, ticket: S::Ticket) {
        S::give_up(ring, ticket);
    }
}

/// What the steps of a chain pick from, so that all of it is known to be free before the first step
/// is in its slot.
#[doc(hidden)]
#[derive(Debug, Default)]
pub struct Claims {
    steps: u32,
    /// Whether what a step picks is told by the order in which it picks.
    in_order: bool,
    held: Vec<Claimed>,
}

impl Claims {
    fn add<O: Op>(&mut self, op: &O, ring: RingId) -> Result<(), Rejection> {
        if O::HAS_SOURCE {
            let source = op.source().ok_or(Rejection::OtherRing)?;
            let source = if self.steps == 0 { source } else { source.behind() };
            self.in_order |= source.is_in_order::<O>();
            self.held.push(source.claim::<O>(ring)?);
        }
        self.steps += 1;
        if op.belongs_to(ring) { Ok(()) } else { Err(Rejection::OtherRing) }
    }
}

/// Entries of a chain that is being put together. Dropped before it is handed over, it takes all
/// operations out again, as if the kernel had cancelled them.
#[doc(hidden)]
#[derive(Debug)]
pub struct Boarding<'a, U: Default> {
    slab: &'a mut Slab<U>,
    slots: Option<Chain<'a>>,
    ring: RingId,
    life: Life,
    /// Slots that are taken so far; the last one first.
    last: Option<u32>,
}

impl<U: Default> Boarding<'_, U> {
    /// The words of what the next step waits for: if it is the first and something was drained, all
    /// that is in flight.
    fn held_up_by(&self) -> Vec<u64> {
        let held = self.last.is_none() && self.slab.may_wait();
        if held { self.slab.flying_words() } else { Vec::new() }
    }

    /// # Safety
    ///
    /// No lifetime in `O` may end before its slot is empty again.
    unsafe fn one<O: Op>(&mut self, op: O, flags: SqeFlags) -> Boarded<Ticket<O>> {
        // SAFETY: as promised to `one`.
        let Ok(mut berth) = (unsafe { self.slab.moor(op) }) else {
            unreachable!("slots were counted before the chain was begun");
        };
        let at = if self.last.is_none() { At::Front } else { At::Behind };
        assert!(berth.admit(self.ring, at).is_ok(), "the operation changed its mind");
        let user = U::default(); // May panic, as all code of the caller's.
        let sqe = berth.prep();
        let breaks = Breaks::of(&sqe);
        let sqe = Sqe { flags: sqe.flags | flags, ..sqe };
        let slots = self.slots.as_mut().expect("the chain is not handed over yet");
        // SAFETY: whatever it points to lies in the slot, or is owned from there, and stays until
        // the last completion, as promised to `Op` (OP1).
        let pushed = unsafe { slots.push(sqe) };
        assert!(pushed.is_ok(), "SQ2: entries were set aside for the whole chain");
        let (ticket, old) = berth.sail(user, self.life, self.ring);
        self.slab.follow(ticket.slot(), self.last.replace(ticket.slot()));
        drop(old);
        Boarded { ticket, breaks }
    }
}

impl<U: Default> Drop for Boarding<'_, U> {
    fn drop(&mut self) {
        let Some(slots) = self.slots.take() else { return };
        drop(slots); // Before anything is freed: from here on no entry names it (OP1).
        while let Some(slot) = self.last {
            self.last = self.slab.followed(slot);
            // SAFETY: its entry was dropped with the reservation, so the kernel never had it (OP1).
            unsafe { self.slab.scuttle(slot) };
        }
    }
}

/// How a chain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChainEnd {
    /// Every step began.
    Complete,
    /// The step at this place, counted from 0, failed, was cancelled, or did less than was asked;
    /// its output says which. Those after it never began. A step that was cancelled while it ran
    /// is named so, too, if the one before it let it begin.
    Broken {
        /// Which step.
        at: usize,
    },
}

/// What a chain ended with.
#[derive(Debug)]
pub struct ChainOutcome<T> {
    /// What each step ended with. Those that never began say `ECANCELED`, and give back what they
    /// were given.
    pub outputs: T,
    /// How far it came.
    pub end: ChainEnd,
}

/// Steps in a row: a tuple of up to four, or an array.
pub trait Linked: Sized + sealed::Linked {
    /// The claims, one for each step.
    type Tickets;

    #[doc(hidden)]
    type Boarded;

    /// The outputs, one for each step.
    type Outputs;

    #[doc(hidden)]
    const ENTRIES: u32;

    #[doc(hidden)]
    const NEEDS: Features;

    /// Whether the ring may have it: see `Berth::admit`. What it picks from goes to `claims`.
    #[doc(hidden)]
    fn admit(&self, ring: RingId, claims: &mut Claims) -> Result<(), Rejection>;

    #[doc(hidden)]
    const WAITS: Waits;

    /// # Safety
    ///
    /// No lifetime in `self` may end before its slots are empty again.
    #[doc(hidden)]
    unsafe fn board<U: Default>(self, aboard: &mut Boarding<'_, U>) -> Self::Boarded;

    /// Where the chain ended, if it has.
    #[doc(hidden)]
    fn end<U: Default>(ring: &Ring<U>, boarded: &Self::Boarded) -> Option<ChainEnd>;

    /// Sees to the clocks of the steps that have begun. When to look again.
    #[doc(hidden)]
    fn watch<U: Default>(ring: &mut Ring<U>, boarded: &mut Self::Boarded) -> Option<Instant>;

    #[doc(hidden)]
    fn tickets(boarded: Self::Boarded) -> Self::Tickets;

    #[doc(hidden)]
    fn take<U: Default>(ring: &mut Ring<U>, tickets: Self::Tickets) -> Self::Outputs;

    #[doc(hidden)]
    fn give_up<U: Default>(ring: &mut Ring<U>, tickets: Self::Tickets);
}

/// The claims to the outputs of a chain.
#[must_use = "redeem it with `wait_chain`, take it apart, or give it up with `detach_chain`; \
              otherwise its slots stay taken"]
pub struct ChainTicket<L: Linked>(L::Boarded);

impl<L: Linked> ChainTicket<L> {
    /// The claims one by one, to redeem or give up each as any other: a [`Ticket`] for each step,
    /// or a [`TimedTicket`] where it has a clock.
    pub fn into_tickets(self) -> L::Tickets {
        L::tickets(self.0)
    }
}

impl<L: Linked> fmt::Debug for ChainTicket<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChainTicket").finish_non_exhaustive()
    }
}

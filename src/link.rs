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
//! operation says so.
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

mod rows;
mod submit;
mod waits;

use std::fmt;
use std::time::Duration;

use annulus_sys::abi::{Sqe, Timespec};
use annulus_sys::flags::{Features, SqeFlags, TimeoutFlags};

use crate::chain::Chain;
use crate::inflight::{At, Life, Slab};
use crate::lease::Claimed;
use crate::op::{Done, Op, RingId};
use crate::prep;
use crate::ring::Ring;
use crate::ticket::{Rejection, Ticket};

#[doc(hidden)]
pub use waits::Waits;

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
    ) -> Self::Ticket;

    /// The kernel's result, once it is done.
    #[doc(hidden)]
    fn raw<U: Default>(ring: &Ring<U>, ticket: &Self::Ticket) -> Option<i32>;

    #[doc(hidden)]
    fn take<U: Default>(
        ring: &mut Ring<U>,
        ticket: Self::Ticket,
    ) -> Result<Self::Output, Self::Ticket>;
}

/// A step after which the chain goes on, however it ends. Made by [`Step::hard`].
#[derive(Debug)]
pub struct Hard<S>(S);

/// An operation with a clock beside it. Made by [`StepExt::within`].
#[derive(Debug)]
pub struct Within<O> {
    op: O,
    time: Duration,
}

/// The clock of a [`Within`]: its timespec lies in a slot of its own.
///
/// # Completion
///
/// With `ETIME` when it cancelled the operation, with `ECANCELED` when that ended before.
///
/// # Cancellation
///
/// It ends with its operation.
#[doc(alias = "IORING_OP_LINK_TIMEOUT")]
#[derive(Debug)]
pub struct Clock {
    time: Timespec,
}

// SAFETY: OP1: the address is of `time`, which lies in the operation. It completes once.
unsafe impl Op for Clock {
    /// Whether the time ran out.
    type Output = bool;

    fn prep(&mut self) -> Sqe {
        let time = (&raw const self.time).expose_provenance() as u64;
        prep::link_timeout(time, TimeoutFlags::empty())
    }

    fn finish(self, done: Done) -> bool {
        done.raw() == -libc::ETIME
    }
}

/// Gives every operation the method [`within`](Self::within).
pub trait StepExt: Op {
    /// The same, cancelled when it has not completed after `time` (`IORING_OP_LINK_TIMEOUT`). The
    /// clock starts when the operation does. Since Linux 5.5.
    fn within(self, time: Duration) -> Within<Self> {
        Within { op: self, time }
    }
}

impl<O: Op> StepExt for O {}

/// The claim to the output of a [`Within`].
#[derive(Debug)]
#[must_use = "redeem it with its chain, by `wait_chain`"]
pub struct TimedTicket<O> {
    op: Ticket<O>,
    clock: Ticket<Clock>,
}

/// What an operation with a clock ended with.
#[derive(Debug)]
pub struct Timed<T> {
    /// The operation's output. When the time ran out it says `ECANCELED`, unless it had completed
    /// just so.
    pub output: T,
    /// Whether the time ran out.
    pub expired: bool,
}

impl<O: Op> sealed::Step for O {}
impl<S> sealed::Step for Hard<S> {}
impl<O> sealed::Step for Within<O> {}

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
    ) -> Ticket<O> {
        // SAFETY: as promised to `board`.
        unsafe { aboard.one(self, tie.flags(tied)) }
    }

    fn raw<U: Default>(ring: &Ring<U>, ticket: &Ticket<O>) -> Option<i32> {
        ring.check(ticket);
        ring.slab.is_done(ticket).then(|| ring.slab.result(ticket.slot()))
    }

    fn take<U: Default>(ring: &mut Ring<U>, ticket: Ticket<O>) -> Result<O::Output, Ticket<O>> {
        ring.try_take(ticket)
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
    ) -> S::Ticket {
        // SAFETY: as promised to `board`.
        unsafe { self.0.board(aboard, tie, SqeFlags::IO_HARDLINK) }
    }

    fn raw<U: Default>(ring: &Ring<U>, ticket: &S::Ticket) -> Option<i32> {
        S::raw(ring, ticket)
    }

    fn take<U: Default>(ring: &mut Ring<U>, ticket: S::Ticket) -> Result<S::Output, S::Ticket> {
        S::take(ring, ticket)
    }
}

impl<O: Op> Step for Within<O> {
    type Ticket = TimedTicket<O>;
    type Output = Timed<O::Output>;
    const ENTRIES: u32 = 2;
    const NEEDS: Features = <O as Op>::NEEDS;
    const WAITS: Waits = Waits::of::<O>();

    fn admit(&self, ring: RingId, claims: &mut Claims) -> Result<(), Rejection> {
        Step::admit(&self.op, ring, claims)
    }

    unsafe fn board<U: Default>(
        self,
        aboard: &mut Boarding<'_, U>,
        tie: Tie,
        tied: SqeFlags,
    ) -> TimedTicket<O> {
        // The clock is tied to its operation by that one's flag, and to the next step by its own.
        let flags = if tie == Tie::None { SqeFlags::IO_LINK } else { tied };
        // SAFETY: as promised to `board`.
        let op = unsafe { aboard.one(self.op, flags) };
        let clock = Clock { time: self.time.into() };
        // SAFETY: as promised to `board`; it borrows nothing (OP1).
        let clock = unsafe { aboard.one(clock, tie.flags(tied)) };
        TimedTicket { op, clock }
    }

    fn raw<U: Default>(ring: &Ring<U>, ticket: &TimedTicket<O>) -> Option<i32> {
        let clock = <Clock as Step>::raw(ring, &ticket.clock)?;
        let result = <O as Step>::raw(ring, &ticket.op)?;
        // Cancelled by its own clock, it ran, unlike a step whose turn never came.
        let ran_out = result == -libc::ECANCELED && clock == -libc::ETIME;
        Some(if ran_out { clock } else { result })
    }

    fn take<U: Default>(
        ring: &mut Ring<U>,
        TimedTicket { op, clock }: TimedTicket<O>,
    ) -> Result<Timed<O::Output>, TimedTicket<O>> {
        ring.check(&op);
        ring.check(&clock);
        if !ring.slab.is_done(&op) || !ring.slab.is_done(&clock) {
            return Err(TimedTicket { op, clock });
        }
        // The clock first: nobody's code runs for it but the word's.
        match (ring.try_take(clock), ring.try_take(op)) {
            (Ok(expired), Ok(output)) => Ok(Timed { output, expired }),
            _ => unreachable!("OP2: both were done"),
        }
    }
}

/// What the steps of a chain pick from, so that all of it is known to be free before the first step
/// is in its slot.
#[doc(hidden)]
#[derive(Debug, Default)]
pub struct Claims {
    steps: u32,
    held: Vec<Claimed>,
}

impl Claims {
    fn add<O: Op>(&mut self, op: &O, ring: RingId) -> Result<(), Rejection> {
        if O::HAS_SOURCE {
            let source = op.source().ok_or(Rejection::OtherRing)?;
            let source = if self.steps == 0 { source } else { source.behind() };
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
    /// # Safety
    ///
    /// No lifetime in `O` may end before its slot is empty again.
    unsafe fn one<O: Op>(&mut self, op: O, flags: SqeFlags) -> Ticket<O> {
        // SAFETY: as promised to `one`.
        let Ok(mut berth) = (unsafe { self.slab.moor(op) }) else {
            unreachable!("slots were counted before the chain was begun");
        };
        let at = if self.last.is_none() { At::Front } else { At::Behind };
        assert!(berth.admit(self.ring, at).is_ok(), "the operation changed its mind");
        let user = U::default(); // May panic, as all code of the caller's.
        let sqe = berth.prep();
        let sqe = Sqe { flags: sqe.flags | flags, ..sqe };
        let slots = self.slots.as_mut().expect("the chain is not handed over yet");
        // SAFETY: whatever it points to lies in the slot, or is owned from there, and stays until
        // the last completion, as promised to `Op` (OP1).
        let pushed = unsafe { slots.push(sqe) };
        assert!(pushed.is_ok(), "SQ2: entries were set aside for the whole chain");
        let (ticket, old) = berth.sail(user, self.life, self.ring);
        self.slab.follow(ticket.slot(), self.last.replace(ticket.slot()));
        drop(old);
        ticket
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
    /// its output says which. Those after it never began.
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
    unsafe fn board<U: Default>(self, aboard: &mut Boarding<'_, U>) -> Self::Tickets;

    /// Where the chain ended, if it has.
    #[doc(hidden)]
    fn end<U: Default>(ring: &Ring<U>, tickets: &Self::Tickets) -> Option<ChainEnd>;

    #[doc(hidden)]
    fn take<U: Default>(ring: &mut Ring<U>, tickets: Self::Tickets) -> Self::Outputs;
}

/// The claims to the outputs of a chain.
#[must_use = "redeem it with `wait_chain`, or take it apart"]
pub struct ChainTicket<L: Linked>(L::Tickets);

impl<L: Linked> ChainTicket<L> {
    /// The claims one by one, to redeem or give up each as any other.
    pub fn into_tickets(self) -> L::Tickets {
        self.0
    }
}

impl<L: Linked> fmt::Debug for ChainTicket<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChainTicket").finish_non_exhaustive()
    }
}

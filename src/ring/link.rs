//! Chains: linked operations, which begin one after the other and are submitted together.
//!
//! ```text
//!   (read, write.hard(), fsync)      read ──ok──► write ──always──► fsync
//!                                         └─ error, or short ─► the rest is cancelled
//!   read.within(one_second)          read, and a linked timeout that cancels it
//! ```
//!
//! | step | the next begins when this one has | entry flag |
//! |---|---|---|
//! | an operation | done everything that was asked (but see below) | `IOSQE_IO_LINK` |
//! | [`Hard`], by [`Step::hard`] | ended in any way | `IOSQE_IO_HARDLINK` |
//! | [`Within`], by [`StepExt::within`] | done everything that was asked, in time | `IOSQE_IO_LINK`, and a `LINK_TIMEOUT` entry |
//!
//! A short read or write breaks a chain, as an error does. A chain with a step that is larger than
//! one operation ([`MAX_TRANSFER`](crate::buf::MAX_TRANSFER) bytes, 1024 buffers) is rejected: the
//! kernel would not see that it is short. So does a receive with `WAIT_ALL` whose
//! message was cut, though all its bytes came: then the chain seems broken at the next step.
//!
//! The output of one step cannot feed the next: all steps are fixed when the chain is submitted.
//! The kernel keeps no order between operations of different chains, and none between the
//! completions of one chain.
//!
//! A step that the kernel refuses without running it (a descriptor opened for something else)
//! breaks a chain on Linux 5.10 from its very start, including hard links and earlier steps.
//!
//! Since Linux 6.0 some errors do not break a chain: those of syncing, of truncating and
//! allocating, of names and attributes, and of memory advice. The steps after such a step run
//! anyway, even after an [`Fsync`](crate::op::Fsync) that failed: check its result before you rely
//! on it. Each such operation documents this. A futex wait that was cancelled, even by its linked
//! timeout, breaks no chain either.
//!
//! Links hold only within one submission, so all entries of a chain are reserved at once. If there
//! is no room, or an operation panics while it makes its entry, nothing is submitted. In two cases
//! the kernel cuts a chain, and what is left of it begins at once, as a chain of its own: if it has
//! no memory for a request, and on a polling thread that several rings share, which takes at most
//! eight entries of a ring at a time ([`Setup::attach`](crate::Setup::attach)).
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
#![allow(unsafe_code, reason = "hands the kernel memory that operations point to")]

mod closing;
mod hard;
mod link_timeout;
mod lists;
mod outcome;
mod submit;
mod tuples;
mod waits;
mod watch;

use std::fmt;
use std::time::Instant;

use annulus_sys::abi::Sqe;
use annulus_sys::flags::{Features, SqeFlags};

use crate::lease::Claimed;
use crate::lease::ticket::{Rejection, Ticket};
use crate::op::{Op, RingId};
use crate::raw::chain::Chain;
use crate::ring::Ring;
use crate::ring::slab::{At, Life, Slab, Terms, contained};

#[doc(hidden)]
pub use waits::Waits;

pub use hard::Hard;
pub use link_timeout::{StepExt, Timed, TimedTicket, Within};
use outcome::Breaks;
#[doc(hidden)]
pub use outcome::{Ends, StepEnd};
use waits::TOO_LARGE;
#[doc(hidden)]
pub use watch::Watch;

mod sealed {
    pub trait Step {}
    pub trait Linked {}
}

/// Where a step stands in its chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[doc(hidden)]
pub enum Position {
    /// Another step follows, to which it is linked.
    BeforeAnother,
    /// It is linked to nothing.
    Last,
}

impl Position {
    /// The flags of the step's last entry: `link`, if another step follows.
    fn flags(self, link: SqeFlags) -> SqeFlags {
        if self == Self::Last { SqeFlags::empty() } else { link }
    }
}

/// A step of a chain: an operation, or one wrapped in [`Hard`] or [`Within`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no step of a chain",
    note = "a step is an operation, or one that is `hard()` or `within(time)`"
)]
pub trait Step: Sized + sealed::Step {
    /// Its ticket.
    type Ticket;

    /// Its output.
    type Output;

    /// How many entries it needs.
    #[doc(hidden)]
    const ENTRIES: u32;

    /// The kernel features that it needs: see [`Op::NEEDS`].
    #[doc(hidden)]
    const NEEDS: Features;

    /// What it waits for: some combinations must not meet in one chain.
    #[doc(hidden)]
    const WAITS: Waits;

    /// Links this step hard: the next step begins however this one ends.
    fn hard(self) -> Hard<Self> {
        Hard(self)
    }

    /// Whether the ring may accept it: see `Reserved::admit`. Its sources go to `claims`.
    #[doc(hidden)]
    fn admit(&mut self, ring: RingId, claims: &mut Claims) -> Result<(), Rejection>;

    /// # Safety
    ///
    /// No lifetime in `self` may end before its slots are empty again.
    #[doc(hidden)]
    unsafe fn place<U: Default>(
        self,
        chain: &mut UnsubmittedChain<'_, U>,
        position: Position,
        link: SqeFlags,
    ) -> PlacedStep<Self::Ticket>;

    /// How it ended, once it has.
    #[doc(hidden)]
    fn end_of_step<U: Default>(
        ring: &Ring<U>,
        placed: &PlacedStep<Self::Ticket>,
    ) -> Option<StepEnd>;

    /// Cancels it when its time is up. Called once the steps before it have ended. Returns when to
    /// look again.
    #[doc(hidden)]
    fn watch<U: Default>(ring: &mut Ring<U>, ticket: &mut Self::Ticket) -> Option<Instant>;

    /// How many of its last completions have not come yet. `None` if one wait for all of them will
    /// not do: a clock of ours is to be started in between.
    #[doc(hidden)]
    fn missing<U: Default>(ring: &Ring<U>, ticket: &Self::Ticket) -> Option<u32>;

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
pub struct PlacedStep<T> {
    ticket: T,
    breaks: Breaks,
}

/// The kernel's result, once the operation is done.
fn result<U: Default, O>(ring: &Ring<U>, ticket: &Ticket<O>) -> Option<i32> {
    ring.check(ticket);
    ring.slab.is_done(ticket).then(|| ring.slab.result(ticket.slot()))
}

impl<O: Op> sealed::Step for O {}

#[doc(hidden)] // Otherwise rustdoc repeats its hidden items on the page of every operation.
impl<O: Op> Step for O {
    type Ticket = Ticket<O>;
    type Output = O::Output;
    const ENTRIES: u32 = 1;
    const NEEDS: Features = <O as Op>::NEEDS;
    const WAITS: Waits = Waits::of::<O>();

    fn admit(&mut self, ring: RingId, claims: &mut Claims) -> Result<(), Rejection> {
        claims.add(self, ring)
    }

    unsafe fn place<U: Default>(
        self,
        chain: &mut UnsubmittedChain<'_, U>,
        position: Position,
        link: SqeFlags,
    ) -> PlacedStep<Ticket<O>> {
        // SAFETY: as promised to `place`.
        unsafe { chain.one(self, position.flags(link)) }
    }

    fn end_of_step<U: Default>(ring: &Ring<U>, placed: &PlacedStep<Ticket<O>>) -> Option<StepEnd> {
        Some(placed.breaks.tell(result(ring, &placed.ticket)?, ring.raw.features()))
    }

    fn watch<U: Default>(_: &mut Ring<U>, _: &mut Ticket<O>) -> Option<Instant> {
        None
    }

    fn missing<U: Default>(ring: &Ring<U>, ticket: &Ticket<O>) -> Option<u32> {
        Some(u32::from(result(ring, ticket).is_none()))
    }

    fn take<U: Default>(ring: &mut Ring<U>, ticket: Ticket<O>) -> Result<O::Output, Ticket<O>> {
        ring.try_take(ticket)
    }

    fn give_up<U: Default>(ring: &mut Ring<U>, ticket: Ticket<O>) {
        ring.detach(ticket);
    }
}

/// The sources of a chain's steps, claimed to check that all of them are available before the first
/// step is in its slot.
#[doc(hidden)]
#[derive(Debug, Default)]
pub struct Claims {
    steps: u32,
    /// Whether the buffers of a step are known only from the order in which the kernel selects
    /// them.
    in_order: bool,
    held: Vec<Claimed>,
}

impl Claims {
    fn add<O: Op>(&mut self, op: &mut O, ring: RingId) -> Result<(), Rejection> {
        // Code of the caller's. If it panics here, it will again when the step is in its slot, from
        // where the other steps come back one by one.
        let mut refusal = None;
        contained(|| {
            refusal = op.refusal();
            refusal = refusal.or_else(|| (!op.is_offered_whole()).then_some(TOO_LARGE));
        });
        if let Some(reason) = refusal {
            return Err(Rejection::Invalid { reason });
        }
        if O::HAS_SOURCE {
            let source = op.source().ok_or(Rejection::OtherRing)?;
            let source = if self.steps == 0 { source } else { source.behind() };
            self.in_order |= source.is_in_order(O::RESULT_KIND);
            self.held.push(source.claim(ring, O::RESULT_KIND, O::COMPLETIONS)?);
        }
        self.steps += 1;
        if op.belongs_to(ring) { Ok(()) } else { Err(Rejection::OtherRing) }
    }
}

/// A chain whose entries are being written. If it is dropped before it is submitted, it takes all
/// operations out of their slots again, as if the kernel had cancelled them.
#[doc(hidden)]
#[derive(Debug)]
pub struct UnsubmittedChain<'a, U: Default> {
    slab: &'a mut Slab<U>,
    slots: Option<Chain<'a>>,
    ring: RingId,
    life: Life,
    /// The slot taken last. Each slot of the chain links to the one taken before it.
    last: Option<u32>,
}

impl<U: Default> UnsubmittedChain<'_, U> {
    /// The `user_data` of the operations that the next step waits for: all in flight, if it is the
    /// first step and something was drained.
    fn held_up_by(&self) -> Vec<u64> {
        let held = self.last.is_none() && self.slab.may_wait();
        if held { self.slab.in_flight_user_data() } else { Vec::new() }
    }

    /// # Safety
    ///
    /// No lifetime in `O` may end before its slot is empty again.
    unsafe fn one<O: Op>(&mut self, op: O, flags: SqeFlags) -> PlacedStep<Ticket<O>> {
        // SAFETY: as promised to `one`.
        let Ok(mut reserved) = (unsafe { self.slab.reserve(op) }) else {
            unreachable!("slots were counted before the chain was begun");
        };
        let at = if self.last.is_none() { At::Front } else { At::Behind };
        assert!(reserved.admit(self.ring, at).is_ok(), "the operation changed its mind");
        let user = U::default(); // May panic, as all code of the caller may.
        let terms = Terms::ticket::<O>();
        let sqe = reserved.prep(terms);
        // SAFETY: the operation is at its final address, and its entry is not pushed yet (OP1).
        let breaks = unsafe { Breaks::of(&sqe) };
        let sqe = Sqe { flags: sqe.flags | flags, ..sqe };
        let slots = self.slots.as_mut().expect("the chain is not handed over yet");
        // SAFETY: everything that the entry points to lies in the slot, or is owned from there. It
        // stays until the last completion, as promised to `Op` (OP1).
        let pushed = unsafe { slots.push(sqe) };
        assert!(pushed.is_ok(), "SQ2: entries were set aside for the whole chain");
        let (ticket, old) = reserved.commit(user, self.life, self.ring, terms);
        self.slab.follow(ticket.slot(), self.last.replace(ticket.slot()));
        drop(old);
        PlacedStep { ticket, breaks }
    }
}

impl<U: Default> Drop for UnsubmittedChain<'_, U> {
    fn drop(&mut self) {
        let Some(slots) = self.slots.take() else { return };
        drop(slots); // Before any slot is freed: from here on no entry names one (OP1).
        while let Some(slot) = self.last {
            self.last = self.slab.followed(slot);
            // SAFETY: its entry was dropped with the reservation, so the kernel never had it (OP1).
            unsafe { self.slab.undo_submit(slot) };
        }
    }
}

/// How a chain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChainEnd {
    /// Every step began.
    Complete,
    /// The step at index `at`, counted from 0, failed, was cancelled, or did less than was asked;
    /// its output says which. The steps after it never began. A step that was cancelled while it
    /// ran is also reported like this, if the step before it let it begin.
    Broken {
        /// The index of the step.
        at: usize,
    },
}

/// The outputs of a chain, and how it ended.
#[derive(Debug)]
pub struct ChainOutcome<T> {
    /// The output of each step. Steps that never began say `ECANCELED`, and give back their buffers
    /// and files.
    pub outputs: T,
    /// How the chain ended.
    pub end: ChainEnd,
}

/// A sequence of steps.
///
/// | steps | type | tickets, outputs |
/// |---|---|---|
/// | up to four | a tuple | a tuple |
/// | of one type | an array | an array |
/// | of one type, as many as are known at run time | a `Vec` | a `Vec` |
/// | a `Vec` of one type, then one of another | `(Vec<S>, T)`, as in: write all parts, then sync | `(Vec<_>, _)` |
/// | any of these, then a close of their descriptor | [`Closing`](crate::op::Closing), made by [`Close::after`](crate::op::Close::after) | `(_, _)`: of the steps, of the close |
///
/// Only the first step of a chain can be [drained](crate::op::Op::drained). In a `Vec` all steps
/// have the type of the first, so none can.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no chain",
    note = "a chain is a tuple of one to four steps, an array or a `Vec` of steps of one type, or \
            a `Vec` of steps and one more; `Close::after` adds a close to any of them"
)]
pub trait Linked: Sized + sealed::Linked {
    /// The tickets, one for each step.
    type Tickets;

    /// The tickets of the steps, once they are submitted.
    type Placed;

    /// The outputs, one for each step.
    type Outputs;

    #[doc(hidden)]
    const NEEDS: Features;

    /// How many entries it needs; 0 if it has no steps.
    #[doc(hidden)]
    fn entries(&self) -> u32;

    /// Whether the ring may accept it: see `Reserved::admit`. Its sources go to `claims`.
    #[doc(hidden)]
    fn admit(&mut self, ring: RingId, claims: &mut Claims) -> Result<(), Rejection>;

    #[doc(hidden)]
    const WAITS: Waits;

    /// Whether it closes a descriptor that its steps use.
    #[doc(hidden)]
    const CLOSES: bool = false;

    /// Puts the steps into their slots. `last` is where the last of them stands.
    ///
    /// # Safety
    ///
    /// No lifetime in `self` may end before its slots are empty again.
    #[doc(hidden)]
    unsafe fn place<U: Default>(
        self,
        chain: &mut UnsubmittedChain<'_, U>,
        last: Position,
    ) -> Self::Placed;

    /// Tells `ends` how each step ended, in order.
    #[doc(hidden)]
    fn ends<U: Default>(ring: &Ring<U>, placed: &Self::Placed, ends: &mut Ends);

    /// Tells the operations of a chain that has ended what only the chain knows.
    #[doc(hidden)]
    fn settle<U: Default>(ring: &mut Ring<U>, placed: &Self::Placed) {
        let _ = (ring, placed);
    }

    /// Shows `watch` each step, in order.
    #[doc(hidden)]
    fn watch<U: Default>(watch: &mut Watch<'_, U>, placed: &mut Self::Placed);

    #[doc(hidden)]
    fn tickets(placed: Self::Placed) -> Self::Tickets;

    #[doc(hidden)]
    fn take<U: Default>(ring: &mut Ring<U>, tickets: Self::Tickets) -> Self::Outputs;

    #[doc(hidden)]
    fn give_up<U: Default>(ring: &mut Ring<U>, tickets: Self::Tickets);
}

/// The tickets of a chain.
#[must_use = "redeem it with `wait_chain`, take it apart, or give it up with `detach_chain`; \
              otherwise its slots stay taken"]
pub struct ChainTicket<L: Linked>(L::Placed);

impl<L: Linked> ChainTicket<L> {
    /// The tickets one by one, to redeem or detach like any other: a [`Ticket`] for each step, or a
    /// [`TimedTicket`] for a step with a time limit.
    pub fn into_tickets(self) -> L::Tickets {
        L::tickets(self.0)
    }
}

impl<L: Linked> fmt::Debug for ChainTicket<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChainTicket").finish_non_exhaustive()
    }
}

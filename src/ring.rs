//! The ring, safe face: it owns what the kernel has, and gives it back.
//!
//! ```text
//!   submit(op) ─► Ticket ─ wait, try_take ─► output: the result, and everything the op was given
//!      │                        ▲
//!      └─► slot ─► kernel ─► completion ─► Event (reap)
//! ```
//!
//! | to do this | call | enters the kernel |
//! |---|---|---|
//! | hand an operation over | [`submit`](Ring::submit), [`submit_for`](Ring::submit_for) | only to make room |
//! | … with borrowed buffers | [`scope`](Ring::scope) | at its end, to wait |
//! | … several in order | [`submit_chain`](Ring::submit_chain) | only to make room |
//! | make the kernel start | [`submit_all`](Ring::submit_all) | if there is anything to submit |
//! | wait for one operation | [`wait`](Ring::wait), [`wait_timeout`](Ring::wait_timeout) | if it must |
//! | … for any | [`submit_and_wait`](Ring::submit_and_wait) | if it must |
//! | see what has completed | [`reap`](Ring::reap), then [`try_take`](Ring::try_take) | if something is held back |
//! | take the next of many | [`next`](Ring::next), [`try_next`](Ring::try_next) | if it must |
//! | stop an operation | [`cancel`](Ring::cancel), then wait as before | no |
//! | give up its output | [`detach`](Ring::detach), [`detach_chain`](Ring::detach_chain) | no |
//! | end | [`shutdown`](Ring::shutdown), or drop it | to cancel, and to wait |
//!
//! `Ring<U>` keeps a word of type `U` with each operation, and shows it with each of its events: an
//! executor keeps its waker there. `Ring` alone keeps none.
//!
//! A ring belongs to the thread that made it, by its type. When that thread ends and the ring was
//! forgotten, what is in flight does nothing more, but need not end then: a poll or a read ends
//! with `ECANCELED` at the latest when what it waits for has come. To make it elsewhere, see
//! [`DisabledRing`](crate::DisabledRing); to wake it from elsewhere, [`Ring::sender`]. A forked
//! child cannot use it: see [fork](crate#fork).
//!
//! Keeps OP1, OP2, OP3. Leaves to others: the rings themselves (`raw`), the slots (`inflight`).
//!
//! # Example
//!
//! ```
//! use annulus::Setup;
//! use annulus::op::{Read, Write};
//! use std::io::pipe;
//!
//! let mut ring = Setup::new(8).build()?;
//! let (reader, writer) = pipe()?;
//! let read = ring.submit(Read::new(reader, Vec::with_capacity(16)))?;
//! let write = ring.submit(Write::new(writer, "hello"))?;
//! assert_eq!(ring.wait(write)?.result?, 5);
//! let (count, buf) = ring.wait(read)?.ok()?;
//! assert_eq!((count, &buf[..]), (5, &b"hello"[..]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![allow(unsafe_code, reason = "hands the kernel what operations point to")]

mod hope;
mod reaping;
mod redeem;
mod waiting;

use std::num::NonZero;
use std::rc::Rc;
use std::time::{Duration, Instant};

use annulus_sys::process::{Numbers, Process};
use annulus_sys::sq::Full;

use crate::backlog::Backlog;
use crate::error::{EnterCause, EnterError};
use crate::inflight::{At, Life, NOBODY, Slab};
use crate::lease::{Brought, Registered, buf_ring};
use crate::op::{Op, RingId, Shots};
use crate::own::{NEVER_BEGINS, Own};
use crate::prep;
use crate::raw::RawRing;
use crate::ticket::{Rejected, Rejection, Ticket};

pub use redeem::Redeem;
pub(crate) use redeem::sealed;
pub use waiting::Next;

/// How long dropping a ring waits for what is in flight.
const LINGER: Duration = Duration::from_secs(1);

/// How long, at most, a submission waits for cancels of the ring's own that nothing holds up.
const OWN_TIME: Duration = Duration::from_secs(1);

/// A ring that owns what the kernel has.
#[derive(Debug)]
pub struct Ring<U: Default = ()> {
    pub(crate) raw: RawRing,
    pub(crate) slab: Slab<U>,
    pub(crate) backlog: Backlog,
    pub(crate) own: Own,
    pub(crate) id: RingId,
    pub(crate) linger: Duration,
    pub(crate) pools: Vec<Rc<buf_ring::Pool>>,
    pub(crate) fixed: Registered,
    pub(crate) process: Process,
}

impl<U: Default> Ring<U> {
    /// A ring over `raw`, which must be new.
    pub(crate) fn over(raw: RawRing) -> Self {
        // At most as many operations as the completion ring holds: what completes once can never
        // overflow it.
        let slots = raw.cq_entries();
        Self {
            slab: Slab::new(slots),
            backlog: Backlog::new(slots),
            own: Own::default(),
            id: next_id(),
            linger: LINGER,
            pools: Vec::new(),
            fixed: Registered::default(),
            process: Process::this(),
            raw,
        }
    }

    /// Hands `op` over. It enters the kernel with the next [`submit_all`](Self::submit_all) or
    /// wait; until its last completion everything that it owns belongs to the ring.
    ///
    /// # Errors
    ///
    /// [`Rejected`] gives the operation back, with the reason.
    #[inline]
    pub fn submit<O: Op + 'static>(&mut self, op: O) -> Result<Ticket<O>, Rejected<O, U>> {
        self.submit_for(op, U::default())
    }

    /// As [`submit`](Self::submit), with the word that its events are to carry.
    ///
    /// # Errors
    ///
    /// [`Rejected`] gives operation and word back, with the reason.
    #[inline]
    pub fn submit_for<O: Op + 'static>(
        &mut self,
        op: O,
        user: U,
    ) -> Result<Ticket<O>, Rejected<O, U>> {
        // SAFETY: `'static`, so that it may stay in its slot for ever (OP1).
        unsafe { self.place(op, user, Life::Static) }
    }

    /// Moves `op` into a slot and pushes its entry.
    ///
    /// # Safety
    ///
    /// No lifetime in `O` may end before its slot is empty again.
    #[inline]
    pub(crate) unsafe fn place<O: Op>(
        &mut self,
        op: O,
        user: U,
        life: Life,
    ) -> Result<Ticket<O>, Rejected<O, U>> {
        // What must not wait for others, and what a worker thread must not run: the kernel gives
        // all that comes behind a drained entry to those.
        let alone = life == Life::Scoped || O::SHOTS == Shots::Notified;
        if (alone || O::HAS_SOURCE)
            && self.slab.may_wait()
            && (alone || op.source().is_some_and(|source| source.is_in_order::<O>()))
            && let Err(why) = self.go_past_drained()
        {
            return Err(Rejected { op, user, why });
        }
        if O::DRAINS && self.own.keeps_watch() {
            return Err(Rejected { op, user, why: NEVER_BEGINS });
        }
        let Self { raw, slab, id, .. } = self;
        if !O::NEEDS.is_empty() && !raw.features().contains(O::NEEDS) {
            return Err(Rejected { op, user, why: Rejection::Unsupported { needs: O::NEEDS } });
        }
        // SAFETY: as promised to `place`.
        let mut berth = match unsafe { slab.moor(op) } {
            Ok(berth) => berth,
            Err(op) => return Err(Rejected { op, user, why: Rejection::Slots }),
        };
        if let Err(why) = berth.admit(*id, At::Front) {
            return Err(Rejected { op: berth.back(), user, why });
        }
        let sqe = berth.prep();
        // Here, since user code ran up to here, and may have forked.
        if !raw.is_here() {
            return Err(Rejected { op: berth.back(), user, why: Rejection::OtherProcess });
        }
        // SAFETY: whatever it points to lies in the slot, or is owned from there, and stays until
        // the last completion, as promised to `Op` (OP1).
        if unsafe { raw.push_known(sqe) }.is_err() {
            let op = berth.back();
            // SAFETY: as promised to `place`.
            return unsafe { self.place_after_all(op, user, life) };
        }
        let (ticket, old) = berth.sail(user, life, *id);
        slab.note_drained(O::DRAINS); // Here, since what was rejected was not drained.
        let mut claim = Claim { slab, ticket: Some(ticket) };
        drop(old);
        Ok(claim.ticket.take().expect("just put there"))
    }

    /// [`place`](Self::place), where the submission ring was full.
    ///
    /// # Safety
    ///
    /// As for [`place`](Self::place).
    #[cold]
    unsafe fn place_after_all<O: Op>(
        &mut self,
        op: O,
        user: U,
        life: Life,
    ) -> Result<Ticket<O>, Rejected<O, U>> {
        match make_room(&mut self.raw) {
            // SAFETY: as promised to `place_after_all`. With room it does not come here again.
            Ok(()) => unsafe { self.place(op, user, life) },
            Err(why) => Err(Rejected { op, user, why }),
        }
    }

    /// Hands everything that was submitted to the kernel. Makes no system call when there is
    /// nothing. Returns how many entries the kernel took.
    ///
    /// # Errors
    ///
    /// [`EnterError`]; what was not taken stays queued, for the next time.
    #[inline]
    pub fn submit_all(&mut self) -> Result<u32, EnterError> {
        self.serve();
        self.raw.submit()
    }

    /// The output of the operation, if its last completion was taken already: by
    /// [`reap`](Self::reap) or in a wait. What an operation that completes many times had brought,
    /// and nobody took, comes with it: see [`Ended::left`](crate::op::Ended::left).
    ///
    /// # Errors
    ///
    /// The ticket, while the kernel has the operation.
    ///
    /// # Panics
    ///
    /// When the ticket is of another ring.
    #[inline]
    pub fn try_take<T: Redeem>(&mut self, ticket: T) -> Result<T::Output, T> {
        ticket.redeem(self)
    }

    #[inline]
    fn take_one<O: Op>(&mut self, ticket: Ticket<O>) -> Result<O::Output, Ticket<O>> {
        self.check(&ticket);
        let mut left = Brought::Nothing;
        if O::SHOTS != Shots::One && self.slab.is_done(&ticket) {
            let shots = self.backlog.all_of(&mut self.slab, ticket.slot());
            // What a zero-copy send said before its notification, its output says too.
            if O::SHOTS == Shots::Many && !shots.is_empty() {
                left = Brought::Left(shots);
            }
        }
        self.slab.take(ticket, left)
    }

    /// Asks the kernel to cancel the operation. It completes all the same, perhaps with success:
    /// keep the ticket, and wait as before. For what the kernel made of it, submit a
    /// [`Cancel`](crate::op::Cancel) instead.
    ///
    /// A cancel may miss what it is to end: what a worker thread is just beginning, or a
    /// [`TimeoutMulti`](crate::op::TimeoutMulti) of next to no time. Then cancel again. While one
    /// has not completed, or when the operation has ended, nothing more is asked.
    ///
    /// # Errors
    ///
    /// [`EnterError`] when the submission ring is full and making room failed. Nothing was asked
    /// then.
    ///
    /// # Panics
    ///
    /// When the ticket is of another ring.
    pub fn cancel<O>(&mut self, ticket: &Ticket<O>) -> Result<(), EnterError> {
        self.check(ticket);
        let word = ticket.word();
        if self.slab.is_being_cancelled(word) {
            self.pull(None)?; // The last one may have completed, and missed it.
        }
        if self.slab.may_cancel(word) { self.cancel_word(word) } else { Ok(()) }
    }

    /// Pushes a cancel of what is called `word`, which is not being cancelled. On a ring with a
    /// polling thread, waits for room if it must.
    pub(crate) fn cancel_word(&mut self, word: u64) -> Result<(), EnterError> {
        self.make_own_room()?;
        let sqe = self.own.tagged(prep::cancel_word(word), word);
        // SAFETY: it points to nothing (OP1).
        unsafe { self.raw.push_known(sqe) }
            .map_err(|Full| EnterError::new(0, EnterCause::OutOfRequests))?;
        self.own.pushed(word);
        self.slab.cancel_begins(word);
        Ok(())
    }

    fn make_own_room(&mut self) -> Result<(), EnterError> {
        if !self.raw.has_room() {
            if self.raw.gate().polls() {
                self.pull(None)?; // An old thread does not go on while completions overflow.
            }
            self.raw.wait_for_room()?;
        }
        Ok(())
    }

    /// Sees to it that nothing waits any more because an operation was drained: pushes a NOP while
    /// nothing else is in flight. See [`may_wait`](Slab::may_wait).
    #[cold]
    pub(crate) fn go_past_drained(&mut self) -> Result<(), Rejection> {
        if !self.raw.is_here() {
            return Err(Rejection::OtherProcess);
        }
        if self.own.count() > 0 {
            self.pull(None).map_err(Rejection::Enter)?;
        }
        if self.slab.in_flight() == 0 && self.own.count() > 0 {
            self.await_own().map_err(Rejection::Enter)?;
        }
        if self.slab.in_flight() + self.own.count() > 0 {
            return Err(Rejection::Drained);
        }
        self.make_own_room().map_err(Rejection::Enter)?;
        let sqe = self.own.tagged(prep::nop(), NOBODY);
        // SAFETY: it points to nothing (OP1).
        unsafe { self.raw.push_known(sqe) }.map_err(|Full| Rejection::Queue)?;
        self.own.pushed(NOBODY);
        self.slab.waits_no_more();
        Ok(())
    }

    /// Hands over what the ring has to do for itself, and waits a little for it: nothing else is in
    /// flight, and the caller knows of nothing to wait for.
    fn await_own(&mut self) -> Result<(), EnterError> {
        let until = Instant::now() + OWN_TIME;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            self.wait_a_little(left.min(OWN_TIME / 100))?;
            // The watch on the mailbox may last as long as it likes.
            if self.own.count() == u32::from(self.own.is_watched()) || left.is_zero() {
                return Ok(());
            }
        }
    }

    /// Gives up the claim to the output. The operation goes on; everything that it owns, and all
    /// that it brings, is dropped when it has completed. Should that panic, the panic hook tells
    /// so, and it goes no further, as in a detached thread: whoever reaps or waits just then has
    /// claims of its own. So it is with words whose operations are over.
    ///
    /// # Panics
    ///
    /// When the ticket is of another ring.
    pub fn detach<T: Redeem>(&mut self, ticket: T) {
        ticket.give_up(self);
    }

    fn detach_one<O: Op>(&mut self, ticket: Ticket<O>) {
        self.check(&ticket);
        if O::SHOTS != Shots::One {
            self.backlog.forget(&mut self.slab, ticket.slot());
        }
        self.slab.abandon(ticket);
    }

    /// The word that was submitted with the operation.
    ///
    /// # Panics
    ///
    /// When the ticket is of another ring.
    pub fn user<O>(&mut self, ticket: &Ticket<O>) -> &mut U {
        self.check(ticket);
        self.slab.user(ticket.slot())
    }

    /// How many operations the kernel has.
    pub fn in_flight(&self) -> u32 {
        self.slab.in_flight()
    }

    /// How many more operations can be submitted before one must be redeemed.
    pub fn vacant(&self) -> u32 {
        self.slab.vacant()
    }

    /// Completions that named no operation in flight: 0, unless someone forges them.
    pub fn stale(&self) -> u64 {
        self.slab.stale()
    }

    /// The ring underneath, to look at: sizes, [`stats`](RawRing::stats), descriptor.
    pub fn raw(&self) -> &RawRing {
        &self.raw
    }

    /// The ring underneath, for entries of one's own beside the operations. Their completions come
    /// as [`Event::Raw`](crate::Event::Raw).
    ///
    /// # Safety
    ///
    /// The `user_data` of what is pushed, and every word that is registered to come in completions,
    /// must have its two upper bits set; no completion may be taken, and the ring must not be moved
    /// out of its place or resized.
    pub unsafe fn raw_mut(&mut self) -> &mut RawRing {
        &mut self.raw
    }

    /// Does what the ring has to do for itself.
    #[inline]
    pub(crate) fn serve(&mut self) {
        if self.own.has_work() {
            self.serve_sender();
        }
    }

    #[inline]
    pub(crate) fn check<O>(&self, ticket: &Ticket<O>) {
        assert!(ticket.ring() == self.id, "OP2: a ticket of {} on {}", ticket.ring(), self.id);
    }
}

/// A ticket that nobody has yet. Should the word that made way for the operation's own panic, it is
/// given up.
struct Claim<'a, O, U: Default> {
    slab: &'a mut Slab<U>,
    ticket: Option<Ticket<O>>,
}

impl<O, U: Default> Drop for Claim<'_, O, U> {
    #[inline]
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.slab.abandon(ticket);
        }
    }
}

/// Submits what fills the ring.
#[cold]
fn make_room(raw: &mut RawRing) -> Result<(), Rejection> {
    let submitted = raw.submit();
    match (raw.has_room(), submitted) {
        (true, _) => Ok(()),
        (false, Err(error)) => Err(Rejection::Enter(error)),
        (false, Ok(_)) => Err(Rejection::Queue),
    }
}

/// A number that no other ring of this process has, or ever will.
fn next_id() -> RingId {
    static NUMBERS: Numbers = Numbers::new();
    let number = u32::try_from(NUMBERS.next()).ok().and_then(NonZero::new);
    RingId(number.expect("OP2: 2^32 rings were made, and their numbers are used up"))
}

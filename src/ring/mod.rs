//! The safe ring: it owns everything that the kernel uses, and gives it back when an operation
//! ends.
//!
//! ```text
//!   submit(op) ─► Ticket ─ wait, try_take ─► output: the result, and all that the op owned
//!      │                        ▲
//!      └─► slot ─► kernel ─► completion ─► Event (reap)
//! ```
//!
//! The page of [`Ring`] begins with a guide, and lists the methods in the order of a ring's life.
//!
//! Keeps OP1, OP2, OP3. Leaves to others: the queues themselves (`raw`), the slots (`slab`).
#![allow(unsafe_code, reason = "hands the kernel memory that operations point to")]

// The page of `Ring` shows the impl blocks of these modules in this order, which is that of a
// ring's life, and then those of this file. The blank lines keep rustfmt from sorting them.
mod build;

mod leases;

mod submitting;

pub mod unticketed;

pub mod link;

pub mod scope;

mod read_exact;

mod waiting;

mod waiting_with;

mod redeem;

mod reaping;

mod stopping;

mod cancel_now;

mod poll_update;

pub mod end;

mod forward;

pub mod sender;

// These have no public methods of `Ring`.
mod can_end;
mod drained;
pub mod event;
pub mod event_loop;
mod internal;
pub mod lane;
pub mod output;
mod slab;
mod undelivered;

use std::num::NonZero;
use std::time::Duration;

use annulus_sys::process::{Numbers, Process};
use annulus_sys::sq::Full;

use crate::lease::Registered;
use crate::lease::completion::Completion;
use crate::lease::ticket::{Rejected, Rejection, Ticket};
use crate::op::{Completions, Op, RingId};
use crate::prep;
use crate::raw::RawRing;
use crate::ring::internal::Internal;
use crate::ring::slab::{At, Life, Slab, Terms, kind};
use crate::ring::undelivered::Undelivered;
use crate::setup::enter_error::{EnterCause, EnterError};

pub(crate) use redeem::sealed;
pub use redeem::{Redeem, Submitted};
pub use waiting::Next;

/// How long dropping a ring waits for operations in flight: long enough for cancels to take effect,
/// and short enough for a drop.
const DROP_TIMEOUT: Duration = Duration::from_secs(1);

/// A ring that owns everything that the kernel uses, until the kernel is done with it.
///
/// This is the life of a ring, and the order of the methods on this page:
///
/// | to | call | enters the kernel |
/// |---|---|---|
/// | make a ring | [`Setup::build`](crate::Setup::build), or [`build_for`](crate::Setup::build_for) with user values | yes |
/// | register buffers and files | [`buf_ring`](Self::buf_ring), [`fixed_pool`](Self::fixed_pool), [`send_ring`](Self::send_ring), [`file_table`](Self::file_table) | yes |
/// | submit an operation | [`submit`](Self::submit), [`submit_for`](Self::submit_for) | only to make room |
/// | … without a ticket, taking its output by type | [`submit_unticketed`](Self::submit_unticketed) | only to make room |
/// | … several in order | [`submit_chain`](Self::submit_chain) | only to make room |
/// | … with borrowed buffers | [`scope`](Self::scope) | at its end, to wait |
/// | hand the queue to the kernel | [`submit_all`](Self::submit_all) | if anything is queued |
/// | move all bytes of a buffer | [`read_exact`](Self::read_exact), [`write_all`](Self::write_all) | yes |
/// | wait for one operation | [`wait`](Self::wait), [`wait_timeout`](Self::wait_timeout) | if it must |
/// | … for a number of events | [`submit_and_wait`](Self::submit_and_wait) | if it must |
/// | … for the next item of a multishot | [`next`](Self::next), [`try_next`](Self::try_next) | if it must |
/// | see which have completed | [`reap`](Self::reap), then [`try_take`](Self::try_take) | if the kernel holds some back |
/// | … submit, wait and see in one call | [`turn`](Self::turn), [`turn_outputs`](Self::turn_outputs) | once, as a rule |
/// | stop an operation | [`cancel`](Self::cancel), then wait as before | no |
/// | change the events of a poll | [`poll_update`](Self::poll_update), then submit what it made | the first time |
/// | give up its output | [`detach`](Self::detach), [`detach_chain`](Self::detach_chain) | no |
/// | end the ring | [`shutdown`](Self::shutdown), or drop it | to cancel, and to wait |
///
/// What a program does most, with operations of one type, costs least in a [`Lane`](crate::Lane)
/// beside its ring.
///
/// Every wait submits what is queued, so most programs never call [`submit_all`](Self::submit_all).
///
/// `Ring<U>` keeps a user value of type `U` with each operation, and shows it with each event of
/// that operation: an executor keeps its waker there. Plain `Ring` keeps none.
///
/// A ring belongs to the thread that made it: its type is not `Send`. If the ring is forgotten and
/// its thread ends, operations in flight have no further effect, but need not end at once: a poll
/// or a read ends with `ECANCELED` at the latest when the event that it waits for occurs. To make a
/// ring on another thread, see [`DisabledRing`](crate::DisabledRing). To wake it from another
/// thread, see [`sender`](Self::sender). A forked child cannot use it: see [fork](crate#fork).
///
/// # Example
///
/// ```
/// use annulus::Setup;
/// use annulus::op::{Read, Write};
/// use std::io::pipe;
///
/// let mut ring = Setup::new(8).build()?;
/// let (reader, writer) = pipe()?;
/// let read = ring.submit(Read::new(reader, Vec::with_capacity(16)))?;
/// let write = ring.submit(Write::new(writer, "hello"))?;
/// assert_eq!(ring.wait(write)?.result?, 5);
/// let (count, buf) = ring.wait(read)?.ok()?;
/// assert_eq!((count, &buf[..]), (5, &b"hello"[..]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Ring<U: Default = ()> {
    pub(crate) raw: RawRing,
    pub(crate) slab: Slab<U>,
    pub(crate) undelivered: Undelivered,
    pub(crate) internal: Internal,
    pub(crate) id: RingId,
    pub(crate) drop_timeout: Duration,
    pub(crate) registered: Registered,
    pub(crate) process: Process,
    /// The error with which the turn that goes on is to end.
    wait_error: Option<EnterError>,
}

impl<U: Default> Ring<U> {
    /// A safe ring over `raw`, which must be new.
    pub(crate) fn over(raw: RawRing) -> Self {
        // At most as many operations as the completion queue has entries: then single-shot
        // operations can never overflow it.
        let slots = raw.cq_entries();
        Self {
            slab: Slab::new(slots),
            undelivered: Undelivered::new(slots),
            internal: Internal::default(),
            id: next_id(),
            drop_timeout: DROP_TIMEOUT,
            registered: Registered::default(),
            process: Process::this(),
            wait_error: None,
            raw,
        }
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
        // SAFETY: as promised to `place`.
        unsafe { self.place_as(op, user, life, Terms::ticket::<O>()) }
    }

    /// [`place`](Self::place), for an operation whose output is taken as `terms` say.
    ///
    /// # Safety
    ///
    /// As for [`place`](Self::place).
    #[inline]
    pub(crate) unsafe fn place_as<O: Op>(
        &mut self,
        op: O,
        user: U,
        life: Life,
        terms: Terms,
    ) -> Result<Ticket<O>, Rejected<O, U>> {
        // The kernel makes everything after a drained entry wait, and gives it to worker threads.
        // These operations must not wait for others, or must not run on a worker thread.
        let alone = life == Life::Scoped || O::COMPLETIONS == Completions::WithNotification;
        if (alone || O::HAS_SOURCE)
            && self.slab.may_wait()
            && (alone || op.source().is_some_and(|source| source.is_in_order(O::RESULT_KIND)))
            && let Err(why) = self.go_past_drained()
        {
            return Err(Rejected { op, user, why });
        }
        if O::DRAINS
            && let Err(why) = self.may_drain()
        {
            return Err(Rejected { op, user, why });
        }
        let Self { raw, slab, id, .. } = self;
        if !O::NEEDS.is_empty() && !raw.features().contains(O::NEEDS) {
            return Err(Rejected { op, user, why: Rejection::Unsupported { needs: O::NEEDS } });
        }
        // SAFETY: as promised to `place`.
        let mut reserved = match unsafe { slab.reserve(op) } {
            Ok(reserved) => reserved,
            Err(op) => return Err(Rejected { op, user, why: Rejection::NoSlot }),
        };
        if let Err(why) = reserved.admit(*id, At::Front) {
            return Err(Rejected { op: reserved.back(), user, why });
        }
        let sqe = reserved.prep(terms);
        // Checked only now, because the caller's code ran up to here, and may have forked.
        if !raw.is_here() {
            return Err(Rejected { op: reserved.back(), user, why: Rejection::OtherProcess });
        }
        // SAFETY: everything that the entry points to lies in the slot, or is owned from there. It
        // stays until the last completion, as promised to `Op` (OP1).
        if unsafe { raw.push_known(sqe) }.is_err() {
            let op = reserved.back();
            // SAFETY: as promised to `place_as`.
            return unsafe { self.place_after_all(op, user, life, terms) };
        }
        let (ticket, old) = reserved.commit(user, life, *id, terms);
        slab.note_drained(O::DRAINS); // Only now, because a rejected operation drains nothing.
        let mut claim = Claim { slab, ticket: Some(ticket) };
        drop(old);
        Ok(claim.ticket.take().expect("just put there"))
    }

    /// [`place`](Self::place), after the submission queue was full.
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
        terms: Terms,
    ) -> Result<Ticket<O>, Rejected<O, U>> {
        match make_room(&mut self.raw) {
            // SAFETY: as promised to `place_after_all`. There is room now, so it does not come here
            // again.
            Ok(()) => unsafe { self.place_as(op, user, life, terms) },
            Err(why) => Err(Rejected { op, user, why }),
        }
    }

    #[inline]
    #[track_caller]
    fn take_one<O: Op>(&mut self, ticket: Ticket<O>) -> Result<O::Output, Ticket<O>> {
        self.take_after(ticket, Vec::new)
    }

    /// The output of an operation that has ended, with the completions that were shown before and
    /// that nobody took.
    #[inline]
    #[track_caller]
    pub(crate) fn take_after<O: Op>(
        &mut self,
        ticket: Ticket<O>,
        shown: impl FnOnce() -> Vec<Completion>,
    ) -> Result<O::Output, Ticket<O>> {
        self.check(&ticket);
        // A vector, since one that is empty takes no code to drop.
        let mut left = Vec::new();
        if O::COMPLETIONS != Completions::Single && self.slab.is_done(&ticket) {
            left = shown();
            left.append(&mut self.undelivered.all_of(&mut self.slab, ticket.slot()));
        }
        // SAFETY: a ticket of this ring, as `check` found, and so of its slab (OP2).
        unsafe { self.slab.take(ticket, left) }
    }

    /// Pushes a cancel of the operation with this `user_data`, which is not being cancelled. On a
    /// ring with a polling thread, waits for room if necessary.
    pub(crate) fn cancel_user_data(&mut self, user_data: u64) -> Result<(), EnterError> {
        self.make_internal_room()?;
        if user_data & kind::MASK == 0 && !self.slab.is_in_flight(user_data) {
            return Ok(()); // Its end was taken while room was made.
        }
        let sqe = self.internal.tagged(prep::cancel_user_data(user_data), user_data);
        // SAFETY: the entry points to nothing (OP1).
        unsafe { self.raw.push_known(sqe) }
            .map_err(|Full| EnterError::new(0, EnterCause::OutOfRequests))?;
        self.internal.pushed(user_data);
        self.slab.cancel_begins(user_data);
        Ok(())
    }

    fn make_internal_room(&mut self) -> Result<(), EnterError> {
        if !self.raw.has_room() {
            if self.raw.driver().polls() {
                self.pull(None)?; // An old kernel's thread stops while completions overflow.
            }
            self.raw.wait_for_room()?;
        }
        Ok(())
    }

    #[track_caller]
    fn detach_one<O: Op>(&mut self, ticket: Ticket<O>) {
        self.check(&ticket);
        if O::COMPLETIONS != Completions::Single {
            self.undelivered.forget(&mut self.slab, ticket.slot());
        }
        self.slab.abandon(ticket);
    }
}

/// # User values, and the raw ring
impl<U: Default> Ring<U> {
    /// The user value that was submitted with the operation. A
    /// [`TimedTicket`](crate::TimedTicket) has two, one after the other.
    ///
    /// # Panics
    ///
    /// When the ticket belongs to another ring.
    #[track_caller]
    pub fn user<T: Redeem>(&mut self, ticket: &T) -> &mut U {
        let slot = ticket.awaited(self);
        self.slab.user(slot)
    }

    /// The raw ring, for reading: sizes, [`stats`](RawRing::stats), descriptor.
    pub fn raw(&self) -> &RawRing {
        &self.raw
    }

    /// The raw ring, for your own entries in addition to operations. Their completions come as
    /// [`Event::Raw`](crate::Event::Raw).
    ///
    /// # Safety
    ///
    /// Every `user_data` that is pushed, or registered to come in completions, must have its two
    /// upper bits set. No completion may be taken, no entry submitted by hand
    /// ([`RawRing::enter`], or through a [handle](RawRing::handle)), and the ring must not be moved
    /// out of its place or resized.
    pub unsafe fn raw_mut(&mut self) -> &mut RawRing {
        self.internal.lend();
        &mut self.raw
    }

    /// Submits internal requests that are due.
    #[inline]
    pub(crate) fn serve(&mut self) {
        if self.internal.has_work() {
            self.serve_sender();
        }
    }

    #[inline]
    #[track_caller]
    pub(crate) fn check<O>(&self, ticket: &Ticket<O>) {
        assert!(ticket.ring() == self.id, "OP2: a ticket of {} on {}", ticket.ring(), self.id);
    }
}

/// A new ticket that the caller does not have yet. If dropping the slot's previous user value
/// panics, the ticket is given up.
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

/// Submits the entries that fill the queue.
#[cold]
fn make_room(raw: &mut RawRing) -> Result<(), Rejection> {
    let submitted = raw.submit();
    match (raw.has_room(), submitted) {
        (true, _) => Ok(()),
        (false, Err(error)) => Err(Rejection::Enter(error)),
        (false, Ok(_)) => Err(Rejection::QueueFull),
    }
}

/// A number that no other ring of this process ever has.
fn next_id() -> RingId {
    static NUMBERS: Numbers = Numbers::new();
    let number = u32::try_from(NUMBERS.next()).ok().and_then(NonZero::new);
    RingId(number.expect("OP2: 2^32 rings were made, and no ring number is left"))
}

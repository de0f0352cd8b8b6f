//! Reaping: each completion is recorded in its slot, then shown as an event, or kept to be shown.
//!
//! ```text
//!   completion ─► consumed ─► slot updated ─┬─► each(Event)          reap
//!                                           └─► undelivered          a wait for another
//! ```
//!
//! Because of this order, nothing is lost and nothing comes twice, whatever `each` does.
//!
//! Keeps OP2 and OP3. Leaves to others: which operation a completion belongs to (`slab`).
#![allow(unsafe_code, reason = "vouches for completions of the queue")]

use annulus_sys::abi::Cqe;
use annulus_sys::cq::Batch;
use annulus_sys::flags::CqeFlags;

use crate::lease::completion::result_of;
use crate::raw::{Coming, RawRing};
use crate::ring::Ring;
use crate::ring::event::Event;
use crate::ring::internal::Internal;
use crate::ring::output::Shown;
use crate::ring::slab::{Recorded, Slab};
use crate::ring::undelivered::Undelivered;
use crate::setup::enter_error::{EnterCause, EnterError};

/// # Taking events
impl<U: Default> Ring<U> {
    /// Calls `each` with every event there is, and returns how many. Of what the kernel holds back,
    /// that is all where it says so, as rings of [`Setup::new`](crate::Setup::new) make it do;
    /// otherwise (`DEFER_TASKRUN` or `COOP_TASKRUN` without `TASKRUN_FLAG`, `IOPOLL`) it is asked
    /// only if there was no event, so there a loop that sleeps elsewhere reaps until nothing comes.
    ///
    /// Each completion is consumed, and its slot updated, before `each` sees it: so `each` may
    /// panic, and no event is lost or repeated. Completions of [detached](Self::detach) operations
    /// are consumed too, but neither shown nor counted, not even the last one.
    ///
    /// # Errors
    ///
    /// [`EnterError`] from asking for completions that the kernel holds back; `each` has seen the
    /// earlier ones.
    ///
    /// # Example
    ///
    /// ```
    /// use annulus::op::Nop;
    /// use annulus::{Event, Setup};
    /// use std::collections::HashMap;
    ///
    /// let mut ring = Setup::new(8).build()?;
    /// let mut tickets = HashMap::new(); // By slot.
    /// for _ in 0..3 {
    ///     let ticket = ring.submit(Nop)?;
    ///     tickets.insert(ticket.slot(), ticket);
    /// }
    /// ring.submit_and_wait(3)?;
    /// let mut ended = Vec::new();
    /// ring.reap(|event| {
    ///     if let Event::Ended { slot, .. } = event {
    ///         ended.push(slot); // The ring is borrowed here, so redeem the tickets afterwards.
    ///     }
    /// })?;
    /// for slot in ended {
    ///     let ticket = tickets.remove(&slot).expect("one operation in each slot");
    ///     ring.try_take(ticket).expect("it has ended")?;
    /// }
    /// assert!(tickets.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn reap(&mut self, each: impl FnMut(Event<'_, U>)) -> Result<u32, EnterError> {
        self.reap_in(None, each)
    }

    /// Submits all queued entries, waits until at least `want` events can be reaped, and reaps all
    /// that can be: a whole turn of a loop in one call. Returns how many events that were. Like
    /// [`submit_and_wait`](Self::submit_and_wait) and then [`reap`](Self::reap), but looks only
    /// once at what is ready, and does not enter again for completions that the kernel holds back
    /// as task work, as a rule: the next turn or wait takes them in. To wait elsewhere between two
    /// turns, on an eventfd for example, call [`reap`](Self::reap) first, until nothing comes.
    ///
    /// # Errors
    ///
    /// As for [`submit_and_wait`](Self::submit_and_wait). If a signal ended the wait
    /// ([`EnterCause::Interrupted`]), or completions had to be taken first, `each` has seen those
    /// that were ready.
    ///
    /// # Example
    ///
    /// ```
    /// use annulus::op::Nop;
    /// use annulus::{Event, Setup};
    ///
    /// let mut ring = Setup::new(8).build()?;
    /// let nop = ring.submit(Nop)?;
    /// let events = ring.turn(1, |event| assert!(matches!(event, Event::Ended { .. })))?;
    /// assert_eq!(events, 1);
    /// ring.try_take(nop).expect("it has ended")?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn turn(&mut self, want: u32, each: impl FnMut(Event<'_, U>)) -> Result<u32, EnterError> {
        let (mut want, mut failed) = (Some(want), false);
        if !self.is_plain() || want > Some(self.slab.in_flight()) {
            (want, failed) = (None, self.wait_first(want.unwrap_or(0))?);
        }
        let events = self.reap_in(want, each)?;
        if failed {
            return Err(self.wait_failed());
        }
        Ok(events)
    }

    /// Waits before a turn that may need to wait in another way than the usual one. Returns whether
    /// the turn is to end with [an error](Self::wait_failed) once it has shown what is ready.
    #[cold]
    pub(super) fn wait_first(&mut self, want: u32) -> Result<bool, EnterError> {
        match self.submit_and_wait(want) {
            Ok(_) => Ok(false),
            Err(error) if can_be_taken(error.cause) => {
                self.wait_error = Some(error);
                Ok(true)
            }
            Err(error) => Err(error),
        }
    }

    /// The error of [`wait_first`](Self::wait_first), which the usual turn has no room for.
    #[cold]
    pub(super) fn wait_failed(&mut self) -> EnterError {
        self.wait_error.take().expect("a wait that failed keeps its error")
    }

    /// Takes completions in one call of the raw ring, and shows each as an event.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "keeps what `each` captures in registers")]
    fn reap_in(
        &mut self,
        want: Option<u32>,
        mut each: impl FnMut(Event<'_, U>),
    ) -> Result<u32, EnterError> {
        let mut count = 0;
        if !self.undelivered.is_empty() {
            count = self.reap_undelivered(&mut each);
        }
        let Self { raw, slab, undelivered, internal, .. } = self;
        let mut hidden = 0;
        let take = |raw: &mut RawRing| {
            // A new closure each time, so that its captures stay in registers.
            raw.rings_mut().cq().drain(|cqe| {
                // SAFETY: just taken from the ring's queue, in order (OP1, OP3).
                if let Some((slot, user)) = unsafe { slab.record_plain(cqe) } {
                    return each(Event::Ended { user, slot, result: result_of(cqe.res) });
                }
                let (user_data, flags) = (cqe.user_data, cqe.flags.bits());
                // SAFETY: just taken from the queue, in order; not recorded yet (OP1, OP3).
                let recorded = unsafe { slab.settle_parts(user_data, cqe.res, flags) };
                hidden += u32::from(!show(slab, undelivered, internal, recorded, &mut each));
            })
        };
        let taken = raw.take_in(want, Coming::Known, take);
        match &taken {
            Ok(taken) => count += taken - hidden,
            // What was taken is shown, too.
            Err(error) if can_be_taken(error.cause) => {}
            Err(_) => return taken,
        }
        if !self.undelivered.is_empty() {
            count += self.reap_undelivered(&mut each);
        }
        let internal = &mut self.internal;
        if internal.has_mail() {
            while let Some(message) = internal.next_mail() {
                each(Event::Message(message));
                count += 1;
            }
        }
        self.serve();
        taken.map(|_| count)
    }

    /// Shows the events that were kept.
    #[cold]
    fn reap_undelivered(&mut self, each: &mut impl FnMut(Event<'_, U>)) -> u32 {
        let (mut count, is_here) = (0, self.process.is_this());
        while let Some(recorded) = self.undelivered.pop(&mut self.slab) {
            let Self { slab, undelivered, internal, .. } = self;
            count += u32::from(show(slab, undelivered, internal, recorded, each));
            if is_here && !self.process.is_this() {
                break; // A forked child: what was not shown yet is its parent's.
            }
        }
        count
    }

    /// Whether events that were kept are still to be shown.
    pub(crate) fn has_kept_events(&self) -> bool {
        !self.undelivered.is_empty()
    }

    /// Takes every completion there is, and keeps those that are to be shown or taken later. The
    /// end of the operation in slot `quiet` is not kept, because its ticket is about to be
    /// redeemed.
    pub(crate) fn pull(&mut self, quiet: Option<u32>) -> Result<(), EnterError> {
        let Self { raw, slab, undelivered, internal, .. } = self;
        let take = |raw: &mut RawRing| take_all(raw, slab, undelivered, internal, quiet);
        raw.take_in(None, Coming::Known, take).map(drop)
    }

    /// As [`pull`](Self::pull), but asks the kernel for nothing. Returns how many there were, and
    /// the kernel's hints.
    pub(crate) fn take_ready(&mut self, quiet: Option<u32>) -> Batch {
        let Self { raw, slab, undelivered, internal, .. } = self;
        take_all(raw, slab, undelivered, internal, quiet)
    }
}

/// Whether a wait ended with completions that can be taken.
pub(super) fn can_be_taken(cause: EnterCause) -> bool {
    matches!(
        cause,
        EnterCause::Interrupted | EnterCause::CompletionsPending | EnterCause::ReadyFirst { .. }
    )
}

/// Takes the completions in the queue, and the messages that came with them.
#[cold]
pub(super) fn take_all<U: Default>(
    raw: &mut RawRing,
    slab: &mut Slab<U>,
    undelivered: &mut Undelivered,
    internal: &mut Internal,
    quiet: Option<u32>,
) -> Batch {
    // SAFETY: just taken from the ring's queue, in order (OP1, OP3).
    let each = |cqe| unsafe { keep(slab, undelivered, internal, cqe, quiet) };
    let taken = raw.rings_mut().cq().drain(each);
    while let Some(message) = internal.next_mail() {
        undelivered.push(slab, Recorded::Message(message));
    }
    taken
}

/// Shows one recorded completion, and returns whether there was anything to show. A last completion
/// with an item becomes two events: the end is kept first, and shown later. So a panic at the item
/// does not lose the end.
#[cold]
fn show<U: Default>(
    slab: &mut Slab<U>,
    undelivered: &mut Undelivered,
    internal: &mut Internal,
    recorded: Recorded,
    each: &mut impl FnMut(Event<'_, U>),
) -> bool {
    each(match recorded {
        Recorded::Ended(slot) if slab.is_unticketed(slot) => {
            // SAFETY: it has ended, as recorded once, and has no ticket (OP2).
            let mut shown = unsafe { Shown::of(slab, slot) };
            each(Event::Output(shown.output()));
            return true;
        }
        Recorded::Ended(slot) => {
            let result = result_of(slab.result(slot));
            Event::Ended { user: slab.user(slot), slot, result }
        }
        Recorded::Completion(slot, completion) => {
            Event::Multishot { user: slab.user(slot), slot, completion }
        }
        Recorded::Last(slot, completion) => {
            undelivered.push(slab, Recorded::Ended(slot));
            Event::Multishot { user: slab.user(slot), slot, completion }
        }
        Recorded::Message(message) => Event::Message(message),
        Recorded::Raw(cqe) => Event::Raw(cqe),
        Recorded::Internal(user_data, res) => {
            internal.completed(user_data, res);
            return false;
        }
        Recorded::Nothing => return false,
    });
    true
}

/// As [`keep`], with the completion in parts, so that the caller keeps no whole one. Nobody waits
/// for a ticket.
///
/// # Safety
///
/// As for [`Slab::record`].
#[cold]
pub(super) unsafe fn keep_parts<U: Default>(
    slab: &mut Slab<U>,
    undelivered: &mut Undelivered,
    internal: &mut Internal,
    user_data: u64,
    res: i32,
    flags: u32,
) {
    let cqe = Cqe { user_data, res, flags: CqeFlags::from_bits_retain(flags) };
    // SAFETY: as promised to `keep_parts`.
    unsafe { keep(slab, undelivered, internal, cqe, None) }
}

/// Records `cqe`, and keeps it if it is to be shown or taken later.
///
/// # Safety
///
/// As for [`Slab::record`].
pub(super) unsafe fn keep<U: Default>(
    slab: &mut Slab<U>,
    undelivered: &mut Undelivered,
    internal: &mut Internal,
    cqe: Cqe,
    quiet: Option<u32>,
) {
    // SAFETY: as promised to `keep`.
    match unsafe { slab.record(cqe) } {
        Recorded::Internal(user_data, res) => internal.completed(user_data, res),
        Recorded::Nothing => {}
        Recorded::Ended(slot) if quiet == Some(slot) => {}
        Recorded::Last(slot, completion) => {
            undelivered.push(slab, Recorded::Completion(slot, completion));
            if quiet != Some(slot) {
                undelivered.push(slab, Recorded::Ended(slot));
            }
        }
        recorded => undelivered.push(slab, recorded),
    }
}

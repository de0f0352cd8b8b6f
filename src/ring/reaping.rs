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

use crate::lease::completion::result_of;
use crate::raw::RawRing;
use crate::ring::Ring;
use crate::ring::event::Event;
use crate::ring::internal::Internal;
use crate::ring::slab::{Recorded, Slab};
use crate::ring::undelivered::Undelivered;
use crate::setup::enter_error::EnterError;

/// # Taking events
impl<U: Default> Ring<U> {
    /// Calls `each` with every event there is, and returns how many. Each completion is consumed,
    /// and its slot updated, before `each` sees it: so `each` may panic, and no event is lost or
    /// repeated. Completions of [detached](Self::detach) operations are consumed too, but neither
    /// shown nor counted, not even the last one.
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
    pub fn reap(&mut self, mut each: impl FnMut(Event<'_, U>)) -> Result<u32, EnterError> {
        let mut count = 0;
        if !self.undelivered.is_empty() {
            count = self.reap_undelivered(&mut each);
        }
        let Self { raw, slab, undelivered, internal, .. } = self;
        let mut hidden = 0;
        let taken = raw.in_rounds(|raw| {
            // A new closure each time, so that its captures stay in registers.
            raw.rings_mut().cq().drain(|cqe| {
                // SAFETY: just taken from the ring's queue, in order (OP1, OP3).
                if let Some((slot, user)) = unsafe { slab.record_plain(cqe) } {
                    return each(Event::Ended { user, slot, result: result_of(cqe.res) });
                }
                let flags = cqe.flags.bits();
                // SAFETY: just taken from the ring's queue, in order; not recorded yet (OP1, OP3).
                let recorded = unsafe { slab.settle_parts(cqe.user_data, cqe.res, flags) };
                hidden += u32::from(!show(slab, undelivered, internal, recorded, &mut each));
            })
        })?;
        count += taken - hidden;
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
        Ok(count)
    }

    /// Shows the events that were kept.
    #[cold]
    fn reap_undelivered(&mut self, each: &mut impl FnMut(Event<'_, U>)) -> u32 {
        let mut count = 0;
        while let Some(recorded) = self.undelivered.pop(&mut self.slab) {
            let Self { slab, undelivered, internal, .. } = self;
            count += u32::from(show(slab, undelivered, internal, recorded, each));
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
        raw.in_rounds(|raw| take_all(raw, slab, undelivered, internal, quiet)).map(drop)
    }

    /// As [`pull`](Self::pull), but asks the kernel for nothing. Returns how many there were, and
    /// the kernel's hints.
    pub(crate) fn take_ready(&mut self, quiet: Option<u32>) -> Batch {
        let Self { raw, slab, undelivered, internal, .. } = self;
        take_all(raw, slab, undelivered, internal, quiet)
    }
}

/// Takes the completions in the queue, and the messages that came with them.
fn take_all<U: Default>(
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
    match recorded {
        Recorded::Ended(slot) => {
            let result = result_of(slab.result(slot));
            each(Event::Ended { user: slab.user(slot), slot, result });
        }
        Recorded::Completion(slot, completion) => {
            each(Event::Multishot { user: slab.user(slot), slot, completion })
        }
        Recorded::Last(slot, completion) => {
            undelivered.push(slab, Recorded::Ended(slot));
            each(Event::Multishot { user: slab.user(slot), slot, completion });
        }
        Recorded::Message(message) => each(Event::Message(message)),
        Recorded::Raw(cqe) => each(Event::Raw(cqe)),
        Recorded::Internal(user_data, res) => {
            internal.completed(user_data, res);
            return false;
        }
        Recorded::Nothing => return false,
    }
    true
}

/// Records `cqe`, and keeps it if it is to be shown or taken later.
///
/// # Safety
///
/// As for [`Slab::record`].
unsafe fn keep<U: Default>(
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

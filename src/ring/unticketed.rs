//! Operations without tickets: their outputs come as events, and are taken by type.
//!
//! ```text
//!   submit_unticketed(op, user) ─► slot ─► Event::Output(output) ─► output.take::<O>()
//!                                             the user value and the output of that very operation
//! ```
//!
//! A server that keeps what it needs in the user value has no use for tickets, and no table to keep
//! them in. The type of the operation says what its output is; where several operations have the
//! same type, the user value tells them apart.
//!
//! Leaves to others: the slot (`slab`), showing events (`reaping`), and an output in an event
//! (`output`).
#![allow(unsafe_code, reason = "takes outputs out of slots, by type")]

use std::fmt;

use annulus_sys::abi::Cqe;
use annulus_sys::cq::{Batch, CompletionQueue};

use crate::lease::ticket::Rejected;
use crate::lease::user_data::slot_of;
use crate::op::Op;
use crate::raw::{Coming, RawRing, RingId};
use crate::ring::internal::Internal;
use crate::ring::reaping::{can_be_taken, keep_parts, take_all};
use crate::ring::slab::{Life, Slab, Terms};
use crate::ring::undelivered::Undelivered;
use crate::ring::{Ring, Submitted, sealed};
use crate::setup::enter_error::EnterError;

/// # Submitting without a ticket
impl<U: Default> Ring<U> {
    /// As [`submit_for`](Self::submit_for), without a ticket: when the operation has ended,
    /// [`reap`](Self::reap) or [`turn`](Self::turn) shows its output, as
    /// [`Event::Output`](crate::Event::Output). The items of a multishot operation come as events
    /// before that.
    ///
    /// The slot is free when the event is over. An output that nobody takes is dropped there. While
    /// other calls wait for a ticket, the output is kept, and shown by the next `reap`.
    ///
    /// # Errors
    ///
    /// [`Rejected`] gives the operation and the user value back, with the reason.
    ///
    /// # Example
    ///
    /// ```
    /// use annulus::{Event, Ring, Setup, op};
    /// use std::fs::File;
    ///
    /// type Read = op::Read<File, Vec<u8>>;
    ///
    /// let mut ring: Ring<&str> = Setup::new(8).build_for()?;
    /// for name in ["/proc/version", "/proc/uptime"] {
    ///     let read = Read::new(File::open(name)?, Vec::with_capacity(4096));
    ///     ring.submit_unticketed(read, name)?;
    /// }
    /// ring.turn(2, |event| {
    ///     let Event::Output(output) = event else { return };
    ///     if let Ok((name, outcome)) = output.take::<Read>() {
    ///         println!("{name}: {} bytes", outcome.buf.len());
    ///     }
    /// })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn submit_unticketed<O: Op + 'static>(
        &mut self,
        op: O,
        user: U,
    ) -> Result<OpKey, Rejected<O, U>> {
        let id = self.id;
        // SAFETY: `'static`, so it may stay in its slot forever (OP1).
        let placed = unsafe { self.place_as(op, user, Life::Static, Terms::by_type::<O>()) };
        placed.map(|ticket| OpKey { user_data: Terms::by_type::<O>().user_data(&ticket), ring: id })
    }
}

/// # Taking outputs by type
impl<U: Default> Ring<U> {
    /// Calls `each` with the user value and the output of every `O` [without a
    /// ticket](Self::submit_unticketed) that has ended, and returns how many those were. All other
    /// completions are kept for [`reap`](Self::reap). So a loop takes what it has most of in this
    /// way, and the rest as events; it costs less than the events do.
    ///
    /// What is kept ends every later wait for events at once. So call `reap` in each turn in which
    /// fewer outputs came than were waited for.
    ///
    /// # Errors
    ///
    /// As for [`reap`](Self::reap).
    #[inline]
    pub fn reap_outputs<O: Op + 'static>(
        &mut self,
        each: impl FnMut(U, O::Output),
    ) -> Result<u32, EnterError> {
        self.outputs_in::<O>(None, each)
    }

    /// Submits all queued entries, waits until at least `want` events can be reaped, and takes
    /// them: each output of an `O` without a ticket goes to `each`, as in
    /// [`reap_outputs`](Self::reap_outputs), and all else is kept. Returns how many outputs that
    /// were, which can be fewer than `want`: then the rest is kept for [`reap`](Self::reap), and
    /// ends the next wait at once. Leaves task work to the next call, as [`turn`](Self::turn) does.
    ///
    /// # Errors
    ///
    /// As for [`turn`](Self::turn).
    ///
    /// # Example
    ///
    /// ```
    /// use annulus::{Ring, Setup, op};
    /// use std::fs::File;
    /// use std::rc::Rc;
    ///
    /// type Read = op::Read<Rc<File>, Vec<u8>>;
    ///
    /// // The user value says which block it is.
    /// let mut ring: Ring<usize> = Setup::new(8).build_for()?;
    /// let file = Rc::new(File::open("/proc/self/exe")?);
    /// let mut blocks = vec![Vec::new(); 4];
    /// for number in 0..4 {
    ///     let at = number as u64 * 512;
    ///     let read = Read::new(Rc::clone(&file), Vec::with_capacity(512)).at(at);
    ///     ring.submit_unticketed(read, number)?;
    /// }
    /// ring.turn_outputs::<Read>(4, |number, outcome| blocks[number] = outcome.buf)?;
    /// assert!(blocks[0].starts_with(b"\x7fELF"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn turn_outputs<O: Op + 'static>(
        &mut self,
        want: u32,
        each: impl FnMut(U, O::Output),
    ) -> Result<u32, EnterError> {
        let (mut want, mut failed) = (Some(want), false);
        if !self.is_plain() || want > Some(self.slab.in_flight()) {
            (want, failed) = (None, self.wait_first(want.unwrap_or(0))?);
        }
        let outputs = self.outputs_in::<O>(want, each)?;
        if failed {
            return Err(self.wait_failed());
        }
        Ok(outputs)
    }

    /// Takes completions in one call of the raw ring, and hands over the outputs of one type.
    #[inline]
    fn outputs_in<O: Op + 'static>(
        &mut self,
        want: Option<u32>,
        mut each: impl FnMut(U, O::Output),
    ) -> Result<u32, EnterError> {
        let Self { raw, slab, undelivered, internal, .. } = self;
        let mut others = 0;
        let take = |raw: &mut RawRing| {
            let cq = raw.rings_mut().cq();
            if let Some(cqe) = cq.next_alone() {
                // SAFETY: just taken from the ring's queue, in order; not recorded yet (OP1, OP3).
                match unsafe { output_of::<O, U>(slab, undelivered, internal, cqe) } {
                    Some((user, output)) => each(user, output),
                    None => others += 1,
                }
                return Batch { count: 1, hints: cq.hints() };
            }
            let (count, kept, all) = take_runs::<O, U>(cq, slab, undelivered, internal, &mut each);
            others += kept;
            if all {
                return Batch { count, hints: cq.hints() };
            }
            // Its completions are of other sizes, or are the parent's.
            let kept = take_all(raw, slab, undelivered, internal, None);
            others += kept.count;
            Batch { count: count + kept.count, hints: kept.hints }
        };
        let taken = raw.take_in(want, Coming::Known, take);
        if let Err(error) = &taken
            && !can_be_taken(error.cause)
        {
            return taken;
        }
        let mut count = taken.map_or(0, |taken| taken - others);
        let is_here = self.process.is_this();
        while let Some((user, output)) = self.kept_output::<O>() {
            count += 1;
            each(user, output);
            if is_here && !self.process.is_this() {
                break; // A forked child: what was not shown yet is its parent's.
            }
        }
        self.serve();
        taken.map(|_| count)
    }

    /// The oldest output of an `O` that was kept.
    #[inline]
    fn kept_output<O: Op + 'static>(&mut self) -> Option<(U, O::Output)> {
        if self.undelivered.is_empty() {
            return None;
        }
        let slot = self.undelivered.pop_output::<O, U>(&self.slab)?;
        // Items that nobody took come with the output.
        let left = self.undelivered.all_of(&mut self.slab, slot);
        // SAFETY: it has ended, as was kept once, and its slot is not free (OP2).
        unsafe { self.slab.take_by_type::<O>(slot, left) }
    }
}

/// Takes all that is in the queue, and hands over the outputs of one type. Returns how many
/// completions it took, how many of them were kept, and whether they were all that was there.
#[inline(always)]
#[expect(clippy::inline_always, reason = "keeps what `each` captures in registers")]
fn take_runs<O: Op + 'static, U: Default>(
    cq: &mut CompletionQueue,
    slab: &mut Slab<U>,
    undelivered: &mut Undelivered,
    internal: &mut Internal,
    each: &mut impl FnMut(U, O::Output),
) -> (u32, u32, bool) {
    let (mut count, mut others, mut runs) = (0, 0, 0);
    // Calls `each` in one place, so that it is compiled into the loop.
    loop {
        let Some(mut run) = cq.next_run() else { return (count, others, false) };
        #[expect(clippy::while_let_on_iterator, reason = "keeps the run in registers")]
        while let Some(cqe) = run.next() {
            // SAFETY: just taken from the ring's queue, in order; not recorded yet (OP1, OP3).
            match unsafe { output_of::<O, U>(slab, undelivered, internal, cqe) } {
                Some((user, output)) => each(user, output),
                None => others += 1,
            }
        }
        count += run.finish();
        runs += 1;
        // Two runs have all that was there. More may come as fast as this takes it.
        if runs == 2 || !cq.has_known() {
            return (count, others, true);
        }
    }
}

/// The output of an `O` without a ticket that `cqe` ends. Any other completion is recorded, and
/// kept.
///
/// # Safety
///
/// As for [`Slab::record`].
#[inline]
unsafe fn output_of<O: Op + 'static, U: Default>(
    slab: &mut Slab<U>,
    undelivered: &mut Undelivered,
    internal: &mut Internal,
    cqe: Cqe,
) -> Option<(U, O::Output)> {
    // SAFETY: as promised to `output_of`.
    if let Some(output) = unsafe { slab.take_plain::<O>(cqe) } {
        return Some(output);
    }
    let (user_data, flags) = (cqe.user_data, cqe.flags.bits());
    // SAFETY: as promised to `output_of`.
    unsafe { keep_parts(slab, undelivered, internal, user_data, cqe.res, flags) }
    None
}

/// Names an operation that was submitted without a ticket, to [cancel](Ring::cancel) it. Once the
/// operation has ended, it names nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct OpKey {
    user_data: u64,
    ring: RingId,
}

impl OpKey {
    /// The number of the operation's slot in the ring.
    #[inline]
    pub fn slot(&self) -> u32 {
        slot_of(self.user_data)
    }
}

impl fmt::Debug for OpKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpKey")
            .field("slot", &self.slot())
            .field("generation", &(self.user_data >> 32))
            .field("ring", &self.ring.0)
            .finish()
    }
}

impl sealed::Submitted for OpKey {}

impl Submitted for OpKey {
    #[inline]
    #[track_caller]
    fn on<U: Default>(&self, ring: &Ring<U>) -> u64 {
        assert!(self.ring == ring.id, "OP2: a key of {} on {}", self.ring, ring.id);
        self.user_data
    }
}

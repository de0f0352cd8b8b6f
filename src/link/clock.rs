//! Clocks: an operation that is cancelled when its time is up.
//!
//! ```text
//!   begins ─┬─ ends in time ────────────────────────────► expired: false
//!           ├─ the kernel's clock cancels it ──────────►  expired: true
//!           └─ it does not, or misses it ─ we cancel it ► expired: true    (in `wait_chain`)
//! ```
//!
//! | the kernel's clock says | that is |
//! |---|---|
//! | `ECANCELED` | the operation ended before its time, or never began |
//! | `ETIME` | the time ran out, and it cancelled the operation |
//! | a number | the same, of what waits at a futex or for a child |
//! | `ENOENT`, `EALREADY` | the time ran out; a worker ran the operation, and perhaps was told |
//!
//! From Linux 6.15 on the kernel starts the clock only when the operation waits for something: for
//! what blocks in a worker thread of the kernel, never. And a clock that runs out at an unlucky
//! moment misses its operation. So whoever waits for the chain cancels what is over its time.
//!
//! Our clock must not start before the operation: a later step begins when the one before has
//! ended, and the first at once, unless it is drained or something before it was. Then it begins
//! when all has ended that was in flight when it was submitted.
//!
//! Keeps OP1. Leaves to others: what a tie means (`link`).
#![allow(unsafe_code, reason = "writes entries that point to timespecs")]

use std::time::{Duration, Instant};

use annulus_sys::abi::{Sqe, Timespec};
use annulus_sys::flags::{Features, SqeFlags, TimeoutFlags};

use super::went::Went;
use super::{Boarded, Boarding, Claims, Step, Tie, Waits, result, sealed};
use crate::op::{Done, Op, RingId};
use crate::prep;
use crate::register;
use crate::ring::Ring;
use crate::ticket::{Rejection, Ticket};

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
/// With `ECANCELED` when the operation ended before its time, otherwise with what came of
/// cancelling it.
///
/// # Cancellation
///
/// It ends with its operation.
#[doc(alias = "IORING_OP_LINK_TIMEOUT")]
#[derive(Debug)]
pub(super) struct Clock {
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
        ran_out(done.raw())
    }
}

/// Whether a clock that ended with `result` ran out.
fn ran_out(result: i32) -> bool {
    match result.wrapping_neg() {
        // It cancelled the operation; or a worker runs that, and was told, or is to be told again.
        libc::ETIME | libc::ENOENT | libc::EALREADY => true,
        // It counts what it cancelled.
        _ => result >= 0,
    }
}

/// Gives every operation the method [`within`](Self::within).
pub trait StepExt: Op {
    /// The same, cancelled when it has not completed after `time` (`IORING_OP_LINK_TIMEOUT`). The
    /// clock starts when the operation does. Since Linux 5.5.
    ///
    /// What blocks in a worker thread of the kernel (a [splice](crate::op::Splice) from a silent
    /// pipe, a [connect](crate::op::Connect) to a unix socket whose queue is full, the opening of a
    /// FIFO) the kernel does not bound from Linux 6.15 on. There
    /// [`wait_chain`](Ring::wait_chain) does, while it waits, and a little later; so redeem such a
    /// chain by it, and not after its completions were reaped.
    fn within(self, time: Duration) -> Within<Self> {
        Within { op: self, time }
    }
}

impl<O: Op> StepExt for O {}

mod claim;

/// The claim to the output of an operation with a clock: see [`within`](StepExt::within). It comes
/// out of a chain that is [taken apart](super::ChainTicket::into_tickets), and is redeemed or given
/// up as any other: [`Ring::wait`], [`Ring::try_take`], [`Ring::detach`].
///
/// The operation has ended when its clock has, too. Each shows an [event](crate::Event) of its own.
///
/// Waited for so, the operation is bounded by the kernel's clock alone, since nobody knows when a
/// step begins whose chain was taken apart. Where that does not do, see
/// [`within`](StepExt::within), use [`Ring::wait_timeout`], and [cancel](Ring::cancel) it.
///
/// ```
/// use annulus::{Setup, StepExt as _};
/// use annulus::op::{Nop, Read};
/// use std::time::Duration;
///
/// let mut ring = Setup::new(8).build()?;
/// let (silent, _writer) = std::io::pipe()?;
/// let read = Read::new(silent, [0; 8]).within(Duration::from_millis(1));
/// let (nop, read) = ring.submit_chain((Nop, read))?.into_tickets();
/// ring.wait(nop)??;
/// assert!(ring.wait(read)?.expired);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "redeem it with `wait` or `try_take`, or give it up with `detach`; otherwise its two \
              slots stay taken"]
pub struct TimedTicket<O> {
    op: Ticket<O>,
    /// The words of what was in flight before it, if it waits for that, as far as is known.
    behind: Vec<u64>,
    clock: Ticket<Clock>,
    time: Duration,
    late: Late,
}

/// What is done about an operation that the kernel's clock does not end.
#[derive(Debug, Clone, Copy, Default)]
struct Late {
    /// When to cancel it, known since it was first seen to have begun.
    due: Option<Instant>,
    /// How often we cancelled it.
    rounds: u32,
}

/// How long the kernel's own clock goes first.
const GRACE: Duration = Duration::from_millis(10);

/// How many times longer than that we wait, in the end, before we cancel again.
const SLOWEST: u32 = 64;

impl Late {
    /// Whether it is to be cancelled now.
    fn is_due(&mut self, time: Duration, now: Instant) -> bool {
        if self.due.is_none() {
            self.due = now.checked_add(time.saturating_add(GRACE));
        }
        self.due.is_some_and(|due| due <= now)
    }

    /// It was cancelled.
    fn put_off(&mut self, now: Instant) {
        let times = 1_u32.checked_shl(self.rounds).map_or(SLOWEST, |times| times.min(SLOWEST));
        self.due = Some(now + GRACE * times);
        self.rounds = self.rounds.saturating_add(1);
    }
}

/// What an operation with a clock ended with.
#[derive(Debug)]
pub struct Timed<T> {
    /// The operation's output. When the time ran out it says `ECANCELED`, or `EINTR` where a worker
    /// thread of the kernel ran it, unless it had completed just so.
    pub output: T,
    /// Whether the time ran out before the operation had completed.
    pub expired: bool,
}

impl<O> sealed::Step for Within<O> {}

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
    ) -> Boarded<TimedTicket<O>> {
        // The clock is tied to its operation by that one's flag, and to the next step by its own.
        let flags = if tie == Tie::None { SqeFlags::IO_LINK } else { tied };
        let Self { op, time } = self;
        let behind = aboard.held_up_by();
        // SAFETY: as promised to `board`.
        let Boarded { ticket: op, breaks } = unsafe { aboard.one(op, flags) };
        let clock = Clock { time: time.into() };
        // SAFETY: as promised to `board`; it borrows nothing (OP1).
        let Boarded { ticket: clock, .. } = unsafe { aboard.one(clock, tie.flags(tied)) };
        Boarded { ticket: TimedTicket { op, behind, clock, time, late: Late::default() }, breaks }
    }

    fn went<U: Default>(ring: &Ring<U>, boarded: &Boarded<TimedTicket<O>>) -> Option<Went> {
        let Boarded { ticket: TimedTicket { op, clock, late, .. }, breaks } = boarded;
        let (clock, result) = (result(ring, clock)?, result(ring, op)?);
        // Cancelled by its own clock, it ran, unlike a step whose turn never came.
        let ran = result == -libc::ECANCELED && (late.rounds > 0 || ran_out(clock));
        let result = if ran { -libc::ETIME } else { result };
        Some(breaks.tell(result, ring.raw.features()))
    }

    fn watch<U: Default>(ring: &mut Ring<U>, ticket: &mut TimedTicket<O>) -> Option<Instant> {
        // Without this no wait is bounded, and the kernel's clocks start with what they bound.
        let bounded = ring.raw.features().contains(Features::EXT_ARG);
        if !bounded || result(ring, &ticket.op).is_some() {
            return None;
        }
        if !ticket.behind.is_empty() {
            ticket.behind.retain(|&word| ring.slab.is_in_flight(word));
            if !ticket.behind.is_empty() {
                return None; // It has not begun, and whatever lets it begin ends our wait.
            }
        }
        let now = Instant::now();
        if ticket.late.is_due(ticket.time, now) {
            // Something drained may wait for it, and an entry then waits behind that.
            if ring.slab.may_wait() {
                register::cancel_now(ring.raw.base(), ticket.op.word());
            }
            if ring.cancel(&ticket.op).is_ok() {
                ticket.late.put_off(now);
            }
        }
        ticket.late.due
    }

    fn take<U: Default>(
        ring: &mut Ring<U>,
        ticket: TimedTicket<O>,
    ) -> Result<Timed<O::Output>, TimedTicket<O>> {
        let TimedTicket { op, behind, clock, time, late } = ticket;
        ring.check(&op);
        ring.check(&clock);
        if !ring.slab.is_done(&op) || !ring.slab.is_done(&clock) {
            return Err(TimedTicket { op, behind, clock, time, late });
        }
        // The clock first: nobody's code runs for it but the word's.
        match (ring.try_take(clock), ring.try_take(op)) {
            (Ok(ran_out), Ok(output)) => Ok(Timed { output, expired: ran_out || late.rounds > 0 }),
            _ => unreachable!("OP2: both were done"),
        }
    }

    fn give_up<U: Default>(ring: &mut Ring<U>, ticket: TimedTicket<O>) {
        ring.detach(ticket);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_ran_out_unless_its_operation_ended_before() {
        for result in [-libc::ETIME, -libc::ENOENT, -libc::EALREADY, 0, 1] {
            assert!(ran_out(result), "{result}");
        }
        for result in [-libc::ECANCELED, -libc::EINVAL, i32::MIN] {
            assert!(!ran_out(result), "{result}");
        }
    }

    #[test]
    fn what_does_not_end_is_cancelled_again_ever_more_seldom() {
        let (mut late, mut now) = (Late::default(), Instant::now());
        assert!(!late.is_due(Duration::from_millis(5), now));
        now += Duration::from_millis(15);
        for times in [1, 2, 4, 8, 16, 32, 64, 64, 64] {
            assert!(late.is_due(Duration::from_millis(5), now));
            late.put_off(now);
            now += GRACE * times - Duration::from_nanos(1);
            assert!(!late.is_due(Duration::from_millis(5), now));
            now += Duration::from_nanos(1);
        }
        assert!(!Late::default().is_due(Duration::MAX, now), "never");
    }
}

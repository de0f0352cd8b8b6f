//! Linked timeouts: an operation that is cancelled when its time is up.
//!
//! ```text
//!   begins ─┬─ ends in time ────────────────────────────► expired: false
//!           ├─ the linked timeout cancels it ──────────► expired: true
//!           └─ the timeout misses it, we cancel it ────► expired: true    (in `wait_chain`)
//! ```
//!
//! | the linked timeout completes with | meaning |
//! |---|---|
//! | `ECANCELED` | the operation ended before its time, or never began |
//! | `ETIME` | the time ran out, and it cancelled the operation |
//! | a number | the time ran out, and it cancelled a futex wait or a wait for a child |
//! | `ENOENT`, `EALREADY` | the time ran out; a worker thread ran the operation, and perhaps was interrupted |
//!
//! Since Linux 6.15 the kernel starts the timeout only when the operation waits for something; it
//! never starts it for an operation that blocks in a worker thread. And a timeout that expires at
//! an unlucky moment misses its operation. So [`Ring::wait_chain`] cancels operations that are over
//! their time.
//!
//! Our own timer must not start before the operation does. A later step begins when the step before
//! it has ended. The first step begins at once, unless it is drained or an operation before it was:
//! then it begins when everything has ended that was in flight when it was submitted.
//!
//! Keeps OP1. Leaves to others: what a link means (`link`).
#![allow(unsafe_code, reason = "writes entries that point to timespecs")]

use std::time::{Duration, Instant};

use annulus_sys::abi::{Sqe, Timespec};
use annulus_sys::flags::{Features, SqeFlags, TimeoutFlags};

use super::outcome::StepEnd;
use super::{Claims, PlacedStep, Position, Step, UnsubmittedChain, Waits, result, sealed};
use crate::lease::ticket::{Rejection, Ticket};
use crate::op::{Done, Op, RingId};
use crate::prep;
use crate::raw::register;
use crate::ring::Ring;

/// An operation with a time limit. Made by [`StepExt::within`].
#[derive(Debug)]
pub struct Within<O> {
    pub(in crate::ring) op: O,
    time: Duration,
}

impl<O> Within<O> {
    /// Gives the operation back, for example that of a chain which was rejected.
    pub fn into_inner(self) -> O {
        self.op
    }
}

/// The linked timeout of a [`Within`]. Its timespec lies in a slot of its own.
///
/// # Completion
///
/// With `ECANCELED` when the operation ended in time; otherwise with the result of cancelling the
/// operation.
///
/// # Cancellation
///
/// It ends with its operation.
#[doc(alias = "IORING_OP_LINK_TIMEOUT")]
#[derive(Debug)]
pub(super) struct LinkTimeout {
    time: Timespec,
}

// SAFETY: OP1: the address is that of `time`, which lies in the operation. It completes once.
unsafe impl Op for LinkTimeout {
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

/// Whether the time ran out, if the linked timeout ended with `result`.
fn ran_out(result: i32) -> bool {
    match result.wrapping_neg() {
        // It cancelled the operation; or a worker thread runs it, and may need another cancel.
        libc::ETIME | libc::ENOENT | libc::EALREADY => true,
        // The number of operations that it cancelled.
        _ => result >= 0,
    }
}

/// Gives every operation the method [`within`](Self::within).
pub trait StepExt: Op {
    /// Limits this operation's time: it is cancelled if it has not completed after `time`
    /// (`IORING_OP_LINK_TIMEOUT`). The time starts when the operation does. Since Linux 5.5.
    ///
    /// Since Linux 6.15 the kernel does not limit an operation that blocks in a worker thread: a
    /// [splice](crate::op::Splice) from a silent pipe, a [connect](crate::op::Connect) to a unix
    /// socket whose queue is full, or opening a FIFO. [`wait_chain`](Ring::wait_chain) does it
    /// instead, while it waits, and a little later. So redeem such a chain with `wait_chain`, not
    /// by reaping its completions.
    ///
    /// Where the limited step is the last, or the only one, the chain ends
    /// [`Complete`](crate::ChainEnd::Complete) though the time ran out: every step has begun, and
    /// nothing was left to break. So look at [`Timed::expired`] and at the result of the step. That
    /// also holds for a wait that changes nothing, such as a
    /// [`WaitId`](crate::op::WaitId::leave) which leaves the child as it is.
    ///
    /// # Example
    ///
    /// ```
    /// use annulus::op::Read;
    /// use annulus::{ChainEnd, Setup, StepExt as _};
    /// use std::time::Duration;
    ///
    /// let mut ring = Setup::new(8).build()?;
    /// let (reader, _writer) = std::io::pipe()?; // Nothing is ever written.
    /// let read = Read::new(reader, [0; 8]).within(Duration::from_millis(1));
    /// let chain = ring.submit_chain((read,))?; // A chain of one step.
    /// let chain = ring.wait_chain(chain)?;
    /// assert_eq!(chain.end, ChainEnd::Complete); // The only step has begun.
    /// let (read,) = chain.outputs;
    /// assert!(read.expired);
    /// assert!(read.output.result.is_err()); // ECANCELED
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    fn within(self, time: Duration) -> Within<Self> {
        Within { op: self, time }
    }
}

impl<O: Op> StepExt for O {}

mod claim;

/// The ticket of an operation with a time limit: see [`within`](StepExt::within). It comes out of a
/// chain that is [taken apart](super::ChainTicket::into_tickets), and is redeemed or given up like
/// any other: [`Ring::wait`], [`Ring::try_take`], [`Ring::detach`]. [`Ring::cancel`] cancels the
/// operation.
///
/// The operation has ended when its linked timeout has ended, too. Each of the two shows an
/// [event](crate::Event) of its own, with a user value of its own. [`Ring::user`] is the
/// operation's until the operation has ended, then the timeout's until that has ended, too: so the
/// event that lets the ticket be redeemed carries what was last put there.
///
/// Waited for like this, only the kernel's linked timeout limits the operation, because the ring
/// does not know when a step of a chain that was taken apart begins. Where that is not enough (see
/// [`within`](StepExt::within)), use [`Ring::wait_timeout`], and then [`Ring::cancel`].
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
    /// The `user_data` of operations that it waits for, as far as they are known to be in flight.
    behind: Vec<u64>,
    clock: Ticket<LinkTimeout>,
    time: Duration,
    late: Late,
}

/// How we cancel an operation that the kernel's linked timeout does not end.
#[derive(Debug, Clone, Copy, Default)]
struct Late {
    /// When to cancel it. Set when it is first seen to have begun.
    due: Option<Instant>,
    /// How often we have cancelled it.
    rounds: u32,
}

/// How long we wait after the time is up, so that the kernel's own timeout goes first.
const GRACE: Duration = Duration::from_millis(10);

/// The longest pause between two of our cancels, in multiples of [`GRACE`]. Pauses double up to
/// this, so that an operation that does not end costs little.
const SLOWEST: u32 = 64;

impl Late {
    /// It has begun, `now` at the latest, and has this much time.
    fn begins(&mut self, time: Duration, now: Instant) {
        if self.due.is_none() {
            self.due = now.checked_add(time.saturating_add(GRACE));
        }
    }

    /// Whether it is to be cancelled now.
    fn is_due(&self, now: Instant) -> bool {
        self.due.is_some_and(|due| due <= now)
    }

    /// It was cancelled: schedules the next cancel.
    fn put_off(&mut self, now: Instant) {
        let times = 1_u32.checked_shl(self.rounds).map_or(SLOWEST, |times| times.min(SLOWEST));
        self.due = Some(now + GRACE * times);
        self.rounds = self.rounds.saturating_add(1);
    }
}

/// The output of an operation with a time limit.
#[derive(Debug)]
pub struct Timed<T> {
    /// The operation's output. If the time ran out, its result is `ECANCELED`, or `EINTR` where a
    /// worker thread ran it, unless the operation completed just in time.
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

    fn admit(&mut self, ring: RingId, claims: &mut Claims) -> Result<(), Rejection> {
        Step::admit(&mut self.op, ring, claims)
    }

    unsafe fn place<U: Default>(
        self,
        chain: &mut UnsubmittedChain<'_, U>,
        position: Position,
        link: SqeFlags,
    ) -> PlacedStep<TimedTicket<O>> {
        // The operation's flag links the timeout to it; the timeout's flag links the next step.
        let flags = if position == Position::Last { SqeFlags::IO_LINK } else { link };
        let Self { op, time } = self;
        let behind = chain.held_up_by();
        // SAFETY: as promised to `place`.
        let PlacedStep { ticket: op, breaks } = unsafe { chain.one(op, flags) };
        let clock = LinkTimeout { time: time.into() };
        // SAFETY: as promised to `place`; the timeout borrows nothing (OP1).
        let PlacedStep { ticket: clock, .. } = unsafe { chain.one(clock, position.flags(link)) };
        PlacedStep {
            ticket: TimedTicket { op, behind, clock, time, late: Late::default() },
            breaks,
        }
    }

    fn end_of_step<U: Default>(
        ring: &Ring<U>,
        placed: &PlacedStep<TimedTicket<O>>,
    ) -> Option<StepEnd> {
        let PlacedStep { ticket: TimedTicket { op, clock, late, .. }, breaks } = placed;
        let (clock, result) = (result(ring, clock)?, result(ring, op)?);
        // If its own timeout cancelled it, it ran, unlike a step that never began.
        let ran = result == -libc::ECANCELED && (late.rounds > 0 || ran_out(clock));
        let result = if ran { -libc::ETIME } else { result };
        Some(breaks.tell(result, ring.raw.features()))
    }

    fn watch<U: Default>(ring: &mut Ring<U>, ticket: &mut TimedTicket<O>) -> Option<Instant> {
        // Without `EXT_ARG` no wait has a timeout. Such old kernels always start the linked one.
        let bounded = ring.raw.features().contains(Features::EXT_ARG);
        if !bounded || result(ring, &ticket.op).is_some() {
            return None;
        }
        if !ticket.behind.is_empty() {
            ticket.behind.retain(|&user_data| ring.slab.is_in_flight(user_data));
            if !ticket.behind.is_empty() {
                return None; // It has not begun. The completion that lets it begin ends our wait.
            }
        }
        let now = ring.raw.now();
        ticket.late.begins(ticket.time, now);
        if ticket.late.is_due(now) {
            // A drained entry may wait for it, and a cancel entry would wait behind that.
            if ring.slab.may_wait() {
                register::cancel_now(ring.raw.base(), ticket.op.user_data());
            }
            if ring.cancel(&ticket.op).is_ok() {
                ticket.late.put_off(now);
            }
        }
        ticket.late.due
    }

    fn missing<U: Default>(_: &Ring<U>, _: &TimedTicket<O>) -> Option<u32> {
        None
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
        // The timeout first: only the drop of its user value runs the caller's code.
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
        assert!(!late.is_due(now), "not begun");
        late.begins(Duration::from_millis(5), now);
        assert!(!late.is_due(now));
        now += Duration::from_millis(15);
        for times in [1, 2, 4, 8, 16, 32, 64, 64, 64] {
            late.begins(Duration::from_millis(5), now);
            assert!(late.is_due(now));
            late.put_off(now);
            now += GRACE * times - Duration::from_nanos(1);
            assert!(!late.is_due(now));
            now += Duration::from_nanos(1);
        }
        let mut never = Late::default();
        never.begins(Duration::MAX, now);
        assert!(!never.is_due(now));
    }
}

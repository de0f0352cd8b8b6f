//! Timeouts: requests that complete when a time has come.
//!
//! ```text
//!   Timeout::new(1 s) ─► submit ─┬─ the time is up ───────────────► Ok(Expired)
//!                                ├─ n others completed first ─────► Ok(Counted)
//!      TimeoutUpdate ─ 5 s ──►   │
//!      TimeoutRemove ────────►   └─ removed, cancelled ───────────► Err(ECANCELED)
//! ```
//!
//! | clock | counts | since |
//! |---|---|---|
//! | [`Clock::Monotonic`] | while the system runs | Linux 5.4 |
//! | [`Clock::Boottime`] | also while it is suspended | Linux 5.15 |
//! | [`Clock::Realtime`] | the time of day, which can be set | Linux 5.15 |
//!
//! The timespec lies in the operation. To limit one wait, use
//! [`Ring::wait_timeout`](crate::Ring::wait_timeout); to limit one operation, use
//! [`StepExt::within`](crate::StepExt::within), or in an event loop
//! [`Io::submit_within`](crate::Io::submit_within). None of them needs a timeout operation.
//!
//! A timeout may expire at the very moment when it is removed or updated. Then its own completion
//! says so, and the attempt [did not find it](CancelOutcome::NotFound) or [came too
//! late](CancelOutcome::TooLate).
//!
//! Keeps OP1 and OP2. Leaves to others: timeouts that limit an operation (`link`).
#![allow(unsafe_code, reason = "writes entries that point to timespecs, and reads clocks")]

use std::io;
use std::time::{Duration, SystemTime};

use annulus_sys::abi::{Sqe, Timespec};
use annulus_sys::flags::TimeoutFlags;

use crate::lease::ticket::Ticket;
use crate::op::ring::cancel::{CancelOutcome, Name, UpdateOutcome};
use crate::op::{Completion, Completions, Done, Fate, Forced, Multishot, Op, RingId};
use crate::prep;
use crate::raw::Clock;

/// Why a [`Timeout`] completed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeoutEnd {
    /// The time has come.
    Expired,
    /// As many other operations as [it was told](Timeout::or_after) completed first.
    Counted,
}

/// Completes when a time has come. Since Linux 5.4.
///
/// For the kernel expiry is an error, so in a chain the steps behind it are cancelled: see
/// [`unbroken`](Self::unbroken). A span begins when the kernel has taken the entry, and not when it
/// was made; the clock stands still while the machine sleeps, unless [`by`](Self::by) names another
/// one.
///
/// It takes a slot, an entry and a completion. A limit for a wait needs none of them
/// ([`Ring::wait_timeout`](crate::Ring::wait_timeout)), and one for an operation is
/// [`within`](crate::StepExt::within).
///
/// # Completion
///
/// Once, with [`TimeoutEnd`]. Expiry (the kernel's `ETIME`) is not an error here.
///
/// # Cancellation
///
/// At once, by [`TimeoutRemove`] or any other cancel.
///
/// # Errors
///
/// `ECANCELED` when it was removed or cancelled. `EINVAL` before Linux 5.15
/// for any clock but the monotonic one.
///
/// # Example
///
/// ```
/// use annulus::Setup;
/// use annulus::op::{Timeout, TimeoutEnd};
/// use std::time::Duration;
///
/// let mut ring = Setup::new(4).build()?;
/// let timeout = ring.submit(Timeout::new(Duration::from_millis(1)))?;
/// assert_eq!(ring.wait(timeout)??, TimeoutEnd::Expired);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "IORING_OP_TIMEOUT")]
#[doc(alias = "io_uring_prep_timeout")]
#[derive(Debug)]
pub struct Timeout {
    time: Timespec,
    count: u32,
    flags: TimeoutFlags,
}

impl Timeout {
    /// Completes when `span` has passed since the kernel accepted the timeout.
    pub fn new(span: Duration) -> Self {
        Self { time: span.into(), count: 0, flags: TimeoutFlags::empty() }
    }

    /// Completes when `clock` shows `time`, counted from the clock's zero, such as
    /// `Clock::Monotonic.now()` plus a span. At once if that time is past.
    ///
    /// The kernel uses the system's own clock. In a time namespace (a container that was restored
    /// elsewhere) [`Clock::Monotonic`] and [`Clock::Boottime`] show a different time, and the
    /// timeout ends too late or too early by the difference: use [`new`](Self::new) with the
    /// remaining span there. [`Clock::Realtime`] is not affected.
    #[doc(alias = "IORING_TIMEOUT_ABS")]
    pub fn until(clock: Clock, time: Duration) -> Self {
        Self { flags: clock.flags() | TimeoutFlags::ABS, ..Self::new(time) }
    }

    /// Completes at a time of day, even if the clock is set in the meantime. Since Linux 5.15.
    pub fn at(time: SystemTime) -> Self {
        let since_1970 = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self::until(Clock::Realtime, since_1970)
    }

    /// Uses another clock.
    #[doc(alias = "IORING_TIMEOUT_BOOTTIME")]
    #[doc(alias = "IORING_TIMEOUT_REALTIME")]
    pub fn by(self, clock: Clock) -> Self {
        let rest = self.flags - TimeoutFlags::CLOCK_MASK;
        Self { flags: rest | clock.flags(), ..self }
    }

    /// Completes earlier, once `count` other completions have been posted on this ring since the
    /// kernel accepted the timeout. Completions of all requests count, including the ring's
    /// internal ones. 0 waits for the time only.
    pub fn or_after(self, count: u32) -> Self {
        Self { count, ..self }
    }

    /// In a chain, lets the next operation begin when the time is up. Without this, expiry breaks
    /// the chain, and only [`TimeoutEnd::Counted`] lets it continue. Since Linux 5.16; before,
    /// `EINVAL`.
    #[doc(alias = "IORING_TIMEOUT_ETIME_SUCCESS")]
    pub fn unbroken(self) -> Self {
        Self { flags: self.flags | TimeoutFlags::ETIME_SUCCESS, ..self }
    }
}

/// The address of a timespec for the kernel to read.
fn address(time: &Timespec) -> u64 {
    std::ptr::from_ref(time).expose_provenance() as u64
}

/// Whether the time ran out.
fn is_over(result: i32) -> bool {
    result == -libc::ETIME
}

// SAFETY: OP1: the address is of `time`, which lies in the operation. It completes once.
unsafe impl Op for Timeout {
    type Output = io::Result<TimeoutEnd>;

    fn prep(&mut self) -> Sqe {
        prep::timeout(address(&self.time), self.count, self.flags)
    }

    fn finish(self, done: Done) -> Self::Output {
        if is_over(done.raw()) {
            return Ok(TimeoutEnd::Expired);
        }
        done.result().map(|_| TimeoutEnd::Counted)
    }
}

/// Why a [`TimeoutMulti`] ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a timeout that was stopped has to be submitted again"]
pub enum RepeatEnd {
    /// It expired as often as [it was told](TimeoutMulti::times).
    Complete,
    /// The kernel ended it earlier: the completion queue was full, and the kernel queues
    /// completions beyond it only for operations that complete once. Take completions, then submit
    /// it again.
    Stopped,
}

/// Completes again and again, each time that a span has passed. Since Linux 6.4.
///
/// It is no clock: each span begins when the one before has completed, so a hundred of them take
/// longer than a hundred times the span. For that, submit a [`Timeout::until`] for each.
///
/// # Completion
///
/// An item each time, which says only that the time has come. Items that are not taken in time are
/// not merged, but wait. Then once more at the end, with [`RepeatEnd`]: when it has expired [as
/// often as it was told](Self::times), or when the completion queue was full because items were not
/// taken.
///
/// # Cancellation
///
/// At once, except in the moment when it has expired and is not yet armed again. A cancel in that
/// moment finds nothing, and has to be repeated. With an interval of a few microseconds a cancel
/// may never find it: let the completion queue fill, and the kernel ends it. The end of a scope or
/// of the ring does that. Items that were not taken by then are not reported with the end.
///
/// # Errors
///
/// `EINVAL` before Linux 6.4, `ECANCELED` when it was removed or cancelled.
///
/// # Example
///
/// ```
/// use annulus::Setup;
/// use annulus::op::{RepeatEnd, TimeoutMulti};
/// use std::time::Duration;
///
/// let mut ring = Setup::new(4).build()?;
/// let ticks = ring.submit(TimeoutMulti::new(Duration::from_millis(1)).times(3))?;
/// let mut count = 0;
/// while let Some(()) = ring.next(&ticks)? {
///     count += 1;
/// }
/// match ring.wait(ticks)? {
///     Ok(end) => assert_eq!((count, end), (3, RepeatEnd::Complete)),
///     Err(error) => println!("{error}: needs Linux 6.4"),
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias("IORING_OP_TIMEOUT", "io_uring_prep_timeout", "IORING_TIMEOUT_MULTISHOT"))]
#[derive(Debug)]
pub struct TimeoutMulti {
    time: Timespec,
    times: u32,
    flags: TimeoutFlags,
}

impl TimeoutMulti {
    /// Completes each time that `interval` has passed, indefinitely. The time that it takes to
    /// complete is not made up for.
    pub fn new(interval: Duration) -> Self {
        Self { time: interval.into(), times: 0, flags: TimeoutFlags::MULTISHOT }
    }

    /// Ends when it has expired this often; 0 means never.
    pub fn times(self, times: u32) -> Self {
        Self { times, ..self }
    }

    /// Uses another clock.
    pub fn by(self, clock: Clock) -> Self {
        Self { flags: TimeoutFlags::MULTISHOT | clock.flags(), ..self }
    }
}

// SAFETY: OP1: the address is of `time`, which lies in the operation and is not touched until the
// completion without `F_MORE`.
unsafe impl Op for TimeoutMulti {
    type Output = io::Result<RepeatEnd>;
    const COMPLETIONS: Completions = Completions::Multishot;

    fn prep(&mut self) -> Sqe {
        prep::timeout(address(&self.time), self.times, self.flags)
    }

    fn finish(self, done: Done) -> Self::Output {
        if !is_over(done.raw()) {
            done.result()?;
        }
        let complete = self.times != 0 && done.fate == Fate::Often(self.times);
        Ok(if complete { RepeatEnd::Complete } else { RepeatEnd::Stopped })
    }

    fn last_is_item(result: i32) -> bool {
        is_over(result)
    }
}

impl Multishot for TimeoutMulti {
    type Item = ();

    fn item(_: Completion) {}
}

mod sealed {
    pub trait Sealed {}
}

/// The timeouts that a [`TimeoutRemove`] can end: [`Timeout`] and [`TimeoutMulti`], also forced. A
/// drained timeout is not one: later entries wait for it, and so would its removal.
pub trait AnyTimeout: sealed::Sealed {}

impl sealed::Sealed for Timeout {}
impl sealed::Sealed for TimeoutMulti {}
impl<T: AnyTimeout> sealed::Sealed for Forced<T> {}
impl AnyTimeout for Timeout {}
impl AnyTimeout for TimeoutMulti {}
impl<T: AnyTimeout> AnyTimeout for Forced<T> {}

/// Ends a timeout early. Since Linux 5.5.
///
/// It races with the time: what became of the timeout, only the timeout's own output tells.
///
/// # Completion
///
/// Once, with a [`CancelOutcome`]. The timeout that it found completes with `ECANCELED`.
///
/// # Cancellation
///
/// It runs at once, and cannot be cancelled.
///
/// # Errors
///
/// None of its own: [`CancelOutcome::NotFound`] for a timeout that has ended,
/// [`CancelOutcome::TooLate`] for one that is just expiring.
///
/// # Example
///
/// ```
/// use annulus::Setup;
/// use annulus::op::{Timeout, TimeoutRemove};
/// use std::time::Duration;
///
/// let mut ring = Setup::new(4).build()?;
/// let timeout = ring.submit(Timeout::new(Duration::from_secs(60)))?;
/// let remove = ring.submit(TimeoutRemove::new(&timeout))?;
/// assert_eq!(ring.wait(remove)?.count(), 1);
/// assert!(ring.wait(timeout)?.is_err()); // ECANCELED
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "IORING_OP_TIMEOUT_REMOVE")]
#[doc(alias = "io_uring_prep_timeout_remove")]
#[derive(Debug)]
pub struct TimeoutRemove(Name);

impl TimeoutRemove {
    /// Ends the timeout of `ticket`. Accepted only on the ring of that timeout.
    pub fn new<T: AnyTimeout>(ticket: &Ticket<T>) -> Self {
        Self(Name::of(ticket))
    }
}

// SAFETY: OP1: the entry points to nothing. It completes once; `belongs_to` checks that the timeout
// that it names is on this ring (OP2).
unsafe impl Op for TimeoutRemove {
    type Output = CancelOutcome;

    fn belongs_to(&self, ring: RingId) -> bool {
        self.0.ring == ring
    }

    fn prep(&mut self) -> Sqe {
        prep::timeout_remove(self.0.user_data)
    }

    fn finish(self, done: Done) -> CancelOutcome {
        CancelOutcome::of_one(&done)
    }
}

/// Gives a timeout another time, on the clock that it has. Since Linux 5.11.
///
/// The timeout then waits only for that time, no longer [for completions](Timeout::or_after). And a
/// repeating one may forget [how often](TimeoutMulti::times) to expire, and go on indefinitely
/// (seen from Linux 6.16 to 7.3).
///
/// # Completion
///
/// Once, with an [`UpdateOutcome`].
///
/// # Cancellation
///
/// It runs at once, and cannot be cancelled.
///
/// # Errors
///
/// [`UpdateOutcome::NotFound`] for a timeout that has ended, [`UpdateOutcome::TooLate`] for one
/// that is just expiring, [`UpdateOutcome::Failed`] with `EINVAL` before Linux 5.11.
///
/// # Example
///
/// ```
/// use annulus::Setup;
/// use annulus::op::{Timeout, TimeoutEnd, TimeoutUpdate, UpdateOutcome};
/// use std::time::Duration;
///
/// let mut ring = Setup::new(4).build()?;
/// let timeout = ring.submit(Timeout::new(Duration::from_secs(60)))?;
/// let update = ring.submit(TimeoutUpdate::new(&timeout, Duration::from_millis(1)))?;
/// match ring.wait(update)? {
///     UpdateOutcome::Updated => assert_eq!(ring.wait(timeout)??, TimeoutEnd::Expired),
///     other => println!("needs Linux 5.11: {other:?}"),
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias("IORING_OP_TIMEOUT_REMOVE", "IORING_TIMEOUT_UPDATE"))]
#[doc(alias = "io_uring_prep_timeout_update")]
#[derive(Debug)]
pub struct TimeoutUpdate {
    name: Name,
    time: Timespec,
    flags: TimeoutFlags,
}

impl TimeoutUpdate {
    /// Makes the timeout of `ticket` expire when `span` has passed from now; a repeating one, each
    /// time that `span` has passed. Accepted only on the ring of that timeout.
    pub fn new<T: AnyTimeout>(ticket: &Ticket<T>, span: Duration) -> Self {
        Self { name: Name::of(ticket), time: span.into(), flags: TimeoutFlags::empty() }
    }

    /// Makes the timeout of `ticket` expire when its clock shows `time`, on the system's own clock,
    /// as for [`Timeout::until`]. Not for a repeating timeout, which would take `time` for a span
    /// from its second time on.
    pub fn until(ticket: &Ticket<Timeout>, time: Duration) -> Self {
        Self { flags: TimeoutFlags::ABS, ..Self::new(ticket, time) }
    }
}

// SAFETY: OP1: the address is of `time`, which lies in the operation. It completes once;
// `belongs_to` checks that the timeout that it names is on this ring (OP2).
unsafe impl Op for TimeoutUpdate {
    type Output = UpdateOutcome;

    fn belongs_to(&self, ring: RingId) -> bool {
        self.name.ring == ring
    }

    fn prep(&mut self) -> Sqe {
        prep::timeout_update(self.name.user_data, address(&self.time), self.flags)
    }

    fn finish(self, done: Done) -> UpdateOutcome {
        UpdateOutcome::of(&done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::Resource;
    use annulus_sys::flags::CqeFlags;

    #[test]
    fn one_clock_at_a_time_is_asked_for() {
        let mut by = Timeout::until(Clock::Boottime, Duration::ZERO).by(Clock::Realtime);
        let flags = TimeoutFlags::from_bits_retain(by.prep().op_flags);
        assert_eq!(flags, TimeoutFlags::ABS | TimeoutFlags::REALTIME);
        let mut again = TimeoutMulti::new(Duration::ZERO).by(Clock::Boottime).by(Clock::Monotonic);
        assert_eq!(again.prep().op_flags, TimeoutFlags::MULTISHOT.bits());
    }

    #[test]
    fn op1_the_timespec_is_the_operations_own() {
        let mut timeout = Timeout::new(Duration::from_nanos(5_000_000_007));
        let sqe = timeout.prep();
        assert_eq!(sqe.addr, (&raw const timeout.time).addr() as u64);
        assert_eq!(timeout.time, Timespec { tv_sec: 5, tv_nsec: 7 });
    }

    #[test]
    fn a_repeated_timeout_is_complete_when_it_ran_out_so_often() {
        let end = |times, result, count| {
            let done = Done::new(result, CqeFlags::empty(), None, Resource::Nothing);
            let multi = TimeoutMulti::new(Duration::ZERO).times(times);
            multi.finish(done.with(Fate::Often(count))).ok()
        };
        assert_eq!(end(3, -libc::ETIME, 3), Some(RepeatEnd::Complete));
        assert_eq!(end(3, -libc::ETIME, 2), Some(RepeatEnd::Stopped));
        assert_eq!(end(0, -libc::ETIME, 0), Some(RepeatEnd::Stopped), "it has no end of its own");
        assert_eq!(end(3, -libc::ECANCELED, 3), None);
    }

    #[test]
    fn a_date_before_1970_is_past() {
        let before = SystemTime::UNIX_EPOCH - Duration::from_secs(7);
        assert_eq!(Timeout::at(before).time, Timespec::default());
    }
}

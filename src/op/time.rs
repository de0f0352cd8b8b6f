//! Timeouts: requests that complete when a time has come.
//!
//! ```text
//!   Timeout::new(1 s) ─► submit ─┬─ the time is up ───────────────► Ok(Expired)
//!                                ├─ n others completed before ────► Ok(Counted)
//!      TimeoutUpdate ─ 5 s ──►   │
//!      TimeoutRemove ────────►   └─ removed, cancelled ───────────► Err(ECANCELED)
//! ```
//!
//! | clock | counts | since |
//! |---|---|---|
//! | [`Clock::Monotonic`] | while the system runs | Linux 5.4 |
//! | [`Clock::Boottime`] | while it is suspended, too | Linux 5.15 |
//! | [`Clock::Realtime`] | as people set it | Linux 5.15 |
//!
//! The timespec lies in the operation. To bound one wait there is
//! [`Ring::wait_timeout`](crate::Ring::wait_timeout), and to bound one operation
//! [`StepExt::within`](crate::StepExt::within): neither needs a timeout of its own.
//!
//! A timeout that is removed or updated may run out at that very moment; then its own completion
//! says so, and the attempt [did not find it](CancelOutcome::NotFound) or
//! [came too late](CancelOutcome::TooLate).
//!
//! Keeps OP1 and OP2. Leaves to others: timeouts that bound an operation (`link`).
#![allow(unsafe_code, reason = "writes entries that point to timespecs, and reads clocks")]

use std::io;
use std::time::{Duration, SystemTime};

use annulus_sys::abi::{Sqe, Timespec};
use annulus_sys::flags::TimeoutFlags;

use super::cancel::{CancelOutcome, Name, UpdateOutcome};
use super::{Done, Fate, Forced, Multishot, Op, RingId, Shot, Shots};
use crate::prep;
use crate::ticket::Ticket;

/// What a timeout goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Clock {
    /// `CLOCK_MONOTONIC`: stands still while the system is suspended.
    #[default]
    Monotonic,
    /// `CLOCK_BOOTTIME`: goes on then. Since Linux 5.15; before, `EINVAL`.
    Boottime,
    /// `CLOCK_REALTIME`: the time of day, which can be set. Since Linux 5.15; before, `EINVAL`.
    Realtime,
}

impl Clock {
    fn flags(self) -> TimeoutFlags {
        match self {
            Self::Monotonic => TimeoutFlags::empty(),
            Self::Boottime => TimeoutFlags::BOOTTIME,
            Self::Realtime => TimeoutFlags::REALTIME,
        }
    }

    /// The time that has passed since the clock's zero: for [`Timeout::until`].
    pub fn now(self) -> Duration {
        let id = match self {
            Self::Monotonic => libc::CLOCK_MONOTONIC,
            Self::Boottime => libc::CLOCK_BOOTTIME,
            Self::Realtime => libc::CLOCK_REALTIME,
        };
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: one live timespec, which the kernel writes and does not keep, because it copies.
        unsafe { libc::clock_gettime(id, &raw mut time) };
        // Negative only for a date before 1970.
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
    }
}

/// Why a [`Timeout`] completed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeoutEnd {
    /// The time has come.
    Expired,
    /// Before that, as many others completed as [it was to wait for](Timeout::or_after).
    Counted,
}

/// Completes when a time has come. Since Linux 5.4.
///
/// # Completion
///
/// Once, with [`TimeoutEnd`]. That the time is up is no error here.
///
/// # Errors
///
/// `ECANCELED` when it was removed or cancelled.
///
/// # Cancellation
///
/// At once, by [`TimeoutRemove`] as by any other cancel.
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
    /// Completes when `span` has passed, from when the kernel takes it.
    pub fn new(span: Duration) -> Self {
        Self { time: span.into(), count: 0, flags: TimeoutFlags::empty() }
    }

    /// Completes when `clock` shows `time`, counted from its zero: `Clock::Monotonic.now()` and so
    /// much more. At once if that is past.
    ///
    /// The kernel takes `time` for one of the system's own clock. In a time namespace (a container
    /// that was restored elsewhere) [`Clock::Monotonic`] and [`Clock::Boottime`] show something
    /// else, and the timeout ends that much too late or too early: use [`new`](Self::new) there,
    /// with what is left. [`Clock::Realtime`] is the same everywhere.
    #[doc(alias = "IORING_TIMEOUT_ABS")]
    pub fn until(clock: Clock, time: Duration) -> Self {
        Self { flags: clock.flags() | TimeoutFlags::ABS, ..Self::new(time) }
    }

    /// Completes at a time of day, also when the clock is set meanwhile. Since Linux 5.15.
    pub fn at(time: SystemTime) -> Self {
        let since_1970 = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self::until(Clock::Realtime, since_1970)
    }

    /// Goes by another clock.
    #[doc(alias = "IORING_TIMEOUT_BOOTTIME")]
    #[doc(alias = "IORING_TIMEOUT_REALTIME")]
    pub fn by(self, clock: Clock) -> Self {
        let rest = self.flags - TimeoutFlags::CLOCK_MASK;
        Self { flags: rest | clock.flags(), ..self }
    }

    /// Completes earlier, when `count` other completions have come on this ring since the kernel
    /// took it: of any request, also of the ring's own. 0 waits for the time alone.
    pub fn or_after(self, count: u32) -> Self {
        Self { count, ..self }
    }

    /// In a chain, lets the next operation begin when the time is up; otherwise only
    /// [`TimeoutEnd::Counted`] does, and that the time is up breaks the chain. Since Linux 5.16;
    /// before, `EINVAL`.
    #[doc(alias = "IORING_TIMEOUT_ETIME_SUCCESS")]
    pub fn unbroken(self) -> Self {
        Self { flags: self.flags | TimeoutFlags::ETIME_SUCCESS, ..self }
    }
}

/// The address of a timespec, for the kernel to read.
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

/// Why a [`TimeoutMulti`] came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a timeout that was stopped wants to be submitted anew"]
pub enum RepeatEnd {
    /// It ran out as often as [it was to](TimeoutMulti::times).
    Complete,
    /// The kernel made an end of it before: the completion ring was full, and completions beyond it
    /// are only queued for operations that complete once. Take completions, and submit it anew.
    Stopped,
}

/// Completes again and again, each time that a span has passed. Since Linux 6.4.
///
/// # Completion
///
/// Each time with an item that says nothing but that the time has come; what was not taken in time
/// is not counted up, but waits. At last with [`RepeatEnd`]: when it ran out
/// [as often as it was to](Self::times), or when nobody took what it brought, and the completion
/// ring was full.
///
/// # Errors
///
/// `EINVAL` before Linux 6.4, `ECANCELED` when it was removed or cancelled.
///
/// # Cancellation
///
/// At once, but for the moment in which it has run out and is not yet armed again: a cancel that
/// comes then finds nothing, and has to be repeated. With an interval of a few microseconds it may
/// never find it: let the completion ring fill, and the kernel ends it. The end of a scope or of
/// the ring does so. Times that had come and that nobody took are not told with the end.
#[doc(alias = "IORING_TIMEOUT_MULTISHOT")]
#[derive(Debug)]
pub struct TimeoutMulti {
    time: Timespec,
    times: u32,
    flags: TimeoutFlags,
}

impl TimeoutMulti {
    /// Completes each time that `interval` has passed, without end. The time that it takes to
    /// complete is not made up for.
    pub fn new(interval: Duration) -> Self {
        Self { time: interval.into(), times: 0, flags: TimeoutFlags::MULTISHOT }
    }

    /// Ends when it has run out so often; 0 is without end.
    pub fn times(self, times: u32) -> Self {
        Self { times, ..self }
    }

    /// Goes by another clock.
    pub fn by(self, clock: Clock) -> Self {
        Self { flags: TimeoutFlags::MULTISHOT | clock.flags(), ..self }
    }
}

// SAFETY: OP1: the address is of `time`, which lies in the operation, and nothing touches it until
// the completion without `F_MORE`.
unsafe impl Op for TimeoutMulti {
    type Output = io::Result<RepeatEnd>;
    const SHOTS: Shots = Shots::Many;

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

    fn last_is_shot(result: i32) -> bool {
        is_over(result)
    }
}

impl Multishot for TimeoutMulti {
    type Item = ();

    fn item(_: Shot) {}
}

mod sealed {
    pub trait Sealed {}
}

/// [`Timeout`] and [`TimeoutMulti`], also forced: what can be removed as a timeout. Not a drained
/// one: what comes after it waits for it, and its removal would.
pub trait AnyTimeout: sealed::Sealed {}

impl sealed::Sealed for Timeout {}
impl sealed::Sealed for TimeoutMulti {}
impl<T: AnyTimeout> sealed::Sealed for Forced<T> {}
impl AnyTimeout for Timeout {}
impl AnyTimeout for TimeoutMulti {}
impl<T: AnyTimeout> AnyTimeout for Forced<T> {}

/// Ends a timeout before its time. Since Linux 5.5.
///
/// # Completion
///
/// Once, with a [`CancelOutcome`]. What it found completes with `ECANCELED`.
///
/// # Cancellation
///
/// It is done at once, and cannot be cancelled.
#[doc(alias = "IORING_OP_TIMEOUT_REMOVE")]
#[doc(alias = "io_uring_prep_timeout_remove")]
#[derive(Debug)]
pub struct TimeoutRemove(Name);

impl TimeoutRemove {
    /// Ends the timeout that `ticket` is of. It is accepted on that one's ring only.
    pub fn new<T: AnyTimeout>(ticket: &Ticket<T>) -> Self {
        Self(Name::of(ticket))
    }
}

// SAFETY: OP1: the entry points to nothing. It completes once; what it names is of this ring, which
// `belongs_to` sees to (OP2).
unsafe impl Op for TimeoutRemove {
    type Output = CancelOutcome;

    fn belongs_to(&self, ring: RingId) -> bool {
        self.0.ring == ring
    }

    fn prep(&mut self) -> Sqe {
        prep::timeout_remove(self.0.word)
    }

    fn finish(self, done: Done) -> CancelOutcome {
        CancelOutcome::of_one(&done)
    }
}

/// Gives a timeout another time, by the clock that it has. Since Linux 5.11.
///
/// It is the only thing that the timeout waits for from then on: no more
/// [for completions](Timeout::or_after). And one that repeats may forget
/// [how often](TimeoutMulti::times), and go on without end (seen from Linux 6.16 to 7.3).
///
/// # Completion
///
/// Once, with an [`UpdateOutcome`].
///
/// # Cancellation
///
/// It is done at once, and cannot be cancelled.
#[doc(alias = "IORING_TIMEOUT_UPDATE")]
#[doc(alias = "io_uring_prep_timeout_update")]
#[derive(Debug)]
pub struct TimeoutUpdate {
    name: Name,
    time: Timespec,
    flags: TimeoutFlags,
}

impl TimeoutUpdate {
    /// Lets the timeout that `ticket` is of run out when `span` has passed from now; one that
    /// repeats, each time that `span` has passed. It is accepted on that one's ring only.
    pub fn new<T: AnyTimeout>(ticket: &Ticket<T>, span: Duration) -> Self {
        Self { name: Name::of(ticket), time: span.into(), flags: TimeoutFlags::empty() }
    }

    /// Lets the timeout that `ticket` is of run out when its clock shows `time`: the system's own
    /// clock, as for [`Timeout::until`]. Not for one that repeats: it would take `time` for a span
    /// from its second time on.
    pub fn until(ticket: &Ticket<Timeout>, time: Duration) -> Self {
        Self { flags: TimeoutFlags::ABS, ..Self::new(ticket, time) }
    }
}

// SAFETY: OP1: the address is of `time`, which lies in the operation. It completes once; what it
// names is of this ring, which `belongs_to` sees to (OP2).
unsafe impl Op for TimeoutUpdate {
    type Output = UpdateOutcome;

    fn belongs_to(&self, ring: RingId) -> bool {
        self.name.ring == ring
    }

    fn prep(&mut self) -> Sqe {
        prep::timeout_update(self.name.word, address(&self.time), self.flags)
    }

    fn finish(self, done: Done) -> UpdateOutcome {
        UpdateOutcome::of(&done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::Brought;
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
            let done = Done::new(result, CqeFlags::empty(), None, Brought::Nothing);
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

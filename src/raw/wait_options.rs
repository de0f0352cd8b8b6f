//! Wait options: how long a wait lasts, and what may end it.
//!
//! ```text
//!   WaitOptions::at_most(1 s).min_wait(50 µs).signals(mask).without_iowait()
//!                │            │               │             └ not counted as waiting for a device
//!                │            │               └ as in ppoll(2): these signals are blocked
//!                │            └ after this, one completion is enough
//!                └ or until a point in time
//! ```
//!
//! | wait | raw API | safe API |
//! |---|---|---|
//! | for completions | [`RawRing::wait_with`](crate::RawRing::wait_with) | |
//! | … and submit what was pushed | [`RawRing::submit_and_wait_with`](crate::RawRing::submit_and_wait_with) | [`Ring::submit_and_wait_with`](crate::Ring::submit_and_wait_with) |
//! | for one operation | | [`Ring::wait_with`](crate::Ring::wait_with) |
//!
//! The plain waits ([`RawRing::submit_and_wait`](crate::RawRing::submit_and_wait) and the others)
//! work in this way too, without a limit or with a timeout.
//!
//! Leaves to others: what it means when the kernel returns (`wait_end`).
//!
//! # Example
//!
//! ```
//! use annulus::{WaitOptions, Setup, Woken};
//! use annulus::op::Nop;
//! use std::time::Duration;
//!
//! let mut ring = Setup::new(4).build()?;
//! let _nop = ring.submit(Nop)?;
//! let options = WaitOptions::at_most(Duration::from_secs(1));
//! # if !ring.raw().features().contains(annulus::sys::flags::Features::EXT_ARG) {
//! #     return Ok(());
//! # }
//! assert_eq!(ring.submit_and_wait_with(1, &options)?, (1, Woken::Ready));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![allow(unsafe_code, reason = "makes sets of signals")]

use std::fmt;
use std::io;
use std::mem::MaybeUninit;
use std::time::Duration;

use crate::raw::Clock;
use crate::raw::register::WaitSlot;

/// How long a wait lasts, and what may end it. A value can be kept and used for many waits.
///
/// # Example
///
/// ```
/// use annulus::op::Nop;
/// use annulus::{Setup, WaitOptions};
/// use std::time::Duration;
///
/// let mut ring = Setup::new(64).build()?;
/// # if !ring.raw().features().contains(annulus::sys::flags::Features::MIN_TIMEOUT) {
/// #     return Ok(());
/// # }
/// // A batch of 16 if it comes within 50 µs, then one at least, and none after a second.
/// let batch = WaitOptions::at_most(Duration::from_secs(1)).min_wait(Duration::from_micros(50));
/// let _nop = ring.submit(Nop)?;
/// ring.submit_and_wait_with(16, &batch)?;
/// assert_eq!(ring.reap(|event| println!("{event:?}"))?, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct WaitOptions {
    pub(crate) limit: Limit,
    pub(crate) min_wait: Option<Duration>,
    pub(crate) signals: Option<SignalMask>,
    pub(crate) iowait: IoWait,
    pub(crate) stored: Option<WaitSlot>,
}

/// When a wait ends, whatever is ready by then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Limit {
    #[default]
    Never,
    After(Duration),
    Until(Clock, Duration),
}

impl Limit {
    /// How much time is left until the limit, for a wait that began `since` ago.
    pub(crate) fn left(self, since: Duration) -> Option<Duration> {
        match self {
            Self::Never => None,
            Self::After(span) => Some(span.saturating_sub(since)),
            Self::Until(clock, time) => Some(time.saturating_sub(clock.now())),
        }
    }
}

/// Whether the system counts the waiting thread as waiting for a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum IoWait {
    #[default]
    Counted,
    Uncounted,
}

impl WaitOptions {
    /// Waits however long it takes.
    pub const FOREVER: Self = Self {
        limit: Limit::Never,
        min_wait: None,
        signals: None,
        iowait: IoWait::Counted,
        stored: None,
    };

    /// Waits for at most `span`. Since Linux 5.11.
    #[doc(alias = "IORING_ENTER_EXT_ARG")]
    pub const fn at_most(span: Duration) -> Self {
        Self { limit: Limit::After(span), ..Self::FOREVER }
    }

    /// Waits until `clock` shows `time`, counted from the clock's zero: usually [`Clock::now`] plus
    /// a duration. Since Linux 5.11.
    ///
    /// A wait that has to start again still ends at the same time. We tell the kernel how much time
    /// is left, not the point in time. The kernel would read that by the system's clock, which in a
    /// time namespace is not the clock that we see (`time_namespaces(7)`).
    #[doc(alias = "IORING_ENTER_ABS_TIMER")]
    pub const fn until(clock: Clock, time: Duration) -> Self {
        Self { limit: Limit::Until(clock, time), ..Self::FOREVER }
    }

    /// After `span`, a single completion is enough. This gives few wake-ups under load, and no long
    /// waits otherwise. Since Linux 6.12.
    ///
    /// A span that is not shorter than the limit has no effect, since the limit ends the wait
    /// first.
    #[doc(alias("min_wait_usec", "io_uring_submit_and_wait_min_timeout"))]
    pub fn min_wait(self, span: Duration) -> Self {
        Self { min_wait: Some(span), ..self }
    }

    /// While it waits, the thread blocks the signals of `mask` and no others, as in `ppoll(2)`. A
    /// signal that is not blocked ends the wait with
    /// [`EnterCause::Interrupted`](crate::EnterCause::Interrupted); that error may also be reported
    /// when no signal came. If a signal arrives at the same moment as a completion, the kernel does
    /// not report the signal, and a wait for more completions goes on. For signals that must not be
    /// missed, use a signalfd, or a pipe that the ring reads.
    #[doc(alias("sigmask", "io_uring_wait_cqes"))]
    pub fn signals(self, mask: SignalMask) -> Self {
        Self { signals: Some(mask), ..self }
    }

    /// The system does not count the thread as waiting for a device during the wait. Tools then
    /// show it as idle, and the processor may sleep more deeply and wake later. Since Linux 6.15.
    #[doc(alias("IORING_ENTER_NO_IOWAIT", "io_uring_set_iowait"))]
    pub fn without_iowait(self) -> Self {
        Self { iowait: IoWait::Uncounted, ..self }
    }

    /// The kernel reads how long to wait from `slot` of the ring's
    /// [`WaitRegion`](crate::raw::register::WaitRegion). Since Linux 6.13.
    ///
    /// The other options should repeat the limits of the slot, or set none. Limits that they set
    /// apply when the wait resumes after the kernel returned early. If they set none, only the slot
    /// bounds the wait, and this crate cannot see how. Then a signal that arrives after something
    /// was submitted or is ready, or the end of a [`Timeout`](crate::op::Timeout), may be reported
    /// as [`Woken::TimedOut`](crate::Woken::TimedOut). And a wait for completions that can never
    /// come is not refused, even if the slot sets no timeout.
    ///
    /// The wait fails with `EINVAL` before Linux 6.13, and with `EFAULT` if the ring has no region,
    /// or a smaller one.
    #[doc(alias("IORING_ENTER_EXT_ARG_REG", "io_uring_submit_and_wait_reg"))]
    pub fn in_slot(self, slot: WaitSlot) -> Self {
        Self { stored: Some(slot), ..self }
    }

    /// Whether we need to know when the wait began.
    pub(crate) fn is_bounded(&self) -> bool {
        self.limit != Limit::Never || self.min_wait.is_some()
    }

    /// How many completions must be able to come before a wait for `want` is allowed. None if there
    /// is a limit, or a slot, which may contain one.
    #[inline]
    pub(crate) fn insists_on(&self, want: u32) -> u32 {
        match (self.limit, self.stored, self.min_wait) {
            (Limit::Never, None, None) => want,
            (Limit::Never, None, Some(_)) => want.min(1),
            _ => 0,
        }
    }

    /// The minimum wait, unless the limit ends the wait first.
    pub(crate) fn least(&self) -> Option<Duration> {
        let most = match self.limit {
            Limit::Never => Duration::MAX,
            Limit::After(span) => span,
            Limit::Until(clock, time) => time.saturating_sub(clock.now()),
        };
        self.min_wait.filter(|span| *span < most)
    }

    /// What is left of the options, for a turn that waits for one completion and began `since` ago;
    /// `None` if the time is up. The minimum wait ends a turn too.
    pub(crate) fn left(&self, since: Duration) -> Option<Self> {
        let limit = self.limit.left(since);
        if limit == Some(Duration::ZERO) {
            return None;
        }
        let min_wait = self.min_wait.map(|span| span.saturating_sub(since));
        let first = min_wait.filter(|span| !span.is_zero()).into_iter().chain(limit).min();
        let limit = first.map_or(Limit::Never, Limit::After);
        // A stored time would start again with each turn; so use it only if nothing else bounds the
        // wait.
        let stored = if self.is_bounded() { None } else { self.stored };
        Some(Self { limit, min_wait: None, stored, ..self.clone() })
    }

    /// The options with a limit of `span`, if they do not end sooner. A slot may contain an end of
    /// its own, which we do not know.
    pub(crate) fn at_most_for(&self, span: Duration) -> Option<Self> {
        let sooner = match self.limit {
            Limit::Never => false,
            Limit::After(limit) => limit <= span,
            Limit::Until(clock, time) => time.saturating_sub(clock.now()) <= span,
        };
        if sooner || self.stored.is_some() {
            return None;
        }
        Some(Self { limit: Limit::After(span), ..self.clone() })
    }

    /// How many completions are enough after `since`.
    pub(crate) fn enough(&self, want: u32, since: Duration) -> u32 {
        if self.min_wait.is_some_and(|span| span <= since) { want.min(1) } else { want }
    }
}

/// A set of signals that a thread blocks while it waits.
#[derive(Clone, Copy)]
pub struct SignalMask(libc::sigset_t);

impl SignalMask {
    /// The empty set.
    pub fn none() -> Self {
        let mut set = MaybeUninit::uninit();
        // SAFETY: writes a set, because that is what it is for.
        unsafe { libc::sigemptyset(set.as_mut_ptr()) };
        // SAFETY: it was written, because that cannot fail.
        Self(unsafe { set.assume_init() })
    }

    /// All signals that can be blocked.
    pub fn all() -> Self {
        let mut set = Self::none();
        // SAFETY: one live set, because it is a local.
        unsafe { libc::sigfillset(&raw mut set.0) };
        set
    }

    /// The signals that this thread blocks now.
    pub fn current() -> Self {
        let mut set = Self::none();
        // SAFETY: changes nothing, and writes one live set, because no new one is given.
        unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), &raw mut set.0) };
        set
    }

    /// Adds `signal` to the set.
    ///
    /// # Errors
    ///
    /// `EINVAL` if there is no such signal.
    pub fn and(mut self, signal: i32) -> io::Result<Self> {
        // SAFETY: one live set, because it is ours.
        match unsafe { libc::sigaddset(&raw mut self.0, signal) } {
            0 => Ok(self),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Removes `signal` from the set.
    ///
    /// # Errors
    ///
    /// `EINVAL` if there is no such signal.
    pub fn without(mut self, signal: i32) -> io::Result<Self> {
        // SAFETY: one live set, because it is ours.
        match unsafe { libc::sigdelset(&raw mut self.0, signal) } {
            0 => Ok(self),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Whether `signal` is in the set.
    pub fn contains(&self, signal: i32) -> bool {
        // SAFETY: one live set, because it is ours.
        unsafe { libc::sigismember(&raw const self.0, signal) == 1 }
    }

    /// The set as the C library represents it.
    pub(crate) fn set(&self) -> &libc::sigset_t {
        &self.0
    }
}

impl fmt::Debug for SignalMask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries((1..=64).filter(|signal| self.contains(*signal))).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const HOUR: Duration = Duration::from_secs(3600);

    fn limit(options: &WaitOptions, since: Duration) -> Option<Limit> {
        options.left(since).map(|left| left.limit)
    }

    #[test]
    fn what_is_left_of_a_span_is_less_and_then_nothing() {
        let options = WaitOptions::at_most(3 * SECOND);
        assert_eq!(limit(&options, SECOND), Some(Limit::After(2 * SECOND)));
        assert_eq!(limit(&options, 3 * SECOND), None);
        assert_eq!(limit(&WaitOptions::FOREVER, HOUR), Some(Limit::Never));
        let past = WaitOptions::until(Clock::Monotonic, Duration::ZERO);
        assert_eq!(limit(&past, Duration::ZERO), None);
        let ahead = WaitOptions::until(Clock::Boottime, Clock::Boottime.now() + HOUR);
        let Some(Limit::After(left)) = limit(&ahead, SECOND) else { panic!("an hour is left") };
        assert!(left <= HOUR && left > HOUR / 2);
    }

    #[test]
    fn an_end_that_is_over_or_sooner_is_not_put_off() {
        let until = |time| WaitOptions::until(Clock::Monotonic, time).at_most_for(SECOND);
        assert!(until(Duration::ZERO).is_none(), "it is over");
        assert!(until(Clock::Monotonic.now() + HOUR).is_some());
        assert!(WaitOptions::at_most(SECOND).at_most_for(SECOND).is_none());
    }

    #[test]
    fn a_minimum_wait_ends_a_turn_before_the_wait_does() {
        let options = WaitOptions::at_most(3 * SECOND).min_wait(2 * SECOND);
        assert_eq!(limit(&options, SECOND), Some(Limit::After(SECOND)));
        assert_eq!(limit(&options, 2 * SECOND), Some(Limit::After(SECOND)), "it is over");
        assert_eq!([options.enough(5, SECOND), options.enough(5, 2 * SECOND)], [5, 1]);
        assert_eq!(options.enough(0, 2 * SECOND), 0);
        let alone = WaitOptions::FOREVER.min_wait(SECOND);
        assert_eq!(limit(&alone, Duration::ZERO), Some(Limit::After(SECOND)));
        assert_eq!(limit(&alone, SECOND), Some(Limit::Never));
    }

    #[test]
    fn a_mask_has_the_signals_that_it_was_given() -> io::Result<()> {
        let mask = SignalMask::none().and(libc::SIGUSR1)?.and(libc::SIGTERM)?;
        assert!(mask.contains(libc::SIGUSR1) && !mask.contains(libc::SIGUSR2));
        assert_eq!(format!("{mask:?}"), "{10, 15}");
        let mask = SignalMask::all().without(libc::SIGUSR1)?;
        assert!(!mask.contains(libc::SIGUSR1) && mask.contains(libc::SIGUSR2));
        assert!(SignalMask::none().and(1000).is_err() && SignalMask::all().without(-1).is_err());
        Ok(())
    }
}

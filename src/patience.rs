//! How long a wait waits, and what may end it.
//!
//! ```text
//!   Patience::at_most(1 s).min_wait(50 µs).signals(mask).without_iowait()
//!            │             │               │             └ not counted as waiting for a device
//!            │             │               └ as in ppoll(2): these signals are held back
//!            │             └ then one completion is enough
//!            └ or until a point in time
//! ```
//!
//! | wait | raw face | safe face |
//! |---|---|---|
//! | for completions | [`RawRing::wait_with`] | |
//! | … handing over what was pushed | [`RawRing::submit_and_wait_with`] | [`Ring::submit_and_wait_with`] |
//! | for one operation | | [`Ring::wait_with`] |
//!
//! The plain waits ([`RawRing::submit_and_wait`] and others) are the same, for ever or for a time.
//!
//! Leaves to others: what it means that the kernel came back (`wait`).
//!
//! # Example
//!
//! ```
//! use annulus::{Patience, Setup, Woken};
//! use annulus::op::Nop;
//! use std::time::Duration;
//!
//! let mut ring = Setup::new(4).build()?;
//! let _nop = ring.submit(Nop)?;
//! let patience = Patience::at_most(Duration::from_secs(1));
//! # if !ring.raw().features().contains(annulus::sys::flags::Features::EXT_ARG) {
//! #     return Ok(());
//! # }
//! assert_eq!(ring.submit_and_wait_with(1, &patience)?, (1, Woken::Ready));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![allow(unsafe_code, reason = "makes sets of signals")]

use std::fmt;
use std::io;
use std::mem::MaybeUninit;
use std::time::{Duration, Instant};

use crate::error::{EnterCause, EnterError, Woken};
use crate::op::{Clock, Op};
use crate::raw::RawRing;
use crate::register::WaitSlot;
use crate::ring::Ring;
use crate::split::Reaper;
use crate::ticket::{Ticket, Unfinished};

/// How long a wait waits, and what may end it. To be kept, and used again.
#[derive(Debug, Clone, Default)]
pub struct Patience {
    pub(crate) limit: Limit,
    pub(crate) min_wait: Option<Duration>,
    pub(crate) signals: Option<SignalMask>,
    pub(crate) iowait: IoWait,
    pub(crate) stored: Option<WaitSlot>,
}

/// When a wait ends, whatever has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Limit {
    #[default]
    Never,
    After(Duration),
    Until(Clock, Duration),
}

impl Limit {
    /// How much time is left of it, for what began `since` ago.
    pub(crate) fn left(self, since: Duration) -> Option<Duration> {
        match self {
            Self::Never => None,
            Self::After(span) => Some(span.saturating_sub(since)),
            Self::Until(clock, time) => Some(time.saturating_sub(clock.now())),
        }
    }
}

/// Whether the system counts the waiting thread as one that waits for a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum IoWait {
    #[default]
    Counted,
    Uncounted,
}

impl Patience {
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

    /// Waits until `clock` says `time`, counted from its zero: [`Clock::now`] and a span, as a
    /// rule. Since Linux 5.11.
    ///
    /// A wait that is taken up again and again ends at the same time. The kernel is told how long
    /// that will be: a point in time it would take for one of the system's clock, which in a time
    /// namespace is not the one that we see (`time_namespaces(7)`).
    #[doc(alias = "IORING_ENTER_ABS_TIMER")]
    pub const fn until(clock: Clock, time: Duration) -> Self {
        Self { limit: Limit::Until(clock, time), ..Self::FOREVER }
    }

    /// When `span` has passed, a single completion is enough: few wake-ups under load, and no long
    /// wait without. Since Linux 6.12.
    ///
    /// A span that is not shorter than the limit means nothing: the limit ends the wait first.
    #[doc(alias("min_wait_usec", "io_uring_submit_and_wait_min_timeout"))]
    pub fn min_wait(self, span: Duration) -> Self {
        Self { min_wait: Some(span), ..self }
    }

    /// While it waits, the thread holds back the signals of `mask` and no others, as in `ppoll(2)`.
    /// A signal that is let in so ends the wait, with [`EnterCause::Interrupted`]; which it may say
    /// when none came, too. Of one that comes in the moment in which a completion does, the kernel
    /// tells nothing, and a wait for more goes on: what must not be missed belongs in a signalfd,
    /// or a pipe that the ring reads.
    #[doc(alias("sigmask", "io_uring_wait_cqes"))]
    pub fn signals(self, mask: SignalMask) -> Self {
        Self { signals: Some(mask), ..self }
    }

    /// The system does not count the thread as one that waits for a device while it waits: so tools
    /// show it as idle, and the processor may sleep deeper and wake later. Since Linux 6.15.
    #[doc(alias("IORING_ENTER_NO_IOWAIT", "io_uring_set_iowait"))]
    pub fn without_iowait(self) -> Self {
        Self { iowait: IoWait::Uncounted, ..self }
    }

    /// The kernel finds how long to wait in `slot` of the ring's
    /// [`WaitRegion`](crate::register::WaitRegion). What is said here should be the same: it
    /// decides when the wait is taken up again, after the kernel came back early; or nothing, and
    /// then the slot alone does, which nobody here knows: a signal that comes behind something
    /// submitted or ready, or the end of a [`Timeout`](crate::op::Timeout), may be told as
    /// [`Woken::TimedOut`]; and a wait for what can never come is not refused, also if the slot
    /// says nothing. Since Linux 6.13.
    ///
    /// `EINVAL` before, and `EFAULT` where the ring has no region, or a smaller one.
    #[doc(alias("IORING_ENTER_EXT_ARG_REG", "io_uring_submit_and_wait_reg"))]
    pub fn stored_at(self, slot: WaitSlot) -> Self {
        Self { stored: Some(slot), ..self }
    }

    /// Whether we need to know when it began.
    pub(crate) fn is_bounded(&self) -> bool {
        self.limit != Limit::Never || self.min_wait.is_some()
    }

    /// How many completions must be able to come, so that a wait for `want` is not in vain: none
    /// where there is a limit, as there may be in a slot.
    #[inline]
    pub(crate) fn insists_on(&self, want: u32) -> u32 {
        match (self.limit, self.stored, self.min_wait) {
            (Limit::Never, None, None) => want,
            (Limit::Never, None, Some(_)) => want.min(1),
            _ => 0,
        }
    }

    /// The minimum wait, if the limit does not end the wait before.
    pub(crate) fn least(&self) -> Option<Duration> {
        let most = match self.limit {
            Limit::Never => Duration::MAX,
            Limit::After(span) => span,
            Limit::Until(clock, time) => time.saturating_sub(clock.now()),
        };
        self.min_wait.filter(|span| *span < most)
    }

    /// What is left of it, for a turn that waits for one completion, and began `since` ago; `None`
    /// if nothing is. The minimum wait ends a turn too.
    fn left(&self, since: Duration) -> Option<Self> {
        let limit = self.limit.left(since);
        if limit == Some(Duration::ZERO) {
            return None;
        }
        let min_wait = self.min_wait.map(|span| span.saturating_sub(since));
        let first = min_wait.filter(|span| !span.is_zero()).into_iter().chain(limit).min();
        let limit = first.map_or(Limit::Never, Limit::After);
        // What is stored would begin anew with each turn; but then nothing else bounds the wait.
        let stored = if self.is_bounded() { None } else { self.stored };
        Some(Self { limit, min_wait: None, stored, ..self.clone() })
    }

    /// How many completions are enough, after `since`.
    fn enough(&self, want: u32, since: Duration) -> u32 {
        if self.min_wait.is_some_and(|span| span <= since) { want.min(1) } else { want }
    }
}

/// Signals that a thread holds back while it waits.
#[derive(Clone, Copy)]
pub struct SignalMask(libc::sigset_t);

impl SignalMask {
    /// None.
    pub fn none() -> Self {
        let mut set = MaybeUninit::uninit();
        // SAFETY: writes a set, because that is what it is for.
        unsafe { libc::sigemptyset(set.as_mut_ptr()) };
        // SAFETY: it was written, because that cannot fail.
        Self(unsafe { set.assume_init() })
    }

    /// All that can be.
    pub fn all() -> Self {
        let mut set = Self::none();
        // SAFETY: one live set, because it is a local.
        unsafe { libc::sigfillset(&raw mut set.0) };
        set
    }

    /// Those that this thread holds back now.
    pub fn current() -> Self {
        let mut set = Self::none();
        // SAFETY: changes nothing, and writes one live set, because no new one is given.
        unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), &raw mut set.0) };
        set
    }

    /// These, and `signal`.
    ///
    /// # Errors
    ///
    /// `EINVAL` when there is no such signal.
    pub fn and(mut self, signal: i32) -> io::Result<Self> {
        // SAFETY: one live set, because it is ours.
        match unsafe { libc::sigaddset(&raw mut self.0, signal) } {
            0 => Ok(self),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// These, without `signal`.
    ///
    /// # Errors
    ///
    /// `EINVAL` when there is no such signal.
    pub fn without(mut self, signal: i32) -> io::Result<Self> {
        // SAFETY: one live set, because it is ours.
        match unsafe { libc::sigdelset(&raw mut self.0, signal) } {
            0 => Ok(self),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Whether `signal` is among them.
    pub fn contains(&self, signal: i32) -> bool {
        // SAFETY: one live set, because it is ours.
        unsafe { libc::sigismember(&raw const self.0, signal) == 1 }
    }

    /// As the C library has it.
    pub(crate) fn set(&self) -> &libc::sigset_t {
        &self.0
    }
}

impl fmt::Debug for SignalMask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries((1..=64).filter(|signal| self.contains(*signal))).finish()
    }
}

impl RawRing {
    /// As [`wait`](Self::wait), with `patience`. Says how it ended.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait), and [`EnterCause::Unsupported`] for what this kernel cannot.
    pub fn wait_with(&mut self, want: u32, patience: &Patience) -> Result<Woken, EnterError> {
        self.bounded_wait(want, patience)
    }
}

impl Reaper {
    /// As [`RawRing::wait_with`], but no wait is refused as hopeless.
    ///
    /// # Errors
    ///
    /// As [`RawRing::wait_with`].
    pub fn wait_with(&mut self, want: u32, patience: &Patience) -> Result<Woken, EnterError> {
        self.bounded_wait(want, patience)
    }
}

impl<U: Default> Ring<U> {
    /// As [`submit_and_wait`](Self::submit_and_wait), with `patience`. Says how it ended.
    ///
    /// # Errors
    ///
    /// As [`submit_and_wait`](Self::submit_and_wait), and [`EnterCause::Unsupported`] for what this
    /// kernel cannot.
    pub fn submit_and_wait_with(
        &mut self,
        want: u32,
        patience: &Patience,
    ) -> Result<(u32, Woken), EnterError> {
        let needed = patience.insists_on(want);
        if self.is_plain() && (needed <= self.slab.in_flight() || self.hope_for(needed)?) {
            return self.raw.submit_and_wait_with_unasked(want, patience);
        }
        self.wait_for_events(want, patience)
    }

    /// Where some completions are none of the caller's: waits for one at a time, and keeps them.
    pub(crate) fn wait_for_events(
        &mut self,
        want: u32,
        patience: &Patience,
    ) -> Result<(u32, Woken), EnterError> {
        let (started, mut woken) = (Instant::now(), Woken::Ready);
        let patience = Patience { min_wait: patience.least(), ..patience.clone() };
        let needed = patience.insists_on(want);
        let given_up = self.slab.orphans();
        let mut submitted = self.submit_all()?;
        let failed = |submitted| move |error: EnterError| EnterError { submitted, ..error };
        loop {
            // Asked first: who is gone by now has sent everything, and the pull finds it.
            let awaited = self.own.has_senders();
            self.pull(None).map_err(failed(submitted))?;
            let since = started.elapsed();
            let ended = given_up - self.slab.orphans();
            let come = self.backlog.count(&self.slab) + ended as usize;
            if come >= patience.enough(want, since) as usize {
                return Ok((submitted, Woken::Ready));
            }
            let coming = self.may_come(u32::try_from(come).unwrap_or(u32::MAX));
            if coming < needed {
                if awaited {
                    continue; // The last sender has just gone, perhaps when it had sent.
                }
                let cause = EnterCause::NothingComing { want: needed, coming };
                return Err(EnterError::new(submitted, cause));
            }
            self.serve();
            let Some(left) = patience.left(since).filter(|_| woken == Woken::Ready) else {
                return Ok((submitted, Woken::TimedOut));
            };
            match self.raw.submit_and_wait_with_unasked(1, &left) {
                Ok((more, why)) => {
                    submitted += more;
                    // Only the kernel knew how long.
                    woken = if patience.is_bounded() { Woken::Ready } else { why };
                }
                Err(error) => return Err(failed(submitted + error.submitted)(error)),
            }
        }
    }

    /// As [`wait`](Self::wait), with `patience`; a minimum wait means nothing for one operation.
    ///
    /// A signal does not end the wait, unless `patience` [lets it in](Patience::signals).
    ///
    /// # Errors
    ///
    /// [`Unfinished`] gives the ticket back: [`EnterCause::TimedOut`] when the time is up,
    /// [`EnterCause::Interrupted`] when such a signal came, and [`EnterCause::Unsupported`] for
    /// what this kernel cannot.
    ///
    /// # Panics
    ///
    /// When the ticket is of another ring.
    pub fn wait_with<O: Op>(
        &mut self,
        mut ticket: Ticket<O>,
        patience: &Patience,
    ) -> Result<O::Output, Unfinished<Ticket<O>>> {
        let patience = Patience { min_wait: None, ..patience.clone() };
        let started = Instant::now();
        loop {
            ticket = match self.try_take(ticket) {
                Ok(output) => return Ok(output),
                Err(ticket) => ticket,
            };
            let ended = match patience.left(started.elapsed()) {
                Some(left) => match self.turn_with(ticket.slot(), &left) {
                    // Only the kernel knew how long.
                    Ok(Woken::TimedOut) if !patience.is_bounded() => {
                        Err(EnterError::new(0, EnterCause::TimedOut))
                    }
                    turn => turn.map(drop),
                },
                None => self
                    .pull(Some(ticket.slot()))
                    .and_then(|()| Err(EnterError::new(0, EnterCause::TimedOut))),
            };
            if let Err(why) = ended {
                return self.try_take(ticket).map_err(|ticket| Unfinished { ticket, why });
            }
        }
    }

    /// One turn of a wait: enters if nothing is ready, then takes what is. Says how the enter
    /// ended.
    fn turn_with(&mut self, slot: u32, patience: &Patience) -> Result<Woken, EnterError> {
        self.serve();
        if patience.signals.is_some() {
            // On its own: behind what is submitted, the kernel would not tell of a signal.
            let submitted = self.raw.submit().map(drop);
            submitted.or_else(|error| self.bear(error))?;
        }
        let entered = if self.raw.ready() == 0 {
            self.raw.submit_and_wait_with_unasked(1, patience).map(|(_, woken)| woken)
        } else {
            // Not only what is ready already is to go on.
            self.raw.submit().map(|_| Woken::Ready)
        };
        let woken = match entered {
            Ok(woken) => woken,
            Err(error) if error.cause == EnterCause::Interrupted && patience.signals.is_some() => {
                self.pull(Some(slot))?;
                return Err(error);
            }
            Err(error) => self.bear(error).map(|()| Woken::Ready)?,
        };
        self.pull(Some(slot)).map(|()| woken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const HOUR: Duration = Duration::from_secs(3600);

    fn limit(patience: &Patience, since: Duration) -> Option<Limit> {
        patience.left(since).map(|left| left.limit)
    }

    #[test]
    fn what_is_left_of_a_span_is_less_and_then_nothing() {
        let patience = Patience::at_most(3 * SECOND);
        assert_eq!(limit(&patience, SECOND), Some(Limit::After(2 * SECOND)));
        assert_eq!(limit(&patience, 3 * SECOND), None);
        assert_eq!(limit(&Patience::FOREVER, HOUR), Some(Limit::Never));
        let past = Patience::until(Clock::Monotonic, Duration::ZERO);
        assert_eq!(limit(&past, Duration::ZERO), None);
        let ahead = Patience::until(Clock::Boottime, Clock::Boottime.now() + HOUR);
        let Some(Limit::After(left)) = limit(&ahead, SECOND) else { panic!("an hour is left") };
        assert!(left <= HOUR && left > HOUR / 2);
    }

    #[test]
    fn a_minimum_wait_ends_a_turn_before_the_wait_does() {
        let patience = Patience::at_most(3 * SECOND).min_wait(2 * SECOND);
        assert_eq!(limit(&patience, SECOND), Some(Limit::After(SECOND)));
        assert_eq!(limit(&patience, 2 * SECOND), Some(Limit::After(SECOND)), "it is over");
        assert_eq!([patience.enough(5, SECOND), patience.enough(5, 2 * SECOND)], [5, 1]);
        assert_eq!(patience.enough(0, 2 * SECOND), 0);
        let alone = Patience::FOREVER.min_wait(SECOND);
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

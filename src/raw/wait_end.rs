//! One wait: how many completions it wants, until when, and what it means when the kernel returns.
//!
//! | the kernel returns | and | result |
//! |---|---|---|
//! | anything | enough completions are ready | ready |
//! | anything | the minimum wait is over, and a completion is ready | ready |
//! | `ETIME`, or a count | the time is up | timed out |
//! | `ETIME` | the minimum wait is over, or our clock is not there yet | wait again |
//! | a count | the device is polled, or the ring is mixed and full, and something is ready | error: take that first |
//! | a count | the device is polled, or a completion may take several slots | wait again; for a polled device, pause first |
//! | a count | only a stored slot bounds the wait | timed out, or a signal: either way it ends |
//! | 0 | no entry was consumed, nothing is ready, and the wait has a limit | wait on: for a signal it would return `EINTR` |
//! | a count, `EINTR` | none of these | error: interrupted by a signal |
//!
//! The kernel returns `EINTR` only if it has nothing else to report. If it consumed entries, or if
//! completions are ready, it returns a count instead. If we then waited again, the signal would be
//! lost, and a wait for something that never comes would not end. So when the count is too small,
//! we first ask for the completions that the kernel still holds back, and then report a signal,
//! which is nearly always the cause. One other event looks like that: a `TIMEOUT` that ends while
//! several completions are wanted, since the kernel lets it end every wait. A bare 0 with nothing
//! ready hides nothing, so a wait with a limit goes on: Linux 6.19 was seen to return it before
//! the time was up, with a minimum wait.
//!
//! Leaves to others: entering the kernel (`enter`).

use std::time::{Duration, Instant};

use annulus_sys::cq::{CompletionQueue, CqeShape};
use annulus_sys::flags::{EnterFlags, Features};
use annulus_sys::kernel::Kernel;
use annulus_sys::rings::Base;
use annulus_sys::syscall::{EnterArg, ExtArg};

use crate::raw::wait_options::{IoWait, Limit, WaitOptions};
use crate::setup::enter_error::{EnterCause, EnterError, Woken};

/// Whether the kernel may return from a wait before enough completions are ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Early {
    Never,
    /// From a device that it polls, when it has other work to do.
    Maybe,
}

/// How the kernel returned from a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Back {
    /// How many entries it consumed; it did not say why it returned.
    Count(u32),
    /// Its clock says that the time is up.
    TimeUp,
}

/// One wait: how many completions it wants, and until when.
pub(crate) struct Wait<'a> {
    want: u32,
    options: &'a WaitOptions,
    /// When the wait began, if it is bounded.
    started: Option<Started>,
    /// After this time, one completion is enough.
    min_wait: Option<Duration>,
    turn: Turn,
}

/// The beginning of a wait, by the clock of its kernel.
struct Started {
    kernel: Kernel,
    at: Instant,
}

impl Started {
    fn elapsed(&self) -> Duration {
        self.kernel.now().saturating_duration_since(self.at)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    First,
    Later,
}

/// How many slots a wait can ask for at once.
///
/// On a mixed ring, the kernel needs three free slots to be sure that a completion fits. If it is
/// told to wait for more than it can then fill, it retries forever and does not notice signals
/// (v6.18, v7.3).
pub(crate) fn max_awaited(cq: &CompletionQueue) -> u32 {
    match cq.shape() {
        CqeShape::Mixed => cq.entries().saturating_sub(2).max(1),
        CqeShape::Single | CqeShape::Double => cq.entries(),
    }
}

impl<'a> Wait<'a> {
    #[inline]
    pub(crate) fn new(
        base: &Base,
        cq: &CompletionQueue,
        want: u32,
        options: &'a WaitOptions,
    ) -> Result<Self, EnterError> {
        if want > cq.entries() {
            let cause = EnterCause::WaitTooLarge { want, entries: cq.entries() };
            return Err(EnterError::new(0, cause));
        }
        check(base.params().features, options)?;
        let started = options.is_bounded().then(|| {
            let kernel = base.kernel().clone();
            Started { at: kernel.now(), kernel }
        });
        Ok(Self { want, options, started, min_wait: options.least(), turn: Turn::First })
    }

    /// How many completions are still missing.
    #[inline]
    pub(crate) fn missing(&self, cq: &mut CompletionQueue) -> u32 {
        // After the minimum wait, one completion is enough.
        let want = if self.past(self.min_wait) { self.want.min(1) } else { self.want };
        if want == 0 { 0 } else { want.saturating_sub(cq.ready()) }
    }

    /// How many slots to wait for while `missing` completions are still missing.
    #[inline]
    pub(crate) fn slots(
        &self,
        cq: &CompletionQueue,
        missing: u32,
        submitted: u32,
    ) -> Result<u32, EnterError> {
        if missing == 0 {
            return Ok(0);
        }
        let (ready, most) = (cq.slots_ready(), max_awaited(cq));
        if ready >= most {
            // The ready completions take more than one slot each, and leave no room for the missing
            // ones.
            let (ready, want) = (self.want - missing, self.want);
            return Err(EnterError::new(submitted, EnterCause::ReadyFirst { ready, want }));
        }
        Ok(most.min(ready + missing))
    }

    fn past(&self, limit: Option<Duration>) -> bool {
        match (&self.started, limit) {
            (Some(started), Some(limit)) => started.elapsed() >= limit,
            _ => false,
        }
    }

    /// Whether the wait ends now, whatever is ready.
    fn is_over(&self) -> bool {
        match self.options.limit {
            Limit::Never => false,
            Limit::After(span) => self.past(Some(span)),
            Limit::Until(clock, time) => clock.now() >= time,
        }
    }

    /// The time until the next end, if there is one: that of the limit, or that of the minimum
    /// wait.
    pub(crate) fn left(&self) -> Option<Duration> {
        let elapsed = self.started.as_ref().map_or(Duration::ZERO, Started::elapsed);
        let limit = self.options.limit.left(elapsed);
        let min_wait = self.min_wait.map(|span| span.saturating_sub(elapsed));
        min_wait.filter(|span| !span.is_zero()).into_iter().chain(limit).min()
    }

    /// The signals that are blocked during the wait, if the options set a mask.
    pub(crate) fn signals(&self) -> Option<&'a libc::sigset_t> {
        self.options.signals.as_ref().map(|mask| mask.set())
    }

    /// The argument for the next enter, and its flags: how much time is left.
    #[inline]
    pub(crate) fn arg(&mut self) -> (EnterArg<'a>, EnterFlags) {
        let options = self.options;
        let flags = match options.iowait {
            IoWait::Counted => EnterFlags::empty(),
            IoWait::Uncounted => EnterFlags::NO_IOWAIT,
        };
        let signals = self.signals();
        let turn = std::mem::replace(&mut self.turn, Turn::Later);
        let arg = match (options.stored, &self.started) {
            // The time stored there would start again with each turn.
            (Some(slot), None) => EnterArg::Registered(slot.offset()),
            (Some(slot), Some(_)) if turn == Turn::First => EnterArg::Registered(slot.offset()),
            (_, Some(started)) => self.ext(started.elapsed(), signals),
            (None, None) => signals.map_or(EnterArg::None, EnterArg::SigMask),
        };
        (arg, flags)
    }

    fn ext(&self, elapsed: Duration, sigmask: Option<&'a libc::sigset_t>) -> EnterArg<'a> {
        // A duration: the kernel would read a point in time by the system's clock, which differs
        // from the clock we see in a time namespace.
        let timeout = self.options.limit.left(elapsed);
        let min_wait = self.min_wait.map(|span| span.saturating_sub(elapsed));
        EnterArg::Ext(ExtArg { timeout: timeout.map(Into::into), min_wait, sigmask })
    }

    /// Decides what it means that the kernel returned from a wait for `min_complete` slots. `None`
    /// means: wait again.
    pub(crate) fn judge(
        &self,
        cq: &mut CompletionQueue,
        back: Back,
        min_complete: u32,
        early: Early,
        submitted: u32,
    ) -> Result<Option<Woken>, EnterError> {
        let missing = self.missing(cq);
        if missing == 0 {
            return Ok(Some(Woken::Ready));
        }
        // The kernel's clock may differ from ours (REGISTER_CLOCK). If there is a minimum wait,
        // ETIME may mean the end of that one.
        let time_up = back == Back::TimeUp;
        let until = matches!(self.options.limit, Limit::Until(..));
        if self.is_over() || (time_up && !until && self.min_wait.is_none()) {
            return Ok(Some(Woken::TimedOut));
        }
        let (ready, want) = (cq.ready(), self.want);
        if early == Early::Maybe && ready > 0 {
            return Err(EnterError::new(submitted, EnterCause::ReadyFirst { ready, want }));
        }
        // The kernel counts slots: on a mixed ring it may count enough while we do not. And it
        // returns early from a device that it polls.
        if time_up || cq.slots_ready() >= min_complete || early == Early::Maybe {
            return Ok(None);
        }
        if self.options.stored.is_some() && self.started.is_none() {
            // Most likely the slot's timeout: only the kernel knows it, and a count hides it.
            return Ok(Some(Woken::TimedOut));
        }
        if back == Back::Count(0) && ready == 0 && self.started.is_some() {
            return Ok(None); // Nothing that a signal could hide behind, and the time ends it.
        }
        Err(EnterError::new(submitted, EnterCause::Interrupted))
    }
}

/// Checks that the kernel supports these options.
fn check(features: Features, options: &WaitOptions) -> Result<(), EnterError> {
    let needs = [
        (options.is_bounded(), Features::EXT_ARG, "a bounded wait", "5.11"),
        (options.min_wait.is_some(), Features::MIN_TIMEOUT, "a minimum wait", "6.12"),
        (
            options.iowait == IoWait::Uncounted,
            Features::NO_IOWAIT,
            "a wait that does not count as one for a device",
            "6.15",
        ),
    ];
    for (asked, feature, what, since) in needs {
        if asked && !features.contains(feature) {
            return Err(EnterError::new(0, EnterCause::Unsupported { what, since }));
        }
    }
    Ok(())
}

//! One wait: how many completions are wanted, until when, and what it means that the kernel came
//! back.
//!
//! | the kernel comes back with | and | so |
//! |---|---|---|
//! | anything | enough is ready | ready |
//! | anything | the minimum wait is over, and one is ready | ready |
//! | `ETIME`, or a count | the time is up | timed out |
//! | a count | the device is polled, or the ring is mixed and full, and something is ready | take that first |
//! | a count | the device is polled, or slots are not completions | wait on |
//! | a count | none of these | wait on |
//! | `EINTR` | | interrupted by a signal |
//!
//! The kernel comes back early, and silently, in two cases that we cannot tell apart: a signal came
//! while it had something else to tell, or deferred task work woke it too soon (seen from 6.12 to
//! 7.3). So we wait on, as liburing does; a signal that comes during that is told. A program that
//! must not miss one takes it from a signalfd, or bounds its waits. Only after a hundred such
//! returns with nothing new the wait ends, as interrupted.
//!
//! Leaves to others: entering the kernel (`enter`).

use std::time::{Duration, Instant};

use annulus_sys::cq::{CompletionRing, CqeShape};
use annulus_sys::flags::Features;
use annulus_sys::syscall::{EnterArg, ExtArg};

use crate::error::{EnterCause, EnterError, Woken};

/// What bounds a wait.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Bound {
    pub(crate) timeout: Option<Duration>,
    pub(crate) min_wait: Option<Duration>,
}

/// Whether the kernel comes back from a wait before enough is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Early {
    Never,
    /// From a device that it polls, when there is other work to do.
    Maybe,
}

/// How the kernel came back from a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Back {
    /// It does not say why.
    Silent,
    /// Its clock says that the time is up.
    TimeUp,
}

/// One wait: how much is wanted, and until when.
pub(crate) struct Wait {
    want: u32,
    bound: Bound,
    /// When it began, if it is bounded.
    started: Option<Instant>,
    /// How many completions were ready when the kernel came back last.
    ready: u32,
    /// How often it came back since, and nothing more was ready.
    idle: u32,
}

/// How often the kernel may come back from one wait early, without a reason and with nothing more.
const PATIENCE: u32 = 100;

/// How many slots may be awaited at once.
///
/// On a mixed ring the kernel needs three free ones to be sure that a completion fits. Told to wait
/// for more than it can then fill, it retries for ever and sees no signal (v6.18, v7.3).
pub(crate) fn most_awaited(cq: &CompletionRing) -> u32 {
    match cq.shape() {
        CqeShape::Mixed => cq.entries().saturating_sub(2).max(1),
        CqeShape::Single | CqeShape::Double => cq.entries(),
    }
}

impl Wait {
    #[inline]
    pub(crate) fn new(
        features: Features,
        cq: &CompletionRing,
        want: u32,
        bound: Bound,
    ) -> Result<Self, EnterError> {
        let refuse = |cause| Err(EnterError::new(0, cause));
        if want > cq.entries() {
            return refuse(EnterCause::WaitTooLarge { want, entries: cq.entries() });
        }
        let bounded = bound.timeout.is_some() || bound.min_wait.is_some();
        if bounded && !features.contains(Features::EXT_ARG) {
            return refuse(EnterCause::Unsupported { what: "a bounded wait", since: "5.11" });
        }
        if bound.min_wait.is_some() && !features.contains(Features::MIN_TIMEOUT) {
            return refuse(EnterCause::Unsupported { what: "a minimum wait", since: "6.12" });
        }
        Ok(Self { want, bound, started: bounded.then(Instant::now), ready: 0, idle: 0 })
    }

    /// How many completions are still to come.
    #[inline]
    pub(crate) fn missing(&self, cq: &mut CompletionRing) -> u32 {
        // After the minimum wait, one completion is enough.
        let want = if self.past(self.bound.min_wait) { self.want.min(1) } else { self.want };
        if want == 0 { 0 } else { want.saturating_sub(cq.ready()) }
    }

    /// How many slots to wait for, `missing` completions being still to come.
    #[inline]
    pub(crate) fn slots(
        &self,
        cq: &CompletionRing,
        missing: u32,
        submitted: u32,
    ) -> Result<u32, EnterError> {
        if missing == 0 {
            return Ok(0);
        }
        let (ready, most) = (cq.slots_ready(), most_awaited(cq));
        if ready >= most {
            // What is ready takes more slots than one each, and leaves no room for what is missing.
            let (ready, want) = (self.want - missing, self.want);
            return Err(EnterError::new(submitted, EnterCause::ReadyFirst { ready, want }));
        }
        Ok(most.min(ready + missing))
    }

    fn past(&self, limit: Option<Duration>) -> bool {
        match (self.started, limit) {
            (Some(started), Some(limit)) => started.elapsed() >= limit,
            _ => false,
        }
    }

    /// The argument for the next enter: what is left of the time.
    #[inline]
    pub(crate) fn arg(&self) -> EnterArg<'static> {
        let Some(started) = self.started else { return EnterArg::None };
        let elapsed = started.elapsed();
        EnterArg::Ext(ExtArg {
            timeout: self.bound.timeout.map(|timeout| timeout.saturating_sub(elapsed).into()),
            min_wait: self.bound.min_wait.map(|min_wait| min_wait.saturating_sub(elapsed)),
            sigmask: None,
        })
    }

    /// What it means that the kernel came back from a wait for `min_complete` slots. `None`: wait
    /// on.
    pub(crate) fn judge(
        &mut self,
        cq: &mut CompletionRing,
        back: Back,
        min_complete: u32,
        early: Early,
        submitted: u32,
    ) -> Result<Option<Woken>, EnterError> {
        let missing = self.missing(cq);
        if missing == 0 {
            return Ok(Some(Woken::Ready));
        }
        // The kernel's clock need not be ours (REGISTER_CLOCK). With a minimum wait it may mean the
        // end of that one.
        let time_up = back == Back::TimeUp;
        if self.past(self.bound.timeout) || (time_up && self.bound.min_wait.is_none()) {
            return Ok(Some(Woken::TimedOut));
        }
        let (ready, want) = (cq.ready(), self.want);
        if early == Early::Maybe && ready > 0 {
            return Err(EnterError::new(submitted, EnterCause::ReadyFirst { ready, want }));
        }
        // The kernel counts slots: on a mixed ring it may have counted enough where we have not.
        // And it comes back early from a device that it polls.
        if time_up || cq.slots_ready() >= min_complete || early == Early::Maybe {
            return Ok(None);
        }
        self.idle = if ready > self.ready { 0 } else { self.idle + 1 };
        self.ready = ready;
        if self.idle < PATIENCE {
            return Ok(None);
        }
        Err(EnterError::new(submitted, EnterCause::Interrupted))
    }
}

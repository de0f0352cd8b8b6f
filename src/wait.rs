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
//! must not miss one takes it from a signalfd, or says which signals it lets in: then the wait ends
//! as interrupted each time. Otherwise only after a hundred such returns with nothing new.
//!
//! Leaves to others: entering the kernel (`enter`).

use std::time::{Duration, Instant};

use annulus_sys::cq::{CompletionRing, CqeShape};
use annulus_sys::flags::{EnterFlags, Features};
use annulus_sys::syscall::{EnterArg, ExtArg};

use crate::error::{EnterCause, EnterError, Woken};
use crate::op::Clock;
use crate::patience::{IoWait, Limit, Patience};

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

/// How the kernel is told of a point in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Points {
    /// As it is.
    Absolute,
    /// By what is left until then.
    Relative,
}

/// One wait: how much is wanted, and until when.
pub(crate) struct Wait<'a> {
    want: u32,
    patience: &'a Patience,
    /// When it began, if it is bounded.
    started: Option<Instant>,
    points: Points,
    /// How often it entered.
    entered: u32,
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

impl<'a> Wait<'a> {
    #[inline]
    pub(crate) fn new(
        features: Features,
        cq: &CompletionRing,
        want: u32,
        patience: &'a Patience,
    ) -> Result<Self, EnterError> {
        if want > cq.entries() {
            let cause = EnterCause::WaitTooLarge { want, entries: cq.entries() };
            return Err(EnterError::new(0, cause));
        }
        check(features, patience)?;
        // ABS_TIMER came with Linux 6.12, as the minimum wait.
        let points = match patience.limit {
            Limit::Until(Clock::Monotonic, _) if features.contains(Features::MIN_TIMEOUT) => {
                Points::Absolute
            }
            _ => Points::Relative,
        };
        let started = patience.is_bounded().then(Instant::now);
        Ok(Self { want, patience, started, points, entered: 0, ready: 0, idle: 0 })
    }

    /// How many completions are still to come.
    #[inline]
    pub(crate) fn missing(&self, cq: &mut CompletionRing) -> u32 {
        // After the minimum wait, one completion is enough.
        let want = if self.past(self.patience.min_wait) { self.want.min(1) } else { self.want };
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

    /// Whether it ends now, whatever has come.
    fn is_over(&self) -> bool {
        match self.patience.limit {
            Limit::Never => false,
            Limit::After(span) => self.past(Some(span)),
            Limit::Until(clock, time) => clock.now() >= time,
        }
    }

    /// The argument for the next enter, and its flags: what is left of the time.
    #[inline]
    pub(crate) fn arg(&mut self) -> (EnterArg<'a>, EnterFlags) {
        let patience = self.patience;
        let flags = match patience.iowait {
            IoWait::Counted => EnterFlags::empty(),
            IoWait::Uncounted => EnterFlags::NO_IOWAIT,
        };
        let signals = patience.signals.as_ref().map(|mask| mask.set());
        let first = self.entered == 0;
        self.entered += 1;
        match (patience.stored, self.started) {
            // What is stored there would begin anew, each time.
            (Some(offset), None) => (EnterArg::Registered(offset), flags),
            (Some(offset), Some(_)) if first => (EnterArg::Registered(offset), flags),
            (_, Some(started)) => self.ext(started.elapsed(), signals, flags),
            (None, None) => (signals.map_or(EnterArg::None, EnterArg::SigMask), flags),
        }
    }

    fn ext(
        &self,
        elapsed: Duration,
        sigmask: Option<&'a libc::sigset_t>,
        flags: EnterFlags,
    ) -> (EnterArg<'a>, EnterFlags) {
        let (timeout, how) = match self.patience.limit {
            Limit::Never => (None, EnterFlags::empty()),
            Limit::After(span) => (Some(span.saturating_sub(elapsed)), EnterFlags::empty()),
            Limit::Until(_, time) if self.points == Points::Absolute => {
                (Some(time), EnterFlags::ABS_TIMER)
            }
            Limit::Until(clock, time) => {
                (Some(time.saturating_sub(clock.now())), EnterFlags::empty())
            }
        };
        let min_wait = self.patience.min_wait.map(|span| span.saturating_sub(elapsed));
        let arg = ExtArg { timeout: timeout.map(Into::into), min_wait, sigmask };
        (EnterArg::Ext(arg), flags | how)
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
        let until = matches!(self.patience.limit, Limit::Until(..));
        if self.is_over() || (time_up && !until && self.patience.min_wait.is_none()) {
            return Ok(Some(Woken::TimedOut));
        }
        if time_up {
            // Our clock has not come so far. The ring may go by another (REGISTER_CLOCK), which is
            // never behind it; and in a time namespace the kernel takes the time for the system's.
            self.points = Points::Relative;
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
        // Who lets signals in wants to hear of them: rather once too often.
        if self.idle < PATIENCE && self.patience.signals.is_none() {
            return Ok(None);
        }
        Err(EnterError::new(submitted, EnterCause::Interrupted))
    }
}

/// That the kernel can wait so.
fn check(features: Features, patience: &Patience) -> Result<(), EnterError> {
    let needs = [
        (patience.is_bounded(), Features::EXT_ARG, "a bounded wait", "5.11"),
        (patience.min_wait.is_some(), Features::MIN_TIMEOUT, "a minimum wait", "6.12"),
        (
            patience.iowait == IoWait::Uncounted,
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

//! One wait: how many completions are wanted, until when, and what it means that the kernel came
//! back.
//!
//! | the kernel comes back with | and | so |
//! |---|---|---|
//! | anything | enough is ready | ready |
//! | anything | the minimum wait is over, and one is ready | ready |
//! | `ETIME`, or a count | the time is up | timed out |
//! | `ETIME` | the minimum wait is over, or our clock is not so far | wait on |
//! | a count | the device is polled, or the ring is mixed and full, and something is ready | take that first |
//! | a count | the device is polled, or slots are not completions | wait on; in the first case, rest before |
//! | a count | only a stored slot bounds the wait | timed out, or a signal: either way it ends |
//! | a count, `EINTR` | none of these | interrupted by a signal |
//!
//! The kernel says `EINTR` only where it has nothing else to tell: behind entries that it consumed,
//! or completions that are ready, it answers with a count. Were that waited out, the signal would
//! be lost, and a wait for what never comes would not end. So a count that is short of what was
//! asked is told as what it is nearly always, when what the kernel still held back has been asked
//! for. A `TIMEOUT` that ends looks like that too, if several completions were awaited: the kernel
//! lets it end every wait.
//!
//! Leaves to others: entering the kernel (`enter`).

use std::time::{Duration, Instant};

use annulus_sys::cq::{CompletionRing, CqeShape};
use annulus_sys::flags::{EnterFlags, Features};
use annulus_sys::syscall::{EnterArg, ExtArg};

use crate::error::{EnterCause, EnterError, Woken};
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

/// One wait: how much is wanted, and until when.
pub(crate) struct Wait<'a> {
    want: u32,
    patience: &'a Patience,
    /// When it began, if it is bounded.
    started: Option<Instant>,
    /// After this, one completion is enough.
    min_wait: Option<Duration>,
    turn: Turn,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    First,
    Later,
}

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
        let started = patience.is_bounded().then(Instant::now);
        Ok(Self { want, patience, started, min_wait: patience.least(), turn: Turn::First })
    }

    /// How many completions are still to come.
    #[inline]
    pub(crate) fn missing(&self, cq: &mut CompletionRing) -> u32 {
        // After the minimum wait, one completion is enough.
        let want = if self.past(self.min_wait) { self.want.min(1) } else { self.want };
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

    /// How long it may go on, if there is a limit: to its end, or to that of the minimum wait.
    pub(crate) fn left(&self) -> Option<Duration> {
        let elapsed = self.started.map_or(Duration::ZERO, |started| started.elapsed());
        let limit = self.patience.limit.left(elapsed);
        let min_wait = self.min_wait.map(|span| span.saturating_sub(elapsed));
        min_wait.filter(|span| !span.is_zero()).into_iter().chain(limit).min()
    }

    /// The signals that are held back meanwhile, if others are than usual.
    pub(crate) fn signals(&self) -> Option<&'a libc::sigset_t> {
        self.patience.signals.as_ref().map(|mask| mask.set())
    }

    /// The argument for the next enter, and its flags: what is left of the time.
    #[inline]
    pub(crate) fn arg(&mut self) -> (EnterArg<'a>, EnterFlags) {
        let patience = self.patience;
        let flags = match patience.iowait {
            IoWait::Counted => EnterFlags::empty(),
            IoWait::Uncounted => EnterFlags::NO_IOWAIT,
        };
        let signals = self.signals();
        let turn = std::mem::replace(&mut self.turn, Turn::Later);
        let arg = match (patience.stored, self.started) {
            // What is stored there would begin anew, each time.
            (Some(slot), None) => EnterArg::Registered(slot.offset()),
            (Some(slot), Some(_)) if turn == Turn::First => EnterArg::Registered(slot.offset()),
            (_, Some(started)) => self.ext(started.elapsed(), signals),
            (None, None) => signals.map_or(EnterArg::None, EnterArg::SigMask),
        };
        (arg, flags)
    }

    fn ext(&self, elapsed: Duration, sigmask: Option<&'a libc::sigset_t>) -> EnterArg<'a> {
        // What is left: the kernel would take a point in time for one of the system's clock, also
        // in a time namespace, where ours is another.
        let timeout = self.patience.limit.left(elapsed);
        let min_wait = self.min_wait.map(|span| span.saturating_sub(elapsed));
        EnterArg::Ext(ExtArg { timeout: timeout.map(Into::into), min_wait, sigmask })
    }

    /// What it means that the kernel came back from a wait for `min_complete` slots. `None`: wait
    /// on.
    pub(crate) fn judge(
        &self,
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
        if self.is_over() || (time_up && !until && self.min_wait.is_none()) {
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
        if self.patience.stored.is_some() && self.started.is_none() {
            // Most likely the slot's clock, which only the kernel knows, and hides behind a count.
            return Ok(Some(Woken::TimedOut));
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

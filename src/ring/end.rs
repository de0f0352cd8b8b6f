//! The end of a ring: cancel, wait, and leak operations that do not end.
//!
//! ```text
//!   drop ─► cancel everything ─► wait for the last completions ─┬─ all came: free everything
//!                  ▲                        │                   └─ time is up: leak the rest
//!                  └──── every 10 ms ───────┘
//! ```
//!
//! Only a last completion proves that the kernel is done with an operation's memory. A cancel that
//! succeeded does not prove it, nor does closing or unmapping the ring. Measured on Linux 6.18: if
//! a buffer is freed because its ring was closed, the kernel writes to it afterwards in nearly
//! every run.
//!
//! Keeps RG1.
#![allow(unsafe_code, reason = "vouches that the kernel is done with everything")]

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use annulus_sys::flags::Features;

use crate::lease::buf_ring::Idle;
use crate::lease::user_data::slot_of;
use crate::raw::register;
use crate::ring::Ring;
use crate::ring::slab::{go_on_panicking, keep_first};
use crate::setup::enter_error::{EnterCause, EnterError, Woken};

/// How long to wait before the remaining operations are cancelled again: long enough for most to
/// end, and short because a chain may have gone on to its next step.
const AGAIN: Duration = Duration::from_millis(10);

/// When to cancel again the operations that did not end.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// The next round is not due before this.
    next: Option<Instant>,
    rounds: u32,
    /// How many operations were left when the last round began.
    left: usize,
    /// How many rounds in a row have ended nothing.
    idle: u32,
    /// The slot that was cancelled last.
    last: Option<u32>,
}

impl Pace {
    /// Begins the next round, with `left` operations, if it is due. Returns whether it began.
    fn begin_if_due(&mut self, left: usize, now: Instant) -> bool {
        if self.next.is_some_and(|next| next > now) {
            return false;
        }
        self.next = Some(now + AGAIN);
        self.rounds = self.rounds.saturating_add(1);
        self.idle = if left == self.left { self.idle.saturating_add(1) } else { 0 };
        self.left = left;
        true
    }

    /// Rotates `all` to start after the slot that was cancelled last: when there is no room for
    /// all, no slot is left out forever. `all` is in the order of its slots.
    fn take_turns(&self, all: &mut [u64]) {
        let after = |last| all.partition_point(|&user_data| slot_of(user_data) <= last);
        let first = self.last.map_or(0, after);
        all.rotate_left(first);
    }

    /// How long to let the completion queue fill: longer each time, because the queue may be long;
    /// the limit lets even the longest one fill.
    fn fill_time(&self) -> Duration {
        AGAIN.saturating_mul(1 << self.idle.min(12))
    }

    /// How long until the next round is due. Until then we wait, even when the cancels complete.
    pub(crate) fn rest(&self, now: Instant) -> Duration {
        self.next.map_or(AGAIN, |next| next.saturating_duration_since(now))
    }
}

/// A ring was shut down while the kernel still had operations, which are leaked.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{in_flight} operations did not complete in time: their memory and files are leaked, since the \
     kernel still uses them"
)]
pub struct ShutdownTimedOut {
    /// How many operations were leaked.
    pub in_flight: u32,
}

/// Contains the text, so that a `?` in `main` prints cause and cure.
impl fmt::Debug for ShutdownTimedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ShutdownTimedOut({self})")
    }
}

/// # Ending
impl<U: Default> Ring<U> {
    /// Sets how long dropping the ring waits for operations to complete once they are cancelled.
    /// The default is one second. Zero does not wait, and leaks.
    pub fn set_drop_timeout(&mut self, drop_timeout: Duration) {
        self.drop_timeout = drop_timeout;
    }

    /// Cancels everything, waits for it to complete, and ends the ring. Outputs that were not
    /// redeemed are dropped.
    ///
    /// # Errors
    ///
    /// [`ShutdownTimedOut`] when operations did not complete within `timeout`.
    ///
    /// # Example
    ///
    /// ```
    /// use annulus::{Setup, op};
    /// use std::time::Duration;
    ///
    /// let mut ring = Setup::new(8).build()?;
    /// let (reader, _writer) = std::io::pipe()?; // Nothing is ever written.
    /// let _read = ring.submit(op::Read::new(reader, vec![0; 64]))?;
    /// ring.shutdown(Duration::from_secs(1))?; // Cancels the read, and drops its buffer.
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn shutdown(mut self, timeout: Duration) -> Result<(), ShutdownTimedOut> {
        self.drop_timeout = timeout;
        let in_flight = self.end_all();
        self.drop_timeout = Duration::ZERO;
        if in_flight == 0 { Ok(()) } else { Err(ShutdownTimedOut { in_flight }) }
    }

    /// Cancels everything and waits for it, up to the drop timeout. Returns how many operations are
    /// left.
    fn end_all(&mut self) -> u32 {
        self.internal.close();
        let until = self.raw.now().checked_add(self.drop_timeout);
        let mut pace = Pace::default();
        while self.slab.in_flight() > 0 || self.internal.is_watched() {
            let left = until
                .map_or(Duration::MAX, |until| until.saturating_duration_since(self.raw.now()));
            let mut all = self.slab.in_flight_user_data();
            all.extend(self.internal.watch_user_data());
            let waited = self.cancel_and_wait(all, &mut pace, left);
            self.undelivered.clear();
            if waited.is_err() || left.is_zero() {
                break;
            }
        }
        self.undelivered.clear();
        self.internal.leave_watched();
        self.slab.in_flight()
    }

    /// One turn towards the end of these operations, for at most `time`: cancels them if that is
    /// due, and waits a little.
    pub(crate) fn cancel_and_wait(
        &mut self,
        all: Vec<u64>,
        pace: &mut Pace,
        time: Duration,
    ) -> Result<(), EnterError> {
        if pace.begin_if_due(all.len(), self.raw.now()) {
            // Only for a multishot that is to end: this ends others too, and takes nothing
            // meanwhile.
            let repeats = all.iter().any(|&user_data| self.slab.is_endless(user_data));
            self.cancel_each(all, pace);
            // Behind a drained entry our cancels may be held back themselves.
            if pace.idle.is_power_of_two() && self.slab.may_wait() {
                self.let_kernel_look()?;
            }
            if pace.idle > 0 && repeats {
                self.overflow_multishots(pace.fill_time().min(time))?;
            }
        }
        self.wait_a_little(pace.rest(self.raw.now()).min(time))
    }

    /// Cancels each of these operations. Those without room are cancelled in the next round.
    ///
    /// Behind a drained entry (`IO_DRAIN`) our cancels wait too. So if the first round did not end
    /// everything, we also cancel by a system call where the kernel can
    /// (`IORING_REGISTER_SYNC_CANCEL`). That finds the operations that the drained entry waits for.
    fn cancel_each(&mut self, mut all: Vec<u64>, pace: &mut Pace) {
        pace.take_turns(&mut all);
        for user_data in all {
            if pace.rounds > 1 {
                register::cancel_now(self.raw.base(), user_data);
            }
            // One cancel of each is enough: behind a drained entry they would pile up.
            if self.slab.is_being_cancelled(user_data) || self.internal.is_ending(user_data) {
                continue;
            }
            if self.cancel_user_data(user_data).is_err() {
                break;
            }
            pace.last = Some(slot_of(user_data));
        }
    }

    /// Takes no completion until the completion queue is full, for at most `time`, then enters once
    /// more. The kernel then ends multishot operations, because it does not put their completions
    /// on the overflow list. This is for timers that expire as fast as they are armed, which no
    /// cancel finds.
    fn overflow_multishots(&mut self, time: Duration) -> Result<(), EnterError> {
        if self.raw.features().contains(Features::EXT_ARG) {
            self.fill(time)?;
            // Time for the completion that finds no room.
            self.raw.sleep(time.min(Duration::from_millis(1)));
            let entered = self.raw.get_events();
            self.ignore_passing(entered)?;
        }
        Ok(())
    }

    /// Waits until the completion queue is full, for at most `time`, and only while completions
    /// come. Each timer that expires ends the kernel's wait, as a signal does.
    fn fill(&mut self, time: Duration) -> Result<(), EnterError> {
        let (full, until) = (self.raw.cq_entries(), self.raw.now().checked_add(time));
        let mut seen = self.raw.ready();
        loop {
            let now = self.raw.now();
            let left = until.map_or(time, |until| until.saturating_duration_since(now));
            match self.raw.submit_and_wait_timeout(full, left.min(AGAIN)) {
                Ok((_, Woken::TimedOut)) if left > AGAIN && self.raw.ready() > seen => {
                    seen = self.raw.ready();
                }
                Err(error) if error.cause == EnterCause::Interrupted && !left.is_zero() => {}
                waited => return self.ignore_passing(waited.map(drop)),
            }
        }
    }

    /// Takes all completions, also those that the kernel holds back until asked.
    pub(crate) fn look(&mut self) -> Result<(), EnterError> {
        let entered = self.raw.get_events();
        let pulled = self.pull(None);
        self.ignore_passing(entered)?;
        self.ignore_passing(pulled)
    }

    /// Waits for a completion, for at most `time`, and takes all there are.
    pub(crate) fn wait_a_little(&mut self, time: Duration) -> Result<(), EnterError> {
        let entered = if self.raw.features().contains(Features::EXT_ARG) {
            self.raw.submit_and_wait_timeout(1, time).map(drop)
        } else {
            // Before Linux 5.11 a wait cannot have a timeout.
            let submitted = self.raw.submit();
            if self.raw.ready() == 0 {
                self.raw.sleep(time.min(Duration::from_millis(1)));
            }
            submitted.map(drop)
        };
        let pulled = self.pull(None);
        self.ignore_passing(entered)?;
        self.ignore_passing(pulled)
    }

    /// Ignores an error after which the wait can still succeed, at the end of a scope or of the
    /// ring.
    fn ignore_passing(&mut self, entered: Result<(), EnterError>) -> Result<(), EnterError> {
        let Err(error) = entered else { return Ok(()) };
        match error.cause {
            // The last completion was among those taken meanwhile; or see `ignore_refusal`.
            EnterCause::NothingComing { .. } => self.raw.expect_others(),
            // A completion is lost. It may have been another operation's, or one of many, and the
            // kernel goes on. If it was the last one of an operation that we wait for, that looks
            // like a slow operation.
            EnterCause::CompletionsLost | EnterCause::OutOfRequests => {
                self.raw.sleep(Duration::from_millis(1));
            }
            _ => return self.ignore_refusal(error),
        }
        Ok(())
    }
}

impl<U: Default> Drop for Ring<U> {
    /// Cancels operations in flight, waits up to [a second](Ring::set_drop_timeout) for them, and
    /// leaks those that did not complete by then. In a forked child it does nothing, and leaks.
    fn drop(&mut self) {
        if !self.process.is_this() {
            self.slab.leak();
            return;
        }
        // Dropping a detached operation may panic. The others are still waited for, as long as
        // there are fewer each time.
        let (mut panic, mut in_flight) = (None, u32::MAX);
        while self.slab.in_flight() < in_flight {
            in_flight = self.slab.in_flight();
            match catch_unwind(AssertUnwindSafe(|| self.end_all())) {
                Ok(_) => break,
                Err(thrown) => keep_first(&mut panic, thrown),
            }
        }
        let idle = if self.slab.in_flight() == 0 { Idle::Yes } else { Idle::No };
        if idle == Idle::No {
            self.slab.leak();
        }
        // SAFETY: idle only if no operation is in flight, by the count of the slots (RG1).
        unsafe { self.registered.retire(idle) };
        // Last, because it runs the caller's code.
        if let Err(thrown) = catch_unwind(AssertUnwindSafe(|| self.slab.clear())) {
            keep_first(&mut panic, thrown);
        }
        go_on_panicking(panic);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With timers of a hundred microseconds each, in the longest ring.
    #[test]
    fn what_no_cancel_finds_has_time_to_fill_any_ring() {
        let longest = Pace { idle: u32::MAX, ..Pace::default() }.fill_time();
        assert!(longest > (1 << 17) * Duration::from_micros(100));
        assert!(longest < Duration::from_secs(60));
    }
}

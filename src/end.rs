//! The end of a ring: ask, wait, and leak what the kernel will not let go of.
//!
//! ```text
//!   drop ─► cancel everything ─► wait for the last completions ─┬─ all came: free everything
//!                  ▲                        │                   └─ time is up: leak it, say so
//!                  └──── now and then ──────┘
//! ```
//!
//! Only a last completion proves that the kernel is done with an operation's memory: not that the
//! cancel succeeded, not that the ring was closed or unmapped. Measured on Linux 6.18, a buffer
//! that is freed because its ring was closed is written to afterwards in nearly every run.
//!
//! Keeps RG1.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

use annulus_sys::flags::Features;

use crate::error::{EnterCause, EnterError, Woken};
use crate::inflight::low;
use crate::lease::buf_ring::Idle;
use crate::register;
use crate::ring::Ring;

/// How long to wait before what is left is cancelled again: a chain may have gone on.
const AGAIN: Duration = Duration::from_millis(10);

/// When to cancel again what did not end.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// Not before.
    next: Option<Instant>,
    rounds: u32,
    /// How many were left when the last round began.
    left: usize,
    /// How many rounds in a row have brought nothing.
    idle: u32,
    /// The slot that was cancelled last.
    last: Option<u32>,
}

impl Pace {
    /// Whether it is time.
    pub(crate) fn is_due(&mut self) -> bool {
        let now = Instant::now();
        let due = self.next.is_none_or(|next| next <= now);
        if due {
            self.next = Some(now + AGAIN);
            self.rounds = self.rounds.saturating_add(1);
        }
        due
    }

    /// Takes note that a round begins with so many left.
    fn begin(&mut self, left: usize) {
        self.idle = if left == self.left { self.idle.saturating_add(1) } else { 0 };
        self.left = left;
    }

    /// Puts first what comes after that which was cancelled last: when there is no room for all, no
    /// slot is left out for ever. The words come in the order of their slots.
    fn take_turns(&self, words: &mut [u64]) {
        let after = |last| words.partition_point(|&word| low(word) <= last);
        let first = self.last.map_or(0, after);
        words.rotate_left(first);
    }

    /// How long to let the ring fill: longer each time, since it may be a long one, and for as long
    /// as the longest takes.
    fn jam(&self) -> Duration {
        AGAIN.saturating_mul(1 << self.idle.min(12))
    }

    /// How long until then. The cancels complete too, and do not hurry us.
    pub(crate) fn rest(&self) -> Duration {
        self.next.map_or(AGAIN, |next| next.saturating_duration_since(Instant::now()))
    }
}

/// A ring was shut down while the kernel kept operations, which are leaked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{in_flight} operations did not complete in time: their memory and files are leaked, since the \
     kernel still uses them"
)]
pub struct Undrained {
    /// How many.
    pub in_flight: u32,
}

impl<U: Default> Ring<U> {
    /// How long dropping the ring waits for operations to complete, once they are cancelled: one
    /// second, unless it is said otherwise here. Zero does not wait, and leaks.
    pub fn set_linger(&mut self, linger: Duration) {
        self.linger = linger;
    }

    /// Cancels everything, waits for it to complete, and ends the ring. Outputs that were not
    /// redeemed are dropped.
    ///
    /// # Errors
    ///
    /// [`Undrained`] when operations did not complete within `patience`.
    pub fn shutdown(mut self, patience: Duration) -> Result<(), Undrained> {
        self.linger = patience;
        let in_flight = self.wind_up();
        self.linger = Duration::ZERO;
        if in_flight == 0 { Ok(()) } else { Err(Undrained { in_flight }) }
    }

    /// Cancels everything and waits for it, as long as the ring lingers. Returns how much is left.
    fn wind_up(&mut self) -> u32 {
        self.own.close();
        let until = Instant::now().checked_add(self.linger);
        let mut pace = Pace::default();
        while self.slab.in_flight() > 0 || self.own.is_watched() {
            let left = until
                .map_or(Duration::MAX, |until| until.saturating_duration_since(Instant::now()));
            let mut words = self.slab.flying_words();
            words.extend(self.own.watch_word());
            let waited = self.hurry(words, &mut pace, left);
            self.backlog.clear();
            if waited.is_err() || left.is_zero() {
                break;
            }
        }
        self.backlog.clear();
        self.own.leave_watched();
        self.slab.in_flight()
    }

    /// One turn towards the end of these operations, of at most `time`: cancels them if it is time
    /// to, and waits a little.
    pub(crate) fn hurry(
        &mut self,
        words: Vec<u64>,
        pace: &mut Pace,
        time: Duration,
    ) -> Result<(), EnterError> {
        if pace.is_due() {
            pace.begin(words.len());
            self.cancel_words(words, pace);
            if pace.idle > 0 && self.slab.has_endless() {
                self.jam(pace.jam().min(time))?;
            }
        }
        self.wait_a_little(pace.rest().min(time))
    }

    /// Asks for the end of all these operations. Where there is no room, the next time round.
    ///
    /// Behind an entry that waits for all before it (`IO_DRAIN`) our cancels wait too: so, when the
    /// first round did not do, we cancel past the ring as well, where the kernel can. That finds
    /// what such an entry waits for.
    fn cancel_words(&mut self, mut words: Vec<u64>, pace: &mut Pace) {
        pace.take_turns(&mut words);
        for word in words {
            if pace.rounds > 1 {
                register::cancel_now(self.raw.base(), word);
            }
            // One cancel of each is enough: behind an entry that waits, they would pile up.
            if self.slab.is_being_cancelled(word) || self.own.is_ending(word) {
                continue;
            }
            if self.cancel_word(word).is_err() {
                break;
            }
            pace.last = Some(low(word));
        }
    }

    /// Takes nothing until the completion ring is full, for at most `time`, and enters once more:
    /// the kernel then ends what completes again and again, since it keeps no such completion
    /// beyond the ring. No cancel finds a timer that runs out as fast as it is armed.
    fn jam(&mut self, time: Duration) -> Result<(), EnterError> {
        if self.raw.features().contains(Features::EXT_ARG) {
            self.fill(time)?;
            // For the one that finds no room.
            std::thread::sleep(time.min(Duration::from_millis(1)));
            let entered = self.raw.get_events();
            self.suffer(entered)?;
        }
        Ok(())
    }

    /// Waits until the completion ring is full, for at most `time`, and while anything comes. Each
    /// timer that runs out ends the kernel's wait, as a signal does.
    fn fill(&mut self, time: Duration) -> Result<(), EnterError> {
        let (full, until) = (self.raw.cq_entries(), Instant::now().checked_add(time));
        let mut seen = self.raw.ready();
        loop {
            let left = until.map_or(time, |until| until.saturating_duration_since(Instant::now()));
            match self.raw.submit_and_wait_timeout(full, left.min(AGAIN)) {
                Ok((_, Woken::TimedOut)) if left > AGAIN && self.raw.ready() > seen => {
                    seen = self.raw.ready();
                }
                Err(error) if error.cause == EnterCause::Interrupted && !left.is_zero() => {}
                waited => return self.suffer(waited.map(drop)),
            }
        }
    }

    /// Waits for a completion, for at most `time`, and takes all that there are.
    pub(crate) fn wait_a_little(&mut self, time: Duration) -> Result<(), EnterError> {
        let entered = if self.raw.features().contains(Features::EXT_ARG) {
            self.raw.submit_and_wait_timeout(1, time).map(drop)
        } else {
            // Before Linux 5.11 a wait cannot be bounded.
            let submitted = self.raw.submit();
            if self.raw.ready() == 0 {
                std::thread::sleep(time.min(Duration::from_millis(1)));
            }
            submitted.map(drop)
        };
        let pulled = self.pull(None);
        self.suffer(entered)?;
        self.suffer(pulled)
    }

    /// Goes on after an error where there is hope, at the end of a scope or of the ring.
    fn suffer(&mut self, entered: Result<(), EnterError>) -> Result<(), EnterError> {
        let Err(error) = entered else { return Ok(()) };
        match error.cause {
            // The last one came with those that were taken meanwhile; or see `bear`.
            EnterCause::NothingComing { .. } => self.raw.expect_others(),
            // A completion is lost. It may have been another's, or one of many, and the kernel goes
            // on: if it was the last of what we wait for, nothing tells that from a slow one.
            EnterCause::CompletionsLost | EnterCause::OutOfRequests => {
                std::thread::sleep(Duration::from_millis(1));
            }
            _ => return self.bear(error),
        }
        Ok(())
    }
}

impl<U: Default> Drop for Ring<U> {
    /// Cancels what is in flight, waits for it up to [a second](Ring::set_linger), and leaks what
    /// did not complete by then. In a forked child it does nothing, and leaks.
    fn drop(&mut self) {
        if !self.process.is_this() {
            self.slab.leak();
            return;
        }
        // What is given up may panic when it is dropped; the others are waited for all the same, as
        // long as there are fewer each time.
        let (mut panic, mut in_flight) = (None, u32::MAX);
        while self.slab.in_flight() < in_flight {
            in_flight = self.slab.in_flight();
            match catch_unwind(AssertUnwindSafe(|| self.wind_up())) {
                Ok(_) => break,
                Err(payload) => panic = panic.or(Some(payload)),
            }
        }
        let idle = if self.slab.in_flight() == 0 { Idle::Yes } else { Idle::No };
        if idle == Idle::No {
            self.slab.leak();
        }
        for pool in self.pools.drain(..) {
            pool.retire(idle);
        }
        self.fixed.retire(idle);
        // Last, since it runs code of the user's.
        let cleared = catch_unwind(AssertUnwindSafe(|| self.slab.clear()));
        if let Some(payload) = panic.or(cleared.err()) {
            resume_unwind(payload);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a hundred microseconds each, in the longest ring.
    #[test]
    fn what_no_cancel_finds_has_time_to_fill_any_ring() {
        let longest = Pace { idle: u32::MAX, ..Pace::default() }.jam();
        assert!(longest > (1 << 17) * Duration::from_micros(100));
        assert!(longest < Duration::from_secs(60));
    }
}
